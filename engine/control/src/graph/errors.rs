//! Why a request is refused, and how Graph says so: status, `error.code`, message, and the body around them.

use std::fmt;

use holdmusic_media::WallTime;
use serde::Serialize;
use utoipa::ToSchema;

use super::words::wall_text;

/// A request that is not done: everything the answer needs to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// `error.code`: for this workload mostly a number written as a string.
    pub code: &'static str,
    /// What was wrong, where, and what was expected; without secrets.
    pub message: String,
    /// Seconds for `Retry-After`, if trying again makes sense.
    pub retry_after_s: Option<u32>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status, self.code, self.message)
    }
}

impl Refusal {
    fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after_s: None }
    }

    /// 401: there is no token, or none that we know.
    pub fn unauthenticated(message: impl Into<String>) -> Self {
        Self::new(401, "InvalidAuthenticationToken", message)
    }

    /// 403: the token lacks a role, or its application is not registered here.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(403, "7504", message)
    }

    /// 403 7505: the call is somebody else's.
    pub fn not_theirs(id: impl fmt::Display) -> Self {
        Self::new(403, "7505", format!("Call '{id}' belongs to another application or tenant."))
    }

    /// 404: no such path.
    pub fn unknown_path(path: &str) -> Self {
        Self::new(
            404,
            "ResourceNotFound",
            format!("There is no resource at '{}'.", beginning(path, PATH_SHOWN)),
        )
    }

    /// 404 8522: no such call.
    pub fn unknown_call(id: impl fmt::Display) -> Self {
        Self::new(404, "8522", format!("Call not found: '{}'.", shorten(&id.to_string())))
    }

    /// 404 8522: no such participant in the call.
    pub fn unknown_participant(id: impl fmt::Display) -> Self {
        Self::new(404, "8522", format!("Participant not found: '{}'.", shorten(&id.to_string())))
    }

    /// 404 8522: no such operation in the call, or no longer.
    pub fn unknown_operation(id: impl fmt::Display) -> Self {
        Self::new(404, "8522", format!("Operation not found: '{}'.", shorten(&id.to_string())))
    }

    /// 404 8522: no such notification among those that were given up.
    pub fn unknown_notification(id: impl fmt::Display) -> Self {
        let shown = shorten(&id.to_string());
        Self::new(404, "8522", format!("Undelivered notification not found: '{shown}'."))
    }

    /// 404 8522: the participant has no media leg.
    pub fn unknown_leg(id: impl fmt::Display) -> Self {
        Self::new(404, "8522", format!("Media leg not found: participant '{id}' has none."))
    }

    /// 404 8522: no such session of WHEP, or no longer.
    pub fn unknown_session(id: impl fmt::Display) -> Self {
        Self::new(404, "8522", format!("WHEP session not found: '{}'.", shorten(&id.to_string())))
    }

    /// 422 8523: an offer of which nothing can be made.
    pub fn bad_offer(message: impl Into<String>) -> Self {
        Self::invalid(message).of_whep()
    }

    /// What is wrong with an offer, where that is the body itself: 422, since it is what it says it is, but nothing can be made of it.
    pub(crate) fn of_whep(self) -> Self {
        let status = if self.code == "8523" { 422 } else { self.status };
        Self {
            status,
            message: self
                .message
                .replace("'mediaLeg.sdp' offers", "The offer has")
                .replace("'mediaLeg.sdp'", "The offer"),
            ..self
        }
    }

    /// 405: the path is known, the method is not for it. The door adds `Allow`.
    pub fn method_not_allowed(method: &str, allowed: &str) -> Self {
        let method = shorten(method);
        Self::new(
            405,
            "MethodNotAllowed",
            format!("Method '{method}' is not allowed here; expected one of {allowed}."),
        )
    }

    /// 400 8523: something in the request is invalid.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "8523", message)
    }

    /// 400 8528: the call has ended.
    pub fn call_ended(id: impl fmt::Display) -> Self {
        Self::new(400, "8528", format!("Call '{id}' has ended."))
    }

    /// 400 8528, in other words.
    pub(super) fn call_ended_with(message: String) -> Self {
        Self::new(400, "8528", message)
    }

    /// 400 8504: the participant cannot hear anything.
    pub fn cannot_receive(message: impl Into<String>) -> Self {
        Self::new(400, "8504", message)
    }

    /// 409 8519: others are on hold already.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(409, "8519", message)
    }

    /// 408: the client did not send what it began to send.
    pub fn timed_out(message: impl Into<String>) -> Self {
        Self::new(408, "RequestTimeout", message)
    }

    /// 413: the body is larger than `limit` bytes.
    pub fn body_too_big(limit: usize) -> Self {
        let message = format!("The request body is too large; expected at most {limit} bytes.");
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// 413: the body is small, but what it would become is larger than `limit` bytes.
    pub fn inflates_too_big(limit: usize) -> Self {
        let message =
            format!("The request body is too large once it is inflated; expected at most {limit} bytes.");
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// 415: this content type is not read; empty if none was sent. The door adds `Accept`.
    pub fn unsupported_type(found: &str, expected: &str) -> Self {
        let message = match found {
            "" => format!("There is a body without a Content-Type; expected {expected}."),
            found => format!("Content-Type '{}' is not supported; expected {expected}.", shorten(found)),
        };
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 415: this content coding is not read. The door adds `Accept-Encoding`.
    pub fn unsupported_encoding(found: &str) -> Self {
        let message =
            format!("Content-Encoding '{}' is not supported; expected gzip, or none.", shorten(found));
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 400 8523: the body says that it is compressed, but cannot be inflated.
    pub fn broken_gzip(reason: &str) -> Self {
        Self::invalid(format!(
            "The body cannot be inflated: {}; expected all of what gzip writes (RFC 1952), as Content-Encoding says.",
            shorten(reason)
        ))
    }

    /// 429: a limit of the customer's is reached.
    pub fn too_many(message: impl Into<String>, retry_after_s: u32) -> Self {
        Self { retry_after_s: Some(retry_after_s), ..Self::new(429, "TooManyRequests", message) }
    }

    /// 500: our own fault.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "9999", message)
    }

    /// 501: an action of Graph that this engine does not have.
    pub fn not_implemented(action: &str) -> Self {
        let message = format!("The action '{action}' of Microsoft Graph is not implemented by this engine.");
        Self::new(501, "NotImplemented", message)
    }

    /// 503: a limit of ours is reached, or we are about to leave.
    pub fn unavailable(message: impl Into<String>, retry_after_s: u32) -> Self {
        Self { retry_after_s: Some(retry_after_s), ..Self::new(503, "ServiceUnavailable", message) }
    }
}

/// Longest piece of a request that a message repeats, in characters: enough to recognise it.
const SHOWN: usize = 80;

/// The same of a path: our longest has some 190.
const PATH_SHOWN: usize = 240;

/// The beginning of `text`, without control characters.
pub fn shorten(text: &str) -> String {
    beginning(text, SHOWN)
}

fn beginning(text: &str, most: usize) -> String {
    let mut shown: String = text.chars().take(most).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().nth(most).is_some() {
        shown.push('…');
    }
    shown
}

/// Why a request was refused.
#[derive(Serialize, ToSchema)]
#[schema(as = error)]
pub(super) struct Body<'a> {
    /// The error.
    error: Error<'a>,
}

/// What was wrong.
#[derive(Serialize, ToSchema)]
#[schema(as = publicError)]
struct Error<'a> {
    /// For programs: a number written as a string, or a word.
    code: &'a str,
    /// For people: what was found, what was expected, and where.
    message: &'a str,
    /// By which the request can be found again.
    #[serde(rename = "innerError")]
    inner: Inner<'a>,
}

/// By which a request can be found again.
#[derive(Serialize, ToSchema)]
#[schema(as = publicInnerError)]
struct Inner<'a> {
    /// When it was answered, in UTC.
    #[schema(format = "date-time")]
    date: String,
    /// Our name for the request.
    #[serde(rename = "request-id")]
    #[schema(format = "uuid")]
    request_id: &'a str,
    /// The client's name for it, or ours if it gave none.
    #[serde(rename = "client-request-id")]
    client_request_id: &'a str,
}

/// The JSON body of a refusal. `client_request_id` is what the client sent, or `request_id` if it sent none.
pub fn error_body(refusal: &Refusal, now: WallTime, request_id: &str, client_request_id: &str) -> String {
    let inner = Inner { date: wall_text(now, 0), request_id, client_request_id };
    let body = Body { error: Error { code: refusal.code, message: &refusal.message, inner } };
    serde_json::to_string(&body).expect("strings can always be written as JSON")
}

/// Actions of Graph's calls and participants that this engine knows by name but does not have.
const KNOWN_ACTIONS: &[&str] = &[
    "answer",
    "reject",
    "redirect",
    "transfer",
    "muteAll",
    "recordResponse",
    "record",
    "subscribeToTone",
    "sendDtmfTones",
    "changeScreenSharingRole",
    "updateRecordingStatus",
    "addLargeGalleryView",
    "logTeleconferenceDeviceQuality",
    "audioRoutingGroups",
    "contentSharingSessions",
];

/// Graph's spelling of an action (or collection) that we answer with 501, if `name` is one: in any letter case,
/// with or without the prefix `microsoft.graph.` or `graph.`.
pub fn known_action(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let bare = name.strip_prefix("microsoft.").unwrap_or(&name);
    let bare = bare.strip_prefix("graph.").unwrap_or(bare);
    KNOWN_ACTIONS.iter().find(|action| action.eq_ignore_ascii_case(bare)).copied()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn an_error_has_the_body_that_graph_documents() {
        let refusal = Refusal::unknown_call("57dab8b1-894c-409a-b240-bd8beae78896");
        let body = error_body(&refusal, WallTime(1_700_000_000_123_456), "r-1", "c-1");
        expect![[r#"{"error":{"code":"8522","message":"Call not found: '57dab8b1-894c-409a-b240-bd8beae78896'.","innerError":{"date":"2023-11-14T22:13:20Z","request-id":"r-1","client-request-id":"c-1"}}}"#]]
            .assert_eq(&body);
    }

    #[test]
    fn actions_are_known_in_any_letter_case_and_with_either_prefix() {
        for name in ["transfer", "TRANSFER", "microsoft.graph.transfer", "Microsoft.Graph.Transfer"] {
            assert_eq!(known_action(name), Some("transfer"));
        }
        assert_eq!(known_action("microsoft.graph.dance"), None);
    }

    #[test]
    fn messages_repeat_only_the_beginning_of_hostile_text() {
        let refusal = Refusal::unknown_path(&"\u{1b}[2J/x".repeat(10_000));
        assert!(refusal.message.chars().count() < 300);
        assert!(!refusal.message.contains('\u{1b}'));
    }
}
