//! A histogram of durations: fixed memory, an error below 1 %, no work worth mentioning per entry. Pure.

use std::time::Duration;

/// Buckets in each doubling of the value.
const FINE: u64 = 64;
const BUCKETS: usize = 64 * FINE as usize;

pub struct Latency {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Latency {
    pub fn new() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, max: 0 }
    }

    pub fn record(&mut self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanoseconds)] += 1;
        self.total += 1;
        self.max = self.max.max(nanoseconds);
    }

    /// In microseconds; 0 when nothing was recorded.
    pub fn percentile_us(&self, percent: f64) -> f64 {
        let rank = (self.total as f64 * percent / 100.0).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank.max(1) {
                return middle(index).min(self.max) as f64 / 1e3;
            }
        }
        0.0
    }

    pub fn max_us(&self) -> f64 {
        self.max as f64 / 1e3
    }
}

/// Below two times `FINE` a bucket is one nanosecond wide; above, the seven highest bits of the value choose it.
fn bucket(value: u64) -> usize {
    let shift = value.checked_ilog2().unwrap_or(0).saturating_sub(FINE.ilog2());
    (u64::from(shift) * FINE + (value >> shift)) as usize
}

fn middle(index: usize) -> u64 {
    let index = index as u64;
    let shift = (index / FINE).saturating_sub(1);
    let start = (index - shift * FINE) << shift;
    start + (1 << shift) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_close_to_the_middle_of_its_bucket() {
        for value in (0..63).flat_map(|bit| [1 << bit, (1 << bit) + 1, (1_u64 << bit) * 2 - 1]) {
            let near = middle(bucket(value));
            assert!(near.abs_diff(value) * 100 <= value.max(100), "{value} became {near}");
        }
        assert!(bucket(u64::MAX) < BUCKETS);
        assert_eq!(bucket(0), 0);
    }

    #[test]
    fn percentiles_follow_the_ranks() {
        let mut latency = Latency::new();
        assert_eq!(latency.percentile_us(50.0).to_bits(), 0);
        (1..=1000).for_each(|number| latency.record(Duration::from_micros(number)));
        assert!((latency.percentile_us(50.0) - 500.0).abs() < 5.0);
        assert!((latency.percentile_us(99.0) - 990.0).abs() < 10.0);
        assert!((latency.max_us() - 1000.0).abs() < 0.001);
    }
}
