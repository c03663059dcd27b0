//! A recording's bytes, of any kind that we accept, to [`Pcm`]: our own reader for WAV, symphonia for the rest.
//!
//! The bytes decide what they are; names and MIME types are not asked. They come from strangers: lengths, channels
//! and rates are checked before memory is taken, and a decoder that panics is a corrupt recording, nothing more.

use std::{
    borrow::Cow,
    fmt,
    io::Cursor,
    panic::{AssertUnwindSafe, catch_unwind},
};

use symphonia::core::{
    codecs::{
        audio::{
            AudioCodecParameters, AudioDecoderOptions,
            well_known::{CODEC_ID_OPUS, CODEC_ID_PCM_ALAW, CODEC_ID_PCM_MULAW, CODEC_ID_VORBIS},
        },
        registry::CodecRegistry,
    },
    errors::Error as SymphoniaError,
    formats::{
        FormatOptions, FormatReader, TrackType,
        probe::{Hint, Probe},
    },
    io::{MediaSource, MediaSourceStream, MediaSourceStreamOptions, ReadOnlySource},
    meta::MetadataOptions,
};
use symphonia::default::{codecs, formats};

use crate::{
    pcm::{BeyondLimit, DecodeLimits, Pcm},
    resample::mono_weights,
    wav::{self, LoopPoints, WavError, WavFile},
};

/// A recording that can be played.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// Its samples at its own rate: all channels, or one mixed from them.
    pub pcm: Pcm,
    /// How many channels were recorded.
    pub channels: u16,
    /// What it was, for a human: `WAV, PCM 16-bit, 8000 Hz, 1 channel`.
    pub format: String,
    /// Where its author wants it to repeat, if the file says so.
    pub loop_points: Option<LoopPoints>,
    /// Whether it ends before its own header says, or parts of it could not be decoded.
    pub cut_short: bool,
}

/// Decodes a whole recording, every channel of it.
///
/// # Errors
///
/// Says in the customer's voice what was expected and what was found; see [`DecodeError`].
pub fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<Recording, DecodeError> {
    decoded(bytes, &Terms { limits, mono: false, may_go_on: &|_| true, watch: &|_, _, _| {} })
}

/// Decodes a whole recording and mixes its channels into one while it goes, so that only one channel is ever held:
/// half an hour of 48 kHz stereo takes 330 MiB instead of 990. `may_go_on` is asked at least every 65 536 samples per
/// channel and for every packet; it is how a caller who has a clock limits the time.
///
/// # Errors
///
/// As [`decode`]; [`DecodeError::TookTooLong`] as soon as `may_go_on` says no, and [`DecodeError::CancelsOut`] where
/// nothing is left when the channels are mixed.
pub fn decode_mono(
    bytes: &[u8],
    limits: &DecodeLimits,
    may_go_on: &dyn Fn() -> bool,
) -> Result<Recording, DecodeError> {
    decode_mono_watched(bytes, limits, may_go_on, &|_, _, _| {})
}

/// [`decode_mono`] for a caller who limits memory too: `may_go_on` is told how many samples there is room for so far.
///
/// # Errors
///
/// As [`decode_mono`].
pub fn decode_mono_counted(
    bytes: &[u8],
    limits: &DecodeLimits,
    may_go_on: &dyn Fn(usize) -> bool,
) -> Result<Recording, DecodeError> {
    decoded(bytes, &Terms { limits, mono: true, may_go_on, watch: &|_, _, _| {} })
}

/// As [`decode_mono`], under the eyes of somebody who sees every channel before they are mixed.
pub(crate) fn decode_mono_watched(
    bytes: &[u8],
    limits: &DecodeLimits,
    may_go_on: &dyn Fn() -> bool,
    watch: &Watch<'_>,
) -> Result<Recording, DecodeError> {
    decoded(bytes, &Terms { limits, mono: true, may_go_on: &|_| may_go_on(), watch })
}

/// Is shown a rate in Hz, a number of channels, and what follows of their samples, interleaved.
pub(crate) type Watch<'a> = dyn Fn(u32, usize, &[f32]) + 'a;

/// What a caller asks for, and on which conditions.
struct Terms<'a> {
    limits: &'a DecodeLimits,
    mono: bool,
    may_go_on: &'a dyn Fn(usize) -> bool,
    watch: &'a Watch<'a>,
}

fn decoded(bytes: &[u8], terms: &Terms<'_>) -> Result<Recording, DecodeError> {
    let bytes = behind_tags(bytes);
    let kind = Kind::of(bytes)?;
    match kind {
        Kind::Wav => match WavFile::open(bytes, terms.limits) {
            Ok(file) => read_wav(&file, terms),
            // Microsoft and IMA ADPCM (RFC 2361): old answering machines still write them.
            Err(WavError::FormatTag { found: 0x0002 | 0x0011 }) => contained(bytes, kind, terms),
            Err(error) => Err(error.into()),
        },
        _ => contained(bytes, kind, terms),
    }
}

/// Samples per channel that are read from a WAV in one go: a fraction of a millisecond of work.
const WAV_BLOCK: usize = 65_536;

fn read_wav(file: &WavFile<'_>, terms: &Terms<'_>) -> Result<Recording, DecodeError> {
    let mut gathered = Gathered::new(terms);
    gathered.samples.reserve_exact(file.frames() * if terms.mono { 1 } else { usize::from(file.channels()) });
    let mut block = Vec::new();
    let mut from = 0;
    while from < file.frames() {
        gathered.ask()?;
        let to = file.frames().min(from + WAV_BLOCK);
        block.clear();
        file.append(from..to, &mut block);
        gathered.take(file.rate(), usize::from(file.channels()), &block)?;
        from = to;
    }
    gathered.recording(|_, _| file.format(), file.loop_points, file.cut_short)
}

/// What we play.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Wav,
    Flac,
    Ogg,
    Mpeg,
    Aiff,
    Caf,
    #[cfg(feature = "aac")]
    Mp4,
    #[cfg(feature = "aac")]
    Adts,
}

impl Kind {
    /// Looks at the first bytes only.
    pub(crate) fn of(bytes: &[u8]) -> Result<Self, DecodeError> {
        if wav::is_wav(bytes) {
            return Ok(Self::Wav);
        }
        let not_audio = |looks_like: &str| Err(DecodeError::NotAudio { looks_like: looks_like.to_owned() });
        let unsupported = |what: &str| Err(DecodeError::Unsupported { what: what.to_owned() });
        match bytes {
            [] => return not_audio("0 bytes"),
            [b'f', b'L', b'a', b'C', ..] => return Ok(Self::Flac),
            [b'O', b'g', b'g', b'S', ..] => return Ok(Self::Ogg),
            [b'I', b'D', b'3', ..] => return not_audio("an ID3 tag with nothing behind it"),
            #[cfg(feature = "aac")]
            [0xFF, second, ..] if second & 0xF6 == 0xF0 => return Ok(Self::Adts),
            #[cfg(not(feature = "aac"))]
            [0xFF, second, ..] if second & 0xF6 == 0xF0 => return unsupported("AAC (ADTS)"),
            // Eleven bits of sync, then a version, a layer, a bit rate and a sample rate that exist (ISO 11172-3,
            // 2.4.1.3): sound without a header, µ-law silence above all, is full of 0xFF.
            [0xFF, second, third, ..]
                if second & 0xE0 == 0xE0
                    && second & 0x18 != 0x08
                    && second & 0x06 != 0
                    && third & 0xF0 != 0xF0
                    && third & 0x0C != 0x0C =>
            {
                return match second & 0x06 {
                    0x02 => Ok(Self::Mpeg),
                    0x04 => unsupported("MPEG audio layer II"),
                    _ => unsupported("MPEG audio layer I"),
                };
            }
            #[cfg(feature = "aac")]
            [_, _, _, _, b'f', b't', b'y', b'p', ..] => return Ok(Self::Mp4),
            #[cfg(not(feature = "aac"))]
            [_, _, _, _, b'f', b't', b'y', b'p', ..] => return unsupported("MP4"),
            [b'F', b'O', b'R', b'M', _, _, _, _, b'A', b'I', b'F', b'F' | b'C', ..] => {
                return Ok(Self::Aiff);
            }
            [b'c', b'a', b'f', b'f', ..] => return Ok(Self::Caf),
            [0x1A, 0x45, 0xDF, 0xA3, ..] => return unsupported("Matroska or WebM"),
            [b'#', b'!', b'A', b'M', b'R', ..] => return unsupported("AMR"),
            [0x30, 0x26, 0xB2, 0x75, ..] => return unsupported("Windows Media"),
            [b'.', b's', b'n', b'd', ..] => return unsupported("Sun AU"),
            [b'M', b'T', b'h', b'd', ..] => return unsupported("MIDI"),
            [b'#', b'E', b'X', b'T', b'M', b'3', b'U', ..] => return not_audio("a playlist"),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'A', b'V', b'I', b' ', ..] => return unsupported("AVI"),
            [b'R', b'I', b'F', b'F', ..] => return not_audio("a RIFF file that is not a WAV"),
            [b'%', b'P', b'D', b'F', ..] => return not_audio("a PDF document"),
            [b'P', b'K', 3, 4, ..] => return not_audio("a ZIP archive"),
            [0x1F, 0x8B, ..] => return not_audio("a gzip archive"),
            [0x89, b'P', b'N', b'G', ..] | [0xFF, 0xD8, 0xFF, ..] | [b'G', b'I', b'F', b'8', ..] => {
                return not_audio("an image");
            }
            _ => {}
        }
        not_audio(&text_kind(bytes).map_or_else(|| unknown(bytes), str::to_owned))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Wav => "WAV",
            Self::Flac => "FLAC",
            Self::Ogg => "Ogg",
            Self::Mpeg => "MP3",
            Self::Aiff => "AIFF",
            Self::Caf => "CAF",
            #[cfg(feature = "aac")]
            Self::Mp4 => "MP4",
            #[cfg(feature = "aac")]
            Self::Adts => "AAC",
        }
    }
}

/// Steps over ID3v2 tags, which are text and pictures before the sound (id3.org, ID3v2.4 section 3.1): 10 bytes, of
/// which the last four are the length, seven bits each. Not reading them is one parser less to attack.
pub(crate) fn behind_tags(mut bytes: &[u8]) -> &[u8] {
    while let [b'I', b'D', b'3', _, _, flags, a, b, c, d, ..] = *bytes {
        let length = [a, b, c, d].iter().fold(0usize, |length, &byte| length << 7 | usize::from(byte & 0x7F));
        let footer = if flags & 0x10 == 0 { 0 } else { 10 };
        match bytes.get(10 + length + footer..) {
            Some(rest) if !rest.is_empty() => bytes = rest,
            _ => break,
        }
    }
    // Some writers pad a tag with zeros that its length does not count.
    match bytes.iter().position(|&byte| byte != 0) {
        Some(zeros) if zeros > 0 && bytes.get(zeros) == Some(&0xFF) => &bytes[zeros..],
        _ => bytes,
    }
}

/// How many bytes at the front are looked at to tell text from noise.
pub(crate) const LOOK_AT: usize = 512;

/// What kind of text a web server has sent instead of sound, if it is text.
fn text_kind(bytes: &[u8]) -> Option<&'static str> {
    let head = &bytes[..bytes.len().min(LOOK_AT)];
    let head = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head).trim_ascii_start();
    let lower = head.to_ascii_lowercase();
    let begins = |words: &[&str]| words.iter().any(|word| lower.starts_with(word.as_bytes()));
    if begins(&["<!doctype html", "<html", "<head", "<body", "<script", "<!--"]) {
        return Some("an HTML page");
    }
    if begins(&["<?xml", "<"]) {
        return Some("an XML document");
    }
    let is_text = head.iter().all(|&byte| byte >= 0x20 && byte != 0x7F || byte.is_ascii_whitespace())
        && std::str::from_utf8(head).map_or_else(|error| error.error_len().is_none(), |_| true);
    match head.first() {
        Some(b'{' | b'[') if is_text => Some("a JSON document"),
        Some(_) if is_text => Some("a text"),
        Some(_) => None,
        None => Some("nothing but white space"),
    }
}

fn unknown(bytes: &[u8]) -> String {
    let head: Vec<String> = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let plural = if bytes.len() == 1 { "" } else { "s" };
    let mut words =
        format!("{} byte{plural} of an unknown kind that begin with {}", bytes.len(), head.join(" "));
    if bytes.len() >= LEAST_HEADERLESS {
        words.push_str(
            "; if it is sound without a header (.g722, .ulaw, .alaw, .sln, .gsm), it does not say its rate and \
             coding: put it into a WAV",
        );
    }
    words
}

/// Fewer bytes are not taken for sound without a header: 20 ms of G.711.
const LEAST_HEADERLESS: usize = 160;

/// Symphonia and libopus behind a wall: their panics end here.
fn contained(bytes: &[u8], kind: Kind, terms: &Terms<'_>) -> Result<Recording, DecodeError> {
    catch_unwind(AssertUnwindSafe(|| foreign(bytes, kind, terms))).unwrap_or_else(|_| {
        Err(DecodeError::Corrupt {
            format: kind.name().to_owned(),
            words: "its decoder gave up on it".to_owned(),
        })
    })
}

/// How many packets in a row may fail before the recording counts as corrupt: over a second of MP3 (26 ms each).
const MAX_BAD_PACKETS: u32 = 50;

fn foreign(bytes: &[u8], kind: Kind, terms: &Terms<'_>) -> Result<Recording, DecodeError> {
    let corrupt = |error: SymphoniaError| corrupt(kind, &error);
    let (whole, mut cut_short) =
        if kind == Kind::Caf { mended_caf(bytes) } else { (Cow::Borrowed(bytes), false) };
    let mut reader = open(&whole, kind).map_err(corrupt)?;
    let track = reader.default_track(TrackType::Audio).ok_or_else(|| DecodeError::Unsupported {
        what: format!("{} without an audio track", kind.name()),
    })?;
    let track_id = track.id;
    let declared_frames = track.num_frames;
    let delay = track.delay.unwrap_or(0);
    let params = track
        .codec_params
        .as_ref()
        .and_then(|params| params.audio())
        .ok_or_else(|| DecodeError::Unsupported { what: format!("{} without a known codec", kind.name()) })?
        .clone();
    check_declared(&params, declared_frames, terms.limits)?;

    let mut gathered = Gathered::new(terms);
    let mut decoder = PacketDecoder::new(&params, delay).map_err(|error| match error {
        SymphoniaError::Unsupported(_) => {
            DecodeError::Unsupported { what: format!("{} with a codec that is not built in", kind.name()) }
        }
        other => corrupt(other),
    })?;
    let mut bad_in_a_row = 0;
    loop {
        gathered.ask()?;
        let packet = match reader.next_packet() {
            Ok(Some(packet)) => packet,
            // A chained Ogg begins a second recording: the first one is what was asked for.
            Ok(None) | Err(SymphoniaError::ResetRequired) => break,
            // The end of a file that promised more.
            Err(SymphoniaError::IoError(_)) => {
                cut_short = true;
                break;
            }
            Err(error) => {
                cut_short = true;
                bad_in_a_row += 1;
                if bad_in_a_row > MAX_BAD_PACKETS {
                    if gathered.samples.is_empty() {
                        return Err(corrupt(error));
                    }
                    break;
                }
                continue;
            }
        };
        if packet.track_id != track_id {
            continue;
        }
        match decoder.decode(&packet, &mut gathered) {
            Ok(()) => bad_in_a_row = 0,
            Err(Refusal::Limit(beyond)) => return Err(beyond.into()),
            Err(Refusal::Decoder(error)) => {
                cut_short = true;
                bad_in_a_row += 1;
                if bad_in_a_row > MAX_BAD_PACKETS {
                    if gathered.samples.is_empty() {
                        return Err(corrupt(error));
                    }
                    break;
                }
            }
        }
    }
    if let Some(declared) = declared_frames {
        cut_short |= gathered.frames < declared.saturating_sub(u64::from(delay));
    }
    let name = codec_name(kind, &params);
    let format = |rate, channels| {
        let plural = if channels == 1 { "" } else { "s" };
        format!("{name}, {rate} Hz, {channels} channel{plural}")
    };
    gathered.recording(format, None, cut_short)
}

/// A CAF whose header says where the sound ends, and whether it had said more than there is. The reader looks for the
/// chunk behind the sound, and without one misses all of it: in a file that was cut, and in one that was streamed,
/// whose length is -1. A chunk is four letters, a length of eight bytes and a body, from byte 8 on (Apple's CAF
/// specification, "Audio Data chunk").
fn mended_caf(bytes: &[u8]) -> (Cow<'_, [u8]>, bool) {
    let mut at = 8usize;
    while let Some(header) = bytes.get(at..at.saturating_add(12)) {
        let length = i64::from_be_bytes(header[4..].try_into().expect("eight bytes"));
        let rest = bytes.len() - at - 12;
        let fits = usize::try_from(length).is_ok_and(|length| length <= rest);
        if header.starts_with(b"data") && !fits && length >= -1 {
            let mut mended = bytes.to_vec();
            mended[at + 4..at + 12].copy_from_slice(&(rest as i64).to_be_bytes());
            return (Cow::Owned(mended), length != -1);
        }
        if !fits {
            break;
        }
        at += 12 + length as usize;
    }
    (Cow::Borrowed(bytes), false)
}

/// A probe that knows what we play and nothing else.
fn open(bytes: &[u8], kind: Kind) -> Result<Box<dyn FormatReader + '_>, SymphoniaError> {
    let mut probe = Probe::new();
    match kind {
        Kind::Wav => probe.register_format::<formats::WavReader<'_>>(),
        Kind::Flac => probe.register_format::<formats::FlacReader<'_>>(),
        Kind::Ogg => probe.register_format::<formats::OggReader<'_>>(),
        Kind::Mpeg => probe.register_format::<formats::MpaReader<'_>>(),
        Kind::Aiff => probe.register_format::<formats::AiffReader<'_>>(),
        Kind::Caf => probe.register_format::<formats::CafReader<'_>>(),
        #[cfg(feature = "aac")]
        Kind::Mp4 => probe.register_format::<formats::IsoMp4Reader<'_>>(),
        #[cfg(feature = "aac")]
        Kind::Adts => probe.register_format::<formats::AdtsReader<'_>>(),
    }
    // Where it may seek, the AIFF reader first looks behind the sound, and misses all of it in a file that was cut.
    if kind == Kind::Aiff
        && let Ok(reader) = open_source(&probe, Box::new(ReadOnlySource::new(bytes)))
    {
        return Ok(reader);
    }
    open_source(&probe, Box::new(Cursor::new(bytes)))
}

fn open_source<'a>(
    probe: &Probe,
    source: Box<dyn MediaSource + 'a>,
) -> Result<Box<dyn FormatReader + 'a>, SymphoniaError> {
    let source = MediaSourceStream::new(source, MediaSourceStreamOptions::default());
    probe.probe(&Hint::new(), source, FormatOptions::default(), MetadataOptions::default())
}

fn check_declared(
    params: &AudioCodecParameters,
    frames: Option<u64>,
    limits: &DecodeLimits,
) -> Result<(), DecodeError> {
    // What is not declared is checked when the first packet has been decoded.
    let rate = params.sample_rate.unwrap_or(limits.max_rate);
    let channels = params.channels.as_ref().map_or(1, |channels| channels.count());
    Ok(limits.check(rate, channels, frames.unwrap_or(0))?)
}

fn codec_name(kind: Kind, params: &AudioCodecParameters) -> &'static str {
    match kind {
        Kind::Wav => "WAV, ADPCM 4-bit",
        Kind::Ogg if params.codec == CODEC_ID_OPUS => "Ogg Opus",
        Kind::Ogg if params.codec == CODEC_ID_VORBIS => "Ogg Vorbis",
        Kind::Ogg => "Ogg FLAC",
        other => other.name(),
    }
}

/// What has been decoded so far, under limits.
struct Gathered<'a> {
    /// 0 until the first packet.
    rate: u32,
    /// Channels recorded; 0 until the first packet.
    channels: u16,
    /// What each channel counts, if they are mixed into one.
    weights: Vec<f32>,
    /// Samples per channel.
    frames: u64,
    samples: Vec<f32>,
    /// The first sample of each channel.
    first: Vec<f32>,
    /// Whether every channel has stayed at its first sample: digital silence, or nothing but a DC offset.
    is_silent: bool,
    terms: &'a Terms<'a>,
}

impl<'a> Gathered<'a> {
    fn new(terms: &'a Terms<'a>) -> Self {
        Self {
            rate: 0,
            channels: 0,
            weights: Vec::new(),
            frames: 0,
            samples: Vec::new(),
            first: Vec::new(),
            is_silent: true,
            terms,
        }
    }

    /// Whether there is time for more.
    fn ask(&self) -> Result<(), DecodeError> {
        if (self.terms.may_go_on)(self.samples.capacity()) {
            return Ok(());
        }
        Err(DecodeError::TookTooLong {
            decoded_seconds: self.frames as f64 / f64::from(self.rate.max(1)),
            limit_seconds: self.terms.limits.max_cpu_seconds,
        })
    }

    /// Takes one packet's sound. A packet of another shape than the first is skipped: no player mixes rates.
    fn take(&mut self, rate: u32, channels: usize, samples: &[f32]) -> Result<(), BeyondLimit> {
        if samples.is_empty() {
            return Ok(());
        }
        let frames = self.frames + (samples.len() / channels.max(1)) as u64;
        self.terms.limits.check(rate, channels, frames)?;
        // Float decoders give what is in the file; NaN would poison every filter behind them.
        let finite = |sample: f32| if sample.is_finite() { sample } else { 0.0 };
        if self.frames == 0 {
            self.rate = rate;
            // Within the limit of channels, which is 16 bits wide.
            self.channels = channels as u16;
            self.weights = mono_weights(channels);
            self.first = samples.iter().take(channels).copied().map(finite).collect();
        }
        if self.rate != rate || usize::from(self.channels) != channels {
            return Ok(());
        }
        self.frames = frames;
        (self.terms.watch)(rate, channels, samples);
        self.is_silent = self.is_silent
            && samples
                .chunks_exact(channels)
                .all(|frame| frame.iter().zip(&self.first).all(|(&sample, &first)| finite(sample) == first));
        if self.terms.mono && channels == 2 {
            // Nearly all that is not mono; a known number of channels takes half the time.
            let (left, right) = (self.weights[0], self.weights[1]);
            let (pairs, _) = samples.as_chunks::<2>();
            self.samples.extend(pairs.iter().map(|&[l, r]| finite(l) * left + finite(r) * right));
        } else if self.terms.mono && channels > 1 {
            let weights = &self.weights;
            let mix = |frame: &[f32]| {
                frame.iter().zip(weights).map(|(&sample, weight)| finite(sample) * weight).sum()
            };
            self.samples.extend(samples.chunks_exact(channels).map(|frame| -> f32 { mix(frame) }));
        } else {
            self.samples.extend(samples.iter().copied().map(finite));
        }
        Ok(())
    }

    /// All has been taken; `format` is told the rate and the channels.
    fn recording(
        self,
        format: impl Fn(u32, u16) -> String,
        loop_points: Option<LoopPoints>,
        cut_short: bool,
    ) -> Result<Recording, DecodeError> {
        if self.frames == 0 {
            return Err(DecodeError::NoSamples);
        }
        let seconds = self.frames as f64 / f64::from(self.rate);
        if self.is_silent {
            return Err(DecodeError::Silence { seconds });
        }
        let mixed = self.terms.mono && self.channels > 1;
        if mixed && self.samples.iter().all(|sample| sample.abs() < CANCELLED) {
            return Err(DecodeError::CancelsOut { channels: self.channels });
        }
        let channels = if mixed { 1 } else { self.channels };
        Ok(Recording {
            pcm: Pcm::new(self.rate, channels, self.samples),
            channels: self.channels,
            format: format(self.rate, self.channels),
            loop_points,
            cut_short,
        })
    }
}

/// What is left of two channels that cancel each other out: less than a quarter of a step of 16 bits.
const CANCELLED: f32 = 0.25 / 32_768.0;

/// Why a packet has not become sound.
enum Refusal {
    Limit(BeyondLimit),
    Decoder(SymphoniaError),
}

impl From<SymphoniaError> for Refusal {
    fn from(error: SymphoniaError) -> Self {
        Self::Decoder(error)
    }
}

impl From<BeyondLimit> for Refusal {
    fn from(beyond: BeyondLimit) -> Self {
        Self::Limit(beyond)
    }
}

/// Symphonia has no Opus decoder, so its packets go to libopus.
enum PacketDecoder {
    Symphonia { decoder: Box<dyn symphonia::core::codecs::audio::AudioDecoder>, interleaved: Vec<f32> },
    Opus { decoder: opus::Decoder, channels: usize, skip: usize, gain: f32, interleaved: Vec<f32> },
}

/// The rate that Ogg Opus is counted and decoded at (RFC 7845 section 5.1).
const OGG_OPUS_RATE: u32 = 48_000;
/// Longest Opus packet: 120 ms (RFC 6716 section 3.2.5) at 48 kHz.
const LONGEST_OPUS_PACKET: usize = 5_760;

impl PacketDecoder {
    fn new(params: &AudioCodecParameters, delay: u32) -> Result<Self, SymphoniaError> {
        if params.codec == CODEC_ID_OPUS {
            return Self::opus(params, delay);
        }
        let mut registry = CodecRegistry::new();
        registry.register_audio_decoder::<codecs::FlacDecoder>();
        registry.register_audio_decoder::<codecs::MpaDecoder>();
        registry.register_audio_decoder::<codecs::VorbisDecoder>();
        registry.register_audio_decoder::<codecs::AdpcmDecoder>();
        // For AIFF and CAF; our own reader serves WAV.
        registry.register_audio_decoder::<codecs::PcmDecoder>();
        #[cfg(feature = "aac")]
        registry.register_audio_decoder::<codecs::AacDecoder>();
        let mut params = params.clone();
        if matches!(params.codec, CODEC_ID_PCM_ALAW | CODEC_ID_PCM_MULAW) {
            // CAF declares the 8 bits that are in the file, the decoder wants the 16 that come out of them.
            (params.bits_per_sample, params.bits_per_coded_sample) = (None, None);
        }
        let decoder = registry.make_audio_decoder(&params, &AudioDecoderOptions::default())?;
        Ok(Self::Symphonia { decoder, interleaved: Vec::new() })
    }

    /// Reads the OpusHead packet (RFC 7845 section 5.1): channels at 9, output gain in 1/256 dB at 16, channel
    /// mapping family at 18. Family 0, mono and stereo, is all that phone systems and browsers record.
    fn opus(params: &AudioCodecParameters, delay: u32) -> Result<Self, SymphoniaError> {
        let head = params.extra_data.as_deref().unwrap_or_default();
        let channels = match (head.get(9), head.get(18)) {
            (Some(1), Some(0)) => opus::Channels::Mono,
            (Some(2), Some(0)) => opus::Channels::Stereo,
            _ => return Err(SymphoniaError::Unsupported("opus: more than two channels")),
        };
        let gain = match head.get(16..18) {
            Some(&[low, high]) => f32::from(i16::from_le_bytes([low, high])) / 256.0,
            _ => 0.0,
        };
        let decoder = opus::Decoder::new(OGG_OPUS_RATE, channels)
            .map_err(|_| SymphoniaError::Unsupported("opus: no decoder"))?;
        let channels = if channels == opus::Channels::Mono { 1 } else { 2 };
        let interleaved = vec![0.0; LONGEST_OPUS_PACKET * channels];
        Ok(Self::Opus { decoder, channels, skip: delay as usize, gain: 10f32.powf(gain / 20.0), interleaved })
    }

    fn decode(
        &mut self,
        packet: &symphonia::core::packet::Packet,
        gathered: &mut Gathered<'_>,
    ) -> Result<(), Refusal> {
        match self {
            Self::Symphonia { decoder, interleaved } => {
                let sound = decoder.decode(packet)?;
                let (rate, channels) = (sound.spec().rate(), sound.spec().channels().count());
                gathered.terms.limits.check(rate, channels, sound.frames() as u64)?;
                sound.copy_to_vec_interleaved(interleaved);
                Ok(gathered.take(rate, channels, interleaved)?)
            }
            Self::Opus { decoder, channels, skip, gain, interleaved } => {
                let frames = decoder
                    .decode_float(&packet.data, interleaved, false)
                    .map_err(|_| SymphoniaError::DecodeError("opus: not a packet"))?;
                // The pre-skip is the encoder's run-in, the trim at the end its padding.
                let skipped = frames.min(*skip);
                *skip -= skipped;
                let padding = usize::try_from(packet.trim_end.get()).unwrap_or(frames);
                let end = frames.saturating_sub(padding).max(skipped);
                let sound = &mut interleaved[skipped * *channels..end * *channels];
                sound.iter_mut().for_each(|sample| *sample *= *gain);
                Ok(gathered.take(OGG_OPUS_RATE, *channels, sound)?)
            }
        }
    }
}

fn corrupt(kind: Kind, error: &SymphoniaError) -> DecodeError {
    match error {
        SymphoniaError::Unsupported(words) => {
            DecodeError::Unsupported { what: format!("{} of this kind ({words})", kind.name()) }
        }
        other => DecodeError::Corrupt { format: kind.name().to_owned(), words: other.to_string() },
    }
}

/// Why bytes have not become a recording. The words are the customer's: what was expected, what was found.
#[derive(Clone, Debug, PartialEq)]
pub enum DecodeError {
    /// No sound of any kind: a web page, a document, nothing.
    NotAudio {
        /// What it looks like: `an HTML page`, `0 bytes`.
        looks_like: String,
    },
    /// Sound, of a kind that we do not play.
    Unsupported {
        /// Its name.
        what: String,
    },
    /// A WAV that cannot be read; its own evidence.
    Wav(WavError),
    /// Channels, rate or length beyond a limit.
    Limit(BeyondLimit),
    /// A container without one sample of sound.
    NoSamples,
    /// Every sample is the same: digital silence, or nothing but a DC offset.
    Silence {
        /// How long it is silent, in seconds.
        seconds: f64,
    },
    /// There is sound in every channel, and none when they are mixed into one: one is the other upside down.
    CancelsOut {
        /// Channels of the recording.
        channels: u16,
    },
    /// The caller's time was over before the recording was decoded.
    TookTooLong {
        /// How much had been decoded, in seconds of sound.
        decoded_seconds: f64,
        /// [`DecodeLimits::max_cpu_seconds`].
        limit_seconds: u32,
    },
    /// It begins like a format that we play and cannot be decoded.
    Corrupt {
        /// The format.
        format: String,
        /// The decoder's words.
        words: String,
    },
}

impl From<WavError> for DecodeError {
    fn from(error: WavError) -> Self {
        match error {
            WavError::Limit(beyond) => Self::Limit(beyond),
            WavError::NoSamples => Self::NoSamples,
            other => Self::Wav(other),
        }
    }
}

impl From<BeyondLimit> for DecodeError {
    fn from(beyond: BeyondLimit) -> Self {
        Self::Limit(beyond)
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAudio { looks_like } => {
                write!(
                    f,
                    "a recording was expected (WAV, AIFF, CAF, FLAC, MP3, Ogg), and this is {looks_like}"
                )
            }
            Self::Unsupported { what } => {
                write!(f, "{what} is not supported; WAV, AIFF, CAF, FLAC, MP3, Ogg Vorbis and Ogg Opus are")
            }
            Self::Wav(error) => error.fmt(f),
            Self::Limit(beyond) => beyond.fmt(f),
            Self::NoSamples => write!(f, "the recording has a correct header and not one sample of sound"),
            Self::Silence { seconds } => {
                write!(
                    f,
                    "the recording is digital silence: every sample of its {seconds:.3} seconds is the same"
                )
            }
            Self::CancelsOut { channels } => write!(
                f,
                "nothing is left of the recording's {channels} channels when they are mixed into one: they cancel \
                 each other out"
            ),
            Self::TookTooLong { decoded_seconds, limit_seconds } => write!(
                f,
                "decoding the recording took more than {limit_seconds} s of CPU time, the most that is accepted, and \
                 was stopped after {decoded_seconds:.1} s of sound"
            ),
            Self::Corrupt { format, words } => write!(f, "the {format} recording is damaged: {words}"),
        }
    }
}

impl std::error::Error for DecodeError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{compare::correlate, resample::resample};

    const SOURCE: &[u8] = include_bytes!("../../assets/fixtures/tones/source.wav");
    const FLAC: &[u8] = include_bytes!("../../assets/fixtures/tones/tone.flac");
    const MP3: &[u8] = include_bytes!("../../assets/fixtures/tones/tone.mp3");
    const TAGGED_MP3: &[u8] = include_bytes!("../../assets/fixtures/tones/tagged.mp3");
    const VORBIS: &[u8] = include_bytes!("../../assets/fixtures/tones/tone-vorbis.ogg");
    const OPUS: &[u8] = include_bytes!("../../assets/fixtures/tones/tone-opus.ogg");
    const OGG_FLAC: &[u8] = include_bytes!("../../assets/fixtures/tones/tone-flac.ogg");
    const IMA_ADPCM: &[u8] = include_bytes!("../../assets/fixtures/tones/tone-ima.wav");
    const MS_ADPCM: &[u8] = include_bytes!("../../assets/fixtures/tones/tone-ms.wav");
    const MU_LAW: &[u8] = include_bytes!("../../assets/fixtures/tones/tone-mulaw.wav");
    const A_LAW: &[u8] = include_bytes!("../../assets/fixtures/tones/tone-alaw.wav");
    const STREAMED: &[u8] = include_bytes!("../../assets/fixtures/tones/tone-streamed.wav");
    const RF64: &[u8] = include_bytes!("../../assets/fixtures/tones/tone-rf64.wav");
    const WAVE64: &[u8] = include_bytes!("../../assets/fixtures/tones/tone.w64");
    const AIFF: &[u8] = include_bytes!("../../assets/fixtures/tones/tone.aiff");
    const AIFC_MU_LAW: &[u8] = include_bytes!("../../assets/fixtures/tones/tone-mulaw.aifc");
    const AIFC_A_LAW: &[u8] = include_bytes!("../../assets/fixtures/tones/tone-alaw.aifc");
    const AIFC_SOWT: &[u8] = include_bytes!("../../assets/fixtures/tones/tone-sowt.aifc");
    const CAF: &[u8] = include_bytes!("../../assets/fixtures/tones/tone.caf");
    const CAF_MU_LAW: &[u8] = include_bytes!("../../assets/fixtures/tones/tone-mulaw.caf");
    const CAF_FLOAT: &[u8] = include_bytes!("../../assets/fixtures/tones/tone-float.caf");
    const M4A: &[u8] = include_bytes!("../../assets/fixtures/tones/tone.m4a");
    const AAC: &[u8] = include_bytes!("../../assets/fixtures/tones/tone.aac");

    const ALL: [&[u8]; 23] = [
        SOURCE,
        FLAC,
        MP3,
        TAGGED_MP3,
        VORBIS,
        OPUS,
        OGG_FLAC,
        IMA_ADPCM,
        MS_ADPCM,
        MU_LAW,
        A_LAW,
        STREAMED,
        RF64,
        WAVE64,
        AIFF,
        AIFC_MU_LAW,
        AIFC_A_LAW,
        AIFC_SOWT,
        CAF,
        CAF_MU_LAW,
        CAF_FLOAT,
        M4A,
        AAC,
    ];

    fn accept(bytes: &[u8]) -> Recording {
        decode(bytes, &DecodeLimits::default()).expect("a recording")
    }

    fn refuse(bytes: &[u8]) -> DecodeError {
        decode(bytes, &DecodeLimits::default()).expect_err("no recording")
    }

    /// Every file is the same tone; what is decoded must be that tone at the same place and as long, or within what
    /// its format can say about its length.
    #[test]
    fn the_same_tone_is_heard_in_every_format() {
        let source = accept(SOURCE).pcm;
        for (bytes, format, least_correlation, spare_seconds) in [
            (FLAC, "FLAC, 44100 Hz, 1 channel", 0.999_999, 0.0),
            (OGG_FLAC, "Ogg FLAC, 44100 Hz, 1 channel", 0.999_999, 0.0),
            (MP3, "MP3, 44100 Hz, 1 channel", 0.999, 0.0),
            (TAGGED_MP3, "MP3, 44100 Hz, 1 channel", 0.999, 0.0),
            (VORBIS, "Ogg Vorbis, 44100 Hz, 1 channel", 0.999, 0.0),
            (OPUS, "Ogg Opus, 48000 Hz, 1 channel", 0.99, 0.0),
            // A block of ADPCM is always full; the last one is padded.
            (IMA_ADPCM, "WAV, ADPCM 4-bit, 44100 Hz, 1 channel", 0.999, 0.05),
            (MS_ADPCM, "WAV, ADPCM 4-bit, 44100 Hz, 1 channel", 0.999, 0.05),
            (MU_LAW, "WAV, µ-law, 8000 Hz, 1 channel", 0.999, 0.0),
            (A_LAW, "WAV, A-law, 8000 Hz, 1 channel", 0.999, 0.0),
            (STREAMED, "WAV, PCM 16-bit, 8000 Hz, 1 channel", 0.999, 0.0),
            (RF64, "WAV (RF64), PCM 16-bit, 8000 Hz, 1 channel", 0.999, 0.0),
            (WAVE64, "Wave64, PCM 16-bit, 8000 Hz, 1 channel", 0.999, 0.0),
            (AIFF, "AIFF, 44100 Hz, 1 channel", 0.999_999, 0.0),
            (AIFC_MU_LAW, "AIFF, 8000 Hz, 1 channel", 0.999, 0.0),
            (AIFC_A_LAW, "AIFF, 8000 Hz, 1 channel", 0.999, 0.0),
            (AIFC_SOWT, "AIFF, 8000 Hz, 1 channel", 0.999, 0.0),
            (CAF, "CAF, 44100 Hz, 1 channel", 0.999_999, 0.0),
            (CAF_MU_LAW, "CAF, 8000 Hz, 1 channel", 0.999, 0.0),
            (CAF_FLOAT, "CAF, 8000 Hz, 1 channel", 0.999, 0.0),
        ] {
            let recording = accept(bytes);
            assert_eq!(recording.format, format);
            assert!(!recording.cut_short, "{format}");
            let spare = recording.pcm.seconds() - source.seconds();
            assert!((-2e-4..=spare_seconds + 2e-4).contains(&spare), "{format}: {spare} s more");
            let reference = resample(&source, recording.pcm.rate());
            let correlation = correlate(reference.samples(), recording.pcm.samples());
            assert!(correlation > least_correlation, "{format}: {correlation}");
        }
    }

    #[cfg(feature = "aac")]
    #[test]
    fn aac_is_heard_where_it_is_wanted() {
        for bytes in [M4A, AAC] {
            let recording = accept(bytes);
            let reference = resample(&accept(SOURCE).pcm, recording.pcm.rate());
            let found = crate::compare::align(reference.samples(), recording.pcm.samples());
            assert!(found.correlation > 0.99, "{}: {found:?}", recording.format);
        }
    }

    #[cfg(not(feature = "aac"))]
    #[test]
    fn aac_is_refused_by_name_where_it_is_not_built_in() {
        assert_eq!(refuse(M4A), DecodeError::Unsupported { what: "MP4".to_owned() });
        assert_eq!(refuse(AAC), DecodeError::Unsupported { what: "AAC (ADTS)".to_owned() });
    }

    /// Symphonia as second opinion on what both accept.
    #[test]
    fn two_readers_agree_on_every_wav_that_both_read() {
        for bytes in [SOURCE, MU_LAW, A_LAW] {
            let ours = wav::read(bytes, &DecodeLimits::default()).expect("a WAV").pcm;
            let mut probe = Probe::new();
            probe.register_format::<formats::WavReader<'_>>();
            let source =
                MediaSourceStream::new(Box::new(Cursor::new(bytes)), MediaSourceStreamOptions::default());
            let mut reader = probe
                .probe(&Hint::new(), source, FormatOptions::default(), MetadataOptions::default())
                .expect("a WAV for symphonia too");
            let params = reader.tracks()[0].codec_params.clone().expect("a codec");
            let mut registry = CodecRegistry::new();
            registry.register_audio_decoder::<codecs::PcmDecoder>();
            let mut decoder = registry
                .make_audio_decoder(params.audio().expect("audio"), &AudioDecoderOptions::default())
                .expect("a decoder");
            let mut theirs = Vec::new();
            while let Ok(Some(packet)) = reader.next_packet() {
                let mut part: Vec<f32> = Vec::new();
                decoder.decode(&packet).expect("sound").copy_to_vec_interleaved(&mut part);
                theirs.extend(part);
            }
            assert_eq!(ours.samples(), theirs);
        }
    }

    #[test]
    fn what_is_no_recording_is_called_by_its_name() {
        for (bytes, name) in [
            (&b""[..], "0 bytes"),
            (b"\n  <!DOCTYPE html><html>", "an HTML page"),
            (b"\xEF\xBB\xBF<HTML><body>Not found", "an HTML page"),
            (b"<?xml version='1.0'?><Error/>", "an XML document"),
            (b"{\"error\": \"no such file\"}", "a JSON document"),
            (b"404 page not found", "a text"),
            (b"   \n", "nothing but white space"),
            (b"%PDF-1.7", "a PDF document"),
            (b"RIFF\0\0\0\0CDXA", "a RIFF file that is not a WAV"),
            (b"\x01\x02\x03", "3 bytes of an unknown kind that begin with 01 02 03"),
        ] {
            assert_eq!(refuse(bytes), DecodeError::NotAudio { looks_like: name.to_owned() });
        }
        assert_eq!(
            refuse(b"<html>").to_string(),
            "a recording was expected (WAV, AIFF, CAF, FLAC, MP3, Ogg), and this is an HTML page"
        );
    }

    fn wav_of(channels: u16, samples: &[i16]) -> Vec<u8> {
        let spec = hound::WavSpec {
            channels,
            sample_rate: 8000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut file = Cursor::new(Vec::new());
        let mut writer = hound::WavWriter::new(&mut file, spec).expect("a specification");
        for &sample in samples {
            writer.write_sample(sample).expect("a sample");
        }
        writer.finalize().expect("an end");
        file.into_inner()
    }

    #[test]
    fn silence_is_refused_with_or_without_an_offset() {
        assert_eq!(refuse(&wav_of(1, &[0; 800])), DecodeError::Silence { seconds: 0.1 });
        assert_eq!(refuse(&wav_of(2, &[7, -9].repeat(400))), DecodeError::Silence { seconds: 0.05 });
        assert_eq!(accept(&wav_of(1, &[0, 0, 1])).pcm.len(), 3);
        assert_eq!(refuse(&wav_of(1, &[])), DecodeError::NoSamples);
    }

    /// Stereo in every kind, mixed while it is decoded and mixed afterwards.
    #[test]
    fn one_channel_made_while_decoding_is_the_one_made_afterwards() {
        const STEREO: [&[u8]; 3] = [
            include_bytes!("../../assets/fixtures/rates/stereo-16000.wav"),
            include_bytes!("../../assets/fixtures/rates/stereo-44100.wav"),
            include_bytes!("../../assets/fixtures/compressed/stereo-44100.mp3"),
        ];
        for bytes in STEREO.into_iter().chain(ALL) {
            let Ok(all) = decode(bytes, &DecodeLimits::default()) else { continue };
            let mono = decode_mono(bytes, &DecodeLimits::default(), &|| true).expect("the same");
            assert_eq!(mono.pcm, crate::to_mono(&all.pcm), "{}", all.format);
            assert_eq!((mono.channels, &mono.format), (all.pcm.channels(), &all.format));
        }
    }

    #[test]
    fn channels_that_cancel_each_other_out_are_called_that() {
        let upside_down: Vec<i16> = (0..800).flat_map(|n: i16| [n * 17, n * -17]).collect();
        let error = decode_mono(&wav_of(2, &upside_down), &DecodeLimits::default(), &|| true);
        assert_eq!(error, Err(DecodeError::CancelsOut { channels: 2 }));
    }

    /// A caller without patience: asked three times, then no more.
    #[test]
    fn decoding_stops_soon_after_it_is_told_to() {
        for bytes in [&wav_of(1, &[1, 2].repeat(200_000)), FLAC, MP3, VORBIS, OPUS, AIFF, CAF, IMA_ADPCM] {
            let asked = std::cell::Cell::new(0);
            let patience = || {
                asked.set(asked.get() + 1);
                asked.get() <= 3
            };
            let error = decode_mono(bytes, &DecodeLimits::default(), &patience).expect_err("no time");
            assert!(matches!(error, DecodeError::TookTooLong { .. }), "{error}");
            assert_eq!(asked.get(), 4);
        }
    }

    #[test]
    fn a_limit_stops_every_format() {
        for bytes in [SOURCE, FLAC, MP3, VORBIS, OPUS, OGG_FLAC, IMA_ADPCM, MU_LAW, WAVE64, AIFF, CAF] {
            let limits = DecodeLimits { max_samples: 2_000, ..DecodeLimits::default() };
            let error = decode(bytes, &limits).expect_err("too much");
            assert_eq!(error, DecodeError::Limit(BeyondLimit::Samples { limit: 2_000 }));
            let limits = DecodeLimits { max_seconds: 0, ..DecodeLimits::default() };
            let error = decode(bytes, &limits).expect_err("too long");
            assert_eq!(error, DecodeError::Limit(BeyondLimit::Seconds { limit: 0 }));
            let limits = DecodeLimits { max_rate: 7_000, ..DecodeLimits::default() };
            let error = decode(bytes, &limits).expect_err("too fast");
            assert!(matches!(error, DecodeError::Limit(BeyondLimit::Rate { .. })), "{error:?}");
        }
    }

    /// 2^36 samples in the first block of a FLAC (RFC 9639 section 8.2), 9 channels in a WAV: refused by what they
    /// declare, before anybody is asked for time to decode.
    #[test]
    fn what_declares_too_much_is_refused_before_any_of_it_is_decoded() {
        let mut flac = FLAC.to_vec();
        flac[21] |= 0x0F;
        flac[22..26].fill(0xFF);
        let mut wav = SOURCE.to_vec();
        wav[22..24].copy_from_slice(&9u16.to_le_bytes());
        let never = || -> bool { panic!("it is decoded") };
        let refused =
            |bytes: &[u8]| decode_mono(bytes, &DecodeLimits::default(), &never).expect_err("too much");
        assert_eq!(refused(&flac), DecodeError::Limit(BeyondLimit::Seconds { limit: 1800 }));
        assert_eq!(refused(&wav), DecodeError::Limit(BeyondLimit::Channels { found: 9, limit: 8 }));
    }

    #[test]
    fn a_file_cut_in_the_middle_plays_what_is_there() {
        for bytes in
            [SOURCE, FLAC, MP3, VORBIS, OPUS, OGG_FLAC, IMA_ADPCM, MS_ADPCM, MU_LAW, WAVE64, AIFF, CAF]
        {
            let whole = accept(bytes);
            let cut = &bytes[..bytes.len() * 9 / 10];
            // Half a second of Ogg fits one page, and without its end a page is nothing.
            match decode(cut, &DecodeLimits::default()) {
                Ok(part) => {
                    assert!(part.pcm.len() < whole.pcm.len(), "{}", whole.format);
                    assert!(part.cut_short, "{}", whole.format);
                }
                Err(error) => assert!(whole.format.starts_with("Ogg"), "{}: {error}", whole.format),
            }
        }
    }

    #[test]
    fn a_caf_that_was_streamed_is_played_to_its_end() {
        let at = CAF.windows(4).position(|name| name == b"data").expect("a chunk of sound");
        let mut streamed = CAF.to_vec();
        streamed[at + 4..at + 12].fill(0xFF);
        assert_eq!(accept(&streamed), accept(CAF));
    }

    #[test]
    fn no_prefix_of_any_format_does_harm() {
        for bytes in ALL {
            // Every length within the headers, then every so many.
            for len in (0..bytes.len().min(300)).chain((300..bytes.len()).step_by(211)) {
                let _ = decode(&bytes[..len], &DecodeLimits::default());
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        /// Damage of any kind ends in a recording within the limits or in an error.
        #[test]
        fn no_damage_does_harm(
            which in 0..ALL.len(),
            blows in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
            near_the_front in any::<bool>(),
        ) {
            let mut bytes = ALL[which].to_vec();
            let reach = if near_the_front { bytes.len().min(120) } else { bytes.len() };
            for (at, byte) in blows {
                bytes[at.index(reach)] = byte;
            }
            let limits = DecodeLimits { max_seconds: 5, max_samples: 500_000, ..DecodeLimits::default() };
            if let Ok(recording) = decode(&bytes, &limits) {
                prop_assert!(recording.pcm.samples().len() <= 500_000);
                prop_assert!(recording.pcm.samples().iter().all(|sample| sample.is_finite()));
            }
        }

        #[test]
        fn noise_is_no_recording_and_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let _ = decode(&bytes, &DecodeLimits::default());
        }
    }
}
