//! What a customer asks, already parsed: `graph.rs` makes it from JSON, the rest of control takes it as it is.

use url::Url;

use crate::{
    call::HoldRules,
    graph::{Query, Refusal},
    id::{CallId, NotificationId, OperationId, ParticipantId},
    negotiation::{MediaOffer, StateOffer},
    prompt::Prompt,
    whep::WhepAsk,
};

/// One request. A door reads ids and body with the functions of [`crate::graph`].
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the fields are what their names and types say")]
pub enum Ask {
    /// `POST /communications/calls`
    CreateCall(CreateCall),
    /// `GET /communications/calls`
    ListCalls { query: Query },
    /// `GET /console/events`: what the console shows. `again` is how a watcher's stream goes on, and counts as no request.
    Overview { again: bool },
    /// `GET …/calls/{call}`
    GetCall { call: CallId, query: Query },
    /// `DELETE …/calls/{call}`
    DeleteCall { call: CallId },
    /// `POST …/calls/{call}/keepAlive`
    KeepAlive { call: CallId },
    /// `POST …/calls/{call}/participants`
    CreateParticipant { call: CallId, create: CreateParticipant },
    /// `GET …/calls/{call}/participants`
    ListParticipants { call: CallId, query: Query },
    /// `GET …/participants/{participant}`
    GetParticipant { call: CallId, participant: ParticipantId, query: Query },
    /// `DELETE …/participants/{participant}`
    DeleteParticipant { call: CallId, participant: ParticipantId },
    /// `PUT …/participants/{participant}/mediaLeg`
    PutMediaLeg { call: CallId, participant: ParticipantId, offer: MediaOffer },
    /// `GET …/participants/{participant}/mediaLeg`
    GetMediaLeg { call: CallId, participant: ParticipantId },
    /// `DELETE …/participants/{participant}/mediaLeg`
    DeleteMediaLeg { call: CallId, participant: ParticipantId },
    /// `…/participants/{participant}/whep` and `/listeners`, and what is below them
    Whep { call: CallId, participant: ParticipantId, ask: WhepAsk },
    /// `POST …/participants/{participant}/startHoldMusic`
    StartHoldMusic { call: CallId, participant: ParticipantId, start: StartHoldMusic },
    /// `POST …/participants/{participant}/stopHoldMusic`
    StopHoldMusic { call: CallId, participant: ParticipantId, stop: StopHoldMusic },
    /// `POST …/calls/{call}/mute` and `/unmute`: of the bot itself
    MuteCall { call: CallId, mute: Mute },
    /// `POST …/participants/{participant}/mute` and `/unmute`
    MuteParticipant { call: CallId, participant: ParticipantId, mute: Mute },
    /// `POST …/calls/{call}/playPrompt`
    PlayPrompt { call: CallId, play: PlayPrompt },
    /// `POST …/calls/{call}/cancelMediaProcessing`
    CancelMedia { call: CallId, cancel: CancelMedia },
    /// `POST …/calls/{call}/participants/invite`
    Invite { call: CallId, invite: Invite },
    /// `POST /communications/prompts/purge`
    PurgePrompts { prompt: Option<Prompt> },
    /// `GET /communications/notifications/undelivered`
    ListUndelivered { query: Query },
    /// `GET …/notifications/undelivered/{notification}`
    GetUndelivered { notification: NotificationId, query: Query },
    /// `DELETE …/notifications/undelivered/{notification}`
    DropUndelivered { notification: NotificationId },
    /// `POST …/notifications/undelivered/{notification}/redeliver`
    Redeliver { notification: NotificationId },
    /// `POST /communications/notifications/redeliver`
    RedeliverAll,
    /// `GET …/calls/{call}/operations`
    ListOperations { call: CallId, query: Query },
    /// `GET …/calls/{call}/operations/{operation}`
    GetOperation { call: CallId, operation: OperationId, query: Query },
    /// `POST /communications/prompts/check`, which the door does itself: leave for it.
    CheckPrompt,
    /// What the door cannot read. It counts as a request, and this is its answer.
    Refused(Refusal),
}

impl Ask {
    /// Whether more is to be done because of it than before, so that it must be durable; what ends or tells something is
    /// done all the same.
    pub(crate) fn is_new_work(&self) -> bool {
        match self {
            Self::CreateCall(_)
            | Self::CreateParticipant { .. }
            | Self::PutMediaLeg { .. }
            | Self::StartHoldMusic { .. }
            | Self::PlayPrompt { .. }
            | Self::Invite { .. }
            | Self::Whep { ask: WhepAsk::Open(..), .. } => true,
            Self::ListCalls { .. }
            | Self::Overview { .. }
            | Self::GetCall { .. }
            | Self::DeleteCall { .. }
            | Self::KeepAlive { .. }
            | Self::ListParticipants { .. }
            | Self::GetParticipant { .. }
            | Self::DeleteParticipant { .. }
            | Self::GetMediaLeg { .. }
            | Self::DeleteMediaLeg { .. }
            | Self::Whep { .. }
            | Self::StopHoldMusic { .. }
            | Self::MuteCall { .. }
            | Self::MuteParticipant { .. }
            | Self::CancelMedia { .. }
            | Self::PurgePrompts { .. }
            | Self::ListUndelivered { .. }
            | Self::GetUndelivered { .. }
            | Self::DropUndelivered { .. }
            | Self::Redeliver { .. }
            | Self::RedeliverAll
            | Self::ListOperations { .. }
            | Self::GetOperation { .. }
            | Self::CheckPrompt
            | Self::Refused(_) => false,
        }
    }

    /// The call that is asked about.
    pub(crate) fn call(&self) -> Option<CallId> {
        match self {
            Self::GetCall { call, .. }
            | Self::DeleteCall { call }
            | Self::KeepAlive { call }
            | Self::CreateParticipant { call, .. }
            | Self::ListParticipants { call, .. }
            | Self::GetParticipant { call, .. }
            | Self::DeleteParticipant { call, .. }
            | Self::PutMediaLeg { call, .. }
            | Self::GetMediaLeg { call, .. }
            | Self::DeleteMediaLeg { call, .. }
            | Self::Whep { call, .. }
            | Self::StartHoldMusic { call, .. }
            | Self::StopHoldMusic { call, .. }
            | Self::MuteCall { call, .. }
            | Self::MuteParticipant { call, .. }
            | Self::PlayPrompt { call, .. }
            | Self::CancelMedia { call, .. }
            | Self::Invite { call, .. }
            | Self::ListOperations { call, .. }
            | Self::GetOperation { call, .. } => Some(*call),
            Self::CreateCall(_)
            | Self::ListCalls { .. }
            | Self::Overview { .. }
            | Self::ListUndelivered { .. }
            | Self::GetUndelivered { .. }
            | Self::DropUndelivered { .. }
            | Self::Redeliver { .. }
            | Self::RedeliverAll
            | Self::PurgePrompts { .. }
            | Self::CheckPrompt
            | Self::Refused(_) => None,
        }
    }
}

/// The body of `POST calls`.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateCall {
    /// Where notifications go.
    pub callback: Url,
    /// `holdMusic`: what differs from the server's rules.
    pub hold: HoldOverrides,
    /// `mediaConfig.preFetchMedia`: prompts that shall be ready when they are asked for.
    pub prefetch: Vec<Prompt>,
    /// Members of Graph's call that are given back as they came: an object in JSON.
    pub echo: Option<Box<str>>,
}

/// `call.holdMusic`: the members that were given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HoldOverrides {
    /// See [`HoldRules::max_held`].
    pub max_held: Option<usize>,
    /// Default music of this call.
    pub default_prompt: Option<Prompt>,
    /// See [`HoldRules::on_prompt_failure`].
    pub on_prompt_failure: Option<crate::call::OnPromptFailure>,
    /// See [`HoldRules::completes_when`].
    pub completes_when: Option<crate::call::CompletesWhen>,
    /// See [`HoldRules::status_case`].
    pub status_case: Option<crate::graph::StatusCase>,
    /// See [`HoldRules::max_duration`].
    pub max_duration: Option<std::time::Duration>,
}

impl HoldOverrides {
    /// The server's rules with these members in place of theirs.
    pub fn over(&self, server: &HoldRules) -> HoldRules {
        HoldRules {
            max_held: self.max_held.unwrap_or(server.max_held),
            on_prompt_failure: self.on_prompt_failure.unwrap_or(server.on_prompt_failure),
            completes_when: self.completes_when.unwrap_or(server.completes_when),
            status_case: self.status_case.unwrap_or(server.status_case),
            max_duration: self.max_duration.or(server.max_duration),
        }
    }
}

/// The body of `POST participants`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CreateParticipant {
    /// `mediaLeg`, if one is registered at once.
    pub offer: Option<MediaOffer>,
    /// `info` as it came: an object in JSON.
    pub info: Option<Box<str>>,
    /// `metadata` as it came.
    pub metadata: Option<Box<str>>,
}

/// The body of `startHoldMusic`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StartHoldMusic {
    /// `customPrompt`; none means default music.
    pub prompt: Option<Prompt>,
    /// `clientContext`, at most 256 characters.
    pub client_context: Option<Box<str>>,
    /// `holdMusic.rtpState`: the numbering with which this hold begins.
    pub rtp_state: Option<StateOffer>,
}

/// The body of `stopHoldMusic`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopHoldMusic {
    /// `clientContext`, at most 256 characters.
    pub client_context: Option<Box<str>>,
}

/// The body of `mute` and `unmute`, and which of both it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mute {
    /// Whether to mute.
    pub muted: bool,
    /// `clientContext`, at most 256 characters.
    pub client_context: Option<Box<str>>,
}

/// The body of `playPrompt`.
#[derive(Clone, Debug, PartialEq)]
pub struct PlayPrompt {
    /// `prompts`, at least one, in order.
    pub prompts: Vec<Prompt>,
    /// `clientContext`, at most 256 characters.
    pub client_context: Option<Box<str>>,
    /// `holdMusic.participants`: who is to hear them; none named is everybody.
    pub audience: Vec<ParticipantId>,
}

/// The body of `cancelMediaProcessing`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CancelMedia {
    /// `clientContext`, at most 256 characters.
    pub client_context: Option<Box<str>>,
    /// `holdMusic.stop`: whether holds are meant too.
    pub stop_holds: bool,
}

/// The body of `participants/invite`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    /// `participants`: the `identity` of each, an object in JSON.
    pub identities: Vec<Box<str>>,
    /// `clientContext`, at most 256 characters.
    pub client_context: Option<Box<str>>,
}
