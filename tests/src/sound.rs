//! What should have been heard: fixtures, the loop that the engine makes of them, and what one encoding costs.

use std::{fs, path::Path};

use holdmusic_codecs::{
    Codec, DecodeLimits, EncoderSettings, Loop, Pcm, align, decode, loudness_lufs, to_mono,
};

/// A file of `assets/`.
///
/// # Panics
///
/// If it is not there.
pub fn asset(path: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets").join(path);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The loop that the engine makes of a recording, repeated `laps` times, at 16 kHz.
///
/// # Panics
///
/// If the recording cannot be played.
pub fn reference(recording: &[u8], laps: usize) -> Pcm {
    let recording = decode(recording, &DecodeLimits::default()).expect("a fixture can be decoded");
    let codec = Codec::Opus;
    let circle = Loop::new(&to_mono(&recording.pcm), codec.sample_rate(), codec.samples_per_frame());
    Pcm::new(codec.sample_rate(), 1, circle.samples().repeat(laps))
}

/// What is left of `sound` after one encoding and decoding: as good as a participant can hear it.
///
/// # Panics
///
/// If it is not a whole number of frames.
pub fn one_shot(sound: &Pcm) -> Pcm {
    let codec = Codec::Opus;
    let mut encoder = codec.encoder(&EncoderSettings::default()).expect("the default settings are right");
    let mut decoder = codec.decoder().expect("a decoder can be made");
    let mut payload = vec![0; encoder.max_payload_len()];
    let mut heard = Vec::with_capacity(sound.len());
    for frame in sound.samples().chunks(codec.samples_per_frame()) {
        let len = encoder.encode(frame, &mut payload).expect("a whole frame can be encoded");
        decoder.decode(Some(&payload[..len]), &mut heard).expect("what we encode can be decoded");
    }
    Pcm::new(codec.sample_rate(), 1, heard)
}

/// How what was heard compares with what should have been.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Likeness {
    /// Where in the heard sound the reference begins, in milliseconds.
    pub offset_ms: f64,
    /// 1 is alike but for level.
    pub correlation: f64,
    /// How much louder it was, in LU; infinite if one of them is silent.
    pub louder_lu: f64,
}

impl Likeness {
    /// Compares `heard` with `reference`, both at 16 kHz.
    pub fn of(reference: &Pcm, heard: &Pcm) -> Self {
        let found = align(reference.samples(), heard.samples());
        let louder_lu = match (loudness_lufs(heard), loudness_lufs(reference)) {
            (Some(heard), Some(reference)) => heard - reference,
            _ => f64::INFINITY,
        };
        #[expect(clippy::cast_precision_loss, reason = "a story is short")]
        let offset_ms = found.offset_samples as f64 * 1000.0 / f64::from(reference.rate());
        Self { offset_ms, correlation: found.correlation, louder_lu }
    }
}

/// Stretches of at least `least_ms` in which nothing can be heard (each block of 10 ms below -70 dB of full scale), as
/// milliseconds from the beginning and their lengths.
pub fn silences(sound: &Pcm, least_ms: usize) -> Vec<(usize, usize)> {
    const BLOCK_MS: usize = 10;
    /// -70 dB as mean square.
    const SILENT: f64 = 1e-7;
    let block = sound.rate() as usize * BLOCK_MS / 1000;
    let mut found = vec![];
    let mut began = None;
    let blocks = sound.samples().chunks(block);
    let count = blocks.len();
    for (index, block) in blocks.enumerate() {
        let energy: f64 = block.iter().map(|&sample| f64::from(sample).powi(2)).sum();
        #[expect(clippy::cast_precision_loss, reason = "a block is short")]
        let silent = energy < SILENT * block.len() as f64;
        if silent && began.is_none() {
            began = Some(index);
        }
        let over = !silent || index + 1 == count;
        if over && let Some(from) = began.take() {
            let until = if silent { index + 1 } else { index };
            if (until - from) * BLOCK_MS >= least_ms {
                found.push((from * BLOCK_MS, (until - from) * BLOCK_MS));
            }
        }
    }
    found
}
