//! Any number of channels at any rate to mono at the rate we want, with silence around a clip or as a closed circle.
//!
//! Two stages. The first is rubato's FFT resampler, which filters: blocks of 4096 and more keep everything up to
//! 0.975 of the lower Nyquist frequency and take 144 dB off what is above (measured at 44.1 to 16 kHz; the sinc mode
//! aliases at -29 dB, the polynomial mode does not filter at all). The second reads that result at any position
//! whatever, so that a clip becomes *exactly* as long as asked for; it needs no filter, only 16 taps, because the
//! first stage leaves it twice the rate that its content would need.

use std::{f64::consts::PI, sync::OnceLock};

use rubato::{Fft, FixedSync, Resampler, WindowFunction, audioadapter_buffers::direct::InterleavedSlice};

use crate::pcm::Pcm;

/// Mixes all channels into one, weighted like a listener would hear them from one loudspeaker (after ITU-R
/// BS.775 annex 4: centre full, sides and surrounds at -3 dB of the fronts) and normalised to a sum of 1, so that no
/// recording can clip. The order of channels is that of WAVE: L R C LFE, then pairs; the LFE is left out, as
/// BS.775 does, unless it is all there is. More than eight channels, or a count without a usual layout, are averaged.
pub fn to_mono(pcm: &Pcm) -> Pcm {
    let channels = usize::from(pcm.channels());
    if channels == 1 {
        return pcm.clone();
    }
    let weights = mono_weights(channels);
    let samples = pcm
        .samples()
        .chunks_exact(channels)
        .map(|frame| frame.iter().zip(&weights).map(|(s, w)| s * w).sum());
    Pcm::new(pcm.rate(), 1, samples.collect())
}

fn mono_weights(channels: usize) -> Vec<f32> {
    const SIDE: f32 = std::f32::consts::FRAC_1_SQRT_2;
    let weights: Vec<f32> = match channels {
        3 => vec![SIDE, SIDE, 1.0],                          // L R C
        5 => vec![SIDE, SIDE, 1.0, 0.5, 0.5],                // L R C Ls Rs
        6 => vec![SIDE, SIDE, 1.0, 0.0, 0.5, 0.5],           // 5.1
        7 => vec![SIDE, SIDE, 1.0, 0.0, 0.5, 0.5, 0.5],      // 6.1
        8 => vec![SIDE, SIDE, 1.0, 0.0, 0.5, 0.5, 0.5, 0.5], // 7.1
        _ => vec![1.0; channels],                            // mono, stereo, quadro, the unknown
    };
    let sum: f32 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

/// Resamples a clip that stands in silence: `ceil(length × to_rate / rate)` samples per channel, in phase with the
/// original (no delay). It may overshoot ±1.0, as band-limiting does.
///
/// # Panics
///
/// If `to_rate` is 0.
pub fn resample(pcm: &Pcm, to_rate: u32) -> Pcm {
    assert!(to_rate > 0, "a rate");
    let channels = usize::from(pcm.channels());
    if pcm.rate() == to_rate {
        return pcm.clone();
    }
    let frames_out = (pcm.len() as u64 * u64::from(to_rate)).div_ceil(u64::from(pcm.rate())) as usize;
    let mut samples = vec![0.0; frames_out * channels];
    for channel in 0..channels {
        let clip: Vec<f32> = pcm.samples().iter().skip(channel).step_by(channels).copied().collect();
        let span = Span { numerator: u64::from(pcm.rate()), denominator: u64::from(to_rate) };
        let resampled = Surroundings::Silence.resample(&clip, pcm.rate(), to_rate, span, frames_out);
        for (slot, sample) in samples.iter_mut().skip(channel).step_by(channels).zip(resampled) {
            *slot = sample;
        }
    }
    Pcm::new(to_rate, pcm.channels(), samples)
}

/// Resamples a mono clip as a closed circle, its end leading into its beginning, to exactly `frames_out` samples
/// that cover a whole number of turns: as many as bring the result closest to `to_rate`. The first sample stands
/// where the clip's first one stands.
///
/// # Panics
///
/// If the clip is not mono or empty, or `to_rate` or `frames_out` is 0.
pub fn resample_loop(mono: &Pcm, to_rate: u32, frames_out: usize) -> Pcm {
    assert!(mono.channels() == 1 && !mono.is_empty(), "one channel with samples");
    assert!(to_rate > 0 && frames_out > 0, "a rate and a length");
    let len = mono.len() as u64;
    // Turns = frames_out / (len × to_rate / rate), rounded, at least one.
    let per_turn = len as f64 * f64::from(to_rate) / f64::from(mono.rate());
    let turns = ((frames_out as f64 / per_turn).round() as u64).max(1);
    // One output sample is turns × len / frames_out input samples, exactly.
    let span = Span { numerator: turns * len, denominator: frames_out as u64 };
    let clip = mono.samples();
    if span.numerator == span.denominator {
        return Pcm::new(to_rate, 1, clip.iter().copied().cycle().take(frames_out).collect());
    }
    Pcm::new(to_rate, 1, Surroundings::Itself.resample(clip, mono.rate(), to_rate, span, frames_out))
}

/// Input samples per output sample, as an exact fraction.
#[derive(Clone, Copy)]
struct Span {
    numerator: u64,
    denominator: u64,
}

/// What lies before and behind a clip.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Surroundings {
    Silence,
    Itself,
}

impl Surroundings {
    /// The clip at positions 0, span, 2 × span, …: `frames_out` of them; beyond its ends lies what `self` says.
    fn resample(self, clip: &[f32], rate: u32, to_rate: u32, span: Span, frames_out: usize) -> Vec<f32> {
        // If the first stage's own grid is the wanted one, the second is not needed.
        if rate != to_rate {
            let stage = Stage::between(rate, to_rate);
            if self.lies_on_grid(clip.len(), stage, span) {
                let grid = Grid::lay(self, clip, &[stage]);
                return self
                    .walk(clip.len(), span, frames_out)
                    .map(|position| grid.nearest(position))
                    .collect();
            }
        }
        // Down to the wanted rate, which filters, then up to twice that; or up at once.
        let twice = Stage::between(rate.min(to_rate), to_rate.saturating_mul(2));
        let stages = if rate > to_rate { vec![Stage::between(rate, to_rate), twice] } else { vec![twice] };
        let grid = Grid::lay(self, clip, &stages);
        self.walk(clip.len(), span, frames_out).map(|position| grid.between(position)).collect()
    }

    /// Whether every position that will be asked for is one that `stage` computes.
    fn lies_on_grid(self, len: usize, stage: Stage, span: Span) -> bool {
        let same_step = u128::from(span.numerator) * stage.block_out as u128
            == u128::from(span.denominator) * stage.block_in as u128;
        // A circle comes round to its first sample only if it is a whole number of steps.
        let closes = (len as u128 * stage.block_out as u128).is_multiple_of(stage.block_in as u128);
        same_step && (closes || self == Self::Silence)
    }

    /// The positions to read: whole input samples, and the fraction in units of `1 / span.denominator`. Nothing is
    /// rounded, so the thousandth turn is as exact as the first.
    fn walk(self, len: usize, span: Span, frames_out: usize) -> impl Iterator<Item = f64> {
        let (step, step_fraction) = (span.numerator / span.denominator, span.numerator % span.denominator);
        let (mut whole, mut fraction) = (0u64, 0u64);
        (0..frames_out).map(move |_| {
            let position = whole as f64 + fraction as f64 / span.denominator as f64;
            whole += step;
            fraction += step_fraction;
            if fraction >= span.denominator {
                fraction -= span.denominator;
                whole += 1;
            }
            if self == Self::Itself {
                whole %= len as u64;
            }
            position
        })
    }

    /// The clip with `margin` samples of its surroundings on either side.
    fn around(self, clip: &[f32], margin: usize) -> Vec<f32> {
        match self {
            Self::Silence => {
                let mut padded = vec![0.0; margin + clip.len() + margin];
                padded[margin..margin + clip.len()].copy_from_slice(clip);
                padded
            }
            Self::Itself => {
                // Start so far before a clip's beginning that it begins at `margin`; a clip may be shorter than that.
                let start = (clip.len() - margin % clip.len()) % clip.len();
                clip.iter().copied().cycle().skip(start).take(margin + clip.len() + margin).collect()
            }
        }
    }
}

/// Samples in an FFT block at the slower of two rates, at least. The filter's edge depends on it: 1600 samples (4410
/// at 44.1 kHz) were measured flat to 7.8 of 8 kHz.
const LEAST_BLOCK: u64 = 1536;

/// Rates whose reduced ratio has a smaller side than this are resampled by exactly that ratio; rates without a usable
/// common divisor (44 101 and 16 000) by a ratio within 1/4096 of it, which the second stage makes good.
const MOST_BLOCK: u64 = 4096;

/// One run of rubato's FFT resampler: so many samples in, so many out. Both are even, because the filter delays by
/// half a block, and only a whole number of samples can be cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stage {
    block_in: usize,
    block_out: usize,
}

impl Stage {
    fn between(rate: u32, to_rate: u32) -> Self {
        let (rate, to_rate) = (u64::from(rate), u64::from(to_rate));
        let divisor = greatest_common_divisor(rate, to_rate);
        let (block_in, block_out) = (rate / divisor, to_rate / divisor);
        let slower = block_in.min(block_out);
        let (block_in, block_out) = if slower <= MOST_BLOCK {
            let times = LEAST_BLOCK.div_ceil(slower).next_multiple_of(2);
            (block_in * times, block_out * times)
        } else {
            let slower = rate.min(to_rate);
            let near = |rate: u64| (rate * MOST_BLOCK / 2 / slower) * 2;
            (near(rate), near(to_rate))
        };
        Self { block_in: block_in as usize, block_out: block_out as usize }
    }

    /// Runs over `sound`, as if silence followed it. Sample `i` of the result stands at `i × block_in / block_out`.
    fn run(self, sound: &[f32]) -> Vec<f32> {
        let mut fft = Fft::<f32>::new_custom(
            self.block_in,
            self.block_out,
            self.block_in,
            1,
            1,
            WindowFunction::BlackmanHarris2,
            FixedSync::Both,
        )
        .expect("two rates and a block above 0 are all it asks for");
        // One more block, to push out what the delay holds back.
        let blocks = sound.len().div_ceil(self.block_in) + 1;
        let mut out = vec![0.0; blocks * self.block_out];
        let mut last = vec![0.0; self.block_in];
        for (index, block_out) in out.chunks_exact_mut(self.block_out).enumerate() {
            let block = match sound.get(index * self.block_in..(index + 1) * self.block_in) {
                Some(whole) => whole,
                None => {
                    let rest = sound.get(index * self.block_in..).unwrap_or_default();
                    last.fill(0.0);
                    last[..rest.len()].copy_from_slice(rest);
                    &last
                }
            };
            let input = InterleavedSlice::new(block, 1, self.block_in).expect("one block of one channel");
            let mut output =
                InterleavedSlice::new_mut(block_out, 1, self.block_out).expect("one block of one channel");
            fft.process_into_buffer(&input, &mut output, None).expect("both are one block long");
        }
        out.drain(..fft.output_delay());
        out
    }
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// A clip after its stages, with margins in which its surroundings still sound right.
struct Grid {
    samples: Vec<f32>,
    /// Grid steps per input sample.
    scale: f64,
    /// Input samples before the clip's first one.
    margin: f64,
}

impl Grid {
    fn lay(surroundings: Surroundings, clip: &[f32], stages: &[Stage]) -> Self {
        // Each filter reaches half a block to either side, and the second stage half its taps. In input samples:
        let mut scale = 1.0;
        let mut reach = 0.0;
        for stage in stages {
            reach += (stage.block_in / 2) as f64 / scale;
            scale *= stage.block_out as f64 / stage.block_in as f64;
        }
        reach += TAPS as f64 / scale;
        // Whole blocks, so that the clip's first sample falls on the grid.
        let margin = (reach.ceil() as usize + 1).next_multiple_of(stages[0].block_in);
        let samples = stages.iter().fold(surroundings.around(clip, margin), |sound, stage| stage.run(&sound));
        Self { samples, scale, margin: margin as f64 }
    }

    /// The grid's own sample at `position`, which is known to be one.
    fn nearest(&self, position: f64) -> f32 {
        let at = ((position + self.margin) * self.scale).round() as usize;
        self.samples.get(at).copied().unwrap_or(0.0)
    }

    /// The sound at any `position`, in input samples from the clip's beginning.
    fn between(&self, position: f64) -> f32 {
        let at = (position + self.margin) * self.scale;
        let whole = at.floor();
        let phase = (at - whole) * PHASES as f64;
        let row = phase as usize;
        let blend = (phase - row as f64) as f32;
        let first = whole as usize + 1 - TAPS / 2;
        let Some(sound) = self.samples.get(first..first + TAPS) else { return 0.0 };
        let (taps, next_taps) = (&kernel()[row], &kernel()[row + 1]);
        let mut sum = 0.0;
        for ((sample, tap), next_tap) in sound.iter().zip(taps).zip(next_taps) {
            sum += sample * (tap + blend * (next_tap - tap));
        }
        sum
    }
}

/// Taps of the second stage. Its input holds content up to a quarter of its rate, and images from three quarters on:
/// over so wide a gap 16 taps of a Kaiser window reach 120 dB (Kaiser's formula gives 15.6).
const TAPS: usize = 16;
/// Positions between two samples that the taps are tabled for; between those they are interpolated, with an error of
/// a third of π² over 8 × 1024², or 4e-7.
const PHASES: usize = 1024;
/// Kaiser's shape for 120 dB: 0.1102 × (120 - 8.7).
const KAISER_BETA: f64 = 12.265;

/// The taps for each phase, and once more for phase 1.
fn kernel() -> &'static [[f32; TAPS]] {
    static KERNEL: OnceLock<Vec<[f32; TAPS]>> = OnceLock::new();
    KERNEL.get_or_init(|| {
        (0..=PHASES)
            .map(|phase| {
                let fraction = phase as f64 / PHASES as f64;
                let half = (TAPS / 2) as f64;
                let taps: [f64; TAPS] = std::array::from_fn(|tap| {
                    let distance = tap as f64 - (half - 1.0) - fraction;
                    let shape = (1.0 - (distance / half).powi(2)).max(0.0).sqrt();
                    sinc(distance) * bessel_i0(KAISER_BETA * shape)
                });
                // A constant stays that constant at every phase.
                let sum: f64 = taps.iter().sum();
                taps.map(|tap| (tap / sum) as f32)
            })
            .collect()
    })
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (PI * x).sin() / (PI * x) }
}

/// The modified Bessel function of order 0, by its series.
fn bessel_i0(x: f64) -> f64 {
    let mut term = 1.0;
    let mut sum = 1.0;
    for k in 1..60 {
        term *= (x / 2.0 / f64::from(k)).powi(2);
        sum += term;
    }
    sum
}
