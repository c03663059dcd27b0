//! [`Packetizer`]: the numbering of one leg. A tick comes in, the header of its packet goes out.

use std::time::Duration;

use holdmusic_codecs::Codec;

use crate::{
    leg::Numbering,
    protect::LAST_SRTCP_INDEX,
    rtp::{Header, PayloadType, SeqNo, Ssrc, Timestamp},
    time::{ClockRate, Grid, MediaTime, Tick},
};

/// The numbering of a leg, through all its holds. One SSRC for life; sequence +1 for every packet sent; the
/// timestamp follows the clock, also through the time between holds and through skipped ticks.
#[derive(Debug)]
pub struct Packetizer {
    codec: Codec,
    payload_type: PayloadType,
    next: Numbering,
    hold: Option<Hold>,
}

/// The grid on which one hold counts.
#[derive(Clone, Copy, Debug)]
struct Hold {
    first: Tick,
    /// Timestamp of `first`: computed once, so that every later step is exact.
    timestamp: Timestamp,
    /// From the beginning of a tick to this leg's slot in it.
    phase_ns: u32,
    sent: bool,
}

impl Packetizer {
    /// A numbering that begins (or goes on) as `next` says.
    pub fn new(codec: Codec, payload_type: PayloadType, next: Numbering) -> Self {
        Self { codec, payload_type, next, hold: None }
    }

    /// What the payload is.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// The leg's source identifier.
    pub fn ssrc(&self) -> Ssrc {
        self.next.ssrc
    }

    /// Begins a hold whose first packet is due at `due`, in the tick `first`.
    pub fn begin(&mut self, first: Tick, due: MediaTime) {
        let away = ClockRate(self.codec.clock_rate()).units(due.since(self.next.at));
        let timestamp = self.next.timestamp.after(away);
        let phase_ns = self.phase_ns(first, due);
        self.hold = Some(Hold { first, timestamp, phase_ns, sent: false });
    }

    /// The header of the packet of `tick`, marked if it is the first of its hold (RFC 3551 section 4.1). Nothing
    /// changes until [`Packetizer::sent`]: a packet that was prepared but never sent has cost no number.
    pub fn header(&self, tick: Tick) -> Header {
        let hold = self.hold.expect("a leg that plays has begun");
        Header {
            marker: !hold.sent,
            payload_type: self.payload_type,
            sequence: self.next.sequence,
            timestamp: self.timestamp(hold, tick),
            ssrc: self.next.ssrc,
        }
    }

    /// The packet of `tick` has left.
    pub fn sent(&mut self, tick: Tick) {
        let hold = self.hold.as_mut().expect("a leg that plays has begun");
        hold.sent = true;
        let hold = *hold;
        let next = tick.next();
        self.pass_over();
        self.next.timestamp = self.timestamp(hold, next);
        self.next.at = hold.due(Grid::of(self.codec), next);
    }

    /// The next number is not used, and the one after it comes next.
    pub fn pass_over(&mut self) {
        self.next.sequence = self.next.sequence.after(1);
        if self.next.sequence == SeqNo(0) {
            // Behind the last one nothing is protected, so that it never comes round.
            self.next.rollover_counter = self.next.rollover_counter.wrapping_add(1);
        }
    }

    /// A report has left, or was to leave: the next one has another index. It stays at the last one, which is never used.
    pub fn reported(&mut self) {
        self.next.srtcp_index = (self.next.srtcp_index + 1).min(LAST_SRTCP_INDEX);
    }

    /// Goes on with these counters.
    pub fn set_counters(&mut self, rollover_counter: u32, srtcp_index: u32) {
        self.next.rollover_counter = rollover_counter;
        self.next.srtcp_index = srtcp_index.min(LAST_SRTCP_INDEX);
    }

    /// Goes on with these counters if they are higher than its own.
    pub fn raise_counters(&mut self, rollover_counter: u32, srtcp_index: u32) {
        let Numbering { rollover_counter: rolled, srtcp_index: reported, .. } = self.next;
        self.set_counters(rolled.max(rollover_counter), reported.max(srtcp_index));
    }

    /// Nothing is sent for a while: the next packet is marked as the first of a hold is (RFC 3551 section 4.1).
    pub fn pause(&mut self) {
        if let Some(hold) = &mut self.hold {
            hold.sent = false;
        }
    }

    /// Ends the hold; a later one goes on from [`Packetizer::next`].
    pub fn end(&mut self) {
        self.hold = None;
    }

    /// What the next packet will carry.
    pub fn next(&self) -> Numbering {
        self.next
    }

    /// Goes on with other numbers, as a bot asks that hands its own stream over to us.
    pub fn renumber(&mut self, next: Numbering) {
        self.next = next;
    }

    /// Goes on with another codec or payload type. From the last packet on the timestamp counts in the new codec's clock, so
    /// that it goes on upwards (RFC 7160 section 4.1), and ticks are those of the new codec.
    pub fn renegotiate(&mut self, codec: Codec, payload_type: PayloadType) {
        let before = std::mem::replace(&mut self.codec, codec);
        self.payload_type = payload_type;
        let (clock, grid) = (ClockRate(codec.clock_rate()), Grid::of(codec));
        let is_same = before.clock_rate() == codec.clock_rate() && Grid::of(before) == grid;
        let Some(hold) = self.hold.filter(|_| !is_same) else { return };
        let due = hold.next_due(Grid::of(before), self.next.at);
        if self.next.at > hold.due(Grid::of(before), hold.first) {
            // The next packet was to come a step of the old clock behind the last one.
            let passed = clock.units(Duration::from_nanos(Grid::of(before).tick_ns()));
            let step = passed.wrapping_sub(before.timestamp_step());
            self.next.timestamp = self.next.timestamp.after(step);
        }
        let timestamp = self.next.timestamp.after(clock.units(due.since(self.next.at)));
        let first = grid.tick_at(due);
        self.hold = Some(Hold { first, timestamp, phase_ns: self.phase_ns(first, due), ..hold });
    }

    /// When the next packet of a hold is due, unless ticks are left out: its first one, or the one behind that which left
    /// last.
    pub fn next_due(&self) -> Option<MediaTime> {
        self.hold.map(|hold| hold.next_due(Grid::of(self.codec), self.next.at))
    }

    fn phase_ns(&self, tick: Tick, due: MediaTime) -> u32 {
        due.since(Grid::of(self.codec).start(tick)).subsec_nanos()
    }

    #[expect(clippy::cast_possible_truncation, reason = "timestamps wrap at 2^32")]
    fn timestamp(&self, hold: Hold, tick: Tick) -> Timestamp {
        let ticks = tick.0.wrapping_sub(hold.first.0) as u32;
        hold.timestamp.after(ticks.wrapping_mul(self.codec.timestamp_step()))
    }
}

impl Hold {
    fn due(self, grid: Grid, tick: Tick) -> MediaTime {
        grid.start(tick) + Duration::from_nanos(self.phase_ns.into())
    }

    /// The first time of this hold that is not before `at`.
    fn next_due(self, grid: Grid, at: MediaTime) -> MediaTime {
        let first = self.due(grid, self.first);
        let ticks = at.since(first).as_nanos().div_ceil(grid.tick_ns().into());
        self.due(grid, Tick(self.first.0 + u64::try_from(ticks).expect("no more than there are nanoseconds")))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn packetizer(sequence: u16, timestamp: u32, at: MediaTime) -> Packetizer {
        let next = Numbering {
            sequence: SeqNo(sequence),
            timestamp: Timestamp(timestamp),
            at,
            ..Numbering::new(Ssrc(7))
        };
        Packetizer::new(Codec::Opus, PayloadType::new(111).unwrap(), next)
    }

    fn play(packetizer: &mut Packetizer, ticks: impl IntoIterator<Item = u64>) -> Vec<(bool, u16, u32)> {
        ticks
            .into_iter()
            .map(|tick| {
                let header = packetizer.header(Tick(tick));
                packetizer.sent(Tick(tick));
                (header.marker, header.sequence.0, header.timestamp.0)
            })
            .collect()
    }

    #[test]
    fn a_hold_counts_by_one_and_by_960_through_both_wraps() {
        let mut leg = packetizer(65_534, u32::MAX - 959, Tick(10).start());
        leg.begin(Tick(10), Tick(10).start());
        assert_eq!(
            play(&mut leg, 10..13),
            [(true, 65_534, u32::MAX - 959), (false, 65_535, 0), (false, 0, 960)]
        );
    }

    /// Also for a number that was passed over, and not where numbers are handed over.
    #[test]
    fn a_counter_goes_up_where_the_sequence_comes_round() {
        let mut leg = packetizer(65_534, 0, Tick(0).start());
        leg.begin(Tick(0), Tick(0).start());
        let mut counters = vec![];
        for tick in 0..4 {
            counters.push(leg.next().rollover_counter);
            if tick == 1 { leg.pass_over() } else { leg.sent(Tick(tick)) }
        }
        assert_eq!(counters, [0, 0, 1, 1]);
        leg.renumber(Numbering { rollover_counter: 7, ..leg.next() });
        assert_eq!(leg.next().rollover_counter, 7);
        leg.raise_counters(6, 3);
        leg.raise_counters(6, 2);
        leg.reported();
        assert_eq!((leg.next().rollover_counter, leg.next().srtcp_index), (7, 4));
        leg.set_counters(1, u32::MAX);
        leg.reported();
        assert_eq!((leg.next().rollover_counter, leg.next().srtcp_index), (1, LAST_SRTCP_INDEX));
    }

    #[test]
    fn a_skipped_tick_moves_the_timestamp_and_not_the_sequence() {
        let mut leg = packetizer(0, 0, Tick(0).start());
        leg.begin(Tick(0), Tick(0).start());
        assert_eq!(play(&mut leg, [0, 1, 27]), [(true, 0, 0), (false, 1, 960), (false, 2, 27 * 960)]);
    }

    /// Also when the second hold begins in another slot, and half a millisecond is no whole tick.
    #[test]
    fn a_later_hold_goes_on_with_the_time_away() {
        let mut leg = packetizer(5, 1000, Tick(0).start());
        leg.begin(Tick(0), Tick(0).start());
        play(&mut leg, 0..3);
        leg.end();
        let due = Tick(50).start() + Duration::from_millis(7);
        leg.begin(Tick(50), due);
        assert_eq!(
            play(&mut leg, 50..52),
            [(true, 8, 1000 + 50 * 960 + 7 * 48), (false, 9, 1000 + 51 * 960 + 7 * 48)]
        );
    }

    /// Opus at 48 kHz, A-law at 8, L16 at 16: each step counts in the clock of the packet behind it.
    #[test]
    fn with_another_codec_the_timestamp_goes_on_in_its_clock() {
        let mut leg = packetizer(5, 1000, Tick(0).start());
        leg.begin(Tick(0), Tick(0).start() + Duration::from_millis(3));
        let first = 1000 + 3 * 48;
        assert_eq!(play(&mut leg, [0, 1]), [(true, 5, first), (false, 6, first + 960)]);
        leg.renegotiate(Codec::Pcma, PayloadType::new(8).unwrap());
        let second = first + 960 + 160;
        // A tick is left out.
        assert_eq!(play(&mut leg, [2, 4]), [(false, 7, second), (false, 8, second + 320)]);
        leg.renegotiate(Codec::L16, PayloadType::new(97).unwrap());
        assert_eq!(play(&mut leg, [5]), [(false, 9, second + 320 + 320)]);
        leg.end();
        leg.begin(Tick(50), Tick(50).start() + Duration::from_millis(3));
        leg.renegotiate(Codec::Opus, PayloadType::new(111).unwrap());
        // What is away counts in the clock of the packet that comes.
        assert_eq!(play(&mut leg, [50]), [(true, 10, second + 320 + 320 + 320 + 44 * 960)]);
    }

    /// Packets of 10 ms and of 20 count on one clock, in whichever half of 20 ms the first of the others comes.
    #[test]
    fn with_frames_of_another_length_the_timestamp_goes_on_where_they_end() {
        let mut leg = packetizer(5, 1000, Tick(0).start());
        let phase = Duration::from_millis(3);
        leg.begin(Tick(0), Tick(0).start() + phase);
        let first = 1000 + 3 * 48;
        assert_eq!(play(&mut leg, [0, 1]), [(true, 5, first), (false, 6, first + 960)]);
        leg.renegotiate(Codec::OpusShort, PayloadType::new(111).unwrap());
        assert_eq!(leg.next_due(), Some(MediaTime::from_millis(43)));
        // Ticks are 10 ms now: the fifth one begins after 40.
        let second = first + 2 * 960;
        assert_eq!(
            play(&mut leg, [4, 5, 7]),
            [(false, 7, second), (false, 8, second + 480), (false, 9, second + 3 * 480)]
        );
        leg.renegotiate(Codec::OpusShort, PayloadType::new(112).unwrap());
        assert_eq!(play(&mut leg, [8]), [(false, 10, second + 4 * 480)]);
        assert_eq!(leg.next_due(), Some(MediaTime::from_millis(93)));
        leg.renegotiate(Codec::Pcmu, PayloadType::new(0).unwrap());
        assert_eq!(leg.next_due(), Some(MediaTime::from_millis(93)));
        // The fifth tick of 20 ms, 13 ms from its beginning; 10 ms are 80 units of the clock that comes.
        let third = second + 4 * 480 + 80;
        assert_eq!(play(&mut leg, [4, 5]), [(false, 11, third), (false, 12, third + 160)]);
        assert_eq!(leg.next_due(), Some(MediaTime::from_millis(133)));
    }

    #[test]
    fn a_packet_that_never_left_costs_no_number() {
        let mut leg = packetizer(5, 0, Tick(0).start());
        leg.begin(Tick(0), Tick(0).start());
        let first = leg.header(Tick(0));
        let later = leg.header(Tick(1));
        assert_eq!(first.sequence, later.sequence);
        assert!(later.marker);
        assert_eq!(later.timestamp.0, 960);
    }
}
