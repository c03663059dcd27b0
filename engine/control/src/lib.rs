//! Requests to decisions: what enters is an [`Input`], what leaves is an [`Output`]. Control never touches a
//! clock, a socket, a disk or a thread; it is the only owner of calls, participants, operations and notifications.

use std::net::SocketAddr;
use std::time::Duration;

use holdmusic_media::{HoldReport, LegId, LegSpec, MediaTime, Now, Numbering, SourceId};

/// Names a request of a door that waits for a [`Output::Reply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(pub u64);

/// Names one notification for its life; also the X-Microsoft-Skype-Message-ID once written as a GUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NotificationId(pub u128);

/// What enters.
#[derive(Debug)]
pub enum Input {
    /// A door passes on what a customer asked, already parsed (`graph.rs`).
    Request {
        /// To be repeated in the reply.
        request: RequestId,
        /// When the door accepted the request: latencies count from here.
        accepted: MediaTime,
        /// What is asked.
        ask: Ask,
    },
    /// A source can be played from its first frame (more frames may still be on their way).
    SourceReady { source: SourceId, facts: SourceFacts },
    /// A prompt could not be made playable. Also sent after `SourceReady` if it broke later.
    SourceFailed { source: SourceId, failure: PromptFailure },
    /// The first packet of `hold` left (also told again for each `Play` that changed the music).
    Started { leg: LegId, source: SourceId, sent_at: MediaTime },
    /// The answer to `Stop` and `Remove`: the hold's report, and the numbering of the next packet.
    Stopped { leg: LegId, report: HoldReport, next: Numbering },
    /// The receiver said RTCP BYE for its side.
    Bye { leg: LegId },
    /// The destination has answered "port unreachable" throughout the configured time.
    Unreachable { leg: LegId },
    /// How the delivery of a notification went.
    Delivered { notification: NotificationId, outcome: DeliveryOutcome },
    /// SIGTERM: take no new holds.
    Drain,
}

/// What leaves. Performed by the doors in this order.
#[derive(Debug)]
pub enum Output {
    /// The answer to a request: what to say, as Graph would (built by `graph.rs`).
    Reply { request: RequestId, answer: Answer },
    /// Fetch, decode and encode a prompt. Answered by `SourceReady` or `SourceFailed`.
    Prepare { source: SourceId, uri: url::Url },
    /// Nobody listens to the source any more and nobody will.
    Release { source: SourceId },
    /// A leg exists from now on (it sends nothing until `Play`).
    AddLeg { leg: LegId, spec: LegSpec },
    /// Play a source from its first frame on a leg: starts a hold, or changes its music at the next packet.
    /// Answered by `Started` when the first packet of that source has left.
    Play { leg: LegId, source: SourceId },
    /// Send nothing more on this leg. Answered by `Stopped`.
    Stop { leg: LegId },
    /// The leg goes away: stop, RTCP BYE. Answered by `Stopped`.
    RemoveLeg { leg: LegId },
    /// POST this to a customer. Answered by `Delivered`.
    Notify { notification: NotificationId, uri: url::Url, body: String, attempt: u32 },
}

/// How the delivery of a notification went, as far as the doors can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// 2xx.
    Accepted,
    /// Worth another try: network error, 408, 429, 5xx.
    Retry { reason: String, after: Option<Duration> },
    /// Not worth another try.
    Refused { reason: String },
}

/// Facts of a prepared source.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceFacts {
    pub seconds: f64,
    pub format: String,
    pub gain_db: f64,
    pub ready_at: MediaTime,
}

/// Why a prompt cannot be played, for `resultInfo`: 8536 (fetch) or 8535 (sound).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PromptFailure {
    Fetch(String),
    Sound(String),
}

#[derive(Debug)]
pub enum Ask {}
#[derive(Debug)]
pub struct Answer { pub status: u16, pub location: Option<String>, pub retry_after_s: Option<u32>, pub body: Option<String> }
