//! A web server with prompts, good ones, one that changes, and broken ones.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use holdmusic_bench::probe::now_ns;
use holdmusic_codecs::music;
use rustix::thread::ClockId;

use crate::sound::{Expected, fixture};

/// Kept versions of the prompt that changes: nobody asks for more than the last few seconds.
const VERSIONS: usize = 64;

/// An origin that stalls is silent for so long, longer than the engine waits; then it hangs up.
const STALL: Duration = Duration::from_secs(6);

/// Why a prompt cannot be played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// 404.
    Gone,
    /// A page instead of a recording.
    Page,
    /// A WAV header without an end of the body.
    Stalls,
    /// The connection ends before the declared end.
    Short,
}

impl Broken {
    pub(crate) const ALL: [Self; 4] = [Self::Gone, Self::Page, Self::Stalls, Self::Short];

    /// The subcode of an operation whose prompt this is.
    pub(crate) fn subcode(self) -> u64 {
        if self == Self::Page { 8535 } else { 8536 }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Gone => "/gone.wav",
            Self::Page => "/page.wav",
            Self::Stalls => "/stalls.wav",
            Self::Short => "/short.wav",
        }
    }
}

struct Clip {
    path: &'static str,
    bytes: Vec<u8>,
    cache_control: &'static str,
}

struct State {
    clips: Vec<Clip>,
    /// Which clip the changing prompt is, and since when.
    versions: Vec<(u64, usize)>,
    answers: u64,
    unchanged: u64,
}

/// The web server; it lives as long as the bench.
pub(crate) struct Origin {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    /// What each clip sounds like.
    pub(crate) sounds: Vec<Expected>,
}

impl Origin {
    /// How many good prompts there are.
    pub(crate) const CLIPS: u64 = 3;

    /// Serves on a free port of loopback.
    pub(crate) fn open() -> io::Result<Self> {
        let clips = vec![
            Clip { path: "/a.wav", bytes: fixture("music-16k.wav")?, cache_control: "max-age=3600" },
            Clip { path: "/b.wav", bytes: fixture("speech-8k.wav")?, cache_control: "no-cache" },
            Clip { path: "/c.wav", bytes: faster_music()?, cache_control: "max-age=5" },
        ];
        let sounds = ["prompt A", "prompt B", "prompt C"];
        let sounds = sounds.into_iter().zip(&clips).map(|(name, clip)| Expected::of(name, &clip.bytes));
        let sounds = sounds.collect::<io::Result<_>>()?;
        let versions = vec![(now_ns(ClockId::Realtime), 0)];
        let state = Arc::new(Mutex::new(State { clips, versions, answers: 0, unchanged: 0 }));
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                thread::spawn(move || answer(&stream, &state));
            }
        });
        Ok(Self { address, state, sounds })
    }

    /// A good prompt; another `number` is another prompt with the same sound.
    pub(crate) fn clip(&self, clip: usize, number: Option<u64>) -> String {
        let path = self.state.lock().expect("nobody panics while holding it").clips[clip].path;
        self.url(path, number)
    }

    /// The prompt that changes.
    pub(crate) fn changing(&self) -> String {
        self.url("/changing.wav", None)
    }

    /// A broken prompt.
    pub(crate) fn broken(&self, broken: Broken, number: u64) -> String {
        self.url(broken.path(), Some(number))
    }

    fn url(&self, path: &str, number: Option<u64>) -> String {
        let query = number.map(|number| format!("?n={number}")).unwrap_or_default();
        format!("http://{}{path}{query}", self.address)
    }

    /// The changing prompt changes.
    pub(crate) fn change(&self) {
        let mut state = self.state.lock().expect("nobody panics while holding it");
        let which = 1 - state.versions.last().map_or(1, |version| version.1);
        state.versions.push((now_ns(ClockId::Realtime), which));
        if state.versions.len() > VERSIONS {
            state.versions.remove(0);
        }
    }

    /// What the changing prompt was between two moments.
    pub(crate) fn versions(&self, from_ns: u64, to_ns: u64) -> Vec<usize> {
        let state = self.state.lock().expect("nobody panics while holding it");
        let next = |index: usize| state.versions.get(index + 1).map_or(u64::MAX, |version| version.0);
        let overlaps = |(index, version): (usize, &(u64, usize))| {
            (version.0 <= to_ns && next(index) >= from_ns).then_some(version.1)
        };
        state.versions.iter().enumerate().filter_map(overlaps).collect()
    }

    /// Answers so far, and how many of them said that nothing has changed.
    pub(crate) fn answers(&self) -> (u64, u64) {
        let state = self.state.lock().expect("nobody panics while holding it");
        (state.answers, state.unchanged)
    }
}

/// Eight seconds of the default music, played faster: it is like nothing else here.
fn faster_music() -> io::Result<Vec<u8>> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 22_050,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut bytes = io::Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut bytes, spec).map_err(io::Error::other)?;
    for sample in &music::compose()[400_000..576_400] {
        writer.write_sample(*sample).map_err(io::Error::other)?;
    }
    writer.finalize().map_err(io::Error::other)?;
    Ok(bytes.into_inner())
}

/// One request, one answer.
fn answer(mut stream: &TcpStream, state: &Mutex<State>) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(stream);
    let (mut first, mut tag) = (String::new(), String::new());
    reader.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("if-none-match")
        {
            tag = value.trim().to_owned();
        }
    }
    let target = first.split_whitespace().nth(1).unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    let wav = || {
        let state = state.lock().expect("nobody panics while holding it");
        state.clips[0].bytes.clone()
    };
    match path {
        "/page.wav" => {
            let page = "<!DOCTYPE html><title>Sign in</title><p>Who are you?";
            stream.write_all(&reply("200 OK", "Content-Type: text/html\r\n", page.as_bytes()))
        }
        "/stalls.wav" => {
            let whole = reply("200 OK", "Content-Type: audio/wav\r\n", &wav());
            stream.write_all(&whole[..200])?;
            thread::sleep(STALL);
            Ok(())
        }
        "/short.wav" => {
            let whole = reply("200 OK", "Content-Type: audio/wav\r\n", &wav());
            stream.write_all(&whole[..150])
        }
        _ => {
            let reply = found(path, &tag, &mut state.lock().expect("nobody panics while holding it"));
            stream.write_all(&reply)
        }
    }
}

/// A good prompt, or that it is as it was, or that there is none.
fn found(path: &str, tag: &str, state: &mut State) -> Vec<u8> {
    let which = match path {
        "/changing.wav" => state.versions.last().map(|version| version.1),
        _ => state.clips.iter().position(|clip| clip.path == path),
    };
    let Some(which) = which else { return reply("404 Not Found", "Content-Type: text/plain\r\n", b"") };
    let clip = &state.clips[which];
    let cache_control = if path == "/changing.wav" { "no-cache" } else { clip.cache_control };
    let own = format!("\"{which}\"");
    let about = format!("Content-Type: audio/wav\r\nETag: {own}\r\nCache-Control: {cache_control}\r\n");
    state.answers += 1;
    if tag == own {
        state.unchanged += 1;
        return format!("HTTP/1.1 304 Not Modified\r\nConnection: close\r\n{about}\r\n").into_bytes();
    }
    reply("200 OK", &about, &clip.bytes)
}

fn reply(status: &str, about: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{about}Content-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}
