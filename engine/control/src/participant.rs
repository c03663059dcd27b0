//! A participant: talking or held, and the leg it has. The life of a hold is decided in `hold.rs`; this is what
//! it consists of.

use std::net::{IpAddr, SocketAddr};

use holdmusic_media::{HoldReport, LegId, LegSpec, MediaTime, Numbering, SourceId, WallTime};
use serde_json::{Map, Value};

use crate::id::{OperationId, ParticipantId};

/// Whose music it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// What the customer asked for.
    CustomPrompt,
    /// What is played instead, or when nothing was asked for.
    DefaultMusic,
}

/// What ended a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedBy {
    /// stopHoldMusic.
    Stop,
    /// The participant or its leg was removed.
    Removed,
    /// The call was deleted or its lifetime passed.
    CallEnded,
    /// The longest duration that the call allows.
    MaxDuration,
    /// Nobody listens at the destination.
    Unreachable,
    /// The receiver said RTCP BYE.
    Bye,
    /// The prompt failed and the call wants no default music instead.
    PromptFailed,
}

/// The media path of a participant, as negotiated.
#[derive(Clone, Debug)]
pub(crate) struct Leg {
    pub(crate) id: LegId,
    /// What media was told, or will be once the leg can receive.
    pub(crate) spec: LegSpec,
    /// Where we send from, as peers see it.
    pub(crate) local: SocketAddr,
    /// Whether the peer wants to hear anything.
    pub(crate) receives: bool,
    /// Whether media knows the leg.
    pub(crate) added: bool,
    /// The answer to its SDP offer, if there was one.
    pub(crate) answer: Option<String>,
    /// Session id and version of our SDP (RFC 8866 section 5.2).
    pub(crate) session: (u64, u64),
}

impl Leg {
    /// Whether `address` is of the same family as the socket it is sent from.
    pub(crate) fn reaches(&self, address: IpAddr) -> bool {
        self.local.is_ipv4() == address.is_ipv4()
    }
}

/// What a hold was asked to play.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// The default music of the call.
    Default,
    /// A custom prompt; its source may have failed since.
    Prompt(SourceId),
}

/// One participant being on hold.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    /// When the request that began it was accepted.
    pub(crate) began: MediaTime,
    /// The same on the calendar, until the first packet; then its moment.
    pub(crate) since: WallTime,
    /// The operations that asked for the present music, oldest first. The first of a hold began it.
    pub(crate) operations: Vec<OperationId>,
    /// The operation that began the hold.
    pub(crate) begun_by: OperationId,
    /// What was asked for last.
    pub(crate) wish: Wish,
    /// The source that this hold listens to: the wish's, or the call's own default prompt.
    pub(crate) listens: Option<SourceId>,
    /// What media was told to play last; `None` during the grace time.
    pub(crate) playing: Option<SourceId>,
    /// What the last packet that we know of belonged to; `None` before the first.
    pub(crate) heard: Option<SourceId>,
    /// Until when a slow prompt is waited for in silence.
    pub(crate) grace: Option<MediaTime>,
    /// When the longest duration is over.
    pub(crate) ends: Option<MediaTime>,
    /// The numbering that its first packet shall carry, if the customer said so.
    pub(crate) numbering: Option<Numbering>,
    /// Why a prompt of this hold is not heard.
    pub(crate) reason: Option<String>,
    /// What the sender told last.
    pub(crate) report: Option<HoldReport>,
}

/// How the last hold of a participant ended.
#[derive(Clone, Debug)]
pub(crate) struct PastHold {
    pub(crate) operation: OperationId,
    pub(crate) ended_by: EndedBy,
    pub(crate) heard: Option<Heard>,
    pub(crate) since: WallTime,
    pub(crate) reason: Option<String>,
    pub(crate) report: Option<HoldReport>,
}

/// Somebody in a call.
#[derive(Clone, Debug)]
pub(crate) struct Participant {
    pub(crate) id: ParticipantId,
    /// Order of registration within the call.
    pub(crate) number: u64,
    pub(crate) info: Option<Map<String, Value>>,
    pub(crate) metadata: Option<String>,
    pub(crate) leg: Option<Leg>,
    pub(crate) hold: Option<Hold>,
    pub(crate) past: Option<PastHold>,
}
