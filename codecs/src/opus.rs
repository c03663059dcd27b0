//! Opus: a frame of mono in, one payload out, and back; at 16 kHz, at 16 kHz with few bits or in short frames, or at 48 kHz.

use opus::{Application, Bitrate, Channels, Signal};

use crate::{
    Codec,
    encode::{DecodePayload, EncodeError, Encoder, EncoderSettings},
};

/// libopus, set for music on a telephone line: constant bit rate (equal frames make an endless loop and leak
/// nothing through their size), no in-band FEC (it forces the speech coder on music), no DTX.
pub struct OpusEncoder {
    encoder: opus::Encoder,
    samples_per_frame: usize,
    payload_len: usize,
    /// Whether nothing has been encoded yet.
    first: bool,
}

impl OpusEncoder {
    /// An encoder of one kind of Opus (every other codec is taken for the first) that starts from silence.
    ///
    /// # Errors
    ///
    /// If libopus refuses a setting (bit rate outside 500–512 000, complexity above 10).
    pub fn new(codec: Codec, settings: &EncoderSettings) -> Result<Self, EncodeError> {
        let bitrate = match codec {
            Codec::OpusFullband => settings.opus_fullband_bitrate,
            Codec::OpusLow => settings.opus_low_bitrate,
            _ => settings.opus_bitrate,
        };
        let mut encoder = opus::Encoder::new(codec.sample_rate(), Channels::Mono, Application::Audio)?;
        encoder.set_bitrate(Bitrate::Bits(i32::try_from(bitrate).unwrap_or(i32::MAX)))?;
        encoder.set_vbr(false)?;
        encoder.set_complexity(i32::from(settings.opus_complexity))?;
        encoder.set_signal(Signal::Music)?;
        encoder.set_inband_fec(false)?;
        encoder.set_dtx(false)?;
        let payload_len = codec.payload_len(settings);
        // A receiver that has heard another hold meets the first frame with a decoder full of that: predicted from silence, it
        // would be three times too loud.
        encoder.set_prediction_disabled(true)?;
        Ok(Self { encoder, samples_per_frame: codec.samples_per_frame(), payload_len, first: true })
    }
}

impl Encoder for OpusEncoder {
    fn encode(&mut self, samples: &[f32], payload: &mut [u8]) -> Result<usize, EncodeError> {
        let expected = self.samples_per_frame;
        if samples.len() != expected {
            return Err(EncodeError::FrameLength { expected, found: samples.len() });
        }
        let (needed, found) = (self.payload_len, payload.len());
        if found < needed {
            // libopus would make do with less.
            return Err(EncodeError::Room { needed, found });
        }
        let len = self.encoder.encode_float(samples, payload)?;
        if std::mem::take(&mut self.first) {
            self.encoder.set_prediction_disabled(false)?;
        }
        Ok(len)
    }

    fn max_payload_len(&self) -> usize {
        self.payload_len
    }
}

/// libopus as a receiver.
pub struct OpusDecoder {
    decoder: opus::Decoder,
    samples_per_frame: usize,
}

impl OpusDecoder {
    /// A decoder that starts from silence and gives sound at the sample rate of `codec`. It decodes every Opus.
    ///
    /// # Errors
    ///
    /// If libopus is out of memory.
    pub fn new(codec: Codec) -> Result<Self, EncodeError> {
        let decoder = opus::Decoder::new(codec.sample_rate(), Channels::Mono)?;
        Ok(Self { decoder, samples_per_frame: codec.samples_per_frame() })
    }
}

impl DecodePayload for OpusDecoder {
    fn decode(&mut self, payload: Option<&[u8]>, samples: &mut Vec<f32>) -> Result<(), EncodeError> {
        // A packet may hold up to 120 ms (RFC 6716 section 3.2.5). Concealment fills what it is given, so it is
        // given exactly one frame.
        let room = match payload {
            Some(_) => 6 * self.samples_per_frame,
            None => self.samples_per_frame,
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

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;
    use crate::{compare::align, pcm::Pcm, seam::Loop};

    /// Three seconds of chords with an attack every half second and some breath: music to a codec's eyes, and a
    /// closed circle of 150 frames.
    fn music() -> Loop {
        let len = 48_000usize;
        let mut noise = 1u32;
        let samples = (0..len)
            .map(|n| {
                let beat = n / 8_000;
                let since = (n % 8_000) as f64 / 16_000.0;
                let root = [220.0, 174.0, 196.0, 164.0, 208.0, 246.0][beat];
                let chord: f64 = [1.0, 1.26, 1.5, 2.0, 3.01, 4.02]
                    .iter()
                    .map(|ratio| (TAU * root * ratio * n as f64 / 16_000.0).sin() / ratio)
                    .sum();
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let breath = f64::from(noise >> 16) / 32_768.0 - 1.0;
                ((chord * 0.2 + breath * 0.02) * (-3.0 * since).exp()) as f32
            })
            .collect();
        Loop::new(&Pcm::new(16_000, 1, samples), 16_000, Codec::Opus.samples_per_frame())
    }

    fn encoder() -> Box<dyn Encoder> {
        Codec::Opus.encoder(&EncoderSettings::default()).expect("an encoder")
    }

    fn lap(encoder: &mut dyn Encoder, circle: &Loop) -> Vec<Vec<u8>> {
        (0..circle.frames())
            .map(|index| {
                let mut payload = vec![0; encoder.max_payload_len()];
                let len = encoder.encode(circle.frame(index), &mut payload).expect("a payload");
                payload.truncate(len);
                payload
            })
            .collect()
    }

    /// A later hold on a leg, or a plain switch: the receiver's decoder still has what it heard last in mind.
    #[test]
    fn what_begins_again_is_no_louder_than_the_first_time() {
        let circle = music();
        let frames = lap(&mut *encoder(), &circle);
        let peak = |samples: &[f32]| samples.iter().fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
        let mut alone = OpusDecoder::new(Codec::Opus).unwrap();
        let mut expected = vec![];
        frames[..10].iter().for_each(|frame| alone.decode(Some(frame), &mut expected).unwrap());
        let mut worst: f32 = 0.0;
        for heard in (1..frames.len()).step_by(7) {
            let mut decoder = OpusDecoder::new(Codec::Opus).unwrap();
            let mut before = vec![];
            frames[..heard].iter().for_each(|frame| decoder.decode(Some(frame), &mut before).unwrap());
            let mut again = vec![];
            frames[..10].iter().for_each(|frame| decoder.decode(Some(frame), &mut again).unwrap());
            worst = worst.max(peak(&again[320..]) / peak(&expected[320..]));
        }
        assert!(worst < 1.2, "{worst} times as loud");
    }

    #[test]
    fn constant_bit_rate_makes_every_payload_80_bytes() {
        let mut encoder = encoder();
        assert_eq!(encoder.max_payload_len(), 80);
        assert!(lap(&mut *encoder, &music()).iter().all(|payload| payload.len() == 80));
        // Silence too: nothing shows through the size.
        let mut payload = [0; 80];
        assert_eq!(encoder.encode(&[0.0; 320], &mut payload), Ok(80));
    }

    #[test]
    fn every_bit_rate_keeps_its_promise() {
        for opus_bitrate in [6_000, 16_000, 24_000, 31_999, 48_000, 64_001] {
            let settings = EncoderSettings { opus_bitrate, ..EncoderSettings::default() };
            let mut encoder = Codec::Opus.encoder(&settings).expect("an encoder");
            let payloads = lap(&mut *encoder, &music());
            let expected = payloads[0].len();
            assert!(expected <= encoder.max_payload_len(), "{opus_bitrate}");
            assert!(payloads.iter().all(|payload| payload.len() == expected), "{opus_bitrate}");
            assert!(expected.abs_diff(opus_bitrate as usize / 400) <= 1, "{opus_bitrate}: {expected} bytes");
        }
    }

    /// The first byte of a payload (RFC 6716 section 3.1): configuration, stereo flag, number of frames.
    #[test]
    fn music_is_one_wideband_celt_frame_of_20_ms_in_mono() {
        for (index, payload) in lap(&mut *encoder(), &music()).iter().enumerate() {
            let (configuration, stereo, count) = (payload[0] >> 3, payload[0] >> 2 & 1, payload[0] & 3);
            // Table 2: 20 to 23 are CELT-only wideband; 23 is 20 ms.
            assert_eq!((configuration, stereo, count), (23, 0, 0), "frame {index}");
        }
    }

    /// Table 2 of RFC 6716: configuration 31 is CELT-only full band in frames of 20 ms, 22 is wideband in frames of 10.
    #[test]
    fn the_other_kinds_are_celt_too_and_keep_their_bit_rates() {
        let sound = music();
        let wide = crate::resample(sound.pcm(), 48_000);
        for (codec, sound, configuration, len) in [
            (Codec::OpusFullband, wide.samples(), 31, 240),
            (Codec::OpusLow, sound.samples(), 23, 30),
            (Codec::OpusShort, sound.samples(), 22, 40),
        ] {
            let mut encoder = codec.encoder(&EncoderSettings::default()).expect("an encoder");
            for frame in sound.chunks_exact(codec.samples_per_frame()) {
                let mut payload = vec![0; encoder.max_payload_len()];
                assert_eq!(encoder.encode(frame, &mut payload), Ok(len));
                assert_eq!(payload[0], configuration << 3, "{codec:?}");
            }
        }
    }

    #[test]
    fn a_loop_that_is_encoded_again_and_again_settles() {
        let mut encoder = encoder();
        let circle = music();
        let [first, second, third] = [(); 3].map(|()| lap(&mut *encoder, &circle));
        assert_eq!(second, third);
        // It begins from silence, so the first lap cannot be the same from the first frame on.
        assert_ne!(first[0], second[0]);
    }

    #[test]
    fn what_is_decoded_is_what_was_encoded() {
        let circle = music();
        let mut encoder = encoder();
        let mut decoder = Codec::Opus.decoder().expect("a decoder");
        let mut heard = Vec::new();
        for payload in lap(&mut *encoder, &circle) {
            decoder.decode(Some(&payload), &mut heard).expect("sound");
        }
        assert_eq!(heard.len(), circle.samples().len());
        let found = align(circle.samples(), &heard);
        // libopus looks 6.5 ms ahead: 104 samples at 16 kHz.
        assert_eq!(found.offset_samples, 104);
        assert!(found.correlation > 0.98, "{found:?}");
    }

    #[test]
    fn a_lost_payload_is_concealed_by_one_frame() {
        let mut decoder = OpusDecoder::new(Codec::Opus).expect("a decoder");
        let mut heard = Vec::new();
        for (index, payload) in lap(&mut *encoder(), &music()).iter().enumerate() {
            let before = heard.len();
            decoder.decode((index % 7 != 3).then_some(&payload[..]), &mut heard).expect("sound");
            assert_eq!(heard.len() - before, 320);
        }
    }

    #[test]
    fn hostile_payloads_and_wrong_lengths_are_refused() {
        let mut decoder = OpusDecoder::new(Codec::Opus).expect("a decoder");
        let mut heard = Vec::new();
        // Three bytes that announce more than 120 ms (RFC 6716 section 3.4, R5).
        assert!(matches!(
            decoder.decode(Some(&[0xFF, 0x3F, 0x00]), &mut heard),
            Err(EncodeError::Library(_))
        ));
        assert!(heard.is_empty());
        let mut payload = [0; 80];
        let refusal = encoder().encode(&[0.0; 319], &mut payload);
        assert_eq!(refusal, Err(EncodeError::FrameLength { expected: 320, found: 319 }));
        let settings = EncoderSettings { opus_complexity: 11, ..EncoderSettings::default() };
        assert!(OpusEncoder::new(Codec::Opus, &settings).is_err());
    }
}
