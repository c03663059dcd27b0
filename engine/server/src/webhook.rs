//! Notifications to the customer: one POST each, signed; what came of it goes back to control, which decides.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use holdmusic_control::{
    DeliveryOutcome, NotificationId,
    access::Identity,
    guard::{Guard, redact},
};
use reqwest::{
    Client, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, RETRY_AFTER},
};
use serde_json::json;
use tokio::sync::Mutex;
use tracing::{debug, warn};
use url::Url;

use crate::{clock, fetch, keys::SigningKey};

/// How long a receiver may take for everything.
const TOTAL: Duration = Duration::from_secs(10);

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a token is valid: an hour, and the five minutes that clocks are commonly allowed to differ.
const TOKEN_LIFE_S: i64 = 65 * 60;

/// A token is used until so long before its end.
const TOKEN_REST_S: i64 = 10 * 60;

/// Tokens kept for reuse, one for each application in a tenant. Beyond it all are signed anew: a third of a millisecond each.
const MAX_TOKENS: usize = 1_000;

/// Delivers notifications.
pub struct Webhook {
    client: Client,
    guard: Arc<Guard>,
    key: Arc<SigningKey>,
    /// `iss`.
    issuer: String,
    /// By whom they are for, and until when they are valid.
    tokens: Mutex<BTreeMap<Arc<Identity>, (String, i64)>>,
}

/// One notification to be delivered.
#[derive(Clone, Debug)]
pub struct Notification {
    /// Its name, the same for every attempt.
    pub id: NotificationId,
    /// Whose it is: `aud` and `tid` of the token.
    pub owner: Arc<Identity>,
    /// Where it goes.
    pub uri: Url,
    /// JSON.
    pub body: Arc<str>,
    /// The call whose notification it is, as a GUID.
    pub call: String,
    /// 1 for the first attempt.
    pub attempt: u32,
}

impl Webhook {
    /// A webhook that goes where `guard` lets it.
    ///
    /// # Errors
    ///
    /// If the TLS library finds no usable root certificates.
    pub fn new(guard: Arc<Guard>, key: Arc<SigningKey>, issuer: String) -> Result<Self, reqwest::Error> {
        let check = {
            let guard = Arc::clone(&guard);
            move |address: std::net::SocketAddr| {
                guard.callback(address.ip()).map_err(|refused| refused.to_string())
            }
        };
        let client = fetch::client(check).connect_timeout(CONNECT).timeout(TOTAL).build()?;
        Ok(Self { client, guard, key, issuer, tokens: Mutex::new(BTreeMap::new()) })
    }

    /// Tries once to deliver.
    pub async fn deliver(&self, notification: &Notification) -> DeliveryOutcome {
        let outcome = self.post(notification, &notification.uri, true).await;
        let (id, uri, attempt) = (notification.id, redact(&notification.uri), notification.attempt);
        match &outcome {
            DeliveryOutcome::Accepted => debug!(%id, uri, attempt, "notification accepted"),
            DeliveryOutcome::Retry { reason, .. } => {
                warn!(%id, uri, attempt, reason, "notification to be retried")
            }
            DeliveryOutcome::Refused { reason } => warn!(%id, uri, attempt, reason, "notification refused"),
        }
        outcome
    }

    async fn post(&self, notification: &Notification, uri: &Url, may_redirect: bool) -> DeliveryOutcome {
        if let Err(refused) = self.guard.callback_url(uri) {
            return DeliveryOutcome::Refused { reason: format!("{}: {refused}", redact(uri)) };
        }
        let token = match self.token(&notification.owner).await {
            Ok(token) => token,
            Err(error) => {
                let reason = format!("no token could be signed: {error}");
                return DeliveryOutcome::Retry { reason, after: None };
            }
        };
        let id = notification.id.to_string();
        let mut request = self
            .client
            .post(uri.clone())
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .header(CONTENT_TYPE, "application/json")
            .header("X-Microsoft-Skype-Message-ID", &id)
            .header("X-Microsoft-Skype-Chain-ID", &notification.call)
            .header("Scenario-Id", &notification.call)
            .header("Client-Request-Id", &id)
            .body(notification.body.to_string());
        if notification.attempt > 1 {
            request = request.header("X-Microsoft-Skype-Original-Message-ID", &id);
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return DeliveryOutcome::Retry { reason: fetch::reason(uri, error), after: None },
        };
        if may_redirect && response.status().is_redirection() {
            let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
            if let Some(next) = location.and_then(|location| uri.join(location).ok()) {
                return Box::pin(self.post(notification, &next, false)).await;
            }
        }
        outcome(&response)
    }

    /// The token of the moment for `owner`: signed once and used while it is valid.
    async fn token(&self, owner: &Arc<Identity>) -> Result<String, jsonwebtoken::errors::Error> {
        let now_s = clock::now().wall.0 / 1_000_000;
        let mut tokens = self.tokens.lock().await;
        if let Some((token, _)) = tokens.get(owner).filter(|(_, until)| *until > now_s + TOKEN_REST_S) {
            return Ok(token.clone());
        }
        let until = now_s + TOKEN_LIFE_S;
        let token = self.key.sign(&json!({
            "iss": self.issuer, "aud": owner.app(), "tid": owner.tenant(),
            "iat": now_s, "nbf": now_s, "exp": until,
        }))?;
        if tokens.len() >= MAX_TOKENS {
            tokens.clear();
        }
        tokens.insert(Arc::clone(owner), (token.clone(), until));
        Ok(token)
    }
}

fn outcome(response: &Response) -> DeliveryOutcome {
    let status = response.status();
    if status.is_success() {
        return DeliveryOutcome::Accepted;
    }
    let reason = format!("the receiver answered {status}");
    let worth_a_retry = status.is_server_error()
        || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
    if worth_a_retry {
        let after = response.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
        return DeliveryOutcome::Retry { reason, after: after.map(Duration::from_secs) };
    }
    DeliveryOutcome::Refused { reason }
}
