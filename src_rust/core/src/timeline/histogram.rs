//! How durations are distributed, in a fixed amount of memory.

/// Counts by power of two.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: [u64; 64],
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; 64], total: 0 }
    }
}

impl Histogram {
    /// Counts a duration in nanoseconds.
    #[inline]
    pub fn add(&mut self, nanos: u64) {
        self.counts[(63 - (nanos | 1).leading_zeros()) as usize] += 1;
        self.total += 1;
    }

    /// How many there were.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// A duration that at least half of them do not exceed, at most twice the true median; 0 if there were none.
    pub fn median(&self) -> u64 {
        let mut seen = 0;
        for (power, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen * 2 >= self.total && self.total > 0 {
                return if power >= 63 { u64::MAX } else { (2u64 << power) - 1 };
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_median_is_right_up_to_a_factor_of_two(mut values in prop::collection::vec(0u64..1 << 40, 1..100)) {
            let mut histogram = Histogram::default();
            values.iter().for_each(|&value| histogram.add(value));
            values.sort_unstable();
            let median = values[(values.len() - 1) / 2];
            prop_assert!(histogram.median() >= median);
            prop_assert!(histogram.median() <= 2 * median.max(1));
        }
    }
}
