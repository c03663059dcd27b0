//! One window of one peer: what its packets cost, and when each of them came.

use std::{io, net::SocketAddr, path::Path, thread, time::Duration};

use holdmusic_bench::{
    ear::{Ear, Heard, lateness_ns},
    probe::{Excluded, Probe, Wake},
    report::quantile,
};
use holdmusic_media::rtp::Ssrc;

use crate::stage::{Job, Peer, Playing, SETTLE, Sound, moment_ns};

/// Packets of a leg in a second, of 20 ms each.
const PACKETS_PER_SECOND: f64 = 50.0;

/// A packet later than this, one in a thousand, and pacing does not hold.
pub(crate) const LATE_MS: f64 = 5.0;

/// What a peer did in one window.
pub(crate) struct Cell {
    pub(crate) legs: u32,
    /// Microseconds of processor time for 50 packets that came, which is a second of a leg.
    pub(crate) cost_us: f64,
    /// How late each packet was on the grid of its own stream, outside windows that the probe excludes.
    pub(crate) late_ms: Vec<f64>,
    /// Legs with 49.5 to 50.5 packets a second, or one packet less or more.
    pub(crate) steady: u32,
    /// From the request to the first packet of each leg but the first one, which opens the prompt.
    pub(crate) first_ms: Vec<f64>,
    /// Resident memory of all processes.
    pub(crate) resident_bytes: u64,
    /// What the second half of the legs added to it, for each.
    pub(crate) bytes_per_leg: Option<f64>,
    /// What the probe saw in the window.
    pub(crate) wakes: Vec<Wake>,
}

impl Cell {
    /// What one packet in a thousand was late by, at least.
    pub(crate) fn late_ms_999(&mut self) -> f64 {
        quantile(&mut self.late_ms, 0.999)
    }

    /// The same, if pacing held: every leg had its packets, in time.
    pub(crate) fn held_ms(&mut self) -> Option<f64> {
        let late_ms = self.late_ms_999();
        (self.steady == self.legs && late_ms <= LATE_MS).then_some(late_ms)
    }
}

/// Lets `peer` play to `legs` legs for a window.
pub(crate) fn measure(
    peer: &dyn Peer,
    (sound, legs): (Sound, u32),
    prompt: &Path,
    core: usize,
    window: Duration,
    weigh: bool,
) -> io::Result<Cell> {
    let ear = Ear::open_by_address(|_, _| {})?;
    let job = Job { sound, legs, port: ear.port(), weigh, core, prompt };
    let Playing { kept, asked_ns, half } = peer.begin(&job)?;
    thread::sleep(SETTLE);
    let probe = Probe::start_ahead(usize::from(core == 0));
    let (before, began) = (kept.cpu_ns(), moment_ns());
    thread::sleep(window);
    let (after, ended) = (kept.cpu_ns(), moment_ns());
    let resident_bytes = kept.resident_bytes();
    let wakes = probe.stop();
    drop(kept);
    let streams = ear.close();

    let used = after.iter().map(|(thread, ns)| ns - before.get(thread).copied().unwrap_or(0));
    let cpu_ns = used.sum::<u64>() as f64;
    let excluded = Excluded::of(&wakes);
    let seconds = (ended - began) as f64 / 1e9;
    let (mut late_ms, mut first_ms) = (Vec::new(), Vec::new());
    let (mut packets, mut steady) = (0, 0);
    for (leg, asked_ns) in (0..legs).zip(asked_ns) {
        let SocketAddr::V4(address) = job.destination(leg) else { continue };
        let Some(stream) = streams.get(&Ssrc(address.ip().to_bits())) else { continue };
        if leg > 0 {
            first_ms.extend(stream.first().map(|heard| heard.at_ns.saturating_sub(asked_ns) as f64 / 1e6));
        }
        let within: Vec<Heard> =
            stream.iter().filter(|heard| (began..ended).contains(&heard.at_ns)).copied().collect();
        packets += within.len();
        // Where the window begins and ends decides on a packet.
        let off = (within.len() as f64 - PACKETS_PER_SECOND * seconds).abs();
        steady += u32::from(off <= 0.5 * seconds + 1.0);
        let late = lateness_ns(&within, sound.clock_rate()).into_iter();
        let counted = late.filter(|&(at_ns, _)| !excluded.contains(at_ns));
        late_ms.extend(counted.map(|(_, late_ns)| late_ns as f64 / 1e6));
    }
    if packets == 0 {
        return Err(io::Error::other(format!("{} sent nothing to {legs} legs", peer.name())));
    }
    let bytes_per_leg = half
        .filter(|half| half.0 < legs)
        .map(|(half, bytes)| resident_bytes.saturating_sub(bytes) as f64 / f64::from(legs - half));
    Ok(Cell {
        legs,
        cost_us: cpu_ns / 1e3 * PACKETS_PER_SECOND / packets as f64,
        late_ms,
        steady,
        first_ms,
        resident_bytes,
        bytes_per_leg,
        wakes,
    })
}
