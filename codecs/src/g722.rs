//! G.722: 16 kHz mono in, a byte for every two samples out, and back (ITU-T G.722 at 64 kbit/s, RFC 3551 section 4.5.2).
//!
//! A filter divides the sound into two bands of 4 kHz at 8 kHz each. What is encoded of either is its difference from a
//! prediction, in steps whose size follows the sound: 6 bits of the lower band and 2 of the higher one make a byte. The
//! decoder predicts the same from the same bits, so both sides remember, and neither is told anything else. The names
//! of the Recommendation's blocks and variables stand beside what they do; its arithmetic is that of 16 bits which stop at
//! their ends.

use crate::encode::{DecodePayload, EncodeError, Encoder, payload_of, to_f32, to_i16};

/// The code of no difference in either band: a decoder falls silent, and predicts less and less. (An encoder does not say
/// it for ever: its predictor plays with the last bit.)
pub const SILENCE: u8 = 0xFD;

/// The encoder, with what it remembers.
pub struct G722Encoder {
    samples_per_frame: usize,
    filter: Filter,
    lower: Band<Lower>,
    higher: Band<Higher>,
}

/// The decoder, with what it remembers.
pub struct G722Decoder {
    samples_per_frame: usize,
    filter: Filter,
    lower: Band<Lower>,
    higher: Band<Higher>,
}

impl Encoder for G722Encoder {
    fn encode(&mut self, samples: &[f32], payload: &mut [u8]) -> Result<usize, EncodeError> {
        let payload = payload_of(self.samples_per_frame, samples, payload, self.max_payload_len())?;
        for (code, pair) in payload.iter_mut().zip(samples.chunks_exact(2)) {
            *code = self.encode_pair(to_i16(pair[0]), to_i16(pair[1]));
        }
        Ok(payload.len())
    }

    fn max_payload_len(&self) -> usize {
        // One byte for every two samples.
        self.samples_per_frame / 2
    }
}

impl G722Encoder {
    /// For frames of so many samples; it starts from silence.
    pub fn new(samples_per_frame: usize) -> Self {
        Self { samples_per_frame, filter: Filter::default(), lower: Band::default(), higher: Band::default() }
    }

    fn encode_pair(&mut self, first: i16, second: i16) -> u8 {
        // Transmit filter (3.1): the sum of both halves is the lower band, their difference the higher one.
        let (even, odd) = self.filter.pass(first.into(), second.into());
        let lower = self.lower.encode((odd + even) >> 14);
        let higher = self.higher.encode((odd - even) >> 14);
        higher << 6 | lower
    }
}

impl DecodePayload for G722Decoder {
    fn decode(&mut self, payload: Option<&[u8]>, samples: &mut Vec<f32>) -> Result<(), EncodeError> {
        match payload {
            Some(payload) => {
                let pairs = payload.iter().map(|code| self.decode_pair(*code));
                samples.extend(pairs.flatten().map(to_f32));
            }
            None => samples.resize(samples.len() + self.samples_per_frame, 0.0),
        }
        Ok(())
    }
}

impl G722Decoder {
    /// For frames of so many samples; it starts from silence.
    pub fn new(samples_per_frame: usize) -> Self {
        Self { samples_per_frame, filter: Filter::default(), lower: Band::default(), higher: Band::default() }
    }

    fn decode_pair(&mut self, code: u8) -> [i16; 2] {
        let lower = self.lower.decode(code & 0x3F);
        let higher = self.higher.decode(code >> 6);
        // Receive filter (4.4).
        let (even, odd) = self.filter.pass(lower + higher, lower - higher);
        [odd, even].map(|sample| saturated(sample >> 11) as i16)
    }
}

/// The quadrature mirror filter, of 24 coefficients (table 11), the same both ways: which of its two halves comes first
/// makes the difference.
#[derive(Default)]
struct Filter {
    /// The last 24 values, oldest first.
    values: [i32; 24],
}

/// Every second coefficient; the other half is these in reverse.
const COEFFICIENTS: [i32; 12] = [3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11];

impl Filter {
    /// Takes two values in; gives what comes of those in even and of those in odd places.
    fn pass(&mut self, first: i32, second: i32) -> (i32, i32) {
        self.values.copy_within(2.., 0);
        (self.values[22], self.values[23]) = (first, second);
        let pairs = self.values.chunks_exact(2);
        pairs
            .zip(COEFFICIENTS.iter().zip(COEFFICIENTS.iter().rev()))
            .fold((0, 0), |(even, odd), (pair, (rising, falling))| {
                (even + pair[0] * rising, odd + pair[1] * falling)
            })
    }
}

/// What one of the two bands has of its own.
trait Kind: Default {
    /// The step size with which it begins.
    const FIRST_STEP: i32;
    /// The highest scale factor, as a logarithm.
    const HIGHEST_SCALE: i32;
    /// By how many bits the scale factor is shifted to become a step size.
    const SHIFT: i32;

    /// The code of a difference, and what of it predictor and step size follow.
    fn quantise(difference: i32, step: i32) -> u8;
    /// The difference that predictor and step size follow: in the lower band without the two last bits, so that a network
    /// may take those away.
    fn followed(code: u8, step: i32) -> i32;
    /// The difference that is heard.
    fn heard(code: u8, step: i32) -> i32;
    /// How the scale factor follows.
    fn rise(code: u8) -> i32;
}

/// Below 4 kHz: 6 bits.
#[derive(Default)]
struct Lower;

/// From 4 kHz on: 2 bits.
#[derive(Default)]
struct Higher;

impl Kind for Lower {
    const FIRST_STEP: i32 = 32;
    const HIGHEST_SCALE: i32 = 18_432;
    const SHIFT: i32 = 8;

    /// QUANTL: the intervals of table 14. Codes of positive differences go down from 61, those of negative ones from 31,
    /// but for the two smallest: these are 63 and 62, since no code begins with four zeros.
    fn quantise(difference: i32, step: i32) -> u8 {
        let magnitude = if difference < 0 { !difference } else { difference };
        let interval = DECISIONS.iter().take_while(|level| magnitude >= (**level * step) >> 12).count() as u8;
        match (difference < 0, interval) {
            (false, _) => 61 - interval,
            (true, 0 | 1) => 63 - interval,
            (true, _) => 33 - interval,
        }
    }

    /// INVQAL.
    fn followed(code: u8, step: i32) -> i32 {
        (step * FOURS[usize::from(code >> 2)]) >> 15
    }

    /// INVQBL.
    fn heard(code: u8, step: i32) -> i32 {
        (step * SIXES[usize::from(code)]) >> 15
    }

    /// LOGSCL: WL by way of RL4.
    fn rise(code: u8) -> i32 {
        RISES[usize::from(code >> 2)]
    }
}

impl Kind for Higher {
    const FIRST_STEP: i32 = 8;
    const HIGHEST_SCALE: i32 = 22_528;
    const SHIFT: i32 = 10;

    /// QUANTH.
    fn quantise(difference: i32, step: i32) -> u8 {
        let magnitude = if difference < 0 { !difference } else { difference };
        match (difference < 0, magnitude >= (564 * step) >> 12) {
            (true, false) => 1,
            (true, true) => 0,
            (false, false) => 3,
            (false, true) => 2,
        }
    }

    /// INVQAH.
    fn followed(code: u8, step: i32) -> i32 {
        (step * TWOS[usize::from(code)]) >> 15
    }

    fn heard(code: u8, step: i32) -> i32 {
        Self::followed(code, step)
    }

    /// LOGSCH: WH by way of IH2.
    fn rise(code: u8) -> i32 {
        [798, -214][usize::from(code & 1)]
    }
}

/// Where the intervals of the lower band end, for a step of 4096 (Q6).
const DECISIONS: [i32; 29] = [
    35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650, 714, 786, 858, 940, 1023, 1121, 1219,
    1339, 1458, 1612, 1765, 1980, 2195, 2557, 2919,
];

/// Differences by the first four bits of a lower code (QQ4, IL4).
const FOURS: [i32; 16] = [
    0, -20_456, -12_896, -8_968, -6_288, -4_240, -2_584, -1_200, 20_456, 12_896, 8_968, 6_288, 4_240, 2_584,
    1_200, 0,
];

/// Differences by the six bits of a lower code (QQ6, IL6). The first four codes come of errors on the way only.
const SIXES: [i32; 64] = [
    -136, -136, -136, -136, -24_808, -21_904, -19_008, -16_704, -14_984, -13_512, -12_280, -11_192, -10_232,
    -9_360, -8_576, -7_856, -7_192, -6_576, -6_000, -5_456, -4_944, -4_464, -4_008, -3_576, -3_168, -2_776,
    -2_400, -2_032, -1_688, -1_360, -1_040, -728, 24_808, 21_904, 19_008, 16_704, 14_984, 13_512, 12_280,
    11_192, 10_232, 9_360, 8_576, 7_856, 7_192, 6_576, 6_000, 5_456, 4_944, 4_464, 4_008, 3_576, 3_168,
    2_776, 2_400, 2_032, 1_688, 1_360, 1_040, 728, 432, 136, -432, -136,
];

/// Differences by a higher code (QQ2, IH2).
const TWOS: [i32; 4] = [-7_408, -1_616, 7_408, 1_616];

/// How the scale factor of the lower band follows, by the first four bits of a code (WL, RL4).
const RISES: [i32; 16] =
    [-60, 3_042, 1_198, 538, 334, 172, 58, -30, 3_042, 1_198, 538, 334, 172, 58, -30, -60];

/// Powers of two between 2048 and 4096, in steps of a 32nd of an octave (ILB).
const POWERS: [i32; 32] = [
    2_048, 2_093, 2_139, 2_186, 2_233, 2_282, 2_332, 2_383, 2_435, 2_489, 2_543, 2_599, 2_656, 2_714, 2_774,
    2_834, 2_896, 2_960, 3_025, 3_091, 3_158, 3_228, 3_298, 3_371, 3_444, 3_520, 3_597, 3_676, 3_756, 3_838,
    3_922, 4_008,
];

/// One band: its step size, and its predictor of two poles and six zeros.
struct Band<K> {
    kind: std::marker::PhantomData<K>,
    /// Step size (DET), and its logarithm (NB).
    step: i32,
    scale: i32,
    /// What is predicted (S), and the zeros' share of it (SZ).
    predicted: i32,
    by_zeros: i32,
    /// Coefficients of poles (A) and zeros (B).
    poles: [i32; 2],
    zeros: [i32; 6],
    /// Latest first: reconstructed values (R), their differences from the poles' share (P), and differences (D).
    reconstructed: [i32; 2],
    partial: [i32; 2],
    differences: [i32; 6],
}

impl<K: Kind> Default for Band<K> {
    fn default() -> Self {
        Self {
            kind: std::marker::PhantomData,
            step: K::FIRST_STEP,
            scale: 0,
            predicted: 0,
            by_zeros: 0,
            poles: [0; 2],
            zeros: [0; 6],
            reconstructed: [0; 2],
            partial: [0; 2],
            differences: [0; 6],
        }
    }
}

impl<K: Kind> Band<K> {
    fn encode(&mut self, value: i32) -> u8 {
        let code = K::quantise(saturated(value - self.predicted), self.step);
        self.follow(code);
        code
    }

    fn decode(&mut self, code: u8) -> i32 {
        // RECONS and LIMIT: 15 bits.
        let heard = (self.predicted + K::heard(code, self.step)).clamp(-16_384, 16_383);
        self.follow(code);
        heard
    }

    /// Everything that both sides do alike.
    fn follow(&mut self, code: u8) {
        let difference = K::followed(code, self.step);
        self.scale = (((self.scale * 127) >> 7) + K::rise(code)).clamp(0, K::HIGHEST_SCALE);
        // SCALEL, SCALEH: the logarithm has 11 bits behind the point.
        let power = POWERS[(self.scale >> 6) as usize & 31];
        let shift = K::SHIFT - (self.scale >> 11);
        self.step = if shift < 0 { power << -shift } else { power >> shift } << 2;
        self.predict(difference);
    }

    /// The predictor follows `difference`, and predicts the next value.
    fn predict(&mut self, difference: i32) {
        let reconstructed = saturated(self.predicted + difference);
        let partial = saturated(self.by_zeros + difference);
        let same_sign = |one: i32, other: i32| (one < 0) == (other < 0);
        let [before, before_that] = self.partial.map(|earlier| same_sign(partial, earlier));

        // UPPOL2.
        let first = saturated(self.poles[0] << 2);
        let first = if before { saturated(-first) } else { first };
        let second = if before_that { 128 } else { -128 };
        let second = ((first >> 7) + second + ((self.poles[1] * 32_512) >> 15)).clamp(-12_288, 12_288);
        // UPPOL1.
        let limit = 15_360 - second;
        let first = (if before { 192 } else { -192 }) + ((self.poles[0] * 32_640) >> 15);
        self.poles = [first.clamp(-limit, limit), second];
        // UPZERO.
        for (zero, earlier) in self.zeros.iter_mut().zip(self.differences) {
            let step = match difference {
                0 => 0,
                _ if same_sign(difference, earlier) => 128,
                _ => -128,
            };
            *zero = saturated(step + ((*zero * 32_640) >> 15));
        }
        // DELAYA.
        self.differences.copy_within(..5, 1);
        self.differences[0] = difference;
        self.reconstructed = [reconstructed, self.reconstructed[0]];
        self.partial = [partial, self.partial[0]];

        // FILTEP, FILTEZ, PREDIC.
        let share = |coefficient: i32, value: i32| (coefficient * saturated(2 * value)) >> 15;
        let by_poles =
            share(self.poles[0], self.reconstructed[0]) + share(self.poles[1], self.reconstructed[1]);
        let zeros = self.zeros.iter().zip(self.differences).rev();
        self.by_zeros = zeros.fold(0, |sum, (zero, earlier)| saturated(sum + share(*zero, earlier)));
        self.predicted = saturated(saturated(by_poles) + self.by_zeros);
    }
}

/// As a register of 16 bits that stops at its ends.
fn saturated(value: i32) -> i32 {
    value.clamp(-32_768, 32_767)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(bytes: &[u8]) -> Vec<f32> {
        bytes.chunks_exact(2).map(|sample| to_f32(i16::from_le_bytes([sample[0], sample[1]]))).collect()
    }

    /// Music, noise at full scale, square waves that overload it, and silence: what ffmpeg makes of it.
    #[test]
    fn ffmpeg_encodes_the_same_bytes() {
        let sound = samples(include_bytes!("../../assets/codecs/hard-16k.s16"));
        for len in [320, 160] {
            let mut encoder = G722Encoder::new(len);
            let mut payload = vec![0; len / 2];
            let expected = include_bytes!("../../assets/codecs/hard.g722").chunks_exact(len / 2);
            assert_eq!(expected.len(), sound.len() / len);
            for (frame, (expected, sound)) in expected.zip(sound.chunks_exact(len)).enumerate() {
                assert_eq!(encoder.encode(sound, &mut payload), Ok(len / 2));
                assert_eq!(payload, expected, "frame {frame} of {len} samples");
            }
        }
    }

    /// The same bytes, and bytes at random, which no encoder would send.
    #[test]
    fn ffmpeg_decodes_the_same_samples() {
        for (name, payload, expected) in [
            (
                "hard",
                &include_bytes!("../../assets/codecs/hard.g722")[..],
                &include_bytes!("../../assets/codecs/hard-decoded.s16")[..],
            ),
            (
                "random",
                include_bytes!("../../assets/codecs/random.g722"),
                include_bytes!("../../assets/codecs/random-decoded.s16"),
            ),
        ] {
            let mut heard = Vec::new();
            G722Decoder::new(320).decode(Some(payload), &mut heard).unwrap();
            assert_eq!(heard.len(), 2 * payload.len(), "{name}");
            let expected = samples(expected);
            let wrong = heard.iter().zip(&expected).position(|(one, other)| one != other);
            assert_eq!((heard.len(), wrong), (expected.len(), None), "{name}");
        }
    }

    /// At most -60 dB of full scale 100 ms after the loudest of sounds. (Its predictor goes on playing with
    /// the last bits, as it may.)
    #[test]
    fn the_code_of_silence_silences_a_decoder() {
        let mut decoder = G722Decoder::new(320);
        let mut heard = Vec::new();
        decoder.decode(Some(&include_bytes!("../../assets/codecs/hard.g722")[..6_000]), &mut heard).unwrap();
        let mut after = Vec::new();
        (0..100).for_each(|_| decoder.decode(Some(&[SILENCE; 160]), &mut after).unwrap());
        let peak = |samples: &[f32]| samples.iter().fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
        assert!(peak(&after[1_600..]) < 0.001, "{}", peak(&after[1_600..]));
    }

    /// Packets may have any length; the decoder remembers across them.
    #[test]
    fn how_a_stream_is_cut_into_packets_does_not_matter() {
        let stream = include_bytes!("../../assets/codecs/hard.g722");
        let (mut whole, mut pieces) = (Vec::new(), Vec::new());
        G722Decoder::new(320).decode(Some(stream), &mut whole).unwrap();
        let mut decoder = G722Decoder::new(320);
        stream.chunks(77).for_each(|piece| decoder.decode(Some(piece), &mut pieces).unwrap());
        assert_eq!(whole, pieces);
    }
}
