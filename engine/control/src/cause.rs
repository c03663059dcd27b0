//! Why a prompt is not heard: what went wrong in a fetch, a decoder or a queue comes in, one named cause goes out, with
//! the customer's text. docs/prompts.md says for each cause what to do about it.

use holdmusic_codecs::{BeyondLimit, DecodeError, wav::WavError};
use holdmusic_media::prepare::PrepareError;

/// The causes, one for each thing that can be done about it. The words that customers see are in `graph/words.rs`, the
/// subcodes in `graph/results.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PromptCause {
    /// The host is, or leads only to, an address that prompts may not come from.
    AddressRefused,
    /// The URL names a port on which something else than HTTP speaks.
    PortRefused,
    /// A redirect leads to another scheme than `https` and `http`, or from `https` to `http`.
    SchemeRefused,
    /// The host's name has no address.
    DnsFailed,
    /// Nobody listens at the origin's address and port.
    ConnectionRefused,
    /// The origin's address cannot be reached.
    ConnectionFailed,
    /// Resolving the name, connecting and the TLS handshake took too long together.
    ConnectTimeout,
    /// No TLS connection came about: its certificate is not trusted, or the origin speaks no TLS there.
    TlsFailed,
    /// The origin answered with a status that is neither 200 nor an error of its own.
    HttpStatus,
    /// The origin answered that it has failed itself: a status of 500 to 599.
    ServerError,
    /// One redirect too many.
    RedirectLimit,
    /// A redirect that leads nowhere.
    RedirectInvalid,
    /// The answer is not HTTP, or its head is beyond what we read.
    ResponseInvalid,
    /// The body is compressed, which we did not ask for.
    ContentEncoded,
    /// The origin was connected and then silent for too long.
    OriginSilent,
    /// Not complete when the time of a fetch was over.
    FetchTimeout,
    /// Its sound came more slowly than it is heard.
    ArrivesTooSlowly,
    /// More bytes than allowed, declared or received.
    TooLarge,
    /// The body ended before its declared end.
    ShortBody,
    /// No such file in the operator's directory.
    FileNotFound,
    /// A file of the operator's directory that cannot be read.
    FileUnreadable,
    /// The queue of prompts to be prepared is full.
    TooManyPreparing,
    /// Not ready when its operation had to end.
    NotReadyInTime,

    /// No sound of any kind.
    NotAudio,
    /// Sound of a kind that we do not play.
    UnsupportedFormat,
    /// It ends before its sound begins.
    HeaderCut,
    /// A header and not one sample.
    NoSamples,
    /// More seconds than allowed.
    TooLong,
    /// More samples over all channels than allowed.
    TooManySamples,
    /// More channels than allowed.
    TooManyChannels,
    /// A sample rate outside what is allowed.
    SampleRate,
    /// Every sample is the same.
    Silent,
    /// Its channels cancel each other out when they are mixed into one.
    CancelsOut,
    /// It begins like a format that we play and cannot be decoded.
    Corrupt,
    /// Decoding it took more CPU time than allowed.
    DecodeTimeout,
    /// The encoder failed on it: a fault of ours.
    EncodeFailed,
}

impl PromptCause {
    /// Every cause, in the order of the documentation.
    pub const ALL: [Self; 36] = [
        Self::AddressRefused,
        Self::PortRefused,
        Self::SchemeRefused,
        Self::DnsFailed,
        Self::ConnectionRefused,
        Self::ConnectionFailed,
        Self::ConnectTimeout,
        Self::TlsFailed,
        Self::HttpStatus,
        Self::ServerError,
        Self::RedirectLimit,
        Self::RedirectInvalid,
        Self::ResponseInvalid,
        Self::ContentEncoded,
        Self::OriginSilent,
        Self::FetchTimeout,
        Self::ArrivesTooSlowly,
        Self::TooLarge,
        Self::ShortBody,
        Self::FileNotFound,
        Self::FileUnreadable,
        Self::TooManyPreparing,
        Self::NotReadyInTime,
        Self::NotAudio,
        Self::UnsupportedFormat,
        Self::HeaderCut,
        Self::NoSamples,
        Self::TooLong,
        Self::TooManySamples,
        Self::TooManyChannels,
        Self::SampleRate,
        Self::Silent,
        Self::CancelsOut,
        Self::Corrupt,
        Self::DecodeTimeout,
        Self::EncodeFailed,
    ];
}

/// Why a prompt cannot be played. The message is for the customer: it holds the evidence and no secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptFailure {
    /// Which cause.
    pub cause: PromptCause,
    /// What was expected, what was found.
    pub message: String,
}

impl PromptFailure {
    /// A failure with its evidence.
    pub fn new(cause: PromptCause, message: impl Into<String>) -> Self {
        Self { cause, message: message.into() }
    }
}

impl From<&DecodeError> for PromptFailure {
    fn from(error: &DecodeError) -> Self {
        Self::new(decoding(error), error.to_string())
    }
}

impl From<&PrepareError> for PromptFailure {
    fn from(error: &PrepareError) -> Self {
        match error {
            PrepareError::Decode(error) => error.into(),
            PrepareError::Encode(error) => Self::new(PromptCause::EncodeFailed, error.to_string()),
            PrepareError::RanDry { .. } => Self::new(PromptCause::ArrivesTooSlowly, error.to_string()),
            // Nobody who stops it asks why it stopped.
            PrepareError::Stopped => Self::new(PromptCause::NotReadyInTime, error.to_string()),
        }
    }
}

/// The cause of everything that decoders say.
fn decoding(error: &DecodeError) -> PromptCause {
    match error {
        DecodeError::NotAudio { .. } => PromptCause::NotAudio,
        DecodeError::Unsupported { .. } => PromptCause::UnsupportedFormat,
        DecodeError::Wav(error) => wav(error),
        DecodeError::Limit(beyond) => limit(beyond),
        DecodeError::NoSamples => PromptCause::NoSamples,
        DecodeError::Silence { .. } => PromptCause::Silent,
        DecodeError::CancelsOut { .. } => PromptCause::CancelsOut,
        DecodeError::TookTooLong { .. } => PromptCause::DecodeTimeout,
        DecodeError::Corrupt { .. } => PromptCause::Corrupt,
    }
}

fn wav(error: &WavError) -> PromptCause {
    match error {
        WavError::NotWav => PromptCause::NotAudio,
        WavError::CutInHeader { .. } => PromptCause::HeaderCut,
        WavError::FormatTag { .. } | WavError::Bits { .. } => PromptCause::UnsupportedFormat,
        WavError::NoFormat | WavError::FormatTooShort { .. } => PromptCause::Corrupt,
        WavError::NoData | WavError::NoSamples => PromptCause::NoSamples,
        WavError::Limit(beyond) => limit(beyond),
    }
}

fn limit(beyond: &BeyondLimit) -> PromptCause {
    match beyond {
        // A header that claims no channel at all is damaged, and no limit helps.
        BeyondLimit::Channels { found: 0, .. } => PromptCause::Corrupt,
        BeyondLimit::Channels { .. } => PromptCause::TooManyChannels,
        BeyondLimit::Rate { .. } => PromptCause::SampleRate,
        BeyondLimit::Seconds { .. } => PromptCause::TooLong,
        BeyondLimit::Samples { .. } => PromptCause::TooManySamples,
    }
}

/// How often each cause was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CauseCounts([u64; PromptCause::ALL.len()]);

impl Default for CauseCounts {
    fn default() -> Self {
        Self([0; PromptCause::ALL.len()])
    }
}

impl CauseCounts {
    /// Once more.
    pub(crate) fn add(&mut self, cause: PromptCause) {
        self.0[cause as usize] += 1;
    }

    /// Every cause with its count.
    pub fn iter(&self) -> impl Iterator<Item = (PromptCause, u64)> {
        PromptCause::ALL.into_iter().zip(self.0)
    }
}

#[cfg(test)]
mod tests {
    use holdmusic_codecs::{DecodeLimits, EncodeError, decode_mono};

    use super::*;
    use crate::graph::results;

    #[test]
    fn all_causes_stand_in_their_place() {
        for (index, cause) in PromptCause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, index, "{cause:?}");
        }
        assert_eq!(
            PromptCause::EncodeFailed as usize + 1,
            PromptCause::ALL.len(),
            "the last one is the last"
        );
    }

    /// The table of docs/prompts.md: a row begins with the word and the subcode.
    #[test]
    fn the_documentation_lists_every_cause_with_its_subcode_and_what_to_do_and_no_other() {
        let rows: Vec<_> = include_str!("../../../docs/prompts.md")
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once("` | 85"))
            .map(|(word, rest)| {
                let mut cells = rest.trim_end_matches('|').split(" | ");
                let subcode = cells.next().and_then(|digits| format!("85{digits}").parse::<u32>().ok());
                let told = cells.filter(|cell| cell.trim().len() > 10).count();
                (word, subcode, told)
            })
            .collect();
        let expected: Vec<_> = PromptCause::ALL
            .into_iter()
            .map(|cause| (cause.word(), Some(results::prompt_subcode(cause)), 2))
            .collect();
        assert_eq!(rows, expected);
    }

    /// A WAV of 16 bits with these samples, interleaved.
    fn wav_of(channels: u16, rate: u32, bits: u16, samples: &[i16]) -> Vec<u8> {
        let data: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let width = channels * bits / 8;
        [
            &b"RIFF"[..],
            &(36 + data.len() as u32).to_le_bytes(),
            b"WAVEfmt ",
            &16u32.to_le_bytes(),
            &1u16.to_le_bytes(),
            &channels.to_le_bytes(),
            &rate.to_le_bytes(),
            &(rate * u32::from(width)).to_le_bytes(),
            &width.to_le_bytes(),
            &bits.to_le_bytes(),
            b"data",
            &(data.len() as u32).to_le_bytes(),
            &data,
        ]
        .concat()
    }

    /// Every cause of 8535 but the encoder's, from real bytes through the real decoder.
    #[test]
    fn every_way_in_which_a_recording_is_none_has_its_cause() {
        let limits = DecodeLimits { max_seconds: 1, max_samples: 12_000, ..DecodeLimits::default() };
        let tone: Vec<i16> = (0..800).map(|n: i16| (n % 50) * 100).collect();
        let upside_down: Vec<i16> = tone.iter().flat_map(|&sample| [sample, -sample]).collect();
        let good = wav_of(1, 8000, 16, &tone);
        let flac = include_bytes!("../../../assets/fixtures/tones/tone.flac");
        let cases: [(&str, Vec<u8>, PromptCause); 17] = [
            ("a web page", b"<!doctype html><p>Not here".to_vec(), PromptCause::NotAudio),
            ("nothing", vec![], PromptCause::NotAudio),
            ("AMR", b"#!AMR\n<\x91\x17\x16\xbe".to_vec(), PromptCause::UnsupportedFormat),
            ("48 bits", wav_of(1, 8000, 48, &tone), PromptCause::UnsupportedFormat),
            ("WAV cut at 30", good[..30].to_vec(), PromptCause::HeaderCut),
            ("a WAV without samples", wav_of(1, 8000, 16, &[]), PromptCause::NoSamples),
            ("two seconds", wav_of(1, 4000, 16, &tone.repeat(10)), PromptCause::TooLong),
            (
                "16 000 samples in a second",
                wav_of(1, 16_000, 16, &tone.repeat(20)),
                PromptCause::TooManySamples,
            ),
            ("9 channels", wav_of(9, 8000, 16, &tone[..9 * 80]), PromptCause::TooManyChannels),
            ("no channel", wav_of(0, 8000, 16, &tone), PromptCause::Corrupt),
            ("3999 Hz", wav_of(1, 3999, 16, &tone), PromptCause::SampleRate),
            ("384 001 Hz", wav_of(1, 384_001, 16, &tone), PromptCause::SampleRate),
            ("0 Hz", wav_of(1, 0, 16, &tone), PromptCause::SampleRate),
            ("zeros", wav_of(1, 8000, 16, &[0; 800]), PromptCause::Silent),
            ("a DC offset", wav_of(1, 8000, 16, &[5; 800]), PromptCause::Silent),
            ("one channel upside down", wav_of(2, 8000, 16, &upside_down), PromptCause::CancelsOut),
            ("a FLAC of holes", [&flac[..80], &[0xFF; 4000]].concat(), PromptCause::Corrupt),
        ];
        for (name, bytes, cause) in cases {
            let error =
                decode_mono(&bytes, &limits, &|| true).map(|recording| recording.format).expect_err(name);
            let failure = PromptFailure::from(&error);
            assert_eq!(failure.cause, cause, "{name}: {}", failure.message);
            assert_eq!(results::prompt_subcode(failure.cause), 8535, "{name}");
        }
        assert!(decode_mono(&good, &limits, &|| true).is_ok());
        let error = decode_mono(&good, &limits, &|| false).expect_err("no time");
        assert_eq!(PromptFailure::from(&error).cause, PromptCause::DecodeTimeout);
        let error = PrepareError::Encode(EncodeError::FrameLength { expected: 320, found: 0 });
        assert_eq!(PromptFailure::from(&error).cause, PromptCause::EncodeFailed);
    }
}
