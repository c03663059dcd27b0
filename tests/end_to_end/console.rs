//! The console: its page, and the stream that it lives on, as a browser would have it.

use std::{
    fs,
    io::{BufReader, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    engine::{Engine, PATIENCE, TOKEN},
    http::{self, Response, head_of, header},
};

const EVENTS: &str = "/console/events";

/// One who watches.
struct Watcher {
    stream: BufReader<TcpStream>,
    text: String,
}

impl Watcher {
    /// Asks for the events; the status if there are none.
    fn open(engine: &Engine, token: &str) -> Result<Self, u16> {
        let mut stream = TcpStream::connect(engine.address).expect("the API listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        let head = format!("GET {EVENTS} HTTP/1.1\r\nHost: engine\r\nAuthorization: Bearer {token}\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("it takes requests");
        let mut stream = BufReader::new(stream);
        let (first, headers) = head_of(&mut stream).expect("an answer");
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        if status != 200 {
            return Err(status);
        }
        assert_eq!(header(&headers, "content-type"), Some("text/event-stream"));
        assert_eq!(header(&headers, "cache-control"), Some("no-store"));
        assert_eq!(header(&headers, "transfer-encoding"), Some("chunked"));
        Ok(Self { stream, text: String::new() })
    }

    /// The next event and its data; `None` when the stream has ended in good order.
    fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (kind, data) = event.split_once('\n').expect("two lines");
                let data = data.strip_prefix("data: ").expect("data");
                let found =
                    (kind.strip_prefix("event: ").expect("its kind").to_owned(), data.parse().unwrap());
                self.text = rest.to_owned();
                return Some(found);
            }
            let chunk = self.chunk()?;
            self.text += &chunk;
        }
    }

    /// A chunk (RFC 9112 section 7.1); `None` is the last one.
    fn chunk(&mut self) -> Option<String> {
        let mut size = String::new();
        while !size.ends_with("\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).expect("the stream ends by its last chunk");
            size.push(byte[0].into());
        }
        let mut chunk = vec![0; usize::from_str_radix(size.trim_end(), 16).expect("a size") + 2];
        self.stream.read_exact(&mut chunk).expect("all of a chunk");
        chunk.truncate(chunk.len() - 2);
        let text = String::from_utf8(chunk).expect("a text");
        (!text.is_empty()).then_some(text)
    }

    /// Waits for a state in which `find` finds something.
    fn until<T>(&mut self, find: impl Fn(&Value) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        loop {
            let (kind, data) = self.next().expect("the stream goes on");
            assert_eq!(kind, "state");
            if let Some(found) = find(&data) {
                return found;
            }
            assert!(Instant::now() < until, "it does not come");
        }
    }
}

#[test]
fn the_page_needs_no_token_and_may_do_nothing_that_its_policy_does_not_say() {
    let engine = Engine::start();
    let page: Response = http::request(engine.address, "GET", "/", &[], b"").expect(200);
    assert_eq!(page.header("Content-Type"), Some("text/html; charset=utf-8"));
    assert!(page.text().contains("<title>holdmusic</title>"));
    let policy = page.header("Content-Security-Policy").unwrap();
    let words: Vec<_> = policy.split("; ").collect();
    for word in ["default-src 'none'", "connect-src 'self'", "base-uri 'none'", "frame-ancestors 'none'"] {
        assert!(words.contains(&word), "{word} is missing in {policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    for (name, value) in [
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),
        ("Referrer-Policy", "no-referrer"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
    ] {
        assert_eq!(page.header(name), Some(value));
    }
    http::request(engine.address, "HEAD", "/", &[], b"").expect(200);
    http::request(engine.address, "POST", "/", &[], b"").expect(405);
}

#[test]
fn who_watches_is_told_everything_and_then_what_changes() {
    let engine = Engine::start();
    assert_eq!(Watcher::open(&engine, "wrong").err(), Some(401));
    let mut watcher = Watcher::open(&engine, TOKEN).unwrap();
    let (kind, first) = watcher.next().unwrap();
    assert_eq!((kind.as_str(), &first["set"]["totals"]["calls"]), ("state", &json!(0)));
    assert!(first["engine"]["first"]["version"].is_string());

    let callback = json!({ "callbackUri": "http://127.0.0.1:9/?secret" });
    let call = engine.http("POST", "/v1.0/communications/calls", &callback).expect(201).json();
    let name = format!("call/{}", call["id"].as_str().unwrap());
    let row = watcher.until(|state| state["set"].get(&name).cloned());
    assert_eq!(row["callbackUri"], "http://127.0.0.1:9/?…");
    let path = format!("/v1.0/communications/calls/{}", call["id"].as_str().unwrap());
    engine.http("DELETE", &path, &Value::Null).expect(204);
    watcher.until(|state| state["gone"].as_array()?.contains(&json!(name)).then_some(()));
    let beats =
        watcher.until(|state| state["engine"]["beats"].as_array().filter(|beats| !beats.is_empty()).cloned());
    assert!(beats[0]["n"].as_u64().unwrap() > 0, "{beats:?}");
}

#[test]
fn a_stream_outlives_the_idle_timeout_and_ends_at_once_with_the_engine() {
    let engine = Engine::start_with(&["--head-timeout", "1", "--idle-timeout", "1"]);
    let mut watcher = Watcher::open(&engine, TOKEN).unwrap();
    for _ in 0..4 {
        assert_eq!(watcher.next().unwrap().0, "state");
    }
    engine.signal(Signal::TERM);
    let told = Instant::now();
    while watcher.next().is_some() {}
    let took = told.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(engine.end(Duration::from_secs(5)).0, Some(0));
}

#[test]
fn only_so_many_may_watch_and_who_leaves_gives_the_place_back() {
    let engine = Engine::start();
    let mut inside: Vec<_> = (0..8).map(|_| Watcher::open(&engine, TOKEN).unwrap()).collect();
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("Authorization", authorization.as_str())];
    let refused = http::request(engine.address, "GET", EVENTS, &headers, b"").expect(503);
    assert!(refused.header("Retry-After").is_some());
    assert!(refused.text().contains("8 consoles of this application"), "{}", refused.text());
    inside.pop();
    let until = Instant::now() + PATIENCE;
    while Watcher::open(&engine, TOKEN).is_err() {
        assert!(Instant::now() < until, "the place is not given back");
    }
}

#[test]
fn a_stream_ends_when_its_token_is_good_no_more_and_says_so() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("holdmusic.toml");
    fs::write(&file, "token = \"old\"\n").unwrap();
    let engine = Engine::start_in(tempfile::tempdir().unwrap(), &["--config", file.to_str().unwrap()]);
    let mut watcher = Watcher::open(&engine, "old").unwrap();
    assert_eq!(watcher.next().unwrap().0, "state");
    fs::write(&file, "token = \"new\"\n").unwrap();
    engine.signal(Signal::HUP);
    let until = Instant::now() + PATIENCE;
    loop {
        let (kind, data) = watcher.next().expect("it says why");
        if kind == "over" {
            assert_eq!(data["status"], 401);
            break;
        }
        assert!(Instant::now() < until, "it goes on");
    }
    assert!(watcher.next().is_none());
    assert!(Watcher::open(&engine, "new").is_ok());
}
