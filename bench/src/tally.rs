//! A tally: how often each length of time came, in memory that does not grow with the run.

/// Nanoseconds between two counts: finer than what a timer is late by.
const STEP_NS: u64 = 20_000;

/// Counts up to 100 ms; what is longer is counted with the last, and the longest is kept as it is.
const STEPS: usize = 5_000;

/// Lengths of time.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Grows up to [`STEPS`], as far as it must.
    counts: Vec<u32>,
    total: u64,
    longest_ns: u64,
}

impl Tally {
    /// One more.
    pub fn add(&mut self, length_ns: u64) {
        let place = usize::try_from(length_ns / STEP_NS).unwrap_or(STEPS).min(STEPS - 1);
        if self.counts.len() <= place {
            self.counts.resize(place + 1, 0);
        }
        self.counts[place] = self.counts[place].saturating_add(1);
        self.total += 1;
        self.longest_ns = self.longest_ns.max(length_ns);
    }

    /// All of another tally.
    pub fn merge(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count = count.saturating_add(*more);
        }
        self.total += other.total;
        self.longest_ns = self.longest_ns.max(other.longest_ns);
    }

    /// How many.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The length in milliseconds that `share` of all are not above, to the next 20 µs; 0 if there are none.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let rank = ((share * self.total as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (place, count) in (1..).zip(&self.counts) {
            seen += u64::from(*count);
            if seen >= rank {
                return (place * STEP_NS).min(self.longest_ns) as f64 / 1e6;
            }
        }
        0.0
    }

    /// The longest, in milliseconds.
    pub fn longest_ms(&self) -> f64 {
        self.longest_ns as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_values_to_a_step_and_the_longest_is_exact() {
        let (mut tally, mut other) = (Tally::default(), Tally::default());
        (1..=999).for_each(|number| tally.add(number * 10_000));
        other.add(700_000_123);
        tally.merge(&other);
        assert_eq!(tally.total(), 1000);
        assert!((tally.quantile_ms(0.5) - 5.0).abs() <= 0.021, "{}", tally.quantile_ms(0.5));
        assert!((tally.quantile_ms(0.999) - 9.99).abs() <= 0.021, "{}", tally.quantile_ms(0.999));
        assert!((tally.longest_ms() - 700.000_123).abs() < 1e-9);
        assert_eq!(Tally::default().quantile_ms(0.9), 0.0);
    }
}
