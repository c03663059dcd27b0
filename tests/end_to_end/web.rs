//! [`Web`]: a web server of our own that has prompts and takes callbacks, on a socket of the standard library.

use std::{
    collections::HashMap,
    io::{BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, mpsc},
    thread,
};

use serde_json::Value;

use crate::{
    engine::PATIENCE,
    http::{head_of, header},
};

/// A callback that came.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Post {
    pub(crate) fn header(&self, name: &str) -> &str {
        header(&self.headers, name).unwrap_or_else(|| panic!("{name} is missing"))
    }

    /// The one notification in it.
    pub(crate) fn notification(&self) -> Value {
        let body: Value = serde_json::from_slice(&self.body).expect("callbacks are JSON");
        let all = body["value"].as_array().expect("a collection");
        assert_eq!(all.len(), 1, "one notification in one POST");
        all[0].clone()
    }

    /// Whether it tells of the end of `operation`.
    pub(crate) fn ends(&self, operation: &str) -> bool {
        let notification = self.notification();
        let resource = notification["resourceUrl"].as_str().unwrap_or_default();
        notification["changeType"] == "deleted" && resource.ends_with(operation)
    }
}

/// A web server on loopback.
#[derive(Debug)]
pub(crate) struct Web {
    address: SocketAddr,
    posts: mpsc::Receiver<Post>,
    /// How a POST is answered.
    accepting: Arc<Mutex<Vec<u8>>>,
}

impl Web {
    /// GET of each path is answered with these bytes, head included, as they are; anything else with 404. POSTs are
    /// accepted and kept. It lives as long as the test's process.
    pub(crate) fn open(pages: impl IntoIterator<Item = (&'static str, Vec<u8>)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let pages: Arc<HashMap<&str, Vec<u8>>> = Arc::new(pages.into_iter().collect());
        let (keep, posts) = mpsc::channel();
        let accepting = Arc::new(Mutex::new(page("202 Accepted", "text/plain", b"")));
        let answering = Arc::clone(&accepting);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (pages, keep, accepting) = (Arc::clone(&pages), keep.clone(), Arc::clone(&answering));
                thread::spawn(move || answer(stream, &pages, &keep, &accepting));
            }
        });
        Self { address, posts, accepting }
    }

    /// From now on POSTs are answered so; they are kept as before.
    pub(crate) fn answer_posts(&self, answer: Vec<u8>) {
        *self.accepting.lock().expect("nobody panics while holding it") = answer;
    }

    /// The URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The callbacks that come until one is as `last` says, that one included.
    pub(crate) fn posts_until(&self, mut last: impl FnMut(&Post) -> bool) -> Vec<Post> {
        let mut posts = vec![];
        loop {
            let post = self.posts.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("only these: {posts:?}"));
            let done = last(&post);
            posts.push(post);
            if done {
                return posts;
            }
        }
    }
}

fn answer(
    mut stream: TcpStream,
    pages: &HashMap<&str, Vec<u8>>,
    keep: &mpsc::Sender<Post>,
    accepting: &Mutex<Vec<u8>>,
) {
    let Ok(reading) = stream.try_clone() else { return };
    let mut reader = BufReader::new(reading);
    let Some((first, headers)) = head_of(&mut reader) else { return };
    let path = first.split(' ').nth(1).unwrap_or_default();
    let reply = if first.starts_with("POST ") {
        let length = header(&headers, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let answer = accepting.lock().expect("nobody panics while holding it").clone();
        let _ = keep.send(Post { headers, body });
        answer
    } else {
        pages.get(path).cloned().unwrap_or_else(|| page("404 Not Found", "text/plain", b"nothing here"))
    };
    let _ = stream.write_all(&reply);
}

/// An answer with an honest length.
pub(crate) fn page(status: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    page_of(status, &format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len()), body)
}

/// An answer with these headers.
pub(crate) fn page_of(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}
