//! [`Loop`]: a clip becomes a closed circle of whole frames, whose last sample leads into its first.

use crate::{pcm::Pcm, resample::resample_loop};

/// Mono sound at a codec's sample rate, a whole number of frames long, that can be repeated for ever: behind the last
/// sample comes the first one, and nobody hears where.
#[derive(Clone, Debug, PartialEq)]
pub struct Loop {
    pcm: Pcm,
    samples_per_frame: usize,
    turns: usize,
}

/// How long a clip may become by being repeated until it is a whole number of frames, in seconds. A minute of Opus at
/// 32 kbit/s is 240 kB of ring; at a minute, being one half frame off is a stretch of 1.7e-4 or 0.3 cents.
const LONGEST_UNROLLED: u64 = 60;

/// How long a loop is at least, in seconds: a prompt of a few samples is repeated up to here, so that an encoder has
/// something to settle on.
const SHORTEST: u64 = 1;

impl Loop {
    /// Closes `mono` into a circle at `rate` Hz, in frames of `samples_per_frame`.
    ///
    /// A clip is rarely a whole number of frames. It is repeated until what is left over is at most half a sample, if
    /// that happens within [`LONGEST_UNROLLED`]; otherwise as often as brings it closest. What is then left over is
    /// spread over the whole length, by resampling with the exact ratio. The first sample is the clip's first; the
    /// level stays what it was.
    ///
    /// # Panics
    ///
    /// If the clip is not mono or empty, or `rate` or `samples_per_frame` is 0.
    pub fn new(mono: &Pcm, rate: u32, samples_per_frame: usize) -> Self {
        assert!(mono.channels() == 1 && !mono.is_empty(), "one channel with samples");
        assert!(rate > 0 && samples_per_frame > 0, "a rate and a frame length");
        let (turns, frames) = turns_and_frames(mono, rate, samples_per_frame);
        let pcm = resample_loop(mono, rate, frames * samples_per_frame);
        Self { pcm, samples_per_frame, turns }
    }

    /// The whole circle once.
    pub fn samples(&self) -> &[f32] {
        self.pcm.samples()
    }

    /// The whole circle once, with its rate.
    pub fn pcm(&self) -> &Pcm {
        &self.pcm
    }

    /// How many frames the circle has; at least one.
    pub fn frames(&self) -> usize {
        self.pcm.len() / self.samples_per_frame
    }

    /// The samples of one frame; `index` counts on over any number of laps.
    pub fn frame(&self, index: usize) -> &[f32] {
        let start = index % self.frames() * self.samples_per_frame;
        &self.pcm.samples()[start..start + self.samples_per_frame]
    }

    /// How often the clip sounds in one lap.
    pub fn turns(&self) -> usize {
        self.turns
    }

    /// How long one lap sounds, in seconds.
    pub fn seconds(&self) -> f64 {
        self.pcm.seconds()
    }
}

/// How often to repeat the clip, and how many frames that shall be.
fn turns_and_frames(mono: &Pcm, rate: u32, samples_per_frame: usize) -> (usize, usize) {
    // Lengths are counted in 1 / mono.rate() of an output sample, so that nothing is rounded.
    let unit = u128::from(mono.rate());
    let turn = mono.len() as u128 * u128::from(rate);
    let frame = samples_per_frame as u128 * unit;
    let second = u128::from(rate) * unit;

    let least = (u128::from(SHORTEST) * second).div_ceil(turn).max(1);
    let most = (u128::from(LONGEST_UNROLLED) * second / turn).max(least);
    let mut best: Option<(u128, u128, u128, u128)> = None;
    for turns in least..=most {
        let length = turns * turn;
        let frames = ((length + frame / 2) / frame).max(1);
        let rest = length.abs_diff(frames * frame);
        // The stretch is rest / length; fractions are compared crosswise.
        let better = best.is_none_or(|(best_rest, best_length, ..)| rest * best_length < best_rest * length);
        if better {
            best = Some((rest, length, turns, frames));
        }
        if rest * 2 <= unit {
            best = Some((rest, length, turns, frames));
            break;
        }
    }
    let (.., turns, frames) = best.expect("the range has at least one number of turns");
    (turns as usize, frames as usize)
}
