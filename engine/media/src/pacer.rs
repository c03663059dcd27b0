//! [`Pacer`]: which legs are due at which moment, and everything that happens to them. A sender thread is a loop
//! around it: obey commands, [`Pacer::prepare`], wait, [`Pacer::send`], [`Pacer::settle`].
//!
//! Between waking and sending nothing is allocated, freed, locked or logged: datagrams are built before the wait,
//! and what a leg leaves behind goes out as an [`Event`], to be dropped elsewhere.

mod followers;
mod inbound;
mod trust;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crate::{
    SourceId,
    announcement::{Announcement, AnnouncementId},
    bridge::Bridge,
    leg::{Crossing, Filled, Hold, HoldReport, Left, Leg, LegId, LegSpec, Music, Numbering, Security},
    protect, rtcp,
    rtp::{HEADER_LEN, Ssrc},
    sink::{Batch, Sink},
    time::{Grid, MediaTime, Now, TICK_NS, Tick},
};

/// Slots in 20 ms. A leg that begins while nobody else plays waits for the next one, a quarter of a millisecond in the
/// middle. A leg with frames of 10 ms has two of them, half of the slots apart.
const SLOTS: usize = 40;

/// Every second slot is opened for those who begin while others play: they are spread over these, so that thousands of
/// packets do not leave in one burst, and each has a millisecond.
const SPREAD: usize = 2;

/// Nanoseconds in a slot: 0.5 ms.
const SLOT_NS: u64 = TICK_NS / SLOTS as u64;

/// A slot below this many legs takes more, whatever the others have. Each slot costs a wake-up and what it wakes to is
/// cold, so fewer, fuller ones are cheaper: with 1 000 legs by a fifth (measured). 128 packets take 0.6 ms of their 1 ms.
const SLOT_SHARE: usize = 128;

/// A starting leg looks at so many slots below their share for one that is served already, before it opens another: its
/// first packet waits some three milliseconds at most for company, and half of the slots stay empty until they are needed.
const SLOTS_NEAR: usize = 3;

/// The longest payload that a leg sends, in bytes: 1275, the longest Opus frame (RFC 6716 section 3.2.1), rounded up.
/// Uncompressed sound of 20 ms at 16 kHz takes 640.
const MAX_PAYLOAD: usize = 1280;

/// What a sender thread is told to do.
#[derive(Debug)]
pub enum Command {
    /// A leg exists from now on. It sends nothing until [`Command::Play`].
    AddLeg {
        /// Its name.
        leg: LegId,
        /// What it is made of.
        spec: Box<LegSpec>,
    },
    /// The leg goes on with another destination, codec, payload type or protection; its numbering stays. With another codec
    /// what was announced is not heard any more, and a hold is silent until a [`Command::Play`] brings its music in that codec.
    ChangeLeg {
        /// Its name.
        leg: LegId,
        /// What it is made of now; the numbering in it is ignored.
        spec: Box<LegSpec>,
    },
    /// Begin a hold, or change its music; from the first frame. Answered by [`Event::Started`] when its first packet has
    /// left, and before that, for a change, by [`Event::Crossing`].
    Play {
        /// Who plays.
        leg: LegId,
        /// What it plays.
        music: Music,
        /// Go on with this numbering instead of the leg's own.
        numbering: Option<Numbering>,
        /// At the start of a hold: the music began at this moment, elsewhere, and goes on here where it would be. In 20 ms,
        /// whatever the leg's own ticks are.
        since: Option<Tick>,
    },
    /// The answer to [`Event::Crossing`]; too late it is passed over.
    Bridge {
        /// Who changes its music.
        leg: LegId,
        /// What it shall play then.
        source: SourceId,
        /// The way there; without one the change is a plain switch.
        bridge: Option<Bridge>,
    },
    /// Play a prompt once, behind those that were announced before, in place of the music of a hold, which goes on unheard,
    /// or without a hold. Answered by [`Event::Announced`] at its end, unless a `Hush`, `Stop` or `RemoveLeg` comes
    /// before. Without a hold a `Stop` is to follow when nothing more is to be announced.
    Announce {
        /// Who plays.
        leg: LegId,
        /// What.
        announcement: Announcement,
    },
    /// Announce nothing more: the music is heard again.
    Hush {
        /// Who plays.
        leg: LegId,
    },
    /// From now on a leg that plays nothing gets a copy of every packet that another one sends, in its own numbering and
    /// to its own destination: also in later holds of the other, until [`Command::Unfollow`] or one of them is removed. It
    /// is silent while the codecs of the two differ. Passed over if the other follows somebody itself or has
    /// [`MAX_FOLLOWERS`](crate::leg::MAX_FOLLOWERS) already.
    Follow {
        /// Who listens in.
        leg: LegId,
        /// On whom.
        leader: LegId,
    },
    /// Follow nobody any more.
    Unfollow {
        /// Who listened in.
        leg: LegId,
    },
    /// Send nothing more. Answered by [`Event::Stopped`], also when nothing played.
    Stop {
        /// Who stops.
        leg: LegId,
    },
    /// The leg goes away, with an RTCP BYE. Answered by [`Event::Stopped`].
    RemoveLeg {
        /// Which.
        leg: LegId,
    },
}

/// What a sender thread tells.
#[derive(Debug)]
pub enum Event {
    /// The first packet of `source` has left on `leg`.
    Started {
        /// Who plays.
        leg: LegId,
        /// What it plays.
        source: SourceId,
        /// When its first packet had been handed to the network.
        sent_at: MediaTime,
    },
    /// A bridge is wanted for a change of music, to be answered by [`Command::Bridge`] within 160 ms, or 80 on a leg with
    /// short frames.
    Crossing {
        /// Who changes its music.
        leg: LegId,
        /// From where to where.
        crossing: Crossing,
    },
    /// The last packet of an announcement has left, or its time has passed.
    Announced {
        /// Who played it.
        leg: LegId,
        /// Which.
        announcement: AnnouncementId,
    },
    /// How a hold goes, told with every sender report.
    Progress {
        /// Who plays.
        leg: LegId,
        /// What was sent so far.
        report: HoldReport,
    },
    /// Nothing more is sent.
    Stopped {
        /// Who stopped.
        leg: LegId,
        /// How the hold went; empty if nothing played.
        report: HoldReport,
        /// What the next packet will carry.
        next: Numbering,
    },
    /// The receiver said goodbye.
    Bye {
        /// Whose receiver.
        leg: LegId,
    },
    /// Nobody listens any more: the destination has been answering "port unreachable" for the configured time, or a
    /// receiver that used to report has been silent for it.
    Unreachable {
        /// Whose destination.
        leg: LegId,
    },
    /// The peer has proved to be at another address than the leg goes to; told where latching is on. Whether the leg goes
    /// there is control's decision.
    Latch {
        /// Whose peer.
        leg: LegId,
        /// Where it is.
        from: SocketAddr,
        /// Which of its two streams came from there.
        stream: Stream,
    },
    /// Things without use that want to be dropped where it takes no time from anybody.
    Retired(Retired),
}

/// Media itself, or what is said about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// RTP.
    Rtp,
    /// RTCP.
    Rtcp,
}

/// Something without use. Dropping it may free a whole ring.
#[derive(Debug)]
pub struct Retired(
    #[cfg_attr(not(test), expect(dead_code, reason = "held only to be dropped elsewhere"))] Remains,
);

#[derive(Debug)]
#[expect(dead_code, reason = "held only to be dropped elsewhere")]
enum Remains {
    Leg(Box<Leg>),
    Music(Music),
    Left(Left),
    Hold(Box<Hold>),
    Bridge(Bridge),
    Announcement(Announcement),
    Spec(Box<LegSpec>),
    Security(Security),
}

/// What one round of sending did, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// RTP packets that left.
    pub packets: u64,
    /// Bytes of RTP that left, headers included.
    pub bytes: u64,
    /// RTCP packets that left.
    pub rtcp_packets: u64,
    /// Datagrams that the network refused.
    pub refused: u64,
    /// Packets without sound, for want of a frame.
    pub starved: u64,
    /// Ticks of single legs that were left out because they were too late.
    pub skipped: u64,
    /// How late the sender woke, in nanoseconds.
    pub lateness_ns: u64,
    /// Packets that had left more than [`crate::leg::LATE_NS`] after their time.
    pub late: u64,
    /// The longest time between one of these packets and the one before it on the same leg, in nanoseconds; 0 if all are
    /// the first of their holds.
    pub longest_gap_ns: u64,
}

/// What an operator wants of the legs of a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacerSettings {
    /// A leg is unreachable when its destination has said so throughout.
    pub unreachable_after: Duration,
    /// Likewise when a receiver that has reported about it does so no more, for so long of a hold; `None`: never. Found
    /// with the sender reports, which are a few seconds apart. Who never reports is not judged: many devices speak no RTCP.
    pub silent_after: Option<Duration>,
    /// Whether a leg may follow its peer to another address: symmetric RTP (RFC 4961) for peers behind a NAT. A peer proves
    /// itself by a source identifier: it reports about ours, which nobody else has heard, or it sends with the one that its
    /// offer announced.
    pub latching: bool,
}

impl Default for PacerSettings {
    fn default() -> Self {
        Self { unreachable_after: Duration::from_secs(10), silent_after: None, latching: false }
    }
}

/// The legs of one sender.
#[derive(Debug)]
pub struct Pacer {
    legs: Vec<Option<Box<Leg>>>,
    vacant: Vec<Index>,
    by_id: HashMap<LegId, Index>,
    /// Legs that are called so. Pairs, since customers may have several go on with the same stream.
    by_ssrc: BTreeSet<(Ssrc, Index)>,
    /// Legs whose RTP or RTCP goes there. Pairs, since most addresses have one leg, and one may have thousands.
    by_address: BTreeSet<(SocketAddr, Index)>,
    /// Legs whose peer is called so, where latching is on.
    by_peer: BTreeSet<(Ssrc, Index)>,
    /// Legs that a listener has reported about, of each host, the latest last.
    by_listener: HashMap<(Ssrc, IpAddr), Vec<Index>>,
    slots: [Vec<Index>; SLOTS],
    /// How many legs follow those that play in a slot.
    followers: [usize; SLOTS],
    playing: usize,
    /// How many slots those who play have.
    seats: usize,
    /// The first place that has not been served; a place is counted from the clock's origin, in slots.
    cursor: u64,
    /// The place that the batch is for.
    serving: u64,
    batch: Batch,
    pending: Vec<Pending>,
    /// The payload of a leg that others follow.
    copied: Box<[u8; MAX_PAYLOAD]>,
    refused: Vec<usize>,
    goodbyes: Batch,
    events: VecDeque<Event>,
    /// Whether the batch holds what is due at `serving`: a command makes it stale.
    prepared: bool,
    /// How many legs are protected.
    protected: usize,
    /// For what came in for one of them.
    scratch: Vec<u8>,
    random: Random,
    settings: PacerSettings,
}

/// A datagram of the batch, waiting to be settled.
#[derive(Clone, Copy, Debug)]
struct Pending {
    index: Index,
    /// What the RTP packet is; `None` for RTCP.
    rtp: Option<Filled>,
}

impl Pacer {
    /// A pacer without legs. `seed` spreads RTCP reports.
    pub fn new(seed: u64, settings: PacerSettings) -> Self {
        Self {
            legs: Vec::new(),
            vacant: Vec::new(),
            by_id: HashMap::new(),
            by_ssrc: BTreeSet::new(),
            by_address: BTreeSet::new(),
            by_peer: BTreeSet::new(),
            by_listener: HashMap::new(),
            slots: [const { Vec::new() }; SLOTS],
            followers: [0; SLOTS],
            playing: 0,
            seats: 0,
            cursor: 0,
            serving: 0,
            batch: Batch::default(),
            pending: Vec::new(),
            copied: Box::new([0; MAX_PAYLOAD]),
            refused: Vec::new(),
            goodbyes: Batch::default(),
            events: VecDeque::new(),
            prepared: false,
            protected: 0,
            scratch: Vec::new(),
            random: Random(seed),
            settings,
        }
    }

    /// How many legs there are, and how many of them play.
    pub fn legs(&self) -> (usize, usize) {
        (self.by_id.len(), self.playing)
    }

    /// Obeys. A command about a leg that does not exist is passed over.
    pub fn handle_command(&mut self, now: Now, command: Command) {
        self.prepared = false;
        match command {
            Command::AddLeg { leg, spec } => self.add(leg, spec),
            Command::ChangeLeg { leg, spec } => self.change(leg, spec),
            Command::Play { leg, music, numbering, since } => self.play(now, leg, music, numbering, since),
            Command::Bridge { leg, source, bridge } => self.bridged(leg, source, bridge),
            Command::Announce { leg, announcement } => self.announce(now, leg, announcement),
            Command::Hush { leg } => self.hush(leg),
            Command::Follow { leg, leader } => self.follow(now, leg, leader),
            Command::Unfollow { leg } => self.unfollow(leg),
            Command::Stop { leg } => self.stop(leg),
            Command::RemoveLeg { leg } => self.remove(now, leg),
        }
    }

    /// What happened, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Builds the datagrams of the next moment at which a leg is due, and returns it; [`MediaTime::NEVER`] if no leg
    /// plays. Nothing changes for the legs, so it may be called again after a command.
    pub fn prepare(&mut self, now: Now) -> MediaTime {
        self.batch.clear();
        self.pending.clear();
        self.prepared = false;
        // A tick less than 20 ms late is still sent; older ones are passed over, never caught up.
        let oldest = now.mono.as_nanos().saturating_sub(TICK_NS) / SLOT_NS + 1;
        self.cursor = self.cursor.max(oldest);
        let Some(place) = (self.cursor..).take(SLOTS).find(|&place| !self.slots[slot_of(place)].is_empty())
        else {
            return MediaTime::NEVER;
        };
        self.serving = place;
        let (ticks, due) = (Ticks::of(place), due_of(place));
        for &index in &self.slots[slot_of(place)] {
            let leg = self.legs[at(index)].as_ref().expect("a slot names living legs");
            let (leads, tick) = (leg.leads(), ticks.on(leg));
            let mut copied = None;
            if let Some(mut filled) = leg.fill(tick, self.batch.free()) {
                if leads {
                    copied = followers::keep(&mut *self.copied, &self.batch.free()[HEADER_LEN..filled.len]);
                }
                if leg.seal(&mut filled, self.batch.free()) {
                    self.batch.push(filled.sealed_len, leg.destination);
                    self.pending.push(Pending { index, rtp: Some(filled) });
                }
            }
            if let (Some(to), Some(len)) = (leg.rtcp, leg.report(now, tick, due, self.batch.free())) {
                self.batch.push(len, to);
                self.pending.push(Pending { index, rtp: None });
            }
            if leads {
                let codec = leg.codec();
                for &index in leg.followers() {
                    let follower = self.legs[at(index)].as_ref().expect("a leader knows who is removed");
                    let tick = ticks.on(follower);
                    let copy =
                        copied.and_then(|payload| follower.copy(tick, codec, payload, self.batch.free()));
                    if let Some(mut filled) = copy
                        && follower.seal(&mut filled, self.batch.free())
                    {
                        self.batch.push(filled.sealed_len, follower.destination);
                        self.pending.push(Pending { index, rtp: Some(filled) });
                    }
                    let report = follower.report(now, tick, due, self.batch.free());
                    if let (Some(to), Some(len)) = (follower.rtcp, report) {
                        self.batch.push(len, to);
                        self.pending.push(Pending { index, rtp: None });
                    }
                }
            }
        }
        // What `settle` may have to tell of a leg: how it goes, what it left, what began, what was announced. An empty
        // queue begins at its beginning again, so that the rest of its room is never touched and takes no memory.
        if self.events.is_empty() {
            self.events.clear();
        }
        self.events.reserve(4 * self.pending.len());
        self.prepared = true;
        due
    }

    /// Sends what was prepared, unless it is too late for it or a command came since.
    pub fn send(&mut self, woke: MediaTime, sink: &mut impl Sink) {
        self.refused.clear();
        if self.prepared && self.in_time(woke) {
            sink.send(&self.batch, &mut self.refused);
        }
    }

    /// Notes what has been sent: `woke` as for [`Pacer::send`], `sent_at` when it had returned.
    pub fn settle(&mut self, woke: MediaTime, sent_at: MediaTime) -> Served {
        let due = due_of(self.serving);
        let ticks = Ticks::of(self.serving);
        let lateness_ns = woke.as_nanos().saturating_sub(due.as_nanos());
        let mut served = Served { lateness_ns, ..Served::default() };
        if !self.prepared || !self.in_time(woke) {
            return served;
        }
        self.prepared = false;
        let mut refused = self.refused.iter().copied().peekable();
        for (number, pending) in self.pending.iter().enumerate() {
            let leg = self.legs[at(pending.index)].as_mut().expect("no command came since it was prepared");
            let tick = ticks.on(leg);
            let was_refused = refused.next_if_eq(&number).is_some();
            served.refused += u64::from(was_refused);
            match pending.rtp {
                None => {
                    leg.reported(due, self.random.next());
                    if self.settings.silent_after.is_some_and(|after| leg.is_silent(due, after)) {
                        self.events.push_back(Event::Unreachable { leg: leg.id });
                    }
                    let report = leg.report_so_far();
                    self.events.extend(report.map(|report| Event::Progress { leg: leg.id, report }));
                    served.rtcp_packets += u64::from(!was_refused);
                }
                Some(_) if was_refused => {
                    let (announced, left) = leg.refused(tick);
                    self.events.extend(left.map(|left| Event::Retired(Retired(Remains::Left(left)))));
                    let leg = leg.id;
                    self.events.extend(announced.map(|announcement| Event::Announced { leg, announcement }));
                    followers::pause(&mut self.legs, pending.index);
                }
                Some(filled) => {
                    let Some(sent) = leg.sent(tick, due, sent_at, filled) else {
                        if leg.copied(tick, filled) {
                            served.packets += 1;
                            served.bytes += filled.sealed_len as u64;
                        }
                        followers::pause(&mut self.legs, pending.index);
                        continue;
                    };
                    served.packets += 1;
                    served.bytes += filled.sealed_len as u64;
                    served.starved += u64::from(filled.starved);
                    served.skipped += u64::from(sent.skipped);
                    served.longest_gap_ns = served.longest_gap_ns.max(sent.gap_ns);
                    self.events.extend(sent.left.map(|left| Event::Retired(Retired(Remains::Left(left)))));
                    if let Some(source) = sent.began {
                        self.events.push_back(Event::Started { leg: leg.id, source, sent_at });
                    }
                    let leg = leg.id;
                    let announced = sent.announced;
                    self.events.extend(announced.map(|announcement| Event::Announced { leg, announcement }));
                }
            }
        }
        if sent_at.since(due).as_nanos() > u128::from(crate::leg::LATE_NS) {
            served.late = served.packets;
        }
        self.cursor = self.serving + 1;
        served
    }

    /// Sends the goodbyes of legs that were removed.
    pub fn send_goodbyes(&mut self, sink: &mut impl Sink) {
        if !self.goodbyes.is_empty() {
            self.refused.clear();
            sink.send(&self.goodbyes, &mut self.refused);
            self.goodbyes.clear();
        }
    }

    fn add(&mut self, id: LegId, spec: Box<LegSpec>) {
        if self.by_id.contains_key(&id) {
            return self.change(id, spec);
        }
        let index = self.vacant.pop().unwrap_or_else(|| {
            self.legs.push(None);
            Index::try_from(self.legs.len() - 1).expect("fewer legs than participants have addresses")
        });
        self.legs[at(index)] = Some(Box::new(Leg::new(id, &spec)));
        self.by_id.insert(id, index);
        self.register(index);
    }

    fn change(&mut self, id: LegId, spec: Box<LegSpec>) {
        if let Some(&index) = self.by_id.get(&id) {
            self.unregister(index);
            let before = Grid::of(self.leg(index).codec());
            let (security, left) = self.leg(index).renegotiate(&spec);
            self.events.extend(security.map(|security| Event::Retired(Retired(Remains::Security(security)))));
            self.register(index);
            if Grid::of(spec.codec) != before {
                self.reseat(index, before);
            }
            self.compare_codecs(index);
            self.events.extend(left.map(|left| Event::Retired(Retired(Remains::Left(left)))));
        }
        self.retire(Remains::Spec(spec));
    }

    fn play(&mut self, now: Now, id: LegId, music: Music, numbering: Option<Numbering>, since: Option<Tick>) {
        let Some(&index) = self.by_id.get(&id) else { return self.retire(Remains::Music(music)) };
        if self.leg(index).leader().is_some() {
            return self.retire(Remains::Music(music));
        }
        if let Some(numbering) = numbering {
            self.unregister(index);
            self.leg(index).renumber(numbering);
            self.register(index);
        }
        if self.leg(index).slot().is_some() {
            let (crossing, useless) = self.leg(index).change(music, since);
            self.events.extend(crossing.map(|crossing| Event::Crossing { leg: id, crossing }));
            self.events.extend(useless.map(|left| Event::Retired(Retired(Remains::Left(left)))));
            return;
        }
        self.begin(now, index, music, since);
    }

    fn announce(&mut self, now: Now, id: LegId, announcement: Announcement) {
        let Some(&index) = self.by_id.get(&id) else {
            return self.retire(Remains::Announcement(announcement));
        };
        if self.leg(index).leader().is_some() {
            return self.retire(Remains::Announcement(announcement));
        }
        if self.leg(index).slot().is_none() {
            let Music { source, ref reader, is_default } = announcement.music;
            let music = Music { source, reader: reader.clone(), is_default };
            self.begin(now, index, music, None);
            self.leg(index).only_announce();
        }
        self.leg(index).announce(announcement);
    }

    fn hush(&mut self, id: LegId) {
        let Some(&index) = self.by_id.get(&id) else { return };
        if let Some(left) = self.leg(index).hush() {
            self.retire(Remains::Left(left));
            self.pause_followers(index);
        }
    }

    /// A leg that does not play begins to, in the next slot that is below its share, but sooner in one that is served
    /// already.
    fn begin(&mut self, now: Now, index: Index, music: Music, since: Option<Tick>) {
        let grid = Grid::of(self.leg(index).codec());
        let share = SLOT_SHARE.max((self.seats + 1).div_ceil(SLOTS / SPREAD));
        let earliest = (now.mono.as_nanos() / SLOT_NS + 1).max(self.cursor);
        let crowd = |place: &u64| self.slots[slot_of(*place)].len();
        let open = |place: &u64| self.playing == 0 || place.is_multiple_of(SPREAD as u64) || crowd(place) > 0;
        let mut free = (earliest..).take(SLOTS).filter(|place| open(place) && crowd(place) < share);
        let next = free.next().expect("all slots of their share hold every leg");
        let mut near = std::iter::once(next).chain(free.take(SLOTS_NEAR - 1));
        let place = near.find(|place| crowd(place) > 0).unwrap_or(next);
        let random = self.random.next();
        self.leg(index).begin(
            music,
            since,
            (grid.tick_at(due_of(place)), (place % SLOTS as u64) as u8, due_of(place)),
            random,
        );
        self.take_seats(index, place);
        self.playing += 1;
        self.begin_followers(index, place);
    }

    /// A leg and its followers have the slot of `place`, and if its frames are short the one that is 10 ms from it.
    fn take_seats(&mut self, index: Index, place: u64) {
        let crowd = self.leg(index).followers().len();
        for slot in seats(slot_of(place), Grid::of(self.leg(index).codec())) {
            self.slots[slot].push(index);
            self.seats += 1;
            self.followers[slot] += crowd;
            self.make_room(slot);
        }
    }

    /// It has them no longer.
    fn leave_seats(&mut self, index: Index, slot: u8, grid: Grid) {
        let crowd = self.leg(index).followers().len();
        for slot in seats(slot.into(), grid) {
            self.slots[slot].retain(|&other| other != index);
            self.seats -= 1;
            self.followers[slot] -= crowd;
        }
    }

    /// The frames of a leg are shorter or longer than `before`.
    fn reseat(&mut self, index: Index, before: Grid) {
        if let Some(leader) = self.leg(index).leader() {
            // Its own ticks begin anew, with the next packet that it may copy.
            self.leg(index).copy_no_more();
            return self.join(index, leader, self.cursor);
        }
        let leg = self.leg(index);
        let (Some(slot), Some(due)) = (leg.slot(), leg.next_due()) else { return };
        let place = due.as_nanos() / SLOT_NS;
        leg.take_slot((place % SLOTS as u64) as u8);
        self.leave_seats(index, slot, before);
        self.take_seats(index, place);
        self.begin_followers(index, place);
    }

    /// Room for all that is ever sent in a slot: a packet and a report of each leg.
    fn make_room(&mut self, slot: usize) {
        let crowd = self.slots[slot].len() + self.followers[slot];
        let most = HEADER_LEN + MAX_PAYLOAD + rtcp::MAX_LEN + 2 * protect::MAX_GROWTH;
        self.batch.make_room(2 * crowd, most.div_ceil(2));
        self.pending.reserve((2 * crowd).saturating_sub(self.pending.len()));
        self.refused.reserve((2 * crowd).saturating_sub(self.refused.len()));
    }

    fn bridged(&mut self, id: LegId, source: SourceId, bridge: Option<Bridge>) {
        let Some(&index) = self.by_id.get(&id) else {
            return if let Some(bridge) = bridge {
                self.retire(Remains::Bridge(bridge))
            };
        };
        if let Some(left) = self.leg(index).bridged(source, bridge) {
            self.retire(Remains::Left(left));
        }
    }

    fn stop(&mut self, id: LegId) {
        let Some(&index) = self.by_id.get(&id) else { return };
        let report = self.end_hold(index);
        let next = self.leg(index).next();
        self.events.push_back(Event::Stopped { leg: id, report, next });
    }

    fn remove(&mut self, now: Now, id: LegId) {
        let Some(index) = self.by_id.remove(&id) else { return };
        let report = self.end_hold(index);
        self.part(index);
        self.unregister(index);
        let mut leg = self.legs[at(index)].take().expect("a named leg lives");
        self.vacant.push(index);
        self.goodbyes.make_room(self.goodbyes.len() + 1, rtcp::MAX_LEN + protect::MAX_GROWTH);
        if let (Some(to), Some(len)) = (leg.rtcp, leg.goodbye(now, self.goodbyes.free())) {
            self.goodbyes.push(len, to);
        }
        // With the index that its goodbye leaves.
        self.events.push_back(Event::Stopped { leg: id, report, next: leg.next() });
        self.retire(Remains::Leg(leg));
    }

    fn end_hold(&mut self, index: Index) -> HoldReport {
        let leg = self.leg(index);
        let (Some(slot), grid) = (leg.slot(), Grid::of(leg.codec())) else { return HoldReport::default() };
        self.end_followers(index);
        self.leave_seats(index, slot, grid);
        let (report, hold) = self.leg(index).end().expect("it has a slot, so it plays");
        self.playing -= 1;
        self.retire(Remains::Hold(Box::new(hold)));
        report
    }

    fn register(&mut self, index: Index) {
        let leg = self.legs[at(index)].as_ref().expect("a named leg lives");
        for address in leg.addresses() {
            self.by_address.insert((address, index));
        }
        self.by_ssrc.insert((leg.reported_as().0, index));
        self.protected += usize::from(leg.is_protected());
        if self.settings.latching
            && let Some(peer) = leg.peer
        {
            self.by_peer.insert((peer, index));
        }
    }

    fn unregister(&mut self, index: Index) {
        self.forget_listener(index);
        let leg = self.legs[at(index)].as_ref().expect("a named leg lives");
        for address in leg.addresses() {
            self.by_address.remove(&(address, index));
        }
        self.by_ssrc.remove(&(leg.reported_as().0, index));
        self.protected -= usize::from(leg.is_protected());
        if let Some(peer) = leg.peer {
            self.by_peer.remove(&(peer, index));
        }
    }

    /// It is not known any more who reports about a leg.
    fn forget_listener(&mut self, index: Index) {
        if let Some((ssrc, from)) = self.leg(index).listener.take() {
            let key = (ssrc, from.ip());
            if let Some(legs) = self.by_listener.get_mut(&key) {
                legs.retain(|&other| other != index);
                if legs.is_empty() {
                    self.by_listener.remove(&key);
                }
            }
        }
    }

    fn retire(&mut self, remains: Remains) {
        self.events.push_back(Event::Retired(Retired(remains)));
    }

    fn leg(&mut self, index: Index) -> &mut Leg {
        self.legs[at(index)].as_mut().expect("a named leg lives")
    }

    fn in_time(&self, woke: MediaTime) -> bool {
        woke.since(due_of(self.serving)).as_nanos() < u128::from(TICK_NS)
    }
}

/// Where a leg stands among the legs. Four bytes, since every table is of them.
type Index = u32;

fn at(index: Index) -> usize {
    index as usize
}

/// The legs that go to `address`.
fn of_address(
    by_address: &BTreeSet<(SocketAddr, Index)>,
    address: SocketAddr,
) -> impl Iterator<Item = Index> {
    by_address.range((address, Index::MIN)..=(address, Index::MAX)).map(|&(_, index)| index)
}

fn slot_of(place: u64) -> usize {
    usize::try_from(place % SLOTS as u64).expect("below the number of slots")
}

/// The slots that a leg has who begins in `slot`.
fn seats(slot: usize, grid: Grid) -> impl Iterator<Item = usize> {
    let apart = usize::try_from(grid.tick_ns() / SLOT_NS).expect("no more than there are slots");
    (0..SLOTS).step_by(apart).map(move |further| (slot + further) % SLOTS)
}

/// The ticks in which a place lies.
struct Ticks {
    usual: Tick,
    short: Tick,
}

impl Ticks {
    fn of(place: u64) -> Self {
        let slots = SLOTS as u64;
        Self { usual: Tick(place / slots), short: Tick(place / (slots / 2)) }
    }

    /// As a leg counts them.
    fn on(&self, leg: &Leg) -> Tick {
        if Grid::of(leg.codec()) == Grid::USUAL { self.usual } else { self.short }
    }
}

fn due_of(place: u64) -> MediaTime {
    MediaTime::from_nanos(place * SLOT_NS)
}

/// SplitMix64 (Steele, Lea and Flood 2014): spreads RTCP reports; nothing secret hangs on it.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}

#[cfg(test)]
mod tests;
