//! Requests to decisions: what enters is an [`Input`], what leaves is an [`Output`]. Control never touches a
//! clock, a socket, a disk or a thread; it is the only owner of calls, participants, operations and notifications.
//!
//! It speaks three verbs. [`Control::handle_input`] takes what happened, [`Control::poll_output`] gives what is to
//! be done, until `None`, and [`Control::poll_timeout`] tells when [`Control::handle_timeout`] wants to be called.
//! The doors perform outputs in the order in which they leave.

pub mod ask;
pub mod call;
pub mod graph;
pub mod guard;
pub mod id;
pub mod negotiation;
pub mod notification;
pub mod operation;
pub mod participant;
pub mod prompt;
pub mod settings;

use std::{collections::VecDeque, sync::Arc};

use holdmusic_media::{HoldReport, LegId, LegSpec, MediaTime, Now, Numbering, SourceId};
use url::Url;

pub use ask::Ask;
pub use graph::{Answer, Refusal};
pub use id::{CallId, NotificationId, OperationId, ParticipantId, RequestId};
pub use notification::{DeliveryOutcome, Undelivered};
pub use prompt::{DEFAULT_SOURCE, Origin, PromptFailure, SourceFacts};
pub use settings::Settings;

/// What enters.
#[derive(Debug)]
pub enum Input {
    /// A door passes on what a customer asked, already parsed (`graph.rs`). Answered by one [`Output::Reply`].
    Request {
        /// To be repeated in the reply.
        request: RequestId,
        /// When the door accepted the request: latencies and deadlines count from here.
        accepted: MediaTime,
        /// What URLs in the answer begin with, without a slash at its end: "https://host/v1.0". The door makes it
        /// of `--public-url` or the request's own host, and of the version in the request's path.
        base: Arc<str>,
        /// What is asked.
        ask: Ask,
    },
    /// A source can be played from its first frame (more frames may still be on their way).
    SourceReady {
        /// Which.
        source: SourceId,
        /// What is known about it.
        facts: SourceFacts,
    },
    /// A prompt could not be made playable. Also told after `SourceReady` if it broke later.
    SourceFailed {
        /// Which.
        source: SourceId,
        /// Why.
        failure: PromptFailure,
    },
    /// The first packet since `Play` left on a leg: of a hold, or of a change of music. The sender tells it before
    /// the `Stopped` of that hold.
    Started {
        /// Where.
        leg: LegId,
        /// What the packet belongs to.
        source: SourceId,
        /// When it left.
        sent_at: MediaTime,
    },
    /// How a hold goes, told by the sender now and then; only for reading.
    Progress {
        /// Where.
        leg: LegId,
        /// What was sent so far.
        report: HoldReport,
    },
    /// The answer to `Stop` and `RemoveLeg`, one for each, in their order: the hold's report (of zeros if there was
    /// none), and the numbering of the next packet.
    Stopped {
        /// Where.
        leg: LegId,
        /// What was sent.
        report: HoldReport,
        /// What the next packet will carry.
        next: Numbering,
    },
    /// The receiver said RTCP BYE for its side.
    Bye {
        /// Which leg's.
        leg: LegId,
    },
    /// The destination has answered "port unreachable" throughout the configured time.
    Unreachable {
        /// Which leg's.
        leg: LegId,
    },
    /// How the delivery of a notification went.
    Delivered {
        /// Which.
        notification: NotificationId,
        /// How.
        outcome: DeliveryOutcome,
    },
    /// SIGTERM: take no new holds.
    Drain,
}

/// What leaves. Performed by the doors in this order.
#[derive(Debug)]
pub enum Output {
    /// The answer to a request.
    Reply {
        /// Which.
        request: RequestId,
        /// What to say. The door makes the body of a refusal with [`graph::error_body`].
        result: Result<Answer, Refusal>,
    },
    /// Fetch, decode and encode a prompt. Answered by `SourceReady` or `SourceFailed`.
    Prepare {
        /// Its name from now on.
        source: SourceId,
        /// Where it comes from.
        origin: Origin,
    },
    /// Nobody listens to the source any more and nobody will; its preparation is to be given up if it still goes
    /// on. Nothing needs to be told about it any more.
    Release {
        /// Which.
        source: SourceId,
    },
    /// A leg exists from now on (it sends nothing until `Play`).
    AddLeg {
        /// Its name.
        leg: LegId,
        /// What it is made of.
        spec: LegSpec,
    },
    /// A leg was negotiated anew, perhaps in the middle of a hold, which goes on: from the next packet on the
    /// destination, RTCP, codec and payload type of `spec` hold. Sender, numbering and cname stay as they are; the
    /// `numbering` in `spec` is that of the leg's first packet and is to be passed over.
    ChangeLeg {
        /// Which.
        leg: LegId,
        /// What it is made of now.
        spec: LegSpec,
    },
    /// Play a source from its first frame on a leg: starts a hold, or changes its music at the next packet.
    /// Answered by `Started` when the first packet of that source has left.
    Play {
        /// Where.
        leg: LegId,
        /// What.
        source: SourceId,
        /// The numbering that the first packet shall carry instead of the leg's own (`holdMusic.rtpState`); only
        /// at the start of a hold.
        numbering: Option<Numbering>,
    },
    /// Send nothing more on this leg. Answered by `Stopped`.
    Stop {
        /// Where.
        leg: LegId,
    },
    /// The leg goes away: stop, RTCP BYE. Answered by `Stopped`.
    RemoveLeg {
        /// Which.
        leg: LegId,
    },
    /// POST this to a customer. Answered by `Delivered`.
    Notify {
        /// Its name; as a GUID the `X-Microsoft-Skype-Message-ID`, the same for every attempt.
        notification: NotificationId,
        /// Whose notification it is.
        call: CallId,
        /// Where it goes. Secrets may be in it: redact it in logs.
        uri: Url,
        /// JSON.
        body: Arc<str>,
        /// 1 for the first attempt.
        attempt: u32,
    },
}

/// Numbers for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that have not ended.
    pub calls: u64,
    /// Calls that have ended and are kept for reading.
    pub ended_calls: u64,
    /// Participants registered.
    pub participants: u64,
    /// Participants on hold.
    pub held: u64,
    /// Prompts prepared or being prepared.
    pub prompts: u64,
    /// Prompts being prepared.
    pub preparing: u64,
    /// Operations kept in memory.
    pub operations: u64,
    /// Start operations accepted since the beginning; likewise below.
    pub starts: u64,
    /// Start operations completed with what was asked for.
    pub starts_completed: u64,
    /// Start operations completed with default music because the prompt failed.
    pub starts_with_failed_prompt: u64,
    /// Start operations failed.
    pub starts_failed: u64,
    /// Stop operations accepted.
    pub stops: u64,
    /// Notifications owed and not yet delivered.
    pub notifications_pending: u64,
    /// Notifications delivered.
    pub notifications_delivered: u64,
    /// Notifications given up.
    pub notifications_undelivered: u64,
}

/// The state machine.
#[derive(Debug)]
pub struct Control {
    outputs: VecDeque<Output>,
}

impl Control {
    /// An empty house. All ids and random numbers come from `seed`.
    pub fn new(settings: Settings, seed: [u8; 32]) -> Self {
        let _ = (settings, seed);
        Self { outputs: VecDeque::new() }
    }

    /// Takes what happened. Deadlines that have passed at `now` are handled first.
    pub fn handle_input(&mut self, now: Now, input: Input) {
        let _ = now;
        if let Input::Request { request, .. } = input {
            self.outputs.push_back(Output::Reply { request, result: Err(Refusal::not_implemented("yet")) });
        }
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Now) {
        let _ = now;
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Control::handle_timeout`] wants to be called; [`MediaTime::NEVER`] if nothing waits.
    pub fn poll_timeout(&self) -> MediaTime {
        MediaTime::NEVER
    }

    /// Numbers for metrics.
    pub fn counts(&self) -> Counts {
        Counts::default()
    }

    /// Notifications that were given up, oldest first.
    pub fn undelivered(&self) -> impl Iterator<Item = &Undelivered> {
        std::iter::empty()
    }
}
