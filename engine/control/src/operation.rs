//! An operation: notStarted -> running -> completed | failed, and nothing else. What was promised goes in, how it
//! ended comes out, once.

use std::borrow::Cow;

use holdmusic_media::{HoldReport, MediaTime, RtpState};

use crate::{
    cause::PromptFailure,
    id::{OperationId, ParticipantId},
    participant::Heard,
};

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationKind {
    /// Puts a participant on hold.
    StartHoldMusic,
    /// Takes it back.
    StopHoldMusic,
    /// Mutes a participant, or the bot.
    Mute,
    /// Takes that back.
    Unmute,
    /// Plays prompts once.
    PlayPrompt,
    /// Ends what `PlayPrompt` began.
    CancelMediaProcessing,
    /// Registers participants.
    InviteParticipants,
}

/// Where in its life an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Accepted.
    NotStarted,
    /// Being done.
    Running,
    /// Its promise is kept.
    Completed,
    /// Its promise was not kept.
    Failed,
}

/// How an operation ended: Graph's `resultInfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultInfo {
    /// 200, 400 or 500.
    pub code: u32,
    /// The detail; 0 when all went well.
    pub subcode: u32,
    /// For people.
    pub message: Cow<'static, str>,
}

/// What an operation tells in `holdMusic`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HoldFacts {
    /// From acceptance to the first packet, in nanoseconds.
    pub first_packet_latency_ns: Option<u64>,
    /// From acceptance to the moment at which the prompt could be played, in nanoseconds.
    pub prompt_ready_ns: Option<u64>,
    /// What is heard.
    pub heard: Option<Heard>,
    /// Gain that was applied to the recording, in dB.
    pub gain_db: Option<f64>,
    /// Why what was asked for is not heard.
    pub reason: Option<Box<PromptFailure>>,
    /// On a stop: there was no hold.
    pub nothing_to_stop: bool,
    /// On a stop: what the sender told.
    pub stopped: Option<Box<StopFacts>>,
}

/// What a sender tells when it has stopped.
#[derive(Clone, Debug, PartialEq)]
pub struct StopFacts {
    /// The numbering of the next packet.
    pub rtp_state: RtpState,
    /// What was sent.
    pub report: HoldReport,
}

/// Who was invited.
#[derive(Clone, Debug)]
pub(crate) struct Invited {
    pub(crate) participant: ParticipantId,
    /// As it came: an object in JSON.
    pub(crate) identity: Box<str>,
}

/// One operation of a call.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Its name.
    pub id: OperationId,
    /// Its place in the order of acceptance within its call.
    pub number: u64,
    /// What it does.
    pub kind: OperationKind,
    /// Whom it is about; the bot itself if it is about the call.
    pub participant: ParticipantId,
    /// What the customer called it.
    pub client_context: Option<Box<str>>,
    /// When the request was accepted at the door.
    pub accepted: MediaTime,
    /// When it must have ended, while that is watched.
    pub(crate) bound: Option<MediaTime>,
    /// With `musicEnds`: its promise is kept, and this is how it ends once the hold does.
    pub(crate) promised: Option<Box<ResultInfo>>,
    /// What it tells about the hold.
    pub facts: HoldFacts,
    /// On an invitation: who was invited.
    pub(crate) invited: Option<Box<[Invited]>>,
    status: Status,
    result: Option<ResultInfo>,
}

impl Operation {
    /// An accepted operation: not started.
    pub(crate) fn new(
        kind: OperationKind,
        id: OperationId,
        participant: ParticipantId,
        client_context: Option<Box<str>>,
        accepted: MediaTime,
    ) -> Self {
        Self {
            id,
            number: 0,
            kind,
            participant,
            client_context,
            accepted,
            bound: None,
            promised: None,
            facts: HoldFacts::default(),
            invited: None,
            status: Status::NotStarted,
            result: None,
        }
    }

    /// Where in its life it is.
    pub fn status(&self) -> Status {
        self.status
    }

    /// How it ended; `None` before, and for one that was complete in its own answer.
    pub fn result(&self) -> Option<&ResultInfo> {
        self.result.as_ref()
    }

    /// Whether nothing can happen to it any more.
    pub fn is_over(&self) -> bool {
        matches!(self.status, Status::Completed | Status::Failed)
    }

    /// It is as it was when its record was written.
    pub(crate) fn restore(&mut self, status: Status, result: Option<ResultInfo>) {
        (self.status, self.result) = (status, result);
    }

    /// It is being done from now on.
    pub(crate) fn run(&mut self) {
        assert_eq!(self.status, Status::NotStarted, "an operation starts once");
        self.status = Status::Running;
    }

    /// Its promise is kept; a result is told unless it is the answer to the request itself.
    pub(crate) fn complete(&mut self, result: Option<ResultInfo>) {
        assert!(!self.is_over(), "an operation ends once");
        self.status = Status::Completed;
        self.result = result;
    }

    /// Its promise was not kept.
    pub(crate) fn fail(&mut self, result: ResultInfo) {
        assert!(!self.is_over(), "an operation ends once");
        self.status = Status::Failed;
        self.result = Some(result);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation() -> Operation {
        Operation::new(OperationKind::StartHoldMusic, OperationId(1), ParticipantId(2), None, MediaTime::ZERO)
    }

    #[test]
    fn an_operation_runs_and_then_ends() {
        let mut operation = operation();
        operation.run();
        assert!(!operation.is_over());
        operation.complete(None);
        assert!(operation.is_over());
    }

    #[test]
    #[should_panic(expected = "an operation ends once")]
    fn an_operation_never_ends_twice() {
        let mut operation = operation();
        operation.run();
        operation.complete(None);
        operation.fail(ResultInfo { code: 400, subcode: 8508, message: Cow::Borrowed("") });
    }
}
