//! rtpengine in user space: a call for each leg, offered and answered over its NG protocol, and then `play media`.

use std::{
    ffi::OsStr,
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    bencode::Value,
    stage::{Children, Job, Kept, Peer, Playing, Sound, moment_ns},
};

/// `rtpengine`.
pub(crate) struct Rtpengine {
    program: PathBuf,
    version: String,
    /// Whether it can encode a file once for all who hear it.
    pub(crate) player_cache: bool,
}

/// Ports for media, below those that the system gives to others; a leg takes four.
const PORTS: (u16, u16) = (16_384, 32_766);

/// Legs that these ports are enough for.
pub(crate) const MOST_LEGS: u32 = ((PORTS.1 - PORTS.0) / 4) as u32 - 100;

/// How often the prompt is repeated: for longer than any run.
const REPEATS: i64 = 100_000;

/// An answer later than this is none, and so often a request is sent, with the same cookie: then it is done only once.
const ANSWER: Duration = Duration::from_millis(200);
const TRIES: u32 = 25;

impl Rtpengine {
    /// Finds `program`, or says what is missing.
    pub(crate) fn find(program: &OsStr) -> Result<Self, String> {
        let missing = |_| format!("{} is not installed (Debian: rtpengine-daemon)", program.display());
        let said = |flag| Command::new(program).arg(flag).stderr(Stdio::piped()).output();
        let version = said("--version").map_err(missing)?;
        let version = [version.stdout, version.stderr].concat();
        let version = String::from_utf8_lossy(&version);
        let version = version.trim().strip_prefix("Version:").unwrap_or(&version).trim().to_owned();
        let help = said("--help").map_err(missing)?;
        let player_cache = String::from_utf8_lossy(&help.stdout).contains("--player-cache");
        Ok(Self { program: program.into(), version, player_cache })
    }

    fn start(&self, job: &Job<'_>) -> io::Result<(Children, Ng)> {
        // A port that is free now: it is given up for rtpengine to take.
        let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut command = job.command(&self.program);
        command
            // No configuration but this; no table of the kernel.
            .args(["--config-file=none", "--foreground", "--table=-1", "--interface=127.0.0.1"])
            .args(["--log-stderr", "--log-level=3"])
            .arg(format!("--listen-ng={free}"))
            .args([format!("--port-min={}", PORTS.0), format!("--port-max={}", PORTS.1)]);
        if self.player_cache {
            command.arg("--player-cache");
        }
        let children = Children(vec![command.spawn()?]);
        let mut ng = Ng::to(free)?;
        ng.ask(&Value::of(&[("command", "ping")]))?;
        Ok((children, ng))
    }
}

impl Peer for Rtpengine {
    fn name(&self) -> String {
        let cache = if self.player_cache { " --player-cache" } else { "" };
        format!("rtpengine {}{cache}", self.version.split(['-', '+']).next().unwrap_or_default())
    }

    fn begin(&self, job: &Job<'_>) -> io::Result<Playing> {
        let (children, mut ng) = self.start(job)?;
        let prompt = job.prompt.to_string_lossy();
        Playing::one_by_one(Kept::Children(children), job, |_, leg| {
            let call = format!("call-{leg}");
            let (offer, answer) =
                (description(job.sound, job.destination(leg)), description(job.sound, SILENT));
            let both = [("call-id", call.as_str()), ("from-tag", "held")];
            let ask = |members: &[(&str, &str)]| Value::of(&[&both, members].concat());
            ng.ask(&ask(&[("command", "offer"), ("sdp", &offer)]))?;
            ng.ask(&ask(&[("command", "answer"), ("to-tag", "holder"), ("sdp", &answer)]))?;
            let mut play = ask(&[("command", "play media"), ("file", &prompt)]);
            if let Value::Dictionary(members) = &mut play {
                members.insert("repeat-times".to_owned(), Value::Integer(REPEATS));
            }
            job.pause();
            let asked_ns = moment_ns();
            ng.ask(&play)?;
            if self.player_cache {
                job.warm(leg);
            }
            Ok(asked_ns)
        })
    }
}

/// Where the other side of each call would hear: nothing is sent there, because the held side sends nothing.
const SILENT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

/// A description of a session with one sound. Both directions are open: rtpengine plays only to who could hear the other
/// side.
fn description(sound: Sound, address: SocketAddr) -> String {
    let (payload_type, ip, port) = (sound.payload_type(), address.ip(), address.port());
    let map = match sound {
        Sound::Opus => "opus/48000/2",
        Sound::Pcmu => "PCMU/8000",
    };
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP {payload_type}\r\n\
         a=rtpmap:{payload_type} {map}\r\na=sendrecv\r\n"
    )
}

/// The NG protocol: a cookie, a blank and a dictionary in a datagram; the answer has the same cookie.
struct Ng {
    socket: UdpSocket,
    asked: u64,
}

impl Ng {
    fn to(address: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(address)?;
        socket.set_read_timeout(Some(ANSWER))?;
        Ok(Self { socket, asked: 0 })
    }

    /// Asks until there is an answer; an error is one.
    fn ask(&mut self, request: &Value) -> io::Result<()> {
        self.asked += 1;
        let cookie = format!("{} ", self.asked);
        let mut datagram = cookie.clone().into_bytes();
        request.write(&mut datagram);
        let mut buffer = vec![0; 65_536];
        for _ in 0..TRIES {
            // Nobody listens at first: that is told here or there.
            let _ = self.socket.send(&datagram);
            match self.socket.recv(&mut buffer) {
                Ok(len) => {
                    let Some(answer) = buffer[..len].strip_prefix(cookie.as_bytes()) else { continue };
                    let answer = Value::read(answer).ok_or_else(|| io::Error::other("no bencode"))?;
                    return match answer.text("result") {
                        Some("ok" | "pong") => Ok(()),
                        _ => {
                            let reason = answer.text("error-reason").unwrap_or("no reason given");
                            let command = request.text("command").unwrap_or_default();
                            Err(io::Error::other(format!("rtpengine to {command}: {reason}")))
                        }
                    };
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    std::thread::sleep(ANSWER);
                }
                Err(_) => {}
            }
        }
        Err(io::Error::other("rtpengine does not answer"))
    }
}
