//! [`Loop`]: a clip becomes a closed circle of whole frames, whose last sample leads into its first.

use crate::{pcm::Pcm, resample::resample_loop};

/// Mono sound at a codec's sample rate, a whole number of frames long, that can be repeated for ever: behind the last
/// sample comes the first one, and nobody hears where.
///
/// Before the circle there may be an intro of whole frames, which is heard once: what stands before the loop points
/// of a recording, or the first frames of lap one with a fade-in. Positions count on from the intro into the circle
/// and over any number of laps.
#[derive(Clone, Debug, PartialEq)]
pub struct Loop {
    intro: Vec<f32>,
    pcm: Pcm,
    samples_per_frame: usize,
    turns: usize,
}

/// How long a clip may become by being repeated until it is a whole number of frames, in seconds. A minute of Opus at
/// 32 kbit/s is 240 kB of ring.
const LONGEST_UNROLLED: u64 = 60;

/// How long a loop is at least, in seconds: a prompt of a few samples is repeated up to here, so that an encoder has
/// something to settle on.
const SHORTEST: u64 = 1;

impl Loop {
    /// Closes `mono` into a circle at `rate` Hz, in frames of `samples_per_frame`.
    ///
    /// A clip is rarely a whole number of frames. It is repeated until what is left over is at most half a sample, if
    /// that happens within a minute; otherwise as often as brings it closest. What is then left over, half a
    /// frame at most, is made up by [`resample_loop`] just before the circle closes: inaudibly, and all before is in
    /// time with the clip. The first sample is the clip's first; the level stays what it was.
    ///
    /// # Panics
    ///
    /// If the clip is not mono or empty, or `rate` or `samples_per_frame` is 0.
    pub fn new(mono: &Pcm, rate: u32, samples_per_frame: usize) -> Self {
        assert!(mono.channels() == 1 && !mono.is_empty(), "one channel with samples");
        assert!(rate > 0 && samples_per_frame > 0, "a rate and a frame length");
        let (turns, frames) = turns_and_frames(mono, rate, samples_per_frame);
        let pcm = resample_loop(mono, rate, frames * samples_per_frame);
        Self { intro: Vec::new(), pcm, samples_per_frame, turns }
    }

    /// The same loop with other samples, for a stage that changes levels: the intro, and the circle once.
    ///
    /// # Panics
    ///
    /// If either has another length than before.
    pub fn with_samples(&self, intro: Vec<f32>, circle: Vec<f32>) -> Self {
        assert!(
            intro.len() == self.intro.len() && circle.len() == self.pcm.len(),
            "as long as before: {} and {} samples",
            self.intro.len(),
            self.pcm.len()
        );
        let pcm = Pcm::new(self.pcm.rate(), 1, circle);
        Self { intro, pcm, samples_per_frame: self.samples_per_frame, turns: self.turns }
    }

    /// The same sound with `frames` more of the first lap in the intro, and the circle turned on by as many: every
    /// position still gives the same frame. The intro can then differ from the laps that follow.
    pub fn with_longer_intro(&self, frames: usize) -> Self {
        let intro_frames = self.intro_frames() + frames;
        let mut intro = Vec::with_capacity(intro_frames * self.samples_per_frame);
        (0..intro_frames).for_each(|index| intro.extend_from_slice(self.frame(index)));
        let mut circle = self.pcm.samples().to_vec();
        circle.rotate_left(frames % self.frames() * self.samples_per_frame);
        let pcm = Pcm::new(self.pcm.rate(), 1, circle);
        Self { intro, pcm, samples_per_frame: self.samples_per_frame, turns: self.turns }
    }

    /// What is heard once, before the circle: a whole number of frames, often none.
    pub fn intro(&self) -> &[f32] {
        &self.intro
    }

    /// How many frames are heard once, before the circle.
    pub fn intro_frames(&self) -> usize {
        self.intro.len() / self.samples_per_frame
    }

    /// The whole circle once, without the intro.
    pub fn samples(&self) -> &[f32] {
        self.pcm.samples()
    }

    /// The whole circle once, with its rate, without the intro.
    pub fn pcm(&self) -> &Pcm {
        &self.pcm
    }

    /// Samples in one frame.
    pub fn samples_per_frame(&self) -> usize {
        self.samples_per_frame
    }

    /// How many frames the circle has, without the intro; at least one.
    pub fn frames(&self) -> usize {
        self.pcm.len() / self.samples_per_frame
    }

    /// The samples of one frame; `index` counts from the intro's first frame on, over any number of laps. From
    /// [`Self::intro_frames`] on, `index` and `index + self.frames()` give the same frame.
    pub fn frame(&self, index: usize) -> &[f32] {
        let Some(index) = index.checked_sub(self.intro_frames()) else {
            let start = index * self.samples_per_frame;
            return &self.intro[start..start + self.samples_per_frame];
        };
        let start = index % self.frames() * self.samples_per_frame;
        &self.pcm.samples()[start..start + self.samples_per_frame]
    }

    /// How often the clip sounds in one lap.
    pub fn turns(&self) -> usize {
        self.turns
    }

    /// How long one lap of the circle sounds, in seconds.
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

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use proptest::prelude::*;

    use super::*;

    const FRAME: usize = 320;

    fn clip(rate: u32, len: usize) -> Pcm {
        Pcm::new(rate, 1, (0..len).map(|n| ((n * 7919 % 1000) as f32 / 1000.0) - 0.5).collect())
    }

    #[test]
    fn a_clip_is_repeated_until_it_is_whole_frames() {
        // 0.733 s is 11 728 samples, 208 more than 36 frames: 20 times that is 733 frames.
        for (rate, len) in [(8_000, 5_864), (16_000, 11_728), (48_000, 35_184)] {
            let circle = Loop::new(&clip(rate, len), 16_000, FRAME);
            assert_eq!((circle.turns(), circle.frames()), (20, 733), "{rate} Hz");
            assert!((circle.seconds() - 14.66).abs() < 1e-9);
        }
    }

    #[test]
    fn a_long_clip_is_off_by_half_a_frame_at_most() {
        for len in [31 * 44_100 + 5, 61 * 44_100 + 17, 90 * 44_100 + 1] {
            let circle = Loop::new(&clip(44_100, len), 16_000, FRAME);
            assert_eq!(circle.turns(), 1);
            let off = circle.seconds() - len as f64 / 44_100.0;
            assert!(off.abs() <= 0.01, "{len} samples: {off} s");
        }
    }

    #[test]
    fn the_shortest_clip_becomes_a_second() {
        for rate in [4_000, 8_000, 44_100, 384_000] {
            for len in 1..4 {
                let circle = Loop::new(&clip(rate, len), 16_000, FRAME);
                assert!((1.0..=60.0).contains(&circle.seconds()), "{len} at {rate} Hz: {}", circle.seconds());
            }
        }
    }

    #[test]
    fn frames_count_on_over_laps() {
        let circle = Loop::new(&clip(16_000, 16_000), 16_000, FRAME);
        assert_eq!(circle.frames(), 50);
        assert_eq!(circle.frame(0), &circle.samples()[..FRAME]);
        assert_eq!(circle.frame(149), circle.frame(49));
        assert_eq!(circle.frame(49), &circle.samples()[49 * FRAME..]);
    }

    #[test]
    fn what_is_heard_first_is_what_the_clip_begins_with() {
        let mut samples = vec![0.0; 20_001];
        // A smooth pulse at the very beginning, circular so that nothing rings.
        for n in 0..8i32 {
            let height = 0.5 + 0.5 * (f64::from(n) * TAU / 16.0).cos();
            samples[n as usize] = height as f32;
            samples[(20_001 - n as usize) % 20_001] = height as f32;
        }
        let circle = Loop::new(&Pcm::new(16_000, 1, samples), 16_000, FRAME);
        assert!((circle.samples()[0] - 1.0).abs() < 1e-3, "{}", circle.samples()[0]);
        assert!(
            circle.samples()[1] < circle.samples()[0] && *circle.samples().last().expect("samples") < 1.0
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Sines of whole periods have an ideal circle. It is compared at every sample, and a click would also show
        /// as a second difference at the seam that is larger than any inside.
        #[test]
        fn no_click_at_the_seam(
            rate in prop::sample::select(vec![8_000u32, 11_025, 16_000, 22_050, 24_000, 44_100, 44_101, 48_000]),
            len in 700usize..30_000,
            tones in prop::collection::vec((0.02f64..0.9, 0.0f64..TAU), 1..4),
        ) {
            let seconds = len as f64 / f64::from(rate);
            let highest = (f64::from(rate).min(16_000.0) / 2.0 * 0.9 * seconds).floor();
            let tones: Vec<(f64, f64)> =
                tones.into_iter().map(|(share, phase)| ((share * highest).floor().max(1.0), phase)).collect();
            let ideal = |turn: f64| -> f64 {
                tones.iter().map(|(periods, phase)| 0.3 * (TAU * periods * turn + phase).sin()).sum()
            };
            let samples = (0..len).map(|n| ideal(n as f64 / len as f64) as f32).collect();
            let circle = Loop::new(&Pcm::new(rate, 1, samples), 16_000, FRAME);

            let heard = circle.samples();
            prop_assert_eq!(heard.len() % FRAME, 0);
            prop_assert!(circle.seconds() <= 61.0 && circle.seconds() >= 0.99);
            let in_turns = seconds * circle.turns() as f64;
            prop_assert!((circle.seconds() - in_turns).abs() <= 0.01, "off by {}", circle.seconds() - in_turns);

            // In time, then evenly to the end; see `resample_loop`.
            let rest = (in_turns * 16_000.0 - heard.len() as f64).abs();
            let stretched = (rest / 1.25e-3 - 1e-6).ceil().clamp(0.0, heard.len() as f64);
            let in_time = heard.len() as f64 - stretched;
            let per_sample = 1.0 / (seconds * 16_000.0);
            let error = |n: usize| {
                let late = (n as f64 - in_time).max(0.0) / stretched.max(1.0);
                let turn = (n as f64).min(in_time) * per_sample;
                let turn = turn + late * (circle.turns() as f64 - in_time * per_sample);
                (f64::from(heard[n]) - ideal(turn)).abs()
            };
            let largest = (0..heard.len()).map(error).fold(0.0, f64::max);
            prop_assert!(largest < 1e-5, "off by {}", largest);

            let bend = |n: usize| {
                let [a, b, c] = [n, n + 1, n + 2].map(|n| heard[n % heard.len()]);
                (a - 2.0 * b + c).abs()
            };
            let inside = (0..heard.len() - 2).map(bend).fold(0.0, f32::max);
            let seam = bend(heard.len() - 2).max(bend(heard.len() - 1));
            prop_assert!(seam <= inside * 1.001 + 1e-5, "seam bends by {}, the inside by {}", seam, inside);
        }

        /// Any clip whatever becomes whole frames, without a panic and within a minute or its own length.
        #[test]
        fn any_clip_closes(rate in 4_000u32..=384_000, len in 1usize..5_000) {
            let circle = Loop::new(&clip(rate, len), 16_000, FRAME);
            prop_assert_eq!(circle.frames() * FRAME, circle.samples().len());
            prop_assert!(circle.seconds() <= 61.0);
            prop_assert!(circle.samples().iter().all(|sample| sample.abs() < 4.0));
        }
    }
}
