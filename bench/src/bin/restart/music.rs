//! Every packet of those who are held as it comes, over the deaths of the engine that sends it.

use std::{
    collections::HashMap,
    io, mem,
    sync::{Arc, Mutex, MutexGuard},
};

use holdmusic_bench::ear::Listener;
use holdmusic_media::{
    rtcp,
    rtp::{Header, Ssrc},
};

/// With more steps than this a receiver takes a jump for another stream (RFC 3550 appendix A.1, MAX_DROPOUT).
const MOST_STEPS: u16 = 3_000;

/// Timestamp units of a millisecond (RFC 7587).
const UNITS_PER_MS: f64 = 48.0;

/// A packet, as far as it matters.
#[derive(Clone, Copy)]
struct Packet {
    at_ns: u64,
    sequence: u16,
    timestamp: u32,
    port: u16,
}

/// The last packet of an engine that has ended, and the first of the one that was started in its place.
#[derive(Clone, Copy)]
pub(crate) struct Gap {
    before: Packet,
    after: Packet,
}

impl Gap {
    /// How long nothing was heard.
    pub(crate) fn ms(&self) -> f64 {
        (self.after.at_ns - self.before.at_ns) as f64 / 1e6
    }

    /// When the music went on, in nanoseconds since 1970.
    pub(crate) fn over_ns(&self) -> u64 {
        self.after.at_ns
    }

    /// By how many the sequence number went forward; 0 if it did not, as a receiver sees it.
    pub(crate) fn steps(&self) -> u16 {
        let steps = self.after.sequence.wrapping_sub(self.before.sequence);
        if steps < MOST_STEPS { steps } else { 0 }
    }

    /// By how much the timestamp went forward further than the clock, in milliseconds; `None` if it did not go forward.
    pub(crate) fn off_ms(&self) -> Option<f64> {
        let units = self.after.timestamp.wrapping_sub(self.before.timestamp);
        (1..1 << 31).contains(&units).then(|| f64::from(units) / UNITS_PER_MS - self.ms())
    }

    /// Whether the music comes from where it came from.
    pub(crate) fn keeps_its_port(&self) -> bool {
        self.before.port == self.after.port
    }
}

#[derive(Default)]
struct Heard {
    last: HashMap<Ssrc, Packet>,
    /// When the engine had ended.
    ended_ns: Option<u64>,
    gaps: Vec<Gap>,
    /// Sequence numbers that were not the next, without a death between them.
    lost: u64,
}

/// An ear for all of them, beside the engine.
pub(crate) struct Music {
    heard: Arc<Mutex<Heard>>,
    listener: Listener,
}

impl Music {
    pub(crate) fn open() -> io::Result<Self> {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let hearing = Arc::clone(&heard);
        let listener = Listener::open_beside(move |datagram, at_ns, port| {
            if let (false, Ok((header, _))) = (rtcp::is_rtcp(datagram), Header::read(datagram)) {
                let (sequence, timestamp) = (header.sequence.0, header.timestamp.0);
                let packet = Packet { at_ns, sequence, timestamp, port };
                hearing.lock().expect("nobody panics while holding it").hear(header.ssrc, packet);
            }
        })?;
        Ok(Self { heard, listener })
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().expect("nobody panics while holding it")
    }

    pub(crate) fn port(&self) -> u16 {
        self.listener.port()
    }

    /// How many sources have been heard.
    pub(crate) fn sources(&self) -> usize {
        self.heard().last.len()
    }

    /// The engine has ended: what comes from now on comes from another.
    pub(crate) fn ended(&self, ended_ns: u64) {
        let mut heard = self.heard();
        (heard.ended_ns, heard.gaps) = (Some(ended_ns), Vec::new());
    }

    /// How many are heard again since.
    pub(crate) fn returned(&self) -> usize {
        self.heard().gaps.len()
    }

    /// What was heard of that.
    pub(crate) fn gaps(&self) -> Vec<Gap> {
        mem::take(&mut self.heard().gaps)
    }

    /// Packets that are missing, other than by a death.
    pub(crate) fn lost(&self) -> u64 {
        self.heard().lost
    }

    /// Datagrams that found our own queue full.
    pub(crate) fn dropped(&self) -> u64 {
        self.listener.dropped()
    }
}

impl Heard {
    fn hear(&mut self, ssrc: Ssrc, packet: Packet) {
        let Some(before) = self.last.insert(ssrc, packet) else { return };
        if self.ended_ns.is_some_and(|ended_ns| before.at_ns <= ended_ns && packet.at_ns > ended_ns) {
            self.gaps.push(Gap { before, after: packet });
        } else {
            self.lost += u64::from(packet.sequence.wrapping_sub(before.sequence).wrapping_sub(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(at_ms: u64, sequence: u16, timestamp: u32) -> Packet {
        Packet { at_ns: at_ms * 1_000_000, sequence, timestamp, port: 5004 }
    }

    #[test]
    fn a_gap_lies_around_the_end_of_an_engine_and_lost_packets_do_not_make_one() {
        let mut heard = Heard::default();
        let hear = |heard: &mut Heard, at_ms, sequence, timestamp| {
            heard.hear(Ssrc(7), packet(at_ms, sequence, timestamp));
        };
        hear(&mut heard, 0, 65_534, 0);
        hear(&mut heard, 20, 65_535, 960);
        heard.ended_ns = Some(30_000_000);
        hear(&mut heard, 180, 40, 960 * 9);
        hear(&mut heard, 240, 42, 960 * 12);
        let gap = heard.gaps[0];
        assert_eq!((heard.gaps.len(), heard.lost, gap.steps(), gap.ms()), (1, 1, 41, 160.0));
        assert_eq!((gap.off_ms(), gap.keeps_its_port()), (Some(0.0), true));
        let back = Gap { before: gap.after, after: packet(400, 39, 960) };
        assert_eq!((back.steps(), back.off_ms()), (0, None));
    }
}
