//! Graph's words for our values, and moments as Graph writes them.

use std::borrow::Cow;

use holdmusic_media::WallTime;
use serde::{Serialize, Serializer};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{Object, RefOr, Schema, Type},
};

use crate::{
    call::{CompletesWhen, OnPromptFailure},
    cause::PromptCause,
    operation::{OperationKind, Status},
    participant::{EndedBy, Heard},
};

/// One word for each variant of an enum: how it is written, and what the OpenAPI document lists.
macro_rules! words {
    ($(#[$doc:meta])* $visibility:vis $type:ident as $name:literal { $($variant:ident: $word:literal,)+ }) => {
        impl $type {
            $(#[$doc])*
            $visibility fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.word())
            }
        }

        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                words_schema([$($word),+])
            }
        }

        impl ToSchema for $type {
            fn name() -> Cow<'static, str> {
                $name.into()
            }
        }
    };
}

fn words_schema(words: impl IntoIterator<Item = &'static str>) -> RefOr<Schema> {
    Object::builder().schema_type(Type::String).enum_values(Some(words)).into()
}

/// Every status, in the order of a life.
const STATUSES: [Status; 4] = [Status::NotStarted, Status::Running, Status::Completed, Status::Failed];

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
}

/// The status that a word of either spelling means.
pub(crate) fn status_of(word: &str) -> Option<Status> {
    STATUSES.into_iter().find(|&status| StatusCase::Camel.status(status).eq_ignore_ascii_case(word))
}

impl OperationKind {
    /// `@odata.type`.
    pub(crate) fn odata_type(self) -> &'static str {
        match self {
            Self::StartHoldMusic => "#microsoft.graph.startHoldMusicOperation",
            Self::StopHoldMusic => "#microsoft.graph.stopHoldMusicOperation",
            Self::Mute => "#microsoft.graph.muteParticipantOperation",
            Self::Unmute => "#microsoft.graph.unmuteParticipantOperation",
            Self::PlayPrompt => "#microsoft.graph.playPromptOperation",
            Self::CancelMediaProcessing => "#microsoft.graph.cancelMediaProcessingOperation",
            Self::InviteParticipants => "#microsoft.graph.inviteParticipantsOperation",
        }
    }

    /// The HTTP status of the answer to the action.
    pub(crate) fn answered_with(self) -> u16 {
        match self {
            Self::StartHoldMusic | Self::StopHoldMusic => 202,
            Self::Mute
            | Self::Unmute
            | Self::PlayPrompt
            | Self::CancelMediaProcessing
            | Self::InviteParticipants => 200,
        }
    }
}

words! {
    /// The word as in `call.holdMusic`.
    pub OnPromptFailure as "onPromptFailure" {
        DefaultMusic: "defaultMusic",
        Fail: "fail",
    }
}

words! {
    /// The word as in `call.holdMusic`.
    pub CompletesWhen as "completesWhen" {
        MusicStarts: "musicStarts",
        MusicEnds: "musicEnds",
    }
}

words! {
    /// The word as in `participant.holdMusic.endedBy`.
    pub EndedBy as "holdEndedBy" {
        Stop: "stop",
        Removed: "removed",
        CallEnded: "callEnded",
        MaxDuration: "maxDuration",
        Unreachable: "unreachable",
        Bye: "bye",
        PromptFailed: "promptFailed",
        Restart: "restart",
    }
}

words! {
    /// The word as in `holdMusic.reason.cause`.
    pub PromptCause as "promptCause" {
        AddressRefused: "addressRefused",
        PortRefused: "portRefused",
        SchemeRefused: "schemeRefused",
        DnsFailed: "dnsFailed",
        ConnectionRefused: "connectionRefused",
        ConnectionFailed: "connectionFailed",
        ConnectTimeout: "connectTimeout",
        TlsFailed: "tlsFailed",
        HttpStatus: "httpStatus",
        ServerError: "serverError",
        RedirectLimit: "redirectLimit",
        RedirectInvalid: "redirectInvalid",
        ResponseInvalid: "responseInvalid",
        ContentEncoded: "contentEncoded",
        OriginSilent: "originSilent",
        FetchTimeout: "fetchTimeout",
        ArrivesTooSlowly: "arrivesTooSlowly",
        TooLarge: "tooLarge",
        ShortBody: "shortBody",
        FileNotFound: "fileNotFound",
        FileUnreadable: "fileUnreadable",
        TooManyPreparing: "tooManyPreparing",
        NotReadyInTime: "notReadyInTime",
        NotAudio: "notAudio",
        UnsupportedFormat: "unsupportedFormat",
        HeaderCut: "headerCut",
        NoSamples: "noSamples",
        TooLong: "tooLong",
        TooManySamples: "tooManySamples",
        TooManyChannels: "tooManyChannels",
        SampleRate: "sampleRate",
        Silent: "silent",
        CancelsOut: "cancelsOut",
        Corrupt: "corrupt",
        DecodeTimeout: "decodeTimeout",
        EncodeFailed: "encodeFailed",
    }
}

words! {
    /// The word as in `holdMusic.source`.
    pub Heard as "holdSource" {
        CustomPrompt: "customPrompt",
        DefaultMusic: "default",
    }
}

words! {
    /// The word as a setting.
    pub StatusCase as "statusCase" {
        Camel: "camel",
        Pascal: "pascal",
    }
}

/// A status, spelled as a call wants it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spelled(pub(super) StatusCase, pub(super) Status);

impl Serialize for Spelled {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.status(self.1))
    }
}

impl PartialSchema for Spelled {
    fn schema() -> RefOr<Schema> {
        let both = [StatusCase::Camel, StatusCase::Pascal];
        words_schema(both.into_iter().flat_map(|case| STATUSES.map(|status| case.status(status))))
    }
}

impl ToSchema for Spelled {
    fn name() -> Cow<'static, str> {
        "operationStatus".into()
    }
}

/// Where in its life a call is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CallState {
    Established,
    Terminating,
    Terminated,
}

words! {
    /// The word as in `call.state`.
    CallState as "callState" {
        Established: "established",
        Terminating: "terminating",
        Terminated: "terminated",
    }
}

/// Which way sound flows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Direction {
    Inactive,
    SendOnly,
    SendReceive,
}

words! {
    /// The word as in `mediaStream.direction`.
    Direction as "mediaDirection" {
        Inactive: "inactive",
        SendOnly: "sendOnly",
        SendReceive: "sendReceive",
    }
}

/// Whether a participant is on hold.
#[derive(Clone, Copy, Debug)]
pub(super) enum HoldState {
    None,
    Starting,
    Playing,
}

words! {
    /// The word as in `participant.holdMusic.state`.
    HoldState as "holdState" {
        None: "none",
        Starting: "starting",
        Playing: "playing",
    }
}

/// What happened to a resource.
#[derive(Clone, Copy, Debug)]
pub(super) enum ChangeType {
    Updated,
    Deleted,
}

words! {
    /// The word as in `commsNotification.changeType`.
    ChangeType as "changeType" {
        Updated: "updated",
        Deleted: "deleted",
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
    let mut text = String::with_capacity(27);
    let (year, month, day) =
        (moment.year().unsigned_abs(), u8::from(moment.month()).into(), moment.day().into());
    let (hour, minute, second) = (moment.hour().into(), moment.minute().into(), moment.second().into());
    let fraction = if decimals == 3 { moment.millisecond().into() } else { moment.microsecond() };
    let parts =
        [("", year, 4), ("-", month, 2), ("-", day, 2), ("T", hour, 2), (":", minute, 2), (":", second, 2)];
    let fraction = (decimals > 0).then_some((".", fraction, usize::from(decimals.min(6))));
    for (before, number, digits) in parts.into_iter().chain(fraction) {
        text.push_str(before);
        push_digits(&mut text, number, digits);
    }
    text.push('Z');
    text
}

/// The last `digits` digits of `number`. By hand: `write!` takes ten times as long, and reports are full of moments.
fn push_digits(text: &mut String, number: u32, digits: usize) {
    for place in (0..digits).rev() {
        let digit = number / 10_u32.pow(u32::try_from(place).expect("few digits")) % 10;
        text.push(char::from(b'0' + u8::try_from(digit).expect("a digit")));
    }
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
