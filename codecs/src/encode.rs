//! The list of codecs and their facts, and what an encoder is: one frame of sound in, one payload out.

use std::fmt;

use crate::{FRAME_MS, opus};

/// A codec that a leg can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Codec {
    /// Opus at 16 kHz, mono (RFC 6716, RFC 7587).
    Opus,
}

impl Codec {
    /// Every codec, in our order of preference.
    pub const ALL: &[Self] = &[Self::Opus];

    /// The encoding name as in `a=rtpmap` (compared without regard to case).
    pub fn name(self) -> &'static str {
        match self {
            Self::Opus => "opus",
        }
    }

    /// Rate of the RTP clock in Hz. Opus counts at 48 kHz whatever it encodes (RFC 7587 section 4.1).
    pub fn clock_rate(self) -> u32 {
        match self {
            Self::Opus => 48_000,
        }
    }

    /// The channel count of `a=rtpmap`: Opus always says 2 (RFC 7587 section 7).
    pub fn rtpmap_channels(self) -> u16 {
        match self {
            Self::Opus => 2,
        }
    }

    /// Rate of the samples that its encoder takes and its decoder gives, in Hz.
    pub fn sample_rate(self) -> u32 {
        match self {
            Self::Opus => 16_000,
        }
    }

    /// Samples in one frame of sound.
    pub fn samples_per_frame(self) -> usize {
        (self.sample_rate() * FRAME_MS / 1000) as usize
    }

    /// RTP timestamp units in one frame: 960 for Opus (20 ms at 48 kHz, RFC 7587).
    pub fn timestamp_step(self) -> u32 {
        self.clock_rate() * FRAME_MS / 1000
    }

    /// The static payload type of RFC 3551 table 4, if the codec has one.
    pub fn static_payload_type(self) -> Option<u8> {
        match self {
            Self::Opus => None,
        }
    }

    /// By how many samples the sound of a decoder is behind the sound that was encoded. libopus looks 6.5 ms ahead in
    /// its Audio application (2.5 ms of overlap and 4 ms of delay compensation): 104 samples at 16 kHz.
    pub fn delay_samples(self) -> usize {
        match self {
            Self::Opus => 104,
        }
    }

    /// A payload without sound, for a tick that has none: the receiver conceals it and the stream stays alive. For
    /// Opus a frame of length 0 (RFC 6716 section 3.1: configuration 23, CELT at 16 kHz in frames of 20 ms, mono).
    pub fn nothing(self) -> &'static [u8] {
        match self {
            Self::Opus => &[23 << 3],
        }
    }

    /// An encoder that starts from silence.
    ///
    /// # Errors
    ///
    /// If the settings are outside what the codec can do.
    pub fn encoder(self, settings: &EncoderSettings) -> Result<Box<dyn Encoder>, EncodeError> {
        match self {
            Self::Opus => Ok(Box::new(opus::OpusEncoder::new(settings)?)),
        }
    }

    /// A decoder that starts from silence.
    ///
    /// # Errors
    ///
    /// If the codec's library refuses to make one (out of memory).
    pub fn decoder(self) -> Result<Box<dyn DecodePayload>, EncodeError> {
        match self {
            Self::Opus => Ok(Box::new(opus::OpusDecoder::new()?)),
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an operator may choose about encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncoderSettings {
    /// Opus bit rate in bits per second, constant.
    pub opus_bitrate: u32,
    /// Opus complexity, 0 to 10.
    pub opus_complexity: u8,
}

impl Default for EncoderSettings {
    fn default() -> Self {
        Self { opus_bitrate: 32_000, opus_complexity: 9 }
    }
}

/// Turns one frame of sound after the other into payloads. Encoders remember: order matters.
pub trait Encoder: Send {
    /// Encodes exactly [`Codec::samples_per_frame`] mono samples into `payload`; returns the bytes written.
    ///
    /// # Errors
    ///
    /// If the slice has the wrong length or the payload does not fit.
    fn encode(&mut self, samples: &[f32], payload: &mut [u8]) -> Result<usize, EncodeError>;

    /// The longest payload that [`Encoder::encode`] can write, in bytes.
    fn max_payload_len(&self) -> usize;
}

/// Turns payloads back into sound, for those who listen (receivers, tests, measurements).
pub trait DecodePayload: Send {
    /// Decodes one payload, or conceals a lost one when there is `None`, and appends one frame of mono samples.
    ///
    /// # Errors
    ///
    /// If the payload is not of this codec.
    fn decode(&mut self, payload: Option<&[u8]>, samples: &mut Vec<f32>) -> Result<(), EncodeError>;
}

/// Why an encoder or a decoder did not do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// The slice of samples is not one frame long.
    FrameLength {
        /// Samples in one frame.
        expected: usize,
        /// Samples handed in.
        found: usize,
    },
    /// The codec's library said no; its own words.
    Library(String),
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FrameLength { expected, found } => {
                write!(f, "a frame has {expected} samples, {found} were given")
            }
            Self::Library(words) => write!(f, "the codec refused: {words}"),
        }
    }
}

impl std::error::Error for EncodeError {}
