//! Everybody in the demo who is not the engine: the web server with the prompt, the bot with its callback, the
//! participant with a UDP port.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header::AUTHORIZATION, header::CONTENT_TYPE},
    routing::{get, post},
};
use holdmusic_codecs::Codec;
use holdmusic_media::{MediaTime, Receiver};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::JwkSet};
use serde_json::Value;
use tokio::sync::{Mutex, mpsc};
use url::Url;

use crate::clock;

/// A notification as it came: the body, the bearer token, and when.
pub(super) type Notification = (Value, String, MediaTime);

/// The web server with the prompt, and the bot's callback.
pub(super) struct Stage {
    address: SocketAddr,
    notifications: Mutex<mpsc::Receiver<Notification>>,
}

#[derive(Clone)]
struct Served {
    prompt: Arc<Vec<u8>>,
    heard: mpsc::Sender<Notification>,
}

impl Stage {
    /// Serves `prompt` on a free port of loopback.
    pub(super) async fn open(prompt: Vec<u8>) -> Result<Self, String> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.map_err(|error| format!("the stage's web server: {error}"))?;
        let address = listener.local_addr().map_err(|error| format!("the stage's web server: {error}"))?;
        let (heard, notifications) = mpsc::channel(256);
        let router = Router::new()
            .route("/prompts/{name}", get(prompt_bytes))
            .route("/callback", post(notified))
            .with_state(Served { prompt: Arc::new(prompt), heard });
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, notifications: Mutex::new(notifications) })
    }

    pub(super) fn prompt_url(&self, name: &str) -> String {
        let mut url =
            Url::parse(&format!("http://{}/prompts/", self.address)).expect("an address makes a URL");
        url.path_segments_mut().expect("http has a path").pop_if_empty().push(name);
        url.into()
    }

    pub(super) fn callback_url(&self) -> String {
        format!("http://{}/callback", self.address)
    }

    /// Waits for the notification that ends the operation `id`.
    pub(super) async fn notification_of(&self, id: &str) -> Result<Notification, String> {
        let mut notifications = self.notifications.lock().await;
        loop {
            let (body, bearer, at) =
                notifications.recv().await.ok_or("the callback's web server has ended")?;
            if body.pointer("/value/0/resourceData/id").and_then(Value::as_str) == Some(id) {
                return Ok((body, bearer, at));
            }
        }
    }
}

async fn prompt_bytes(
    State(served): State<Served>,
) -> ([(axum::http::HeaderName, &'static str); 1], Vec<u8>) {
    ([(CONTENT_TYPE, "application/octet-stream")], served.prompt.to_vec())
}

async fn notified(State(served): State<Served>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let at = clock::mono();
    let Ok(body) = serde_json::from_slice(&body) else { return StatusCode::BAD_REQUEST };
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let notification = (body, bearer.unwrap_or_default().to_owned(), at);
    match served.heard.try_send(notification) {
        Ok(()) => StatusCode::ACCEPTED,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Fetches a prompt that somebody else serves, to know what should be heard.
pub(super) async fn download(url: Url) -> Result<Vec<u8>, String> {
    let response = reqwest::get(url).await.and_then(reqwest::Response::error_for_status);
    let bytes = match response {
        Ok(response) => response.bytes().await,
        Err(error) => Err(error),
    };
    Ok(bytes.map_err(|error| error.without_url().to_string())?.into())
}

/// The bot: a client of the engine's API.
pub(super) struct Bot {
    client: reqwest::Client,
    engine: String,
    token: String,
    /// Where it wants to be notified.
    pub(super) callback: String,
}

impl Bot {
    pub(super) fn new(engine: &str, token: &str, callback: String) -> Self {
        let client =
            reqwest::Client::builder().no_proxy().build().expect("a client without TLS roots is made");
        Self { client, engine: engine.to_owned(), token: token.to_owned(), callback }
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> Result<Value, String> {
        self.ask(reqwest::Method::POST, path, Some(body)).await
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, String> {
        self.ask(reqwest::Method::GET, path, None).await
    }

    pub(super) async fn delete(&self, path: &str) -> Result<Value, String> {
        self.ask(reqwest::Method::DELETE, path, None).await
    }

    async fn ask(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> Result<Value, String> {
        let what = format!("{method} {path}");
        let mut request =
            self.client.request(method, format!("{}/v1.0{path}", self.engine)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let response = request.send().await.map_err(|error| format!("{what}: {error}"))?;
        let status = response.status();
        let text = response.text().await.map_err(|error| format!("{what}: {error}"))?;
        if !status.is_success() {
            return Err(format!("{what}: {status}: {text}"));
        }
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Checks a notification's token as a careful bot would: against the key that the engine publishes.
    pub(super) async fn check(&self, token: &str) -> Result<(), String> {
        let fetch = |url: String| async move {
            let text = self.client.get(&url).send().await.map_err(|error| error.to_string())?.text().await;
            text.map_err(|error| error.to_string())
        };
        let discovery = fetch(format!("{}/v1/.well-known/OpenIdConfiguration", self.engine)).await?;
        let discovery: Value = serde_json::from_str(&discovery).map_err(|error| error.to_string())?;
        let keys = fetch(super::text(&discovery, "/jwks_uri")).await?;
        let keys: JwkSet = serde_json::from_str(&keys).map_err(|error| error.to_string())?;
        let header = jsonwebtoken::decode_header(token).map_err(|error| error.to_string())?;
        let key = keys.find(header.kid.as_deref().unwrap_or_default()).ok_or("the key is not published")?;
        let key = DecodingKey::from_jwk(key).map_err(|error| error.to_string())?;
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&["demo-bot"]);
        validation.set_issuer(&[super::text(&discovery, "/issuer")]);
        jsonwebtoken::decode::<Value>(token, &key, &validation).map(drop).map_err(|error| error.to_string())
    }
}

/// The held participant.
pub(super) struct Participant {
    address: SocketAddr,
    listening: Arc<AtomicBool>,
    ear: JoinHandle<Receiver>,
}

impl Participant {
    /// Listens on a free port of loopback.
    pub(super) fn listen() -> Result<Self, String> {
        let error = |error| format!("the participant's socket: {error}");
        #[expect(clippy::disallowed_methods, reason = "the demo's participant is a door of its own")]
        let socket = UdpSocket::bind(("127.0.0.1", 0)).map_err(error)?;
        socket.set_read_timeout(Some(Duration::from_millis(20))).map_err(error)?;
        let address = socket.local_addr().map_err(error)?;
        let listening = Arc::new(AtomicBool::new(true));
        let on = Arc::clone(&listening);
        let ear = thread::Builder::new().name("hm-participant".to_owned()).spawn(move || {
            let mut receiver = Receiver::new(Codec::Opus);
            let mut datagram = [0; 2048];
            while on.load(Relaxed) {
                if let Ok(len) = socket.recv(&mut datagram) {
                    receiver.handle_datagram(clock::mono(), &datagram[..len]);
                }
            }
            receiver
        });
        Ok(Self { address, listening, ear: ear.map_err(error)? })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was heard.
    pub(super) fn end(self) -> Result<Receiver, String> {
        self.listening.store(false, Relaxed);
        self.ear.join().map_err(|_| "the participant's thread has panicked".to_owned())
    }
}
