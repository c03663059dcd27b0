//! The stage: what a peer is asked to play, and the processes that play it, with their processor time and memory.

use std::{
    collections::HashMap,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use holdmusic_bench::{bare::destination, engine::Engine, probe::now_ns};
use rustix::thread::ClockId;

/// What legs hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sound {
    /// Opus in frames of 20 ms.
    Opus,
    /// G.711 µ-law in packets of 20 ms.
    Pcmu,
}

impl Sound {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Opus => "Opus",
            Self::Pcmu => "PCMU",
        }
    }

    pub(crate) fn payload_type(self) -> u8 {
        match self {
            Self::Opus => 111,
            Self::Pcmu => 0,
        }
    }

    /// Timestamp units of a second: RFC 7587, RFC 3551.
    pub(crate) fn clock_rate(self) -> u64 {
        match self {
            Self::Opus => 48_000,
            Self::Pcmu => 8_000,
        }
    }
}

/// What a peer is to do.
pub(crate) struct Job<'a> {
    pub(crate) sound: Sound,
    pub(crate) legs: u32,
    /// Where all legs hear, each at an address of its own.
    pub(crate) port: u16,
    /// Whether memory is read half-way, too.
    pub(crate) weigh: bool,
    /// Where the peer runs.
    pub(crate) core: usize,
    /// A WAV in a directory of its own.
    pub(crate) prompt: &'a Path,
}

impl Job<'_> {
    /// Where a leg hears.
    pub(crate) fn destination(&self, leg: u32) -> SocketAddr {
        destination(leg, self.port)
    }

    /// Waits before a leg is asked for, so that it is asked of a peer that does nothing but send; of thousands there is
    /// no time for that.
    pub(crate) fn pause(&self) {
        if self.legs <= FEW {
            thread::sleep(PAUSE);
        }
    }

    /// Waits after the first leg: who encodes once for all has encoded the prompt to its end then.
    pub(crate) fn warm(&self, leg: u32) {
        if leg == 0 {
            thread::sleep(WARM);
        }
    }

    /// A command that runs on the core of the job, and is given nothing to read.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", &self.core.to_string()]).arg(program);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

/// So many legs are asked for one at a time.
pub(crate) const FEW: u32 = 100;

/// So long before each of them: what the one before was still owed, a notification for example, is done by then.
const PAUSE: Duration = Duration::from_millis(20);

/// So long after the first leg: encoding 30 s of sound takes a third of this.
const WARM: Duration = Duration::from_secs(1);

/// Who can play.
pub(crate) trait Peer {
    /// Its name, with its version if there are several.
    fn name(&self) -> String;

    /// Plays to every leg of `job`.
    fn begin(&self, job: &Job<'_>) -> io::Result<Playing>;
}

/// Processes that end with this value.
#[derive(Default)]
pub(crate) struct Children(pub(crate) Vec<Child>);

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
        }
        for child in &mut self.0 {
            let _ = child.wait();
        }
    }
}

/// What runs.
pub(crate) enum Kept {
    /// Our engine.
    Engine(Engine),
    /// Somebody else's.
    Children(Children),
}

impl Kept {
    fn processes(&self) -> Vec<u32> {
        match self {
            Self::Engine(engine) => vec![engine.id()],
            Self::Children(children) => children.0.iter().map(Child::id).collect(),
        }
    }

    /// Resident memory of all processes together, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let kib = |process| {
            let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        self.processes().into_iter().filter_map(kib).sum::<u64>() * 1024
    }

    /// Nanoseconds on a processor so far, of each thread (proc(5), schedstat): the ticks of `stat` are too coarse for
    /// some seconds of few legs.
    pub(crate) fn cpu_ns(&self) -> HashMap<PathBuf, u64> {
        let tasks = |process| fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
        let threads = self.processes().into_iter().flat_map(tasks).map(|task| task.path());
        let used = |thread: &PathBuf| {
            let text = fs::read_to_string(thread.join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse().ok()
        };
        threads.filter_map(|thread| used(&thread).map(|ns| (thread, ns))).collect()
    }
}

/// A peer that plays.
pub(crate) struct Playing {
    pub(crate) kept: Kept,
    /// When each leg was asked for, in nanoseconds since 1970.
    pub(crate) asked_ns: Vec<u64>,
    /// Resident memory when half of the legs played, where legs begin one after the other.
    pub(crate) half: Option<(u32, u64)>,
}

impl Playing {
    /// `leg` is asked to begin one leg after the other; it returns when it was asked.
    pub(crate) fn one_by_one(
        mut kept: Kept,
        job: &Job<'_>,
        mut leg: impl FnMut(&mut Kept, u32) -> io::Result<u64>,
    ) -> io::Result<Self> {
        let (mut asked_ns, mut half) = (Vec::new(), None);
        for number in 0..job.legs {
            asked_ns.push(leg(&mut kept, number)?);
            if job.weigh && number + 1 == job.legs / 2 {
                thread::sleep(SETTLE);
                half = Some((number + 1, kept.resident_bytes()));
            }
        }
        Ok(Self { kept, asked_ns, half })
    }

    /// All legs were asked for at once.
    pub(crate) fn at_once(kept: Kept, legs: u32, asked_ns: u64) -> Self {
        Self { kept, asked_ns: vec![asked_ns; legs as usize], half: None }
    }
}

/// After legs have begun, so long until memory is read or a window opens: longer than peers burst at their beginning.
pub(crate) const SETTLE: Duration = Duration::from_secs(1);

/// The moment, in nanoseconds since 1970, as the kernel stamps packets.
pub(crate) fn moment_ns() -> u64 {
    now_ns(ClockId::Realtime)
}
