//! A customer's HTTP: method, path and body go in, an [`Ask`] comes out; an answer becomes a [`Reply`] to be read.

use holdmusic_control::{
    Answer, Ask, Refusal,
    graph::{self, Query},
};
use serde_json::Value;

/// What a customer got back.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The HTTP status; 0 if there was no answer.
    pub status: u16,
    /// `Location`.
    pub location: Option<String>,
    /// The body; `null` if there was none. Of a refusal `{"error": {"code", "message"}}`.
    pub body: Value,
}

impl Reply {
    /// The connection broke before there was an answer.
    pub(crate) fn lost() -> Self {
        Self { status: 0, location: None, body: Value::Null }
    }

    /// Whether nobody knows what became of the request.
    pub fn is_lost(&self) -> bool {
        self.status == 0
    }

    /// `body[name]` as text; empty if it is none.
    pub fn text(&self, name: &str) -> &str {
        self.body[name].as_str().unwrap_or_default()
    }

    /// `id`.
    pub fn id(&self) -> &str {
        self.text("id")
    }

    /// `error.code` of a refusal.
    pub fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }

    /// `error.message` of a refusal.
    pub fn message(&self) -> &str {
        self.body["error"]["message"].as_str().unwrap_or_default()
    }

    /// Itself, if it has this status.
    ///
    /// # Panics
    ///
    /// If it has another one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }
}

impl From<Result<Answer, Refusal>> for Reply {
    fn from(result: Result<Answer, Refusal>) -> Self {
        match result {
            Ok(Answer { status, location, body }) => {
                let body =
                    body.map_or(Value::Null, |body| serde_json::from_str(&body).expect("bodies are JSON"));
                Self { status, location, body }
            }
            Err(refusal) => Self {
                status: refusal.status,
                location: None,
                body: serde_json::json!({ "error": { "code": refusal.code, "message": refusal.message } }),
            },
        }
    }
}

/// What `method` on `path` with `body` asks. The path begins behind the version: `/communications/calls/…`. The product's
/// own reading of bodies is used; paths are the business of its HTTP door, which the end-to-end tests knock at.
///
/// # Errors
///
/// What is wrong with the body or an id, as the product says it.
///
/// # Panics
///
/// If the story asks for a path that is none.
pub fn read(method: &str, path: &str, body: &[u8]) -> Result<Ask, Refusal> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let words: Vec<&str> = path.split('/').filter(|word| !word.is_empty()).collect();
    let [_, _, rest @ ..] = &words[..] else { panic!("no path: {path}") };
    let query = || Query::read(query);
    Ok(match (method, rest) {
        ("POST", []) => Ask::CreateCall(graph::read_create_call(body)?),
        ("GET", []) => Ask::ListCalls { query: query()? },
        ("GET", [call]) => Ask::GetCall { call: graph::call_id(call)?, query: query()? },
        ("DELETE", [call]) => Ask::DeleteCall { call: graph::call_id(call)? },
        ("POST", [call, "keepAlive"]) => Ask::KeepAlive { call: graph::call_id(call)? },
        ("GET", [call, "operations"]) => Ask::ListOperations { call: graph::call_id(call)?, query: query()? },
        ("GET", [call, "operations", operation]) => Ask::GetOperation {
            call: graph::call_id(call)?,
            operation: graph::operation_id(operation)?,
            query: query()?,
        },
        ("POST", [call, "participants"]) => Ask::CreateParticipant {
            call: graph::call_id(call)?,
            create: graph::read_create_participant(body)?,
        },
        ("POST", [call, "playPrompt"]) => {
            Ask::PlayPrompt { call: graph::call_id(call)?, play: graph::read_play_prompt(body)? }
        }
        ("POST", [call, "cancelMediaProcessing"]) => {
            Ask::CancelMedia { call: graph::call_id(call)?, cancel: graph::read_cancel_media(body)? }
        }
        ("GET", [call, "participants"]) => {
            Ask::ListParticipants { call: graph::call_id(call)?, query: query()? }
        }
        (method, [call, "participants", participant, rest @ ..]) => {
            let (call, participant) = (graph::call_id(call)?, graph::participant_id(participant)?);
            match (method, rest) {
                ("GET", []) => Ask::GetParticipant { call, participant, query: query()? },
                ("DELETE", []) => Ask::DeleteParticipant { call, participant },
                ("PUT", ["mediaLeg"]) => {
                    Ask::PutMediaLeg { call, participant, offer: graph::read_media_leg(body)? }
                }
                ("GET", ["mediaLeg"]) => Ask::GetMediaLeg { call, participant },
                ("DELETE", ["mediaLeg"]) => Ask::DeleteMediaLeg { call, participant },
                ("POST", ["startHoldMusic"]) => {
                    Ask::StartHoldMusic { call, participant, start: graph::read_start_hold_music(body)? }
                }
                ("POST", ["stopHoldMusic"]) => {
                    Ask::StopHoldMusic { call, participant, stop: graph::read_stop_hold_music(body)? }
                }
                _ => panic!("no path: {method} {path}"),
            }
        }
        _ => panic!("no path: {method} {path}"),
    })
}
