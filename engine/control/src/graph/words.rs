//! Graph's words for our values, and moments as Graph writes them.

use holdmusic_media::WallTime;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    call::{CompletesWhen, OnPromptFailure},
    cause::PromptCause,
    operation::{OperationKind, Status},
    participant::{EndedBy, Heard},
};

/// How `status` of an operation is spelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatusCase {
    /// `running`, as in Graph's documentation and in its webhooks.
    #[default]
    Camel,
    /// `Running`, as in Graph's schema: what its Go, Java and TypeScript clients read.
    Pascal,
}

impl StatusCase {
    /// The word for `status`.
    pub(crate) fn status(self, status: Status) -> &'static str {
        match (self, status) {
            (Self::Camel, Status::NotStarted) => "notStarted",
            (Self::Camel, Status::Running) => "running",
            (Self::Camel, Status::Completed) => "completed",
            (Self::Camel, Status::Failed) => "failed",
            (Self::Pascal, Status::NotStarted) => "NotStarted",
            (Self::Pascal, Status::Running) => "Running",
            (Self::Pascal, Status::Completed) => "Completed",
            (Self::Pascal, Status::Failed) => "Failed",
        }
    }

    /// The word as a setting.
    pub fn word(self) -> &'static str {
        match self {
            Self::Camel => "camel",
            Self::Pascal => "pascal",
        }
    }
}

/// The status that a word of either spelling means.
pub(crate) fn status_of(word: &str) -> Option<Status> {
    [Status::NotStarted, Status::Running, Status::Completed, Status::Failed]
        .into_iter()
        .find(|&status| StatusCase::Camel.status(status).eq_ignore_ascii_case(word))
}

impl OperationKind {
    /// `@odata.type`.
    pub(crate) fn odata_type(self) -> &'static str {
        match self {
            Self::StartHoldMusic => "#microsoft.graph.startHoldMusicOperation",
            Self::StopHoldMusic => "#microsoft.graph.stopHoldMusicOperation",
        }
    }
}

impl OnPromptFailure {
    /// The word as in `call.holdMusic`.
    pub fn word(self) -> &'static str {
        match self {
            Self::DefaultMusic => "defaultMusic",
            Self::Fail => "fail",
        }
    }
}

impl CompletesWhen {
    /// The word as in `call.holdMusic`.
    pub fn word(self) -> &'static str {
        match self {
            Self::MusicStarts => "musicStarts",
            Self::MusicEnds => "musicEnds",
        }
    }
}

impl EndedBy {
    /// The word as in `participant.holdMusic.endedBy`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Removed => "removed",
            Self::CallEnded => "callEnded",
            Self::MaxDuration => "maxDuration",
            Self::Unreachable => "unreachable",
            Self::Bye => "bye",
            Self::PromptFailed => "promptFailed",
        }
    }
}

impl PromptCause {
    /// The word as in `holdMusic.reason.cause`.
    pub fn word(self) -> &'static str {
        match self {
            Self::AddressRefused => "addressRefused",
            Self::PortRefused => "portRefused",
            Self::SchemeRefused => "schemeRefused",
            Self::DnsFailed => "dnsFailed",
            Self::ConnectionRefused => "connectionRefused",
            Self::ConnectionFailed => "connectionFailed",
            Self::ConnectTimeout => "connectTimeout",
            Self::TlsFailed => "tlsFailed",
            Self::HttpStatus => "httpStatus",
            Self::ServerError => "serverError",
            Self::RedirectLimit => "redirectLimit",
            Self::RedirectInvalid => "redirectInvalid",
            Self::ResponseInvalid => "responseInvalid",
            Self::ContentEncoded => "contentEncoded",
            Self::OriginSilent => "originSilent",
            Self::FetchTimeout => "fetchTimeout",
            Self::ArrivesTooSlowly => "arrivesTooSlowly",
            Self::TooLarge => "tooLarge",
            Self::ShortBody => "shortBody",
            Self::FileNotFound => "fileNotFound",
            Self::FileUnreadable => "fileUnreadable",
            Self::TooManyPreparing => "tooManyPreparing",
            Self::NotReadyInTime => "notReadyInTime",
            Self::NotAudio => "notAudio",
            Self::UnsupportedFormat => "unsupportedFormat",
            Self::HeaderCut => "headerCut",
            Self::NoSamples => "noSamples",
            Self::TooLong => "tooLong",
            Self::TooManySamples => "tooManySamples",
            Self::TooManyChannels => "tooManyChannels",
            Self::SampleRate => "sampleRate",
            Self::Silent => "silent",
            Self::CancelsOut => "cancelsOut",
            Self::Corrupt => "corrupt",
            Self::DecodeTimeout => "decodeTimeout",
            Self::EncodeFailed => "encodeFailed",
        }
    }
}

impl Heard {
    /// The word as in `holdMusic.source`.
    pub fn word(self) -> &'static str {
        match self {
            Self::CustomPrompt => "customPrompt",
            Self::DefaultMusic => "default",
        }
    }
}

/// A moment as RFC 3339 in UTC with `decimals` (0, 3 or 6) digits after the second.
pub fn wall_text(wall: WallTime, decimals: u8) -> String {
    let micros = i128::from(wall.0);
    let step: i128 = match decimals {
        0 => 1_000_000,
        3 => 1_000,
        _ => 1,
    };
    let whole = micros.div_euclid(step) * step;
    let Ok(moment) = OffsetDateTime::from_unix_timestamp_nanos(whole * 1000) else {
        return "1970-01-01T00:00:00Z".to_owned();
    };
    let fraction = match decimals {
        0 => String::new(),
        3 => format!(".{:03}", moment.millisecond()),
        _ => format!(".{:06}", moment.microsecond()),
    };
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{fraction}Z",
        moment.year(),
        u8::from(moment.month()),
        moment.day(),
        moment.hour(),
        moment.minute(),
        moment.second()
    )
}

/// Reads a moment of RFC 3339; parts of a microsecond are dropped.
pub fn read_wall(text: &str) -> Option<WallTime> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(moment.unix_timestamp_nanos().div_euclid(1000)).ok().map(WallTime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_and_read_to_the_microsecond() {
        let wall = WallTime(1_700_000_000_123_456);
        assert_eq!(wall_text(wall, 0), "2023-11-14T22:13:20Z");
        assert_eq!(wall_text(wall, 3), "2023-11-14T22:13:20.123Z");
        assert_eq!(wall_text(wall, 6), "2023-11-14T22:13:20.123456Z");
        assert_eq!(read_wall(&wall_text(wall, 6)), Some(wall));
        assert_eq!(read_wall("2023-11-15T00:13:20.1234569+02:00"), Some(wall));
        assert_eq!(read_wall("yesterday"), None);
        assert_eq!(wall_text(WallTime(i64::MAX), 0), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn both_spellings_of_a_status_are_read() {
        for (word, status) in
            [("notStarted", Status::NotStarted), ("Running", Status::Running), ("FAILED", Status::Failed)]
        {
            assert_eq!(status_of(word), Some(status));
        }
        assert_eq!(status_of("done"), None);
    }
}
