//! A circle of slots, each of one backend: what `ring` and `maglev` have in common.
//!
//! Pure. The slots never change once built, and all workers share them; a worker adds only the set of slots whose
//! backends are fit. A key enters the circle at one slot and goes on to the first fit one. So keys of other backends
//! stay where they are when one leaves or returns, and a thousand dead ones cost no more than one.
//!
//! A backend that is fit but full, over its bound or already tried is stepped over without touching that set, because
//! such states come and go with every request.

use std::sync::Arc;

use super::{bitset::BitSet, bound::Bound, maglev::Maglev, ring::Ring, roster::Roster, spill::Spill};

/// How many fit slots are looked at before the request goes to whoever has room.
const STEPS_MAX: usize = 64;

/// Which slots each place holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holdings {
    /// The slots of each place, one place after the other.
    slots: Box<[u32]>,
    /// Where in `slots` each place begins, and the last one ends.
    firsts: Box<[u32]>,
}

impl Holdings {
    /// Of slots with these owners, who are places below `count`.
    pub(super) fn new(owners: &[u32], count: usize) -> Self {
        let mut firsts = vec![0u32; count + 1];
        for owner in owners {
            if let Some(first) = firsts.get_mut(*owner as usize + 1) {
                *first += 1;
            }
        }
        let mut sum = 0;
        for first in &mut firsts {
            sum += *first;
            *first = sum;
        }
        let mut slots: Vec<u32> = (0..owners.len() as u32).collect();
        slots.sort_by_key(|slot| owners.get(*slot as usize).copied());
        Holdings { slots: slots.into(), firsts: firsts.into() }
    }

    /// The slots of one place.
    pub fn of(&self, place: usize) -> &[u32] {
        let bound = |place: usize| self.firsts.get(place).map_or(0, |first| *first as usize);
        self.slots.get(bound(place)..bound(place + 1)).unwrap_or(&[])
    }
}

/// A circle, and where keys enter it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Table {
    /// At the next point clockwise.
    Ring(Ring),
    /// At the slot the key falls in.
    Maglev(Maglev),
}

impl Table {
    /// How many slots there are.
    pub fn count(&self) -> usize {
        match self {
            Table::Ring(ring) => ring.count(),
            Table::Maglev(maglev) => maglev.count(),
        }
    }

    /// The slot where a key enters.
    pub fn enter(&self, key: u64) -> usize {
        match self {
            Table::Ring(ring) => ring.enter(key as u32),
            Table::Maglev(maglev) => maglev.enter(key),
        }
    }

    /// Whose slot it is.
    pub fn owner(&self, slot: usize) -> Option<usize> {
        match self {
            Table::Ring(ring) => ring.owner(slot),
            Table::Maglev(maglev) => maglev.owner(slot),
        }
    }

    /// The slots of one place.
    pub fn slots_of(&self, place: usize) -> &[u32] {
        match self {
            Table::Ring(ring) => ring.slots_of(place),
            Table::Maglev(maglev) => maglev.slots_of(place),
        }
    }
}

/// One worker's walk on a table that all share.
#[derive(Debug, Clone)]
pub struct Walk {
    table: Arc<Table>,
    /// The slots whose owners are fit.
    fit: BitSet,
    spill: Spill,
}

impl Walk {
    /// A walk among those of a roster, where all that weigh anything are fit.
    pub fn new(table: Arc<Table>, roster: &Roster) -> Self {
        Walk { fit: BitSet::full(table.count()), spill: Spill::new(roster), table }
    }

    /// One is fit from now on, or no longer. Takes as long as it has slots.
    pub fn set_fit(&mut self, place: usize, is_fit: bool) {
        for slot in self.table.slots_of(place) {
            if is_fit {
                self.fit.insert(*slot as usize);
            } else {
                self.fit.remove(*slot as usize);
            }
        }
    }

    /// One may be picked from now on, or no longer.
    pub fn toggled(&mut self, place: usize, roster: &Roster) {
        self.spill.toggled(place, roster);
    }

    /// Picks the first on the key's way that can take it.
    pub fn pick(&self, key: u64, roster: &Roster, bound: Bound) -> Option<usize> {
        let mut slot = self.table.enter(key);
        for _ in 0..STEPS_MAX {
            slot = self.fit.next_around(slot)?;
            let place = self.table.owner(slot)?;
            if roster.is_usable(place) && bound.has_room(place, roster) {
                return Some(place);
            }
            slot += 1;
        }
        self.spill.pick(key, roster, bound)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::balance::{algorithm::Algorithm, key, roster::Fitness};

    pub(crate) fn names(count: usize) -> Vec<String> {
        (1..=count).map(|number| format!("10.0.{}.{}:11211", number / 250, number % 250)).collect()
    }

    fn table(algorithm: Algorithm, names: &[String], weights: &[u32]) -> Arc<Table> {
        let members: Vec<_> = names.iter().map(String::as_str).zip(weights.iter().copied()).collect();
        Arc::new(match algorithm {
            Algorithm::Ring => Table::Ring(Ring::build(&members)),
            _ => Table::Maglev(Maglev::build(&members, 65_537)),
        })
    }

    /// Whom 10 000 keys go to.
    fn choices(walk: &Walk, algorithm: Algorithm, roster: &Roster) -> Vec<usize> {
        let keys = (0..10_000).map(|number| key::of(algorithm, format!("key {number}").as_bytes()));
        keys.map(|key| walk.pick(key, roster, Bound::default()).unwrap()).collect()
    }

    const KEYED: [Algorithm; 2] = [Algorithm::Ring, Algorithm::Maglev];

    #[test]
    fn one_more_backend_takes_about_its_share_of_the_keys() {
        for algorithm in KEYED {
            for count in [2, 4, 5, 10, 20] {
                let names = names(count + 1);
                let weights = vec![1; count + 1];
                let choose = |count: usize| {
                    let roster = Roster::new(&weights[..count], Duration::ZERO);
                    let walk = Walk::new(table(algorithm, &names[..count], &weights[..count]), &roster);
                    choices(&walk, algorithm, &roster)
                };
                let (before, after) = (choose(count), choose(count + 1));
                let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
                let (share, three_percent) = (10_000 / (count + 1), 300);
                assert!(moved.abs_diff(share) <= three_percent, "{algorithm:?}, {count}: {moved} moved");
            }
        }
    }

    #[test]
    fn the_same_names_and_weights_in_another_order_give_the_same_choices() {
        for algorithm in KEYED {
            let (names, weights) = (names(9), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
            let reversed: Vec<_> = names.iter().rev().cloned().collect();
            let weights_reversed: Vec<_> = weights.iter().rev().copied().collect();
            let roster = Roster::new(&weights, Duration::ZERO);
            let there = choices(&Walk::new(table(algorithm, &names, &weights), &roster), algorithm, &roster);
            let roster = Roster::new(&weights_reversed, Duration::ZERO);
            let table = table(algorithm, &reversed, &weights_reversed);
            let here = choices(&Walk::new(table, &roster), algorithm, &roster);
            assert!(there.iter().zip(here).all(|(there, here)| *there == 8 - here));
        }
    }

    /// The textbook's example: three servers on a ring, one goes, and only its users move.
    #[test]
    fn of_three_servers_one_goes_and_only_its_users_move() {
        let servers = ["server-a", "server-b", "server-c"].map(str::to_owned);
        let mut roster = Roster::new(&[1; 3], Duration::ZERO);
        let mut walk = Walk::new(table(Algorithm::Ring, &servers, &[1; 3]), &roster);
        let users: Vec<_> = (1..=30).map(|number| format!("user-{number}")).collect();
        let map = |walk: &Walk, roster: &Roster| -> Vec<usize> {
            let keys = users.iter().map(|user| key::of(Algorithm::Ring, user.as_bytes()));
            keys.map(|key| walk.pick(key, roster, Bound::default()).unwrap()).collect()
        };
        let before = map(&walk, &roster);
        assert!((0..3).all(|server| before.contains(&server)));
        roster.set_fitness(1, Fitness::Ailing);
        walk.set_fit(1, false);
        walk.toggled(1, &roster);
        let without = map(&walk, &roster);
        assert!(before.iter().zip(&without).all(|(before, after)| (*before == 1) == (before != after)));
        roster.set_fitness(1, Fitness::Fit);
        walk.set_fit(1, true);
        walk.toggled(1, &roster);
        assert_eq!(map(&walk, &roster), before, "and they come back");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        /// Among any that are away already, one more that leaves moves its own keys only, and spreads them.
        #[test]
        fn only_the_keys_of_the_one_that_left_move(maglev in any::<bool>(), away in prop::collection::btree_set(0usize..12, 0..6), left in 0usize..12) {
            let algorithm = KEYED[usize::from(maglev)];
            let mut roster = Roster::new(&[1; 12], Duration::ZERO);
            let mut walk = Walk::new(table(algorithm, &names(12), &[1; 12]), &roster);
            let leave = |place: usize, roster: &mut Roster, walk: &mut Walk| {
                if roster.set_fitness(place, Fitness::Ailing) {
                    walk.set_fit(place, false);
                    walk.toggled(place, roster);
                }
            };
            away.iter().filter(|place| **place != left).for_each(|place| leave(*place, &mut roster, &mut walk));
            let before = choices(&walk, algorithm, &roster);
            leave(left, &mut roster, &mut walk);
            let mut gained = [0usize; 12];
            for (before, after) in before.iter().zip(choices(&walk, algorithm, &roster)) {
                if *before == left {
                    gained[after] += 1;
                } else {
                    prop_assert_eq!(*before, after);
                }
            }
            let fair = gained.iter().sum::<usize>() / roster.usable_count();
            for place in (0..12).filter(|place| roster.is_usable(*place)) {
                prop_assert!(gained[place] > 0 && gained[place] < 3 * fair, "{:?}", gained);
            }
        }

        #[test]
        fn full_ones_are_stepped_over_however_many_there_are(maglev in any::<bool>(), free in 0usize..200, number in any::<u32>()) {
            let algorithm = KEYED[usize::from(maglev)];
            let mut roster = Roster::new(&[1; 200], Duration::ZERO);
            let mut walk = Walk::new(table(algorithm, &names(200), &[1; 200]), &roster);
            for place in (0..200).filter(|place| *place != free) {
                roster.set_full(place, true);
                walk.toggled(place, &roster);
            }
            let key = key::of(algorithm, &number.to_be_bytes());
            prop_assert_eq!(walk.pick(key, &roster, Bound::default()), Some(free));
            roster.set_full(free, true);
            walk.toggled(free, &roster);
            prop_assert_eq!(walk.pick(key, &roster, Bound::default()), None);
        }

        /// Whatever the keys are: here all are the same one.
        #[test]
        fn the_bound_is_never_exceeded(maglev in any::<bool>(), weights in prop::collection::vec(1u32..5, 1..20), factor in prop::sample::select(vec![1.0, 1.1, 1.25, 2.0]), one_key in any::<bool>()) {
            let algorithm = KEYED[usize::from(maglev)];
            let mut roster = Roster::new(&weights, Duration::ZERO);
            let walk = Walk::new(table(algorithm, &names(weights.len()), &weights), &roster);
            let sum: u32 = weights.iter().sum();
            for number in 0u32..300 {
                let key = key::of(algorithm, &(if one_key { 7 } else { number }).to_be_bytes());
                let place = walk.pick(key, &roster, Bound::new(factor)).unwrap();
                roster.set_in_flight(place, roster.in_flight(place) + 1);
                let fair = f64::from(number + 1) * f64::from(weights[place]) / f64::from(sum);
                prop_assert!(f64::from(roster.in_flight(place)) <= (factor * fair - 1e-9).ceil());
            }
        }
    }
}
