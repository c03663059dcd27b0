//! Writes the WAV fixtures into `assets/fixtures`, or into the directory named on the command line.
//!
//! The same bytes come out of each run. What each file is for stands in `assets/README.md`.

mod containers;
mod clips;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use containers::{A_LAW, FLOAT, Format, MU_LAW, Order, PCM};
use containers::{a_law, chunk, chunk_saying, float_32, float_64, mu_law, riff, riff_saying};
use containers::{signed_16, signed_24, signed_32, unsigned_8, wav, wav_64, wave_64};

/// Samples of the short clips: 0.8 s at 16 kHz, forty frames of 20 ms.
const SHORT: usize = 12_800;

/// Where the short cut of music begins: one bar into the long one, where a phrase starts.
const PHRASE: usize = 38_400;

fn main() -> io::Result<()> {
    let home = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/fixtures");
    let shelf = Shelf(std::env::args().nth(1).map_or_else(|| home.into(), PathBuf::from));
    let (music, speech) = (clips::music(), clips::speech(8));
    shelf.hound("music-16k.wav", 1, clips::RATE, &music)?;
    shelf.hound("speech-8k.wav", 1, 8_000, &clips::at_rate(&speech, 8_000))?;
    let phrase = &music[PHRASE..PHRASE + SHORT];
    kinds(&shelf, phrase, &clips::at_rate(&speech[..2 * SHORT], 8_000))?;
    rates(&shelf, phrase, &speech[..SHORT])?;
    lengths(&shelf, phrase)?;
    broken(&shelf, phrase)
}

/// The directory that is written to.
struct Shelf(PathBuf);

impl Shelf {
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        fs::write(path, bytes)
    }

    /// Writes 16-bit PCM with a writer that is not ours.
    fn hound(&self, name: &str, channels: u16, sample_rate: u32, samples: &[i16]) -> io::Result<()> {
        let sample_format = hound::SampleFormat::Int;
        let spec = hound::WavSpec { channels, sample_rate, bits_per_sample: 16, sample_format };
        let mut file = io::Cursor::new(Vec::new());
        let mut write = || {
            let mut writer = hound::WavWriter::new(&mut file, spec)?;
            samples.iter().try_for_each(|&sample| writer.write_sample(sample))?;
            writer.finalize()
        };
        write().map_err(io::Error::other)?;
        self.put(name, file.get_ref())
    }
}

/// Every kind of header and sample. The linear ones hold exactly the same 16-bit values.
fn kinds(shelf: &Shelf, music: &[i16], speech: &[i16]) -> io::Result<()> {
    let little = Order::Little;
    let usual = Format::USUAL;
    let of = |tag, bits| Format { tag, bits, ..usual };
    let law = |tag| Format { tag, channels: 1, rate: 8_000, bits: 8 };
    let data = signed_16(little, music);
    let samples = music.len() as u64;

    shelf.put("kinds/pcm-u8.wav", &wav(&of(PCM, 8).fields(little), &unsigned_8(music)))?;
    shelf.put("kinds/pcm-16.wav", &wav(&usual.fields(little), &data))?;
    shelf.put("kinds/pcm-24.wav", &wav(&of(PCM, 24).fields(little), &signed_24(music)))?;
    shelf.put("kinds/pcm-32.wav", &wav(&of(PCM, 32).fields(little), &signed_32(music)))?;
    shelf.put("kinds/float-32.wav", &wav(&of(FLOAT, 32).fields_18(), &float_32(music)))?;
    shelf.put("kinds/float-64.wav", &wav(&of(FLOAT, 64).fields_18(), &float_64(music)))?;

    shelf.put("kinds/alaw-fmt16.wav", &wav(&law(A_LAW).fields(little), &a_law(speech)))?;
    shelf.put("kinds/alaw-fmt18.wav", &wav(&law(A_LAW).fields_18(), &a_law(speech)))?;
    shelf.put("kinds/ulaw-fmt16.wav", &wav(&law(MU_LAW).fields(little), &mu_law(speech)))?;
    shelf.put("kinds/ulaw-fmt18.wav", &wav(&law(MU_LAW).fields_18(), &mu_law(speech)))?;

    shelf.put("kinds/extensible-pcm-16.wav", &wav(&usual.fields_extensible(), &data))?;
    shelf.put("kinds/extensible-pcm-24.wav", &wav(&of(PCM, 24).fields_extensible(), &signed_24(music)))?;
    shelf.put("kinds/extensible-float-32.wav", &wav(&of(FLOAT, 32).fields_extensible(), &float_32(music)))?;

    shelf.put("kinds/rf64-pcm-16.wav", &wav_64(b"RF64", &usual.fields(little), &data, samples))?;
    shelf.put("kinds/bw64-pcm-16.wav", &wav_64(b"BW64", &usual.fields(little), &data, samples))?;
    shelf.put("kinds/w64-pcm-16.w64", &wave_64(&usual.fields(little), &data))?;
    let big = Order::Big;
    let chunks = [chunk(big, b"fmt ", &usual.fields(big)), chunk(big, b"data", &signed_16(big, music))];
    shelf.put("kinds/rifx-pcm-16.wav", &riff(big, &chunks))?;

    // Chunks that a reader has to step over, of odd lengths, before and behind the sound.
    let chunks = [
        chunk(little, b"JUNK", &[0; 27]),
        chunk(little, b"fmt ", &usual.fields(little)),
        chunk(little, b"fact", &(music.len() as u32).to_le_bytes()),
        chunk(little, b"LIST", b"INFOISFT\x05\x00\x00\x00ours\x00"),
        chunk(little, b"data", &data),
        chunk(little, b"LIST", b"INFOICMT\x03\x00\x00\x00ok\x00"),
    ];
    shelf.put("kinds/odd-chunks.wav", &riff(little, &chunks))
}

/// Other rates, and two channels: music on the left, speech on the right.
fn rates(shelf: &Shelf, music: &[i16], speech: &[i16]) -> io::Result<()> {
    for rate in [8_000, 44_100, 48_000] {
        shelf.hound(&format!("rates/mono-{rate}.wav"), 1, rate, &clips::at_rate(music, rate))?;
    }
    let both = |left: &[i16], right: &[i16]| -> Vec<i16> {
        left.iter().zip(right).flat_map(|(&left, &right)| [left, right]).collect()
    };
    shelf.hound("rates/stereo-16000.wav", 2, 16_000, &both(music, speech))?;
    let half = SHORT / 2;
    let (left, right) = (clips::at_rate(&music[..half], 44_100), clips::at_rate(&speech[..half], 44_100));
    shelf.hound("rates/stereo-44100.wav", 2, 44_100, &both(&left, &right))
}

/// Length fields that are wrong although the sound is there.
fn lengths(shelf: &Shelf, music: &[i16]) -> io::Result<()> {
    let order = Order::Little;
    let fmt = chunk(order, b"fmt ", &Format::USUAL.fields(order));
    let bytes = signed_16(order, music);
    let data = chunk(order, b"data", &bytes);
    let saying = |length| chunk_saying(order, b"data", length, &bytes);
    let right = (4 + fmt.len() + data.len()) as u32;

    shelf.put("lengths/riff-zero.wav", &riff_saying(order, 0, &[fmt.clone(), data.clone()]))?;
    shelf.put("lengths/streamed.wav", &riff_saying(order, u32::MAX, &[fmt.clone(), saying(u32::MAX)]))?;
    shelf.put("lengths/both-zero.wav", &riff_saying(order, 0, &[fmt.clone(), saying(0)]))?;
    shelf.put("lengths/data-zero.wav", &riff_saying(order, right, &[fmt.clone(), saying(0)]))?;
    let whole = riff(order, &[fmt, data]);
    // Odd on purpose: half a sample is left at the end.
    shelf.put("lengths/cut-in-data.wav", &whole[..44 + SHORT + 1])
}

/// What is no sound at all.
fn broken(shelf: &Shelf, music: &[i16]) -> io::Result<()> {
    let order = Order::Little;
    let usual = Format::USUAL;
    let bytes = signed_16(order, &music[..1_600]);
    let fmt = chunk(order, b"fmt ", &usual.fields(order));
    let of = |format: Format| wav(&format.fields(order), &bytes);
    let page = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head>\n\
        <body><h1>Not Found</h1><p>There is no music at this address.</p></body></html>\n";

    shelf.put("broken/empty.wav", &[])?;
    shelf.put("broken/html-page.wav", page)?;
    shelf.put("broken/cut-in-header.wav", &of(usual)[..30])?;
    shelf.put("broken/no-fmt.wav", &riff(order, &[chunk(order, b"data", &bytes)]))?;
    shelf.put("broken/no-data.wav", &riff(order, &[fmt]))?;
    shelf.put("broken/data-empty.wav", &wav(&usual.fields(order), &[]))?;
    shelf.put("broken/rate-zero.wav", &of(Format { rate: 0, ..usual }))?;
    shelf.put("broken/channels-zero.wav", &of(Format { channels: 0, ..usual }))?;
    shelf.put("broken/channels-65535.wav", &of(Format { channels: 65_535, ..usual }))?;
    shelf.put("broken/bits-zero.wav", &of(Format { bits: 0, ..usual }))?;
    // 0x0055 is MP3 inside WAV; the bytes behind it are none.
    shelf.put("broken/unsupported-tag.wav", &of(Format { tag: 0x0055, ..usual }))?;
    shelf.put("broken/silence.wav", &wav(&usual.fields(order), &[0; 16_000]))
}
