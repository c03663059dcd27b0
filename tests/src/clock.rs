//! [`SimClock`]: the time of a simulated world. It stands still while things happen and jumps to the next of them.

use holdmusic_media::{MediaTime, Now, WallTime};

/// Both clocks of a world: they show the same moment, as they do on one machine.
#[derive(Clone, Copy, Debug)]
pub struct SimClock {
    mono: MediaTime,
    wall_at_origin: i64,
}

/// 2026-03-01T12:00:00Z in microseconds: any day will do.
const WALL_AT_START: i64 = 1_772_366_400_000_000;

impl SimClock {
    /// A clock that shows `start`, which is some time after a machine was switched on.
    pub fn new(start: MediaTime) -> Self {
        Self { mono: start, wall_at_origin: WALL_AT_START - micros(start) }
    }

    /// The moment on both clocks.
    pub fn now(&self) -> Now {
        Now { mono: self.mono, wall: WallTime(self.wall_at_origin + micros(self.mono)) }
    }

    /// The moment on the monotonic clock.
    pub fn mono(&self) -> MediaTime {
        self.mono
    }

    /// The calendar is set by so many microseconds.
    pub fn step_wall(&mut self, micros: i64) {
        self.wall_at_origin += micros;
    }

    /// Jumps to `then`; a moment that has passed leaves the clock where it is.
    pub fn jump(&mut self, then: MediaTime) {
        self.mono = self.mono.max(then);
    }
}

fn micros(time: MediaTime) -> i64 {
    i64::try_from(time.as_nanos() / 1000).expect("simulated time is short")
}
