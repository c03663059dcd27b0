//! `resultInfo` of the ways in which an operation or a call ends: codes, subcodes and messages.

use std::borrow::Cow;

use crate::{
    cause::{PromptCause, PromptFailure},
    operation::ResultInfo,
};

fn result(code: u32, subcode: u32, message: impl Into<Cow<'static, str>>) -> ResultInfo {
    ResultInfo { code, subcode, message: message.into() }
}

/// All went well.
pub(crate) fn success() -> ResultInfo {
    result(200, 0, "Action completed successfully.")
}

/// The prompt failed; what is heard instead is up to the call's rules.
pub(crate) fn prompt(code: u32, failure: &PromptFailure) -> ResultInfo {
    let PromptFailure { cause, message } = failure;
    let subcode = prompt_subcode(*cause);
    let what = if subcode == 8536 { "could not be fetched" } else { "cannot be played" };
    result(code, subcode, format!("The prompt {what} ({}): {message}", cause.word()))
}

/// 8536 for what keeps the bytes from coming, 8535 for what is wrong with them.
pub(crate) fn prompt_subcode(cause: PromptCause) -> u32 {
    match cause {
        PromptCause::AddressRefused
        | PromptCause::PortRefused
        | PromptCause::SchemeRefused
        | PromptCause::DnsFailed
        | PromptCause::ConnectionRefused
        | PromptCause::ConnectionFailed
        | PromptCause::ConnectTimeout
        | PromptCause::TlsFailed
        | PromptCause::HttpStatus
        | PromptCause::ServerError
        | PromptCause::RedirectLimit
        | PromptCause::RedirectInvalid
        | PromptCause::ResponseInvalid
        | PromptCause::ContentEncoded
        | PromptCause::OriginSilent
        | PromptCause::FetchTimeout
        | PromptCause::ArrivesTooSlowly
        | PromptCause::TooLarge
        | PromptCause::ShortBody
        | PromptCause::FileNotFound
        | PromptCause::FileUnreadable
        | PromptCause::TooManyPreparing
        | PromptCause::NotReadyInTime => 8536,
        PromptCause::NotAudio
        | PromptCause::UnsupportedFormat
        | PromptCause::HeaderCut
        | PromptCause::NoSamples
        | PromptCause::TooLong
        | PromptCause::TooManySamples
        | PromptCause::TooManyChannels
        | PromptCause::SampleRate
        | PromptCause::Silent
        | PromptCause::CancelsOut
        | PromptCause::Corrupt
        | PromptCause::DecodeTimeout
        | PromptCause::EncodeFailed => 8535,
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

/// The end of a call whose making was refused.
pub(crate) fn not_durable() -> ResultInfo {
    result(503, 0, "The call could not be made durable.")
}

/// The end of a call that was not kept alive.
pub(crate) fn call_expired() -> ResultInfo {
    result(408, 8537, "The call was not kept alive.")
}
