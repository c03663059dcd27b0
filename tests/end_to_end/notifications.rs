//! Notifications in the real world: receivers that hang, refuse and lead elsewhere, keys that change, a proxy.

use std::{
    io::{BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use holdmusic_tests::asset;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    ear::Ear,
    engine::{Engine, PATIENCE, TOKEN, command, said},
    hold::{Held, assert_token},
    http::{self, head_of, header},
    web::{Web, page, page_of},
};

const CALLS: &str = "/v1.0/communications/calls";

/// A call whose notifications go there; its path.
fn call_at(engine: &Engine, callback: &str) -> String {
    let call = engine.http("POST", CALLS, &json!({ "callbackUri": callback })).expect(201).json();
    format!("{CALLS}/{}", call["id"].as_str().unwrap())
}

/// Whether a connection is open and nothing more has come.
fn is_held(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    matches!(stream.peek(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// A bot that takes connections and says nothing; what it was told stays with it.
fn mute_bot() -> (SocketAddr, mpsc::Receiver<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (keep, kept) = mpsc::channel();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let Some((_, headers)) = head_of(&mut BufReader::with_capacity(1, &mut stream)) else { continue };
            let length =
                header(&headers, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            if stream.read_exact(&mut vec![0; length]).is_ok() && keep.send(stream).is_err() {
                return;
            }
        }
    });
    (address, kept)
}

#[test]
fn a_receiver_that_hangs_with_hundreds_of_calls_delays_no_other() {
    let (engine, good) = (Engine::start(), Web::open([]));
    let (mute, connections) = mute_bot();
    let began = Instant::now();
    for _ in 0..600 {
        call_at(&engine, &format!("http://{mute}/callback"));
    }
    let held: Vec<_> =
        (0..8).map(|_| connections.recv_timeout(PATIENCE).expect("it is told of its calls")).collect();

    let mut ended = vec![];
    for _ in 0..20 {
        let call = call_at(&engine, &good.url("/callback"));
        engine.http("POST", &format!("{call}/participants"), &json!({})).expect(201);
        engine.http("DELETE", &call, &Value::Null).expect(204);
        ended.push(call.rsplit('/').next().unwrap().to_owned());
    }
    let mut left = ended.len();
    let posts = good.posts_until(|post| {
        left -= usize::from(post.notification()["resourceData"]["state"] == "terminated");
        left == 0
    });
    // All of that while those of the other were still waiting for an answer, which they do for ten seconds.
    if began.elapsed() < Duration::from_secs(9) {
        assert_eq!(held.iter().filter(|connection| is_held(connection)).count(), 8);
        assert!(connections.try_recv().is_err(), "and no more than eight");
    }
    for call in ended {
        let told: Vec<_> = posts.iter().map(|post| post.notification()).collect();
        let of_call = told.iter().filter(|told| told["resource"].as_str().unwrap().contains(&call));
        let etags: Vec<u64> = of_call
            .map(|told| {
                let data = &told["resourceData"];
                let etag = data["@odata.etag"].as_str().or(data[0]["@odata.etag"].as_str()).unwrap();
                etag.trim_start_matches("W/\"").trim_end_matches('"').parse().unwrap()
            })
            .collect();
        assert!(etags.len() >= 3 && etags.is_sorted_by(|a, b| a < b), "{etags:?}");
    }
}

#[test]
fn what_was_refused_is_listed_told_again_and_thrown_away() {
    let (engine, web) = (Engine::start(), Web::open([]));
    web.answer_posts(page("410 Gone", "text/plain", b""));
    let call = call_at(&engine, &web.url("/callback?sig=s3cret"));
    let refused = web.posts_until(|_| true).remove(0);
    let list = "/v1.0/communications/notifications/undelivered";
    let until = Instant::now() + PATIENCE;
    let entry = loop {
        let listed = engine.http("GET", &format!("{list}?$count=true"), &Value::Null).expect(200).json();
        if listed["@odata.count"] == 1 {
            break listed["value"][0].clone();
        }
        assert!(Instant::now() < until, "{listed}");
    };
    let id = entry["id"].as_str().unwrap();
    assert_eq!(id, refused.header("X-Microsoft-Skype-Message-ID"));
    assert!(
        entry["reason"].as_str().unwrap().contains("410") && !entry.to_string().contains("s3cret"),
        "{entry}"
    );
    assert_eq!(entry["body"]["value"][0], refused.notification());
    let one =
        engine.http("GET", &format!("/beta/app/notifications/undelivered/{id}"), &Value::Null).expect(200);
    assert_eq!(one.json()["callId"], call.rsplit('/').next().unwrap());

    // Again, and refused again; then the call is over, and the bot has mended its ways.
    let again = format!("{list}/{}/redeliver", id.to_uppercase().replace('-', ""));
    assert_eq!(engine.http("POST", &again, &json!({})).expect(202).json()["id"], id);
    let second = web.posts_until(|_| true).remove(0);
    assert_eq!(second.header("X-Microsoft-Skype-Message-ID"), id);
    assert_eq!(second.header("X-Microsoft-Skype-Original-Message-ID"), id);
    engine.http("DELETE", &call, &Value::Null).expect(204);
    web.posts_until(|post| post.notification()["resourceData"]["state"] == "terminated");
    let until = Instant::now() + PATIENCE;
    while engine.http("GET", list, &Value::Null).expect(200).json()["value"].as_array().unwrap().len() < 3 {
        assert!(Instant::now() < until, "three are given up");
    }
    web.answer_posts(page("202 Accepted", "text/plain", b""));
    engine.http("DELETE", &format!("{list}/{id}"), &Value::Null).expect(204);
    for (method, path) in [("DELETE", format!("{list}/{id}")), ("POST", again), ("GET", format!("{list}/x"))]
    {
        assert_eq!(engine.http(method, &path, &Value::Null).expect(404).json()["error"]["code"], "8522");
    }
    let all =
        engine.http("POST", "/v1.0/communications/notifications/redeliver", &json!({})).expect(202).json();
    assert_eq!(all, json!({ "redelivered": 2, "remaining": 0, "dropped": 0 }));
    web.posts_until(|post| post.notification()["resourceData"]["state"] == "terminated");
    let wrong = engine.http("PUT", &format!("{list}/{id}"), &json!({})).expect(405);
    assert_eq!(wrong.header("Allow"), Some("GET, HEAD, DELETE, OPTIONS"));
    http::request(engine.address, "GET", list, &[], b"").expect(401);
}

#[test]
fn a_redirect_is_followed_once_with_method_and_body() {
    let (engine, old, new) = (Engine::start(), Web::open([]), Web::open([]));
    let to_new = format!("Location: {}\r\nContent-Length: 0\r\n", new.url("/v2"));
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        old.answer_posts(page_of(status, &to_new, b""));
        call_at(&engine, &old.url("/callback"));
        let asked = old.posts_until(|_| true).remove(0);
        let told = new.posts_until(|_| true).remove(0);
        assert_eq!(asked.notification(), told.notification(), "{status}");
        let name = "X-Microsoft-Skype-Message-ID";
        assert_eq!(asked.header(name), told.header(name));
        assert_token(&engine, &told);
    }
    // Back and forth is not gone with.
    new.answer_posts(page_of("307 Temporary", &to_new, b""));
    call_at(&engine, &old.url("/callback"));
    let reason = given_up(&engine);
    assert!(reason.contains("one is followed"), "{reason}");
    assert_eq!(new.posts_until(|_| true).len(), 1);
}

/// The receiver is whoever it wants to be, and may want to have the engine knock at the doors around it.
#[test]
fn no_redirect_leads_to_an_address_that_is_not_allowed() {
    for (to, why) in [
        ("https://10.0.0.1/", "10.0.0.1 (private)"),
        ("https://169.254.169.254/latest/", "169.254.169.254 (link-local)"),
        ("http://93.184.216.34/", "http is allowed only to loopback"),
        ("file:///etc/passwd", "scheme 'file'"),
    ] {
        let (engine, bot) = (Engine::start(), Web::open([]));
        bot.answer_posts(page_of("307 Temporary", &format!("Location: {to}\r\nContent-Length: 0\r\n"), b""));
        call_at(&engine, &bot.url("/callback"));
        let reason = given_up(&engine);
        assert!(reason.contains(why), "{reason}");
    }
}

/// Why the first notification that is given up was.
fn given_up(engine: &Engine) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        let list = "/v1.0/communications/notifications/undelivered";
        let listed = engine.http("GET", list, &Value::Null).expect(200).json();
        if let Some(entry) = listed["value"].as_array().unwrap().first() {
            return entry["reason"].as_str().unwrap().to_owned();
        }
        assert!(Instant::now() < until);
    }
}

/// The names of the published keys, the one that signs first.
fn published(engine: &Engine) -> Vec<String> {
    let keys = http::request(engine.address, "GET", "/v1/keys", &[], b"").expect(200).json();
    keys["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

fn keys(engine: &Engine, arguments: &[&str]) -> String {
    let mut command = command(["keys"]);
    command.args(arguments).arg("--data").arg(engine.data());
    let (code, stdout, stderr) = said(command, Duration::from_secs(60));
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    stdout
}

/// And whoever is connected stays so: a client between two requests, and a callback that is being answered.
#[test]
fn a_new_key_signs_after_sighup_and_tokens_of_the_old_one_still_verify() {
    let (engine, web) = (Engine::start(), Web::open([]));
    let first = web_post(&engine, &web);
    let old = published(&engine);
    assert_eq!(old.len(), 1);

    let mut client = TcpStream::connect(engine.address).unwrap();
    let mut ask = || {
        client.write_all(b"GET /healthz HTTP/1.1\r\nHost: engine\r\n\r\n").unwrap();
        let mut reader = BufReader::with_capacity(1, &mut client);
        let (line, headers) = head_of(&mut reader).expect("it answers");
        let length = header(&headers, "content-length").unwrap().parse().unwrap();
        reader.read_exact(&mut vec![0; length]).unwrap();
        line
    };
    assert_eq!(ask(), "HTTP/1.1 200 OK");
    let (slow, connections) = mute_bot();
    let call = call_at(&engine, &format!("http://{slow}/callback"));
    let mut callback = connections.recv_timeout(PATIENCE).expect("it is told");

    let told = keys(&engine, &["rotate"]);
    assert!(told.contains(&old[0]) && told.contains("SIGHUP"), "{told}");
    assert_eq!(published(&engine), old, "until it is told");
    engine.signal(Signal::HUP);
    let until = Instant::now() + PATIENCE;
    while published(&engine) == old {
        assert!(Instant::now() < until, "the new key is taken");
    }
    let new = published(&engine);
    assert_eq!((new.len(), &new[1]), (2, &old[0]));
    let shown = keys(&engine, &["show"]);
    assert!(shown.starts_with(&new[0]) && shown.contains(&old[0]), "{shown}");
    let file = std::fs::metadata(engine.data().join("notification-key.pem")).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o600);

    assert_eq!(ask(), "HTTP/1.1 200 OK", "on the connection of before");
    callback.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    engine.http("DELETE", &call, &Value::Null).expect(204);
    let mut next = connections.recv_timeout(PATIENCE).expect("the next one, since that one was accepted");
    next.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    connections.recv_timeout(PATIENCE).expect("and the last");

    let second = web_post(&engine, &web);
    for (post, key) in [(&first, &old[0]), (&second, &new[0])] {
        let token = post.header("Authorization").strip_prefix("Bearer ").unwrap();
        assert_eq!(jsonwebtoken::decode_header(token).unwrap().kid.as_ref(), Some(key));
        assert_token(&engine, post);
    }
}

fn web_post(engine: &Engine, web: &Web) -> crate::web::Post {
    call_at(engine, &web.url("/callback"));
    web.posts_until(|_| true).remove(0)
}

/// A forward proxy for plain requests, which answers as the origin would: GET with a prompt, POST with 202; CONNECT is
/// refused. What it was asked, with the credentials it was given.
fn proxy(prompt: Vec<u8>) -> (SocketAddr, mpsc::Receiver<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (keep, kept) = mpsc::channel();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let Some((first, headers)) = head_of(&mut BufReader::with_capacity(1, &mut stream)) else {
                continue;
            };
            let length =
                header(&headers, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            if stream.read_exact(&mut vec![0; length]).is_err() {
                continue;
            }
            let credentials = header(&headers, "proxy-authorization").unwrap_or_default().to_owned();
            let answer = match first.split(' ').next() {
                Some("GET") => page("200 OK", "audio/wav", &prompt),
                Some("POST") => page("202 Accepted", "text/plain", b""),
                _ => page("403 Forbidden", "text/plain", b""),
            };
            let _ = stream.write_all(&answer);
            if keep.send((first, credentials)).is_err() {
                return;
            }
        }
    });
    (address, kept)
}

/// No name is resolved here, the environment's proxy is not used, and the credentials are told to nobody else.
#[test]
fn prompts_and_callbacks_go_by_the_proxy_and_what_is_listed_goes_directly() {
    let (proxy, asked) = proxy(asset("fixtures/music-16k.wav"));
    let data = tempfile::tempdir().unwrap();
    let egress = format!("http://me:s3cret@{proxy}");
    let flags = ["--token", TOKEN, "--egress-proxy", &egress, "--egress-direct", "127.0.0.0/8"];
    let nowhere = [("HTTP_PROXY", "http://127.0.0.1:1"), ("http_proxy", "http://127.0.0.1:1")];
    let engine = Engine::start_among(data, &flags, &nowhere);
    let (web, ear) = (Web::open([]), Ear::open());
    let held = Held::new(&engine, &web, &ear);
    let operation = held.start("http://music.example/on-hold.wav");
    ear.hear(10);
    // "me:s3cret"
    let credentials = "Basic bWU6czNjcmV0";
    let next = || asked.recv_timeout(PATIENCE).expect("it is asked");
    assert_eq!(next(), ("GET http://music.example/on-hold.wav HTTP/1.1".into(), credentials.into()));
    let posts = web.posts_until(|post| post.ends(&operation));
    let end = posts.last().unwrap().notification();
    assert_eq!(end["resourceData"]["resultInfo"]["subcode"], 0, "{end}");

    call_at(&engine, "http://localhost:9/callback");
    assert_eq!(next(), ("POST http://localhost:9/callback HTTP/1.1".into(), credentials.into()));
    call_at(&engine, "https://bot.example/callback");
    assert_eq!(next(), ("CONNECT bot.example:443 HTTP/1.1".into(), credentials.into()));

    // Addresses are looked at as ever.
    let refused =
        engine.http("POST", CALLS, &json!({ "callbackUri": "https://10.0.0.1/callback" })).expect(400);
    assert!(refused.text().contains("--allow-callback"), "{}", refused.text());
    engine.signal(Signal::TERM);
    let (_, _, stderr) = engine.end(Duration::from_secs(6));
    assert!(stderr.contains("by the egress proxy") && !stderr.contains("s3cret"), "{stderr}");
}
