//! The instruments: a note goes in, its sound is added to a [`Bus`].
//!
//! Struck and plucked ones are sums of decaying partials, blown and bowed ones play a wave of fixed harmonics,
//! the electric piano is frequency modulation. All keep the bulk of their sound between 300 Hz and 3 kHz, which
//! every telephone carries, and stay clear of the 8 kHz at which 16 kHz sampling would fold them back.

use super::exact::{Chance, Wave, cosine, fade_60_db, hertz, sine};

/// Samples per second of everything here, in Hz.
pub(super) const RATE: f64 = 16_000.0;

/// Highest frequency that a partial may have, in Hz: half a kilohertz below the folding point.
const TOP: f64 = 7_500.0;

/// A circular track: what rings on past the end of the piece sounds at its beginning.
pub(super) struct Bus {
    samples: Vec<f64>,
}

impl Bus {
    /// A silent track of `length` samples.
    pub(super) fn new(length: usize) -> Self {
        Self { samples: vec![0.0; length] }
    }

    /// Adds `sound` from sample `start` on, around the end if need be.
    fn add(&mut self, start: usize, sound: &[f64], gain: f64) {
        let length = self.samples.len();
        let mut position = start % length;
        for value in sound {
            self.samples[position] += value * gain;
            position += 1;
            if position == length {
                position = 0;
            }
        }
    }

    /// What has been played.
    pub(super) fn samples(&self) -> &[f64] {
        &self.samples
    }
}

/// What a player wants: where, how long, how high and how strong.
#[derive(Clone, Copy)]
pub(super) struct Stroke {
    /// First sample.
    pub(super) at: usize,
    /// Samples until the key is released or the string damped.
    pub(super) length: usize,
    /// MIDI key.
    pub(super) key: i32,
    /// Strength, 1.0 being the ordinary one.
    pub(super) force: f64,
}

/// One partial: its frequency in Hz, amplitude, and the seconds in which it fades by 60 dB.
struct Partial {
    hertz: f64,
    amplitude: f64,
    fade: f64,
}

/// Sums decaying partials for `length` samples, then damps them within `damp` seconds; the attack rises over
/// `rise` samples.
fn ring(partials: &[Partial], length: usize, rise: usize, damp: f64) -> Vec<f64> {
    let tail = (damp * RATE) as usize;
    let longest = partials.iter().fold(0.0, |max, p| if p.fade > max { p.fade } else { max });
    let total = (length + tail).min((longest * RATE) as usize);
    let mut sound = vec![0.0; total];
    for partial in partials.iter().filter(|p| p.hertz < TOP) {
        // A rotating pointer that shrinks: one complex multiplication per sample.
        let shrink = fade_60_db(partial.fade, RATE);
        let (turn_re, turn_im) = (cosine(partial.hertz / RATE) * shrink, sine(partial.hertz / RATE) * shrink);
        let (mut re, mut im) = (partial.amplitude, 0.0);
        for value in &mut sound {
            *value += im;
            (re, im) = (re * turn_re - im * turn_im, re * turn_im + im * turn_re);
        }
    }
    for (i, value) in sound.iter_mut().take(rise).enumerate() {
        *value *= (i + 1) as f64 / rise as f64;
    }
    damped(&mut sound, length, damp);
    sound
}

/// Fades `sound` by 60 dB within `seconds` from sample `from` on, and brings its very end to zero.
fn damped(sound: &mut [f64], from: usize, seconds: f64) {
    let shrink = fade_60_db(seconds, RATE);
    let mut gain = 1.0;
    for value in sound.iter_mut().skip(from) {
        *value *= gain;
        gain *= shrink;
    }
    let total = sound.len();
    let last = total.min(160);
    for (i, value) in sound[total - last..].iter_mut().rev().enumerate() {
        *value *= i as f64 / last as f64;
    }
}

/// Nylon-strung guitar: harmonics of a string plucked at a fifth of its length, the high ones fading first.
pub(super) fn guitar(bus: &mut Bus, stroke: Stroke, chance: &mut Chance) {
    let base = hertz(f64::from(stroke.key) + 0.03 * chance.spread());
    let mut partials = Vec::new();
    for n in 1..=14 {
        let n = f64::from(n);
        // A string pulled up at one point p has harmonics sin(pi n p) / n^2; the nail adds brightness.
        let pull = sine(0.5 * n * 0.21);
        let bright = 0.78 + 0.12 * stroke.force;
        let hertz = base * n * (1.0 + 0.000_06 * n * n);
        partials.push(Partial {
            hertz,
            amplitude: pull / (n * (1.0 + 0.25 * n)) * (0.5 + bright) * stroke.force,
            fade: 4.2 / (1.0 + hertz / 1_500.0),
        });
    }
    let mut sound = ring(&partials, stroke.length, 12, 0.16);
    nail(&mut sound, 0.10 * stroke.force, chance);
    bus.add(stroke.at, &sound, 1.0);
}

/// The short noise of a nail or a hammer at the beginning of a note.
fn nail(sound: &mut [f64], strength: f64, chance: &mut Chance) {
    let shrink = fade_60_db(0.018, RATE);
    let (mut gain, mut low, mut lower) = (strength, 0.0, 0.0);
    for value in sound.iter_mut().take(400) {
        low += 0.55 * (chance.spread() - low);
        lower += 0.15 * (low - lower);
        *value += gain * (low - lower);
        gain *= shrink;
    }
}

/// Upright bass, plucked: little at the fundamental, much at the second to eighth harmonic, so that a telephone
/// that begins at 300 Hz still carries the line.
pub(super) fn bass(bus: &mut Bus, stroke: Stroke, chance: &mut Chance) {
    const SHAPE: [f64; 12] = [0.42, 0.62, 0.66, 0.58, 0.46, 0.36, 0.26, 0.18, 0.12, 0.08, 0.05, 0.03];
    let base = hertz(f64::from(stroke.key));
    let mut partials = Vec::new();
    for (i, amplitude) in SHAPE.iter().enumerate() {
        let n = (i + 1) as f64;
        let hertz = base * n * (1.0 + 0.000_04 * n * n);
        partials.push(Partial {
            hertz,
            amplitude: amplitude * stroke.force,
            fade: 2.4 / (1.0 + hertz / 700.0) + 0.25,
        });
    }
    let mut sound = ring(&partials, stroke.length, 24, 0.12);
    nail(&mut sound, 0.12 * stroke.force, chance);
    bus.add(stroke.at, &sound, 1.0);
}

/// Vibraphone with a slow motor: fundamental, double octave and a touch of the bar's third mode.
pub(super) fn vibraphone(bus: &mut Bus, stroke: Stroke, chance: &mut Chance) {
    let base = hertz(f64::from(stroke.key));
    let partials = [
        Partial { hertz: base, amplitude: 0.9 * stroke.force, fade: 3.2 },
        Partial { hertz: base * 2.001, amplitude: 0.10 * stroke.force, fade: 1.4 },
        Partial { hertz: base * 3.984, amplitude: 0.20 * stroke.force, fade: 0.7 },
        Partial { hertz: base * 9.9, amplitude: 0.04 * stroke.force, fade: 0.12 },
    ];
    let mut sound = ring(&partials, stroke.length, 16, 0.35);
    nail(&mut sound, 0.05 * stroke.force, chance);
    for (i, value) in sound.iter_mut().enumerate() {
        *value *= 1.0 + 0.16 * sine((stroke.at + i) as f64 * 4.6 / RATE);
    }
    bus.add(stroke.at, &sound, 1.0);
}

/// Electric piano: a sine modulated by its own frequency, bright when struck and mellow after, with a tine.
pub(super) fn piano(bus: &mut Bus, stroke: Stroke, wave: &Wave, chance: &mut Chance) {
    let pitch = hertz(f64::from(stroke.key) + 0.02 * chance.spread());
    let step = Wave::step(pitch, RATE);
    let total = stroke.length + (0.22 * RATE) as usize;
    let mut sound = vec![0.0; total];
    let (fade, mellow) = (fade_60_db(4.5, RATE), fade_60_db(1.6, RATE));
    let (mut level, mut index) = (stroke.force, 0.55 + 0.75 * stroke.force);
    let mut phase = 0_u32;
    for value in &mut sound {
        // The modulator runs at the carrier's pitch; an index of 1 adds harmonics up to about the fourth.
        let bend = wave.at(phase) * (0.25 + index) * (4_294_967_296.0 / super::exact::TURN);
        *value = level * wave.at(phase.wrapping_add((bend as i64) as u32));
        phase = phase.wrapping_add(step);
        level *= fade;
        index *= mellow;
    }
    for (i, value) in sound.iter_mut().take(24).enumerate() {
        *value *= (i + 1) as f64 / 24.0;
    }
    damped(&mut sound, stroke.length, 0.25);
    let tine = [Partial { hertz: pitch * 7.02, amplitude: 0.06 * stroke.force, fade: 0.25 }];
    bus.add(stroke.at, &sound, 1.0);
    bus.add(stroke.at, &ring(&tine, stroke.length, 16, 0.1), 1.0);
}

/// A reed between flute and clarinet: few harmonics, a breath, and a vibrato that begins late.
pub(super) fn reed(bus: &mut Bus, stroke: Stroke, wave: &Wave, chance: &mut Chance) {
    let pitch = hertz(f64::from(stroke.key));
    let total = stroke.length + (0.14 * RATE) as usize;
    let mut sound = vec![0.0; total];
    let rise = 0.045 * RATE;
    let late = 0.25 * RATE;
    let (mut phase, mut breath) = (0_u32, 0.0);
    for (i, value) in sound.iter_mut().enumerate() {
        let time = i as f64;
        let depth = if time < late { 0.0 } else { ((time - late) / (0.35 * RATE)).min(1.0) };
        let shake = sine(time * 5.1 / RATE) * depth;
        // 0.6 % of the pitch are ten cents.
        phase = phase.wrapping_add(Wave::step(pitch * (1.0 + 0.006 * shake), RATE));
        let swell = (time / rise).min(1.0);
        let body = 0.86 + 0.14 * (time / (0.5 * RATE)).min(1.0);
        breath += 0.35 * (chance.spread() - breath);
        *value = stroke.force
            * swell
            * swell
            * (3.0 - 2.0 * swell)
            * body
            * (wave.at(phase) * (1.0 + 0.08 * shake) + 0.022 * breath);
    }
    damped(&mut sound, stroke.length, 0.16);
    bus.add(stroke.at, &sound, 1.0);
}

/// The wave of [`reed`].
pub(super) fn reed_wave() -> Wave {
    Wave::new(&[0.78, 0.30, 0.17, 0.06, 0.03, 0.01])
}

/// Strings for the background: two slightly detuned sawtooth-like waves, dark, slow to come and to go.
pub(super) fn strings(bus: &mut Bus, stroke: Stroke) {
    let pitch = hertz(f64::from(stroke.key));
    let harmonics: Vec<f64> = (1..=12)
        .map(|n| {
            let hertz = pitch * f64::from(n);
            let over = hertz / 1_300.0;
            if hertz > 4_000.0 { 0.0 } else { 1.0 / (f64::from(n) * (1.0 + over * over)) }
        })
        .collect();
    let wave = Wave::new(&harmonics);
    let total = stroke.length + (0.5 * RATE) as usize;
    let mut sound = vec![0.0; total];
    let rise = 0.22 * RATE;
    let (low, high) = (Wave::step(pitch * 0.998_4, RATE), Wave::step(pitch * 1.001_7, RATE));
    let (mut a, mut b) = (0_u32, 0x5555_5555_u32);
    for (i, value) in sound.iter_mut().enumerate() {
        let swell = (i as f64 / rise).min(1.0);
        *value = stroke.force * 0.5 * swell * (2.0 - swell) * (wave.at(a) + wave.at(b));
        a = a.wrapping_add(low);
        b = b.wrapping_add(high);
    }
    damped(&mut sound, stroke.length, 0.7);
    bus.add(stroke.at, &sound, 1.0);
}

/// The small instruments that keep time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// A grain shaken in a gourd: soft noise around 4 kHz.
    Shaker,
    /// A brush drawn over the snare.
    Brush,
    /// The stick laid across the rim: wood at 900 Hz and 1.7 kHz.
    Rim,
    /// An open conga, its skin at 330 Hz.
    Conga,
}

/// Plays one [`Beat`] at sample `at`.
pub(super) fn beat(bus: &mut Bus, kind: Beat, at: usize, force: f64, chance: &mut Chance) {
    let sound = match kind {
        Beat::Shaker => noise(0.075, 0.014, 0.62, 0.30, chance),
        Beat::Brush => noise(0.26, 0.035, 0.42, 0.12, chance),
        Beat::Rim => ring(
            &[
                Partial { hertz: 905.0, amplitude: 0.55, fade: 0.085 },
                Partial { hertz: 1_690.0, amplitude: 0.45, fade: 0.060 },
                Partial { hertz: 2_630.0, amplitude: 0.18, fade: 0.035 },
            ],
            2_000,
            6,
            0.05,
        ),
        Beat::Conga => {
            let skin = 330.0 * (1.0 + 0.004 * chance.spread());
            let mut sound = ring(
                &[
                    Partial { hertz: skin, amplitude: 0.8, fade: 0.36 },
                    Partial { hertz: skin * 1.56, amplitude: 0.30, fade: 0.20 },
                    Partial { hertz: skin * 2.24, amplitude: 0.16, fade: 0.12 },
                ],
                5_000,
                14,
                0.1,
            );
            nail(&mut sound, 0.2, chance);
            sound
        }
    };
    bus.add(at, &sound, force);
}

/// Noise between two one-pole filters (`open` above, `close` below), rising for `rise` s and fading in `fade` s.
fn noise(fade: f64, rise: f64, open: f64, close: f64, chance: &mut Chance) -> Vec<f64> {
    let (up, total) = (rise * RATE, ((rise + fade) * RATE) as usize);
    let shrink = fade_60_db(fade * 1.4, RATE);
    let (mut low, mut lower, mut level) = (0.0, 0.0, 1.0);
    let mut sound: Vec<f64> = (0..total)
        .map(|i| {
            low += open * (chance.spread() - low);
            lower += close * (low - lower);
            let time = i as f64;
            if time > up {
                level *= shrink;
            }
            (low - lower) * level * (time / up).min(1.0)
        })
        .collect();
    damped(&mut sound, total, 0.01);
    sound
}
