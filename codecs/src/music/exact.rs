//! Arithmetic that gives the same bits on every machine: sine, exponential, pitch and seeded chance.
//!
//! Addition, multiplication, division and square root of `f64` are exact to the last bit by IEEE 754, and
//! Rust neither fuses nor reorders them. The platform's `sin`, `exp` and `powf` promise no such thing, so what
//! is needed of them is made here out of the four operations.

/// One full turn in radians.
pub(super) const TURN: f64 = std::f64::consts::TAU;

const LN_2: f64 = std::f64::consts::LN_2;

/// Sine of `turns` (1.0 is a full circle), to about 1e-15.
pub(super) fn sine(turns: f64) -> f64 {
    // Reduced to ±half a turn first; the cast truncates towards zero, exactly.
    let mut part = turns - (turns as i64) as f64;
    if part > 0.5 {
        part -= 1.0;
    } else if part < -0.5 {
        part += 1.0;
    }
    let angle = part * TURN;
    let square = angle * angle;
    let (mut sum, mut term, mut n) = (angle, angle, 1.0);
    while n < 30.0 {
        term = -term * square / ((n + 1.0) * (n + 2.0));
        sum += term;
        n += 2.0;
    }
    sum
}

/// Cosine of `turns`.
pub(super) fn cosine(turns: f64) -> f64 {
    sine(turns + 0.25)
}

/// e to the power of `x`.
pub(super) fn exp(x: f64) -> f64 {
    // Taylor's series on x / 1024, then ten squarings.
    let small = x / 1024.0;
    let (mut sum, mut term) = (1.0, 1.0);
    for n in 1..10 {
        term = term * small / f64::from(n);
        sum += term;
    }
    for _ in 0..10 {
        sum *= sum;
    }
    sum
}

/// Factor per sample with which something fades by 60 dB within `seconds` at `rate` Hz.
pub(super) fn fade_60_db(seconds: f64, rate: f64) -> f64 {
    // ln(1000) = 6.907…: 60 dB are a factor of a thousand in amplitude.
    exp(-6.907_755_278_982_137 / (seconds * rate))
}

/// Decibels as an amplitude factor.
pub(super) fn decibels(db: f64) -> f64 {
    exp(db * 0.115_129_254_649_702_28)
}

/// Frequency in Hz of a MIDI key (69 is the A of 440 Hz), fractions allowed.
pub(super) fn hertz(key: f64) -> f64 {
    440.0 * exp((key - 69.0) / 12.0 * LN_2)
}

/// One turn of a wave as a table, for voices whose pitch moves; the phase is a `u32`, a full turn is 2^32.
pub(super) struct Wave {
    table: Vec<f64>,
}

impl Wave {
    const BITS: u32 = 11;

    /// One turn made of harmonics: `amplitudes[0]` is the fundamental.
    pub(super) fn new(amplitudes: &[f64]) -> Self {
        let size = 1_usize << Self::BITS;
        let circle: Vec<f64> = (0..size).map(|i| sine(i as f64 / size as f64)).collect();
        let mut table = vec![0.0; size + 1];
        for (i, value) in table.iter_mut().enumerate() {
            for (h, amplitude) in amplitudes.iter().enumerate() {
                *value += amplitude * circle[(i * (h + 1)) % size];
            }
        }
        Self { table }
    }

    /// The value at `phase`, linearly interpolated.
    pub(super) fn at(&self, phase: u32) -> f64 {
        let index = (phase >> (32 - Self::BITS)) as usize;
        let rest = f64::from(phase << Self::BITS >> Self::BITS) / f64::from(1_u32 << (32 - Self::BITS));
        self.table[index] + (self.table[index + 1] - self.table[index]) * rest
    }

    /// Phase step per sample for `hertz` at `rate` Hz.
    pub(super) fn step(hertz: f64, rate: f64) -> u32 {
        (hertz / rate * 4_294_967_296.0) as u32
    }
}

/// Seeded chance (splitmix64), so that the players are human in the same way each time.
pub(super) struct Chance(u64);

impl Chance {
    /// The sequence that belongs to `seed`.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, evenly spread within ±1.0.
    pub(super) fn spread(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / 4_503_599_627_370_496.0 - 1.0
    }

    /// The next number, evenly spread within 0.0 to 1.0.
    pub(super) fn unit(&mut self) -> f64 {
        self.spread() * 0.5 + 0.5
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compared with the platform's functions, which are right although not the same everywhere.
    #[test]
    fn the_own_functions_agree_with_the_usual_ones() {
        for i in -300..300 {
            let x = f64::from(i) / 37.0;
            assert!((sine(x) - (x * TURN).sin()).abs() < 1e-12, "sine of {x} turns");
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-11, "exp of {x}");
        }
        assert!((hertz(60.0) - 261.625_565_3).abs() < 1e-6);
        assert!((decibels(-6.0) - 0.501_187_2).abs() < 1e-6);
    }

    /// The phase is split into index and rest without losing a bit.
    #[test]
    fn the_wave_follows_the_sine() {
        let wave = Wave::new(&[1.0]);
        for i in 0..1000_u32 {
            let phase = i.wrapping_mul(0x1234_5679);
            let expected = sine(f64::from(phase) / 4_294_967_296.0);
            assert!((wave.at(phase) - expected).abs() < 2e-6);
        }
    }
}
