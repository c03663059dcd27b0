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

use crate::{clock, egress::Egress, fetch, keys::Keyring};

/// How long a receiver may take for everything, a redirect included.
const TOTAL: Duration = Duration::from_secs(10);

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a token is valid: an hour, and the five minutes that clocks are commonly allowed to differ.
const TOKEN_LIFE_S: i64 = 65 * 60;

/// A token is used until so long before its end.
const TOKEN_REST_S: i64 = 10 * 60;

/// Tokens kept for reuse, one for each application in a tenant. Beyond it all are signed anew: a third of a millisecond each.
const MAX_TOKENS: usize = 1_000;

/// Longest `Location` that is followed, in bytes: as long as a callback may be.
const MAX_LOCATION: usize = 8192;

/// Delivers notifications.
pub struct Webhook {
    client: Client,
    guard: Arc<Guard>,
    egress: Egress,
    keys: Arc<Keyring>,
    /// `iss`.
    issuer: String,
    /// By whom they are for.
    tokens: Mutex<BTreeMap<Arc<Identity>, Token>>,
}

/// A token that was signed.
struct Token {
    text: String,
    /// Seconds since 1970.
    until: i64,
    /// `kid` of the key.
    key: String,
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
    pub fn new(
        guard: Arc<Guard>,
        egress: &Egress,
        keys: Arc<Keyring>,
        issuer: String,
    ) -> Result<Self, reqwest::Error> {
        let check = {
            let guard = Arc::clone(&guard);
            move |address: std::net::SocketAddr| {
                guard.callback(address.ip()).map_err(|refused| refused.to_string())
            }
        };
        let client = fetch::client(check, egress).connect_timeout(CONNECT).timeout(TOTAL).build()?;
        Ok(Self { client, guard, egress: egress.clone(), keys, issuer, tokens: Mutex::new(BTreeMap::new()) })
    }

    /// Tries once to deliver.
    pub async fn deliver(&self, notification: &Notification) -> DeliveryOutcome {
        let post = self.post(notification, &notification.uri, true);
        let outcome = tokio::time::timeout(TOTAL, post).await.unwrap_or_else(|_| DeliveryOutcome::Retry {
            reason: format!("{} did not answer within {} s", redact(&notification.uri), TOTAL.as_secs()),
            after: None,
        });
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
            Err(error) => {
                let reason = format!("{}{}", fetch::reason(uri, error), self.egress.way(uri));
                return DeliveryOutcome::Retry { reason, after: None };
            }
        };
        if !leads_elsewhere(response.status()) {
            return outcome(&response, notification.attempt);
        }
        if !may_redirect {
            let reason = format!(
                "{} answered {} although a redirect had led there; one is followed",
                redact(uri),
                response.status()
            );
            return DeliveryOutcome::Refused { reason };
        }
        match next_hop(uri, &response) {
            Ok(next) => Box::pin(self.post(notification, &next, false)).await,
            Err(reason) => DeliveryOutcome::Refused { reason },
        }
    }

    /// The token of the moment for `owner`: signed once and used while it is valid.
    async fn token(&self, owner: &Arc<Identity>) -> Result<String, jsonwebtoken::errors::Error> {
        let now_s = clock::now().wall.0 / 1_000_000;
        let mut tokens = self.tokens.lock().await;
        let keys = self.keys.current();
        let is_good = |token: &&Token| token.until > now_s + TOKEN_REST_S && token.key == keys.id();
        if let Some(token) = tokens.get(owner).filter(is_good) {
            return Ok(token.text.clone());
        }
        let until = now_s + TOKEN_LIFE_S;
        let text = keys.sign(&json!({
            "iss": self.issuer, "aud": owner.app(), "tid": owner.tenant(),
            "iat": now_s, "nbf": now_s, "exp": until,
        }))?;
        if tokens.len() >= MAX_TOKENS {
            tokens.clear();
        }
        tokens.insert(Arc::clone(owner), Token { text: text.clone(), until, key: keys.id().to_owned() });
        Ok(text)
    }
}

/// Whether the receiver says that the notification belongs elsewhere. All of these are followed with method and body as
/// they are: for 307 and 308 that is the rule (RFC 9110 section 15.4), and after 301, 302 and 303, where browsers make a
/// GET of a POST, a GET would tell nobody anything.
fn leads_elsewhere(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    )
}

/// Where a redirect leads. Not from `https` to `http`: notification and token would be in the hands of anybody on the
/// way.
fn next_hop(uri: &Url, response: &Response) -> Result<Url, String> {
    let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
    let next = location
        .filter(|location| location.len() <= MAX_LOCATION)
        .and_then(|location| uri.join(location).ok());
    let Some(next) = next else {
        return Err(format!("{} answered {} without a usable Location", redact(uri), response.status()));
    };
    if uri.scheme() == "https" && next.scheme() == "http" {
        return Err(format!("{} redirects from https to http, to {}", redact(uri), redact(&next)));
    }
    Ok(next)
}

/// A bot that answers 401 may have a copy of the published keys from before they were rotated. Its library fetches them again
/// at most every 30 s (PyJWT, jose), so it is asked again after a little more.
const KEYS_FETCHED_AFTER: Duration = Duration::from_secs(35);

/// Attempts after which a 401 is meant.
const UNAUTHORIZED_ATTEMPTS: u32 = 3;

fn outcome(response: &Response, attempt: u32) -> DeliveryOutcome {
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
    if status == StatusCode::UNAUTHORIZED && attempt < UNAUTHORIZED_ATTEMPTS {
        return DeliveryOutcome::Retry { reason, after: Some(KEYS_FETCHED_AFTER) };
    }
    DeliveryOutcome::Refused { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, location: Option<&str>) -> Response {
        let mut answer = axum::http::Response::builder().status(status);
        if let Some(location) = location {
            answer = answer.header(LOCATION, location);
        }
        Response::from(answer.body("").unwrap())
    }

    #[test]
    fn a_redirect_is_followed_where_it_leads_but_not_out_of_https() {
        let hop = |from: &str, location| {
            let next = next_hop(&Url::parse(from).unwrap(), &answer(307, location));
            next.map(String::from)
        };
        let bot = "https://bot.example/api?sig=s3cret";
        assert_eq!(hop(bot, Some("/v2")), Ok("https://bot.example/v2".into()));
        assert_eq!(hop(bot, Some("https://other.example/api")), Ok("https://other.example/api".into()));
        assert_eq!(hop("http://127.0.0.1/", Some("http://127.0.0.1:1/")), Ok("http://127.0.0.1:1/".into()));
        for location in [Some("http://bot.example/api?x=s3cret"), Some("//"), None, Some(&*"/".repeat(9000))]
        {
            let refused = hop(bot, location).unwrap_err();
            assert!(!refused.contains("s3cret"), "{refused}");
        }
    }

    #[test]
    fn a_bot_that_may_have_old_keys_is_asked_again_and_one_that_refuses_is_not() {
        let outcome = |status, attempt| outcome(&answer(status, None), attempt);
        for attempt in 1..UNAUTHORIZED_ATTEMPTS {
            let again = outcome(401, attempt);
            assert!(
                matches!(again, DeliveryOutcome::Retry { after: Some(KEYS_FETCHED_AFTER), .. }),
                "{again:?}"
            );
        }
        assert!(matches!(outcome(401, UNAUTHORIZED_ATTEMPTS), DeliveryOutcome::Refused { .. }));
        assert!(matches!(outcome(403, 1), DeliveryOutcome::Refused { .. }));
        assert_eq!(outcome(204, 9), DeliveryOutcome::Accepted);
    }

    #[test]
    fn only_what_names_another_place_is_a_redirect() {
        for status in [300, 304, 305] {
            let answer = answer(status, Some("/v2"));
            assert!(!leads_elsewhere(answer.status()));
            assert!(matches!(outcome(&answer, 1), DeliveryOutcome::Refused { .. }));
        }
    }
}
