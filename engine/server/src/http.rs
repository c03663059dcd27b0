//! Routes to control's inputs, and its answers to responses. What a body means and what a status is called stands in
//! `control/graph.rs`.

pub mod connections;
mod body;
mod openapi;
mod route;
mod whep;

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request as HttpRequest, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version,
        header::{
            ACCEPT, ACCEPT_ENCODING, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HOST,
            LOCATION, RETRY_AFTER, STRICT_TRANSPORT_SECURITY, WWW_AUTHENTICATE,
        },
        request::Parts,
        uri,
    },
    response::Response,
};
use crossbeam_channel::{Sender, TrySendError};
use holdmusic_control::{
    Answer, Ask, Refusal,
    access::{Caller, Standing},
    graph,
    prompt::Prompt,
};
use serde_json::json;
use tokio::sync::oneshot;

use crate::{
    authority::Authority,
    check::Checker,
    clock,
    console::{self, Console, Look},
    dice,
    keys::Keyring,
    mailbox::{Reply, Request},
    metrics::Metrics,
    not_ready::{Cause, NotReady},
    supervisor,
};
use connections::UnderWay;
use route::{Place, Target};
use whep::What;

/// Longest name that a client may give a request or a scenario, in characters of visible ASCII: three GUIDs.
const MAX_NAME: usize = 128;

/// Longest `Host`, in bytes: the longest name that DNS has, and a port.
const MAX_HOST: usize = 261;

const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("client-request-id");
const SCENARIO_ID: HeaderName = HeaderName::from_static("scenario-id");
const ODATA_VERSION: HeaderName = HeaderName::from_static("odata-version");

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
    pub keys: Arc<Keyring>,
    /// `iss` of our tokens.
    pub issuer: String,
    /// Pages of these origins may use WHEP.
    pub cors_origins: Vec<String>,
    /// Why we are not ready; empty when we are.
    pub not_ready: Arc<NotReady>,
    /// Those who watch.
    pub console: Arc<Console>,
}

/// Every request of every client.
pub fn router(door: Arc<Door>) -> Router {
    Router::new().fallback(answer).with_state(door)
}

/// A refusal, and what would have been right.
struct Denial {
    refusal: Refusal,
    /// The methods of this place, for a wrong one.
    allow: Option<&'static str>,
    /// For a wrong token: what is wrong with it.
    challenge: Option<HeaderValue>,
    /// For a body that is not read: which would be.
    accept: Option<Readable>,
}

/// What a body must be to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readable {
    Json,
    Sdp,
    Gzip,
}

impl Readable {
    fn name(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Sdp => whep::SDP,
            Self::Gzip => "gzip",
        }
    }

    /// The header that says it.
    fn header(self) -> HeaderName {
        match self {
            Self::Json => ACCEPT,
            Self::Sdp => whep::ACCEPT_POST,
            Self::Gzip => ACCEPT_ENCODING,
        }
    }
}

impl From<Refusal> for Denial {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, allow: None, challenge: None, accept: None }
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
    let (parts, mut body) = request.into_parts();
    let request_id = dice::guid();
    let client = named(&parts.headers, &CLIENT_REQUEST_ID).unwrap_or(&request_id).to_owned();
    let ids = Ids { request: request_id, client };
    let mut response = match respond(&door, accepted, &parts, &mut body, &ids).await {
        Ok(response) => response,
        Err(denial) => refuse(&denial, &ids),
    };
    body::pass_over(&parts.headers, &mut body).await;
    let headers = response.headers_mut();
    if !door.cors_origins.is_empty() {
        whep::share(&door.cors_origins, &Target::read(parts.uri.path()).place, &parts.headers, headers);
    }
    if is_crowded(&parts) && parts.version < Version::HTTP_2 {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let scenario = named(&parts.headers, &SCENARIO_ID);
    let named =
        [(REQUEST_ID, Some(&*ids.request)), (CLIENT_REQUEST_ID, Some(&ids.client)), (SCENARIO_ID, scenario)];
    for (name, id) in named {
        if let Some(value) = id.and_then(|id| HeaderValue::from_str(id).ok()) {
            headers.insert(name, value);
        }
    }
    if door.scheme == "https" {
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    response
}

/// Whether the request came by a connection for which there is no room.
fn is_crowded(parts: &Parts) -> bool {
    parts.extensions.get::<UnderWay>().is_some_and(UnderWay::is_crowded)
}

/// What a client calls its request or its scenario, if that may be repeated.
fn named<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let id = headers.get(name)?.to_str().ok()?;
    let visible = id.bytes().all(|byte| byte.is_ascii_graphic());
    (visible && (1..=MAX_NAME).contains(&id.len())).then_some(id)
}

async fn respond(
    door: &Arc<Door>,
    accepted: holdmusic_media::MediaTime,
    parts: &Parts,
    body: &mut Body,
    ids: &Ids,
) -> Result<Response, Denial> {
    let host = host(parts)?;
    let Target { version, place } = Target::read(parts.uri.path());
    // Whoever looks after the engine is answered even then.
    if is_crowded(parts) && !matches!(place, Place::Health | Place::Ready | Place::Metrics) {
        return Err(Refusal::unavailable("The engine has more connections than it can take.", 1).into());
    }
    if let (Place::Whep(place), &Method::OPTIONS) = (&place, &parts.method) {
        return Ok(whep::options(place));
    }
    let must_be_known = !place.is_open() || (place == Place::Metrics && door.metrics_need_token);
    let (caller, granted) = if must_be_known {
        let purpose = match &place {
            Place::Whep(place) => place.purpose(&parts.method),
            _ => None,
        };
        let caller = match purpose {
            Some(purpose) => door.authority.caller_for(&parts.headers, &purpose).await,
            None => door.authority.caller(&parts.headers).await.map(|caller| (caller, None)),
        };
        let (caller, granted) = caller.map_err(|refusal| Denial::token(refusal, &parts.headers))?;
        (Some(caller), granted)
    } else {
        (None, None)
    };
    if let Some(options) = options(&place, &parts.method) {
        return Ok(options);
    }
    let Some(caller) = caller.filter(|_| !place.is_open()) else {
        check_method(&place, &parts.method)?;
        return Ok(open_resource(door, &place, &host));
    };
    let (mut ask, prompt, denial) = match read(&place, parts, body).await {
        Ok(Asked::Control(ask)) => (ask, None, None),
        Ok(Asked::Check(prompt)) => (Ask::CheckPrompt, Some(prompt), None),
        Err(denial) => (Ask::Refused(denial.refusal.clone()), None, Some(denial)),
    };
    if let Some(granted) = &granted {
        whep::by_way_of(&mut ask, granted);
    }
    let base: Arc<str> = format!("{}/{version}", door.base(&host)).into();
    let (reply, result) = oneshot::channel();
    let watcher = (place == Place::ConsoleEvents && denial.is_none()).then(|| Arc::clone(&caller.identity));
    let request = Request {
        ask,
        accepted,
        queued: clock::mono(),
        base: Arc::clone(&base),
        caller: Arc::clone(&caller),
        reply,
    };
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
    let result = match (result, watcher) {
        (Ok(answer), Some(who)) => match door.console.admit(&who) {
            Ok(watcher) => {
                let first = answer.body.unwrap_or_default();
                let (watched, headers) = (Arc::clone(door), parts.headers.clone());
                let not_ready = Arc::clone(&door.not_ready);
                let look = move || look(Arc::clone(&watched), headers.clone());
                let under_way = parts.extensions.get::<UnderWay>().cloned();
                let response = watcher.watch(first, look, move || not_ready.reason(), under_way);
                return Ok(with_standing(response, &standing));
            }
            Err(refusal) => Err(refusal),
        },
        (result, _) => result,
    };
    let response = match result {
        Ok(answer) => {
            let mut response = match &place {
                Place::Whep(place) if place.what == What::Token => {
                    door.authority.token_for(place, &caller, &base)
                }
                place => whep::made(place, &answer).unwrap_or_else(|| tell(answer)),
            };
            if let Place::Count(_) = place {
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            }
            response
        }
        Err(refusal) => {
            let Denial { allow, accept, .. } = denial.unwrap_or_else(|| refusal.clone().into());
            refuse(&Denial { allow, accept, ..refusal.into() }, ids)
        }
    };
    Ok(with_standing(response, &standing))
}

/// What somebody who watches finds: as long as his token is good, and control has time for him.
async fn look(door: Arc<Door>, headers: HeaderMap) -> Look {
    let caller = match door.authority.caller(&headers).await {
        Ok(caller) => caller,
        // The keys of his issuer cannot be had just now.
        Err(refusal) if refusal.status == 503 => return Look::Busy,
        Err(refusal) => return Look::Over(refusal),
    };
    let (reply, result) = oneshot::channel();
    let now = clock::mono();
    let ask = Ask::Overview { again: true };
    let request = Request { ask, accepted: now, queued: now, base: Arc::from(""), caller, reply };
    if door.requests.try_send(request).is_err() {
        return Look::Busy;
    }
    match tokio::time::timeout(console::PATIENCE, result).await {
        Ok(Ok(Reply { result: Ok(Answer { body: Some(rows), .. }), .. })) => Look::Rows(rows),
        _ => Look::Busy,
    }
}

/// What a request asks: of control, or a dry run.
enum Asked {
    Control(Ask),
    Check(Prompt),
}

async fn read(place: &Place, parts: &Parts, body: &mut Body) -> Result<Asked, Denial> {
    match place {
        Place::Unknown => return Err(Refusal::unknown_path(parts.uri.path()).into()),
        Place::NotImplemented(action) => return Err(Refusal::not_implemented(action).into()),
        _ => check_method(place, &parts.method)?,
    }
    // What a GET or a DELETE carries means nothing (RFC 9110 section 9.3) and is not looked at.
    let body = match parts.method {
        Method::POST | Method::PUT => body::read(&parts.headers, body, readable(place)).await?,
        _ => Vec::new(),
    };
    if *place == Place::PromptCheck {
        return Ok(Asked::Check(graph::read_prompt_check(&body)?));
    }
    Ok(Asked::Control(place.ask(&parts.method, &body, parts.uri.query().unwrap_or_default())?))
}

/// What is read there.
fn readable(place: &Place) -> Readable {
    match place {
        Place::Whep(place) if place.what == What::Endpoint => Readable::Sdp,
        _ => Readable::Json,
    }
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

/// What this client calls us: it goes back to that client only. HTTP/1.1 wants exactly one `Host`, and a valid one (RFC
/// 9112 section 3.2); an absolute request target, as HTTP/2 has, is stronger.
fn host(parts: &Parts) -> Result<String, Refusal> {
    if let Some(authority) = parts.uri.authority() {
        // Without the user and the password that may stand before it.
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        return Ok(host.to_owned());
    }
    let mut hosts = parts.headers.get_all(HOST).iter();
    let (host, another) = (hosts.next(), hosts.next());
    let Some(host) = host else {
        return match parts.version {
            Version::HTTP_11 => Err(Refusal::invalid("The header Host is missing; expected one.")),
            _ => Ok("localhost".to_owned()),
        };
    };
    if another.is_some() {
        return Err(Refusal::invalid("The header Host is there more than once; expected one."));
    }
    let text = host.to_str().ok().filter(|text| text.len() <= MAX_HOST && !text.contains('@'));
    let authority = text.and_then(|text| text.parse::<uri::Authority>().ok());
    // What stands behind the name is a port, or nothing.
    let authority = authority.filter(|found| found.as_str() == found.host() || found.port_u16().is_some());
    match authority {
        Some(authority) => Ok(authority.as_str().to_owned()),
        None => Err(Refusal::invalid(
            "The header Host is not understood; expected a name or an address, and perhaps a port.",
        )),
    }
}

/// Whether `place` has the method.
fn check_method(place: &Place, method: &Method) -> Result<(), Denial> {
    let allow = place.allow();
    if allow.split(", ").any(|allowed| allowed == method.as_str()) {
        Ok(())
    } else {
        Err(Denial::method(method, allow))
    }
}

/// The answer to OPTIONS, if that is asked of a place that there is.
fn options(place: &Place, method: &Method) -> Option<Response> {
    if *method != Method::OPTIONS || matches!(place, Place::Unknown | Place::NotImplemented(_)) {
        return None;
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(place.allow()));
    Some(response)
}

/// What needs no token.
fn open_resource(door: &Door, place: &Place, host: &str) -> Response {
    // Keys are made seldom, and whoever meets one that he does not know asks again.
    let (mut response, cache) = match place {
        Place::Ready => {
            let response = match door.not_ready.reason() {
                None => json_response(StatusCode::OK, json!({ "status": "ready" }).to_string()),
                Some(reason) => {
                    let body = json!({ "status": "notReady", "reason": reason }).to_string();
                    let mut response = json_response(StatusCode::SERVICE_UNAVAILABLE, body);
                    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(5));
                    response
                }
            };
            (response, "no-store")
        }
        Place::Metrics => {
            let mut response = Response::new(Body::from(door.metrics.text()));
            let text = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(text));
            (response, "no-store")
        }
        Place::Discovery => {
            let body = json!({
                "issuer": door.issuer,
                "jwks_uri": format!("{}/v1/keys", door.base(host)),
                "id_token_signing_alg_values_supported": ["RS256"],
                "response_types_supported": ["token"],
                "subject_types_supported": ["public"],
            });
            (json_response(StatusCode::OK, body.to_string()), "max-age=300")
        }
        Place::Keys => (json_response(StatusCode::OK, door.keys.current().jwks().to_string()), "max-age=300"),
        Place::OpenApi => (json_response(StatusCode::OK, openapi::text()), "max-age=300"),
        Place::Console => return console::page(),
        _ => {
            let (status, body) = match supervisor::standing_still(&door.metrics) {
                None => (StatusCode::OK, json!({ "status": "alive" })),
                Some((thread, _)) => {
                    (StatusCode::SERVICE_UNAVAILABLE, json!({ "status": "standsStill", "thread": thread }))
                }
            };
            (json_response(status, body.to_string()), "no-store")
        }
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    response
}

impl Door {
    /// A dry run: nothing of it reaches control.
    async fn check_prompt(&self, prompt: Prompt) -> Result<Answer, Refusal> {
        if self.not_ready.says(Cause::Draining) {
            return Err(Refusal::unavailable("The engine is shutting down.", 5));
        }
        let check = self.checker.check(prompt).await?;
        let body = Some(check.json().to_string());
        Ok(Answer { status: 200, location: None, body })
    }

    /// What absolute URLs begin with: where we were told that we are, or what this client calls us.
    fn base(&self, host: &str) -> String {
        self.public_url.clone().unwrap_or_else(|| format!("{}://{host}", self.scheme))
    }
}

fn tell(answer: Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = match answer.body {
        Some(body) => odata_response(status, body),
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
    let mut response = odata_response(status, body);
    let headers = response.headers_mut();
    // Some refusals would be kept by caches if nothing was said (RFC 9110 section 15.1).
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
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
    if let Some(readable) = denial.accept {
        headers.insert(readable.header(), HeaderValue::from_static(readable.name()));
    }
    response
}

/// JSON of the API, rather than of what stands beside it.
fn odata_response(status: StatusCode, body: String) -> Response {
    let mut response = json_response(status, body);
    response.headers_mut().insert(ODATA_VERSION, HeaderValue::from_static("4.0"));
    response
}

fn json_response(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
