//! WHEP's endpoints (draft-ietf-wish-whep): what is special about their requests and answers, and what pages of other
//! origins may do here.

use axum::{
    body::Body,
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
        header::{
            ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
            ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ALLOW,
            CACHE_CONTROL, CONTENT_TYPE, ETAG, LOCATION, ORIGIN, VARY,
        },
    },
    response::Response,
};
use holdmusic_control::{Answer, Ask, Refusal, WhepAsk, WhepResource, graph};
use serde_json::json;

use super::{json_response, route::Place};
use crate::authority::{Authority, GrantKind, Granted, Purpose};

/// What a WHEP client may send (W3C Linked Data Platform, section 7.1).
pub(super) const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");

/// The media type of a session description (RFC 8866 section 8.1).
pub(super) const SDP: &str = "application/sdp";

/// How long a browser may remember what it may do here, in seconds: as long as a token is good.
const PREFLIGHT_S: &str = "300";

/// A place of WHEP, of a participant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WhepPlace {
    pub(super) call: String,
    pub(super) participant: String,
    /// Its own leg, or those who listen in.
    pub(super) kind: GrantKind,
    pub(super) what: What,
}

/// Which of the places of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Endpoint,
    Session(String),
    /// Where tokens are given. It is not WHEP's, and needs the application's own.
    Token,
}

impl WhepPlace {
    /// `last` and what follows it, below a participant; `None` if it is nothing of WHEP's.
    pub(super) fn read(call: &str, participant: &str, rest: &[&str]) -> Option<Self> {
        let (kind, what) = match rest {
            [word] => (kind(word)?, What::Endpoint),
            [word, token] if token.eq_ignore_ascii_case("token") => (kind(word)?, What::Token),
            [word, session] => (kind(word)?, What::Session((*session).to_owned())),
            _ => return None,
        };
        Some(Self { call: call.to_owned(), participant: participant.to_owned(), kind, what })
    }

    /// As the header `Allow` lists them.
    pub(super) fn allow(&self) -> &'static str {
        match self.what {
            What::Endpoint => "GET, HEAD, POST, OPTIONS",
            What::Session(_) => "GET, HEAD, DELETE, OPTIONS",
            What::Token => "POST, OPTIONS",
        }
    }

    /// What a method that is allowed asks here.
    pub(super) fn ask(&self, method: &Method, body: &[u8]) -> Result<Ask, Refusal> {
        let call = graph::call_id(&self.call)?;
        let participant = graph::participant_id(&self.participant)?;
        let ask = match (&self.what, method.as_str()) {
            (What::Token, _) => {
                graph::read_nothing(body)?;
                WhepAsk::Permit
            }
            (What::Endpoint, "POST") => {
                let offer = graph::read_whep(body)?;
                match self.kind {
                    GrantKind::Leg => WhepAsk::Open(offer, None),
                    GrantKind::Listener => WhepAsk::Listen(offer, None),
                }
            }
            (What::Endpoint, _) => WhepAsk::Look(None),
            (What::Session(name), "DELETE") => WhepAsk::Close(self.resource(name)?, None),
            (What::Session(name), _) => WhepAsk::Look(Some(self.resource(name)?)),
        };
        Ok(Ask::Whep { call, participant, ask })
    }

    fn resource(&self, name: &str) -> Result<WhepResource, Refusal> {
        match self.kind {
            GrantKind::Leg => Ok(WhepResource::Leg(name.into())),
            GrantKind::Listener => WhepResource::listener(name),
        }
    }

    /// What a token of ours must be for. To end what it began it is good for longer.
    pub(super) fn purpose(&self, method: &Method) -> Option<Purpose> {
        let call = graph::call_id(&self.call).ok()?;
        let participant = graph::participant_id(&self.participant).ok()?;
        let begins = matches!(self.what, What::Endpoint);
        let expires = begins && *method == Method::POST;
        (self.what != What::Token).then_some(Purpose { call, participant, kind: self.kind, expires })
    }

    /// Whether pages of other origins may come here, if the operator lets them.
    fn is_shared(&self) -> bool {
        self.what != What::Token
    }
}

fn kind(word: &str) -> Option<GrantKind> {
    [("whep", GrantKind::Leg), ("listeners", GrantKind::Listener)]
        .into_iter()
        .find_map(|(name, kind)| word.eq_ignore_ascii_case(name).then_some(kind))
}

/// What was asked is asked by way of this token.
pub(super) fn by_way_of(ask: &mut Ask, granted: &Granted) {
    if let Ask::Whep {
        ask: WhepAsk::Open(_, grant) | WhepAsk::Listen(_, grant) | WhepAsk::Close(_, grant),
        ..
    } = ask
    {
        *grant = Some(granted.id);
    }
}

/// OPTIONS: nothing is told that depends on who asks, so that browsers, which ask without a token, are answered.
pub(super) fn options(place: &WhepPlace) -> Response {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static(place.allow()));
    if place.what == What::Endpoint {
        headers.insert(ACCEPT_POST, HeaderValue::from_static(SDP));
    }
    response
}

/// A session that was made, with the answer to its offer; `None` if that is not what the answer is.
pub(super) fn made(place: &Place, answer: &Answer) -> Option<Response> {
    let Place::Whep(WhepPlace { what: What::Endpoint, .. }) = place else { return None };
    let (201, Some(location), Some(sdp)) = (answer.status, &answer.location, &answer.body) else {
        return None;
    };
    let mut response = Response::new(Body::from(sdp.clone()));
    *response.status_mut() = StatusCode::CREATED;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(SDP));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(LOCATION, HeaderValue::from_str(location).ok()?);
    // It names the ICE session, of which there is one for each session of ours: none is ever restarted.
    let name = location.rsplit('/').next().unwrap_or_default();
    headers.insert(ETAG, HeaderValue::from_str(&format!("\"{name}\"")).ok()?);
    Some(response)
}

impl Authority {
    /// A token for a place, and how it is told; `base` as for all URLs in answers.
    pub(super) fn token_for(&self, place: &WhepPlace, caller: &super::Caller, base: &str) -> Response {
        let (Ok(call), Ok(participant)) =
            (graph::call_id(&place.call), graph::participant_id(&place.participant))
        else {
            unreachable!("control has found both");
        };
        let (token, expires) = self.grant(caller, call, participant, place.kind);
        let endpoint = match place.kind {
            GrantKind::Leg => "whep",
            GrantKind::Listener => "listeners",
        };
        let body = json!({
            "token": token,
            "expiresAt": graph::wall_text(expires, 6),
            "url": format!("{base}/communications/calls/{call}/participants/{participant}/{endpoint}"),
        });
        let mut response = json_response(StatusCode::OK, body.to_string());
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// Pages of these origins may use WHEP here (CORS, https://fetch.spec.whatwg.org/#http-cors-protocol). Credentials that a
/// browser sends by itself are never asked for: whoever comes brings a token.
pub(super) fn share(origins: &[String], place: &Place, asked: &HeaderMap, answer: &mut HeaderMap) {
    let Place::Whep(place) = place else { return };
    if origins.is_empty() || !place.is_shared() {
        return;
    }
    answer.append(VARY, HeaderValue::from_static("Origin"));
    let Some(origin) = asked.get(ORIGIN) else { return };
    if !origins.iter().any(|known| known.as_bytes() == origin.as_bytes()) {
        return;
    }
    answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    answer
        .insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Location, ETag, Link, Retry-After"));
    if asked.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(place.allow()));
        let headers = HeaderValue::from_static("Authorization, Content-Type, If-Match");
        answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, headers);
        answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_S));
    }
}
