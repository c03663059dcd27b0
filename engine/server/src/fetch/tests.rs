//! A hostile web on real loopback sockets: each origin does one thing that an honest one does not, and each fetch ends
//! in time, within its memory and with its cause.
#![expect(clippy::disallowed_methods, reason = "origins on real sockets, each with a thread of its own")]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    iter,
    net::{IpAddr, Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    thread,
};

use axum_server::tls_rustls::RustlsConfig;

use super::*;

const MAX: u64 = 10_000;

/// A fetcher in a hurry, which may go to one address of loopback and to the one that nobody can reach.
fn fetcher() -> Fetcher {
    let guard = Guard {
        fetch: ["127.0.0.1/32", "255.255.255.255/32"].map(|network| network.parse().unwrap()).into(),
        ..Guard::default()
    };
    let limits = FetchLimits {
        max_bytes: MAX,
        connect: Duration::from_millis(700),
        silence: Duration::from_millis(500),
        total: Duration::from_millis(1500),
        directory: None,
    };
    Fetcher::new(Arc::new(guard), Egress::default(), limits).unwrap()
}

/// An origin that reads a request and then does as `answer` says, for as long as the test's process lives.
fn origin(answer: impl Fn(&mut TcpStream) -> io::Result<()> + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let answer = answer.clone();
            thread::spawn(move || {
                let mut head = BufReader::new(stream.try_clone().unwrap()).lines();
                while head.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
                // Whoever is refused hangs up in the middle.
                let _ = answer(&mut stream);
            });
        }
    });
    address
}

/// An origin that says this and hangs up.
fn says(words: impl Into<Vec<u8>>) -> SocketAddr {
    let words = words.into();
    origin(move |stream| stream.write_all(&words))
}

/// An origin that says this and then nothing more, for longer than anybody waits.
fn stalls(words: &'static str) -> SocketAddr {
    origin(move |stream| {
        stream.write_all(words.as_bytes())?;
        thread::park();
        Ok(())
    })
}

/// An origin that says the first part at once and the second over and over, this often.
fn drips(first: &'static str, then: &'static str, every: Duration) -> SocketAddr {
    origin(move |stream| {
        stream.set_nodelay(true)?;
        stream.write_all(first.as_bytes())?;
        loop {
            stream.write_all(then.as_bytes())?;
            if !every.is_zero() {
                thread::sleep(every);
            }
        }
    })
}

fn away(location: &str) -> SocketAddr {
    says(format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"))
}

fn ok(headers: &str, body: &str) -> SocketAddr {
    says(format!("HTTP/1.1 200 OK\r\n{headers}\r\n{body}"))
}

fn status(line: &str) -> SocketAddr {
    says(format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n"))
}

/// An origin whose certificate it has signed itself.
async fn self_signed() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let tls = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/fixtures/tls");
    let config = RustlsConfig::from_pem_file(tls.join("self-signed.pem"), tls.join("self-signed-key.pem"));
    let server = axum_server::from_tcp_rustls(listener, config.await.unwrap()).unwrap();
    tokio::spawn(server.serve(axum::Router::new().into_make_service()));
    address
}

/// What an origin does, and what becomes of a prompt from there.
async fn hostile() -> Vec<(&'static str, String, PromptCause)> {
    use PromptCause as C;

    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let often = Duration::from_millis(50);
    let long = "x".repeat(9000);
    let many: String = (0..120).map(|number| format!("X-{number}: 1\r\n")).collect();
    let huge = format!("X: {}\r\n", "y".repeat(1 << 20));
    let chunked = "Transfer-Encoding: chunked\r\n";
    let plain = [
        ("not found", status("404 Not Found"), C::HttpStatus),
        ("broken", status("500 Internal Server Error"), C::ServerError),
        ("login needed", status("401 Unauthorized"), C::HttpStatus),
        ("accepted, later perhaps", status("202 Accepted"), C::HttpStatus),
        ("no content", says("HTTP/1.1 204 No Content\r\n\r\n"), C::HttpStatus),
        ("a part that nobody asked for", status("206 Partial Content"), C::HttpStatus),
        ("not modified since never", says("HTTP/1.1 304 Not Modified\r\n\r\n"), C::HttpStatus),
        ("a choice", status("300 Multiple Choices"), C::HttpStatus),
        ("use another proxy", status("305 Use Proxy"), C::HttpStatus),
        ("another protocol than HTTP", says("SSH-2.0-OpenSSH_9.2\r\n"), C::ResponseInvalid),
        ("HTTP before it had heads", says("<html>hello</html>"), C::ResponseInvalid),
        ("nothing at all", says(""), C::ResponseInvalid),
        ("half a head", says("HTTP/1.1 200 OK\r\nContent-Le"), C::ResponseInvalid),
        ("120 headers", ok(&many, ""), C::ResponseInvalid),
        ("a header of 1 MiB", ok(&huge, ""), C::ResponseInvalid),
        ("two lengths", ok("Content-Length: 4\r\nContent-Length: 5\r\n", "RIFF!"), C::ResponseInvalid),
        ("a length below 0", ok("Content-Length: -4\r\n", "RIFF"), C::ResponseInvalid),
        (
            "a length beyond 64 bits",
            ok("Content-Length: 18446744073709551620\r\n", "RIFF"),
            C::ResponseInvalid,
        ),
        ("a chunk that is none", ok(chunked, "zz\r\nRIFF\r\n"), C::ResponseInvalid),
        ("a chunk beyond 64 bits", ok(chunked, "fffffffffffffffff\r\nRIFF"), C::ResponseInvalid),
        ("a head split by a control character", away("/a\u{1}b"), C::ResponseInvalid),
        ("silence", stalls(""), C::OriginSilent),
        ("silence after the head", stalls("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"), C::OriginSilent),
        ("silence in the body", stalls("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nRI"), C::OriginSilent),
        ("a head by drips", drips("HTTP/1.1 200 OK\r\nX: ", "y", often), C::OriginSilent),
        ("continue without end", drips("", "HTTP/1.1 100 Continue\r\n\r\n", often), C::OriginSilent),
        ("a body by drips", drips("HTTP/1.1 200 OK\r\n\r\n", "R", often), C::FetchTimeout),
        ("10 GiB declared", stalls("HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n"), C::TooLarge),
        ("a body without end", drips("HTTP/1.1 200 OK\r\n\r\n", "RIFFRIFF", Duration::ZERO), C::TooLarge),
        (
            "chunks without end",
            drips("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "4\r\nRIFF\r\n", Duration::ZERO),
            C::TooLarge,
        ),
        ("less than declared", ok("Content-Length: 9\r\n", "RIFF"), C::ShortBody),
        ("chunks that break off", ok(chunked, "4\r\nRIFF\r\n"), C::ShortBody),
        ("gzip", ok("Content-Encoding: gzip\r\nContent-Length: 4\r\n", "\u{1f}abc"), C::ContentEncoded),
        ("nothing and then brotli", ok("Content-Encoding: identity, br\r\n", "RIFF"), C::ContentEncoded),
        ("nothing, brotli", ok("Content-Encoding:\r\nContent-Encoding: br\r\n", "RIFF"), C::ContentEncoded),
        ("a redirect to nowhere", status("302 Found"), C::RedirectInvalid),
        ("a redirect to no URL", away("http://[::1/"), C::RedirectInvalid),
        ("a redirect to other letters", away("/m\u{fc}sik"), C::RedirectInvalid),
        ("a redirect of 9000 bytes", away(&format!("/{long}")), C::RedirectInvalid),
        ("a redirect to itself", away("/again"), C::RedirectLimit),
        ("a redirect to a private address", away("http://10.0.0.1/"), C::AddressRefused),
        ("a redirect to cloud metadata", away("http://169.254.169.254/latest/"), C::AddressRefused),
        ("a redirect to loopback in hex", away("//0x7f.2/"), C::AddressRefused),
        ("a redirect to loopback, mapped", away("http://[::ffff:127.0.0.2]/"), C::AddressRefused),
        ("a redirect behind a user's name", away("http://127.0.0.1:80@127.0.0.2/"), C::AddressRefused),
        ("a redirect to a mail server", away("http://127.0.0.1:25/"), C::PortRefused),
        ("a redirect to a file", away("file:///etc/passwd"), C::SchemeRefused),
        ("a redirect to data", away("data:audio/wav;base64,UklGRg=="), C::SchemeRefused),
        ("a redirect to FTP", away("ftp://127.0.0.1/a.wav"), C::SchemeRefused),
        ("a redirect to gopher", away("gopher://127.0.0.1:70/_x"), C::SchemeRefused),
        ("nobody", nobody, C::ConnectionRefused),
    ];
    let secret = "?sig=secret#secret";
    let at = |(name, address, cause)| (name, format!("http://me:secret@{address}/m.wav{secret}"), cause);
    let mut all: Vec<_> = plain.into_iter().map(at).collect();
    let nameless = "a".repeat(64);
    all.extend([
        ("plain HTTP for TLS", format!("https://{}/{secret}", status("200 OK")), C::TlsFailed),
        ("a certificate of its own", format!("https://{}/{secret}", self_signed().await), C::TlsFailed),
        ("silence in the handshake", format!("https://{}/{secret}", stalls("")), C::ConnectTimeout),
        ("no route", format!("http://255.255.255.255/{secret}"), C::ConnectionFailed),
        ("a name that cannot be", format!("http://{nameless}.invalid/{secret}"), C::DnsFailed),
        ("another loopback", format!("http://127.0.0.2/{secret}"), C::AddressRefused),
        ("the Redis next door", format!("http://127.0.0.1:6000/{secret}"), C::PortRefused),
    ]);
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn every_hostile_origin_ends_in_time_and_with_its_cause() {
    let (fetcher, all) = (fetcher(), hostile().await);
    assert!(all.len() >= 40);
    let fetches: Vec<_> = all
        .into_iter()
        .map(|(name, url, cause)| {
            let fetcher = fetcher.clone();
            let origin = Origin::Web(url.parse().unwrap());
            let fetch = async move { fetcher.whole(&origin).await };
            (name, cause, tokio::spawn(tokio::time::timeout(Duration::from_secs(10), fetch)))
        })
        .collect();
    let mut wrong = vec![];
    for (name, cause, fetch) in fetches {
        let failure = fetch.await.unwrap().expect("it ends in time").expect_err(name);
        if failure.cause != cause || failure.message.contains("secret") {
            wrong.push(format!("{name}: {cause:?} was expected, found {failure:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is unusual and right is not refused along with the rest.
#[tokio::test]
async fn unusual_origins_that_do_nothing_wrong_are_listened_to() {
    let good = ok("Content-Length: 4\r\n", "RIFF");
    let dots = iter::repeat_n("../", 50).collect::<String>();
    for (name, address) in [
        ("a plain one", good),
        ("without a length", ok("", "RIFF")),
        ("one length, said twice", ok("Content-Length: 4\r\nContent-Length: 4\r\n", "RIFF")),
        ("in chunks", ok("Transfer-Encoding: chunked\r\n", "2;x=y\r\nRI\r\n2\r\nFF\r\n0\r\nX: y\r\n\r\n")),
        ("coded as it is", ok("Content-Encoding: identity\r\n", "RIFF")),
        ("of HTTP/1.0", says("HTTP/1.0 200 OK\r\n\r\nRIFF")),
        ("with 90 headers", ok(&"X: y\r\n".repeat(90), "RIFF")),
        ("by redirect", away(&format!("http://{good}/{dots}"))),
        ("by a redirect without a scheme", away(&format!("//{good}/"))),
        ("by a redirect to a name", away(&format!("http://LocalHost:{}/", good.port()))),
        ("by a redirect in another spelling", away(&format!("http://0x7f000001:{}/", good.port()))),
    ] {
        let url = format!("http://{address}/a.wav").parse().unwrap();
        assert_eq!(fetcher().whole(&Origin::Web(url)).await.as_deref(), Ok(&b"RIFF"[..]), "{name}");
    }
}

/// The head of the one request that comes, which must ask for nothing compressed and tell nothing of us.
#[tokio::test]
async fn what_we_ask_for_is_the_bytes_as_they_are() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let heard = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let head = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
        let head: Vec<_> = head.take_while(|line| !line.is_empty()).map(|line| line.to_lowercase()).collect();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nRIFF").unwrap();
        head
    });
    let url = format!("http://{address}/a.wav#part").parse().unwrap();
    fetcher().whole(&Origin::Web(url)).await.unwrap();
    let head = heard.join().unwrap();
    assert_eq!(head[0], "get /a.wav http/1.1");
    assert!(head.contains(&"accept-encoding: identity".to_owned()), "{head:?}");
    assert!(!head.iter().any(|line| line.starts_with("cookie") || line.starts_with("referer")), "{head:?}");
}

#[test]
fn no_redirect_leads_from_https_to_http() {
    let redirect = |to: &str| {
        let response = axum::http::Response::builder().status(301).header("Location", to).body("").unwrap();
        next_hop(&"https://host/a.wav?sig=secret".parse().unwrap(), &response.into())
    };
    assert_eq!(redirect("/b.wav").unwrap().as_str(), "https://host/b.wav");
    assert_eq!(redirect("https://other/").unwrap().as_str(), "https://other/");
    let failure = redirect("http://host/b.wav?sig=secret").unwrap_err();
    assert_eq!(failure.cause, PromptCause::SchemeRefused);
    assert!(!failure.message.contains("secret"), "{}", failure.message);
}

/// Answers as a name server that is in league with a customer gives them.
#[test]
fn of_a_names_addresses_only_the_allowed_ones_are_connected_to() {
    let guard = Guard::default();
    let check = move |address: SocketAddr| guard.fetch(address.ip()).map_err(|refused| refused.to_string());
    let answer = |addresses: &[&str]| -> Vec<SocketAddr> {
        addresses.iter().map(|address| SocketAddr::new(address.parse().unwrap(), 0)).collect()
    };
    let used = |addresses: &[&str]| allowed(answer(addresses), &check);
    let mixed = ["10.0.0.1", "93.184.216.34", "::1", "2606:2800:220:1::1", "fe80::1", "::ffff:10.0.0.1"];
    assert_eq!(used(&mixed).unwrap(), answer(&["93.184.216.34", "2606:2800:220:1::1"]));
    for private in ["127.0.0.1", "169.254.169.254", "::", "64:ff9b::a00:1", "2002:a00:1::", "100.64.0.1"] {
        let words = used(&[private]).unwrap_err().to_string();
        assert!(words.contains("--allow-fetch"), "{private}: {words}");
    }
    assert!(matches!(used(&[]), Err(NameFailed::NotFound(_))));
}

#[tokio::test]
async fn a_name_that_leads_only_to_what_is_refused_is_refused() {
    let check = |address: SocketAddr| match address.ip() {
        IpAddr::V4(_) | IpAddr::V6(_) => Err("none is allowed".to_owned()),
    };
    // Not by the fetcher, which refuses this name before it is resolved.
    let client = client(check, &Egress::default()).build().unwrap();
    let url: Url = "http://localhost:9/".parse().unwrap();
    let failure = failure(&url, client.get(url.clone()).send().await.unwrap_err());
    assert_eq!(failure.cause, PromptCause::AddressRefused, "{}", failure.message);
}

fn read(limits: &FetchLimits, path: &str) -> Result<Vec<u8>, PromptFailure> {
    let mut passage = Passage::to_nowhere();
    read_file(limits, path, &mut passage).map(|()| passage.into_bytes())
}

#[test]
fn files_are_read_from_the_directory_of_prompts_and_from_nowhere_else() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "s").unwrap();
    let inside = outside.path().join("prompts");
    fs::create_dir(&inside).unwrap();
    fs::write(inside.join("on hold.wav"), "RIFF").unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret"), inside.join("link")).unwrap();
    std::os::unix::fs::symlink("round", inside.join("round")).unwrap();
    let limits = FetchLimits { directory: Some(inside), max_bytes: 4, ..FetchLimits::default() };
    assert_eq!(read(&limits, "/on%20hold.wav").unwrap(), b"RIFF");
    let refused = |path: &str| read(&limits, path).unwrap_err();
    for path in [
        "/link",
        "/%2e%2e/secret",
        "/../secret",
        "//etc/passwd",
        "/",
        "/none.wav",
        "/a%00b",
        "/on%20hold.wav/",
        "/.",
        "/..%2f..%2fetc/passwd",
    ] {
        let failure = refused(path);
        assert!(failure.message.starts_with("the prompt "), "{path}: {failure:?}");
        assert_eq!(failure.cause, PromptCause::FileNotFound, "{path}: {failure:?}");
    }
    assert_eq!(refused("/round").cause, PromptCause::FileUnreadable);
    let small = FetchLimits { max_bytes: 3, ..limits.clone() };
    let failure = read(&small, "/on%20hold.wav").unwrap_err();
    assert_eq!(failure.cause, PromptCause::TooLarge);
    assert!(failure.message.contains("longer than 3 bytes"), "{failure:?}");
    assert!(read(&FetchLimits::default(), "/on%20hold.wav").is_err());
}
