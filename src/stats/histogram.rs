//! Latency histogram: logarithmic buckets with eight linear steps each, so a quantile is at most 12.5 % off.
//!
//! A fixed array of single-writer cells: recording is one shift and one add.

use super::cell::Counter;

/// Linear steps per power of two.
const STEPS: u64 = 8;
/// Powers of two covered: up to 2^35 µs, more than nine hours; longer counts as that.
const POWERS: usize = 33;
/// Number of buckets.
pub const BUCKETS: usize = POWERS * STEPS as usize;

/// Microseconds from 0 to about 2^35.
#[derive(Debug)]
pub struct Histogram {
    buckets: [Counter; BUCKETS],
    sum: Counter,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { buckets: [const { Counter::new() }; BUCKETS], sum: Counter::new() }
    }
}

/// The bucket of a value: identity below 8, then eight steps per power of two.
fn bucket(micros: u64) -> usize {
    if micros < STEPS {
        return micros as usize;
    }
    let power = u64::from(63 - micros.leading_zeros()); // at least 3
    let step = (micros >> (power - 3)) & (STEPS - 1);
    (((power - 2) * STEPS + step) as usize).min(BUCKETS - 1)
}

/// The largest value that falls into a bucket.
fn upper_bound(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    let (power, step) = (bucket / STEPS + 2, bucket % STEPS);
    ((STEPS + step + 1) << (power - 3)) - 1
}

impl Histogram {
    /// Counts one duration.
    #[inline]
    pub fn record(&self, micros: u64) {
        if let Some(cell) = self.buckets.get(bucket(micros)) {
            cell.add(1);
        }
        self.sum.add(micros);
    }

    /// A copy to compute with; copies of several workers add up.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { counts: self.buckets.iter().map(Counter::get).collect(), sum: self.sum.get() }
    }
}

/// Counts per bucket at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    counts: Vec<u64>,
    sum: u64,
}

impl Snapshot {
    /// Adds another worker's counts.
    pub fn merge(&mut self, other: &Snapshot) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.sum += other.sum;
    }

    /// How many durations were recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum in microseconds.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The value in microseconds that the share `quantile` (0 to 1) of all recorded ones does not exceed;
    /// 0 when nothing was recorded.
    pub fn quantile(&self, quantile: f64) -> u64 {
        let count = self.count();
        let rank = ((count as f64 * quantile).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0;
        for (index, amount) in self.counts.iter().enumerate() {
            seen += amount;
            if seen >= rank {
                return upper_bound(index);
            }
        }
        0
    }

    /// Cumulative counts at each power of two of microseconds, for exporters: (upper bound, count).
    pub fn cumulative(&self) -> Vec<(u64, u64)> {
        let mut seen = 0;
        let mut out = Vec::new();
        for (index, amount) in self.counts.iter().enumerate() {
            seen += amount;
            if index % STEPS as usize == STEPS as usize - 1 {
                out.push((upper_bound(index), seen));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_value_lies_within_its_bucket(micros in 0u64..1 << 34) {
            let index = bucket(micros);
            prop_assert!(micros <= upper_bound(index));
            prop_assert!(index == 0 || micros > upper_bound(index - 1));
        }

        #[test]
        fn quantiles_are_at_most_an_eighth_too_high(mut values in prop::collection::vec(0u64..1 << 30, 1..200)) {
            let histogram = Histogram::default();
            values.iter().for_each(|value| histogram.record(*value));
            values.sort_unstable();
            for quantile in [0.5, 0.9, 0.99, 1.0] {
                let rank = ((values.len() as f64 * quantile).ceil() as usize).max(1);
                let exact = values[rank - 1];
                let got = histogram.snapshot().quantile(quantile);
                prop_assert!(got >= exact && got <= exact + exact / 8, "{quantile}: {got} for {exact}");
            }
        }
    }

    #[test]
    fn nothing_recorded_is_zero_and_huge_values_stay_in_range() {
        let histogram = Histogram::default();
        assert_eq!(histogram.snapshot().quantile(0.99), 0);
        histogram.record(u64::MAX / 2);
        assert_eq!(histogram.snapshot().count(), 1);
    }

    #[test]
    fn snapshots_of_workers_add_up() {
        let (a, b) = (Histogram::default(), Histogram::default());
        a.record(10);
        b.record(1000);
        let mut total = Snapshot::default();
        total.merge(&a.snapshot());
        total.merge(&b.snapshot());
        assert_eq!((total.count(), total.sum()), (2, 1010));
        assert_eq!(total.cumulative().last().map(|last| last.1), Some(2));
    }
}
