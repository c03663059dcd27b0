//! `holdmusic listen`: datagrams of any RTP sender go in; a report and, if wanted, a WAV file come out.

pub mod expected;
pub mod report;
mod table;

use std::{
    fmt,
    fs::File,
    io::{self, BufWriter, ErrorKind, Write},
    net::{IpAddr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use holdmusic_codecs::Pcm;
use holdmusic_media::{MediaTime, Receiver, unprotect::Unprotector};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};

use crate::clock;
use expected::Expected;
use report::{EndedBy, Report, Session};

/// Listen to any RTP sender on a UDP port and report what arrived.
///
/// Says whether every packet came, in order and in time: loss, duplicates, reordering, jitter, gaps, markers,
/// timestamp jumps, RTCP. Opus is decoded: `--wav` keeps the sound in true time, with what was lost concealed or
/// silent. Of other codecs the packets are measured.
///
/// It ends after `--seconds`, at Ctrl-C, or one second after the sender's RTCP BYE. The exit code is 0 if packets
/// were heard, 1 if none came, 2 if it could not listen.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ListenOptions {
    /// UDP port to listen on; RTCP is heard there and, if it is free, on the next port
    #[arg(long, value_name = "P", required_unless_present = "sdp")]
    pub port: Option<u16>,
    /// Session description that says what will be sent: port, payload types, codecs. Without one, payload types
    /// 96 to 127 are taken for Opus, and the static ones for what RFC 3551 says
    #[arg(long, value_name = "FILE")]
    pub sdp: Option<PathBuf>,
    /// How long to listen, in seconds; without it, until Ctrl-C or RTCP BYE
    #[arg(long, value_name = "N", value_parser = seconds)]
    pub seconds: Option<f64>,
    /// Write what was heard as a WAV file: 16 bit, mono, at the codec's sample rate
    #[arg(long, value_name = "FILE")]
    pub wav: Option<PathBuf>,
    /// Print the report as JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Address to listen on; the default hears every interface
    #[arg(long, value_name = "IP", default_value = "0.0.0.0")]
    pub bind: IpAddr,
}

const EXAMPLES: &str = "\
Examples:
  Hear ten seconds of a held participant and keep them:
    holdmusic listen --port 40000 --seconds 10 --wav held.wav

  Try it without an engine, with ffmpeg as the sender:
    holdmusic listen --port 5004 --seconds 5 &
    ffmpeg -re -f lavfi -i sine=440:duration=8 -c:a libopus -f rtp rtp://127.0.0.1:5004";

/// Everything between silence and a day; longer is a mistake in the unit.
fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text} is not a number of seconds"))?;
    if seconds > 0.0 && seconds <= 86_400.0 {
        Ok(seconds)
    } else {
        Err(format!("{text} s is outside 0 to 86400 s"))
    }
}

/// How long a read waits for a packet before it looks at the clock and at signals.
const PATIENCE: Duration = Duration::from_millis(50);

/// Quiet after an RTCP BYE that ends the listening: packets that were under way have arrived by then.
const QUIET_AFTER_BYE: Duration = Duration::from_secs(1);

/// Receive buffer asked of the kernel: 10 s of one Opus stream, or what fits when a flood comes. The kernel gives
/// as much of it as `net.core.rmem_max` allows.
const RECEIVE_BUFFER: usize = 4 << 20;

/// The longest datagram there is.
const MAX_DATAGRAM: usize = 65_536;

/// How often the progress line is drawn anew.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Listens as `options` say and prints the report to stdout; everything else goes to stderr.
pub fn run(options: &ListenOptions) -> ExitCode {
    match listen(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            let _ = writeln!(io::stderr(), "holdmusic listen: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether packets were heard.
fn listen(options: &ListenOptions) -> Result<bool, ListenError> {
    let expected = match &options.sdp {
        Some(path) => Expected::of_sdp(&read(path)?)
            .map_err(|error| ListenError { what: path.display().to_string(), why: error.to_string() })?,
        None => Expected::default(),
    };
    let Some(port) = options.port.or(expected.port) else {
        return Err(ListenError { what: "--port".to_owned(), why: "is missing".to_owned() });
    };
    // Made before listening: a path that cannot be written is told now, not after the music.
    let wav = options.wav.as_deref().map(create).transpose()?;
    let socket = open(SocketAddr::new(options.bind, port)).map_err(|why| ListenError {
        what: format!("UDP port {port} on {}", options.bind),
        why: why.to_string(),
    })?;
    let rtcp = match expected.rtcp_multiplexed {
        true => None,
        false => port.checked_add(1).and_then(|next| open(SocketAddr::new(options.bind, next)).ok()),
    };
    if let Some(rtcp) = &rtcp {
        rtcp.set_nonblocking(true).map_err(|why| ListenError::new("RTCP port", &why))?;
    }
    let stop = stop_at_signals().map_err(|why| ListenError::new("signals", &why))?;

    let mut receiver = Receiver::new(expected.formats.clone());
    if let Some((key, mki)) = &expected.srtp {
        receiver = receiver.unprotecting(Unprotector::new(key, mki.clone()));
    }
    let mut doors = Doors { socket, rtcp, clock: Clock::starting_now(), stop, sender: None };
    let ended_by = doors
        .hear(&mut receiver, options.seconds.map(Duration::from_secs_f64))
        .map_err(|why| ListenError::new("receiving", &why))?;

    let decoded = receiver.decode();
    if let (Some(file), Some(path)) = (wav, &options.wav) {
        write_wav(file, &decoded.sound).map_err(|why| ListenError::new(path.display(), &why))?;
    }
    let session = Session {
        bind: options.bind,
        port,
        rtcp_port: doors.rtcp.as_ref().map(|_| port + 1),
        sender: doors.sender,
        listened: doors.clock.now().since(MediaTime::ZERO),
        ended_by,
        wav: options.wav.clone(),
    };
    let report = Report::new(&session, &receiver.hearing(), &decoded, &expected.formats);
    let text = if options.json { report.json() } else { report.to_string() };
    writeln!(io::stdout(), "{text}").map_err(|why| ListenError::new("standard output", &why))?;
    if !report.heard() {
        let _ = writeln!(io::stderr(), "{}", report.advice());
    }
    Ok(report.heard())
}

/// What the listening touches of the world outside.
struct Doors {
    socket: UdpSocket,
    rtcp: Option<UdpSocket>,
    clock: Clock,
    stop: Arc<AtomicBool>,
    sender: Option<SocketAddr>,
}

impl Doors {
    /// Hears until time is up, a signal comes, or the sender is quiet after its good-bye.
    fn hear(&mut self, receiver: &mut Receiver, limit: Option<Duration>) -> io::Result<EndedBy> {
        let progress = progress(limit);
        let mut drawn = MediaTime::ZERO;
        let mut datagram = vec![0; MAX_DATAGRAM];
        let ended_by = loop {
            let now = self.clock.now();
            if self.stop.load(Ordering::Relaxed) {
                break EndedBy::Signal;
            }
            if limit.is_some_and(|limit| now.since(MediaTime::ZERO) >= limit) {
                break EndedBy::Seconds;
            }
            if receiver.quiet_after_bye(now).is_some_and(|quiet| quiet >= QUIET_AFTER_BYE) {
                break EndedBy::Bye;
            }
            if now.since(drawn) >= PROGRESS_INTERVAL {
                drawn = now;
                progress
                    .set_position(u64::try_from(now.since(MediaTime::ZERO).as_millis()).unwrap_or(u64::MAX));
                progress.set_message(format!("{} packets", receiver.packets()));
            }
            match self.socket.recv_from(&mut datagram) {
                Ok((len, from)) => {
                    self.sender.get_or_insert(from);
                    receiver.handle_datagram(self.clock.now(), &datagram[..len]);
                }
                Err(error) if is_only_waiting(&error) => {}
                Err(error) => return Err(error),
            }
            // Its arrival need not be exact, so it is looked at in passing, one per round: a flood of RTCP cannot
            // keep RTP waiting.
            if let Some(Ok(len)) = self.rtcp.as_ref().map(|rtcp| rtcp.recv(&mut datagram)) {
                receiver.handle_datagram(self.clock.now(), &datagram[..len]);
            }
        };
        progress.finish_and_clear();
        Ok(ended_by)
    }
}

fn is_only_waiting(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// Nothing is drawn where stderr is no terminal.
fn progress(limit: Option<Duration>) -> ProgressBar {
    let (bar, template) = match limit {
        Some(limit) => (
            ProgressBar::new(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)),
            "listening [{bar:40}] {elapsed} {msg}",
        ),
        None => (ProgressBar::new_spinner(), "{spinner} listening {elapsed} {msg} (Ctrl-C for the report)"),
    };
    bar.with_style(ProgressStyle::with_template(template).expect("the template is one of the two above"))
}

fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    #[expect(clippy::disallowed_methods, reason = "listen is a door: this is the receiver's socket")]
    let socket = UdpSocket::bind(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    // Less than was asked for is no reason not to listen.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
    Ok(socket)
}

/// A flag that SIGINT and SIGTERM raise. The handlers stand before this returns.
fn stop_at_signals() -> io::Result<Arc<AtomicBool>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let entered = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    drop(entered);
    let stop = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&stop);
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        raised.store(true, Ordering::Relaxed);
    })?;
    Ok(stop)
}

/// Counts from when the listening began, so that reports begin at 0.
struct Clock {
    origin: MediaTime,
}

impl Clock {
    fn starting_now() -> Self {
        Self { origin: clock::mono() }
    }

    fn now(&self) -> MediaTime {
        MediaTime::ZERO + clock::mono().since(self.origin)
    }
}

/// Writes `sound` as 16-bit WAV.
///
/// # Errors
///
/// If the file cannot be made or written.
pub fn save_wav(path: &Path, sound: &Pcm) -> io::Result<()> {
    write_wav(BufWriter::new(File::create(path)?), sound)
}

fn write_wav(file: BufWriter<File>, sound: &Pcm) -> io::Result<()> {
    let spec = hound::WavSpec {
        channels: sound.channels(),
        sample_rate: sound.rate(),
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let other = |error| match error {
        hound::Error::IoError(error) => error,
        error => io::Error::other(error),
    };
    let mut writer = hound::WavWriter::new(file, spec).map_err(other)?;
    for sample in sound.samples() {
        // `as` clips what is beyond the range of 16 bits.
        writer.write_sample((sample * 32_768.0).round() as i16).map_err(other)?;
    }
    writer.finalize().map_err(other)
}

fn create(path: &Path) -> Result<BufWriter<File>, ListenError> {
    File::create(path).map(BufWriter::new).map_err(|why| ListenError::new(path.display(), &why))
}

/// A session description is a few kilobytes; a megabyte is something else.
const MAX_SDP: u64 = 1 << 20;

fn read(path: &Path) -> Result<Vec<u8>, ListenError> {
    use std::io::Read;
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_SDP).read_to_end(&mut text))
        .map_err(|why| ListenError::new(path.display(), &why))?;
    Ok(text)
}

/// Why there was no listening.
#[derive(Debug)]
struct ListenError {
    what: String,
    why: String,
}

impl ListenError {
    fn new(what: impl fmt::Display, why: &io::Error) -> Self {
        Self { what: what.to_string(), why: why.to_string() }
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}
