//! Time as media counts it: [`MediaTime`] in nanoseconds, [`Tick`] in frames. Both are always arguments.

use std::{
    fmt,
    num::NonZeroU64,
    ops::{Add, Sub},
    time::Duration,
};

use holdmusic_codecs::{Codec, FRAME_MS};

/// Nanoseconds in one tick.
pub const TICK_NS: u64 = FRAME_MS as u64 * 1_000_000;

/// A moment on the monotonic clock, in nanoseconds since an origin that the owner of the clock chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaTime(NonZeroU64);

impl MediaTime {
    /// The origin.
    pub const ZERO: Self = Self::from_nanos(0);
    /// Later than everything that will be.
    pub const NEVER: Self = Self::from_nanos(u64::MAX);

    /// The moment `nanos` after the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        // One is added, so that an `Option` takes no more room: a held participant has a dozen of them.
        Self(NonZeroU64::MIN.saturating_add(nanos))
    }

    /// The moment `millis` after the origin.
    pub const fn from_millis(millis: u64) -> Self {
        Self::from_nanos(millis * 1_000_000)
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0.get() - 1
    }

    /// How long it is since `earlier`; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }
}

impl Default for MediaTime {
    fn default() -> Self {
        Self::ZERO
    }
}

impl Add<Duration> for MediaTime {
    type Output = Self;

    /// Saturates at [`MediaTime::NEVER`], five centuries after the origin.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for MediaTime {
    type Output = Self;

    /// Saturates at the origin.
    fn sub(self, duration: Duration) -> Self {
        let duration = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self::from_nanos(self.as_nanos().saturating_sub(duration))
    }
}

/// A place on a grid of frames: the n-th 20 ms since the clock's origin, and on a leg whose frames are short the n-th
/// 10 ms ([`Grid`]). Sequence, timestamp and deadline of a packet are computed from it, never accumulated, so nothing
/// drifts and any moment can be made again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u64);

impl Tick {
    /// The tick in which `now` lies.
    pub const fn at(now: MediaTime) -> Self {
        Self(now.as_nanos() / TICK_NS)
    }

    /// When the tick begins.
    pub const fn start(self) -> MediaTime {
        MediaTime::from_nanos(self.0 * TICK_NS)
    }

    /// The next one.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The ticks of a leg, which last as long as the frames of its codec. Wherever nothing is said of a leg, ticks are those
/// of [`Grid::USUAL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    tick_ns: u64,
}

impl Grid {
    /// That of 20 ms.
    pub const USUAL: Self = Self { tick_ns: TICK_NS };

    /// That of a leg with this codec.
    pub fn of(codec: Codec) -> Self {
        Self { tick_ns: u64::from(codec.frame_ms()) * 1_000_000 }
    }

    /// Nanoseconds in one of its ticks.
    pub const fn tick_ns(self) -> u64 {
        self.tick_ns
    }

    /// The tick in which `now` lies.
    pub const fn tick_at(self, now: MediaTime) -> Tick {
        Tick(now.as_nanos() / self.tick_ns)
    }

    /// When a tick begins.
    pub const fn start(self, tick: Tick) -> MediaTime {
        MediaTime::from_nanos(tick.0 * self.tick_ns)
    }

    /// How many ticks of `to` are as long as so many of these, rounded down. Ticks wrap round, and so may these.
    pub const fn convert(self, ticks: u64, to: Self) -> u64 {
        let ticks = ticks.cast_signed().wrapping_mul(self.tick_ns.cast_signed() / 1_000_000);
        ticks.div_euclid(to.tick_ns.cast_signed() / 1_000_000).cast_unsigned()
    }
}

/// A moment on the calendar, in microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(pub i64);

/// Seconds between the NTP era (1900) and the Unix epoch (1970), RFC 5905 section 6: 70 years with 17 leap days.
const NTP_OFFSET_S: u64 = 2_208_988_800;

impl WallTime {
    /// The 64-bit NTP timestamp of RTCP (RFC 3550 section 4): seconds since 1900 in the upper half, fractions of
    /// 2^-32 s in the lower.
    pub fn ntp(self) -> u64 {
        let micros = u64::try_from(self.0).unwrap_or(0);
        let seconds = micros / 1_000_000 + NTP_OFFSET_S;
        let fraction = ((micros % 1_000_000) << 32) / 1_000_000;
        (seconds << 32) | fraction
    }
}

/// The same moment on both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// On the monotonic clock: for every interval and deadline.
    pub mono: MediaTime,
    /// On the calendar: for what people and peers read.
    pub wall: WallTime,
}

impl Now {
    /// What the calendar says (or said, or will say) at the monotonic moment `then`, as far as is known now.
    pub fn wall_at(self, then: MediaTime) -> WallTime {
        let shift_ns = i128::from(then.as_nanos()) - i128::from(self.mono.as_nanos());
        WallTime(self.wall.0 + i64::try_from(shift_ns / 1000).unwrap_or(0))
    }

    /// The monotonic moment at which the calendar shows `wall`, clipped to the clock's range.
    pub fn mono_at(self, wall: WallTime) -> MediaTime {
        let shift_ns = (i128::from(wall.0) - i128::from(self.wall.0)) * 1000;
        let nanos = i128::from(self.mono.as_nanos()) + shift_ns;
        MediaTime::from_nanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
    }
}

/// Rate of an RTP clock in Hz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockRate(pub u32);

impl ClockRate {
    /// RTP timestamp units that pass in `duration`, whole ones, modulo 2^32 as timestamps are.
    #[expect(clippy::cast_possible_truncation, reason = "RTP timestamps wrap at 2^32, RFC 3550 section 5.1")]
    pub fn units(self, duration: Duration) -> u32 {
        (duration.as_nanos() * u128::from(self.0) / 1_000_000_000) as u32
    }
}

impl fmt::Display for ClockRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} Hz", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ntp_time_of_a_known_moment() {
        // 2000-01-01T00:00:00.5Z: NTP seconds 3_155_673_600 (RFC 5905 figure 4), half a second = 2^31.
        let then = WallTime(946_684_800_500_000);
        assert_eq!(then.ntp(), (3_155_673_600 << 32) | (1 << 31));
    }

    #[test]
    fn twenty_milliseconds_are_960_units_of_the_opus_clock() {
        assert_eq!(ClockRate(48_000).units(Duration::from_nanos(TICK_NS)), 960);
    }

    #[test]
    fn ticks_are_as_long_as_the_frames_of_a_codec() {
        let short = Grid::of(Codec::PcmaShort);
        assert_eq!((Grid::of(Codec::Pcma), short.tick_ns()), (Grid::USUAL, 10_000_000));
        let now = MediaTime::from_millis(35);
        assert_eq!((Grid::USUAL.tick_at(now), short.tick_at(now)), (Tick::at(now), Tick(3)));
        assert_eq!(short.start(Tick(3)), MediaTime::from_millis(30));
        // Also before the origin.
        let before = |ticks: u64| ticks.wrapping_neg();
        assert_eq!((Grid::USUAL.convert(7, short), Grid::USUAL.convert(before(7), short)), (14, before(14)));
        assert_eq!((short.convert(7, Grid::USUAL), short.convert(before(7), Grid::USUAL)), (3, before(4)));
    }

    #[test]
    fn wall_and_monotonic_moments_convert_both_ways() {
        let now = Now { mono: MediaTime::from_millis(5_000), wall: WallTime(1_000_000_000) };
        let then = MediaTime::from_millis(4_980);
        assert_eq!(now.wall_at(then), WallTime(999_980_000));
        assert_eq!(now.mono_at(WallTime(999_980_000)), then);
        assert_eq!(now.mono_at(WallTime(0)), MediaTime::ZERO);
    }
}
