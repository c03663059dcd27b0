//! A leg: one participant's outgoing media path. It holds a position in a ring, a numbering and a destination.

mod follower;
mod report;
mod security;
mod spec;

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use holdmusic_codecs::Codec;

use crate::{
    SourceId,
    announcement::{Announcement, AnnouncementId, Announcements},
    bridge::Bridge,
    keys::Protection,
    packetizer::Packetizer,
    ring::{At, Reader},
    rtcp::{self, SenderFacts},
    rtp::{HEADER_LEN, Ssrc, Timestamp},
    time::{ClockRate, Grid, MediaTime, Now, Tick, WallTime},
};

pub use follower::MAX_FOLLOWERS;
pub use report::{HoldReport, LATE_NS, Quality};
pub use spec::{Cname, LegId, LegSpec, Numbering, RtpState};

use follower::Company;
pub(crate) use security::Security;

/// What a leg plays.
#[derive(Debug)]
pub struct Music {
    /// Whose frames these are.
    pub source: SourceId,
    /// Where they are read.
    pub reader: Reader,
    /// Whether it is the default music, for the report.
    pub is_default: bool,
}

/// A leg at work.
#[derive(Debug)]
pub(crate) struct Leg {
    pub(crate) id: LegId,
    /// Where RTP goes.
    pub(crate) destination: SocketAddr,
    /// Where RTCP goes.
    pub(crate) rtcp: Option<SocketAddr>,
    cname: Cname,
    packetizer: Packetizer,
    security: Security,
    /// Up to where keys were used that may come again, while others count from the beginning: roll-over counter, sequence
    /// number, SRTCP index.
    spent: (u32, u16, u32),
    /// By which its peer is known besides our own.
    pub(crate) peer: Option<Ssrc>,
    /// When the peer was found at another address last.
    latched_at: Option<MediaTime>,
    hold: Option<Hold>,
    /// Who follows it, or whom it follows. A box, since few legs have any.
    company: Option<Box<Company>>,
    /// Packets and payload bytes of all holds, for sender reports.
    /// They wrap round, as sender reports want it (RFC 3550 section 6.4.1).
    packets: u32,
    payload_bytes: u32,
    /// When the next sender report is due; `None` between holds.
    report_due: Option<MediaTime>,
    /// Who reports about us, and from where; it may say goodbye.
    pub(crate) listener: Option<(Ssrc, SocketAddr)>,
    /// When a receiver reported last, in this hold or at its beginning; `None` if none ever did.
    heard_at: Option<MediaTime>,
    /// First and last "port unreachable" in a row.
    pub(crate) unreachable: Option<(MediaTime, MediaTime)>,
}

/// A leg goes to another address once a second at most, so that two peers who both have its name cost little.
const LATCH_PAUSE: Duration = Duration::from_secs(1);

/// Frames between the wish for a bridge and the change: time for a producer to make it. 160 ms (80 in short ones); making one
/// takes 3 ms.
const BRIDGE_LEAD: u64 = 8;

/// A hold at work.
#[derive(Debug)]
pub(crate) struct Hold {
    music: Music,
    /// Whether there is no music, only what is announced: then nothing is sent between announcements.
    only_announced: bool,
    /// What is heard in place of the music, which goes on unheard. A box, since few legs have one.
    announcements: Option<Box<Announcements>>,
    /// What is played in place of the music's first frames, after a change.
    bridge: Option<Bridge>,
    /// The change that is to come.
    change: Option<Box<Change>>,
    /// Whether the music is in another codec than the leg, which was negotiated anew: then nothing of it is sent.
    recoded: bool,
    /// The tick of its first packet: before it the leg's slot is not the leg's.
    first: Tick,
    /// The tick at which position 0 of the music stands; `None` until its first packet has left. It wraps round: what
    /// a window holds may have begun before the clock did.
    origin: Option<Tick>,
    /// Whether it has been told that the music's first packet has left.
    told: bool,
    /// Whether it has been told that the receiver said goodbye.
    said_goodbye: bool,
    slot: u8,
    last: Option<Tick>,
    report: HoldReport,
}

/// A change of music that waits for its bridge, or for its time. When that has come, it carries the old music away: a box
/// of its own, since few legs have one.
#[derive(Debug)]
struct Change {
    to: Music,
    /// The position at which the old music is left.
    at: u64,
    bridge: Option<Bridge>,
}

/// A change that a producer is asked to make a bridge for.
#[derive(Clone, Debug)]
pub struct Crossing {
    /// What plays now.
    pub from: Reader,
    /// The position in it at which it is left.
    pub at: u64,
    /// What shall play then.
    pub to: Reader,
    /// Whose frames those are.
    pub source: SourceId,
    /// What both are encoded with.
    pub codec: Codec,
}

/// What [`Leg::fill`] made of a tick.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filled {
    /// Bytes of header and payload.
    pub(crate) len: usize,
    /// Bytes of the datagram, once it is protected.
    pub(crate) sealed_len: usize,
    /// Whether the ring had no frame, and a packet without sound keeps the stream alive.
    pub(crate) starved: bool,
    /// The position in the music that was read.
    position: u64,
    /// Where the packet carries an announcement instead of the music: whether the music has a frame to go on with beneath.
    beneath: Option<bool>,
}

/// What [`Leg::sent`] found out.
pub(crate) struct Sent {
    /// Ticks left out before this packet.
    pub(crate) skipped: u32,
    /// The time since the packet before it in this hold, in nanoseconds; 0 if there was none.
    pub(crate) gap_ns: u64,
    /// The music whose first packet this was.
    pub(crate) began: Option<SourceId>,
    /// The announcement whose last packet this was.
    pub(crate) announced: Option<AnnouncementId>,
    /// What was left with this packet.
    pub(crate) left: Option<Left>,
}

/// What a leg has no use for any more. Dropping it may free a whole ring, so it is to be dropped elsewhere.
#[derive(Debug, Default)]
#[expect(dead_code, reason = "held only to be dropped elsewhere")]
pub(crate) struct Left {
    music: Option<Music>,
    /// A change that will not be, or one that was: then what was left is in it.
    change: Option<Box<Change>>,
    bridge: Option<Bridge>,
    announcement: Option<Announcement>,
    announcements: Option<Box<Announcements>>,
}

impl Left {
    /// The bridges in it.
    #[cfg(test)]
    pub(crate) fn bridges(&self) -> impl Iterator<Item = &Bridge> {
        self.bridge.iter().chain(self.change.iter().flat_map(|change| &change.bridge))
    }

    fn bridge(bridge: Option<Bridge>) -> Option<Self> {
        bridge.map(|bridge| Self { bridge: Some(bridge), ..Self::default() })
    }
}

impl Leg {
    pub(crate) fn new(id: LegId, spec: &LegSpec) -> Self {
        let mut leg = Self {
            id,
            destination: spec.destination,
            rtcp: spec.rtcp,
            cname: spec.cname,
            peer: believable(spec),
            latched_at: None,
            packetizer: Packetizer::new(spec.codec, spec.payload_type, spec.numbering),
            security: Security::Plain,
            spent: (0, 0, 0),
            hold: None,
            company: None,
            packets: 0,
            payload_bytes: 0,
            report_due: None,
            listener: None,
            heard_at: None,
            unreachable: None,
        };
        leg.secure(spec, true);
        leg
    }

    /// Where its datagrams go: RTP, and RTCP if that is elsewhere.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = SocketAddr> + use<> {
        let destination = self.destination;
        std::iter::once(destination).chain(self.rtcp.filter(move |rtcp| *rtcp != destination))
    }

    /// What receivers call it, and from which host.
    pub(crate) fn reported_as(&self) -> (Ssrc, IpAddr) {
        (self.packetizer.ssrc(), self.rtcp.unwrap_or(self.destination).ip())
    }

    /// What its payload is.
    pub(crate) fn codec(&self) -> Codec {
        self.packetizer.codec()
    }

    /// The slot in which it plays.
    pub(crate) fn slot(&self) -> Option<u8> {
        self.hold.as_ref().map(|hold| hold.slot)
    }

    /// The tick from which on it plays, and its slot; `None` if it does not play.
    pub(crate) fn plays_from(&self) -> Option<(Tick, u8)> {
        self.hold.as_ref().map(|hold| (hold.first, hold.slot))
    }

    /// Begins a hold: its first packet is due at `due`, in `slot` of `first`. The music begins with it, or goes on as if
    /// its first frame had been due at `since`, a tick of 20 ms.
    pub(crate) fn begin(
        &mut self,
        music: Music,
        since: Option<Tick>,
        (first, slot, due): (Tick, u8, MediaTime),
        random: u64,
    ) {
        let origin = since.map(|since| self.own_tick(since));
        self.packetizer.begin(first, due);
        // Between holds there is nothing to report about.
        self.heard_at = self.heard_at.map(|_| due);
        self.report_due = Some(rtcp::next_report(due, true, random));
        self.unreachable = None;
        self.hold = Some(Hold {
            music,
            only_announced: false,
            announcements: None,
            bridge: None,
            change: None,
            recoded: false,
            first,
            origin,
            told: false,
            said_goodbye: false,
            slot,
            last: None,
            report: HoldReport::default(),
        });
    }

    /// Plays other music: from the next packet on if the old one has not been heard yet or is not heard now, otherwise
    /// after a bridge, for which a producer is to be asked. What has become useless comes back, to be dropped elsewhere.
    /// The leg plays. If all it had was announcements, a hold begins, whose music may go on from `since`. If it has another
    /// codec since the music was given to it, this is music in that codec, and at once: the same music goes on in its place.
    pub(crate) fn change(&mut self, to: Music, since: Option<Tick>) -> (Option<Crossing>, Option<Left>) {
        let codec = self.codec();
        let origin = since.map(|since| self.own_tick(since));
        let hold = self.hold.as_mut().expect("a leg that plays");
        let begins = std::mem::take(&mut hold.only_announced);
        if begins {
            hold.report = HoldReport::default();
            hold.said_goodbye = false;
        }
        let unheard = hold.announcements.as_ref().is_some_and(|announcements| !announcements.is_empty());
        let recoded = std::mem::take(&mut hold.recoded);
        let Some(last) = hold.last.filter(|_| hold.origin.is_some() && !unheard && !recoded) else {
            hold.told = false;
            let goes_on = recoded && !begins && hold.music.source == to.source;
            hold.origin = if goes_on { hold.origin } else { origin.filter(|_| begins) };
            let music = std::mem::replace(&mut hold.music, to);
            let (change, bridge) = (hold.change.take(), hold.bridge.take());
            return (None, Some(Left { music: Some(music), change, bridge, ..Left::default() }));
        };
        let at = hold.position(last).wrapping_add(1 + BRIDGE_LEAD);
        let crossing =
            Crossing { from: hold.music.reader.clone(), at, to: to.reader.clone(), source: to.source, codec };
        let before = hold.change.replace(Box::new(Change { to, at, bridge: None }));
        (Some(crossing), before.map(|change| Left { change: Some(change), ..Left::default() }))
    }

    fn own_tick(&self, tick: Tick) -> Tick {
        Tick(Grid::USUAL.convert(tick.0, Grid::of(self.codec())))
    }

    /// Plays `announcement` behind those that wait already, in place of the music.
    pub(crate) fn announce(&mut self, announcement: Announcement) {
        let hold = self.hold.as_mut().expect("a leg that plays");
        hold.announcements.get_or_insert_default().push(announcement);
    }

    /// From now on nothing but announcements is played: there is no hold.
    pub(crate) fn only_announce(&mut self) {
        self.hold.as_mut().expect("a leg that plays").only_announced = true;
    }

    /// Nothing is announced any more: the music is heard again, if there is some.
    pub(crate) fn hush(&mut self) -> Option<Left> {
        let hold = self.hold.as_mut()?;
        let announcements = hold.announcements.take()?;
        if hold.only_announced {
            self.packetizer.pause();
        }
        Some(Left { announcements: Some(announcements), ..Left::default() })
    }

    /// The bridge to `source` is made, or cannot be made: then the change is a plain switch at the next packet.
    pub(crate) fn bridged(&mut self, source: SourceId, bridge: Option<Bridge>) -> Option<Left> {
        let waits = |change: &&mut Box<Change>| change.to.source == source;
        let codec = self.codec();
        let Some(hold) = &mut self.hold else { return Left::bridge(bridge) };
        if bridge.as_ref().is_some_and(|bridge| bridge.codec != codec) {
            // It was wanted before the leg was negotiated anew.
            return Left::bridge(bridge);
        }
        let Some(change) = hold.change.as_mut().filter(waits) else { return Left::bridge(bridge) };
        match bridge {
            Some(bridge) => Left::bridge(change.bridge.replace(bridge)),
            None => hold.switch_plainly(),
        }
    }

    /// Ends the hold: its report, and what is left of it to be dropped elsewhere.
    pub(crate) fn end(&mut self) -> Option<(HoldReport, Hold)> {
        let hold = self.hold.take()?;
        self.packetizer.end();
        self.report_due = None;
        Some((hold.report, hold))
    }

    /// What the next packet will carry.
    pub(crate) fn next(&self) -> Numbering {
        self.packetizer.next()
    }

    /// Goes on with a numbering that was handed over.
    pub(crate) fn renumber(&mut self, mut numbering: Numbering) {
        let next = self.packetizer.next();
        if self.is_protected() && numbering.ssrc == next.ssrc {
            // Who counted these may not know of what has been sent since, and no index may come twice with one key.
            let index = |numbering: &Numbering| (numbering.rollover_counter, numbering.sequence.0);
            if index(&numbering) < index(&next) {
                (numbering.rollover_counter, numbering.sequence) = (next.rollover_counter, next.sequence);
            }
            numbering.srtcp_index = numbering.srtcp_index.max(next.srtcp_index);
        }
        self.packetizer.renumber(numbering);
    }

    /// Goes on to another destination, or with another codec, payload type or protection; the numbering stays. What is
    /// left is to be dropped elsewhere. In another codec nothing is heard before [`Leg::change`] gives it music in that
    /// codec; nothing of the old one is sent.
    pub(crate) fn renegotiate(&mut self, spec: &LegSpec) -> (Option<Security>, Option<Left>) {
        let before = self.codec();
        let recoded = spec.codec != before;
        self.recount(before, spec.codec);
        self.packetizer.renegotiate(spec.codec, spec.payload_type);
        self.destination = spec.destination;
        self.rtcp = spec.rtcp;
        self.peer = believable(spec);
        self.unreachable = None;
        let left = if recoded { self.silence() } else { None };
        (self.secure(spec, false), left)
    }

    /// Its hold counts in the ticks of another codec from the next packet on.
    fn recount(&mut self, before: Codec, codec: Codec) {
        let (old, new) = (Grid::of(before), Grid::of(codec));
        let Some(next) = self.packetizer.next_due().filter(|_| old != new) else { return };
        let Some(hold) = &mut self.hold else { return };
        let (tick, next) = (old.tick_at(next), new.tick_at(next));
        let convert = |ticks: u64| old.convert(ticks, new);
        let before = |earlier: Tick| Tick(next.0.wrapping_sub(convert(tick.0.wrapping_sub(earlier.0))));
        hold.origin = hold.origin.map(before);
        hold.last = hold.last.map(|last| Tick(before(last.next()).0.saturating_sub(1)));
        hold.first = next;
    }

    /// Moves to another slot in the middle of a hold.
    pub(crate) fn take_slot(&mut self, slot: u8) {
        if let Some(hold) = &mut self.hold {
            hold.slot = slot;
        }
    }

    /// When its next packet is due, unless ticks are left out; `None` if it does not play.
    pub(crate) fn next_due(&self) -> Option<MediaTime> {
        self.packetizer.next_due().filter(|_| self.hold.is_some())
    }

    /// What it plays is in another codec than the leg: what was to come of it is given up.
    fn silence(&mut self) -> Option<Left> {
        let hold = self.hold.as_mut()?;
        hold.recoded = true;
        let (change, bridge) = (hold.change.take(), hold.bridge.take());
        let left = self.hush().unwrap_or_default();
        Some(Left { change, bridge, ..left })
    }

    /// The peer has proved to be at another address. Whether that is to be told: once a second at most.
    pub(crate) fn take_latch(&mut self, now: MediaTime) -> bool {
        let told = self.latched_at.is_some_and(|at| now.since(at) < LATCH_PAUSE);
        if !told {
            self.latched_at = Some(now);
        }
        !told
    }

    /// The receiver has said goodbye. Whether that is to be told: once a hold, or once in all if it follows another leg.
    pub(crate) fn take_goodbye(&mut self) -> bool {
        let said = match &mut self.hold {
            Some(hold) => Some(&mut hold.said_goodbye),
            None => self.following_mut().map(|following| &mut following.said_goodbye),
        };
        said.is_some_and(|said| !std::mem::replace(said, true))
    }

    /// Whether there is a hold that is heard here.
    pub(crate) fn is_sending(&self) -> bool {
        self.hold.is_some() || self.copies_since().is_some()
    }

    /// Writes the packet of `tick` into `datagram`; nothing changes until [`Leg::sent`]. `None` if it does not play
    /// then, or not yet.
    pub(crate) fn fill(&self, tick: Tick, datagram: &mut [u8]) -> Option<Filled> {
        let awaits = self.awaits_keys();
        let hold = self.hold.as_ref().filter(|hold| !awaits && hold.first <= tick)?;
        let (header, payload) = datagram.split_first_chunk_mut::<HEADER_LEN>()?;
        self.packetizer.header(tick).write(header);
        let mut position = hold.position(tick);
        let announced = hold.announcements.as_ref().and_then(|announcements| announcements.due(tick));
        if let Some((reader, at)) = announced {
            let (payload_len, starved) = match reader.at(at, payload) {
                At::Frame(len) => (len, false),
                At::NotYet | At::Gone => (write_nothing(self.codec(), payload)?, true),
            };
            let beneath = !hold.only_announced && hold.music.reader.at(position, &mut []) != At::NotYet;
            let len = HEADER_LEN + payload_len;
            return Some(Filled { len, sealed_len: len, starved, position, beneath: Some(beneath) });
        }
        if hold.only_announced {
            return None;
        }
        if hold.recoded {
            let len = HEADER_LEN + write_nothing(self.codec(), payload)?;
            return Some(Filled { len, sealed_len: len, starved: true, position, beneath: None });
        }
        let bridge = hold.bridge.as_ref().filter(|bridge| position < bridge.frames);
        let reader = bridge.map_or(&hold.music.reader, |bridge| &bridge.reader);
        let mut read = reader.at(position, payload);
        if read == At::NotYet && position > 0 && !hold.told {
            // It was to go on from a place that is not there yet; from its beginning it can be heard at once.
            position = 0;
            read = reader.at(position, payload);
        }
        if read == At::Gone {
            // The frames between are lost; sequence and timestamp know nothing of it.
            let rejoined = reader.rejoin();
            read = reader.at(rejoined, payload);
            if read != At::Gone {
                position = rejoined;
            }
        }
        let (payload_len, starved) = match read {
            At::Frame(len) => (len, false),
            At::NotYet | At::Gone => (write_nothing(self.codec(), payload)?, true),
        };
        let len = HEADER_LEN + payload_len;
        Some(Filled { len, sealed_len: len, starved, position, beneath: None })
    }

    /// The packet of `tick`, due at `due`, has left at `sent_at`.
    pub(crate) fn sent(
        &mut self,
        tick: Tick,
        due: MediaTime,
        sent_at: MediaTime,
        filled: Filled,
    ) -> Option<Sent> {
        self.hold.as_ref()?;
        self.packetizer.sent(tick);
        let payload_bytes = self.count(filled);
        let frame_ms = u64::from(self.codec().frame_ms());
        let hold = self.hold.as_mut()?;
        let in_step = hold.origin.is_none() || filled.position == hold.position(tick);
        let goes_on = filled.beneath.unwrap_or(!filled.starved);
        let mut began = None;
        if goes_on {
            hold.origin = Some(Tick(tick.0.wrapping_sub(filled.position)));
            began = (!hold.told).then_some(hold.music.source);
            hold.told = true;
        } else {
            // The music waits for its producer; time does not.
            hold.origin = hold.origin.map(|origin| Tick(origin.0.wrapping_add(1)));
        }
        let skipped = hold.skipped_before(tick);
        hold.last = Some(tick);
        let report = &mut hold.report;
        let gap = report
            .last_sent
            .map_or(0, |last| u64::try_from(sent_at.since(last).as_nanos()).unwrap_or(u64::MAX));
        report.longest_gap_ns = report.longest_gap_ns.max(gap);
        report.packets += 1;
        report.payload_bytes += u64::from(payload_bytes);
        report.first_sent = report.first_sent.or(Some(sent_at));
        report.last_sent = Some(sent_at);
        report.late_ticks += u32::from(sent_at.since(due).as_nanos() > u128::from(LATE_NS));
        report.skipped_ticks = report.skipped_ticks.saturating_add(skipped);
        report.starved_ticks += u32::from(filled.starved);
        if hold.music.is_default && filled.beneath.is_none() {
            report.default_music_ms += frame_ms;
        }
        let mut left = if !goes_on || !in_step || filled.beneath.is_some() {
            // There is nothing to cross from, and the position to cross at may never come.
            hold.switch_plainly()
        } else if hold.change.as_ref().is_some_and(|change| hold.position(tick.next()) >= change.at) {
            hold.switch()
        } else {
            None
        };
        let announced = self.pass_announcement(tick, filled.starved, &mut left);
        Some(Sent { skipped, gap_ns: gap, began, announced, left })
    }

    /// One packet more, for sender reports; the bytes of its payload.
    fn count(&mut self, filled: Filled) -> u32 {
        let payload_bytes =
            u32::try_from(filled.len - HEADER_LEN).expect("a datagram is shorter than 64 KiB");
        self.packets = self.packets.wrapping_add(1);
        self.payload_bytes = self.payload_bytes.wrapping_add(payload_bytes);
        payload_bytes
    }

    /// The time of `tick` has passed for what is announced. The announcement that has ended, if one has; what it leaves
    /// is put into `left`.
    fn pass_announcement(
        &mut self,
        tick: Tick,
        starved: bool,
        left: &mut Option<Left>,
    ) -> Option<AnnouncementId> {
        let hold = self.hold.as_mut()?;
        let announcements = hold.announcements.as_mut()?;
        let ended = announcements.pass(tick, starved)?;
        if hold.only_announced && announcements.is_empty() {
            self.packetizer.pause();
        }
        let id = ended.id;
        left.get_or_insert_default().announcement = Some(ended);
        Some(id)
    }

    /// The network refused the packet of `tick`: it costs no number, and its time passes. An announcement may have ended.
    /// A protected one costs a number: should any of it have left all the same, its index is not used for another.
    pub(crate) fn refused(&mut self, tick: Tick) -> (Option<AnnouncementId>, Option<Left>) {
        if let Some(hold) = &mut self.hold {
            hold.report.skipped_ticks = hold.report.skipped_ticks.saturating_add(hold.skipped_before(tick));
            hold.report.send_errors += 1;
            hold.last = Some(tick);
        }
        if self.is_protected() {
            self.packetizer.pass_over();
        }
        let mut left = None;
        let announced = self.pass_announcement(tick, false, &mut left);
        (announced, left)
    }

    /// Writes a sender report into `datagram` if one is due at `due`, when the packet of `tick` leaves; its length.
    pub(crate) fn report(&self, now: Now, tick: Tick, due: MediaTime, datagram: &mut [u8]) -> Option<usize> {
        let due_at = self.report_due?;
        let first = match &self.hold {
            Some(hold) => hold.first,
            None => self.copies_since()?,
        };
        if due_at > due || first > tick || self.rtcp.is_none() || self.packets == 0 {
            return None;
        }
        let timestamp = self.packetizer.header(tick).timestamp;
        let len = rtcp::write_report(&self.facts(now.wall_at(due), timestamp, &self.cname.text()), datagram);
        (len > 0).then(|| self.seal_rtcp(len, datagram)).flatten()
    }

    /// A sender report has left; the next one is due after an interval drawn with `random`.
    pub(crate) fn reported(&mut self, due: MediaTime, random: u64) {
        self.report_due = Some(rtcp::next_report(due, false, random));
        self.packetizer.reported();
    }

    /// How the hold goes; `None` if it does not play.
    pub(crate) fn report_so_far(&self) -> Option<HoldReport> {
        self.hold.as_ref().map(|hold| hold.report)
    }

    /// Writes a goodbye into `datagram`; its length. `None` if the leg has never been heard: such a participant
    /// must not say goodbye (RFC 3550 section 6.3.7).
    pub(crate) fn goodbye(&mut self, now: Now, datagram: &mut [u8]) -> Option<usize> {
        if self.packets == 0 || self.rtcp.is_none() {
            return None;
        }
        let next = self.packetizer.next();
        let clock = ClockRate(self.codec().clock_rate());
        // `next.at` may be the packet interval that has begun: the timestamp of this moment is a little behind it.
        let timestamp = next
            .timestamp
            .after(clock.units(now.mono.since(next.at)))
            .after(clock.units(next.at.since(now.mono)).wrapping_neg());
        let len = rtcp::write_bye(&self.facts(now.wall, timestamp, &self.cname.text()), datagram);
        let len = (len > 0).then(|| self.seal_rtcp(len, datagram)).flatten();
        self.packetizer.reported();
        len
    }

    /// Whether who used to report has not for longer than `after`, which is told once.
    pub(crate) fn is_silent(&mut self, now: MediaTime, after: Duration) -> bool {
        self.heard_at.take_if(|heard| now.since(*heard) > after).is_some()
    }

    /// What a receiver says it hears.
    pub(crate) fn heard(&mut self, now: MediaTime, quality: Quality) {
        // A listener is there: whatever said "unreachable" before has passed.
        self.unreachable = None;
        self.heard_at = Some(now);
        if let Some(hold) = &mut self.hold {
            let round_trip_us = quality.round_trip_us.or(hold.report.quality.and_then(|q| q.round_trip_us));
            hold.report.quality = Some(Quality { round_trip_us, ..quality });
        }
    }

    fn facts<'a>(&self, wall: WallTime, timestamp: Timestamp, cname: &'a [u8]) -> SenderFacts<'a> {
        SenderFacts {
            ssrc: self.packetizer.ssrc(),
            wall,
            timestamp,
            packets: self.packets,
            payload_bytes: self.payload_bytes,
            cname,
        }
    }
}

/// By what its peer is known: on an encrypted leg by nothing, since what it sends is not authenticated here.
fn believable(spec: &LegSpec) -> Option<Ssrc> {
    spec.peer.filter(|_| spec.protection == Protection::Plain)
}

/// Writes the payload that keeps a stream alive without sound; its length.
fn write_nothing(codec: Codec, payload: &mut [u8]) -> Option<usize> {
    let nothing = codec.nothing();
    payload.get_mut(..nothing.len())?.copy_from_slice(nothing);
    Some(nothing.len())
}

impl Hold {
    /// The bridges in it.
    #[cfg(test)]
    pub(crate) fn bridges(&self) -> impl Iterator<Item = &Bridge> {
        self.bridge.iter().chain(self.change.iter().flat_map(|change| &change.bridge))
    }

    /// The position in the music at `tick`.
    fn position(&self, tick: Tick) -> u64 {
        self.origin.map_or(0, |origin| tick.0.wrapping_sub(origin.0))
    }

    /// Goes over to the music that waits, by its bridge and in step; without one, plainly.
    fn switch(&mut self) -> Option<Left> {
        if self.change.as_ref().is_none_or(|change| change.bridge.is_none()) {
            return self.switch_plainly();
        }
        let mut change = self.change.take()?;
        self.origin = self.origin.map(|origin| Tick(origin.0.wrapping_add(change.at)));
        self.told = false;
        std::mem::swap(&mut self.music, &mut change.to);
        std::mem::swap(&mut self.bridge, &mut change.bridge);
        Some(Left { change: Some(change), ..Left::default() })
    }

    /// Goes over to the music that waits, from its beginning at the next packet.
    fn switch_plainly(&mut self) -> Option<Left> {
        let mut change = self.change.take()?;
        self.origin = None;
        self.told = false;
        std::mem::swap(&mut self.music, &mut change.to);
        Some(Left { change: Some(change), bridge: self.bridge.take(), ..Left::default() })
    }

    /// Ticks that passed between the last one and `tick`.
    fn skipped_before(&self, tick: Tick) -> u32 {
        let skipped = self.last.map_or(0, |last| tick.0.saturating_sub(last.0 + 1));
        u32::try_from(skipped).unwrap_or(u32::MAX)
    }
}
