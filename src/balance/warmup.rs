//! Slow start: a backend that came back takes a growing part of its share.
//!
//! Pure: time is an argument. Parts are whole percents, from a floor to all of it, and rise in steps of one percent
//! of the duration, so that nobody has to look at the clock at every pick. Algorithms that go by turns let part of a
//! backend's turns pass ([`Warmup::takes_turn`]), those that go by scores divide by the part ([`Warmup::percent`]).

use std::time::Duration;

use crate::io::alarm::{self, Millis};

/// What a backend takes at the start: enough to warm its caches, and to be found out if it is not well.
const FLOOR_PERCENT: u32 = 10;
const ALL_PERCENT: u32 = 100;

/// The parts of all backends of a tier.
#[derive(Debug, Clone)]
pub struct Warmup {
    duration: Millis,
    parts: Box<[Part]>,
    /// The places that are warming up.
    warming: Vec<usize>,
    /// When the next step is due.
    due: Millis,
}

#[derive(Debug, Clone)]
struct Part {
    since: Millis,
    percent: u32,
    /// What has been saved for the next turn.
    credit: u32,
}

impl Warmup {
    /// All warm; those that come later need this long.
    pub fn new(count: usize, duration: Duration) -> Self {
        // Those that warm up together must not all let the same turns pass: 61 of 100 spreads their credits.
        let part = |place: usize| Part { since: 0, percent: ALL_PERCENT, credit: (place * 61 % 100) as u32 };
        Warmup {
            duration: alarm::millis(duration),
            parts: (0..count).map(part).collect(),
            warming: Vec::with_capacity(if duration.is_zero() { 0 } else { count }),
            due: Millis::MAX,
        }
    }

    /// One has become fit and starts from the floor.
    pub fn start(&mut self, place: usize, now: Millis) {
        if self.duration == 0 {
            return;
        }
        let Some(part) = self.parts.get_mut(place) else { return };
        if part.percent == ALL_PERCENT {
            self.warming.push(place);
        }
        part.since = now;
        part.percent = FLOOR_PERCENT;
        self.due = self.due.min(now.saturating_add(self.step()));
    }

    /// One has gone, or is warm whatever the clock says.
    pub fn stop(&mut self, place: usize) {
        if let Some(part) = self.parts.get_mut(place)
            && part.percent != ALL_PERCENT
        {
            part.percent = ALL_PERCENT;
            self.warming.retain(|warming| *warming != place);
        }
    }

    /// How many take a step now: none before the next one is due.
    pub fn due(&self, now: Millis) -> usize {
        if now < self.due { 0 } else { self.warming.len() }
    }

    /// Lets the warming one at this position take its step; gives its place. Positions must be walked from the last
    /// to the first, because one that is warm leaves.
    pub fn advance(&mut self, position: usize, now: Millis) -> Option<usize> {
        let place = *self.warming.get(position)?;
        let part = self.parts.get_mut(place)?;
        let elapsed = now.saturating_sub(part.since).min(self.duration);
        let percent = elapsed.saturating_mul(ALL_PERCENT.into()).checked_div(self.duration)?;
        part.percent = (percent as u32).max(FLOOR_PERCENT);
        if part.percent == ALL_PERCENT {
            self.warming.swap_remove(position);
        }
        self.due = if self.warming.is_empty() { Millis::MAX } else { now.saturating_add(self.step()) };
        Some(place)
    }

    /// Since when one has been warming up, if it is.
    pub fn since(&self, place: usize) -> Option<Millis> {
        self.parts.get(place).filter(|part| part.percent != ALL_PERCENT).map(|part| part.since)
    }

    /// The part of its share one takes.
    pub fn percent(&self, place: usize) -> u32 {
        self.parts.get(place).map_or(ALL_PERCENT, |part| part.percent)
    }

    /// False when one lets this turn pass. Over time it takes exactly its part of them.
    pub fn takes_turn(&mut self, place: usize) -> bool {
        if self.warming.is_empty() {
            return true;
        }
        let Some(part) = self.parts.get_mut(place) else { return true };
        part.credit += part.percent;
        let takes = part.credit >= ALL_PERCENT;
        if takes {
            part.credit -= ALL_PERCENT;
        }
        takes
    }

    fn step(&self) -> Millis {
        (self.duration / u64::from(ALL_PERCENT)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(warmup: &mut Warmup, now: Millis) -> u32 {
        for position in (0..warmup.due(now)).rev() {
            warmup.advance(position, now);
        }
        warmup.percent(0)
    }

    #[test]
    fn the_part_grows_from_the_floor_to_all() {
        let mut warmup = Warmup::new(1, Duration::from_secs(10));
        assert_eq!(at(&mut warmup, 0), 100);
        warmup.start(0, 1_000);
        let parts = [1_000, 1_500, 2_500, 6_000, 10_900, 11_000].map(|now| at(&mut warmup, now));
        assert_eq!(parts, [10, 10, 15, 50, 99, 100]);
        assert_eq!(warmup.due(Millis::MAX), 0, "a warm one asks for no more steps");
    }

    #[test]
    fn without_a_duration_everyone_is_warm_at_once() {
        let mut warmup = Warmup::new(1, Duration::ZERO);
        warmup.start(0, 5);
        assert_eq!(at(&mut warmup, 5), 100);
        assert!(warmup.takes_turn(0));
    }

    #[test]
    fn one_that_goes_and_returns_starts_again() {
        let mut warmup = Warmup::new(1, Duration::from_secs(1));
        warmup.start(0, 0);
        assert_eq!(at(&mut warmup, 500), 50);
        warmup.stop(0);
        warmup.start(0, 600);
        assert_eq!(at(&mut warmup, 600), 10);
        assert_eq!(at(&mut warmup, 1_599), 99);
    }

    proptest! {
        #[test]
        fn as_many_turns_are_taken_as_the_part_says(elapsed in 0u64..1000, place in 0usize..50) {
            let mut warmup = Warmup::new(50, Duration::from_secs(1));
            warmup.start(place, 0);
            at(&mut warmup, elapsed);
            let taken = (0..100).filter(|_| warmup.takes_turn(place)).count();
            prop_assert_eq!(taken, warmup.percent(place) as usize);
        }
    }
}
