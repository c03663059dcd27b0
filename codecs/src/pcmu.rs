//! PCMU: ITU-T G.711 µ-law (RFC 3551 section 4.5.14), 8 kHz mono, one byte for each sample, and back.
//!
//! A sample of 16 bits stands for the 14 bits of the Recommendation's table 2 shifted up by 2: full scale is the overload
//! point, 3.17 dB above 0 dBm0.

use crate::encode::{DecodePayload, EncodeError, Encoder, payload_of, to_f32, to_i16};

/// The code of zero.
pub const SILENCE: u8 = 0xFF;

/// µ-law, both ways: it remembers nothing.
pub struct Pcmu {
    samples_per_frame: usize,
}

impl Pcmu {
    /// For frames of so many samples.
    pub fn new(samples_per_frame: usize) -> Self {
        Self { samples_per_frame }
    }
}

impl Encoder for Pcmu {
    fn encode(&mut self, samples: &[f32], payload: &mut [u8]) -> Result<usize, EncodeError> {
        let payload = payload_of(self.samples_per_frame, samples, payload, self.max_payload_len())?;
        payload.iter_mut().zip(samples).for_each(|(code, sample)| *code = compress(to_i16(*sample)));
        Ok(payload.len())
    }

    fn max_payload_len(&self) -> usize {
        self.samples_per_frame
    }
}

impl DecodePayload for Pcmu {
    fn decode(&mut self, payload: Option<&[u8]>, samples: &mut Vec<f32>) -> Result<(), EncodeError> {
        match payload {
            Some(payload) => samples.extend(payload.iter().map(|code| to_f32(expand(*code)))),
            None => samples.resize(samples.len() + self.samples_per_frame, 0.0),
        }
        Ok(())
    }
}

/// In 16 bits: 33 of the table's 14. With it every segment begins at a power of two.
const BIAS: u16 = 33 << 2;

/// Beyond this, in 16 bits, there is no interval: 8 159 of the table's 14.
const OVERLOAD: u16 = 8_158 << 2 | 3;

/// The code whose interval between two decision values (table 2, column 5) holds the sample. A negative one that is a
/// decision value belongs to the interval nearer to zero, as in the ITU's own software (G.191).
#[expect(clippy::cast_possible_truncation, reason = "a segment has 3 bits, an interval 4")]
fn compress(sample: i16) -> u8 {
    let magnitude = (if sample < 0 { !sample } else { sample }).cast_unsigned().min(OVERLOAD) + BIAS;
    // From 132 up to 32 767: 7 to 14.
    let highest = magnitude.ilog2();
    let code = ((highest - 7) << 4) as u8 | ((magnitude >> (highest - 4)) & 0x0F) as u8;
    // All bits are inverted (section 3.2); the first is the sign.
    !(code | if sample < 0 { 0x80 } else { 0 })
}

/// One µ-law code to 16 bits (ITU-T G.711, table 2: 14 bits, shifted up by 2).
pub(crate) fn expand(code: u8) -> i16 {
    let code = !code;
    let magnitude = (((i16::from(code & 0x0F) << 3) + 0x84) << ((code >> 4) & 0x07)) - 0x84;
    if code & 0x80 == 0 { magnitude } else { -magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The decision values of table 2, column 5, built up from its segments; 8159 is full scale.
    fn decision_values() -> Vec<i32> {
        let mut values: Vec<i32> = [0].into_iter().chain((0..16).map(|n| 1 + 2 * n)).collect();
        for segment in 1..=7 {
            let last = *values.last().unwrap();
            values.extend((1..=16).map(|n| last + n * (2 << segment)));
        }
        values
    }

    #[test]
    fn every_sample_gets_the_code_of_its_interval() {
        let values = decision_values();
        assert_eq!((values.len(), values[128]), (129, 8_159));
        for sample in i16::MIN..=i16::MAX {
            // 16 bits are 4 times the table's.
            let sample_is_beyond = |value: &i32| match sample {
                0.. => i32::from(sample) >= value * 4,
                _ => *value == 0 || i32::from(sample) < -value * 4,
            };
            let interval = values.iter().rposition(sample_is_beyond).unwrap().min(127);
            let code = interval as u8 | if sample < 0 { 0x80 } else { 0 };
            assert_eq!(compress(sample), !code, "{sample}");
        }
    }

    #[test]
    fn every_code_becomes_the_middle_of_its_interval_and_itself_again() {
        let values = decision_values();
        for code in 0..=255 {
            let interval = usize::from(!code & 0x7F);
            // The interval around zero has one code for either sign, and zero for its middle.
            let middle = if interval == 0 { 0 } else { (values[interval] + values[interval + 1]) * 2 };
            let signed = if !code & 0x80 == 0 { middle } else { -middle };
            assert_eq!(i32::from(expand(code)), signed, "{code:#x}");
            // Zero has no sign.
            let again = if code == 0x7F { 0xFF } else { code };
            assert_eq!(compress(expand(code)), again, "{code:#x}");
        }
        // The ends, as everybody knows them.
        assert_eq!([0xFF, 0x7F, 0x80, 0x00].map(expand), [0, 0, 32_124, -32_124]);
    }

    #[test]
    fn ffmpeg_decodes_the_same_samples() {
        let samples = include_bytes!("../../assets/codecs/codes-ul.s16");
        for (code, sample) in (0..=255).zip(samples.chunks_exact(2)) {
            assert_eq!(expand(code).to_le_bytes(), sample, "{code:#x}");
        }
    }
}
