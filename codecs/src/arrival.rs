//! [`StreamDecoder`]: a recording's bytes as they arrive, to samples as soon as they can be heard.
//!
//! A WAV is judged by its header as soon as that is there, and its sound can be taken while the rest is still on its
//! way. Everything else is judged by its first bytes and decoded when it is whole. The end always decodes the whole
//! recording again, from the same bytes: lengths that lie and chunks behind the sound are known only then. For a WAV
//! that costs a nanosecond a sample.

use std::ops::Range;

use crate::{
    decode::{DecodeError, Kind, LOOK_AT, Recording, behind_tags, decode_mono},
    pcm::DecodeLimits,
    resample::mono_weights,
    wav::{Known, WavHead, is_wav},
};

/// A recording of which more bytes are still to come.
#[derive(Debug)]
pub struct StreamDecoder {
    limits: DecodeLimits,
    bytes: Vec<u8>,
    state: State,
    /// Samples per channel that were taken, ever.
    done: usize,
}

#[derive(Debug)]
enum State {
    /// Not enough has arrived to tell.
    Unjudged,
    /// It is of a kind that is played, or may be, and is decoded when it is whole.
    Whole,
    /// It is a WAV, and its sound can be read as it comes.
    Sound { head: WavHead, weights: Vec<f32> },
}

/// Samples per channel that are mixed in one go.
const BLOCK: usize = 65_536;

impl StreamDecoder {
    /// A decoder for a recording within `limits`.
    pub fn new(limits: &DecodeLimits) -> Self {
        Self { limits: limits.clone(), bytes: Vec::new(), state: State::Unjudged, done: 0 }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    ///
    /// As soon as what has arrived can no longer become a recording, or is beyond a limit.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        self.bytes.extend_from_slice(bytes);
        if matches!(self.state, State::Unjudged) {
            self.judge()?;
        }
        if let State::Sound { head, .. } = &self.state {
            let frames = head.frames_in(&self.bytes) as u64;
            self.limits.check(head.rate(), usize::from(head.channels()), frames)?;
        }
        Ok(())
    }

    /// The rate of the sound in Hz, once it is known that there is some and that it can be taken as it arrives.
    pub fn rate(&self) -> Option<u32> {
        match &self.state {
            State::Sound { head, .. } => Some(head.rate()),
            _ => None,
        }
    }

    /// What it is, for a human, once that is known: as [`Recording::format`].
    pub fn format(&self) -> Option<String> {
        match &self.state {
            State::Sound { head, .. } => Some(head.format()),
            _ => None,
        }
    }

    /// How many samples of each channel are known, taken ones included.
    pub fn known(&self) -> usize {
        match &self.state {
            State::Sound { head, .. } => head.frames_in(&self.bytes),
            _ => 0,
        }
    }

    /// The next samples that are known and were not taken, mixed into one channel: `most` of them at most. All that is
    /// ever taken is the beginning of what [`Self::finish`] gives.
    pub fn take(&mut self, most: usize) -> Vec<f32> {
        let to = self.known().min(self.done.saturating_add(most));
        let samples = self.read(self.done..to);
        self.done = to;
        samples
    }

    /// The last samples that are known, mixed into one channel: `most` of them at most, whether or not they were taken.
    pub fn latest(&self, most: usize) -> Vec<f32> {
        let known = self.known();
        self.read(known.saturating_sub(most)..known)
    }

    /// How many bytes have arrived.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing has arrived.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All that has arrived.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// All that has arrived, for who decodes it elsewhere.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// All bytes have arrived: the whole recording, in one channel. See [`decode_mono`] for `may_go_on`.
    ///
    /// # Errors
    ///
    /// As [`decode_mono`].
    pub fn finish(self, may_go_on: &dyn Fn() -> bool) -> Result<Recording, DecodeError> {
        let Self { limits, bytes, .. } = self;
        decode_mono(&bytes, &limits, may_go_on)
    }

    fn judge(&mut self) -> Result<(), DecodeError> {
        // A tag may be longer than what has arrived, and zeros may be padding in front of an MP3.
        if matches!(self.bytes.first(), Some(0 | b'I')) && self.bytes.len() >= LOOK_AT {
            self.state = State::Whole;
        } else if self.bytes.len() >= LEAST_TO_JUDGE && is_wav(&self.bytes) {
            self.state = match WavHead::judge(&self.bytes, &self.limits)? {
                Known::TooLittle => return Ok(()),
                Known::OnlyTheWholeFile => State::Whole,
                Known::Sound(head) => {
                    let weights = mono_weights(usize::from(head.channels()));
                    State::Sound { head, weights }
                }
            };
        } else if self.bytes.len() >= LOOK_AT {
            Kind::of(behind_tags(&self.bytes))?;
            self.state = State::Whole;
        }
        Ok(())
    }

    /// Makes a part of what has arrived into samples.
    fn read(&self, frames: Range<usize>) -> Vec<f32> {
        let State::Sound { head, weights } = &self.state else { return Vec::new() };
        let finite = |sample: f32| if sample.is_finite() { sample } else { 0.0 };
        let mut mono = Vec::with_capacity(frames.len());
        let mut block = Vec::new();
        let mut from = frames.start;
        while from < frames.end {
            let to = frames.end.min(from + BLOCK);
            block.clear();
            head.append(&self.bytes, from..to, &mut block);
            if weights.len() == 1 {
                mono.extend(block.iter().copied().map(finite));
            } else {
                let mix = |frame: &[f32]| {
                    frame.iter().zip(weights).map(|(&sample, weight)| finite(sample) * weight).sum()
                };
                mono.extend(block.chunks_exact(weights.len()).map(|frame| -> f32 { mix(frame) }));
            }
            from = to;
        }
        mono
    }
}

/// A WAV shows what it is in the twelve bytes of its outer shell, a Wave64 in its first forty.
const LEAST_TO_JUDGE: usize = 40;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILES: [&[u8]; 11] = [
        include_bytes!("../../assets/fixtures/kinds/pcm-16.wav"),
        include_bytes!("../../assets/fixtures/kinds/odd-chunks.wav"),
        include_bytes!("../../assets/fixtures/kinds/rf64-pcm-16.wav"),
        include_bytes!("../../assets/fixtures/kinds/w64-pcm-16.w64"),
        include_bytes!("../../assets/fixtures/kinds/rifx-pcm-16.wav"),
        include_bytes!("../../assets/fixtures/rates/stereo-44100.wav"),
        include_bytes!("../../assets/fixtures/lengths/streamed.wav"),
        include_bytes!("../../assets/fixtures/lengths/riff-zero.wav"),
        include_bytes!("../../assets/fixtures/lengths/data-zero.wav"),
        include_bytes!("../../assets/fixtures/lengths/cut-in-data.wav"),
        include_bytes!("../../assets/fixtures/compressed/music.mp3"),
    ];

    /// All but the last two of these files can be heard before they are whole.
    #[test]
    fn a_wav_is_heard_as_soon_as_its_header_is_there() {
        for (index, file) in FILES.into_iter().enumerate() {
            let mut decoder = StreamDecoder::new(&DecodeLimits::default());
            decoder.push(&file[..file.len().min(2_000)]).expect("a recording");
            // Without a length, what follows could still be anything.
            let waits = index == 8 || index == 10;
            assert_eq!(decoder.rate().is_some(), !waits, "file {index}");
            assert_eq!(decoder.take(usize::MAX).is_empty(), waits, "file {index}");
        }
    }

    #[test]
    fn what_is_no_recording_is_refused_with_its_first_bytes() {
        let refusal = |bytes: &[u8]| {
            let mut decoder = StreamDecoder::new(&DecodeLimits::default());
            decoder.push(&bytes[..1]).and_then(|()| decoder.push(&bytes[1..])).expect_err("no recording")
        };
        let html = format!("<html>{}", "x".repeat(600));
        assert!(matches!(refusal(html.as_bytes()), DecodeError::NotAudio { .. }));
        let mut rate_zero = FILES[0][..100].to_vec();
        rate_zero[24..28].fill(0);
        assert!(matches!(refusal(&rate_zero), DecodeError::Limit(_)));
        // Without an end to be seen, the limit is met on the way.
        let mut decoder = StreamDecoder::new(&DecodeLimits { max_seconds: 1, ..DecodeLimits::default() });
        let second = FILES[6][44..].repeat(2);
        decoder.push(&FILES[6][..44]).expect("a header");
        assert!(matches!(decoder.push(&second), Err(DecodeError::Limit(_))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// What is taken on the way is the beginning of the whole; refused is only what the whole file is refused for.
        #[test]
        fn what_arrives_in_pieces_is_the_recording(
            which in 0..FILES.len(),
            pieces in prop::collection::vec(1usize..9_000, 1..20),
            blows in prop::collection::vec((0usize..120, any::<u8>()), 0..3),
        ) {
            let mut file = FILES[which].to_vec();
            blows.into_iter().for_each(|(at, byte)| file[at] = byte);
            let limits = DecodeLimits::default();
            let whole = decode_mono(&file, &limits, &|| true);
            let mut decoder = StreamDecoder::new(&limits);
            let (mut taken, mut rest) = (Vec::new(), file.as_slice());
            let mut refused = false;
            for piece in pieces.iter().cycle() {
                let (now, later) = rest.split_at((*piece).min(rest.len()));
                refused = decoder.push(now).is_err();
                taken.extend(decoder.take(usize::MAX));
                rest = later;
                if refused || rest.is_empty() {
                    break;
                }
            }
            if refused {
                prop_assert!(whole.is_err());
            } else {
                let finished = decoder.finish(&|| true);
                prop_assert_eq!(&finished, &whole);
                if let Ok(recording) = whole {
                    prop_assert!(recording.pcm.samples().starts_with(&taken));
                }
            }
        }
    }
}
