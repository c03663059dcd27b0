//! Does it matter to the sender how many prompts there are? The engine's own sender thread plays the same legs in
//! alternating slices: all from one ring, and each from one of a thousand.

#![expect(clippy::disallowed_methods, reason = "a bench on real sockets and real threads")]

use std::{io, thread, time::Duration};

use clap::Parser;
use holdmusic_bench::{
    dice::Dice,
    ear::Drain,
    ours::{Ours, per_packet_ns, ring},
    probe::{Probe, pin},
    progress::Progress,
    report::{Report, Target, quantile},
};
use holdmusic_codecs::{EncoderSettings, Pcm};
use holdmusic_media::ring::Reader;

/// One prompt or a thousand
#[derive(Parser)]
struct Options {
    /// Legs
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    legs: u32,
    /// Prompts, each with a ring of its own
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    prompts: u32,
    /// Seconds of sound in each: they only need to be different
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=60))]
    sound_seconds: u32,
    /// Pairs of slices
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pairs: u32,
    /// Length of a slice in milliseconds
    #[arg(long, default_value_t = 2_000)]
    slice_ms: u64,
    /// The core that sends
    #[arg(long, default_value_t = 0)]
    core: usize,
}

/// After legs have begun or ended, so long until nothing but sending goes on.
const SETTLE: Duration = Duration::from_millis(300);

/// What a thousand prompts may cost more than one: less than runs of the same differ by.
const NOTHING: f64 = 1.05;

fn main() -> io::Result<()> {
    let options = Options::parse();
    let other = usize::from(options.core == 0);
    pin(other);
    let progress = Progress::new(u64::from(options.prompts + options.pairs));
    let mut dice = Dice::new(1);
    let mut rings = Vec::new();
    for _ in 0..options.prompts {
        rings.push(noise(&mut dice, options.sound_seconds)?);
        progress.step("prompts encoded");
    }
    let drain = Drain::open(other)?;
    let ours = Ours::start(options.legs, drain.port(), options.core)?;
    let probe = Probe::start_ahead(other);
    let (mut one, mut many, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.pairs {
        let [first, all] = [1, options.prompts].map(|prompts| {
            ours.play_all(options.legs, |leg| {
                let number = leg % prompts;
                (number.into(), rings[number as usize].clone())
            });
            thread::sleep(SETTLE);
            let slice = Duration::from_millis(options.slice_ms);
            let cost = per_packet_ns(ours.thread(), slice, || ours.counts().packets());
            (0..options.legs).for_each(|leg| ours.stop(leg));
            thread::sleep(SETTLE);
            cost
        });
        let (first, all) = (first?, all?);
        one.push(first);
        many.push(all);
        ratios.push(all / first);
        progress.step("pairs of slices");
    }
    drop(progress);
    let wakes = probe.stop();
    drain.close();
    let title = format!("{} legs with one prompt, and with {}, on one core", options.legs, options.prompts);
    let mut report = Report::new("prompts", &title);
    report.figure("one prompt", quantile(&mut one, 0.5), "ns of processor time a packet");
    report.figure(&format!("{} prompts", options.prompts), quantile(&mut many, 0.5), "ns");
    report.judged("ratio, median of pairs", quantile(&mut ratios, 0.5), "", Target::AtMost(NOTHING));
    report.figure("ratio, lowest pair", quantile(&mut ratios, 0.0), "");
    report.figure("ratio, highest pair", quantile(&mut ratios, 1.0), "");
    report.section("On the other core");
    report.probe(&wakes);
    report.end()
}

/// A prompt of noise: no two are alike, and none is cheaper to send than another. Encoded in haste, because a packet at
/// constant bit rate has as many bytes whatever the encoder takes for it.
fn noise(dice: &mut Dice, seconds: u32) -> io::Result<Reader> {
    let samples =
        (0..16_000 * seconds).map(|_| dice.below(1 << 16) as f32 / f32::from(1u16 << 15) * 0.1 - 0.1);
    let settings = EncoderSettings { opus_complexity: 0, ..EncoderSettings::default() };
    ring(&Pcm::new(16_000, 1, samples.collect()), &settings)
}
