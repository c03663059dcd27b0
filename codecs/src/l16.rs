//! L16: linear samples of 16 bits in network byte order (RFC 3551 section 4.5.11), 16 kHz mono, and back.

use crate::encode::{DecodePayload, EncodeError, Encoder, payload_of, to_f32, to_i16};

/// L16, both ways: it remembers nothing.
pub struct L16 {
    samples_per_frame: usize,
}

impl L16 {
    /// For frames of so many samples.
    pub fn new(samples_per_frame: usize) -> Self {
        Self { samples_per_frame }
    }
}

impl Encoder for L16 {
    fn encode(&mut self, samples: &[f32], payload: &mut [u8]) -> Result<usize, EncodeError> {
        let payload = payload_of(self.samples_per_frame, samples, payload, self.max_payload_len())?;
        for (bytes, sample) in payload.chunks_exact_mut(2).zip(samples) {
            bytes.copy_from_slice(&to_i16(*sample).to_be_bytes());
        }
        Ok(payload.len())
    }

    fn max_payload_len(&self) -> usize {
        2 * self.samples_per_frame
    }
}

impl DecodePayload for L16 {
    fn decode(&mut self, payload: Option<&[u8]>, samples: &mut Vec<f32>) -> Result<(), EncodeError> {
        let Some(payload) = payload else {
            samples.resize(samples.len() + self.samples_per_frame, 0.0);
            return Ok(());
        };
        let (whole, []) = payload.as_chunks() else { return Err(EncodeError::PayloadLength(payload.len())) };
        samples.extend(whole.iter().map(|bytes| to_f32(i16::from_be_bytes(*bytes))));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_big_endian_and_come_back_to_the_last_bit() {
        let mut sound = [0.0; 320];
        sound[..4].copy_from_slice(&[1.0 / 32_768.0, -1.0, 32_767.0 / 32_768.0, -2.0 / 32_768.0]);
        let mut payload = [0; 640];
        assert_eq!(L16::new(320).encode(&sound, &mut payload), Ok(640));
        assert_eq!(payload[..10], [0, 1, 0x80, 0, 0x7F, 0xFF, 0xFF, 0xFE, 0, 0]);
        let mut heard = Vec::new();
        L16::new(320).decode(Some(&payload), &mut heard).unwrap();
        assert_eq!(heard, sound);
    }

    #[test]
    fn half_a_sample_is_refused() {
        let mut heard = Vec::new();
        assert_eq!(L16::new(320).decode(Some(&[0, 1, 2]), &mut heard), Err(EncodeError::PayloadLength(3)));
        assert!(heard.is_empty());
    }
}
