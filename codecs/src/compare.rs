//! What was heard against what should have been heard: alignment, loudness, noise.

use ebur128::{EbuR128, Mode};
use realfft::{RealFftPlanner, num_complex::Complex};

use crate::pcm::Pcm;

/// Where a reference was found in what was heard, and how alike they are there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alignment {
    /// The sample of what was heard that stands for the reference's first one; negative if hearing began later.
    pub offset_samples: i64,
    /// Normalised correlation over the part that both have: 1 is alike but for level, 0 is unrelated.
    pub correlation: f64,
}

/// Finds `reference` in `heard` (same rate, mono), by the largest normalised correlation over all offsets at which at
/// least half of the shorter one overlaps. Two silences, or nothing at all, correlate with 0 at offset 0.
pub fn align(reference: &[f32], heard: &[f32]) -> Alignment {
    let shorter = reference.len().min(heard.len());
    if shorter == 0 {
        return Alignment { offset_samples: 0, correlation: 0.0 };
    }
    // Room for every offset in both directions without wrapping round; a power of two is quick.
    let size = (reference.len() + heard.len()).next_power_of_two();
    let products = circular_products(reference, heard, size);
    let reference_energy = running_energy(reference);
    let heard_energy = running_energy(heard);
    let least_overlap = shorter.div_ceil(2);

    let (reference_len, heard_len) = (reference.len() as i64, heard.len() as i64);
    let mut best = (0i64, f64::MIN);
    for offset in 1 - reference_len..heard_len {
        let start = offset.max(0);
        let end = heard_len.min(offset + reference_len);
        if end - start < least_overlap as i64 {
            continue;
        }
        let (from, to) = ((start - offset) as usize, (end - offset) as usize);
        let energy = (reference_energy[to] - reference_energy[from])
            * (heard_energy[end as usize] - heard_energy[start as usize]);
        let product = products[offset.rem_euclid(size as i64) as usize];
        let likeness = if energy > 0.0 { product / energy.sqrt() } else { 0.0 };
        if likeness > best.1 {
            best = (offset, likeness);
        }
    }
    let offset = best.0;
    let start = offset.max(0);
    let end = heard_len.min(offset + reference_len);
    let correlation = correlate(
        &reference[(start - offset) as usize..(end - offset) as usize],
        &heard[start as usize..end as usize],
    );
    Alignment { offset_samples: offset, correlation }
}

/// Finds the phase of an endlessly repeated `reference_loop` in `heard`, which may be shorter or many laps long, and
/// compares all of `heard`. The offset is the first sample of `heard` at which the loop begins: 0 to its length - 1.
pub fn align_loop(reference_loop: &[f32], heard: &[f32]) -> Alignment {
    let period = reference_loop.len();
    if period == 0 || heard.is_empty() {
        return Alignment { offset_samples: 0, correlation: 0.0 };
    }
    // All laps fall onto one circle, and a circle is what an FFT of its length correlates.
    let mut folded = vec![0.0f32; period];
    for lap in heard.chunks(period) {
        for (sum, sample) in folded.iter_mut().zip(lap) {
            *sum += sample;
        }
    }
    let products = circular_products(reference_loop, &folded, period);
    // Whole laps weigh the same at every phase; only the broken one differs.
    let energy = running_energy(reference_loop);
    let lap_energy = energy[period];
    let (laps, rest) = ((heard.len() / period) as f64, heard.len() % period);
    let likeness = |offset: usize| {
        let from = (period - offset) % period;
        let broken = if from + rest <= period {
            energy[from + rest] - energy[from]
        } else {
            lap_energy - energy[from] + energy[from + rest - period]
        };
        let energy = laps * lap_energy + broken;
        if energy > 0.0 { products[offset] / energy.sqrt() } else { 0.0 }
    };
    let likenesses: Vec<f64> = (0..period).map(likeness).collect();
    // A loop of several turns is like itself at each of them: of equal peaks the first one is meant.
    let highest = likenesses.iter().copied().fold(f64::MIN, f64::max);
    let as_good = highest - 1e-4 * highest.abs();
    let is_peak = |&offset: &usize| {
        let [before, here, behind] = [period - 1, 0, 1].map(|step| likenesses[(offset + step) % period]);
        here >= as_good && here >= before && here >= behind
    };
    let best = (0..period).find(is_peak).unwrap_or(0);
    let unrolled: Vec<f32> =
        reference_loop.iter().copied().cycle().skip((period - best) % period).take(heard.len()).collect();
    Alignment { offset_samples: best as i64, correlation: correlate(&unrolled, heard) }
}

/// For each offset the sum of `reference[i] × heard[i + offset]`, round a circle of `size`.
fn circular_products(reference: &[f32], heard: &[f32], size: usize) -> Vec<f64> {
    let mut planner = RealFftPlanner::<f64>::new();
    let forward = planner.plan_fft_forward(size);
    let spectrum = |sound: &[f32]| {
        let mut buffer = forward.make_input_vec();
        for (slot, &sample) in buffer.iter_mut().zip(sound) {
            *slot = f64::from(sample);
        }
        let mut spectrum = forward.make_output_vec();
        forward.process(&mut buffer, &mut spectrum).expect("the plan made both buffers");
        spectrum
    };
    let reference = spectrum(reference);
    let mut product = spectrum(heard);
    for (heard, reference) in product.iter_mut().zip(&reference) {
        *heard *= reference.conj();
    }
    // The first bin of a real spectrum is real, and so is the last one of an even size.
    let real = |bin: &mut Complex<f64>| bin.im = 0.0;
    product.first_mut().map(real);
    if size.is_multiple_of(2) {
        product.last_mut().map(real);
    }
    let inverse = planner.plan_fft_inverse(size);
    let mut products = inverse.make_output_vec();
    inverse.process(&mut product, &mut products).expect("the plan made both buffers");
    products.iter_mut().for_each(|product| *product /= size as f64);
    products
}

/// Energy of the first n samples, for every n.
fn running_energy(sound: &[f32]) -> Vec<f64> {
    let mut energy = Vec::with_capacity(sound.len() + 1);
    energy.push(0.0);
    let mut sum = 0.0;
    for &sample in sound {
        sum += f64::from(sample) * f64::from(sample);
        energy.push(sum);
    }
    energy
}

/// Normalised correlation of two sounds, sample against sample, over the shorter one; 0 if one of them is silent.
pub fn correlate(reference: &[f32], heard: &[f32]) -> f64 {
    let (mut product, mut reference_energy, mut heard_energy) = (0.0, 0.0, 0.0);
    for (&reference, &heard) in reference.iter().zip(heard) {
        let (reference, heard) = (f64::from(reference), f64::from(heard));
        product += reference * heard;
        reference_energy += reference * reference;
        heard_energy += heard * heard;
    }
    let energy: f64 = reference_energy * heard_energy;
    if energy > 0.0 { product / energy.sqrt() } else { 0.0 }
}

/// Seconds that a loudness is measured over, at least: EBU Tech 3341's short-term window. The gate needs blocks of
/// 0.4 s; a shorter clip is measured as it will be heard, repeated.
const LOUDNESS_SECONDS: f64 = 3.0;

/// Integrated loudness in LUFS (EBU R 128, ITU-R BS.1770-4). `None` for silence, nothing, or a shape that BS.1770
/// does not weigh (rates below 16 Hz or above 2.8 MHz, more than 64 channels).
pub fn loudness_lufs(pcm: &Pcm) -> Option<f64> {
    let mut meter = LoudnessMeter::new(pcm.rate(), pcm.channels(), Mode::I)?;
    meter.add(pcm.samples());
    meter.loudness_lufs()
}

/// Loudness of a recording that comes in pieces.
pub(crate) struct LoudnessMeter {
    meter: EbuR128,
    channels: u32,
    /// So many samples make [`LOUDNESS_SECONDS`].
    least: usize,
    /// All there was, as long as it is too short to be measured once.
    beginning: Vec<f32>,
    samples: usize,
}

impl LoudnessMeter {
    /// A meter that measures what `mode` asks for; `None` for a shape that BS.1770 does not weigh.
    pub(crate) fn new(rate: u32, channels: u16, mode: Mode) -> Option<Self> {
        let channels = u32::from(channels);
        let meter = EbuR128::new(channels, rate, mode).ok()?;
        let least = (LOUDNESS_SECONDS * f64::from(rate)).ceil() as usize * channels as usize;
        Some(Self { meter, channels, least, beginning: Vec::new(), samples: 0 })
    }

    /// Takes whole frames of samples, interleaved.
    pub(crate) fn add(&mut self, samples: &[f32]) {
        self.meter.add_frames_f32(samples).expect("whole frames of as many channels as were announced");
        self.samples += samples.len();
        if self.samples < self.least {
            self.beginning.extend_from_slice(samples);
        } else {
            self.beginning = Vec::new();
        }
    }

    /// The loudness of all there was; `None` for silence or nothing.
    pub(crate) fn loudness_lufs(&mut self) -> Option<f64> {
        if self.samples == 0 {
            return None;
        }
        for _ in 1..self.least.div_ceil(self.samples) {
            self.meter.add_frames_f32(&self.beginning).expect("as it was added before");
        }
        self.meter.loudness_global().ok().filter(|loudness| loudness.is_finite())
    }

    /// The highest true peak of all channels in dBTP, if the mode asks for it; minus infinity for silence. Nothing
    /// is measured after it.
    pub(crate) fn true_peak_dbtp(mut self) -> f64 {
        // The interpolator is some samples behind.
        let silence = vec![0.0; 64 * self.channels as usize];
        let _ = self.meter.add_frames_f32(&silence);
        let peaks = (0..self.channels).filter_map(|channel| self.meter.true_peak(channel).ok());
        20.0 * peaks.fold(0.0, f64::max).log10()
    }
}

/// Mean signal-to-noise ratio in dB over segments of `segment` samples that are aligned already, each held within
/// -10 to 35 dB as is usual (Quackenbush 1988). Segments whose reference is below -60 dB of full scale say nothing
/// and are left out; `None` if none is left.
pub fn segmental_snr(reference: &[f32], heard: &[f32], segment: usize) -> Option<f64> {
    const SILENCE_POWER: f64 = 1e-6;
    let segment = segment.max(1);
    let mut sum = 0.0;
    let mut count = 0u32;
    for (reference, heard) in reference.chunks_exact(segment).zip(heard.chunks_exact(segment)) {
        let signal: f64 = reference.iter().map(|&sample| f64::from(sample).powi(2)).sum();
        if signal < SILENCE_POWER * segment as f64 {
            continue;
        }
        let noise: f64 = reference.iter().zip(heard).map(|(r, h)| f64::from(r - h).powi(2)).sum();
        let snr = if noise > 0.0 { 10.0 * (signal / noise).log10() } else { 35.0 };
        sum += snr.clamp(-10.0, 35.0);
        count += 1;
    }
    (count > 0).then(|| sum / f64::from(count))
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use proptest::prelude::*;

    use super::*;

    /// White noise: nothing correlates with it but itself.
    fn noise(seed: u32, len: usize) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2_654_435_761) | 1;
        (0..len)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                (state >> 8) as f32 / 8_388_608.0 - 1.0
            })
            .collect()
    }

    fn sine(frequency: f64, level: f64, seconds: f64) -> Pcm {
        let len = (seconds * 16_000.0) as usize;
        let samples = (0..len).map(|n| ((TAU * frequency * n as f64 / 16_000.0).sin() * level) as f32);
        Pcm::new(16_000, 1, samples.collect())
    }

    #[test]
    fn a_reference_is_found_before_inside_and_behind() {
        let sound = noise(1, 20_000);
        for (reference, heard, offset) in [
            (5_000..15_000, 0..20_000, 5_000),
            (0..20_000, 5_000..15_000, -5_000),
            (0..10_000, 3_000..20_000, -3_000),
            (9_000..20_000, 0..16_000, 9_000),
        ] {
            let found = align(&sound[reference], &sound[heard]);
            assert_eq!(found.offset_samples, offset);
            assert!(found.correlation > 0.999_999, "{found:?}");
        }
    }

    #[test]
    fn level_does_not_count_and_noise_does() {
        let sound = noise(2, 8_000);
        let quiet: Vec<f32> = sound.iter().map(|sample| sample * 0.01).collect();
        assert!(align(&sound, &quiet).correlation > 0.999_999);
        let spoilt: Vec<f32> = sound.iter().zip(noise(3, 8_000)).map(|(s, n)| s + n).collect();
        let found = align(&sound, &spoilt);
        assert_eq!(found.offset_samples, 0);
        // As much noise as sound: one over the square root of two.
        assert!((found.correlation - 0.707).abs() < 0.03, "{found:?}");
        assert!(align(&sound, &noise(4, 8_000)).correlation < 0.1);
    }

    #[test]
    fn a_loop_of_several_turns_is_found_at_the_first() {
        let circle = noise(6, 1_000).repeat(7);
        let heard: Vec<f32> = circle.iter().copied().cycle().skip(6_700).take(9_000).collect();
        assert_eq!(align_loop(&circle, &heard).offset_samples, 300);
    }

    #[test]
    fn silence_and_nothing_are_like_nothing() {
        let nothing = Alignment { offset_samples: 0, correlation: 0.0 };
        assert_eq!(align(&[], &[1.0]), nothing);
        assert_eq!(align_loop(&[], &[1.0]), nothing);
        assert_eq!(align_loop(&[1.0], &[]), nothing);
        assert_eq!(align(&[0.0; 100], &noise(5, 100)).correlation, 0.0);
        assert_eq!(align_loop(&[0.0; 100], &noise(5, 1_000)).correlation, 0.0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_loop_is_found_at_any_phase_and_length(
            period in 200usize..3_000,
            phase in any::<prop::sample::Index>(),
            len in 150usize..9_000,
        ) {
            let circle = noise(7, period);
            let phase = phase.index(period);
            let heard: Vec<f32> = circle.iter().copied().cycle().skip(period - phase).take(len).collect();
            let found = align_loop(&circle, &heard);
            prop_assert_eq!(found.offset_samples, phase as i64);
            prop_assert!(found.correlation > 0.999_99);
        }

        #[test]
        fn nothing_that_was_heard_can_make_it_fall(
            reference in prop::collection::vec(-1.0f32..1.0, 0..300),
            heard in prop::collection::vec(-1.0f32..1.0, 0..300),
        ) {
            for found in [align(&reference, &heard), align_loop(&reference, &heard)] {
                prop_assert!((-1.000_001..=1.000_001).contains(&found.correlation));
            }
        }
    }

    #[test]
    fn loudness_is_that_of_the_standard() {
        // BS.1770: a sine of 1 kHz (997 Hz) at 0 dBFS in one channel is -3.01 LUFS.
        let loudness = loudness_lufs(&sine(997.0, 0.1, 5.0)).expect("a loudness");
        assert!((loudness - (-23.01)).abs() < 0.1, "{loudness}");
        // A tenth of a second is measured as it will be heard, again and again.
        let short = loudness_lufs(&sine(1_000.0, 0.1, 0.1)).expect("a loudness");
        assert!((short - loudness).abs() < 0.1, "{short}");
        assert_eq!(loudness_lufs(&Pcm::new(16_000, 1, vec![0.0; 16_000])), None);
        assert_eq!(loudness_lufs(&Pcm::new(16_000, 1, Vec::new())), None);
        assert!(loudness_lufs(&Pcm::new(16_000, 1, vec![0.5, -0.5])).is_some_and(f64::is_finite));
    }

    #[test]
    fn segmental_snr_is_the_mean_of_what_can_be_heard() {
        let tone = sine(500.0, 0.5, 1.0);
        let spoilt: Vec<f32> = tone
            .samples()
            .iter()
            .zip(noise(8, 16_000))
            .map(|(sample, noise)| sample + noise * 0.01)
            .collect();
        // Tone 0.125, noise 0.01² / 3 in power: 35.7 dB, held at 35 in the segments above it.
        let snr = segmental_snr(tone.samples(), &spoilt, 320).expect("a ratio");
        assert!((34.0..=35.0).contains(&snr), "{snr}");
        assert_eq!(segmental_snr(tone.samples(), tone.samples(), 320), Some(35.0));
        assert_eq!(segmental_snr(&[0.0; 640], &[0.1; 640], 320), None);
    }
}
