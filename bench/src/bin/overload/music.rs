//! Every packet of those who are held as it comes: lost ones, gaps, lateness.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex},
};

use holdmusic_bench::{
    ear::{Grid, Listener},
    probe::{Wake, worst_near},
    tally::Tally,
};
use holdmusic_media::rtp::{Header, Ssrc};

/// A packet interval.
const INTERVAL_NS: u64 = 20_000_000;

/// Between two wake-ups of a probe: a standstill may begin so long before the probe is due.
const PROBE_STEP_NS: u64 = 1_000_000;

/// Two packets further apart than this are a gap: a packet interval and as much as counts as late.
const GAP_NS: u64 = 25_000_000;

/// Timestamp units of a packet interval (RFC 7587).
const STEP: u32 = 960;

/// Gaps kept until the probes have judged them.
const MOST_GAPS: usize = 200_000;

struct Stream {
    at_ns: u64,
    sequence: u16,
    timestamp: u32,
    packets: u64,
    grid: Grid,
}

/// What was heard.
#[derive(Default)]
struct Heard {
    streams: HashMap<Ssrc, Stream>,
    found: Found,
}

/// What was found.
#[derive(Clone, Default)]
pub(crate) struct Found {
    pub(crate) packets: u64,
    /// Sequence numbers that are missing or not the next.
    pub(crate) lost: u64,
    /// Packet intervals that timestamps show as left out.
    pub(crate) skipped: u64,
    /// From and to.
    gaps: Vec<(u64, u64)>,
    pub(crate) lateness: Tally,
}

impl Found {
    /// The longest time between two packets of a stream, in milliseconds, if it was a gap.
    pub(crate) fn longest_gap_ms(&self) -> f64 {
        self.gaps.iter().map(|(from, to)| to - from).max().unwrap_or(0) as f64 / 1e6
    }

    /// Gaps that probes explain, and gaps that none does: a probe explains one if it was late by as much as the gap is
    /// too long, less than its own step, within the gap.
    pub(crate) fn gaps(&self, probes: &[Vec<Wake>]) -> (u64, u64) {
        let explained = |(from, to): &&(u64, u64)| {
            let too_long = to - from - INTERVAL_NS;
            probes.iter().any(|wakes| worst_near(wakes, *to, to - from) + PROBE_STEP_NS >= too_long)
        };
        let excused = self.gaps.iter().filter(explained).count() as u64;
        (excused, self.gaps.len() as u64 - excused)
    }
}

/// An ear for all of them.
pub(crate) struct Music {
    heard: Arc<Mutex<Heard>>,
    listener: Listener,
}

impl Music {
    pub(crate) fn open(core: usize) -> io::Result<Self> {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let hearing = Arc::clone(&heard);
        let listener = Listener::open_wide(core, move |datagram, at_ns| {
            if let Ok((header, _)) = Header::read(datagram) {
                hearing.lock().expect("nobody panics while holding it").hear(&header, at_ns);
            }
        })?;
        Ok(Self { heard, listener })
    }

    pub(crate) fn port(&self) -> u16 {
        self.listener.port()
    }

    /// How many are heard, and how many packets of the one that is heard least.
    pub(crate) fn streams(&self) -> (usize, u64) {
        let heard = self.heard.lock().expect("nobody panics while holding it");
        let least = heard.streams.values().map(|stream| stream.packets).min();
        (heard.streams.len(), least.unwrap_or(0))
    }

    /// Forgets what was found so far, and not where the streams are.
    pub(crate) fn begin(&self) {
        self.heard.lock().expect("nobody panics while holding it").found = Found::default();
    }

    /// What was found since.
    pub(crate) fn found(&self) -> Found {
        self.heard.lock().expect("nobody panics while holding it").found.clone()
    }

    /// Datagrams that found our own queue full.
    pub(crate) fn dropped(&self) -> u64 {
        self.listener.dropped()
    }
}

impl Heard {
    fn hear(&mut self, header: &Header, at_ns: u64) {
        let (sequence, timestamp) = (header.sequence.0, header.timestamp.0);
        let found = &mut self.found;
        found.packets += 1;
        let stream = self.streams.entry(header.ssrc).or_insert_with(|| Stream {
            at_ns,
            sequence: sequence.wrapping_sub(1),
            timestamp: timestamp.wrapping_sub(STEP),
            packets: 0,
            grid: Grid::new(at_ns, timestamp),
        });
        found.lost += u64::from(sequence.wrapping_sub(stream.sequence).wrapping_sub(1));
        let steps = timestamp.wrapping_sub(stream.timestamp) / STEP;
        found.skipped += u64::from(steps.saturating_sub(1));
        found.lateness.add(stream.grid.late_ns(at_ns, timestamp));
        if at_ns.saturating_sub(stream.at_ns) > GAP_NS && found.gaps.len() < MOST_GAPS {
            found.gaps.push((stream.at_ns, at_ns));
        }
        *stream = Stream { at_ns, sequence, timestamp, packets: stream.packets + 1, grid: stream.grid };
    }
}
