//! Clients that are slow, silent, many or gone: each costs a bounded time and a bounded place, and others get theirs.

use std::{
    fs,
    io::{BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Signal, getrlimit, setrlimit};

use crate::{
    engine::{Engine, PATIENCE, TOKEN, binary},
    http::{self, Response, exchange, head_of, header},
};

const CALLS: &str = "/v1.0/communications/calls";

/// A certificate for `localhost` and its key, good until 2126 and for nothing but this.
const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBmzCCAUGgAwIBAgIUGOl+pncrbKQ6qu/pHG7ZIytBleUwCgYIKoZIzj0EAwIw\n\
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyNjE2NTY0OVoYDzIxMjYxMTAy\n\
MTY1NjQ5WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO\n\
PQMBBwNCAASMGGrvT2wlXz/aPFDuaX9heT6hAdzQ7usuG/gvx0Tlc0TZvUrBIgWW\n\
ayeuNnDYtN9wdZcCQ/h9fLlIaNoNopPso28wbTAdBgNVHQ4EFgQUYUepB45QsIpG\n\
4hr7B0F64v9Ns/MwHwYDVR0jBBgwFoAUYUepB45QsIpG4hr7B0F64v9Ns/MwDwYD\n\
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI\n\
zj0EAwIDSAAwRQIgaMRwi1WrMFbxnAyPz5sI1GiCqYIiom0f92vGjnOjh/ACIQCr\n\
qmNI+7g8hiffPbMdVYjW3hlgnQ+wZF534+lOoggX8w==\n\
-----END CERTIFICATE-----\n\
";
const KEY: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgE1fACa8BGeqS7Z81\n\
QGBNVujV8TVkEh6rjvda2DfhMfqhRANCAASMGGrvT2wlXz/aPFDuaX9heT6hAdzQ\n\
7usuG/gvx0Tlc0TZvUrBIgWWayeuNnDYtN9wdZcCQ/h9fLlIaNoNopPs\n\
-----END PRIVATE KEY-----\n\
";

/// Connections on which further requests can follow.
struct Kept(BufReader<TcpStream>);

impl Kept {
    fn open(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).expect("the API listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        Self(BufReader::new(stream))
    }

    /// The status of `GET path`; `None` if the connection ends instead.
    fn get(&mut self, path: &str) -> Option<u16> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: engine\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes()).ok()?;
        let (first, headers) = head_of(&mut self.0)?;
        let length = header(&headers, "content-length")?.parse().ok()?;
        self.0.read_exact(&mut vec![0; length]).ok()?;
        first.split(' ').nth(1)?.parse().ok()
    }

    /// Waits until the other side has closed it.
    #[track_caller]
    fn wait_for_end(mut self) {
        let mut rest = vec![];
        match self.0.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "it is not closed in time"),
        }
    }
}

fn calls(to: SocketAddr) -> Response {
    let authorization = format!("Bearer {TOKEN}");
    http::request(to, "GET", CALLS, &[("Authorization", &authorization)], b"")
}

/// What one line of `/metrics` says.
fn metric(metrics: &str, name: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is missing")).parse().expect("a whole number")
}

/// Writes a byte whenever nothing has come back for a twentieth of a second, until the other side has had enough.
#[track_caller]
fn dribble(mut stream: TcpStream) {
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let (until, mut answer) = (Instant::now() + PATIENCE, [0; 512]);
    let head = b"GET /healthz HTTP/1.1\r\nHost: engine\r\nX-Slow: ".iter().chain(std::iter::repeat(&b'a'));
    for byte in head {
        assert!(Instant::now() < until, "it may go on for ever");
        if stream.write_all(&[*byte]).is_err() {
            return;
        }
        match stream.read(&mut answer) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
    }
}

#[test]
fn a_head_that_comes_byte_by_byte_is_cut_off_as_the_first_one_and_as_a_later_one() {
    let engine = Engine::start_with(&["--head-timeout", "1", "--idle-timeout", "1"]);
    dribble(TcpStream::connect(engine.address).unwrap());
    let mut kept = Kept::open(engine.address);
    assert_eq!(kept.get("/healthz"), Some(200));
    dribble(kept.0.into_inner());
    calls(engine.address).expect(200);
}

#[test]
fn who_says_nothing_is_closed_before_the_first_request_and_after_it_and_before_tls() {
    let data = tempfile::tempdir().unwrap();
    let (certificate, key) = (data.path().join("certificate"), data.path().join("key"));
    fs::write(&certificate, CERTIFICATE).unwrap();
    fs::write(&key, KEY).unwrap();
    let short = ["--token", TOKEN, "--head-timeout", "1", "--idle-timeout", "1"];
    let files = [certificate.to_str().unwrap(), key.to_str().unwrap()];
    let tls = [&short[..], &["--tls-cert", files[0], "--tls-key", files[1]]].concat();
    let engines = [Engine::start_with(&short[2..]), Engine::start_in(data, &tls)];
    for engine in &engines {
        Kept::open(engine.address).wait_for_end();
    }
    let mut kept = Kept::open(engines[0].address);
    assert_eq!(kept.get("/healthz"), Some(200));
    kept.wait_for_end();
}

/// HTTP/2 without TLS, as whoever knows that it is spoken may begin it: nothing of its own ends an idle connection.
#[test]
fn an_idle_connection_of_http2_is_closed_too() {
    let engine = Engine::start_with(&["--head-timeout", "1", "--idle-timeout", "1"]);
    let mut kept = Kept::open(engine.address);
    // The preface, empty settings, and GET /healthz as stream 1: HPACK's static table has 2 for GET, 6 for http, the rest
    // is literal and not indexed (RFC 9113 sections 3.4, 4.1, 6.2; RFC 7541 appendix A).
    let fields = [&[0x82, 0x86, 0x04, 8][..], b"/healthz", &[0x01, 6], b"engine"].concat();
    let length = u8::try_from(fields.len()).unwrap();
    let frames = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0, 0, 0, 4, 0, 0, 0, 0, 0][..],
        &[0, 0, length, 1, 5, 0, 0, 0, 1],
        &fields,
    ];
    kept.0.get_mut().write_all(&frames.concat()).unwrap();
    let mut answer = vec![];
    // Closed, after an answer.
    kept.0.read_to_end(&mut answer).unwrap();
    let alive = br#"{"status":"alive"}"#;
    assert!(answer.windows(alive.len()).any(|window| window == alive), "{answer:?}");
}

/// The connections of those who read nothing are counted by the engine until they are closed.
#[test]
fn a_client_that_reads_none_of_its_answers_is_cut_off() {
    let engine = Engine::start_with(&["--idle-timeout", "1"]);
    let mut greedy = TcpStream::connect(engine.address).unwrap();
    greedy.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    // The document has some 200 KB: far more of them than sockets have room for.
    let request = b"GET /openapi.json HTTP/1.1\r\nHost: engine\r\n\r\n".repeat(200);
    let _ = greedy.write_all(&request);
    // The first byte shows that it is served.
    greedy.read_exact(&mut [0]).unwrap();
    let until = Instant::now() + PATIENCE;
    loop {
        let metrics = http::request(engine.address, "GET", "/metrics", &[], b"").expect(200);
        // The connection that asks is one.
        if metric(metrics.text(), "holdmusic_http_connections") <= 1 {
            break;
        }
        assert!(Instant::now() < until, "it is not closed in time");
    }
    drop(greedy);
}

#[test]
fn at_the_limit_the_newest_are_refused_in_words_and_those_who_have_a_place_keep_it() {
    let engine = Engine::start_with(&["--max-connections", "4"]);
    let mut inside: Vec<_> = (0..4).map(|_| Kept::open(engine.address)).collect();
    for kept in &mut inside {
        assert_eq!(kept.get("/healthz"), Some(200));
    }
    let refused = calls(engine.address).expect(503);
    assert!(refused.header("Retry-After").unwrap().parse::<u32>().unwrap() > 0);
    assert_eq!(refused.header("Connection"), Some("close"));
    assert_eq!(refused.json()["error"]["code"], "ServiceUnavailable");
    // Whoever looks after the engine is answered.
    for open in ["/healthz", "/readyz"] {
        http::request(engine.address, "GET", open, &[], b"").expect(200);
    }
    let metrics = http::request(engine.address, "GET", "/metrics", &[], b"").expect(200);
    assert_eq!(metric(metrics.text(), "holdmusic_http_connections_refused_total"), 4);
    for kept in &mut inside {
        assert_eq!(kept.get("/healthz"), Some(200));
    }
    // One leaves, and his place is free once the engine has seen it.
    drop(inside.pop());
    let until = Instant::now() + PATIENCE;
    while calls(engine.address).status != 200 {
        assert!(Instant::now() < until, "the place stays taken");
    }
}

/// Far more than are answered beyond the limit: the others are closed at once, and all of them in time.
#[test]
fn half_open_connections_beyond_the_limit_keep_nobody_out_for_ever() {
    let engine = Engine::start_with(&["--max-connections", "8", "--head-timeout", "1"]);
    let mut kept = Kept::open(engine.address);
    assert_eq!(kept.get("/healthz"), Some(200));
    let silent: Vec<_> = (0..120).map(|_| Kept::open(engine.address)).collect();
    assert_eq!(kept.get("/healthz"), Some(200));
    for connection in silent {
        connection.wait_for_end();
    }
    calls(engine.address).expect(200);
    assert_eq!(kept.get("/healthz"), Some(200));
}

#[test]
fn a_flood_of_headers_is_refused() {
    let engine = Engine::start();
    let many: String = (0..200).map(|number| format!("X-{number}: a\r\n")).collect();
    let long = format!("X-Long: {}\r\n", "a".repeat(100_000));
    for flood in [many, long] {
        let head = format!("GET {CALLS} HTTP/1.1\r\nHost: engine\r\n{flood}\r\n");
        exchange(engine.address, head.as_bytes()).expect(431);
    }
    calls(engine.address).expect(200);
}

/// As many as the limit of open files allows, ten thousand at most.
#[test]
fn many_idle_connections_cost_little_and_the_engine_answers() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("up to the hard limit");
    let many = limit.maximum.map_or(9_900, |most| (most / 2).min(9_900));
    let engine = Engine::start();
    calls(engine.address).expect(200);
    let before = engine.peak_memory();
    let idle: Vec<_> = (0..many)
        .map(|_| {
            let mut kept = Kept::open(engine.address);
            assert_eq!(kept.get("/healthz"), Some(200));
            // Without the reader's buffer.
            kept.0.into_inner()
        })
        .collect();
    calls(engine.address).expect(200);
    let each = (engine.peak_memory() - before) / many;
    assert!(each < 40 << 10, "an idle connection costs {each} bytes");
    drop(idle);
    calls(engine.address).expect(200);
}

#[test]
fn too_few_open_files_are_told_and_fewer_connections_taken() {
    let data = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 256 && exec \"$0\" \"$@\""]).arg(binary());
    let engine = Engine::start_by(command, data, &["--token", TOKEN]);
    let mut inside: Vec<_> = (0..128).map(|_| Kept::open(engine.address)).collect();
    for kept in &mut inside {
        assert_eq!(kept.get("/healthz"), Some(200));
    }
    calls(engine.address).expect(503);
    engine.signal(Signal::TERM);
    let (code, _, stderr) = engine.end(PATIENCE);
    assert_eq!(code, Some(0));
    let told: Vec<_> = stderr.lines().filter(|line| line.contains("--max-connections")).collect();
    assert_eq!(told.len(), 1, "{stderr}");
    assert!(told[0].contains("256") && told[0].contains("at most 128"), "{stderr}");
}
