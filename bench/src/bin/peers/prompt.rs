//! The prompt: the default music as other people's files are, 44.1 kHz and stereo, in a directory that ends with it.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    thread,
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

    /// Gives it to whoever asks over HTTP, as long as the bench lives; returns where.
    pub(crate) fn serve(&self) -> io::Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}/prompt.wav", listener.local_addr()?);
        let body = fs::read(&self.path)?;
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let _ = answer(&connection, &body);
            }
        });
        Ok(url)
    }
}

/// Answers one request: the prompt stays good for longer than the bench.
fn answer(mut connection: &TcpStream, body: &[u8]) -> io::Result<()> {
    let lines = BufReader::new(connection).lines();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: audio/wav\r\ncontent-length: {}\r\ncache-control: max-age=86400\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes())?;
    connection.write_all(body)
}
