//! PCMA: ITU-T G.711 A-law (RFC 3551 section 4.5.14), 8 kHz mono, one byte for each sample, and back.
//!
//! A sample of 16 bits stands for the 13 bits of the Recommendation's table 1 shifted up by 3: full scale is the overload
//! point, 3.14 dB above 0 dBm0.

use crate::encode::{DecodePayload, EncodeError, Encoder, payload_of, to_f32, to_i16};

/// The quietest code. A-law has none for silence: this is +8 of 32 768.
pub const SILENCE: u8 = 0xD5;

/// A-law, both ways: it remembers nothing.
pub struct Pcma {
    samples_per_frame: usize,
}

impl Pcma {
    /// For frames of so many samples.
    pub fn new(samples_per_frame: usize) -> Self {
        Self { samples_per_frame }
    }
}

impl Encoder for Pcma {
    fn encode(&mut self, samples: &[f32], payload: &mut [u8]) -> Result<usize, EncodeError> {
        let payload = payload_of(self.samples_per_frame, samples, payload, self.max_payload_len())?;
        payload.iter_mut().zip(samples).for_each(|(code, sample)| *code = compress(to_i16(*sample)));
        Ok(payload.len())
    }

    fn max_payload_len(&self) -> usize {
        self.samples_per_frame
    }
}

impl DecodePayload for Pcma {
    fn decode(&mut self, payload: Option<&[u8]>, samples: &mut Vec<f32>) -> Result<(), EncodeError> {
        match payload {
            Some(payload) => samples.extend(payload.iter().map(|code| to_f32(expand(*code)))),
            None => samples.resize(samples.len() + self.samples_per_frame, 0.0),
        }
        Ok(())
    }
}

/// The code whose interval between two decision values (table 1, column 5) holds the sample. A negative one that is a
/// decision value belongs to the interval nearer to zero, as in the ITU's own software (G.191).
#[expect(clippy::cast_possible_truncation, reason = "a segment has 3 bits, an interval 4")]
fn compress(sample: i16) -> u8 {
    // In steps of the finest intervals: 12 bits of magnitude, of which the last one decides nothing.
    let magnitude = (if sample < 0 { !sample } else { sample }).cast_unsigned() >> 4;
    let code = match magnitude.checked_ilog2() {
        // Segments 0 and 1 have the finest intervals.
        None | Some(0..=4) => magnitude as u8,
        Some(highest) => ((highest - 3) << 4) as u8 | ((magnitude >> (highest - 4)) & 0x0F) as u8,
    };
    // Even bits are inverted (section 3.1, note 2 of table 1a); the first is the sign.
    (code | if sample < 0 { 0 } else { 0x80 }) ^ 0x55
}

/// One A-law code to 16 bits (ITU-T G.711, table 1: 13 bits, shifted up by 3).
pub(crate) fn expand(code: u8) -> i16 {
    let code = code ^ 0x55;
    let mantissa = i16::from(code & 0x0F) << 4;
    let magnitude = match (code >> 4) & 0x07 {
        0 => mantissa + 8,
        segment => (mantissa + 0x108) << (segment - 1),
    };
    if code & 0x80 == 0 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The decision values of table 1, column 5, built up from its segments: 13 segments in all, of which the first two on
    /// either side of zero are one; 4096 is full scale.
    fn decision_values() -> Vec<i32> {
        let mut values: Vec<i32> = (0..=32).map(|n| 2 * n).collect();
        for segment in 1..=6 {
            let last = *values.last().unwrap();
            values.extend((1..=16).map(|n| last + n * (2 << segment)));
        }
        values
    }

    #[test]
    fn every_sample_gets_the_code_of_its_interval() {
        let values = decision_values();
        assert_eq!((values.len(), values[128]), (129, 4096));
        for sample in i16::MIN..=i16::MAX {
            // 16 bits are 8 times the table's.
            let sample_is_beyond = |value: &i32| match sample {
                0.. => i32::from(sample) >= value * 8,
                _ => *value == 0 || i32::from(sample) < -value * 8,
            };
            let interval = values.iter().rposition(sample_is_beyond).unwrap().min(127);
            let code = interval as u8 | if sample < 0 { 0 } else { 0x80 };
            assert_eq!(compress(sample), code ^ 0x55, "{sample}");
        }
    }

    #[test]
    fn every_code_becomes_the_middle_of_its_interval_and_itself_again() {
        let values = decision_values();
        for code in 0..=255 {
            let interval = usize::from((code ^ 0x55) & 0x7F);
            let middle = (values[interval] + values[interval + 1]) * 4;
            let signed = if (code ^ 0x55) & 0x80 == 0 { -middle } else { middle };
            assert_eq!((i32::from(expand(code)), compress(expand(code))), (signed, code), "{code:#x}");
        }
        // The ends, as everybody knows them.
        assert_eq!([0xD5, 0x55, 0xAA, 0x2A].map(expand), [8, -8, 32_256, -32_256]);
    }

    #[test]
    fn ffmpeg_decodes_the_same_samples() {
        let samples = include_bytes!("../../assets/codecs/codes-al.s16");
        for (code, sample) in (0..=255).zip(samples.chunks_exact(2)) {
            assert_eq!(expand(code).to_le_bytes(), sample, "{code:#x}");
        }
    }
}
