//! Where a keyed request goes when its own backend cannot take it, nor any of the next ones.
//!
//! Pure. A second hash of the key draws among those that may be picked, by weight: what a missing backend leaves is
//! spread evenly, and the choice depends on the key and on who is usable, not on what happened before.

use super::{bound::Bound, key, roster::Roster, shares::Shares};

/// How many draws are made before everyone is looked at.
const DRAWS_MAX: usize = 16;

/// The shares of those that may be picked.
#[derive(Debug, Clone)]
pub struct Spill {
    shares: Shares,
}

impl Spill {
    /// The shares of the usable ones of this roster.
    pub fn new(roster: &Roster) -> Self {
        let mut spill = Spill { shares: Shares::new(roster.count()) };
        (0..roster.count()).for_each(|place| spill.toggled(place, roster));
        spill
    }

    /// One may be picked from now on, or no longer.
    pub fn toggled(&mut self, place: usize, roster: &Roster) {
        let weight = if roster.is_usable(place) { roster.weight(place) } else { 0 };
        self.shares.set(place, u64::from(weight));
    }

    /// Picks one that has room.
    pub fn pick(&self, key: u64, roster: &Roster, bound: Bound) -> Option<usize> {
        let mut key = key;
        for _ in 0..DRAWS_MAX {
            key = key::next(key);
            let place = self.shares.of(key)?;
            if bound.has_room(place, roster) {
                return Some(place);
            }
        }
        Self::search(self.shares.of(key)?, roster, bound)
    }

    /// Looks at everyone from `start` on. Rare: by the bound's own arithmetic a good part of them has room.
    fn search(start: usize, roster: &Roster, bound: Bound) -> Option<usize> {
        let mut place = start;
        for _ in 0..roster.usable_count() {
            place = roster.usable().next_around(place)?;
            if bound.has_room(place, roster) {
                return Some(place);
            }
            place += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::balance::roster::Fitness;

    #[test]
    fn the_only_one_with_room_is_found() {
        let mut roster = Roster::new(&[1; 400], Duration::ZERO);
        for place in (0..400).filter(|place| *place != 123) {
            roster.set_in_flight(place, 5);
        }
        let spill = Spill::new(&roster);
        for key in 0..50 {
            assert_eq!(spill.pick(key, &roster, Bound::new(1.0)), Some(123));
        }
    }

    #[test]
    fn nobody_usable_is_nobody() {
        let mut roster = Roster::new(&[1, 1], Duration::ZERO);
        let mut spill = Spill::new(&roster);
        for place in 0..2 {
            roster.set_fitness(place, Fitness::Out);
            spill.toggled(place, &roster);
        }
        assert_eq!(spill.pick(1, &roster, Bound::default()), None);
    }
}
