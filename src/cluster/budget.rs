//! A worker's part of a retry budget: retries in proportion to its own requests, so that all workers together keep the
//! proportion.
//!
//! Pure: time is an argument. Counts the last [`RETRY_WINDOW`] in slots.

use crate::{io::alarm::Millis, limits::RETRY_WINDOW};

const SLOTS: usize = 10;
const SLOT: Millis = RETRY_WINDOW.as_millis() as Millis / SLOTS as Millis;

/// Requests and retries of the last window.
#[derive(Debug, Default)]
pub struct Budget {
    slots: [Slot; SLOTS],
    /// All slots together.
    sum: Slot,
    /// The number of the current slot since the clock began.
    current: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Slot {
    requests: u32,
    retries: u32,
}

impl Slot {
    fn add(&mut self, other: Slot) {
        self.requests = self.requests.saturating_add(other.requests);
        self.retries = self.retries.saturating_add(other.retries);
    }

    fn take_away(&mut self, other: Slot) {
        self.requests = self.requests.saturating_sub(other.requests);
        self.retries = self.retries.saturating_sub(other.retries);
    }
}

impl Budget {
    /// Counts a request.
    #[inline]
    pub fn request(&mut self, now: Millis) {
        self.advance(now);
        self.count(Slot { requests: 1, retries: 0 });
    }

    /// Counts a retry if it is within `percent` of the requests. False when it is not, and not counted.
    pub fn retry(&mut self, percent: u32, now: Millis) -> bool {
        self.advance(now);
        let allowed = u64::from(self.sum.requests) * u64::from(percent) / 100;
        let granted = u64::from(self.sum.retries) < allowed;
        if granted {
            self.count(Slot { requests: 0, retries: 1 });
        }
        granted
    }

    fn count(&mut self, what: Slot) {
        if let Some(slot) = self.slots.get_mut(place_of(self.current)) {
            slot.add(what);
            self.sum.add(what);
        }
    }

    /// Forgets the slots that are over.
    #[inline]
    fn advance(&mut self, now: Millis) {
        // A clock that seems to go back stays in its slot.
        let number = now / SLOT;
        while self.current < number {
            // After a long silence every slot is over, and each needs to be emptied once only.
            self.current = (self.current + 1).max(number.saturating_sub(SLOTS as u64));
            if let Some(slot) = self.slots.get_mut(place_of(self.current)) {
                let over = std::mem::take(slot);
                self.sum.take_away(over);
            }
        }
    }
}

fn place_of(number: u64) -> usize {
    (number % SLOTS as u64) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_fifth_of_the_last_requests_may_be_repeated() {
        let mut budget = Budget::default();
        assert!(!budget.retry(20, 70_000));
        (0..100).for_each(|_| budget.request(70_000));
        assert_eq!((0..100).filter(|_| budget.retry(20, 71_000)).count(), 20);
        (0..10).for_each(|_| budget.request(75_000));
        assert_eq!((0..100).filter(|_| budget.retry(20, 79_999)).count(), 2);
        // The requests of the first second are forgotten; the retries of the second one are not.
        assert!(!budget.retry(20, 80_000));
        assert_eq!((0..100).filter(|_| budget.retry(20, 84_999)).count(), 0);
        assert!(!budget.retry(20, 900_000));
        assert_eq!((budget.sum.requests, budget.sum.retries), (0, 0));
        assert!(!budget.retry(0, 900_000));
    }

    proptest! {
        /// Whenever a retry is granted, those of the last window are within the proportion of its requests.
        #[test]
        fn no_window_has_more_than_its_part(
            percent in 0u32..300,
            steps in prop::collection::vec((0u64..2_500, 0u8..3), 1..400),
        ) {
            let window = RETRY_WINDOW.as_millis() as u64;
            let (mut budget, mut now) = (Budget::default(), 5_000_000);
            let (mut requests, mut retries): (Vec<u64>, Vec<u64>) = (Vec::new(), Vec::new());
            for (step, what) in steps {
                now += step;
                if what == 0 {
                    budget.request(now);
                    requests.push(now);
                } else if budget.retry(percent, now) {
                    retries.push(now);
                    let within = |all: &[u64], length: u64| all.iter().filter(|at| **at + length > now).count() as u64;
                    // The oldest slot is a part of the window only.
                    let granted = within(&retries, window - SLOT);
                    prop_assert!(granted * 100 <= within(&requests, window) * u64::from(percent));
                }
            }
        }
    }
}
