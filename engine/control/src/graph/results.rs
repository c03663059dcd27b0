//! `resultInfo` of the ways in which an operation or a call ends: codes, subcodes and messages.

use crate::{operation::ResultInfo, prompt::PromptFailure};

fn result(code: u32, subcode: u32, message: impl Into<String>) -> ResultInfo {
    ResultInfo { code, subcode, message: message.into() }
}

/// All went well.
pub(crate) fn success() -> ResultInfo {
    result(200, 0, "Action completed successfully.")
}

/// The prompt failed; what is heard instead is up to the call's rules.
pub(crate) fn prompt(code: u32, failure: &PromptFailure) -> ResultInfo {
    match failure {
        PromptFailure::Fetch(reason) => {
            result(code, 8536, format!("The prompt could not be fetched: {reason}"))
        }
        PromptFailure::Sound(reason) => result(code, 8535, format!("The prompt cannot be played: {reason}")),
    }
}

/// Stopped, cancelled or superseded.
pub(crate) fn cancelled(why: &str) -> ResultInfo {
    result(400, 8508, format!("Action failed, the operation was cancelled: {why}."))
}

/// Nobody is there to hear it.
pub(crate) fn vanished(why: &str) -> ResultInfo {
    result(400, 8511, format!("Action failed, the music could not be played: {why}."))
}

/// The call is over.
pub(crate) fn call_ended() -> ResultInfo {
    result(400, 8528, "Action failed, the call has ended.")
}

/// The end of a call by request.
pub(crate) fn call_deleted() -> ResultInfo {
    result(200, 5001, "The call was ended by the application.")
}

/// The end of a call that was not kept alive.
pub(crate) fn call_expired() -> ResultInfo {
    result(408, 8537, "The call was not kept alive.")
}
