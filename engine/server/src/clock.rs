//! The only place that asks what time it is, and the only one that sleeps.

use std::time::{Duration, Instant};

use holdmusic_media::{MediaTime, Now, WallTime};
use rustix::{thread::ClockId, time::clock_gettime};

/// The moment on both clocks.
pub fn now() -> Now {
    let wall = clock_gettime(ClockId::Realtime);
    Now { mono: mono(), wall: WallTime(wall.tv_sec * 1_000_000 + wall.tv_nsec / 1000) }
}

/// The moment on the monotonic clock; its origin is the kernel's.
pub fn mono() -> MediaTime {
    let time = clock_gettime(ClockId::Monotonic);
    let nanos = time.tv_sec * 1_000_000_000 + time.tv_nsec;
    MediaTime::from_nanos(u64::try_from(nanos).expect("the monotonic clock counts upwards from 0"))
}

/// The present moment on both monotonic clocks: the standard library does not say what its own counts from.
#[expect(clippy::disallowed_methods, reason = "the clock is read here and nowhere else")]
pub fn instant() -> (MediaTime, Instant) {
    (mono(), Instant::now())
}

/// The boot of this machine, of which [`mono`] counts: whatever the kernel says, the same until the next one.
pub fn boot() -> u128 {
    let said = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    said.bytes()
        .filter_map(|byte| char::from(byte).to_digit(16))
        .fold(0, |boot, digit| boot << 4 | u128::from(digit))
}

/// How long this thread has worked so far: what others did meanwhile does not count.
pub fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Sleeps for `pause`, unless somebody wakes this thread (`Thread::unpark`), or has since it slept last. On Linux that is
/// a futex with a deadline on the monotonic clock, as exact as `clock_nanosleep`.
pub fn park(pause: Duration) {
    std::thread::park_timeout(pause);
}
