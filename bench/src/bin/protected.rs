//! What does SRTP cost beside plain RTP and beside a bare paced `sendmmsg`? The engine's own sender with as many legs of
//! each kind, which play in turns on one core of the same run; and at last legs as SIP has them and legs as browsers have
//! them at once.

#![expect(clippy::disallowed_methods, reason = "a bench on real sockets and real threads")]

use std::{io, thread, time::Duration};

use clap::{Parser, value_parser};
use holdmusic_bench::{
    bare::Bare,
    ear::Drain,
    ours::{Ours, per_packet_ns, ring},
    probe::{Probe, pin},
    report::{Report, Target, quantile},
};
use holdmusic_codecs::{EncoderSettings, music};
use holdmusic_media::{Keying, MasterKey, Protection, Suite};
use indicatif::ProgressBar;

/// What protection costs
#[derive(Parser)]
struct Options {
    /// Legs of each kind
    #[arg(long, default_value_t = 1000, value_parser = value_parser!(u32).range(1..=3_000))]
    legs: u32,
    /// Legs with the keys of browsers, beside those with AES-CM
    #[arg(long, default_value_t = 200, value_parser = value_parser!(u32).range(1..=3_000))]
    browsers: u32,
    /// Rounds; medians count
    #[arg(long, default_value_t = 7, value_parser = value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Length of a slice in milliseconds
    #[arg(long, default_value_t = 1500, value_parser = value_parser!(u64).range(100..=60_000))]
    slice_ms: u64,
    /// The core that sends; the drain and the probe take another
    #[arg(long, default_value_t = 0)]
    core: usize,
}

/// After legs have begun or ended, so long until nothing but sending goes on.
const SETTLE: Duration = Duration::from_millis(300);

/// What SIP peers and browsers mostly have.
const SIP: Suite = Suite::AesCm128HmacSha1_80;
const BROWSER: Suite = Suite::AeadAes256Gcm;

fn main() -> io::Result<()> {
    let options = Options::parse();
    let other = usize::from(options.core == 0);
    pin(other);
    let music = ring(&music::default_music(), &EncoderSettings::default())?;
    let kinds: Vec<Option<Suite>> = std::iter::once(None).chain(Suite::ALL.map(Some)).collect();
    let drain = Drain::open(other)?;
    let ours = Ours::start(0, drain.port(), options.core)?;
    // Legs of each kind in a row, and those of browsers behind them all.
    let (count, mut ranges) = (options.legs, Vec::new());
    for kind in kinds.iter().copied().chain([Some(BROWSER)]) {
        let first = count * ranges.len() as u32;
        let legs = first..first + if ranges.len() == kinds.len() { options.browsers } else { count };
        legs.clone().for_each(|leg| {
            ours.add_protected(leg, kind.map_or(Protection::Plain, |suite| keyed(suite, leg)))
        });
        ranges.push(legs);
    }
    let bare = Bare::start(count, drain.port(), options.core);
    let slice = Duration::from_millis(options.slice_ms);
    let bar = ProgressBar::new(u64::from(options.rounds));
    let probe = Probe::start_ahead(other);
    let play = |legs: &[std::ops::Range<u32>]| {
        for leg in legs.iter().cloned().flatten() {
            ours.play(leg, 0, &music);
            if leg % 10 == 0 {
                thread::sleep(Duration::from_micros(500));
            }
        }
        thread::sleep(SETTLE);
        let cost = per_packet_ns(ours.thread(), slice, || ours.counts().packets());
        legs.iter().cloned().flatten().for_each(|leg| ours.stop(leg));
        thread::sleep(SETTLE);
        cost
    };
    let mut least = Vec::new();
    let mut costs = vec![Vec::new(); kinds.len() + 1];
    for _ in 0..options.rounds {
        least.push(bare.per_packet_ns(slice, SETTLE)?);
        for (legs, costs) in ranges.iter().zip(&mut costs).take(kinds.len()) {
            costs.push(play(std::slice::from_ref(legs))?);
        }
        let sip = kinds.iter().position(|kind| *kind == Some(SIP)).expect("it is one of them");
        costs[kinds.len()].push(play(&[ranges[sip].clone(), ranges[kinds.len()].clone()])?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let wakes = probe.stop();
    drain.close();

    let title = format!("{count} legs of each kind in turns, on one core");
    let mut report = Report::new("protected", &title);
    // Round by round, since a machine is faster in one minute than in the next.
    let above = |costs: &[f64]| {
        let mut above: Vec<_> = costs.iter().zip(&least).map(|(cost, least)| cost - least).collect();
        quantile(&mut above, 0.5)
    };
    let above: Vec<_> = costs.iter().map(|costs| above(costs)).collect();
    report.figure("bare paced sendmmsg", quantile(&mut least, 0.5), "ns of processor time a packet");
    for ((kind, costs), above) in kinds.iter().zip(&mut costs).zip(&above) {
        let cost = quantile(costs, 0.5);
        let name = kind.map_or("plain RTP", Suite::name);
        report.figure(name, cost, "ns");
        match kind {
            None => report.figure("plain RTP, above bare", *above, "ns"),
            Some(suite) => {
                let most = if suite.is_aead() { 300.0 } else { 400.0 };
                report.judged(&format!("{name}, above bare"), *above, "ns", Target::AtMost(most));
            }
        }
    }
    let both = quantile(&mut costs[kinds.len()], 0.5);
    let name = format!("{count} legs with AES-CM and {} of browsers at once", options.browsers);
    report.figure(&name, both, "ns");
    report.judged(&format!("{name}, above bare"), above[kinds.len()], "ns", Target::AtMost(400.0));
    report.probe(&wakes);
    report.end()
}

/// A key of its own for each leg, as legs have them.
fn keyed(suite: Suite, leg: u32) -> Protection {
    let bytes: Vec<u8> = leg.to_be_bytes().into_iter().cycle().take(suite.master_len()).collect();
    let send = MasterKey::new(suite, &bytes).expect("of its length");
    Protection::Srtp(Box::new(Keying { send, receive: None, mki: None, rollover_counter: 0, srtcp_index: 0 }))
}
