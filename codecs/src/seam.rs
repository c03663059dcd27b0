//! [`Loop`]: a clip becomes a closed circle of whole frames, whose last sample leads into its first.

use std::fmt;

use crate::{
    pcm::Pcm,
    resample::{resample_from, resample_loop},
    wav::LoopPoints,
};

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

    /// Closes a recording whose author says where it repeats: heard from its beginning to `points.end`, then from
    /// `points.start` to `points.end` again and again. Without points, or with points that cannot be meant, it is
    /// [`Self::new`] of the whole; what was wrong with them is said.
    ///
    /// What stands before the loop becomes the intro. It is rarely a whole number of frames, so the circle is turned
    /// on to a frame boundary behind the loop's beginning, and by a fifth of a second more, in which filters and
    /// limiter forget what was heard before. Its first sample lies exactly on one of the recording's; the intro gives
    /// way by half a sample at most.
    ///
    /// # Panics
    ///
    /// As [`Self::new`].
    pub fn with_points(
        mono: &Pcm,
        points: Option<LoopPoints>,
        rate: u32,
        samples_per_frame: usize,
    ) -> (Self, Option<PointsIgnored>) {
        let Some(LoopPoints { start, end }) = points else {
            return (Self::new(mono, rate, samples_per_frame), None);
        };
        if let Some(ignored) = PointsIgnored::of(LoopPoints { start, end }, mono) {
            return (Self::new(mono, rate, samples_per_frame), Some(ignored));
        }
        let source_rate = mono.rate();
        let part = |samples: Vec<f32>| Pcm::new(source_rate, 1, samples);
        let region = &mono.samples()[start..end];
        if start == 0 {
            return (Self::new(&part(region.to_vec()), rate, samples_per_frame), None);
        }
        let step = f64::from(source_rate) / f64::from(rate);
        let intro_frames =
            ((start as f64 / step + FORGOTTEN_AFTER * f64::from(rate)) / samples_per_frame as f64).ceil();
        let intro_samples = intro_frames as usize * samples_per_frame;
        let turned_on = (intro_samples as f64 * step - start as f64).round() as usize;

        let mut turned = region.to_vec();
        turned.rotate_left(turned_on % region.len());
        let mut circle = Self::new(&part(turned), rate, samples_per_frame);

        let behind = turned_on + (FORGOTTEN_AFTER * f64::from(source_rate)) as usize;
        let mut unrolled = mono.samples()[..start].to_vec();
        unrolled.extend(region.iter().cycle().take(behind));
        circle.intro = if source_rate == rate {
            unrolled.truncate(intro_samples);
            unrolled
        } else {
            let first = (start + turned_on) as f64 - intro_samples as f64 * step;
            resample_from(&part(unrolled), rate, first, intro_samples)
        };
        (circle, None)
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
        let (front, back) = self.pcm.samples().split_at(frames % self.frames() * self.samples_per_frame);
        let pcm = Pcm::new(self.pcm.rate(), 1, [back, front].concat());
        Self { intro, pcm, samples_per_frame: self.samples_per_frame, turns: self.turns }
    }

    /// What is heard once, before the circle: a whole number of frames, often none.
    pub fn intro(&self) -> &[f32] {
        &self.intro
    }

    pub(crate) fn intro_mut(&mut self) -> &mut [f32] {
        &mut self.intro
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

/// So long after a place, in seconds, neither the resampler's filter (a block of 0.19 s around its middle) nor the
/// limiter knows what was before it.
const FORGOTTEN_AFTER: f64 = 0.2;

/// Shortest loop that loop points can mean, in seconds. A sampler's loops of single periods are shorter: repeated,
/// they are a tone and not what anybody wants to hold to.
const SHORTEST_BY_POINTS: f64 = 0.1;

/// Why a recording's loop points are not followed; it is repeated as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointsIgnored {
    /// The end is not behind the start, or behind the recording's end.
    Outside {
        /// First sample of the loop.
        start: usize,
        /// First sample behind the loop.
        end: usize,
        /// Samples in the recording.
        len: usize,
    },
    /// The loop is too short to be meant for a whole hold.
    TooShort {
        /// Its length in milliseconds.
        millis: u64,
    },
}

impl PointsIgnored {
    /// Why `points` of the recording `mono` are not followed, if they are not.
    pub fn of(points: LoopPoints, mono: &Pcm) -> Option<Self> {
        let LoopPoints { start, end } = points;
        if start >= end || end > mono.len() {
            return Some(Self::Outside { start, end, len: mono.len() });
        }
        let seconds = (end - start) as f64 / f64::from(mono.rate());
        (seconds < SHORTEST_BY_POINTS).then_some(Self::TooShort { millis: (seconds * 1000.0) as u64 })
    }
}

impl fmt::Display for PointsIgnored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outside { start, end, len } => write!(
                f,
                "the loop points {start} to {end} are not inside the recording's {len} samples; all of it repeats"
            ),
            Self::TooShort { millis } => {
                write!(f, "the loop points are only {millis} ms apart; all of the recording repeats")
            }
        }
    }
}

/// What must be left of a recording that is trimmed, in seconds. A click or a cough in silence is no sound to repeat.
const LEAST_TRIMMED: f64 = 0.1;

/// The recording without the silence at its beginning and at its end: without all samples before the first and behind
/// the last that reach `threshold_dbfs` (dB of full scale) in any channel. One that never does is left as it is, and so
/// is one of which less than a tenth of a second would remain. Loop points count samples from the beginning, so a
/// recording that has any should not be trimmed.
pub fn trim_silence(pcm: &Pcm, threshold_dbfs: f64) -> Pcm {
    let channels = usize::from(pcm.channels());
    let threshold = 10f64.powf(threshold_dbfs / 20.0) as f32;
    let sounds = |frame: &[f32]| frame.iter().any(|sample| sample.abs() >= threshold);
    let mut frames = pcm.samples().chunks_exact(channels);
    let (Some(first), Some(last)) = (frames.clone().position(sounds), frames.rposition(sounds)) else {
        return pcm.clone();
    };
    if ((last - first) as f64) < LEAST_TRIMMED * f64::from(pcm.rate()) {
        return pcm.clone();
    }
    Pcm::new(pcm.rate(), pcm.channels(), pcm.samples()[first * channels..(last + 1) * channels].to_vec())
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
    use crate::resample::Stretch;

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

    /// The unrolled recording has an ideal everywhere: a rising tone before the loop, a circle of whole periods in it.
    #[test]
    fn loop_points_are_played_once_up_to_their_end_and_then_round() {
        for rate in [8_000u32, 16_000, 22_050, 44_100, 48_000] {
            let per_second = f64::from(rate);
            let start = (0.8137 * per_second) as usize;
            let turn = (1.3 * per_second) as usize;
            let ideal = |at: f64| -> f64 {
                let t = (at - start as f64) / turn as f64;
                let before = (-t).max(0.0);
                // Louder before the loop, with no corner where it begins.
                (0.3 + 0.2 * before * before) * (TAU * 650.0 * t).sin()
            };
            let len = start + turn + rate as usize / 3;
            let mono = Pcm::new(rate, 1, (0..len).map(|n| ideal(n as f64) as f32).collect());
            let points = LoopPoints { start, end: start + turn };
            let (circle, ignored) = Loop::with_points(&mono, Some(points), 16_000, FRAME);
            assert_eq!(ignored, None);
            assert!(circle.intro_frames() >= 41 && circle.intro_frames() <= 52, "{rate} Hz");
            assert_eq!(circle.frames(), 65, "{rate} Hz");
            // 1.3 s are whole frames only where they are whole samples; elsewhere the end of a lap is stretched.
            let heard: Vec<f32> =
                (0..circle.intro_frames() + 3 * 65).flat_map(|n| circle.frame(n).to_vec()).collect();
            let step = per_second / 16_000.0;
            let intro = circle.intro_frames() * FRAME;
            // The recording begins out of nothing, which rings for a while.
            let shift = (intro as f64 * step - start as f64).round() + start as f64 - intro as f64 * step;
            assert!(shift.abs() <= 0.5);
            let in_time = intro + 65 * FRAME - FRAME;
            let largest = (6_400..in_time)
                .map(|n| (f64::from(heard[n]) - ideal(n as f64 * step + shift)).abs())
                .fold(0.0, f64::max);
            assert!(largest < 2e-5, "{rate} Hz: off by {largest}");
            let bend = |n: usize| (heard[n] - 2.0 * heard[n + 1] + heard[n + 2]).abs();
            let inside = (intro + 500..intro + 10_000).map(bend).fold(0.0, f32::max);
            let joins = [intro, intro + 65 * FRAME, intro + 130 * FRAME];
            let sharpest = joins.iter().flat_map(|&at| at - 3..at + 3).map(bend).fold(0.0, f32::max);
            assert!(sharpest <= inside * 1.001 + 1e-5, "{rate} Hz: {sharpest}, inside {inside}");
        }
    }

    #[test]
    fn loop_points_from_the_beginning_need_no_intro_and_impossible_ones_are_ignored() {
        let mono = clip(16_000, 32_000);
        let with = |start, end| Loop::with_points(&mono, Some(LoopPoints { start, end }), 16_000, FRAME);
        let (circle, ignored) = with(0, 16_000);
        assert_eq!((circle.intro_frames(), circle.samples()), (0, &mono.samples()[..16_000]));
        assert_eq!(ignored, None);
        let whole = Loop::new(&mono, 16_000, FRAME);
        for (start, end, words) in [
            (9, 9, "the loop points 9 to 9 are not inside the recording's 32000 samples; all of it repeats"),
            (
                9,
                32_001,
                "the loop points 9 to 32001 are not inside the recording's 32000 samples; all of it repeats",
            ),
            (16_000, 17_599, "the loop points are only 99 ms apart; all of the recording repeats"),
        ] {
            let (circle, ignored) = with(start, end);
            assert_eq!(circle, whole);
            assert_eq!(ignored.expect("a reason").to_string(), words);
        }
        assert_eq!(Loop::with_points(&mono, None, 16_000, FRAME), (whole, None));
        // A tenth of a second is shorter than what filters remember; it is simply turned more than once.
        let (circle, ignored) = with(16_000, 17_600);
        assert!(ignored.is_none() && circle.seconds() >= 1.0);
        assert_eq!(circle.frame(0), &mono.samples()[..FRAME]);
        assert_eq!(circle.frame(50), &mono.samples()[16_000..16_320]);
        assert_eq!(circle.frame(55), circle.frame(50));
    }

    #[test]
    fn a_longer_intro_changes_no_frame() {
        let sound = Loop::new(&clip(16_000, 3_200), 16_000, FRAME);
        for more in [0, 1, 3, 49, 50, 51, 120] {
            let longer = sound.with_longer_intro(more);
            assert_eq!((longer.intro_frames(), longer.frames()), (more, sound.frames()));
            assert!((0..300).all(|n| longer.frame(n) == sound.frame(n)), "{more} more");
        }
    }

    #[test]
    fn silence_is_trimmed_at_both_ends_and_never_to_nothing() {
        let trimmed =
            |samples: &[f32]| trim_silence(&Pcm::new(20, 2, samples.to_vec()), -60.0).samples().to_vec();
        assert_eq!(
            trimmed(&[0.0, 0.0, 9e-4, 0.0, 0.0, 0.1, 0.0, 0.0, -0.2, 0.0, 0.0, 0.0]),
            [0.0, 0.1, 0.0, 0.0, -0.2, 0.0]
        );
        // One click is less than a tenth of a second of 20 Hz.
        for untouched in [&[0.0; 8][..], &[0.0, 0.0, 0.5, 0.0, 0.5, 0.0, 0.0, 0.0], &[]] {
            assert_eq!(trimmed(untouched), untouched);
        }
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

            // In time, then gently to the end; see `resample_loop`.
            let rest = in_turns * 16_000.0 - heard.len() as f64;
            let stretch = Stretch::of(rest, heard.len());
            let in_time = heard.len() - stretch.len;
            let error = |n: usize| {
                let late = if n < in_time { 0.0 } else { rest * stretch.made_up(n - in_time) };
                (f64::from(heard[n]) - ideal((n as f64 + late) / (seconds * 16_000.0))).abs()
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
