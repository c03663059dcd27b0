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
                go_ahead(50);
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

/// How late each wake-up was, in milliseconds.
pub fn late_ms(wakes: &[Wake]) -> Vec<f64> {
    wakes.iter().map(|wake| wake.late_ns as f64 / 1e6).collect()
}

/// A probe later than this shows that the machine itself stood still: 5 ms.
const MUCH_NS: u64 = 5_000_000;

/// So long before and after such a wake-up nothing is to be said of anybody else.
const BESIDE_NS: u64 = 50_000_000;

/// Windows in which the machine stood still, from and to, in nanoseconds since 1970; they do not overlap.
#[derive(Clone, Debug, Default)]
pub struct Excluded(Vec<(u64, u64)>);

impl Excluded {
    /// The windows that a probe shows.
    pub fn of(wakes: &[Wake]) -> Self {
        let mut windows: Vec<(u64, u64)> = Vec::new();
        for wake in wakes.iter().filter(|wake| wake.late_ns > MUCH_NS) {
            let (from, to) = (wake.due_ns - BESIDE_NS, wake.due_ns + wake.late_ns + BESIDE_NS);
            match windows.last_mut().filter(|last| last.1 >= from) {
                Some(last) => last.1 = to,
                None => windows.push((from, to)),
            }
        }
        Self(windows)
    }

    /// Whether the moment `at_ns` lies in one.
    pub fn contains(&self, at_ns: u64) -> bool {
        let next = self.0.partition_point(|window| window.1 < at_ns);
        self.0.get(next).is_some_and(|window| window.0 <= at_ns)
    }

    /// Whether a part of the time between two moments lies in one.
    pub fn touches(&self, from_ns: u64, to_ns: u64) -> bool {
        let next = self.0.partition_point(|window| window.1 < from_ns);
        self.0.get(next).is_some_and(|window| window.0 <= to_ns)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How long they are in all.
    pub fn seconds(&self) -> f64 {
        self.0.iter().map(|window| window.1 - window.0).sum::<u64>() as f64 / 1e9
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

/// Gives the calling thread real-time priority, 1 to 99, where that is allowed; elsewhere it stays as it is.
pub fn go_ahead(priority: u8) {
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    let _ = Command::new("chrt").args(["--fifo", "--pid", &priority.to_string(), &thread]).output();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_lies_around_late_wakes_and_windows_that_touch_are_one() {
        let wake =
            |due_ms: u64, late_ms: u64| Wake { due_ns: due_ms * 1_000_000, late_ns: late_ms * 1_000_000 };
        let excluded = Excluded::of(&[wake(100, 4), wake(1000, 6), wake(1090, 10), wake(5000, 20)]);
        assert_eq!((excluded.len(), excluded.is_empty()), (2, false));
        for (at_ms, expected) in
            [(100, false), (949, false), (950, true), (1150, true), (1151, false), (5070, true)]
        {
            assert_eq!(excluded.contains(at_ms * 1_000_000), expected, "at {at_ms} ms");
        }
        assert!(excluded.touches(900_000_000, 960_000_000) && excluded.touches(0, 9_000_000_000));
        assert!(!excluded.touches(1_200_000_000, 4_900_000_000));
        assert!((excluded.seconds() - 0.32).abs() < 1e-9);
    }
}
