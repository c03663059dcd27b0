//! [`Spacing`]: how far apart packets arrived, as percentiles and as a line over time, in bounded memory.

use std::time::Duration;

use crate::time::{MediaTime, TICK_NS};

/// Errors up to this many nanoseconds are told apart by their exact microsecond.
const FINE_US: u64 = 64;

/// Buckets per doubling above that: neighbours differ by 1/32, so a percentile is at most 3 % too high.
const BUCKETS_PER_DOUBLING: u64 = 32;

/// 64 exact buckets, then 32 for each of the doublings from 2^6 to 2^36 µs (19 hours).
const BUCKETS: usize = (FINE_US + 30 * BUCKETS_PER_DOUBLING) as usize;

/// How finely the line over time is kept: more columns than a picture has pixels.
const MAX_COLUMNS: usize = 2048;

/// Counts how far arrivals were from where they should have been.
#[derive(Clone, Debug)]
pub(super) struct Spread {
    counts: Vec<u64>,
    total: u64,
    longest: Duration,
}

impl Spread {
    pub(super) fn new() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, longest: Duration::ZERO }
    }

    pub(super) fn add(&mut self, error: Duration) {
        self.counts[bucket(u64::try_from(error.as_micros()).unwrap_or(u64::MAX))] += 1;
        self.total += 1;
        self.longest = self.longest.max(error);
    }

    /// The error that `percent` of all arrivals did not exceed.
    fn percentile(&self, percent: u64) -> Duration {
        let rank = (self.total * percent).div_ceil(100).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_micros(highest_in(index as u64)).min(self.longest);
            }
        }
        self.longest
    }

    pub(super) fn percentiles(&self) -> Spacing {
        Spacing { median: self.percentile(50), p99: self.percentile(99), longest: self.longest }
    }
}

fn bucket(us: u64) -> usize {
    let index = if us < FINE_US {
        us
    } else {
        let doubling = u64::from(us.ilog2() - FINE_US.ilog2());
        // The five bits below the leading one.
        let within = (us >> (doubling + 1)) - BUCKETS_PER_DOUBLING;
        FINE_US + doubling * BUCKETS_PER_DOUBLING + within
    };
    usize::try_from(index).map_or(BUCKETS - 1, |index| index.min(BUCKETS - 1))
}

/// The largest number of microseconds that falls into a bucket.
fn highest_in(index: u64) -> u64 {
    if index < FINE_US {
        return index;
    }
    let doubling = (index - FINE_US) / BUCKETS_PER_DOUBLING;
    let within = (index - FINE_US) % BUCKETS_PER_DOUBLING;
    ((BUCKETS_PER_DOUBLING + within + 1) << (doubling + 1)) - 1
}

/// By how much the time between two arrivals differed from the packet interval. The first packet after a pause
/// that the sender announced with a marker does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spacing {
    /// Half of the arrivals were nearer than this.
    pub median: Duration,
    /// 99 of 100 arrivals were nearer than this.
    pub p99: Duration,
    /// The worst one.
    pub longest: Duration,
}

/// The times between arrivals within one stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpacingColumn {
    /// When the stretch begins.
    pub from: MediaTime,
    /// How long the stretch is, the same for all columns.
    pub width: Duration,
    /// The shortest time between two packets, of which the second arrived here.
    pub shortest: Duration,
    /// The longest such time.
    pub longest: Duration,
}

/// Spacing over time: columns that become twice as wide whenever they would become too many.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    origin: MediaTime,
    width: Duration,
    columns: Vec<Option<(Duration, Duration)>>,
}

impl Timeline {
    /// Begins with one column per 20 ms tick.
    pub(super) fn starting_at(origin: MediaTime) -> Self {
        Self { origin, width: Duration::from_nanos(TICK_NS), columns: Vec::new() }
    }

    pub(super) fn add(&mut self, arrived: MediaTime, spacing: Duration) {
        let nanos = arrived.since(self.origin).as_nanos();
        while nanos / self.width.as_nanos() >= MAX_COLUMNS as u128 {
            self.halve();
        }
        // Fits: it is below MAX_COLUMNS.
        let index = (nanos / self.width.as_nanos()) as usize;
        if self.columns.len() <= index {
            self.columns.resize(index + 1, None);
        }
        self.columns[index] = merge(self.columns[index], Some((spacing, spacing)));
    }

    fn halve(&mut self) {
        self.columns = self.columns.chunks(2).map(|pair| pair.iter().copied().fold(None, merge)).collect();
        self.width *= 2;
    }

    pub(super) fn columns(&self) -> Vec<SpacingColumn> {
        let mut from = self.origin;
        let mut filled = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            if let Some((shortest, longest)) = *column {
                filled.push(SpacingColumn { from, width: self.width, shortest, longest });
            }
            from = from + self.width;
        }
        filled
    }
}

fn merge(
    one: Option<(Duration, Duration)>,
    other: Option<(Duration, Duration)>,
) -> Option<(Duration, Duration)> {
    match (one, other) {
        (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_bucket_is_never_more_than_one_part_in_32_too_high(us in 0u64..1 << 36) {
            let highest = highest_in(bucket(us) as u64);
            prop_assert!(highest >= us && highest <= us + us / 32 + 1, "{us} µs is said to be {highest} µs");
        }
    }

    #[test]
    fn percentiles_of_a_known_spread() {
        let mut spread = Spread::new();
        (1..=100).for_each(|us| spread.add(Duration::from_micros(us)));
        let spacing = spread.percentiles();
        assert_eq!(spacing.median, Duration::from_micros(50));
        assert!(spacing.p99 >= Duration::from_micros(99) && spacing.p99 <= Duration::from_micros(100));
        assert_eq!(spacing.longest, Duration::from_micros(100));
    }

    #[test]
    fn a_day_of_arrivals_fits_into_the_columns_and_the_worst_one_stays_visible() {
        let mut timeline = Timeline::starting_at(MediaTime::ZERO);
        let usual = Duration::from_millis(20);
        for second in 0..86_400 {
            let spacing = if second == 40_000 { Duration::from_millis(777) } else { usual };
            timeline.add(MediaTime::from_millis(second * 1000), spacing);
        }
        let columns = timeline.columns();
        assert!(columns.len() <= MAX_COLUMNS);
        let worst = columns.iter().max_by_key(|column| column.longest).unwrap();
        assert_eq!((worst.shortest, worst.longest), (usual, Duration::from_millis(777)));
        let hit = MediaTime::from_millis(40_000_000);
        assert!(worst.from <= hit && hit < worst.from + worst.width);
    }
}
