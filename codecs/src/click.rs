//! [`Join`]: the sound around a place where one end was put to another, and how much that place sticks out of it.

use crate::{pcm::Pcm, resample::resample, wav::LoopPoints};

/// A place in mono sound, with what is around it.
///
/// # What is measured
///
/// The *bend* at sample `n` is the second difference `x[n-1] - 2·x[n] + x[n+1]`. A step and a kink have a large one,
/// and it grows by 12 dB an octave, as the ear's attention to clicks does. With `near` the largest bend within 2 ms
/// of the join, `around` the largest one in the rest of the 50 ms to either side, and `floor` = 0.001 (-60 dB of full
/// scale, as much as counts as silence: there a bend is not heard either):
///
/// ```text
/// click = 20·log10((near + floor) / (around + floor))   in dB
/// ```
///
/// At 0 or below the join bends no more than the music around it, and nobody hears where it is. Above 0 it sticks out
/// by so many decibels; what begins with a beat does so by nature. [`AUDIBLE_DB`] is where one should listen.
#[derive(Clone, Debug, PartialEq)]
pub struct Join {
    samples: Vec<f32>,
    at: usize,
    rate: u32,
}

/// From here on, in dB, a join is likely to be heard as a click. A sine that turns back at half a period lies 20 and
/// more above the music around it, white noise that is cut anywhere at -3 to 0.
pub const AUDIBLE_DB: f64 = 6.0;

/// To either side of the join, in seconds: what counts as the join itself. Opus spreads a click over about as much.
const NEAR_SECONDS: f64 = 0.002;
/// To either side of the join, in seconds: what it is compared with. A period of the lowest tone that is heard.
const AROUND_SECONDS: f64 = 0.05;
/// To either side of the join, in seconds: what is kept. The resampler's filter reaches 0.1 s, and what it makes of
/// the silence outside shall not reach into what is measured.
const KEPT_SECONDS: f64 = 0.2;
/// A bend that is not heard in silence either. With a tenth of it the fade-out of a spoken word that ends in -65 dB of
/// noise was taken for a click of 10 dB.
const FLOOR: f32 = 1e-3;

impl Join {
    /// The join in `sound` (mono at `rate` Hz) between the samples `at - 1` and `at`.
    ///
    /// # Panics
    ///
    /// If `at` is behind the end of the sound.
    pub fn inside(sound: &[f32], at: usize, rate: u32) -> Self {
        let kept = (KEPT_SECONDS * f64::from(rate)) as usize;
        let from = at.saturating_sub(kept);
        let samples = sound[from..sound.len().min(at + kept)].to_vec();
        Self { samples, at: at - from, rate }
    }

    /// The join that a player makes who simply repeats `mono`, between `points` if there are some that lie within
    /// it, at `rate` Hz.
    ///
    /// # Panics
    ///
    /// If there is no sample, or `rate` is 0.
    pub fn of_repeated(mono: &Pcm, points: Option<LoopPoints>, rate: u32) -> Self {
        let whole = 0..mono.len();
        let part = points.map_or(whole, |points| points.start..points.end);
        let part = mono.samples().get(part).filter(|part| !part.is_empty()).unwrap_or(mono.samples());
        let kept = (KEPT_SECONDS * f64::from(mono.rate())) as usize;
        let before = part.iter().cycle().skip((part.len() - kept % part.len()) % part.len()).take(kept);
        let around = before.chain(part.iter().cycle().take(kept)).copied().collect();
        let around = resample(&Pcm::new(mono.rate(), 1, around), rate);
        let at = (kept as f64 * f64::from(rate) / f64::from(mono.rate())).round() as usize;
        Self { samples: around.samples().to_vec(), at, rate }
    }

    /// How much the join sticks out of the sound around it, in dB: see the formula at [`Join`].
    pub fn click_db(&self) -> f64 {
        let reach = |seconds: f64| (seconds * f64::from(self.rate)).max(1.0) as usize;
        let (near, around) = (reach(NEAR_SECONDS), reach(AROUND_SECONDS));
        let (mut sharpest_near, mut sharpest_around) = (0.0f32, 0.0f32);
        for (index, three) in self.samples.windows(3).enumerate() {
            let (middle, bend) = (index + 1, (three[0] - 2.0 * three[1] + three[2]).abs());
            // The join is between two samples: both are next to it.
            let distance = if middle < self.at { self.at - middle } else { middle - self.at + 1 };
            if distance <= near {
                sharpest_near = sharpest_near.max(bend);
            } else if distance <= around {
                sharpest_around = sharpest_around.max(bend);
            }
        }
        f64::from(20.0 * ((sharpest_near + FLOOR) / (sharpest_around + FLOOR)).log10())
    }

    /// The sound around the join: up to 0.2 s to either side.
    pub fn samples(&self) -> &[f32] {
        &self.samples
    }

    /// Which of the samples is the first one behind the join.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The rate of the samples in Hz.
    pub fn rate(&self) -> u32 {
        self.rate
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use proptest::prelude::*;

    use super::*;

    /// A sine of `periods` periods at 16 kHz.
    fn sine(hz: f64, periods: f64, level: f64) -> Pcm {
        let len = (periods * 16_000.0 / hz).round() as usize;
        let samples = (0..len).map(|n| ((TAU * hz * n as f64 / 16_000.0).sin() * level) as f32);
        Pcm::new(16_000, 1, samples.collect())
    }

    fn repeated(mono: &Pcm) -> f64 {
        Join::of_repeated(mono, None, 16_000).click_db()
    }

    #[test]
    fn whole_periods_join_without_a_trace_and_half_ones_click() {
        for hz in [100.0, 400.0, 1_000.0] {
            let whole = repeated(&sine(hz, 50.0, 0.5));
            // Where a sine passes through zero it is straight.
            assert!((-1.0..0.1).contains(&whole), "{hz} Hz: {whole}");
            let half = repeated(&sine(hz, 50.5, 0.5));
            // The slope turns from down to up: a kink of 2ω against bends of ω², 14 dB at 1 kHz.
            let omega = TAU * hz / 16_000.0;
            let [kink, bend] = [2.0 * omega, omega * omega].map(|bend| 0.5 * bend + f64::from(FLOOR));
            let expected = 20.0 * (kink / bend).log10();
            assert!((half - expected).abs() < 1.0, "{hz} Hz: {half} instead of {expected}");
            assert!(half > AUDIBLE_DB);
        }
    }

    #[test]
    fn a_click_is_found_at_every_rate_and_length() {
        let at = |rate: u32, seconds: f64| {
            let len = (f64::from(rate) * seconds) as usize;
            let samples = (0..len).map(|n| (TAU * 400.0 * n as f64 / f64::from(rate)).sin() as f32 * 0.3);
            Join::of_repeated(&Pcm::new(rate, 1, samples.collect()), None, 16_000).click_db()
        };
        for rate in [8_000, 16_000, 44_100, 48_000, 96_000] {
            // 40.5 periods, and 100.5.
            for seconds in [0.101_25, 0.251_25] {
                let found = at(rate, seconds);
                assert!(found > 2.0 * AUDIBLE_DB, "{rate} Hz, {seconds} s: {found}");
            }
            let whole = at(rate, 0.1);
            assert!(whole < 1.0, "{rate} Hz: {whole}");
        }
    }

    #[test]
    fn silence_has_no_click_and_a_step_out_of_it_has() {
        assert_eq!(repeated(&Pcm::new(16_000, 1, vec![0.0; 8_000])), 0.0);
        let mut step = vec![0.0; 16_000];
        step[..200].fill(0.5);
        let join = Join::inside(&step, 200, 16_000);
        assert!(join.click_db() > 50.0, "{}", join.click_db());
        // The step is found where it is, and nowhere else.
        assert!(Join::inside(&step, 400, 16_000).click_db() < -50.0);
        // Noise of -65 dB that ends all at once.
        let fade: Vec<f32> = (0..8_000).map(|n| if n < 4_000 && n % 3 == 0 { 5e-4 } else { 0.0 }).collect();
        assert!(repeated(&Pcm::new(16_000, 1, fade)) < AUDIBLE_DB);
        assert_eq!((join.at(), join.samples().len()), (200, 3_400));
    }

    #[test]
    fn loop_points_say_where_the_join_is() {
        let mut samples = sine(400.0, 100.0, 0.5).samples().to_vec();
        samples.extend([0.9, -0.9, 0.9]);
        let clip = Pcm::new(16_000, 1, samples);
        assert!(repeated(&clip) > AUDIBLE_DB);
        let points = Some(LoopPoints { start: 400, end: 3_600 });
        assert!(Join::of_repeated(&clip, points, 16_000).click_db().abs() < 0.1);
        let outside = Some(LoopPoints { start: 400, end: 36_000 });
        assert_eq!(Join::of_repeated(&clip, outside, 16_000), Join::of_repeated(&clip, None, 16_000));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Noise bends everywhere: cut anywhere it does not stick out, and whatever it is, the measure is a number.
        #[test]
        fn noise_has_no_seam(seed in 1u32..1_000_000, len in 2_000usize..20_000) {
            let mut state = seed.wrapping_mul(2_654_435_761) | 1;
            let noise = (0..len).map(|_| {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                (state >> 8) as f32 / 16_777_216.0 - 0.5
            });
            let click = repeated(&Pcm::new(16_000, 1, noise.collect()));
            prop_assert!((-8.0..2.0).contains(&click), "{}", click);
        }

        #[test]
        fn any_sound_at_any_place_is_measured(
            sound in prop::collection::vec(-1.0f32..1.0, 1..300),
            place in any::<prop::sample::Index>(),
            rate in 4_000u32..50_000,
        ) {
            prop_assert!(Join::inside(&sound, place.index(sound.len() + 1), rate).click_db().is_finite());
            prop_assert!(Join::of_repeated(&Pcm::new(rate, 1, sound), None, 16_000).click_db().is_finite());
        }
    }
}
