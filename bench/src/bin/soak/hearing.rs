//! Every packet of every leg as it comes: gaps, losses, steps, lateness, and at some legs the sound.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
};

use holdmusic_bench::{ear::Grid, probe::Excluded, tally::Tally};
use holdmusic_codecs::Codec;
use holdmusic_media::{
    MediaTime, Receiver, rtcp,
    rtp::{Header, Ssrc},
};

use crate::{
    faults::{Fault, Faults},
    sabotage::Sabotage,
};

/// Two packets of a hold further apart than this are a gap: one packet interval and a whole one late.
const GAP_NS: u64 = 40_000_000;

/// A packet that had left before an answer may still come: one packet interval.
const ON_ITS_WAY_NS: u64 = 20_000_000;

/// Timestamp units of a packet interval: 20 ms at 48 kHz (RFC 7587).
const STEP: u32 = 960;

/// Ticks that may be skipped at once: ten seconds; more is no skip but another numbering.
const MOST_SKIPPED: u32 = 500;

/// Lateness is tallied by windows of so long, so that what a probe excuses can be left out afterwards.
const WINDOW_NS: u64 = 100_000_000;

/// Gaps kept until a probe has judged them: each leg of two thousand has fifty.
const MOST_GAPS: usize = 100_000;

/// One of the sockets.
pub(crate) type Door = usize;

/// A packet.
#[derive(Clone, Copy)]
struct Packet {
    at_ns: u64,
    sequence: u16,
    timestamp: u32,
}

/// Payloads that are kept for a while.
struct Recording {
    receiver: Receiver,
    /// Units from the hold's first packet to the recording's first one.
    from_units: Option<u32>,
}

/// What was recorded of a hold.
pub(crate) struct Recorded {
    pub(crate) receiver: Receiver,
    /// Units of the stream's time between the hold's beginning and the recording's.
    pub(crate) from_units: u32,
}

/// One leg as it is heard.
struct Line {
    name: String,
    door: Door,
    /// Since when packets belong to that door.
    moved_ns: u64,
    /// A hold is about to begin: its first packet has the marker.
    beginning: bool,
    /// Since when nothing should come.
    quiet_ns: Option<u64>,
    last: Option<Packet>,
    /// Packets of this hold.
    packets: u64,
    first_timestamp: u32,
    /// When packets of this hold are due.
    grid: Grid,
    recording: Option<Recording>,
}

#[derive(Clone)]
struct Gap {
    name: String,
    from_ns: u64,
    to_ns: u64,
}

/// All legs.
pub(crate) struct Hearing {
    lines: HashMap<Ssrc, Line>,
    faults: Faults,
    gaps: Vec<Gap>,
    gaps_passed_over: u64,
    lateness: BTreeMap<u64, Tally>,
    /// RTP packets that came.
    pub(crate) packets: u64,
    /// Sender reports and goodbyes that came.
    pub(crate) rtcp: u64,
    /// Ticks that timestamps show as left out.
    pub(crate) skipped: u64,
    /// Packets that sequence numbers show as lost.
    pub(crate) lost: u64,
    /// Legs that were heard, in all.
    pub(crate) heard: u64,
    sabotage: Option<Sabotage>,
}

/// What of a stretch of the run counts.
#[derive(Default)]
pub(crate) struct Judged {
    /// Lateness of packets on the grid of their own hold, outside of what a probe excuses.
    pub(crate) lateness: Tally,
    /// Gaps within what a probe excuses.
    pub(crate) excused: u64,
}

impl Hearing {
    pub(crate) fn new(faults: Faults, sabotage: Option<Sabotage>) -> Self {
        Self {
            lines: HashMap::new(),
            faults,
            gaps: Vec::new(),
            gaps_passed_over: 0,
            lateness: BTreeMap::new(),
            packets: 0,
            rtcp: 0,
            skipped: 0,
            lost: 0,
            heard: 0,
            sabotage,
        }
    }

    /// A leg will be heard at `door`.
    pub(crate) fn expect(&mut self, ssrc: Ssrc, name: String, door: Door) {
        let line = Line {
            name,
            door,
            moved_ns: 0,
            beginning: false,
            quiet_ns: Some(0),
            last: None,
            packets: 0,
            first_timestamp: 0,
            grid: Grid::new(0, 0),
            recording: None,
        };
        self.lines.insert(ssrc, line);
    }

    /// A hold begins.
    pub(crate) fn begin(&mut self, ssrc: Ssrc) {
        if let Some(line) = self.lines.get_mut(&ssrc) {
            (line.beginning, line.quiet_ns) = (true, None);
        }
    }

    /// A hold has ended at `at_ns`.
    pub(crate) fn end(&mut self, ssrc: Ssrc, at_ns: u64) {
        if let Some(line) = self.lines.get_mut(&ssrc) {
            line.quiet_ns = Some(at_ns);
        }
    }

    /// From `at_ns` on packets come by another door.
    pub(crate) fn move_to(&mut self, ssrc: Ssrc, door: Door, at_ns: u64) {
        if let Some(line) = self.lines.get_mut(&ssrc) {
            (line.door, line.moved_ns) = (door, at_ns);
        }
    }

    /// Packets of the hold so far.
    pub(crate) fn packets_of(&self, ssrc: Ssrc) -> u64 {
        self.lines.get(&ssrc).map_or(0, |line| line.packets)
    }

    /// The number of the last packet that came, for reports.
    pub(crate) fn last_sequence(&self, ssrc: Ssrc) -> Option<u16> {
        Some(self.lines.get(&ssrc)?.last?.sequence)
    }

    /// The leg is gone.
    pub(crate) fn forget(&mut self, ssrc: Ssrc) {
        self.lines.remove(&ssrc);
    }

    /// Keeps payloads from now on.
    pub(crate) fn record(&mut self, ssrc: Ssrc) {
        if let Some(line) = self.lines.get_mut(&ssrc) {
            line.recording = Some(Recording { receiver: Receiver::new(Codec::Opus), from_units: None });
        }
    }

    /// What was kept; nothing is kept any more.
    pub(crate) fn recorded(&mut self, ssrc: Ssrc) -> Option<Recorded> {
        let recording = self.lines.get_mut(&ssrc)?.recording.take()?;
        Some(Recorded { receiver: recording.receiver, from_units: recording.from_units? })
    }

    /// A datagram came by `door`.
    pub(crate) fn hear(&mut self, door: Door, datagram: &[u8], at_ns: u64) {
        if rtcp::is_rtcp(datagram) {
            self.rtcp += 1;
            return;
        }
        let Ok((header, _)) = Header::read(datagram) else {
            return self.faults.add(Fault::Lost, || "a datagram that is neither RTP nor RTCP".to_owned());
        };
        self.packets += 1;
        if self.sabotage == Some(Sabotage::Packet) && self.packets == 10_000 {
            return;
        }
        let faults = &self.faults;
        let Some(line) = self.lines.get_mut(&header.ssrc) else {
            return faults.add(Fault::Quiet, || format!("{:?}, whose leg is gone, was heard", header.ssrc));
        };
        if door != line.door && at_ns > line.moved_ns + ON_ITS_WAY_NS {
            faults.add(Fault::Moved, || format!("{} at door {door} instead of {}", line.name, line.door));
        }
        if line.quiet_ns.is_some_and(|since| at_ns > since + ON_ITS_WAY_NS) {
            faults.add(Fault::Quiet, || {
                let late_ms = (at_ns - line.quiet_ns.unwrap_or(0)) as f64 / 1e6;
                format!("{}: a packet {late_ms:.1} ms after the end", line.name)
            });
        }
        let mut packet = Packet { at_ns, sequence: header.sequence.0, timestamp: header.timestamp.0 };
        if self.sabotage == Some(Sabotage::Step) && self.packets == 10_000 {
            packet.timestamp = packet.timestamp.wrapping_add(7);
        }
        let last = line.last.replace(packet);
        self.heard += u64::from(last.is_none());
        if let Some(last) = last {
            self.lost += line.follows(last, packet, faults);
        }
        if mem::take(&mut line.beginning) {
            if !header.marker {
                faults.add(Fault::Step, || format!("{}: a hold begins without a marker", line.name));
            }
            line.packets = 0;
            line.first_timestamp = packet.timestamp;
            line.grid = Grid::new(at_ns, packet.timestamp);
        } else if let Some(last) = last {
            if header.marker {
                faults.add(Fault::Step, || format!("{}: a marker in mid-hold", line.name));
            }
            self.skipped += line.steps(last, packet, faults);
            if at_ns.saturating_sub(last.at_ns) > GAP_NS {
                let gap = Gap { name: line.name.clone(), from_ns: last.at_ns, to_ns: at_ns };
                if self.gaps.len() < MOST_GAPS {
                    self.gaps.push(gap);
                } else {
                    self.gaps_passed_over += 1;
                }
            }
        }
        line.packets += 1;
        let late_ns = line.grid.late_ns(at_ns, packet.timestamp);
        self.lateness.entry(at_ns / WINDOW_NS).or_default().add(late_ns);
        if let Some(recording) = &mut line.recording {
            let units = packet.timestamp.wrapping_sub(line.first_timestamp);
            recording.from_units.get_or_insert(units);
            recording.receiver.handle_datagram(MediaTime::from_nanos(at_ns), datagram);
        }
    }

    /// Judges everything up to `until_ns`, now that a probe has said what it excuses there.
    pub(crate) fn judge(&mut self, excluded: &Excluded, until_ns: u64) -> Judged {
        let mut judged = Judged::default();
        let later = self.lateness.split_off(&(until_ns / WINDOW_NS));
        for (window, tally) in mem::replace(&mut self.lateness, later) {
            if !excluded.touches(window * WINDOW_NS, (window + 1) * WINDOW_NS) {
                judged.lateness.merge(&tally);
            }
        }
        let (gaps, later) = mem::take(&mut self.gaps).into_iter().partition(|gap| gap.to_ns < until_ns);
        self.gaps = later;
        for Gap { name, from_ns, to_ns } in gaps {
            if excluded.touches(from_ns, to_ns) {
                judged.excused += 1;
            } else {
                let length_ms = (to_ns - from_ns) as f64 / 1e6;
                self.faults.add(Fault::Gap, || format!("{name}: {length_ms:.1} ms without a packet"));
            }
        }
        let passed_over = mem::take(&mut self.gaps_passed_over);
        if passed_over > 0 {
            self.faults.add_many(Fault::Gap, passed_over, || "more gaps than are looked at".to_owned());
        }
        judged
    }
}

impl Line {
    /// Whether the sequence goes on; says how many packets are missing between the two.
    fn follows(&self, last: Packet, packet: Packet, faults: &Faults) -> u64 {
        let step = packet.sequence.wrapping_sub(last.sequence);
        if step == 1 {
            return 0;
        }
        let lost = if step < 1 << 15 { u64::from(step.saturating_sub(1)) } else { 0 };
        faults.add_many(Fault::Lost, lost.max(1), || {
            format!("{}: sequence number {} after {}", self.name, packet.sequence, last.sequence)
        });
        lost
    }

    /// Whether the timestamp goes on; says how many ticks were left out between the two.
    fn steps(&mut self, last: Packet, packet: Packet, faults: &Faults) -> u64 {
        let units = packet.timestamp.wrapping_sub(last.timestamp);
        let lost = packet.sequence.wrapping_sub(last.sequence).max(1);
        let ticks = units / STEP;
        if !units.is_multiple_of(STEP) || !(1..=MOST_SKIPPED).contains(&ticks) {
            faults.add(Fault::Step, || format!("{}: the timestamp goes on by {units}", self.name));
            self.grid = Grid::new(packet.at_ns, packet.timestamp);
            return 0;
        }
        u64::from(ticks.saturating_sub(u32::from(lost)))
    }
}
