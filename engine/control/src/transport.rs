//! The transport of a WebRTC leg: its peer is invited, comes by ICE and DTLS, moves, and goes.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use holdmusic_media::{Grid, Keying, LegId, MediaTime, Now, Protection};
use rand::Rng;

use crate::{
    Control, Output,
    id::{CallId, ParticipantId},
    negotiation::Secured,
    participant::{EndedBy, Leg, Sending},
};

/// What a WebRTC peer said of itself in its offer, as far as the lite side of ICE and the other side of DTLS need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerOffer {
    /// How it names itself in checks (RFC 8445 section 7.2.2).
    pub ufrag: String,
    /// Hash functions, as SDP names them, and what the peer's certificate has by each: one must be right.
    pub fingerprints: Vec<(&'static str, Box<[u8]>)>,
    /// Whether it waits for our first message of DTLS; otherwise we wait for its own.
    pub is_passive: bool,
}

/// What a peer names another by in a check, and the password with which that is proven (RFC 8445 section 5.3).
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    /// The name.
    pub ufrag: String,
    /// The password.
    pub pwd: String,
}

/// Characters of a name that we make, of 6 bits each. At least 24 bits have to be random; with 48 no two legs get the same.
const UFRAG_LEN: usize = 8;

/// Of a password: at least 128 bits (RFC 8445 section 5.3).
const PWD_LEN: usize = 24;

/// ice-char (RFC 8839 section 5.4).
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

impl IceCredentials {
    /// New ones.
    pub(crate) fn random(rng: &mut impl Rng) -> Self {
        let mut text = |len| {
            let digits = std::iter::repeat_with(|| char::from(ALPHABET[(rng.next_u32() >> 26) as usize]));
            digits.take(len).collect()
        };
        Self { ufrag: text(UFRAG_LEN), pwd: text(PWD_LEN) }
    }
}

/// Without the password.
impl fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceCredentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

/// Why a peer is not, or no longer, connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disconnection {
    /// It said so (close_notify).
    Closed,
    /// It has not asked for more within the time (RFC 7675).
    Silent,
    /// It never came.
    NoCheck,
    /// It came from an address that media may not be sent to.
    NotAllowed(IpAddr),
    /// ICE was done, and no DTLS came.
    NoHandshake,
    /// DTLS was begun and not finished in time.
    Unfinished,
    /// Its certificate is not the one of its offer.
    Stranger,
    /// It speaks DTLS and has no protection of RTP in common with us.
    NoSrtp,
    /// DTLS failed.
    Failed(String),
    /// There are more peers than may be.
    TooMany,
}

impl fmt::Display for Disconnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the peer has closed the connection"),
            Self::Silent => f.write_str("the peer no longer asks for media: its ICE checks have stopped"),
            Self::NoCheck => f.write_str("the peer has not connected: no ICE check came"),
            Self::NotAllowed(address) => write!(
                f,
                "the peer has not connected: its address {address} is not one that media may be sent to (--allow-media)"
            ),
            Self::NoHandshake => f.write_str("the peer has not connected: ICE checks came, and no DTLS"),
            Self::Unfinished => f.write_str("DTLS failed: the handshake was not finished in time"),
            Self::Stranger => {
                f.write_str("DTLS failed: the peer's certificate has none of the offer's fingerprints")
            }
            Self::NoSrtp => f.write_str("DTLS failed: the peer has no SRTP profile in common with us"),
            Self::Failed(words) => write!(f, "DTLS failed: {words}"),
            Self::TooMany => f.write_str("there are more WebRTC peers than this server takes"),
        }
    }
}

/// The transport of a WebRTC leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transport {
    /// What the peer calls us by.
    pub(crate) local: IceCredentials,
    /// What it offered.
    pub(crate) offer: PeerOffer,
    pub(crate) state: TransportState,
    /// Whether what it offered has come to nothing, and it is the offer before which is heard. Not kept over a restart.
    pub(crate) failed: bool,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TransportState {
    /// The peer is waited for. It may have been seen at an address that is not one that may be sent to.
    New { refused: Option<IpAddr> },
    /// It has been heard; keys are agreed on.
    Checking,
    /// It hears us there.
    Connected(SocketAddr),
    /// It does so no more, or never did.
    Disconnected(Disconnection),
}

impl Transport {
    /// One whose peer has yet to come.
    pub(crate) fn new(local: IceCredentials, offer: PeerOffer) -> Self {
        Self { local, offer, state: TransportState::New { refused: None }, failed: false }
    }

    /// Whether the peer hears us.
    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.state, TransportState::Connected(_))
    }

    /// Whether it will not hear us any more, unless its leg is negotiated anew.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, TransportState::Disconnected(_))
    }

    /// Why nothing can be heard there now; `None` if it can.
    pub(crate) fn why_silent(&self) -> Option<Disconnection> {
        match &self.state {
            TransportState::New { refused: None } => Some(Disconnection::NoCheck),
            TransportState::New { refused: Some(address) } => Some(Disconnection::NotAllowed(*address)),
            TransportState::Checking => Some(Disconnection::Unfinished),
            TransportState::Connected(_) => None,
            TransportState::Disconnected(why) => Some(why.clone()),
        }
    }
}

/// Packets by which a leg may have sent less than is counted, because some were left out (5 s of them), or because it goes
/// over to longer ones (2 s of short ones). A leg that has sent less still is one to which only announcements were made.
const JUST_ROUND: u16 = 256 + 200;

impl Leg {
    /// The counters of SRTP begin anew with new keys, at the next packet.
    pub(crate) fn begin_counters(&mut self, now: MediaTime, keying: &Keying) {
        let grid = Grid::of(self.spec.codec);
        let numbering = &mut self.spec.numbering;
        numbering.rollover_counter = keying.rollover_counter;
        numbering.srtcp_index = keying.srtcp_index;
        if let (Protection::Plain | Protection::Srtp(_), Some(sending)) =
            (&self.spec.protection, &mut self.sending)
        {
            // It has sent otherwise what the numbering does not know of: a packet a tick, and one each time it began.
            let ticks = grid.tick_at(now).0.saturating_sub(grid.tick_at(sending.since).0);
            numbering.sequence = numbering.sequence.after(ticks + u64::from(sending.times));
            *sending = Sending { since: now, times: 1 };
            // It may be that it comes round only now, with the new keys.
            numbering.rollover_counter += u32::from(numbering.sequence.0 < JUST_ROUND);
        }
    }
}

impl Control {
    /// The peer of a leg is waited for; or it was connected, before a restart, and need not come again.
    pub(crate) fn admit_peer(&mut self, leg: &Leg, resumed: Option<SocketAddr>) {
        let Some(transport) = leg.transport.as_deref().filter(|transport| !transport.is_over()) else {
            return;
        };
        self.outputs.push_back(Output::Admit {
            leg: leg.id,
            sender: leg.spec.sender,
            local: transport.local.clone(),
            offer: transport.offer.clone(),
            resumed,
        });
    }

    /// A leg is negotiated anew. The same names mean the same transport, and are tried again if they have come to nothing;
    /// others mean that ICE begins anew, and what there is is heard until that is done. Whether another peer is to be waited
    /// for.
    pub(crate) fn renew_transport(&mut self, leg: &mut Leg, secured: &Secured) -> bool {
        let before = leg.transport.take();
        let Secured::Dtls(offer) = secured else {
            self.outputs.extend(before.map(|_| Output::Dismiss { leg: leg.id }));
            return false;
        };
        let offer = offer.peer();
        let lives = |before: &Transport| !before.is_over() && !before.failed;
        if let Some(same) = before.as_ref().filter(|before| lives(before) && before.offer == offer) {
            leg.transport = Some(same.clone());
            return false;
        }
        let mut transport = Transport::new(IceCredentials::random(&mut self.rng), offer);
        if let Some(before) = before.filter(|before| before.is_connected()) {
            transport.state = before.state;
        }
        leg.transport = Some(Box::new(transport));
        true
    }

    /// The peer of a leg is heard; what it will be sent is yet to be agreed on. Or it was seen where it may not be.
    pub(crate) fn peer_seen(&mut self, leg: LegId, refused: Option<IpAddr>) {
        let transport = self.leg_mut(leg).and_then(|leg| leg.transport.as_deref_mut());
        let Some(transport) = transport else { return };
        if let TransportState::New { .. } = transport.state {
            transport.state = match refused {
                Some(_) => TransportState::New { refused },
                None => TransportState::Checking,
            };
        }
    }

    /// The peer of a leg can hear, or is elsewhere now.
    pub(crate) fn peer_connected(
        &mut self,
        now: Now,
        leg: LegId,
        destination: SocketAddr,
        keying: Option<Box<Keying>>,
    ) {
        let Some(entry) = self.leg_mut(leg) else { return };
        let Some(transport) = entry.transport.as_deref_mut().filter(|transport| !transport.is_over()) else {
            return;
        };
        transport.state = TransportState::Connected(destination);
        entry.spec.destination = destination;
        entry.spec.rtcp = entry.spec.rtcp.map(|_| destination);
        let mut specs = vec![];
        if let Some(keying) = keying {
            entry.begin_counters(now.mono, &keying);
            // Only keys that were awaited begin with their own counters, and another peer knows no older ones.
            if matches!(entry.spec.protection, Protection::Srtp(_)) {
                entry.spec.protection = Protection::Awaited;
                specs.push(entry.spec.clone());
            }
            entry.spec.protection = Protection::Srtp(keying);
        }
        specs.push(entry.spec.clone());
        if entry.added {
            self.outputs.extend(specs.into_iter().map(|spec| Output::ChangeLeg { leg, spec }));
        }
    }

    /// A leg by its name, of a participant or of somebody who listens in.
    pub(crate) fn leg_mut(&mut self, leg: LegId) -> Option<&mut Leg> {
        if let Some(key) = self.listening_legs.get(&leg) {
            return self.listeners.get_mut(key).map(|listening| &mut listening.leg);
        }
        let &(call, id) = self.legs.get(&leg)?;
        self.participant_mut(call, id)?.leg.as_mut()
    }

    /// The peer of a leg hears nothing any more, or never came: nothing is sent to it from now on.
    /// Unless it has been replaced by another that has yet to be admitted: then that one is waited for.
    pub(crate) fn peer_disconnected(&mut self, now: Now, leg: LegId, name: &str, why: Disconnection) {
        if self.end_listening_of(leg) {
            return;
        }
        let Some(entry) = self.leg_mut(leg) else { return };
        let Some(transport) = entry.transport.as_deref_mut().filter(|transport| !transport.is_over()) else {
            return;
        };
        if transport.local.ufrag != name && !transport.failed {
            if transport.is_connected() {
                transport.state = TransportState::New { refused: None };
                entry.count_up(now.mono, entry.spec.codec);
                entry.spec.protection = Protection::Awaited;
                let change = entry.added.then(|| entry.spec.clone());
                self.outputs.extend(change.map(|spec| Output::ChangeLeg { leg, spec }));
            }
            return;
        }
        let by = if why == Disconnection::Closed { EndedBy::Bye } else { EndedBy::Unreachable };
        transport.state = TransportState::Disconnected(why);
        // Its keys are of no use any more.
        entry.spec.protection = Protection::Awaited;
        let change = entry.added.then(|| entry.spec.clone());
        if let Some(&(call, id)) = self.legs.get(&leg) {
            self.end_hold(now, call, id, by, None);
            self.stop_announcing(now, call, id);
        }
        self.outputs.extend(change.map(|spec| Output::ChangeLeg { leg, spec }));
    }

    /// The peer that was invited last on a leg does not come; who is heard there goes on being heard.
    pub(crate) fn peer_not_replaced(&mut self, leg: LegId, name: &str) {
        let transport = self.leg_mut(leg).and_then(|leg| leg.transport.as_deref_mut());
        if let Some(transport) = transport.filter(|transport| transport.local.ufrag == name) {
            transport.failed = true;
        }
    }

    /// Why nothing can be heard on the leg of a participant now, if that is so.
    pub(crate) fn why_silent(&self, call: CallId, id: ParticipantId) -> Option<Disconnection> {
        let participant = self.calls.get(&call)?.participants.get(&id)?;
        participant.leg.as_ref()?.transport.as_deref()?.why_silent()
    }

    /// Whether the peer of a participant is gone, so that nothing that is begun now can be heard.
    pub(crate) fn is_peer_gone(&self, call: CallId, id: ParticipantId) -> bool {
        let participant = self.calls.get(&call).and_then(|call| call.participants.get(&id));
        let transport = participant
            .and_then(|participant| participant.leg.as_ref())
            .and_then(|leg| leg.transport.as_deref());
        transport.is_some_and(Transport::is_over)
    }
}
