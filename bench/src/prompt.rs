//! A prompt as other people's files are: the default music at their rate, in a directory that ends with it, and served.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use holdmusic_codecs::{Pcm, music, resample};
use hound::{SampleFormat, WavSpec, WavWriter};
use tempfile::TempDir;

/// A WAV file of 16 bits.
pub struct Prompt {
    path: PathBuf,
    _directory: TempDir,
}

impl Prompt {
    /// So many seconds of it, the same on all channels.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn write(seconds: usize, rate: u32, channels: u16) -> io::Result<Self> {
        let spec =
            WavSpec { channels, sample_rate: rate, bits_per_sample: 16, sample_format: SampleFormat::Int };
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("prompt.wav");
        let music = music::default_music();
        let begin = music.samples().iter().copied().cycle().take(seconds * music.rate() as usize).collect();
        let sound = resample(&Pcm::new(music.rate(), 1, begin), rate);
        let mut writer = WavWriter::create(&path, spec).map_err(io::Error::other)?;
        for &sample in sound.samples() {
            for _ in 0..channels {
                writer.write_sample((sample.clamp(-1.0, 1.0) * 32_767.0) as i16).map_err(io::Error::other)?;
            }
        }
        writer.finalize().map_err(io::Error::other)?;
        Ok(Self { path, _directory: directory })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it to whoever asks over HTTP for anything below the address that is returned, as long as the bench lives, and
    /// for longer it stays good; another number in the path is another recording, by two samples.
    ///
    /// # Errors
    ///
    /// If there is no socket to be had.
    pub fn serve(&self) -> io::Result<String> {
        Ok(self.serve_with("cache-control: max-age=86400\r\n")?.0)
    }

    /// The same without a word about how long it stays good; and how often somebody has asked so far.
    ///
    /// # Errors
    ///
    /// If there is no socket to be had.
    pub fn serve_plainly(&self) -> io::Result<(String, Arc<AtomicU64>)> {
        self.serve_with("")
    }

    fn serve_with(&self, headers: &'static str) -> io::Result<(String, Arc<AtomicU64>)> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}", listener.local_addr()?);
        let mut body = fs::read(&self.path)?;
        let asked = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&asked);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                count.fetch_add(1, Relaxed);
                let _ = answer(&connection, headers, &mut body);
            }
        });
        Ok((url, asked))
    }
}

/// Answers one request. The last two samples are the number in the path, so that another path is another recording.
fn answer(mut connection: &TcpStream, headers: &str, body: &mut [u8]) -> io::Result<()> {
    let mut lines = BufReader::new(connection).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    let number: u32 = path.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or_default();
    if let Some(last) = body.last_chunk_mut() {
        *last = (number & 0x00ff_00ff).to_le_bytes();
    }
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: audio/wav\r\ncontent-length: {}\r\n{headers}\
         connection: close\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes())?;
    connection.write_all(body)
}
