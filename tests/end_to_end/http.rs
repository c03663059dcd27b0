//! HTTP by hand: a request goes out as it is written here, an answer comes back in pieces that can be compared.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a text")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self
    }
}

/// A header by its name, in any letter case.
pub(crate) fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// One request on one connection.
pub(crate) fn request(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Response {
    exchange(to, &written(to, method, path, headers, body))
}

/// As [`request`], of whoever may not be there, or may die over it: then there is no answer.
pub(crate) fn attempt(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<Response> {
    try_exchange(to, &written(to, method, path, headers, body)).ok()
}

fn written(to: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// These bytes on one connection, and what is answered.
pub(crate) fn exchange(to: SocketAddr, bytes: &[u8]) -> Response {
    try_exchange(to, bytes).expect("the API answers")
}

fn try_exchange(to: SocketAddr, bytes: &[u8]) -> io::Result<Response> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // Who is refused in the middle of a flood need not be read to the end.
    let _ = stream.write_all(bytes);
    let mut reader = BufReader::new(stream);
    let (first, headers) = head_of(&mut reader).ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
    assert!(header(&headers, "transfer-encoding").is_none(), "answers have a length");
    let mut body = vec![];
    match header(&headers, "content-length") {
        // It says how long the body of a GET would be.
        Some(_) if bytes.starts_with(b"HEAD ") => {}
        Some(length) => {
            body.resize(length.parse().expect("a length"), 0);
            reader.read_exact(&mut body)?;
        }
        None => assert_eq!(status, 204, "only an answer without content has no length"),
    }
    Ok(Response { status, headers, body })
}

/// First line and headers of a message; `None` if the other side hangs up before their end.
pub(crate) fn head_of(reader: &mut impl BufRead) -> Option<(String, Vec<(String, String)>)> {
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        line.strip_suffix("\r\n").map(str::to_owned)
    };
    let first = line()?;
    let mut headers = vec![];
    loop {
        let line = line()?;
        if line.is_empty() {
            return Some((first, headers));
        }
        let (name, value) = line.split_once(':')?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
}
