//! Is every packet on time while so many participants are on hold at once? The engine has one core, the ear and a bare
//! timer the other; packets are judged by the kernel's timestamps against the grid of their own stream. On a virtual
//! machine each core is taken away at times: a second timer, at real-time priority on the engine's own core, shows when.

#![expect(clippy::disallowed_methods, reason = "the bench waits while others hold")]

use std::{io, process::ExitCode, thread, time::Duration};

use clap::Parser;
use holdmusic_bench::{
    ear::{Ear, lateness_ns},
    engine::Engine,
    probe::{Probe, Wake, now_ns, pin, worst_near},
    report::{quantile, table},
};
use indicatif::ProgressBar;
use rustix::thread::ClockId;
use serde_json::json;

/// Many participants on hold at once
#[derive(Parser)]
struct Options {
    /// How many participants
    #[arg(long, default_value_t = 500)]
    legs: u32,
    /// How long they are on hold together, in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// A packet later than this must be explained by a probe, in milliseconds
    #[arg(long, default_value_t = 5.0)]
    late_ms: f64,
    /// The core for the engine; the ear and the probe take another
    #[arg(long, default_value_t = 0)]
    core: usize,
}

/// A late packet is excused if a probe was late by as much within so long before or after it.
const WINDOW_NS: u64 = 50_000_000;

fn main() -> io::Result<ExitCode> {
    let options = Options::parse();
    let other = usize::from(options.core == 0);
    pin(other);
    let engine = Engine::start(&["--senders", "1"], Some(options.core))?;
    let ear = Ear::open(|_, _| {})?;
    let before_bytes = engine.resident_bytes()?;
    let bar = ProgressBar::new(u64::from(options.legs) + options.seconds);
    for _ in 0..options.legs {
        let who = engine.participant(ear.port())?;
        engine.post(&format!("{who}/startHoldMusic"), &json!({}))?;
        bar.inc(1);
    }
    let (probe, own_probe) = (Probe::start(other), Probe::start_ahead(options.core));
    let began = now_ns(ClockId::Realtime);
    let cpu = engine.cpu_time()?;
    for _ in 0..options.seconds {
        thread::sleep(Duration::from_secs(1));
        bar.inc(1);
    }
    let cpu = engine.cpu_time()? - cpu;
    let ended = now_ns(ClockId::Realtime);
    let (wakes, own_wakes) = (probe.stop(), own_probe.stop());
    let memory = engine.resident_bytes()?.saturating_sub(before_bytes);
    bar.finish_and_clear();
    let streams = ear.close();

    let limit_ns = (options.late_ms * 1e6) as u64;
    let (mut lateness, mut late, mut packets) = (Vec::new(), 0u64, 0u64);
    let (mut not_by_other, mut unexplained) = (0u64, 0u64);
    let (mut lost, mut jumps) = (0u64, 0u64);
    for stream in streams.values() {
        for pair in stream.windows(2) {
            lost += u64::from(pair[1].sequence.wrapping_sub(pair[0].sequence).wrapping_sub(1));
            jumps += u64::from(pair[1].timestamp.wrapping_sub(pair[0].timestamp) != 960);
        }
        for (at_ns, late_ns) in lateness_ns(stream, 48_000) {
            if !(began..ended).contains(&at_ns) {
                continue;
            }
            packets += 1;
            lateness.push(late_ns as f64 / 1e6);
            if late_ns > limit_ns {
                late += 1;
                let window_ns = WINDOW_NS.max(late_ns);
                let excused = worst_near(&wakes, at_ns, window_ns) >= limit_ns;
                not_by_other += u64::from(!excused);
                let excused = excused || worst_near(&own_wakes, at_ns, window_ns) >= limit_ns;
                unexplained += u64::from(!excused);
            }
        }
    }
    let seconds = options.seconds as f64;
    let late_of = |wakes: &[Wake]| wakes.iter().map(|wake| wake.late_ns as f64 / 1e6).collect::<Vec<_>>();
    let (mut probe_late, mut own_late) = (late_of(&wakes), late_of(&own_wakes));
    let row = |values: &mut Vec<f64>| {
        [0.5, 0.99, 0.999, 1.0].map(|share| format!("{:.3}", quantile(values, share))).join(" / ")
    };
    table(
        &format!(
            "{} participants on hold for {} s, engine on core {}",
            options.legs, options.seconds, options.core
        ),
        &[
            ("streams heard", streams.len().to_string()),
            (
                "packets, per second and participant",
                format!("{packets}, {:.2}", packets as f64 / seconds / f64::from(options.legs)),
            ),
            ("lost / timestamp steps other than 960", format!("{lost} / {jumps}")),
            ("lateness in ms: median / 99 % / 99.9 % / max", row(&mut lateness)),
            ("the same of a bare clock_nanosleep on the other core", row(&mut probe_late)),
            ("the same of one on the engine's core, at real-time priority", row(&mut own_late)),
            ("packets late by more than the limit", format!("{late} over {} ms", options.late_ms)),
            ("of them, the other core's timer was in time", not_by_other.to_string()),
            ("of those, the engine's core could have been in time", unexplained.to_string()),
            (
                "processor time of the engine",
                format!(
                    "{:.1} % of a core, {:.2} µs a packet",
                    100.0 * cpu.as_secs_f64() / seconds,
                    cpu.as_secs_f64() * 1e6 / packets.max(1) as f64
                ),
            ),
            ("memory per participant", format!("{} bytes", memory / u64::from(options.legs.max(1)))),
        ],
    );
    let complete = streams.len() == options.legs as usize && lost == 0;
    Ok(if complete && unexplained == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
