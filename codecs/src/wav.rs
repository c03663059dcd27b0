//! Any WAV that a phone system ever wrote to [`Pcm`]: RIFF, RIFX, RF64, BW64 and Wave64, lying headers included.
//!
//! Written by hand because the files that telephony gear and speech services stream out have lengths that were
//! never patched, `fmt` chunks of unusual size and padding that is missing, and other readers refuse them. A length
//! in a header is a claim; the bytes that are there are the fact.

use std::{fmt, ops::Range};

use crate::{
    pcm::{BeyondLimit, DecodeLimits, Pcm},
    pcma, pcmu,
};

/// What a WAV file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct WavSound {
    /// The samples of all channels. NaN and infinities of float files have become 0.
    pub pcm: Pcm,
    /// What it was, for a human: `WAV, PCM 16-bit, 8000 Hz, 1 channel`.
    pub format: String,
    /// Where its author wants it to repeat.
    pub loop_points: Option<LoopPoints>,
    /// Whether the file ends before its own header says (a streamed length says nothing).
    pub cut_short: bool,
}

/// The part of a recording that repeats, in samples per channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopPoints {
    /// First sample of the loop.
    pub start: usize,
    /// First sample behind the loop.
    pub end: usize,
}

/// Reads a WAV file of any kind.
///
/// # Errors
///
/// Says what was expected and what was found. Bytes missing at the end of the data are no error.
pub fn read(bytes: &[u8], limits: &DecodeLimits) -> Result<WavSound, WavError> {
    let file = WavFile::open(bytes, limits)?;
    let mut samples = Vec::with_capacity(file.frames() * usize::from(file.channels()));
    file.append(0..file.frames(), &mut samples);
    Ok(WavSound {
        pcm: Pcm::new(file.rate(), file.channels(), samples),
        format: file.format(),
        loop_points: file.loop_points,
        cut_short: file.cut_short,
    })
}

/// A WAV whose header has been judged and whose samples have not been read yet.
pub(crate) struct WavFile<'a> {
    layout: Layout,
    container: Container,
    data: &'a [u8],
    pub(crate) loop_points: Option<LoopPoints>,
    pub(crate) cut_short: bool,
}

impl<'a> WavFile<'a> {
    pub(crate) fn open(bytes: &'a [u8], limits: &DecodeLimits) -> Result<Self, WavError> {
        let container = Container::of(bytes).ok_or(WavError::NotWav)?;
        let chunks = Chunks::walk(bytes, container)?;
        let layout = Layout::parse(chunks.fmt.ok_or(WavError::NoFormat)?, container)?;
        let data = chunks.data.ok_or(WavError::NoData)?;

        // No channels would divide by zero: shape first, length second.
        limits.check(layout.rate, usize::from(layout.channels), 0)?;
        let frames = data.len() / layout.frame_bytes();
        limits.check(layout.rate, usize::from(layout.channels), frames as u64)?;
        if frames == 0 {
            return Err(WavError::NoSamples);
        }
        let sampler = chunks.sampler.and_then(|chunk| sampler_loop(chunk, container));
        let cue = chunks.cue.and_then(|chunk| cue_loop(chunk, container));
        let loop_points = sampler.or(cue).filter(|points| points.start < points.end && points.end <= frames);
        Ok(Self { layout, container, data, loop_points, cut_short: chunks.cut_short })
    }

    pub(crate) fn rate(&self) -> u32 {
        self.layout.rate
    }

    pub(crate) fn channels(&self) -> u16 {
        self.layout.channels
    }

    /// Samples per channel.
    pub(crate) fn frames(&self) -> usize {
        self.data.len() / self.layout.frame_bytes()
    }

    pub(crate) fn format(&self) -> String {
        self.layout.describe(self.container)
    }

    /// Appends the samples of `frames`, interleaved.
    pub(crate) fn append(&self, frames: Range<usize>, samples: &mut Vec<f32>) {
        let bytes = self.layout.frame_bytes();
        let data = &self.data[frames.start * bytes..frames.end * bytes];
        self.layout.samples(data, self.container.is_big_endian(), samples);
    }
}

/// The head of a WAV of which more bytes are still to come: all that is needed to read its sound as it arrives.
#[derive(Debug)]
pub(crate) struct WavHead {
    layout: Layout,
    container: Container,
    /// Where in the file the sound begins.
    start: usize,
    /// Where in the file it ends by its own length, at least if the file is that long.
    end: usize,
}

/// What is known of a WAV from its first bytes.
#[derive(Debug)]
pub(crate) enum Known {
    /// Not enough: more bytes are needed.
    TooLittle,
    /// The head is there, and what follows is sound.
    Sound(WavHead),
    /// The head does not tell where the sound ends or how to read it: only the whole file can.
    OnlyTheWholeFile,
}

impl WavHead {
    /// Judges the first bytes of a WAV, as [`WavFile::open`] will judge them when all have arrived.
    pub(crate) fn judge(bytes: &[u8], limits: &DecodeLimits) -> Result<Known, WavError> {
        let container = Container::of(bytes).ok_or(WavError::NotWav)?;
        let mut at = container.header_len();
        let (mut layout, mut large_data) = (None, None);
        while let Some((name, claimed)) = container.chunk(bytes, at) {
            let start = at + container.chunk_header_len();
            if &name == b"data" {
                let claimed = match large_data {
                    Some(large) if claimed == 0xFFFF_FFFF => large,
                    _ => claimed,
                };
                // A length of 0 may mean nothing at all; a format behind the sound is for later.
                let (Some(layout), 1..) = (layout, claimed) else { return Ok(Known::OnlyTheWholeFile) };
                let end = start.saturating_add(usize::try_from(claimed).unwrap_or(usize::MAX));
                return Ok(Known::Sound(Self { layout, container, start, end }));
            }
            let end = start.saturating_add(usize::try_from(claimed).unwrap_or(usize::MAX));
            // Where the next chunk begins is seen by looking at it.
            if end.saturating_add(8 + container.chunk_header_len()) > bytes.len() {
                return Ok(Known::TooLittle);
            }
            let body = &bytes[start..end];
            match &name {
                b"fmt " if layout.is_none() => {
                    let parsed = match Layout::parse(body, container) {
                        // For another decoder, which wants all of it.
                        Err(WavError::FormatTag { found: 0x0002 | 0x0011 }) => {
                            return Ok(Known::OnlyTheWholeFile);
                        }
                        parsed => parsed?,
                    };
                    limits.check(parsed.rate, usize::from(parsed.channels), 0)?;
                    layout = Some(parsed);
                }
                b"ds64" if matches!(container, Container::Rf64 | Container::Bw64) => {
                    large_data = container.u64(body, 8);
                }
                _ => {}
            }
            at = container.next(bytes, end);
        }
        Ok(Known::TooLittle)
    }

    pub(crate) fn rate(&self) -> u32 {
        self.layout.rate
    }

    pub(crate) fn channels(&self) -> u16 {
        self.layout.channels
    }

    pub(crate) fn format(&self) -> String {
        self.layout.describe(self.container)
    }

    /// How many samples per channel are there, if these are the file's first bytes.
    pub(crate) fn frames_in(&self, bytes: &[u8]) -> usize {
        bytes.len().min(self.end).saturating_sub(self.start) / self.layout.frame_bytes()
    }

    /// Appends the samples of `frames`, interleaved.
    pub(crate) fn append(&self, bytes: &[u8], frames: Range<usize>, samples: &mut Vec<f32>) {
        let frame_bytes = self.layout.frame_bytes();
        let data = &bytes[self.start + frames.start * frame_bytes..self.start + frames.end * frame_bytes];
        self.layout.samples(data, self.container.is_big_endian(), samples);
    }
}

/// Whether `bytes` begin like any kind of WAV.
pub fn is_wav(bytes: &[u8]) -> bool {
    Container::of(bytes).is_some()
}

/// The family's outer shells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Container {
    Riff,
    Rifx,
    Rf64,
    Bw64,
    Wave64,
}

/// Sony's Wave64 calls its chunks by GUID; the first four bytes are the RIFF name, these twelve follow `riff`.
const WAVE64_RIFF_TAIL: [u8; 12] = [0x2E, 0x91, 0xCF, 0x11, 0xA5, 0xD6, 0x28, 0xDB, 0x04, 0xC1, 0x00, 0x00];
/// The twelve bytes behind the name of every other Wave64 chunk.
const WAVE64_TAIL: [u8; 12] = [0xF3, 0xAC, 0xD3, 0x11, 0x8C, 0xD1, 0x00, 0xC0, 0x4F, 0x8E, 0xDB, 0x8A];
/// The twelve bytes behind the two-byte format tag (and two zeros) in an extensible `fmt` chunk: KSDATAFORMAT.
const KSDATAFORMAT_TAIL: [u8; 12] = [0x00, 0x00, 0x10, 0x00, 0x80, 0x00, 0x00, 0xAA, 0x00, 0x38, 0x9B, 0x71];

impl Container {
    fn of(bytes: &[u8]) -> Option<Self> {
        match bytes.get(..4)? {
            b"riff" if bytes.get(4..16) == Some(&WAVE64_RIFF_TAIL) => Some(Self::Wave64),
            // Shorter than its own form name: a WAV cut inside its header, and to be told so.
            b"RIFF" | b"RIFX" | b"RF64" | b"BW64" if bytes.get(8..12).is_some_and(|form| form != b"WAVE") => {
                None
            }
            b"RIFF" => Some(Self::Riff),
            b"RIFX" => Some(Self::Rifx),
            b"RF64" => Some(Self::Rf64),
            b"BW64" => Some(Self::Bw64),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Riff => "WAV",
            Self::Rifx => "WAV (RIFX)",
            Self::Rf64 => "WAV (RF64)",
            Self::Bw64 => "WAV (BW64)",
            Self::Wave64 => "Wave64",
        }
    }

    fn is_big_endian(self) -> bool {
        self == Self::Rifx
    }

    fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let field = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if self.is_big_endian() { u16::from_be_bytes(field) } else { u16::from_le_bytes(field) })
    }

    fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let field = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if self.is_big_endian() { u32::from_be_bytes(field) } else { u32::from_le_bytes(field) })
    }

    /// Only the 64-bit kinds use it, and they are little-endian.
    fn u64(self, bytes: &[u8], at: usize) -> Option<u64> {
        Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
    }

    /// Bytes before the first chunk.
    fn header_len(self) -> usize {
        if self == Self::Wave64 { 40 } else { 12 }
    }

    /// Bytes of a chunk before its body.
    fn chunk_header_len(self) -> usize {
        if self == Self::Wave64 { 24 } else { 8 }
    }

    /// The chunk that begins at `at`: its four-letter name and the length that it claims for its body.
    fn chunk(self, bytes: &[u8], at: usize) -> Option<([u8; 4], u64)> {
        let name = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        if self == Self::Wave64 {
            if bytes.get(at + 4..at + 16)? != WAVE64_TAIL {
                // Known by GUIDs of their own (`levl`, `bext`, …): step over, whatever they are.
                return Some((*b"\0\0\0\0", self.u64(bytes, at + 16)?.saturating_sub(24)));
            }
            // Wave64 counts the chunk's header as part of it.
            Some((name, self.u64(bytes, at + 16)?.saturating_sub(24)))
        } else {
            Some((name, u64::from(self.u32(bytes, at + 4)?)))
        }
    }

    /// Where the chunk behind one that ends at `end` begins. RIFF pads to even lengths, and some writers forget;
    /// Wave64 pads to eight.
    fn next(self, bytes: &[u8], end: usize) -> usize {
        if self == Self::Wave64 {
            return end.saturating_add(7) & !7;
        }
        let padded = end.saturating_add(end & 1);
        if padded != end && !self.begins_chunk(bytes, padded) && self.begins_chunk(bytes, end) {
            return end;
        }
        padded
    }

    /// Whether a data length says «I do not know» instead of claiming something: writers to a pipe put 0xFFFFFFFF
    /// (ffmpeg), 0x7FFFF000 and up (sox) or 0x80000000 there, and the largest numbers where there are 64 bits.
    fn is_streamed(self, claimed: u64) -> bool {
        match self {
            Self::Riff | Self::Rifx => claimed >= 0x7FFF_0000,
            // 24 bytes of chunk header are already off a Wave64 length.
            Self::Rf64 | Self::Bw64 | Self::Wave64 => {
                claimed == 0xFFFF_FFFF || claimed >= (i64::MAX as u64) - 24
            }
        }
    }

    /// Whether something at `at` looks like a chunk: a printable name, with room for a length.
    fn begins_chunk(self, bytes: &[u8], at: usize) -> bool {
        self.chunk(bytes, at).is_some_and(|(name, _)| {
            self == Self::Wave64 || name.iter().all(|letter| (b' '..=b'~').contains(letter))
        })
    }
}

/// The bodies of the chunks that matter.
struct Chunks<'a> {
    fmt: Option<&'a [u8]>,
    data: Option<&'a [u8]>,
    sampler: Option<&'a [u8]>,
    cue: Option<&'a [u8]>,
    cut_short: bool,
}

impl<'a> Chunks<'a> {
    fn walk(bytes: &'a [u8], container: Container) -> Result<Self, WavError> {
        let mut chunks = Self { fmt: None, data: None, sampler: None, cue: None, cut_short: false };
        let mut large_data = None;
        let mut outer_end = match container {
            Container::Wave64 => container.u64(bytes, 16),
            _ => container.u32(bytes, 4).map(|len| u64::from(len) + 8),
        };
        let mut at = container.header_len();
        if bytes.len() < at {
            return Err(WavError::CutInHeader { expected: at, found: bytes.len() });
        }
        // Each turn moves at least a chunk header on, so the bytes bound the turns.
        while let Some((name, claimed)) = container.chunk(bytes, at) {
            let start = at + container.chunk_header_len();
            let rest = bytes.get(start..).unwrap_or_default();
            if &name == b"data" {
                let claimed = match large_data {
                    Some(large) if claimed == 0xFFFF_FFFF => large,
                    _ => claimed,
                };
                let (data, cut_short) = believable(bytes, container, start, claimed, outer_end);
                // A second data chunk is not ours to glue; an empty first one is no reason to miss the second.
                if chunks.data.is_none_or(<[u8]>::is_empty) {
                    chunks.data = Some(data);
                    chunks.cut_short = cut_short;
                }
                at = container.next(bytes, start + data.len());
                continue;
            }
            let whole = usize::try_from(claimed).ok().filter(|&len| len <= rest.len());
            let body = &rest[..whole.unwrap_or(rest.len())];
            match &name {
                b"fmt " if chunks.fmt.is_none() => {
                    // What lies behind the first 16 bytes can be missed by all but the extensible kind.
                    if whole.is_none() && body.len() < 16 {
                        return Err(WavError::CutInHeader { expected: start + 16, found: bytes.len() });
                    }
                    chunks.fmt = Some(body);
                }
                b"ds64" if matches!(container, Container::Rf64 | Container::Bw64) => {
                    outer_end = container.u64(body, 0).map(|len| len.saturating_add(8)).or(outer_end);
                    large_data = container.u64(body, 8);
                }
                b"smpl" => chunks.sampler = chunks.sampler.or(Some(body)),
                b"cue " => chunks.cue = chunks.cue.or(Some(body)),
                _ => {}
            }
            at = container.next(bytes, start + body.len());
        }
        // No sound, and the file stops inside a chunk's header or before the end that it claims.
        let promised = outer_end.is_some_and(|end| end > bytes.len() as u64);
        if chunks.data.is_none() && (at < bytes.len() || promised) {
            let expected = at.max(bytes.len()).saturating_add(container.chunk_header_len());
            return Err(WavError::CutInHeader { expected, found: bytes.len() });
        }
        Ok(chunks)
    }
}

/// The data that begin at `start`, of a chunk that claims `claimed` bytes, and whether bytes are missing.
/// `outer_end` is where the file ends by its outermost length.
fn believable(
    bytes: &[u8],
    container: Container,
    start: usize,
    claimed: u64,
    outer_end: Option<u64>,
) -> (&[u8], bool) {
    let rest = bytes.get(start..).unwrap_or_default();
    let Some(len) = usize::try_from(claimed).ok().filter(|&len| len <= rest.len()) else {
        return (rest, !container.is_streamed(claimed));
    };
    let end = start + len;
    let next = container.next(bytes, end);
    // Honest: no room for a chunk follows, or what follows is one.
    if bytes.len().saturating_sub(next) < container.chunk_header_len() && len > 0 {
        return (&rest[..len], false);
    }
    if container.begins_chunk(bytes, next) && chain_holds(bytes, container, next) {
        return (&rest[..len], false);
    }
    // Nobody patched the length, but the sound is there.
    if len == 0 {
        return (rest, false);
    }
    // Something follows that is no chunk. If the outer length ends here too, two witnesses agree: it is an appended
    // tag or dirt. Otherwise the length is wrong and the rest is sound.
    match outer_end {
        Some(outer) if outer == end as u64 || outer == next as u64 => (&rest[..len], false),
        _ => (rest, false),
    }
}

/// Whether the chunk at `at` claims no more than is there: sound can look like a name, rarely like name and length.
fn chain_holds(bytes: &[u8], container: Container, at: usize) -> bool {
    container.chunk(bytes, at).is_some_and(|(_, claimed)| {
        let left = bytes.len().saturating_sub(at + container.chunk_header_len());
        claimed <= left as u64
    })
}

/// How samples lie in the data.
#[derive(Clone, Copy, Debug)]
struct Layout {
    coding: Coding,
    channels: u16,
    rate: u32,
    /// Bytes of one sample of one channel.
    container_bytes: usize,
    /// Bits that count, for the description.
    bits: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Integer,
    Float,
    ALaw,
    MuLaw,
}

/// Format tags of the `fmt` chunk (RFC 2361 and Microsoft's mmreg.h).
mod tag {
    pub(super) const PCM: u16 = 0x0001;
    pub(super) const IEEE_FLOAT: u16 = 0x0003;
    pub(super) const ALAW: u16 = 0x0006;
    pub(super) const MULAW: u16 = 0x0007;
    pub(super) const EXTENSIBLE: u16 = 0xFFFE;
}

impl Layout {
    fn parse(fmt: &[u8], container: Container) -> Result<Self, WavError> {
        let field = |at| container.u16(fmt, at).ok_or(WavError::FormatTooShort { found: fmt.len() });
        let mut format_tag = field(0)?;
        let channels = field(2)?;
        let rate = container.u32(fmt, 4).ok_or(WavError::FormatTooShort { found: fmt.len() })?;
        let byte_rate = container.u32(fmt, 8).ok_or(WavError::FormatTooShort { found: fmt.len() })?;
        let block_align = field(12)?;
        let bits = field(14)?;
        let mut valid_bits = bits;
        if format_tag == tag::EXTENSIBLE {
            valid_bits = container.u16(fmt, 18).filter(|&valid| valid > 0 && valid <= bits).unwrap_or(bits);
            // A subformat that is not of the KSDATAFORMAT family has no tag; it is reported as extensible.
            if let Some(tail) = fmt.get(28..40)
                && tail == KSDATAFORMAT_TAIL
            {
                format_tag = container.u16(fmt, 24).unwrap_or(format_tag);
            }
        }
        // The block is believed where a second witness, the byte rate, agrees: 24 bits may lie in 4 bytes.
        let per_channel = usize::from(block_align.checked_div(channels).unwrap_or(0));
        let witnessed = block_align.is_multiple_of(channels)
            && u64::from(byte_rate) == u64::from(rate) * u64::from(block_align)
            && per_channel >= usize::from(bits.div_ceil(8));
        let (coding, container_bytes) = match format_tag {
            tag::PCM => {
                let bytes = if witnessed { per_channel } else { usize::from(bits.div_ceil(8)) };
                (Coding::Integer, Some(bytes).filter(|bytes| bits > 0 && (1..=4).contains(bytes)))
            }
            tag::IEEE_FLOAT => {
                (Coding::Float, Some(usize::from(bits / 8)).filter(|bytes| [4, 8].contains(bytes)))
            }
            // Some writers leave the bits at 0 or at 16, the width after expansion.
            tag::ALAW => (Coding::ALaw, Some(1)),
            tag::MULAW => (Coding::MuLaw, Some(1)),
            other => return Err(WavError::FormatTag { found: other }),
        };
        let container_bytes = container_bytes.ok_or(WavError::Bits { format_tag, found: bits })?;
        Ok(Self { coding, channels, rate, container_bytes, bits: valid_bits })
    }

    fn frame_bytes(&self) -> usize {
        self.container_bytes * usize::from(self.channels)
    }

    fn describe(&self, container: Container) -> String {
        let coding = match self.coding {
            Coding::Integer => format!("PCM {}-bit", self.bits),
            Coding::Float => format!("float {}-bit", self.container_bytes * 8),
            Coding::ALaw => "A-law".to_owned(),
            Coding::MuLaw => "µ-law".to_owned(),
        };
        let plural = if self.channels == 1 { "" } else { "s" };
        format!("{}, {coding}, {} Hz, {} channel{plural}", container.name(), self.rate, self.channels)
    }

    /// Appends all samples of `data`.
    fn samples(&self, data: &[u8], big_endian: bool, out: &mut Vec<f32>) {
        match (self.coding, self.container_bytes) {
            (Coding::ALaw, _) => {
                out.extend(data.iter().map(|&code| f32::from(pcma::expand(code)) / 32_768.0))
            }
            (Coding::MuLaw, _) => {
                out.extend(data.iter().map(|&code| f32::from(pcmu::expand(code)) / 32_768.0));
            }
            // Eight bits are unsigned, in either byte order.
            (Coding::Integer, 1) => out.extend(data.iter().map(|&byte| (f32::from(byte) - 128.0) / 128.0)),
            (Coding::Integer, 2) => {
                each(data, big_endian, out, |bytes| f32::from(i16::from_le_bytes(bytes)) / 32_768.0);
            }
            (Coding::Integer, 3) => each(data, big_endian, out, |[low, middle, high]: [u8; 3]| {
                // Into the upper three bytes, so that the sign is where i32 has it.
                i32::from_le_bytes([0, low, middle, high]) as f32 / 2_147_483_648.0
            }),
            (Coding::Integer, _) => {
                each(data, big_endian, out, |bytes| i32::from_le_bytes(bytes) as f32 / 2_147_483_648.0);
            }
            (Coding::Float, 4) => each(data, big_endian, out, |bytes| finite(f32::from_le_bytes(bytes))),
            (Coding::Float, _) => {
                each(data, big_endian, out, |bytes| finite(f64::from_le_bytes(bytes) as f32));
            }
        }
    }
}

/// Reads samples of `N` bytes, turned to little-endian.
fn each<const N: usize>(data: &[u8], big_endian: bool, out: &mut Vec<f32>, sample: impl Fn([u8; N]) -> f32) {
    let (samples, _) = data.as_chunks::<N>();
    out.extend(samples.iter().map(|&bytes| {
        let mut bytes = bytes;
        if big_endian {
            bytes.reverse();
        }
        sample(bytes)
    }));
}

/// A float file's loudest believable sample: +24 dB above full scale, what a mix without headroom may reach.
const FLOAT_CEILING: f32 = 16.0;

/// NaN and infinities become silence, because one of them would poison every filter behind it; absurdly large
/// values are held at [`FLOAT_CEILING`] for the same reason.
fn finite(sample: f32) -> f32 {
    if sample.is_finite() { sample.clamp(-FLOAT_CEILING, FLOAT_CEILING) } else { 0.0 }
}

/// The first loop of a `smpl` chunk: 36 bytes, of which the number of loops is at 28, then 24 bytes per loop with
/// the first and the last sample at 8 and 12.
fn sampler_loop(chunk: &[u8], container: Container) -> Option<LoopPoints> {
    if container.u32(chunk, 28)? == 0 {
        return None;
    }
    let start = usize::try_from(container.u32(chunk, 36 + 8)?).ok()?;
    let last = usize::try_from(container.u32(chunk, 36 + 12)?).ok()?;
    Some(LoopPoints { start, end: last.checked_add(1)? })
}

/// Exactly two cue points are read as the two ends of a loop; any other number are marks for a human.
/// A point is 24 bytes with its sample offset at 20, behind a count of 4 bytes.
fn cue_loop(chunk: &[u8], container: Container) -> Option<LoopPoints> {
    if container.u32(chunk, 0)? != 2 {
        return None;
    }
    let first = usize::try_from(container.u32(chunk, 4 + 20)?).ok()?;
    let second = usize::try_from(container.u32(chunk, 28 + 20)?).ok()?;
    Some(LoopPoints { start: first.min(second), end: first.max(second) })
}

/// Why bytes are not a WAV that can be played.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WavError {
    /// It does not begin like one.
    NotWav,
    /// The file ends before its sound begins.
    CutInHeader {
        /// Bytes that the header needs, at least.
        expected: usize,
        /// Bytes that the file has.
        found: usize,
    },
    /// No `fmt` chunk.
    NoFormat,
    /// A `fmt` chunk shorter than the 16 bytes that every kind has.
    FormatTooShort {
        /// Its length in bytes.
        found: usize,
    },
    /// No `data` chunk.
    NoData,
    /// A coding that this reader does not know.
    FormatTag {
        /// The format tag of the `fmt` chunk (RFC 2361).
        found: u16,
    },
    /// A sample width that its coding does not have.
    Bits {
        /// The format tag of the `fmt` chunk (RFC 2361).
        format_tag: u16,
        /// Bits per sample.
        found: u16,
    },
    /// Channels, rate or length beyond a limit.
    Limit(BeyondLimit),
    /// A `data` chunk without one whole sample.
    NoSamples,
}

impl From<BeyondLimit> for WavError {
    fn from(beyond: BeyondLimit) -> Self {
        Self::Limit(beyond)
    }
}

impl fmt::Display for WavError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotWav => write!(f, "a WAV file was expected, and the file does not begin like one"),
            Self::CutInHeader { expected, found } => write!(
                f,
                "the WAV file is cut inside its header: at least {expected} bytes were expected, {found} were found"
            ),
            Self::NoFormat => {
                write!(f, "the WAV file has no `fmt ` chunk, so nobody can know what its bytes mean")
            }
            Self::FormatTooShort { found } => {
                write!(f, "the `fmt ` chunk of the WAV file has {found} bytes; at least 16 were expected")
            }
            Self::NoData => write!(f, "the WAV file has no `data` chunk, so there is no sound in it"),
            Self::FormatTag { found } => write!(
                f,
                "the WAV file is coded as format 0x{found:04X}; PCM, float, A-law and µ-law are accepted"
            ),
            Self::Bits { format_tag, found } => write!(
                f,
                "the WAV file has {found} bits per sample, which format 0x{format_tag:04X} does not have; 8 to 32 \
                 bits of PCM and 32 or 64 of float are accepted"
            ),
            Self::Limit(beyond) => beyond.fmt(f),
            Self::NoSamples => write!(f, "the WAV file has a correct header and not one sample of sound"),
        }
    }
}

impl std::error::Error for WavError {}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    /// A RIFF chunk, padded to an even length.
    fn chunk(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let mut chunk = name.to_vec();
        chunk.extend((body.len() as u32).to_le_bytes());
        chunk.extend(body);
        if body.len() % 2 == 1 {
            chunk.push(0);
        }
        chunk
    }

    fn riff(chunks: &[Vec<u8>]) -> Vec<u8> {
        let body = chunks.concat();
        let mut file = b"RIFF".to_vec();
        file.extend((body.len() as u32 + 4).to_le_bytes());
        file.extend(b"WAVE");
        file.extend(body);
        file
    }

    fn fmt_body(tag: u16, channels: u16, rate: u32, bits: u16) -> Vec<u8> {
        let block = channels * bits.div_ceil(8);
        let mut body = Vec::new();
        body.extend(tag.to_le_bytes());
        body.extend(channels.to_le_bytes());
        body.extend(rate.to_le_bytes());
        body.extend((rate * u32::from(block)).to_le_bytes());
        body.extend(block.to_le_bytes());
        body.extend(bits.to_le_bytes());
        body
    }

    fn pcm16(samples: &[i16]) -> Vec<u8> {
        samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
    }

    /// Forty-four bytes of header, then `samples`: what everybody means by a WAV.
    fn plain(samples: &[i16]) -> Vec<u8> {
        riff(&[chunk(b"fmt ", &fmt_body(tag::PCM, 1, 8000, 16)), chunk(b"data", &pcm16(samples))])
    }

    fn patch(mut file: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    }

    fn accept(file: &[u8]) -> WavSound {
        read(file, &DecodeLimits::default()).expect("a WAV")
    }

    fn refuse(file: &[u8]) -> WavError {
        read(file, &DecodeLimits::default()).expect_err("no WAV")
    }

    const SAMPLES: [i16; 6] = [0, 1000, -1000, 32_767, -32_768, 5];

    fn as_float(samples: &[i16]) -> Vec<f32> {
        samples.iter().map(|&sample| f32::from(sample) / 32_768.0).collect()
    }

    #[test]
    fn a_plain_file_is_read_sample_by_sample() {
        let sound = accept(&plain(&SAMPLES));
        assert_eq!(
            sound,
            WavSound {
                pcm: Pcm::new(8000, 1, as_float(&SAMPLES)),
                format: "WAV, PCM 16-bit, 8000 Hz, 1 channel".to_owned(),
                loop_points: None,
                cut_short: false,
            }
        );
    }

    #[test]
    fn lengths_that_lie_do_not_cost_a_sample() {
        let expected = as_float(&SAMPLES);
        let file = plain(&SAMPLES);
        for riff_len in [0u32, 4, 36, 40, 1 << 20, 0x7FFF_FFFF, u32::MAX] {
            for data_len in [0u32, 12, 0x7FFF_F000, 0x8000_0000, u32::MAX - 36, u32::MAX] {
                let file =
                    patch(patch(file.clone(), 4, &riff_len.to_le_bytes()), 40, &data_len.to_le_bytes());
                let sound = accept(&file);
                assert_eq!(sound.pcm.samples(), expected, "RIFF {riff_len:#x}, data {data_len:#x}");
                assert!(!sound.cut_short, "RIFF {riff_len:#x}, data {data_len:#x}");
            }
        }
    }

    #[test]
    fn a_data_length_that_is_too_small_is_outvoted_by_the_bytes() {
        let samples: Vec<i16> = (0..500).map(|n| (n * 61 % 2000) as i16 - 1000).collect();
        let file = patch(plain(&samples), 40, &100u32.to_le_bytes());
        assert_eq!(accept(&file).pcm.samples(), as_float(&samples));
    }

    #[test]
    fn dirt_behind_an_honest_end_is_not_played() {
        let mut file = plain(&SAMPLES);
        file.extend([0x11; 200]);
        assert_eq!(accept(&file).pcm.samples(), as_float(&SAMPLES));
    }

    #[test]
    fn a_file_cut_inside_its_data_plays_what_is_there() {
        let file = plain(&SAMPLES);
        let sound = accept(&file[..file.len() - 5]);
        assert_eq!(sound.pcm.samples(), &as_float(&SAMPLES)[..3]);
        assert!(sound.cut_short);
    }

    #[test]
    fn a_file_cut_inside_its_header_says_so() {
        let file = plain(&SAMPLES);
        for len in 4..44 {
            let error = refuse(&file[..len]);
            assert!(
                matches!(error, WavError::CutInHeader { expected, found } if found == len && expected > len),
                "{len} bytes: {error:?}"
            );
        }
        for len in 44..46 {
            assert_eq!(refuse(&file[..len]), WavError::NoSamples, "{len} bytes");
        }
    }

    #[test]
    fn chunks_behind_the_data_are_not_sound() {
        let list = chunk(b"LIST", b"INFOISFT\x05\0\0\0hound");
        for data in [vec![1i16, 2, 3], vec![1, 2, 3, 4]] {
            let file = riff(&[
                chunk(b"fmt ", &fmt_body(tag::PCM, 1, 8000, 16)),
                chunk(b"data", &pcm16(&data)),
                list.clone(),
            ]);
            assert_eq!(accept(&file).pcm.samples(), as_float(&data));
        }
    }

    #[test]
    fn an_odd_chunk_may_be_padded_or_not() {
        let odd = chunk(b"note", b"odd");
        let format = chunk(b"fmt ", &fmt_body(tag::PCM, 1, 8000, 8));
        let list = chunk(b"LIST", b"INFO");
        let data = [130, 140, 150];
        let padded = riff(&[odd.clone(), format.clone(), chunk(b"data", &data), list.clone()]);
        let unpadded =
            riff(&[odd[..odd.len() - 1].to_vec(), format, chunk(b"data", &data)[..11].to_vec(), list]);
        let expected: Vec<f32> = data.iter().map(|&byte| (f32::from(byte) - 128.0) / 128.0).collect();
        assert_eq!(accept(&padded).pcm.samples(), expected);
        assert_eq!(accept(&unpadded).pcm.samples(), expected);
    }

    #[test]
    fn a_format_chunk_of_unusual_length_is_read() {
        for (format_tag, bits, extra) in
            [(tag::PCM, 16, 4), (tag::PCM, 16, 2), (tag::MULAW, 8, 0), (tag::MULAW, 8, 2), (tag::ALAW, 16, 6)]
        {
            let mut body = fmt_body(format_tag, 1, 8000, bits);
            body.resize(16 + extra, 0);
            let file = riff(&[chunk(b"fmt ", &body), chunk(b"data", &[0x55, 0xAA, 0x12, 0xD5])]);
            let expected = if format_tag == tag::PCM { 2 } else { 4 };
            assert_eq!(accept(&file).pcm.len(), expected, "tag {format_tag}, {extra} bytes extra");
        }
    }

    #[test]
    fn twenty_four_bits_in_four_bytes_are_read_where_the_byte_rate_agrees() {
        let mut body = fmt_body(tag::PCM, 1, 8000, 24);
        body[8..12].copy_from_slice(&32_000u32.to_le_bytes());
        body[12..14].copy_from_slice(&4u16.to_le_bytes());
        let data: Vec<u8> =
            [0x4000_0000i32, -0x4000_0000].iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let file = riff(&[chunk(b"fmt ", &body), chunk(b"data", &data)]);
        assert_eq!(accept(&file).pcm.samples(), [0.5, -0.5]);
        // Without the second witness the block is taken for a mistake.
        let mut lying = fmt_body(tag::PCM, 1, 8000, 16);
        lying[12..14].copy_from_slice(&7u16.to_le_bytes());
        let file = riff(&[chunk(b"fmt ", &lying), chunk(b"data", &pcm16(&SAMPLES))]);
        assert_eq!(accept(&file).pcm.samples(), as_float(&SAMPLES));
    }

    #[test]
    fn extensible_files_are_read_by_their_subformat() {
        let extensible = |subformat: u16| {
            let mut body = fmt_body(tag::EXTENSIBLE, 2, 48_000, 32);
            body.extend(22u16.to_le_bytes());
            body.extend(24u16.to_le_bytes());
            body.extend(3u32.to_le_bytes());
            body.extend(subformat.to_le_bytes());
            body.extend([0, 0]);
            body.extend(&KSDATAFORMAT_TAIL[..]);
            riff(&[chunk(b"fmt ", &body), chunk(b"data", &0.25f32.to_le_bytes().repeat(2))])
        };
        let float = accept(&extensible(tag::IEEE_FLOAT));
        assert_eq!(float.pcm.samples(), [0.25, 0.25]);
        assert_eq!(float.format, "WAV, float 32-bit, 48000 Hz, 2 channels");
        assert_eq!(accept(&extensible(tag::PCM)).format, "WAV, PCM 24-bit, 48000 Hz, 2 channels");
        assert_eq!(refuse(&extensible(0x0055)), WavError::FormatTag { found: 0x55 });
    }

    #[test]
    fn not_a_number_is_silence() {
        let data: Vec<u8> = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.5, 1e30]
            .iter()
            .flat_map(|s| s.to_le_bytes())
            .collect();
        let file = riff(&[chunk(b"fmt ", &fmt_body(tag::IEEE_FLOAT, 1, 8000, 32)), chunk(b"data", &data)]);
        assert_eq!(accept(&file).pcm.samples(), [0.0, 0.0, 0.0, 0.5, FLOAT_CEILING]);
        let data: Vec<u8> = [f64::NAN, f64::MAX, -0.5].iter().flat_map(|s| s.to_le_bytes()).collect();
        let file = riff(&[chunk(b"fmt ", &fmt_body(tag::IEEE_FLOAT, 1, 8000, 64)), chunk(b"data", &data)]);
        assert_eq!(accept(&file).pcm.samples(), [0.0, 0.0, -0.5]);
    }

    /// The same file with every number the other way round.
    fn rifx(samples: &[i16]) -> Vec<u8> {
        let mut file = b"RIFX".to_vec();
        file.extend((36 + samples.len() as u32 * 2).to_be_bytes());
        file.extend(b"WAVEfmt ");
        file.extend(16u32.to_be_bytes());
        for field in [tag::PCM, 1] {
            file.extend(field.to_be_bytes());
        }
        for field in [8000u32, 16_000] {
            file.extend(field.to_be_bytes());
        }
        for field in [2u16, 16] {
            file.extend(field.to_be_bytes());
        }
        file.extend(b"data");
        file.extend((samples.len() as u32 * 2).to_be_bytes());
        file.extend(samples.iter().flat_map(|sample| sample.to_be_bytes()));
        file
    }

    fn rf64(name: &[u8; 4], samples: &[i16], behind: &[u8]) -> Vec<u8> {
        let data = pcm16(samples);
        let mut ds64 = Vec::new();
        ds64.extend((72 + data.len() as u64).to_le_bytes());
        ds64.extend((data.len() as u64).to_le_bytes());
        ds64.extend((samples.len() as u64).to_le_bytes());
        ds64.extend(0u32.to_le_bytes());
        let mut file = riff(&[
            chunk(b"ds64", &ds64),
            chunk(b"fmt ", &fmt_body(tag::PCM, 1, 8000, 16)),
            chunk(b"data", &data),
        ]);
        file[..4].copy_from_slice(name);
        let at = file.len() - data.len() - 4;
        let mut file = patch(patch(file, 4, &[0xFF; 4]), at, &[0xFF; 4]);
        file.extend(behind);
        file
    }

    fn wave64(samples: &[i16]) -> Vec<u8> {
        let part = |name: &[u8; 4], tail: &[u8; 12], len: usize| {
            let mut part = name.to_vec();
            part.extend(tail);
            part.extend((len as u64).to_le_bytes());
            part
        };
        let data = pcm16(samples);
        let mut file = part(b"riff", &WAVE64_RIFF_TAIL, 0);
        file.extend(b"wave");
        file.extend(WAVE64_TAIL);
        // A chunk with a GUID of its own, of a length that needs padding.
        file.extend([0xAB; 16]);
        file.extend(29u64.to_le_bytes());
        file.extend([0x61; 8]);
        file.extend(part(b"fmt ", &WAVE64_TAIL, 24 + 16));
        file.extend(fmt_body(tag::PCM, 1, 8000, 16));
        file.extend(part(b"data", &WAVE64_TAIL, 24 + data.len()));
        file.extend(data);
        let len = file.len() as u64;
        patch(file, 16, &len.to_le_bytes())
    }

    #[test]
    fn every_shell_of_the_family_is_opened() {
        let expected = as_float(&SAMPLES);
        for (file, name) in [
            (rifx(&SAMPLES), "WAV (RIFX)"),
            (rf64(b"RF64", &SAMPLES, &[]), "WAV (RF64)"),
            (rf64(b"RF64", &SAMPLES, &chunk(b"LIST", b"INFO")), "WAV (RF64)"),
            (rf64(b"BW64", &SAMPLES, &[0x11; 50]), "WAV (BW64)"),
            (wave64(&SAMPLES), "Wave64"),
        ] {
            let sound = accept(&file);
            assert_eq!(sound.pcm.samples(), expected, "{name}");
            assert!(sound.format.starts_with(name), "{}", sound.format);
        }
    }

    #[test]
    fn loop_points_come_from_the_sampler_or_from_two_cues() {
        let mut sampler = vec![0u8; 60];
        sampler[28] = 1;
        sampler[36 + 8] = 1;
        sampler[36 + 12] = 4;
        let mut cue = vec![2u8, 0, 0, 0];
        for offset in [5u8, 2] {
            let mut point = [0u8; 24];
            point[20] = offset;
            cue.extend(point);
        }
        let with = |chunks: &[Vec<u8>]| {
            let mut all =
                vec![chunk(b"fmt ", &fmt_body(tag::PCM, 1, 8000, 16)), chunk(b"data", &pcm16(&SAMPLES))];
            all.extend_from_slice(chunks);
            accept(&riff(&all)).loop_points
        };
        assert_eq!(with(&[chunk(b"smpl", &sampler)]), Some(LoopPoints { start: 1, end: 5 }));
        assert_eq!(with(&[chunk(b"cue ", &cue)]), Some(LoopPoints { start: 2, end: 5 }));
        // Behind the end of the recording there is nothing to repeat.
        sampler[36 + 12] = 6;
        assert_eq!(with(&[chunk(b"smpl", &sampler)]), None);
    }

    #[test]
    fn every_refusal_says_what_was_found() {
        let format = |tag, channels, rate, bits| {
            riff(&[chunk(b"fmt ", &fmt_body(tag, channels, rate, bits)), chunk(b"data", &[1, 2, 3, 4])])
        };
        let beyond = |error| match error {
            WavError::Limit(beyond) => beyond,
            other => panic!("{other:?}"),
        };
        assert_eq!(refuse(b"<html>"), WavError::NotWav);
        assert_eq!(refuse(&riff(&[])), WavError::NoFormat);
        assert_eq!(refuse(&riff(&[chunk(b"data", &[1, 2])])), WavError::NoFormat);
        assert_eq!(refuse(&riff(&[chunk(b"fmt ", &[0; 14])])), WavError::FormatTooShort { found: 14 });
        assert_eq!(refuse(&riff(&[chunk(b"fmt ", &fmt_body(1, 1, 8000, 16))])), WavError::NoData);
        assert_eq!(refuse(&plain(&[])), WavError::NoSamples);
        assert_eq!(refuse(&format(0x55, 1, 8000, 16)), WavError::FormatTag { found: 0x55 });
        assert_eq!(refuse(&format(1, 1, 8000, 64)), WavError::Bits { format_tag: 1, found: 64 });
        assert_eq!(refuse(&format(1, 1, 8000, 0)), WavError::Bits { format_tag: 1, found: 0 });
        assert_eq!(refuse(&format(3, 1, 8000, 16)), WavError::Bits { format_tag: 3, found: 16 });
        assert!(matches!(
            beyond(refuse(&format(1, 0, 8000, 16))),
            BeyondLimit::Channels { found: 0, limit: 8 }
        ));
        assert!(matches!(
            beyond(refuse(&format(1, 9, 8000, 8))),
            BeyondLimit::Channels { found: 9, limit: 8 }
        ));
        assert!(matches!(beyond(refuse(&format(1, 1, 3999, 8))), BeyondLimit::Rate { found: 3999, .. }));
        assert!(matches!(
            beyond(refuse(&format(7, 1, u32::MAX, 8))),
            BeyondLimit::Rate { found: u32::MAX, .. }
        ));
        let limits = DecodeLimits { max_seconds: 1, ..DecodeLimits::default() };
        let long = plain(&[1; 8001]);
        assert_eq!(read(&long, &limits), Err(WavError::Limit(BeyondLimit::Seconds { limit: 1 })));
        let limits = DecodeLimits { max_samples: 5, ..DecodeLimits::default() };
        assert_eq!(read(&plain(&SAMPLES), &limits), Err(WavError::Limit(BeyondLimit::Samples { limit: 5 })));
    }

    #[test]
    fn what_hound_writes_is_what_we_read() {
        for (bits, float) in [(8, false), (16, false), (24, false), (32, false), (32, true)] {
            for channels in [1, 2, 6] {
                let spec = hound::WavSpec {
                    channels,
                    sample_rate: 44_100,
                    bits_per_sample: bits,
                    sample_format: if float { hound::SampleFormat::Float } else { hound::SampleFormat::Int },
                };
                let mut file = Cursor::new(Vec::new());
                let mut writer = hound::WavWriter::new(&mut file, spec).expect("a specification");
                let full = (1i64 << (bits - 1)) as f64;
                let mut expected = Vec::new();
                for n in 0..600 {
                    let sample = (f64::from(n) * 0.37).sin() * 0.9;
                    if float {
                        writer.write_sample(sample as f32).expect("a sample");
                        expected.push(sample as f32);
                    } else {
                        let sample = (sample * full) as i32;
                        writer.write_sample(sample).expect("a sample");
                        expected.push((f64::from(sample) / full) as f32);
                    }
                }
                writer.finalize().expect("an end");
                let sound = accept(file.get_ref());
                assert_eq!(
                    sound.pcm,
                    Pcm::new(44_100, channels, expected),
                    "{bits} bits, {channels} channels"
                );
            }
        }
    }

    /// Small valid files of every kind, to be mutilated.
    fn of_every_kind() -> Vec<Vec<u8>> {
        let mut files = vec![plain(&SAMPLES), rifx(&SAMPLES), rf64(b"RF64", &SAMPLES, &[]), wave64(&SAMPLES)];
        for (format_tag, bits) in
            [(tag::PCM, 8), (tag::PCM, 24), (tag::IEEE_FLOAT, 64), (tag::MULAW, 8), (tag::EXTENSIBLE, 16)]
        {
            files.push(riff(&[
                chunk(b"fmt ", &fmt_body(format_tag, 2, 8000, bits)),
                chunk(b"smpl", &[1; 60]),
                chunk(b"data", &[7; 96]),
                chunk(b"cue ", &[2; 52]),
            ]));
        }
        files
    }

    #[test]
    fn no_prefix_of_any_kind_does_harm() {
        for file in of_every_kind() {
            for len in 0..=file.len() {
                let _ = read(&file[..len], &DecodeLimits::default());
            }
        }
    }

    proptest! {
        /// Bytes are turned over anywhere in a valid file; whatever comes out is bounded by what was put in.
        #[test]
        fn no_damage_does_harm(
            which in 0..9usize,
            blows in prop::collection::vec((0..400usize, any::<u8>()), 1..12),
            len in 0..400usize,
        ) {
            let mut file = of_every_kind().swap_remove(which);
            for (at, byte) in blows {
                let at = at % file.len();
                file[at] = byte;
            }
            file.truncate(len.max(12));
            if let Ok(sound) = read(&file, &DecodeLimits::default()) {
                prop_assert!(!sound.pcm.is_empty() && sound.pcm.samples().len() <= file.len());
                prop_assert!(sound.pcm.samples().iter().all(|sample| sample.is_finite()));
                prop_assert!(sound.loop_points.is_none_or(|points| points.end <= sound.pcm.len()));
            }
        }
    }
}
