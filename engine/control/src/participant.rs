//! A participant: talking or held, and the leg it has. The life of a hold is decided in `hold.rs`; this is what
//! it consists of.

use std::{fmt, sync::Arc, time::Duration};

use holdmusic_codecs::Codec;
use holdmusic_media::{
    Grid, HoldReport, LegId, LegSpec, MediaTime, Numbering, Protection, SourceId, Tick, WallTime,
    protect::LAST_SRTCP_INDEX, time::ClockRate,
};
use smallvec::SmallVec;

use crate::{
    cause::PromptFailure,
    id::{GrantId, OperationId, ParticipantId},
    prompt::{DEFAULT_SOURCE, Prompt},
    transport::Transport,
};

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
    /// The engine was started again, and holds are not to go on then.
    Restart,
}

/// The media path of a participant, as negotiated.
#[derive(Clone, Debug)]
pub(crate) struct Leg {
    pub(crate) id: LegId,
    /// What media was told, or will be once the leg can receive.
    pub(crate) spec: LegSpec,
    /// How its peer is reached, where that is by ICE and DTLS.
    pub(crate) transport: Option<Box<Transport>>,
    /// Whether the peer wants to hear anything.
    pub(crate) receives: bool,
    /// Whether media knows the leg.
    pub(crate) added: bool,
    /// The answer to its SDP offer, if there was one.
    pub(crate) answer: Option<Box<SdpAnswer>>,
    /// Since when it may have sent more than the numbering of `spec` knows of; `None` if it has sent nothing since.
    pub(crate) sending: Option<Sending>,
    /// Whether media was told to play on it, and not to stop since.
    pub(crate) on_air: bool,
    /// Whether anything may have been sent on it.
    pub(crate) used: bool,
}

impl Leg {
    /// Whether its peer wants to hear something, and has not left for good.
    pub(crate) fn can_hear(&self) -> bool {
        self.receives && !self.transport.as_deref().is_some_and(Transport::is_over)
    }
}

/// Packets between two sender reports, at least: reports are a second apart or more (RFC 3550 section 6.2: half of the
/// first interval is the shortest), and 50 packets are a second of the longest.
const REPORT_PACKETS: u64 = 50;

/// A hold that was begun and lost before the store had it may have begun in the tick in which the one before ended.
const JUST_STOPPED: Duration = Duration::from_secs(1);

/// How long a change of a leg takes at most until media does it: that a desk waits so long for the processor has not been
/// seen.
const OBEYED: Duration = Duration::from_secs(2);

impl Leg {
    /// Numbers that the next packet can carry: past everything that it can have sent until `until`, and in the time `away`
    /// that came then, but in that no more than `most` packets.
    pub(crate) fn past_everything(&self, until: MediaTime, away: Duration, most: u64) -> Numbering {
        let numbering = self.spec.numbering;
        let codec = self.spec.codec;
        let ticks = |time: Duration| {
            u64::try_from(time.as_nanos() / u128::from(Grid::of(codec).tick_ns())).unwrap_or(u64::MAX)
        };
        let is_protected = self.spec.protection != Protection::Plain;
        let lived = ticks(away).min(most);
        let packets = match self.sending {
            // One packet a tick at most, and one more for each time that it began.
            Some(sending) => ticks(until.since(sending.since)) + 1 + lived + u64::from(sending.times),
            // A protected leg waits for the store before it sends.
            None if is_protected => 0,
            None => lived + 1,
        };
        // 48 bits of index go on as one number.
        let index = u64::from(numbering.rollover_counter) << 16 | u64::from(numbering.sequence.0);
        let index = (index + packets).min((1 << 48) - 1);
        let rollover_counter = (index >> 16) as u32;
        // One may have gone with each time that it began, and a goodbye with its end.
        let times = self.sending.map_or(0, |sending| sending.times);
        let reports = u32::try_from(packets / REPORT_PACKETS + u64::from(times) + 1).unwrap_or(u32::MAX);
        let srtcp_index = numbering.srtcp_index.saturating_add(reports).min(LAST_SRTCP_INDEX);
        // A hold that begins less than a tick after the one before has its timestamp a whole tick behind that, and so ahead
        // of the clock from then on.
        let ahead = match self.sending {
            Some(sending) => times - u32::from(times > 0 && sending.since >= numbering.at),
            None => u32::from(until.since(numbering.at) < JUST_STOPPED),
        };
        // In whole units from its own moment on, also where that is to come.
        let passed = (until + away).since(numbering.at);
        let timestamp = numbering.timestamp.after(ClockRate(codec.clock_rate()).units(passed));
        Numbering {
            ssrc: numbering.ssrc,
            sequence: numbering.sequence.after(packets),
            timestamp: timestamp.after(ahead.wrapping_mul(codec.timestamp_step())),
            at: (until + away).max(numbering.at),
            rollover_counter,
            srtcp_index,
        }
    }

    /// From `now` on it sends in `codec`, and so counts otherwise: what its numbering does not know of is counted by the codec
    /// that it still has.
    pub(crate) fn count_up(&mut self, now: MediaTime, codec: Codec) {
        if self.sending.is_some() {
            // Media may obey somewhat later, and send short packets until then.
            let longer = codec.frame_ms() > self.spec.codec.frame_ms();
            let sent = self.past_everything(now, if longer { OBEYED } else { Duration::ZERO }, u64::MAX);
            let Numbering { timestamp, at, .. } = self.past_everything(now, Duration::ZERO, 0);
            self.spec.numbering = Numbering { timestamp, at, ..sent };
            self.sending = Some(Sending { since: now, times: 1 });
        }
    }
}

/// How much a leg may have sent that its numbering does not know of: one packet a tick since then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sending {
    pub(crate) since: MediaTime,
    /// How often it was begun since: each time may be one packet more.
    pub(crate) times: u32,
}

/// What we answered to an SDP offer.
#[derive(Clone)]
pub(crate) struct SdpAnswer {
    pub(crate) text: Box<str>,
    /// Session id and version of it (RFC 8866 section 5.2).
    pub(crate) session: (u64, u64),
}

/// Without the text, which may have keys in it.
impl fmt::Debug for SdpAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SdpAnswer").field("session", &self.session).finish_non_exhaustive()
    }
}

/// One participant being on hold.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    /// When its music began, on the calendar; until the first packet, when the request was accepted.
    pub(crate) since: WallTime,
    /// The operations that asked for the present music, oldest first.
    pub(crate) operations: SmallVec<[OperationId; 1]>,
    /// An operation of this hold has kept its promise.
    pub(crate) kept: bool,
    /// What was asked for last; `None` is default music.
    pub(crate) asked: Option<Arc<Prompt>>,
    /// The source of what was asked for: until it fails, or for default music none if it is the built-in one.
    pub(crate) wants: Option<SourceId>,
    /// What media was told to play last; `None` during the grace time.
    pub(crate) playing: Option<SourceId>,
    /// What the last packet that we know of belonged to; `None` before the first.
    pub(crate) heard: Option<SourceId>,
    /// When the first packet of `heard` left.
    pub(crate) heard_at: MediaTime,
    /// The tick in which the first packet of `playing` left, on this leg or on the one before it; `None` until it has.
    pub(crate) playing_since: Option<Tick>,
    /// What played before the engine was started again, until that plays again.
    pub(crate) resume: Option<Resume>,
    /// Whether anything was heard before the engine was started again.
    pub(crate) was_heard: bool,
    /// Whose music `heard` is.
    pub(crate) kind: Option<Heard>,
    /// Until when a slow prompt is waited for in silence.
    pub(crate) grace: Option<MediaTime>,
    /// When the longest duration is over.
    pub(crate) ends: Option<MediaTime>,
    /// Whether its leg has got the numbering that the customer began this hold with.
    pub(crate) renumbered: bool,
    /// That numbering, until media is told to play.
    pub(crate) numbering: Option<Box<Numbering>>,
    /// Why what was asked for is not heard and will not be.
    pub(crate) failure: Option<Box<PromptFailure>>,
    /// Why a prompt of this hold is not heard, its default prompt included.
    pub(crate) reason: Option<Box<PromptFailure>>,
    /// What the sender told last.
    pub(crate) report: Option<HoldReport>,
}

/// What a hold played, and the tick in which that began: it goes on from where it would be now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resume {
    /// Whether it was what the hold wants, and not what is played instead.
    pub(crate) is_wanted: bool,
    pub(crate) since: Option<Tick>,
}

impl Hold {
    /// One that has not begun to play anything.
    pub(crate) fn new(since: WallTime, ends: Option<MediaTime>, numbering: Option<Box<Numbering>>) -> Self {
        Self {
            since,
            operations: SmallVec::new(),
            kept: false,
            asked: None,
            wants: None,
            playing: None,
            heard: None,
            heard_at: MediaTime::ZERO,
            playing_since: None,
            resume: None,
            was_heard: false,
            kind: None,
            grace: None,
            ends,
            renumbered: false,
            numbering,
            failure: None,
            reason: None,
            report: None,
        }
    }

    /// What it would go on with if the engine were started again now.
    pub(crate) fn resume(&self) -> Option<Resume> {
        match self.playing {
            None => self.resume,
            Some(playing) => {
                Some(Resume { is_wanted: self.wants_to_hear(playing), since: self.playing_since })
            }
        }
    }

    /// Whether `source` is what this hold wants, and not what is played instead.
    pub(crate) fn wants_to_hear(&self, source: SourceId) -> bool {
        match self.wants {
            Some(wants) => wants == source,
            None => self.failure.is_none() && source == DEFAULT_SOURCE,
        }
    }

    /// The sources whose end this hold must hear of.
    pub(crate) fn sources(&self) -> [Option<SourceId>; 2] {
        [self.wants, self.playing.filter(|playing| Some(*playing) != self.wants)]
            .map(|source| source.filter(|source| *source != DEFAULT_SOURCE))
    }
}

/// How the last hold of a participant ended.
#[derive(Clone, Debug)]
pub(crate) struct PastHold {
    pub(crate) operation: OperationId,
    pub(crate) ended_by: EndedBy,
    pub(crate) heard: Option<Heard>,
    pub(crate) since: WallTime,
    pub(crate) reason: Option<Box<PromptFailure>>,
    pub(crate) report: Option<HoldReport>,
    /// Whether the roster has yet to be told how it ended.
    pub(crate) untold: bool,
}

/// Somebody in a call.
#[derive(Clone, Debug)]
pub(crate) struct Participant {
    pub(crate) id: ParticipantId,
    /// Order of registration within the call.
    pub(crate) number: u64,
    /// `info` as it came, in JSON: as text it takes a tenth of the memory of a tree.
    pub(crate) info: Option<Box<str>>,
    pub(crate) metadata: Option<Box<str>>,
    pub(crate) leg: Option<Leg>,
    pub(crate) hold: Option<Box<Hold>>,
    /// Whether its leg plays for nothing but announcements.
    pub(crate) announcing: bool,
    /// Whether it has been muted.
    pub(crate) muted: bool,
    /// How many listen in on its leg.
    pub(crate) listeners: u8,
    /// The token of WHEP that its present leg was made with, if it was made with one. Tokens do not outlive the engine.
    pub(crate) opened_by: Option<GrantId>,
    pub(crate) past: Option<Box<PastHold>>,
}

impl Participant {
    /// One who talks and has no leg yet.
    pub(crate) fn new(
        id: ParticipantId,
        number: u64,
        info: Option<Box<str>>,
        metadata: Option<Box<str>>,
    ) -> Self {
        Self {
            id,
            number,
            info,
            metadata,
            leg: None,
            hold: None,
            announcing: false,
            muted: false,
            listeners: 0,
            opened_by: None,
            past: None,
        }
    }

    /// Whether it has a leg that can receive.
    pub(crate) fn can_hear(&self) -> bool {
        self.leg.as_ref().is_some_and(Leg::can_hear)
    }

    /// What the sender told last about the present hold, or else the past one.
    pub(crate) fn report(&self) -> Option<&HoldReport> {
        match (&self.hold, &self.past) {
            (Some(hold), _) => hold.report.as_ref(),
            (None, Some(past)) => past.report.as_ref(),
            (None, None) => None,
        }
    }
}
