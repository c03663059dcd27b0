//! One source as a receiver hears it: packets in order of arrival go in, [`StreamHearing`] and the payloads in
//! order of sequence come out.

use std::{collections::BTreeMap, time::Duration};

use super::{
    format::PayloadFormat,
    order::{Order, Place},
    playout::Kept,
    spacing::{Spacing, SpacingColumn, Spread, Timeline},
};
use crate::{
    rtp::{Header, SeqNo, Ssrc, Timestamp},
    time::{MediaTime, TICK_NS},
};

/// Of markers, gaps and timestamp jumps the first ones are kept: enough to look into, small enough to print.
pub const MAX_EXAMPLES: usize = 32;

/// Transit times that differ by more than this are no jitter: the sender began to count anew.
const MAX_TRANSIT_CHANGE: Duration = Duration::from_secs(10);

/// A packet time is learnt when so many packets in a row agree on it, all among the first [`LEARNT_WITHIN`]. The very
/// first packets may differ: encoders cut their look-ahead from the first one.
const LEARNT_FROM: u32 = 8;

/// See [`LEARNT_FROM`]: later on another step is a jump.
const LEARNT_WITHIN: u64 = 16;

/// Packets longer than this are none: RFC 3551 and RFC 7587 send at most 120 ms, ffmpeg 128 ms.
const MAX_PACKET_TIME: Duration = Duration::from_millis(200);

/// What was heard of one source.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamHearing {
    /// Who it is.
    pub ssrc: Ssrc,
    /// Packets that arrived, duplicates included.
    pub packets: u64,
    /// Bytes of payload in them.
    pub payload_bytes: u64,
    /// Packets that never arrived, as far as sequence numbers tell: those missing between the first and the last.
    pub lost: u64,
    /// Packets that arrived again.
    pub duplicates: u64,
    /// Packets that arrived after one with a higher sequence number.
    pub reordered: u64,
    /// Packets left out because their sequence number was implausible (RFC 3550 A.1).
    pub sequence_errors: u64,
    /// How often the sender went on with another sequence number, far from the one before.
    pub restarts: u64,
    /// How many packets there were of each payload type.
    pub payload_types: BTreeMap<u8, u64>,
    /// Packets of payload types that we cannot decode.
    pub undecodable: u64,
    /// Packets that can be decoded but were not kept, because the limits of a receiver were reached.
    pub not_kept: u64,
    /// How far apart packets should be: as described, or as learnt.
    pub packet_time: Duration,
    /// Packets with the marker bit.
    pub markers: u64,
    /// The first [`MAX_EXAMPLES`] of them.
    pub first_markers: Vec<Marker>,
    /// Packets whose timestamp was not the one before plus one step for each sequence number.
    pub timestamp_jumps: u64,
    /// The first [`MAX_EXAMPLES`] of them.
    pub first_timestamp_jumps: Vec<TimestampJump>,
    /// When the first packet arrived.
    pub first_arrival: MediaTime,
    /// When the last packet arrived.
    pub last_arrival: MediaTime,
    /// How often no packet arrived for more than two packet intervals (40 ms at 20 ms each).
    pub gaps: u64,
    /// The first [`MAX_EXAMPLES`] of them.
    pub first_gaps: Vec<Gap>,
    /// How many of the gaps were pauses that the sender announced.
    pub pauses: u64,
    /// The longest time between two packets, apart from pauses.
    pub longest_gap: Duration,
    /// Interarrival jitter (RFC 3550 A.8) after the last packet.
    pub jitter: Duration,
    /// The mean of the jitter after each packet.
    pub mean_jitter: Duration,
    /// The highest jitter after any packet.
    pub max_jitter: Duration,
    /// How far the times between arrivals were from the packet interval.
    pub spacing: Spacing,
    /// The times between arrivals, over time.
    pub spacing_columns: Vec<SpacingColumn>,
}

impl StreamHearing {
    /// From the first packet to the last.
    pub fn duration(&self) -> Duration {
        self.last_arrival.since(self.first_arrival)
    }

    /// Whether nothing was lost, repeated, reordered or out of step.
    pub fn is_continuous(&self) -> bool {
        let flaws = [self.lost, self.duplicates, self.reordered, self.sequence_errors, self.restarts];
        flaws.iter().sum::<u64>() == 0
    }
}

/// A packet with the marker bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Which packet of the source it was, in order of arrival from 0.
    pub packet: u64,
    /// When it arrived.
    pub at: MediaTime,
}

/// A timestamp that did not follow from the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampJump {
    /// Which packet of the source it was, in order of arrival from 0.
    pub packet: u64,
    /// When it arrived.
    pub at: MediaTime,
    /// Its sequence number.
    pub sequence: SeqNo,
    /// Timestamp units since the packet before; negative if it went back.
    pub units: i32,
    /// What would have been right for its sequence number.
    pub expected_units: u32,
    /// Whether it carried the marker bit, as the first packet after a pause does.
    pub marker: bool,
}

/// A time without packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// When the last packet before it arrived.
    pub from: MediaTime,
    /// When the first packet after it arrived.
    pub until: MediaTime,
    /// How many sequence numbers were missing when it ended: 0 means that the sender paused or was late.
    pub missing: u64,
    /// Whether the sender announced it: it ended with a marker bit and a timestamp that had advanced as well.
    pub pause: bool,
}

impl Gap {
    /// How long nothing arrived.
    pub fn length(&self) -> Duration {
        self.until.since(self.from)
    }
}

/// One source's state.
#[derive(Debug)]
pub(super) struct Stream {
    heard: StreamHearing,
    order: Option<Order>,
    /// Packets with a place among the sequence numbers, each counted once.
    received: u64,
    newest: Option<Newest>,
    steady: Option<Steady>,
    transit: Option<(MediaTime, Timestamp, u8)>,
    jitter_ns: f64,
    jitter_sum_ns: f64,
    jitter_count: u64,
    spread: Spread,
    timeline: Option<Timeline>,
    kept: Kept,
}

/// The packet with the highest sequence number.
#[derive(Clone, Copy, Debug)]
struct Newest {
    timestamp: Timestamp,
    payload_type: u8,
}

/// Packets in a row with the same step.
#[derive(Clone, Copy, Debug)]
struct Steady {
    since: MediaTime,
    units: u32,
    packets: u32,
}

impl Stream {
    pub(super) fn new(ssrc: Ssrc) -> Self {
        let heard = StreamHearing {
            ssrc,
            packets: 0,
            payload_bytes: 0,
            lost: 0,
            duplicates: 0,
            reordered: 0,
            sequence_errors: 0,
            restarts: 0,
            payload_types: BTreeMap::new(),
            undecodable: 0,
            not_kept: 0,
            packet_time: Duration::from_nanos(TICK_NS),
            markers: 0,
            first_markers: Vec::new(),
            timestamp_jumps: 0,
            first_timestamp_jumps: Vec::new(),
            first_arrival: MediaTime::ZERO,
            last_arrival: MediaTime::ZERO,
            gaps: 0,
            first_gaps: Vec::new(),
            pauses: 0,
            longest_gap: Duration::ZERO,
            jitter: Duration::ZERO,
            mean_jitter: Duration::ZERO,
            max_jitter: Duration::ZERO,
            spacing: Spacing::default(),
            spacing_columns: Vec::new(),
        };
        Self {
            heard,
            order: None,
            received: 0,
            newest: None,
            steady: None,
            transit: None,
            jitter_ns: 0.0,
            jitter_sum_ns: 0.0,
            jitter_count: 0,
            spread: Spread::new(),
            timeline: None,
            kept: Kept::default(),
        }
    }

    pub(super) fn ssrc(&self) -> Ssrc {
        self.heard.ssrc
    }

    pub(super) fn packets(&self) -> u64 {
        self.heard.packets
    }

    pub(super) fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Counts one packet; returns whether its payload was kept for decoding, which `keep` allows.
    pub(super) fn handle(
        &mut self,
        arrived: MediaTime,
        header: Header,
        payload: &[u8],
        format: Option<&PayloadFormat>,
        keep: bool,
    ) -> bool {
        let packet = self.heard.packets;
        let payload_type = header.payload_type.number();
        self.heard.packets += 1;
        self.heard.payload_bytes += payload.len() as u64;
        *self.heard.payload_types.entry(payload_type).or_default() += 1;

        let place = match &mut self.order {
            Some(order) => order.place(header.sequence),
            order => {
                self.heard.first_arrival = arrived;
                self.timeline = Some(Timeline::starting_at(arrived));
                let begun = order.insert(Order::starting_at(header.sequence));
                Place::Next { place: begun.highest(), missing: 0 }
            }
        };
        let (mut missing_before, mut pause) = (0, false);
        let place = match place {
            Place::Refused => {
                self.heard.sequence_errors += 1;
                return false;
            }
            Place::Duplicate => {
                self.heard.duplicates += 1;
                return false;
            }
            Place::Late { place } => {
                self.heard.reordered += 1;
                place
            }
            Place::Next { place, missing } => {
                missing_before = missing;
                if let Some(format) = format {
                    self.learn_packet_time(arrived, &header, missing, format);
                    pause = self.check_timestamp(packet, arrived, &header, missing, format);
                }
                place
            }
            Place::Restart { place } => {
                self.heard.restarts += 1;
                self.transit = None;
                self.newest = Some(Newest { timestamp: header.timestamp, payload_type });
                place
            }
        };

        if header.marker {
            self.heard.markers += 1;
            keep_first(&mut self.heard.first_markers, Marker { packet, at: arrived });
        }
        if self.received > 0 {
            self.measure_spacing(arrived, pause, missing_before);
        }
        if let Some(format) = format {
            self.measure_jitter(arrived, &header, format);
        }
        self.received += 1;
        self.heard.last_arrival = arrived;

        if format.is_none_or(|format| format.codec.is_none()) {
            self.heard.undecodable += 1;
            return false;
        }
        if !keep {
            self.heard.not_kept += 1;
            return false;
        }
        self.kept.push(place, arrived, header.timestamp, payload_type, payload);
        true
    }

    pub(super) fn hearing(&self) -> StreamHearing {
        let expected = self.order.as_ref().map_or(0, Order::expected);
        let mean_ns =
            if self.jitter_count == 0 { 0.0 } else { self.jitter_sum_ns / self.jitter_count as f64 };
        StreamHearing {
            lost: expected.saturating_sub(self.received),
            jitter: nanos(self.jitter_ns),
            mean_jitter: nanos(mean_ns),
            spacing: self.spread.percentiles(),
            spacing_columns: self.timeline.as_ref().map_or_else(Vec::new, Timeline::columns),
            ..self.heard.clone()
        }
    }

    /// Whether the packet ends an announced pause: it has a marker, and its timestamp is further on than usual. (Some
    /// senders mark every packet.)
    fn check_timestamp(
        &mut self,
        packet: u64,
        at: MediaTime,
        header: &Header,
        missing: u64,
        format: &PayloadFormat,
    ) -> bool {
        let payload_type = header.payload_type.number();
        let before = self.newest.replace(Newest { timestamp: header.timestamp, payload_type });
        // Another payload type may well count otherwise: RFC 4733 events keep their timestamp, for one.
        let Some(before) = before.filter(|before| before.payload_type == payload_type) else { return false };
        let step = format.clock_rate.units(self.heard.packet_time);
        // `missing` is below MAX_DROPOUT.
        let expected_units = step.wrapping_mul(missing as u32 + 1);
        let units = header.timestamp.0.wrapping_sub(before.timestamp.0);
        if units == expected_units {
            return false;
        }
        self.heard.timestamp_jumps += 1;
        let (units, marker) = (units.cast_signed(), header.marker);
        let jump = TimestampJump { packet, at, sequence: header.sequence, units, expected_units, marker };
        keep_first(&mut self.heard.first_timestamp_jumps, jump);
        marker && i64::from(units) > i64::from(expected_units)
    }

    /// Believes the timestamps' step when the arrivals agree with it; what was measured against another one before is
    /// forgotten.
    fn learn_packet_time(
        &mut self,
        arrived: MediaTime,
        header: &Header,
        missing: u64,
        format: &PayloadFormat,
    ) {
        if let Some(packet_time) = format.packet_time {
            self.heard.packet_time = packet_time;
            return;
        }
        let Some(before) = self.newest.filter(|_| self.received < LEARNT_WITHIN) else { return };
        let units = header.timestamp.0.wrapping_sub(before.timestamp.0);
        let begun = Steady { since: self.heard.last_arrival, units, packets: 0 };
        let steady = self.steady.get_or_insert(begun);
        if steady.units != units || missing > 0 {
            *steady = begun;
        }
        steady.packets += 1;
        let packet_ns = u64::from(units) * 1_000_000_000 / u64::from(format.clock_rate.0.max(1));
        let packet_time = Duration::from_nanos(packet_ns);
        let mean = arrived.since(steady.since) / steady.packets;
        let agree = mean > packet_time / 2 && mean < packet_time * 3 / 2;
        let learnt = format.clock_rate.units(self.heard.packet_time) == units;
        if steady.packets < LEARNT_FROM || learnt || !agree || packet_time > MAX_PACKET_TIME {
            return;
        }
        self.heard.packet_time = packet_time;
        self.heard.timestamp_jumps = 0;
        self.heard.first_timestamp_jumps.clear();
        self.heard.gaps = 0;
        self.heard.pauses = 0;
        self.heard.first_gaps.clear();
        self.heard.longest_gap = Duration::ZERO;
        self.spread = Spread::new();
    }

    fn measure_spacing(&mut self, arrived: MediaTime, pause: bool, missing: u64) {
        let interval = self.heard.packet_time;
        let from = self.heard.last_arrival;
        let spacing = arrived.since(from);
        if spacing > 2 * interval {
            self.heard.gaps += 1;
            self.heard.pauses += u64::from(pause);
            keep_first(&mut self.heard.first_gaps, Gap { from, until: arrived, missing, pause });
        }
        if !pause {
            self.heard.longest_gap = self.heard.longest_gap.max(spacing);
            self.spread.add(spacing.abs_diff(interval));
        }
        if let Some(timeline) = &mut self.timeline {
            timeline.add(arrived, spacing);
        }
    }

    /// RFC 3550 A.8: how much the transit time changed from packet to packet, smoothed by 1/16.
    fn measure_jitter(&mut self, arrived: MediaTime, header: &Header, format: &PayloadFormat) {
        let payload_type = header.payload_type.number();
        let before = self.transit.replace((arrived, header.timestamp, payload_type));
        let Some((before_arrived, before_timestamp, before_type)) = before else { return };
        if before_type != payload_type || format.clock_rate.0 == 0 {
            return;
        }
        let units = header.timestamp.0.wrapping_sub(before_timestamp.0).cast_signed();
        let sent_ns = f64::from(units) * 1e9 / f64::from(format.clock_rate.0);
        let arrived_ns = arrived.as_nanos() as f64 - before_arrived.as_nanos() as f64;
        let change_ns = (arrived_ns - sent_ns).abs();
        if change_ns > MAX_TRANSIT_CHANGE.as_nanos() as f64 {
            return;
        }
        self.jitter_ns += (change_ns - self.jitter_ns) / 16.0;
        self.jitter_sum_ns += self.jitter_ns;
        self.jitter_count += 1;
        self.heard.max_jitter = self.heard.max_jitter.max(nanos(self.jitter_ns));
    }
}

fn keep_first<T>(examples: &mut Vec<T>, example: T) {
    if examples.len() < MAX_EXAMPLES {
        examples.push(example);
    }
}

fn nanos(nanos: f64) -> Duration {
    // Jitter is at most MAX_TRANSIT_CHANGE and never negative.
    Duration::from_nanos(nanos as u64)
}
