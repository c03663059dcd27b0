//! A probe: what the machine itself is late by, measured by a bare `clock_nanosleep` on a core of its own.

use std::{
    num::NonZeroU64,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
};

use rustix::{
    thread::{ClockId, CpuSet, clock_nanosleep_absolute, sched_setaffinity},
    time::{Timespec, clock_gettime},
};

/// One wake-up.
#[derive(Clone, Copy, Debug)]
pub struct Wake {
    /// When it should have been, in nanoseconds since 1970.
    pub due_ns: u64,
    /// How late it was.
    pub late_ns: u64,
}

/// Sleeps a millisecond at a time, absolutely, until it is asked how that went.
pub struct Probe {
    probing: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Wake>>,
}

/// Between two wake-ups.
const STEP_NS: u64 = 1_000_000;

impl Probe {
    /// Starts to probe on `core`, at the usual priority.
    pub fn start(core: usize) -> Self {
        Self::begin(core, false)
    }

    /// Starts to probe on `core` at real-time priority, where that is allowed: nothing that runs there at any other
    /// priority can make it late, so what it is late by, the machine is.
    pub fn start_ahead(core: usize) -> Self {
        Self::begin(core, true)
    }

    fn begin(core: usize, ahead: bool) -> Self {
        let probing = Arc::new(AtomicBool::new(true));
        let on = Arc::clone(&probing);
        let thread = thread::spawn(move || {
            pin(core);
            if ahead {
                let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
                let _ = Command::new("chrt").args(["--fifo", "--pid", "50", &thread]).output();
            }
            let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
            let mut wakes = Vec::with_capacity(120_000);
            let mut due = now_ns(ClockId::Monotonic);
            while on.load(Relaxed) {
                due = (due + STEP_NS).max(now_ns(ClockId::Monotonic));
                sleep_until(due);
                let late_ns = now_ns(ClockId::Monotonic) - due;
                wakes.push(Wake { due_ns: now_ns(ClockId::Realtime) - late_ns, late_ns });
            }
            wakes
        });
        Self { probing, thread }
    }

    /// Stops and gives every wake-up.
    pub fn stop(self) -> Vec<Wake> {
        self.probing.store(false, Relaxed);
        self.thread.join().expect("the probe does not panic")
    }
}

/// The latest wake-up within `window_ns` of the moment `at_ns`, in nanoseconds of lateness.
pub fn worst_near(wakes: &[Wake], at_ns: u64, window_ns: u64) -> u64 {
    let from = wakes.partition_point(|wake| wake.due_ns + window_ns < at_ns);
    let near = wakes[from..].iter().take_while(|wake| wake.due_ns <= at_ns + window_ns);
    near.map(|wake| wake.late_ns).max().unwrap_or(0)
}

/// Keeps the calling thread on `core`; where that is not allowed it stays where it is.
pub fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    let _ = sched_setaffinity(None, &set);
}

/// Nanoseconds on `clock`.
pub fn now_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    (time.tv_sec * 1_000_000_000 + time.tv_nsec).cast_unsigned()
}

/// Sleeps until `due_ns` on the monotonic clock.
pub fn sleep_until(due_ns: u64) {
    let due = due_ns.cast_signed();
    let request = Timespec { tv_sec: due / 1_000_000_000, tv_nsec: due % 1_000_000_000 };
    while clock_nanosleep_absolute(ClockId::Monotonic, &request) == Err(rustix::io::Errno::INTR) {}
}
