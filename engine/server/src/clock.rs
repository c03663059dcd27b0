//! The only place that asks what time it is, and the only one that sleeps.

use std::time::Duration;

use holdmusic_media::{MediaTime, Now, WallTime};
use rustix::{
    io::Errno,
    thread::{ClockId, clock_nanosleep_absolute},
    time::{Timespec, clock_gettime},
};

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

/// How long this thread has worked so far: what others did meanwhile does not count.
pub fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Sleeps until `deadline`: absolute, so that nothing adds up.
pub fn sleep_until(deadline: MediaTime) {
    let nanos = i64::try_from(deadline.as_nanos()).unwrap_or(i64::MAX);
    let request = Timespec { tv_sec: nanos / 1_000_000_000, tv_nsec: nanos % 1_000_000_000 };
    while clock_nanosleep_absolute(ClockId::Monotonic, &request) == Err(Errno::INTR) {}
}
