//! Opus: 20 ms of 16 kHz mono in, one payload out, and back.

use opus::{Application, Bitrate, Channels, Signal};

use crate::{
    Codec,
    encode::{DecodePayload, EncodeError, Encoder, EncoderSettings},
};

/// libopus, set for music on a telephone line: constant bit rate (equal frames make an endless loop and leak
/// nothing through their size), no in-band FEC (it forces the speech coder on music), no DTX.
pub struct OpusEncoder {
    encoder: opus::Encoder,
    payload_len: usize,
}

impl OpusEncoder {
    /// An encoder that starts from silence.
    ///
    /// # Errors
    ///
    /// If libopus refuses a setting (bit rate outside 500–512 000, complexity above 10).
    pub fn new(settings: &EncoderSettings) -> Result<Self, EncodeError> {
        let bitrate = i32::try_from(settings.opus_bitrate).unwrap_or(i32::MAX);
        let mut encoder = opus::Encoder::new(Codec::Opus.sample_rate(), Channels::Mono, Application::Audio)?;
        encoder.set_bitrate(Bitrate::Bits(bitrate))?;
        encoder.set_vbr(false)?;
        encoder.set_complexity(i32::from(settings.opus_complexity))?;
        encoder.set_signal(Signal::Music)?;
        encoder.set_inband_fec(false)?;
        encoder.set_dtx(false)?;
        // 50 frames a second, rounded up to whole bytes: what constant bit rate makes of every frame.
        let payload_len = (settings.opus_bitrate as usize).div_ceil(50 * 8);
        Ok(Self { encoder, payload_len })
    }
}

impl Encoder for OpusEncoder {
    fn encode(&mut self, samples: &[f32], payload: &mut [u8]) -> Result<usize, EncodeError> {
        let expected = Codec::Opus.samples_per_frame();
        if samples.len() != expected {
            return Err(EncodeError::FrameLength { expected, found: samples.len() });
        }
        Ok(self.encoder.encode_float(samples, payload)?)
    }

    fn max_payload_len(&self) -> usize {
        self.payload_len
    }
}

/// libopus as a receiver.
pub struct OpusDecoder {
    decoder: opus::Decoder,
}

impl OpusDecoder {
    /// A decoder that starts from silence.
    ///
    /// # Errors
    ///
    /// If libopus is out of memory.
    pub fn new() -> Result<Self, EncodeError> {
        Ok(Self { decoder: opus::Decoder::new(Codec::Opus.sample_rate(), Channels::Mono)? })
    }
}

impl DecodePayload for OpusDecoder {
    fn decode(&mut self, payload: Option<&[u8]>, samples: &mut Vec<f32>) -> Result<(), EncodeError> {
        // A packet may hold up to 120 ms (RFC 6716 section 3.2.5). Concealment fills what it is given, so it is
        // given exactly one frame.
        let room = match payload {
            Some(_) => 6 * Codec::Opus.samples_per_frame(),
            None => Codec::Opus.samples_per_frame(),
        };
        let start = samples.len();
        samples.resize(start + room, 0.0);
        let decoded = self.decoder.decode_float(payload.unwrap_or_default(), &mut samples[start..], false);
        samples.truncate(start + decoded.as_ref().copied().unwrap_or(0));
        decoded.map(drop).map_err(EncodeError::from)
    }
}

impl From<opus::Error> for EncodeError {
    fn from(error: opus::Error) -> Self {
        Self::Library(error.to_string())
    }
}
