//! The floor under a retry budget: so many retries a second are allowed over all workers, however few the requests are.
//!
//! A token bucket in one atomic, shared by all workers, touched only when a worker's own part of the budget is used up.
//! Time is an argument.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::{io::alarm::Millis, limits::RETRY_WINDOW};

/// Tokens that come at a steady rate; what a window's time brings can be saved up.
#[derive(Debug, Default)]
pub struct Floor {
    /// When the bucket will be full again, in microseconds. That is in the past while it is.
    full_at: AtomicU64,
}

impl Floor {
    /// Takes a token of a bucket that gets `per_second`, 0 to 1 000 000. False when there is none.
    pub fn take(&self, per_second: u32, now: Millis) -> bool {
        let Some(interval) = 1_000_000_u64.checked_div(u64::from(per_second)) else { return false };
        let now = now.saturating_mul(1000);
        let latest = now.saturating_add(micros(RETRY_WINDOW));
        let taken = self.full_at.fetch_update(Relaxed, Relaxed, |full_at| {
            Some(full_at.max(now).saturating_add(interval)).filter(|next| *next <= latest)
        });
        taken.is_ok()
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_saved_up_is_there_at_once_and_then_the_rate_counts() {
        let floor = Floor::default();
        assert_eq!((0..100).filter(|_| floor.take(3, 50_000)).count(), 30);
        assert_eq!((0..100).filter(|_| floor.take(3, 51_000)).count(), 3);
        assert!(!floor.take(0, 99_000));
    }

    proptest! {
        #[test]
        fn no_window_has_more_than_its_time_brings(
            per_second in 1u32..50,
            steps in prop::collection::vec(0u64..400, 1..300),
        ) {
            let floor = Floor::default();
            let (mut now, mut taken) = (1_000_000, Vec::new());
            for step in steps {
                now += step;
                if floor.take(per_second, now) {
                    taken.push(now);
                }
                let window = RETRY_WINDOW.as_millis() as u64;
                for length in [1_000, window, 2 * window] {
                    let inside = taken.iter().filter(|at| **at + length > now).count() as u64;
                    prop_assert!(inside <= u64::from(per_second) * (length + window) / 1000 + 1);
                }
            }
        }
    }
}
