//! When exchanges are meant to begin: at a fixed rate, whatever becomes of those before them. Pure.
//!
//! Latency counted from these times has no coordinated omission: a proxy that stops makes all that should have begun
//! meanwhile late, and not only the few that wait for it.

use std::time::{Duration, Instant};

pub struct Pace {
    begun: Instant,
    per_second: u64,
    next: u64,
    total: u64,
}

impl Pace {
    pub fn new(begun: Instant, per_second: u64, duration: Duration) -> Self {
        let total = duration.as_nanos() * u128::from(per_second) / 1_000_000_000;
        Self { begun, per_second, next: 0, total: u64::try_from(total).unwrap_or(u64::MAX) }
    }

    /// When the next one is meant to begin, `None` after the last.
    pub fn next(&self) -> Option<Instant> {
        let after = u128::from(self.next) * 1_000_000_000 / u128::from(self.per_second);
        let after = Duration::from_nanos(u64::try_from(after).unwrap_or(u64::MAX));
        (self.next < self.total).then(|| self.begun + after)
    }

    /// Takes the next one if its time has come; returns when that was.
    pub fn take(&mut self, now: Instant) -> Option<Instant> {
        let intended = self.next().filter(|intended| *intended <= now)?;
        self.next += 1;
        Some(intended)
    }

    /// How many were not begun.
    pub fn left(&self) -> u64 {
        self.total - self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_is_early_and_none_is_forgotten() {
        let begun = Instant::now();
        let mut pace = Pace::new(begun, 20_000, Duration::from_millis(10));
        assert_eq!(pace.take(begun), Some(begun));
        assert_eq!(pace.take(begun), None);
        // The taker was away for 5 ms: all that fell due meanwhile keep their own times.
        let late: Vec<_> = std::iter::from_fn(|| pace.take(begun + Duration::from_millis(5))).collect();
        assert_eq!(late.len(), 100);
        assert_eq!(late[0], begun + Duration::from_micros(50));
        assert_eq!(late[99], begun + Duration::from_millis(5));
        assert_eq!(pace.left(), 99);
        assert_eq!(std::iter::from_fn(|| pace.take(begun + Duration::from_secs(1))).count(), 99);
        assert_eq!((pace.next(), pace.left()), (None, 0));
    }

    #[test]
    fn odd_rates_do_not_drift() {
        let begun = Instant::now();
        let mut pace = Pace::new(begun, 7, Duration::from_secs(3));
        let last = std::iter::from_fn(|| pace.take(begun + Duration::from_secs(3))).last();
        assert_eq!(last, Some(begun + Duration::from_nanos(20 * 1_000_000_000 / 7)));
    }
}
