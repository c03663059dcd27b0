//! The prompt: the default music as other people's files are, 44.1 kHz and stereo, in a directory that ends with it.

use std::{
    io,
    path::{Path, PathBuf},
};

use holdmusic_codecs::{Pcm, music, resample};
use hound::{SampleFormat, WavSpec, WavWriter};
use tempfile::TempDir;

/// A WAV file.
pub(crate) struct Prompt {
    path: PathBuf,
    _directory: TempDir,
}

/// Its length. GStreamer plays it once, so it is longer than the longest window and what comes before that.
const SECONDS: usize = 30;

/// rtpengine 10.5 sends bursts when it is given 8 or 16 kHz mono.
const SPEC: WavSpec =
    WavSpec { channels: 2, sample_rate: 44_100, bits_per_sample: 16, sample_format: SampleFormat::Int };

impl Prompt {
    pub(crate) fn write() -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("prompt.wav");
        let music = music::default_music();
        let begin = music.samples()[..SECONDS * music.rate() as usize].to_vec();
        let sound = resample(&Pcm::new(music.rate(), 1, begin), SPEC.sample_rate);
        let mut writer = WavWriter::create(&path, SPEC).map_err(io::Error::other)?;
        for &sample in sound.samples() {
            for _ in 0..SPEC.channels {
                writer.write_sample((sample.clamp(-1.0, 1.0) * 32_767.0) as i16).map_err(io::Error::other)?;
            }
        }
        writer.finalize().map_err(io::Error::other)?;
        Ok(Self { path, _directory: directory })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}
