//! Routes to control's inputs, and its answers to responses. What a body means and what a status is called stands in
//! `control/graph.rs`.

mod route;

use std::{
    sync::{Arc, RwLock},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request as HttpRequest, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
        header::{
            ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HOST, LOCATION, RETRY_AFTER,
            WWW_AUTHENTICATE,
        },
        request::Parts,
    },
    response::Response,
};
use crossbeam_channel::{Sender, TrySendError};
use holdmusic_control::{Answer, Ask, Refusal, access::Standing, graph, prompt::Prompt};
use serde_json::json;
use tokio::sync::oneshot;

use crate::{
    authority::Authority,
    check::Checker,
    clock, dice,
    keys::SigningKey,
    mailbox::{Reply, Request},
    metrics::Metrics,
};
use route::{Place, Target};

/// The longest body of a request, in bytes: an SDP offer of a browser is 10 KiB.
const MAX_BODY: usize = 256 << 10;

/// How long a client may take to send its body.
const BODY_TIME: Duration = Duration::from_secs(10);

const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("client-request-id");

/// What the door knows.
pub struct Door {
    /// To control.
    pub requests: Sender<Request>,
    /// Who knows who asks.
    pub authority: Authority,
    /// Whether `/metrics` needs the token too.
    pub metrics_need_token: bool,
    /// What URLs begin with, without a slash at the end; `None` is what the client called us.
    pub public_url: Option<String>,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Dry runs of prompts.
    pub checker: Checker,
    /// Who signs notifications.
    pub key: Arc<SigningKey>,
    /// `iss` of our tokens.
    pub issuer: String,
    /// Why we are not ready; empty when we are.
    pub not_ready: RwLock<String>,
}

/// Every request of every client.
pub fn router(door: Arc<Door>) -> Router {
    Router::new().fallback(answer).with_state(door)
}

/// A refusal, and for a wrong method the right ones, for a wrong token what is wrong with it.
struct Denial {
    refusal: Refusal,
    allow: Option<&'static str>,
    challenge: Option<HeaderValue>,
}

impl From<Refusal> for Denial {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, allow: None, challenge: None }
    }
}

impl Denial {
    fn method(method: &Method, allow: &'static str) -> Self {
        let refusal = Refusal::method_not_allowed(method.as_str(), allow);
        Self { allow: Some(allow), ..refusal.into() }
    }

    /// Why a token is refused, as RFC 6750 has it told: who sends none is only asked for one.
    fn token(refusal: Refusal, headers: &HeaderMap) -> Self {
        let challenge = headers.contains_key(AUTHORIZATION).then(|| challenge(&refusal.message)).flatten();
        Self { challenge, ..refusal.into() }
    }
}

/// A request's two names.
struct Ids {
    request: String,
    client: String,
}

async fn answer(State(door): State<Arc<Door>>, request: HttpRequest) -> Response {
    let accepted = clock::mono();
    let request_id = dice::guid();
    let client = request.headers().get(&CLIENT_REQUEST_ID).and_then(|id| id.to_str().ok());
    let client = client.filter(|id| !id.is_empty() && id.len() <= 128).unwrap_or(&request_id).to_owned();
    let ids = Ids { request: request_id, client };
    let mut response = match respond(&door, accepted, request, &ids).await {
        Ok(response) => response,
        Err(denial) => refuse(&denial, &ids),
    };
    for (name, id) in [(REQUEST_ID, &ids.request), (CLIENT_REQUEST_ID, &ids.client)] {
        if let Ok(value) = HeaderValue::from_str(id) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

async fn respond(
    door: &Door,
    accepted: holdmusic_media::MediaTime,
    request: HttpRequest,
    ids: &Ids,
) -> Result<Response, Denial> {
    let (parts, body) = request.into_parts();
    let method = if parts.method == Method::HEAD { Method::GET } else { parts.method.clone() };
    let target = Target::read(parts.uri.path());
    if target.place == Place::Metrics && door.metrics_need_token {
        door.authority
            .caller(&parts.headers)
            .await
            .map_err(|refusal| Denial::token(refusal, &parts.headers))?;
    }
    if let Some(open) = open_resource(door, &method, &target, &parts.headers, &parts.uri)? {
        return Ok(open);
    }
    let caller = door.authority.caller(&parts.headers).await;
    let caller = caller.map_err(|refusal| Denial::token(refusal, &parts.headers))?;
    let (ask, prompt, allow) = match read(&target.place, &method, &parts, body).await {
        Ok(Asked::Control(ask)) => (ask, None, None),
        Ok(Asked::Check(prompt)) => (Ask::CheckPrompt, Some(prompt), None),
        Err(Denial { refusal, allow, .. }) => (Ask::Refused(refusal), None, allow),
    };
    let base: Arc<str> = format!("{}/{}", door.base(&parts.headers, &parts.uri), target.version).into();
    let (reply, result) = oneshot::channel();
    let request = Request { ask, accepted, base, caller, reply };
    door.requests.try_send(request).map_err(|error| match error {
        TrySendError::Full(_) => Refusal::unavailable("The engine has more requests than it can take.", 1),
        TrySendError::Disconnected(_) => Refusal::unavailable("The engine is shutting down.", 5),
    })?;
    let reply = result.await.map_err(|_| Refusal::unavailable("The engine is shutting down.", 5))?;
    let Reply { result, standing } = reply;
    let result = match (result, prompt) {
        (Ok(_), Some(prompt)) => door.check_prompt(prompt).await,
        (result, _) => result,
    };
    match result {
        Ok(answer) => Ok(with_standing(tell(answer), &standing)),
        Err(refusal) => Ok(with_standing(refuse(&Denial { allow, ..refusal.into() }, ids), &standing)),
    }
}

/// What a request asks: of control, or a dry run.
enum Asked {
    Control(Ask),
    Check(Prompt),
}

async fn read(place: &Place, method: &Method, parts: &Parts, body: Body) -> Result<Asked, Denial> {
    if let Place::Unknown = place {
        return Err(Refusal::unknown_path(parts.uri.path()).into());
    }
    let body = read_body(&parts.headers, body).await?;
    if *place != Place::PromptCheck {
        return Ok(Asked::Control(place.ask(method, &body, parts.uri.query().unwrap_or_default())?));
    }
    if *method != Method::POST {
        return Err(Denial::method(method, "POST"));
    }
    Ok(Asked::Check(graph::read_prompt_check(&body)?))
}

/// How much is left of what the caller may use stands in every answer.
fn with_standing(mut response: Response, standing: &Standing) -> Response {
    if let Some((policy, state)) = standing.fields() {
        for (name, value) in [(RATELIMIT_POLICY, policy), (RATELIMIT, state)] {
            if let Ok(value) = HeaderValue::try_from(value) {
                response.headers_mut().insert(name, value);
            }
        }
    }
    response
}

/// RFC 6750, 3: a description has printable ASCII without quotes and backslashes.
fn challenge(message: &str) -> Option<HeaderValue> {
    let plain = |c: char| if matches!(c, ' '..='~') && !matches!(c, '"' | '\\') { c } else { '?' };
    let description: String = message.chars().map(plain).collect();
    HeaderValue::try_from(format!("Bearer error=\"invalid_token\", error_description=\"{description}\"")).ok()
}

/// What needs no token.
fn open_resource(
    door: &Door,
    method: &Method,
    target: &Target,
    headers: &HeaderMap,
    uri: &Uri,
) -> Result<Option<Response>, Denial> {
    let response = match target.place {
        Place::Health => json_response(StatusCode::OK, json!({ "status": "alive" }).to_string()),
        Place::Ready => {
            let reason = door.not_ready.read().expect("nobody panics while holding it").clone();
            if reason.is_empty() {
                json_response(StatusCode::OK, json!({ "status": "ready" }).to_string())
            } else {
                let body = json!({ "status": "notReady", "reason": reason }).to_string();
                json_response(StatusCode::SERVICE_UNAVAILABLE, body)
            }
        }
        Place::Metrics => {
            let mut response = Response::new(Body::from(door.metrics.text()));
            let text = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(text));
            response
        }
        Place::Discovery => {
            let body = json!({
                "issuer": door.issuer,
                "jwks_uri": format!("{}/v1/keys", door.base(headers, uri)),
                "id_token_signing_alg_values_supported": ["RS256"],
                "response_types_supported": ["token"],
                "subject_types_supported": ["public"],
            });
            json_response(StatusCode::OK, body.to_string())
        }
        Place::Keys => json_response(StatusCode::OK, door.key.jwks().to_string()),
        _ => return Ok(None),
    };
    if *method == Method::GET { Ok(Some(response)) } else { Err(Denial::method(method, "GET")) }
}

async fn read_body(headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Refusal> {
    let encoding = headers.get(CONTENT_ENCODING).map(|encoding| String::from_utf8_lossy(encoding.as_bytes()));
    if let Some(encoding) = encoding.filter(|encoding| !matches!(encoding.trim(), "" | "identity")) {
        let words = format!("Content-Encoding '{encoding}' is not supported; send the body as it is.");
        return Err(Refusal::unsupported_media(words));
    }
    let reading = tokio::time::timeout(BODY_TIME, to_bytes(body, MAX_BODY));
    let bytes = match reading.await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(_)) => return Err(Refusal::body_too_big(MAX_BODY)),
        Err(_) => {
            let words = format!("The body was not complete after {} s.", BODY_TIME.as_secs());
            return Err(Refusal::timed_out(words));
        }
    };
    let content_type = headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let kind = content_type.as_deref().map(|value| value.split(';').next().unwrap_or_default().trim());
    match kind {
        Some(kind) if kind.eq_ignore_ascii_case("application/json") => Ok(bytes.into()),
        None | Some("") if bytes.is_empty() => Ok(bytes.into()),
        None => Err(Refusal::unsupported_media(
            "There is a body without a Content-Type; expected application/json.",
        )),
        Some(kind) => Err(Refusal::unsupported_media(format!(
            "Content-Type '{kind}' is not supported; expected application/json."
        ))),
    }
}

impl Door {
    /// A dry run: nothing of it reaches control.
    async fn check_prompt(&self, prompt: Prompt) -> Result<Answer, Refusal> {
        if !self.not_ready.read().expect("nobody panics while holding it").is_empty() {
            return Err(Refusal::unavailable("The engine is shutting down.", 5));
        }
        let check = self.checker.check(prompt).await?;
        let body = Some(check.json().to_string());
        Ok(Answer { status: 200, location: None, body })
    }

    /// What absolute URLs begin with: where we were told that we are, or what this client calls us.
    fn base(&self, headers: &HeaderMap, uri: &Uri) -> String {
        if let Some(url) = &self.public_url {
            return url.clone();
        }
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| uri.authority().map(|authority| authority.as_str()));
        // Whatever a client calls us goes back to that client only.
        format!("{}://{}", self.scheme, host.unwrap_or("localhost"))
    }
}

fn tell(answer: Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = match answer.body {
        Some(body) => json_response(status, body),
        None => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = status;
            response
        }
    };
    if let Some(location) = answer.location.and_then(|location| HeaderValue::from_str(&location).ok()) {
        response.headers_mut().insert(LOCATION, location);
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private"));
    response
}

fn refuse(denial: &Denial, ids: &Ids) -> Response {
    let refusal = &denial.refusal;
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = graph::error_body(refusal, clock::now().wall, &ids.request, &ids.client);
    let mut response = json_response(status, body);
    let headers = response.headers_mut();
    if let Some(seconds) = refusal.retry_after_s {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status == StatusCode::UNAUTHORIZED {
        let challenge = denial.challenge.clone().unwrap_or(HeaderValue::from_static("Bearer"));
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    if let Some(allow) = denial.allow {
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
    response
}

fn json_response(status: StatusCode, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
