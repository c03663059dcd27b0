//! The list of codecs and their facts, and what an encoder is: one frame of sound in, one payload out.

use std::fmt;

use crate::{FRAME_MS, SHORT_FRAME_MS, g722, l16, opus, pcma, pcmu};

/// A codec that a leg can carry, as we encode it: a source has one rendition for each. The kinds of Opus are the same to
/// a receiver, and so is what is short: frames of 10 ms for peers that take no longer packets ([`Codec::on_the_wire`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Codec {
    /// Opus at 16 kHz, mono (RFC 6716, RFC 7587).
    Opus,
    /// Opus at 48 kHz, mono, at a higher bit rate: the whole band that people hear.
    OpusFullband,
    /// Opus at 16 kHz, mono, at a bit rate for receivers that ask for little.
    OpusLow,
    /// ITU-T G.722 at 64 kbit/s: 7 kHz of sound.
    G722,
    /// Linear samples of 16 bits at 16 kHz, mono (RFC 3551 section 4.5.11).
    L16,
    /// ITU-T G.711, A-law: telephony in most of the world.
    Pcma,
    /// ITU-T G.711, µ-law: telephony in North America and Japan.
    Pcmu,
    /// [`Codec::Opus`] in frames of 10 ms.
    OpusShort,
    /// [`Codec::G722`] in frames of 10 ms.
    G722Short,
    /// [`Codec::L16`] in frames of 10 ms.
    L16Short,
    /// [`Codec::Pcma`] in frames of 10 ms.
    PcmaShort,
    /// [`Codec::Pcmu`] in frames of 10 ms.
    PcmuShort,
}

impl Codec {
    /// Every codec, in our order of preference. Of those that are the same on the wire the first comes first.
    pub const ALL: &[Self] = &[
        Self::Opus,
        Self::OpusFullband,
        Self::OpusLow,
        Self::G722,
        Self::L16,
        Self::Pcma,
        Self::Pcmu,
        Self::OpusShort,
        Self::G722Short,
        Self::L16Short,
        Self::PcmaShort,
        Self::PcmuShort,
    ];

    /// What a receiver knows of it: the codec whose name and format it has. A decoder for that one decodes every payload
    /// of all that are the same on the wire, at its own sample rate.
    pub fn on_the_wire(self) -> Self {
        match self {
            Self::Opus | Self::OpusFullband | Self::OpusLow | Self::OpusShort => Self::Opus,
            Self::G722 | Self::G722Short => Self::G722,
            Self::L16 | Self::L16Short => Self::L16,
            Self::Pcma | Self::PcmaShort => Self::Pcma,
            Self::Pcmu | Self::PcmuShort => Self::Pcmu,
        }
    }

    /// The same in frames of 10 ms. `None` if there is no such thing: Opus has one rendition of that, at the usual bit rate.
    pub fn short(self) -> Option<Self> {
        match self {
            Self::Opus | Self::OpusShort => Some(Self::OpusShort),
            Self::G722 | Self::G722Short => Some(Self::G722Short),
            Self::L16 | Self::L16Short => Some(Self::L16Short),
            Self::Pcma | Self::PcmaShort => Some(Self::PcmaShort),
            Self::Pcmu | Self::PcmuShort => Some(Self::PcmuShort),
            Self::OpusFullband | Self::OpusLow => None,
        }
    }

    /// How long one frame lasts, in milliseconds: what every packet carries.
    pub fn frame_ms(self) -> u32 {
        if self.short() == Some(self) { SHORT_FRAME_MS } else { FRAME_MS }
    }

    /// The encoding name as in `a=rtpmap` (compared without regard to case).
    pub fn name(self) -> &'static str {
        match self {
            Self::Opus | Self::OpusFullband | Self::OpusLow | Self::OpusShort => "opus",
            Self::G722 | Self::G722Short => "G722",
            Self::L16 | Self::L16Short => "L16",
            Self::Pcma | Self::PcmaShort => "PCMA",
            Self::Pcmu | Self::PcmuShort => "PCMU",
        }
    }

    /// Rate of the RTP clock in Hz. Opus counts at 48 kHz whatever it encodes (RFC 7587 section 4.1); G.722 counts at
    /// 8 kHz although it samples at 16, by an old mistake that was kept (RFC 3551 section 4.5.2).
    pub fn clock_rate(self) -> u32 {
        match self.on_the_wire() {
            Self::Opus => 48_000,
            Self::L16 => 16_000,
            _ => 8_000,
        }
    }

    /// The channel count of `a=rtpmap`: Opus always says 2 (RFC 7587 section 7).
    pub fn rtpmap_channels(self) -> u16 {
        if self.on_the_wire() == Self::Opus { 2 } else { 1 }
    }

    /// Rate of the samples that its encoder takes and its decoder gives, in Hz.
    pub fn sample_rate(self) -> u32 {
        match self {
            Self::OpusFullband => 48_000,
            Self::Opus | Self::OpusLow | Self::OpusShort => 16_000,
            Self::G722 | Self::G722Short | Self::L16 | Self::L16Short => 16_000,
            Self::Pcma | Self::PcmaShort | Self::Pcmu | Self::PcmuShort => 8_000,
        }
    }

    /// Samples in one frame of sound.
    pub fn samples_per_frame(self) -> usize {
        (self.sample_rate() * self.frame_ms() / 1000) as usize
    }

    /// RTP timestamp units in one frame: of 20 ms they are 960 for Opus (at 48 kHz, RFC 7587), 160 for G.711 and G.722, 320
    /// for L16.
    pub fn timestamp_step(self) -> u32 {
        self.clock_rate() * self.frame_ms() / 1000
    }

    /// The static payload type of RFC 3551 table 4, if the codec has one. (L16 has two, but not at our rate.)
    pub fn static_payload_type(self) -> Option<u8> {
        match self.on_the_wire() {
            Self::Pcmu => Some(0),
            Self::Pcma => Some(8),
            Self::G722 => Some(9),
            _ => None,
        }
    }

    /// By how many samples the sound of a decoder is behind the sound that was encoded. libopus looks 6.5 ms ahead in
    /// its Audio application (2.5 ms of overlap and 4 ms of delay compensation): 104 samples at 16 kHz. The two filters
    /// of G.722 delay by 22 samples.
    pub fn delay_samples(self) -> usize {
        match self {
            Self::Opus | Self::OpusLow | Self::OpusShort => 104,
            Self::OpusFullband => 312,
            Self::G722 | Self::G722Short => 22,
            _ => 0,
        }
    }

    /// A payload without sound, for a tick that has none: the stream stays alive. For Opus a frame of length 0, which
    /// the receiver conceals (RFC 6716 section 3.1: CELT, mono; configuration 22 is 10 ms at 16 kHz, 23 is 20 ms at 16 kHz,
    /// 31 is 20 ms at 48 kHz); for the others a frame of silence.
    pub fn nothing(self) -> &'static [u8] {
        match self {
            Self::Opus | Self::OpusLow => &[23 << 3],
            Self::OpusShort => &[22 << 3],
            Self::OpusFullband => &[31 << 3],
            Self::G722 => &[g722::SILENCE; 160],
            Self::G722Short => &[g722::SILENCE; 80],
            Self::L16 => &[0; 640],
            Self::L16Short => &[0; 320],
            Self::Pcma => &[pcma::SILENCE; 160],
            Self::PcmaShort => &[pcma::SILENCE; 80],
            Self::Pcmu => &[pcmu::SILENCE; 160],
            Self::PcmuShort => &[pcmu::SILENCE; 80],
        }
    }

    /// Bytes of every payload: all our codecs have a constant bit rate.
    pub fn payload_len(self, settings: &EncoderSettings) -> usize {
        // Rounded up to whole bytes.
        let of_bitrate = |bitrate: u32| (bitrate as usize * self.frame_ms() as usize).div_ceil(1000 * 8);
        match self {
            Self::Opus | Self::OpusShort => of_bitrate(settings.opus_bitrate),
            Self::OpusFullband => of_bitrate(settings.opus_fullband_bitrate),
            Self::OpusLow => of_bitrate(settings.opus_low_bitrate),
            _ => self.nothing().len(),
        }
    }

    /// An encoder that starts from silence.
    ///
    /// # Errors
    ///
    /// If the settings are outside what the codec can do.
    pub fn encoder(self, settings: &EncoderSettings) -> Result<Box<dyn Encoder>, EncodeError> {
        let samples = self.samples_per_frame();
        Ok(match self.on_the_wire() {
            Self::G722 => Box::new(g722::G722Encoder::new(samples)),
            Self::L16 => Box::new(l16::L16::new(samples)),
            Self::Pcma => Box::new(pcma::Pcma::new(samples)),
            Self::Pcmu => Box::new(pcmu::Pcmu::new(samples)),
            _ => Box::new(opus::OpusEncoder::new(self, settings)?),
        })
    }

    /// A decoder that starts from silence.
    ///
    /// # Errors
    ///
    /// If the codec's library refuses to make one (out of memory).
    pub fn decoder(self) -> Result<Box<dyn DecodePayload>, EncodeError> {
        let samples = self.samples_per_frame();
        Ok(match self.on_the_wire() {
            Self::G722 => Box::new(g722::G722Decoder::new(samples)),
            Self::L16 => Box::new(l16::L16::new(samples)),
            Self::Pcma => Box::new(pcma::Pcma::new(samples)),
            Self::Pcmu => Box::new(pcmu::Pcmu::new(samples)),
            _ => Box::new(opus::OpusDecoder::new(self)?),
        })
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
    /// Bit rate of [`Codec::Opus`] and [`Codec::OpusShort`] in bits per second, constant.
    pub opus_bitrate: u32,
    /// Complexity of all kinds of Opus, 0 to 10.
    pub opus_complexity: u8,
    /// Bit rate of [`Codec::OpusFullband`] in bits per second, constant.
    pub opus_fullband_bitrate: u32,
    /// Bit rate of [`Codec::OpusLow`] in bits per second, constant.
    pub opus_low_bitrate: u32,
}

impl Default for EncoderSettings {
    fn default() -> Self {
        Self {
            opus_bitrate: 32_000,
            opus_complexity: 9,
            // RFC 7587 section 3.1.1 recommends 48 to 64 kbit/s for full-band music in mono that should sound well; this
            // is half as much again.
            opus_fullband_bitrate: 96_000,
            // The least at which libopus still gives music the whole band of 16 kHz (it narrows below 11 kbit/s).
            opus_low_bitrate: 12_000,
        }
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
    /// Decodes one payload, of any length, or makes up for a lost one of one frame when there is `None`, and appends
    /// mono samples. Opus conceals what is lost; the others have nothing to say about it, and are silent.
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
    /// The payload does not fit into the room that was given.
    Room {
        /// Bytes of the payload.
        needed: usize,
        /// Bytes of room.
        found: usize,
    },
    /// The payload is not a whole number of samples: so many bytes.
    PayloadLength(usize),
    /// The codec's library said no; its own words.
    Library(String),
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FrameLength { expected, found } => {
                write!(f, "a frame has {expected} samples, {found} were given")
            }
            Self::Room { needed, found } => {
                write!(f, "the payload has {needed} bytes, there is room for {found}")
            }
            Self::PayloadLength(found) => {
                write!(f, "a payload of {found} bytes is no whole number of samples")
            }
            Self::Library(words) => write!(f, "the codec refused: {words}"),
        }
    }
}

impl std::error::Error for EncodeError {}

/// A frame of `expected` samples goes into a payload of `payload_len` bytes: the part that telephone codecs have in common.
pub(crate) fn payload_of<'a>(
    expected: usize,
    samples: &[f32],
    payload: &'a mut [u8],
    payload_len: usize,
) -> Result<&'a mut [u8], EncodeError> {
    let found = samples.len();
    if found != expected {
        return Err(EncodeError::FrameLength { expected, found });
    }
    let room = payload.len();
    payload.get_mut(..payload_len).ok_or(EncodeError::Room { needed: payload_len, found: room })
}

/// A sample as 16 bits: rounded, and clipped where it is beyond full scale.
#[expect(clippy::cast_possible_truncation, reason = "clamped to 16 bits")]
pub(crate) fn to_i16(sample: f32) -> i16 {
    // A cast makes 0 of what is not a number.
    (sample * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16
}

/// A sample of 16 bits as a fraction of full scale.
pub(crate) fn to_f32(sample: i16) -> f32 {
    f32::from(sample) / 32_768.0
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;
    use crate::align;

    /// Three seconds in which no two stretches are alike, below 3.4 kHz.
    fn sweep(codec: Codec) -> Vec<f32> {
        let rate = f64::from(codec.sample_rate());
        let sample = |n: usize| {
            let t = n as f64 / rate;
            (0.4 * (TAU * (300.0 * t + 200.0 * t * t)).sin()) as f32
        };
        (0..3 * codec.sample_rate() as usize).map(sample).collect()
    }

    fn payloads(codec: Codec, sound: &[f32]) -> Vec<Vec<u8>> {
        let mut encoder = codec.encoder(&EncoderSettings::default()).unwrap();
        let mut payload = vec![0; encoder.max_payload_len()];
        let encode = |frame: &[f32]| {
            let len = encoder.encode(frame, &mut payload).unwrap();
            payload[..len].to_vec()
        };
        sound.chunks_exact(codec.samples_per_frame()).map(encode).collect()
    }

    /// Every codec, with its delay, the length of its payloads, and a frame that is a frame also when it is lost.
    #[test]
    fn what_every_codec_says_of_itself_is_so() {
        for &codec in Codec::ALL {
            let sound = sweep(codec);
            let payloads = payloads(codec, &sound);
            let mut decoder = codec.decoder().unwrap();
            let mut heard = Vec::new();
            for payload in &payloads {
                assert_eq!(payload.len(), codec.payload_len(&EncoderSettings::default()), "{codec:?}");
                decoder.decode(Some(payload), &mut heard).unwrap();
            }
            assert_eq!(heard.len(), sound.len(), "{codec:?}");
            let found = align(&sound, &heard);
            assert_eq!(found.offset_samples, codec.delay_samples() as i64, "{codec:?}");
            assert!(found.correlation > 0.95, "{codec:?}: {found:?}");
            assert_eq!(codec.timestamp_step() * 1000, codec.clock_rate() * codec.frame_ms(), "{codec:?}");
            let before = heard.len();
            decoder.decode(None, &mut heard).unwrap();
            decoder.decode(Some(codec.nothing()), &mut heard).unwrap();
            assert_eq!(heard.len() - before, 2 * codec.samples_per_frame(), "{codec:?}");
        }
    }

    #[test]
    fn the_payload_without_sound_is_silent_to_a_receiver_that_has_heard_nothing() {
        for &codec in Codec::ALL {
            let mut heard = Vec::new();
            let mut decoder = codec.decoder().unwrap();
            (0..10).for_each(|_| decoder.decode(Some(codec.nothing()), &mut heard).unwrap());
            let peak = heard.iter().fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
            // The quietest A-law code is 8 of 32 768, -72 dB.
            assert!(peak <= 8.0 / 32_768.0, "{codec:?}: {peak}");
        }
    }

    /// A decoder of what stands for it on the wire hears every codec, and as long as it lasts.
    #[test]
    fn what_is_the_same_on_the_wire_is_decoded_by_one_decoder() {
        for &codec in Codec::ALL {
            let wire = codec.on_the_wire();
            assert_eq!((codec.name(), codec.clock_rate()), (wire.name(), wire.clock_rate()));
            assert!(codec.short().is_none_or(|short| short.frame_ms() == 10 && short.on_the_wire() == wire));
            let mut decoder = wire.decoder().unwrap();
            let mut heard = Vec::new();
            payloads(codec, &sweep(codec)).iter().for_each(|p| decoder.decode(Some(p), &mut heard).unwrap());
            let found = align(&sweep(wire), &heard);
            assert!(found.correlation > 0.95, "{codec:?}: {found:?}");
        }
    }

    #[test]
    fn wrong_lengths_are_refused_by_every_encoder() {
        for &codec in Codec::ALL {
            let mut encoder = codec.encoder(&EncoderSettings::default()).unwrap();
            let expected = codec.samples_per_frame();
            let mut payload = vec![0; encoder.max_payload_len()];
            let short = encoder.encode(&vec![0.0; expected - 1], &mut payload);
            assert_eq!(short, Err(EncodeError::FrameLength { expected, found: expected - 1 }), "{codec:?}");
            assert!(encoder.encode(&vec![0.0; expected], &mut payload[..1]).is_err(), "{codec:?}");
            assert!(encoder.encode(&vec![0.0; expected], &mut payload).is_ok(), "{codec:?}");
        }
    }

    #[test]
    fn what_is_beyond_full_scale_is_clipped_and_what_is_no_number_is_silent() {
        let samples = [2.0, 1.0, -1.0, -2.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
        assert_eq!(samples.map(to_i16), [32_767, 32_767, -32_768, -32_768, 32_767, -32_768, 0]);
    }
}
