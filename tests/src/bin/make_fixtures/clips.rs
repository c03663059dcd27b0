//! The sounds of the fixtures: a cut of the default music, a synthesised murmur like speech, and other rates.

use std::f64::consts::{PI, TAU};

use holdmusic_codecs::music;

/// Samples per second of both sounds, in Hz.
pub(crate) const RATE: u32 = music::RATE;

/// Four bars (9.6 s, 480 frames of 20 ms) of the default music, from its bridge, so that nobody takes the
/// prompt for the beginning of the default.
pub(crate) fn music() -> Vec<i16> {
    const BAR: usize = 38_400;
    let mut samples = music::compose()[16 * BAR..20 * BAR].to_vec();
    // The cut's ends are faded over 5 ms so that neither clicks.
    let last = samples.len() - 1;
    for i in 0..80 {
        let gain = i as i32;
        samples[i] = (i32::from(samples[i]) * gain / 80) as i16;
        samples[last - i] = (i32::from(samples[last - i]) * gain / 80) as i16;
    }
    samples
}

/// A vowel or a hiss: length in ms, three formants in Hz, voicing and breath between 0 and 1.
struct Sound(u32, [f64; 3], f64, f64);

/// Something like three short sentences. It says nothing: vowels glide into each other, consonants are closures
/// and hisses, and between the sentences there is silence, as in speech.
#[rustfmt::skip]
const MURMUR: &[Sound] = &[
    Sound(60, [500.0, 1500.0, 2500.0], 0.0, 0.0),
    Sound(90, [1800.0, 2600.0, 3500.0], 0.0, 0.5),
    Sound(170, [660.0, 1720.0, 2410.0], 1.0, 0.02),
    Sound(70, [300.0, 1100.0, 2300.0], 0.45, 0.0),
    Sound(190, [570.0, 840.0, 2410.0], 1.0, 0.02),
    Sound(45, [400.0, 1400.0, 2400.0], 0.05, 0.0),
    Sound(40, [1500.0, 2200.0, 3200.0], 0.1, 0.4),
    Sound(160, [270.0, 2290.0, 3010.0], 0.95, 0.02),
    Sound(80, [280.0, 1300.0, 2300.0], 0.4, 0.0),
    Sound(230, [730.0, 1090.0, 2440.0], 1.0, 0.02),
    Sound(150, [530.0, 1840.0, 2480.0], 0.7, 0.05),
    Sound(420, [500.0, 1500.0, 2500.0], 0.0, 0.0),
    Sound(150, [300.0, 870.0, 2240.0], 0.9, 0.02),
    Sound(100, [1700.0, 2500.0, 3400.0], 0.15, 0.35),
    Sound(180, [640.0, 1190.0, 2390.0], 1.0, 0.02),
    Sound(60, [290.0, 1200.0, 2300.0], 0.4, 0.0),
    Sound(140, [390.0, 1990.0, 2550.0], 1.0, 0.02),
    Sound(50, [450.0, 1500.0, 2500.0], 0.03, 0.0),
    Sound(35, [1600.0, 2400.0, 3300.0], 0.0, 0.5),
    Sound(200, [730.0, 1090.0, 2440.0], 1.0, 0.02),
    Sound(120, [440.0, 1020.0, 2240.0], 0.9, 0.02),
    Sound(180, [270.0, 2290.0, 3010.0], 0.7, 0.04),
    Sound(560, [500.0, 1500.0, 2500.0], 0.0, 0.0),
    Sound(110, [1900.0, 2700.0, 3600.0], 0.0, 0.5),
    Sound(160, [490.0, 1350.0, 1690.0], 0.95, 0.02),
    Sound(70, [300.0, 1500.0, 2500.0], 0.4, 0.0),
    Sound(210, [660.0, 1720.0, 2410.0], 1.0, 0.02),
    Sound(60, [350.0, 900.0, 2200.0], 0.5, 0.02),
    Sound(170, [570.0, 840.0, 2410.0], 1.0, 0.02),
    Sound(50, [400.0, 1700.0, 2500.0], 0.02, 0.0),
    Sound(260, [300.0, 870.0, 2240.0], 0.8, 0.05),
    Sound(340, [500.0, 1500.0, 2500.0], 0.0, 0.0),
];

/// The murmur, as often as it takes to fill `seconds`, each time at another pitch.
pub(crate) fn speech(seconds: u32) -> Vec<i16> {
    let rate = f64::from(RATE);
    let total = (seconds * RATE) as usize;
    let mut out = Vec::with_capacity(total);
    let mut formants = [500.0, 1_500.0, 2_500.0];
    let (mut voicing, mut breath, mut phase) = (0.0, 0.0, 0.0);
    let mut state = [[0.0; 2]; 3];
    let mut dice = 0x5eed_u32;
    let mut glottis = 0.0;
    let mut lap = 0;
    'all: loop {
        let mut since_pause = 0.0;
        for Sound(ms, aims, voiced, hiss) in MURMUR {
            if *voiced == 0.0 && *hiss == 0.0 {
                since_pause = 0.0;
            }
            for _ in 0..ms * RATE / 1_000 {
                if out.len() == total {
                    break 'all;
                }
                // Mouth and voice move towards their aims with time constants of 25 and 12 ms.
                for (formant, aim) in formants.iter_mut().zip(aims) {
                    *formant += (aim - *formant) / (0.025 * rate);
                }
                voicing += (voiced - voicing) / (0.012 * rate);
                breath += (hiss - breath) / (0.012 * rate);
                since_pause += 1.0 / rate;
                // The pitch falls through a sentence and wavers a little.
                let pitch = (128.0 + 9.0 * f64::from(lap % 3)) * (1.0 - 0.11 * since_pause)
                    + 3.0 * (TAU * 4.1 * since_pause).sin();
                phase += pitch / rate;
                if phase >= 1.0 {
                    phase -= 1.0;
                }
                // A glottal pulse: open for 60 % of the period, closed abruptly.
                let open = phase / 0.6;
                let flow = if open < 1.0 { open * open * (1.0 - open) * 6.75 } else { 0.0 };
                let pulse = flow - glottis;
                glottis = flow;
                dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let noise = f64::from(dice >> 8) / 8_388_608.0 - 1.0;
                let source = voicing * pulse * 3.0 + breath * noise * 0.22;
                let mut sum = 0.0;
                for (i, (memory, formant)) in state.iter_mut().zip(formants).enumerate() {
                    let width = 70.0 + 40.0 * i as f64 + 120.0 * breath;
                    let radius = (-PI * width / rate).exp();
                    let turn = 2.0 * radius * (TAU * formant / rate).cos();
                    let value = source * (1.0 - radius) + turn * memory[0] - radius * radius * memory[1];
                    *memory = [value, memory[0]];
                    sum += value * [1.0, 0.75, 0.55][i] * if i == 1 { -1.0 } else { 1.0 };
                }
                out.push(sum);
            }
        }
        lap += 1;
    }
    let peak = out.iter().fold(0.0_f64, |peak, value| peak.max(value.abs()));
    out.iter().map(|value| (value / peak * 16_384.0).round() as i16).collect()
}

/// `samples` of [`RATE`] at another rate, by a windowed sinc of 48 taps a side.
pub(crate) fn at_rate(samples: &[i16], rate: u32) -> Vec<i16> {
    const SIDE: i64 = 48;
    let (from, to) = (f64::from(RATE), f64::from(rate));
    // The pass band ends 5 % below the lower of both folding points.
    let band = 0.95 * (to / from).min(1.0);
    let length = samples.len() as u64 * u64::from(rate) / u64::from(RATE);
    (0..length)
        .map(|n| {
            let position = n as f64 * from / to;
            let centre = position.floor() as i64;
            let mut sum = 0.0;
            for k in centre - SIDE + 1..=centre + SIDE {
                let Some(&sample) = usize::try_from(k).ok().and_then(|k| samples.get(k)) else { continue };
                let x = position - k as f64;
                let angle = PI * x * band;
                let sinc = if angle.abs() < 1e-9 { 1.0 } else { angle.sin() / angle };
                let window = (0.5 * PI * x / SIDE as f64).cos();
                sum += f64::from(sample) * sinc * window * window * band;
            }
            sum.round().clamp(-32_768.0, 32_767.0) as i16
        })
        .collect()
}
