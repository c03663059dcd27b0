//! What does our sender cost beside a bare paced `sendmmsg` of the same packets, and are its packets in time? The engine's
//! own sender thread, pacer and socket with so many legs, each with its own SSRC, numbers and position; the bare sender
//! on the same core in alternating slices of the same run.

#![expect(clippy::disallowed_methods, reason = "a bench on real sockets and real threads")]

use std::{io, thread, time::Duration};

use clap::{Parser, value_parser};
use holdmusic_bench::{
    bare::Bare,
    chart::{Chart, Line},
    ear::{Drain, Ear, lateness_ns},
    ours::{Ours, per_packet_ns, ring},
    probe::{Probe, Wake, now_ns, pin},
    report::{Report, Target, quantile},
};
use holdmusic_codecs::{EncoderSettings, music};
use holdmusic_media::ring::Reader;
use indicatif::ProgressBar;
use rustix::thread::ClockId;

/// Our sender beside a bare one
#[derive(Parser)]
struct Options {
    /// Numbers of legs to try, one after the other
    #[arg(long, value_delimiter = ',', default_value = "100,1000,2500", value_parser = value_parser!(u32).range(1..=20_000))]
    legs: Vec<u32>,
    /// Pairs of slices
    #[arg(long, default_value_t = 8, value_parser = value_parser!(u32).range(1..=1000))]
    pairs: u32,
    /// Length of a slice in milliseconds
    #[arg(long, default_value_t = 2000, value_parser = value_parser!(u64).range(100..=60_000))]
    slice_ms: u64,
    /// Seconds for which the spacing of packets is measured afterwards
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u64).range(1..=3600))]
    spacing_seconds: u64,
    /// The core that sends; the ear and the probe take another
    #[arg(long, default_value_t = 0)]
    core: usize,
}

/// After legs have begun or ended, so long until nothing but sending goes on.
const SETTLE: Duration = Duration::from_millis(300);

fn main() -> io::Result<()> {
    let options = Options::parse();
    let other = usize::from(options.core == 0);
    pin(other);
    let music = ring(&music::default_music(), &EncoderSettings::default())?;
    let mut report = Report::new("capacity", "Our sender beside a bare paced sendmmsg, on one core");
    let mut cost_lines = [Vec::new(), Vec::new()];
    let steps = u64::from(options.pairs) + 1;
    let bar = ProgressBar::new(steps * options.legs.len() as u64);
    for &legs in &options.legs {
        let costs = costs(&options, legs, other, &music, &bar)?;
        let spacing = spacing(&options, legs, other, &music)?;
        bar.inc(1);
        let Costs { mut ours, mut bare, mut ratios } = costs;
        let (ours, bare) = (quantile(&mut ours, 0.5), quantile(&mut bare, 0.5));
        report.section(&format!("{legs} legs"));
        report.figure("our sender", ours, "ns of processor time a packet");
        report.figure("bare paced sendmmsg", bare, "ns");
        cost_lines[0].push((f64::from(legs), ours));
        cost_lines[1].push((f64::from(legs), bare));
        let ratio = quantile(&mut ratios, 0.5);
        // With few legs the wake-ups are the price, for both; what is judged is what a machine is bought for.
        if (1000..=2500).contains(&legs) {
            report.judged("ratio, median of pairs", ratio, "", Target::AtMost(1.1));
        } else {
            report.figure("ratio, median of pairs", ratio, "");
        }
        report.figure("ratio, lowest pair", quantile(&mut ratios, 0.0), "");
        report.figure("ratio, highest pair", quantile(&mut ratios, 1.0), "");
        for (name, mut spacing) in [("our sender", spacing.ours), ("bare sender", spacing.bare)] {
            for (word, share) in [("median", 0.5), ("99 %", 0.99), ("99.9 %", 0.999)] {
                let name = format!("{name}, packet late on its grid, {word}");
                report.figure(&name, quantile(&mut spacing, share), "ms");
            }
        }
        report.figure("legs with 49.5 to 50.5 packets a second", f64::from(spacing.steady), "");
        report.probe(&spacing.probe);
    }
    bar.finish_and_clear();
    let lines = ["our sender", "bare paced sendmmsg"].into_iter().zip(cost_lines);
    report.chart(Chart {
        title: "Processor time for a packet".to_owned(),
        x: "legs".to_owned(),
        y: "ns".to_owned(),
        lines: lines.map(|(name, points)| Line { name: name.to_owned(), points }).collect(),
        ..Chart::default()
    });
    report.end()
}

struct Costs {
    ours: Vec<f64>,
    bare: Vec<f64>,
    ratios: Vec<f64>,
}

fn costs(options: &Options, legs: u32, other: usize, music: &Reader, bar: &ProgressBar) -> io::Result<Costs> {
    let drain = Drain::open(other)?;
    let ours = Ours::start(legs, drain.port(), options.core)?;
    let bare = Bare::start(legs, drain.port(), options.core);
    let slice = Duration::from_millis(options.slice_ms);
    let mut costs = Costs { ours: Vec::new(), bare: Vec::new(), ratios: Vec::new() };
    for _ in 0..options.pairs {
        ours.play_all(legs, |_| (0, music.clone()));
        thread::sleep(SETTLE);
        let cost = per_packet_ns(ours.thread(), slice, || ours.counts().packets())?;
        (0..legs).for_each(|leg| ours.stop(leg));
        thread::sleep(SETTLE);
        let least = bare.per_packet_ns(slice, SETTLE)?;
        costs.ours.push(cost);
        costs.bare.push(least);
        costs.ratios.push(cost / least);
        bar.inc(1);
    }
    drain.close();
    Ok(costs)
}

struct Spacing {
    ours: Vec<f64>,
    bare: Vec<f64>,
    /// Of our legs, those that kept their rate.
    steady: u32,
    probe: Vec<Wake>,
}

fn spacing(options: &Options, legs: u32, other: usize, music: &Reader) -> io::Result<Spacing> {
    let seconds = options.spacing_seconds;
    let probe = Probe::start_ahead(other);
    let ear = Ear::open_wide(|_, _| {})?;
    let ours = Ours::start(legs, ear.port(), options.core)?;
    ours.play_all(legs, |_| (0, music.clone()));
    thread::sleep(SETTLE);
    let began = now_ns(ClockId::Realtime);
    thread::sleep(Duration::from_secs(seconds));
    let ended = now_ns(ClockId::Realtime);
    drop(ours);
    let (mut late, mut steady) = (Vec::new(), 0);
    for stream in ear.close().values() {
        let within = |at_ns: &u64| (began..ended).contains(at_ns);
        let rate = stream.iter().filter(|heard| within(&heard.at_ns)).count() as f64 / seconds as f64;
        steady += u32::from((49.5..=50.5).contains(&rate));
        let of_stream = lateness_ns(stream, 48_000).into_iter().filter(|(at_ns, _)| within(at_ns));
        late.extend(of_stream.map(|(_, late_ns)| late_ns as f64 / 1e6));
    }
    // The bare packets carry no time; each is due at the nearest multiple of 20 ms after the first.
    let ear = Ear::open_wide(|_, _| {})?;
    let bare = Bare::start(legs, ear.port(), options.core);
    bare.set_on(true);
    thread::sleep(SETTLE + Duration::from_secs(seconds));
    drop(bare);
    let mut bare_late = Vec::new();
    for stream in ear.close().values_mut() {
        let began = stream.first().map_or(0, |first| first.at_ns);
        for heard in stream.iter_mut() {
            // What it left out because it was late is no lateness of the rest.
            let number = (heard.at_ns - began + 10_000_000) / 20_000_000;
            heard.timestamp = (number as u32).wrapping_mul(960);
        }
        bare_late.extend(lateness_ns(stream, 48_000).into_iter().skip(15).map(|(_, late)| late as f64 / 1e6));
    }
    Ok(Spacing { ours: late, bare: bare_late, steady, probe: probe.stop() })
}
