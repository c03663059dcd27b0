//! Microsoft Graph's words <-> ours: all JSON shapes, status codes and error codes are here and nowhere else.
//!
//! A door turns a path and a body into an [`crate::Ask`] with the `read_…` functions, sends it, and gets an
//! [`Answer`] or a [`Refusal`] back; a refusal becomes a body by [`error_body`].

mod bodies;
mod check;
mod document;
mod entities;
mod errors;
mod json;
mod overview;
mod query;
mod read;
pub(crate) mod results;
mod shapes;
mod tell;
mod undelivered;
mod words;
mod write;

pub use check::{Notice, Playable, PromptCheck, Terms};
pub use document::schemas;
pub use errors::{Refusal, error_body, known_action, shorten};
pub(crate) use overview::OverviewRows;
pub use query::Query;
pub use read::{
    MAX_SDP, call_id, operation_id, participant_id, read_cancel_media, read_create_call,
    read_create_participant, read_invite, read_media_leg, read_mute, read_nothing, read_play_prompt,
    read_prompt, read_prompt_check, read_purge, read_start_hold_music, read_stop_hold_music, read_whep,
};
pub(crate) use tell::{call_notification, operation_notification, roster_notification};
pub use undelivered::notification_id;
pub(crate) use undelivered::redelivered;
pub(crate) use words::CallState;
pub use words::{StatusCase, read_wall, wall_text};
pub(crate) use write::{Writer, matches, participant_info, wire_state};

/// What a request is answered with when it is done as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// `Location`: absolute, beginning with the `base` of the request.
    pub location: Option<String>,
    /// JSON, to be sent as `application/json` (the number that a `/$count` is answered with: as `text/plain`; the session
    /// description that WHEP is answered with, as `application/sdp`); `None` means an empty body.
    pub body: Option<String>,
}
