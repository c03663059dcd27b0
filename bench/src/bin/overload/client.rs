//! Requests on one kept connection, and whether a refusal is as it should be.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use holdmusic_bench::engine::BEARER;
use serde_json::Value;

/// An answer takes this long at most, also behind a full queue.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    address: String,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    retry_after: Option<String>,
    json: bool,
    body: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        // What is asked of thousands at once is answered briefly.
        Ok(Self { stream: BufReader::with_capacity(1024, stream), address: address.to_owned() })
    }

    /// Asks, and does not wait for the answer.
    pub(crate) fn ask(&mut self, method: &str, path: &str, body: &str) -> io::Result<()> {
        let request = format!(
            "{method} /v1.0{path} HTTP/1.1\r\nHost: {}\r\nAuthorization: {BEARER}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes())
    }

    /// The answer to what was asked.
    pub(crate) fn hear(&mut self) -> io::Result<Answer> {
        let mut line = self.line()?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no answer: {line:?}")))?;
        let mut answer = Answer { status, retry_after: None, json: false, body: Vec::new() };
        loop {
            line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            match (name.to_ascii_lowercase().as_str(), value.trim()) {
                ("content-length", length) => answer.body.resize(length.parse().unwrap_or(0), 0),
                ("content-type", kind) => answer.json = kind == "application/json",
                ("retry-after", seconds) => answer.retry_after = Some(seconds.to_owned()),
                _ => {}
            }
        }
        self.stream.read_exact(&mut answer.body)?;
        Ok(answer)
    }

    pub(crate) fn request(&mut self, method: &str, path: &str, body: &str) -> io::Result<Answer> {
        self.ask(method, path, body)?;
        self.hear()
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Answer {
    /// Whether it is refused because too many requests wait for control.
    pub(crate) fn is_full_queue(&self) -> bool {
        self.status == 503 && String::from_utf8_lossy(&self.body).contains("more requests than it can take")
    }

    /// Whether it is refused because it has waited for control for too long.
    pub(crate) fn is_late(&self) -> bool {
        self.status == 503 && String::from_utf8_lossy(&self.body).contains("waited for too long")
    }

    /// What is wrong with it as a refusal.
    pub(crate) fn fault(&self) -> Option<String> {
        let said = || format!("{}: {}", self.status, String::from_utf8_lossy(&self.body));
        let code = match self.status {
            429 => "TooManyRequests",
            503 => "ServiceUnavailable",
            _ => return Some(format!("neither 429 nor 503: {}", said())),
        };
        if !self.retry_after.as_deref().is_some_and(|wait| wait.parse::<u32>().is_ok_and(|wait| wait > 0)) {
            return Some(format!("Retry-After is {:?}: {}", self.retry_after, said()));
        }
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let error = &body["error"];
        let well_formed = self.json
            && error["code"] == code
            && error["message"].is_string()
            && error["innerError"]["request-id"].is_string();
        (!well_formed).then(|| format!("no error of Graph's: {}", said()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_a_status_a_time_and_a_body() {
        let body = |code: &str| {
            let inner = "{\"request-id\":\"r\"}";
            format!("{{\"error\":{{\"code\":\"{code}\",\"message\":\"m\",\"innerError\":{inner}}}}}")
        };
        let fault = |status, wait: Option<&str>, body: String| {
            let answer =
                Answer { status, retry_after: wait.map(str::to_owned), json: true, body: body.into_bytes() };
            answer.fault().is_some()
        };
        assert!(!fault(503, Some("5"), body("ServiceUnavailable")));
        assert!(!fault(429, Some("1"), body("TooManyRequests")));
        assert!(fault(500, Some("5"), body("9999")));
        assert!(fault(503, None, body("ServiceUnavailable")));
        assert!(fault(503, Some("0.5"), body("ServiceUnavailable")));
        assert!(fault(503, Some("5"), body("TooManyRequests")));
        assert!(fault(503, Some("5"), "busy".to_owned()));
    }
}
