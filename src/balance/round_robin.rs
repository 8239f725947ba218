//! Smooth weighted round robin: everyone gets exactly its share, and no order has shorter bursts.
//!
//! Pure. Backends of equal weight form a group that takes turns inside; with equal weights, there is only one. Groups
//! keep a timetable: in each cycle a group of `t` turns departs at `(2k + 1) / 2t`, and the earliest departure is
//! next. Two rules keep bursts short. A single backend that weighs as much as all others together is interleaved with
//! them evenly; otherwise nobody goes twice in a row while somebody else is due in the same cycle.
//!
//! A backend that is away does not depart, so its share falls to the others in turn; when it returns it finds its
//! place in the rotation, without the turns it missed.

use super::{bitset::BitSet, roster::Roster, tournament::ABSENT, tournament::Tournament};

/// How many turns may pass, while backends warm up, before one has to be taken.
const PASSES_MAX: usize = 64;

/// The rotation of one tier.
#[derive(Debug, Clone)]
pub struct RoundRobin {
    groups: Box<[Group]>,
    /// Places, those of a group side by side.
    seats: Box<[usize]>,
    /// By place: its seat and its group.
    seat_of: Box<[(usize, usize)]>,
    /// The seats of the usable.
    open: BitSet,
    /// The groups with anyone usable; heavier groups come first.
    active: BitSet,
    /// The next departure of each group, except of the heavy one.
    timetable: Tournament,
    /// The earliest departure when the last turn was given: nobody waits for an earlier one.
    now: Departure,
    /// The weights of the usable, together.
    weight: i64,
    /// The group of the one backend that weighs as much as all others.
    heavy: Option<usize>,
    last: usize,
}

/// When a group is next: the cycle, and the fraction of it in 2⁻³².
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Departure {
    cycle: u64,
    fraction: u32,
}

#[derive(Debug, Clone)]
struct Group {
    weight: u32,
    first: usize,
    end: usize,
    cursor: usize,
    usable: u32,
    /// Its next departure's number in the cycle, and that cycle.
    turn: u64,
    cycle: u64,
    served: Option<Departure>,
    /// What it is owed, between it and all others, for when it is the heavy one.
    credit: i64,
}

impl Group {
    /// Its turns in one cycle.
    fn turns(&self) -> u64 {
        u64::from(self.weight) * u64::from(self.usable)
    }

    fn departure(&self) -> Departure {
        // Turns stay below 2³²: weights have 16 bits, and nobody has 65 537 backends.
        let fraction = ((2 * self.turn + 1) << 31).checked_div(self.turns()).unwrap_or(0);
        Departure { cycle: self.cycle, fraction: fraction as u32 }
    }

    fn advance(&mut self) {
        self.turn += 1;
        if self.turn >= self.turns() {
            (self.turn, self.cycle) = (0, self.cycle + 1);
        }
    }

    /// After its number of turns has changed: its first departure from `now` on that it has not made.
    fn rejoin(&mut self, now: Departure) {
        let from = now.max(self.served.unwrap_or(now));
        let passed = (u64::from(from.fraction) * self.turns()) >> 32;
        (self.turn, self.cycle) = (passed.saturating_sub(1), from.cycle);
        while self.departure() < from || Some(self.departure()) == self.served {
            self.advance();
        }
    }

    /// The key in the timetable; of two that depart together, the one with more turns goes first.
    fn key(&self) -> u128 {
        let Departure { cycle, fraction } = self.departure();
        let few = u32::MAX - self.turns().min(u32::MAX.into()) as u32;
        u128::from(cycle) << 64 | u128::from(fraction) << 32 | u128::from(few)
    }
}

impl RoundRobin {
    /// The rotation of this roster as after `offset` picks, so that workers do not all begin with the same backend.
    pub fn new(roster: &mut Roster, offset: usize) -> Self {
        let mut seats: Vec<usize> = (0..roster.count()).collect();
        seats.sort_by_key(|place| std::cmp::Reverse(roster.weight(*place)));
        let mut groups: Vec<Group> = Vec::new();
        let mut seat_of = vec![(0, 0); seats.len()].into_boxed_slice();
        for (seat, place) in seats.iter().enumerate() {
            let weight = roster.weight(*place);
            match groups.last_mut() {
                Some(group) if group.weight == weight => group.end = seat + 1,
                _ => groups.push(Group {
                    weight,
                    first: seat,
                    end: seat + 1,
                    cursor: seat,
                    usable: 0,
                    turn: 0,
                    cycle: 0,
                    served: None,
                    credit: 0,
                }),
            }
            if let Some(entry) = seat_of.get_mut(*place) {
                *entry = (seat, groups.len() - 1);
            }
        }
        let mut rotation = RoundRobin {
            open: BitSet::new(seats.len()),
            active: BitSet::new(groups.len()),
            timetable: Tournament::new(groups.len()),
            now: Departure::default(),
            weight: 0,
            heavy: None,
            last: usize::MAX,
            groups: groups.into(),
            seats: seats.into(),
            seat_of,
        };
        (0..roster.count())
            .filter(|place| roster.is_usable(*place))
            .for_each(|place| rotation.toggled(place, true));
        for _ in 0..offset % roster.usable_count().max(1) {
            rotation.pick(roster);
        }
        rotation
    }

    /// One may be picked from now on, or no longer.
    pub fn toggled(&mut self, place: usize, usable: bool) {
        let Some((seat, index)) = self.seat_of.get(place).copied() else { return };
        let Some(group) = self.groups.get_mut(index) else { return };
        if usable {
            self.open.insert(seat);
            group.usable += 1;
            self.weight += i64::from(group.weight);
        } else {
            self.open.remove(seat);
            group.usable -= 1;
            self.weight -= i64::from(group.weight);
        }
        if group.usable == 0 {
            self.active.remove(index);
        } else {
            self.active.insert(index);
            group.rejoin(self.now);
        }
        let heavy = self.active.next(0).filter(|first| self.outweighs(*first));
        if heavy != self.heavy {
            let before = std::mem::replace(&mut self.heavy, heavy);
            for changed in [before, heavy].into_iter().flatten() {
                if let Some(group) = self.groups.get_mut(changed).filter(|group| group.usable > 0) {
                    group.rejoin(self.now);
                }
                self.enter(changed);
            }
        }
        self.enter(index);
    }

    /// Picks the one whose turn it is.
    pub fn pick(&mut self, roster: &mut Roster) -> Option<usize> {
        let mut place = self.turn()?;
        for _ in 0..PASSES_MAX {
            if roster.warmup.takes_turn(place) {
                break;
            }
            place = self.turn()?;
        }
        Some(place)
    }

    fn turn(&mut self) -> Option<usize> {
        let seat = match self.heavy {
            Some(heavy) => self.turn_beside(heavy)?,
            None => {
                let next = self.next_group()?;
                let next = self.instead_of(next).unwrap_or(next);
                self.depart(next)?
            }
        };
        self.last = seat;
        self.seats.get(seat).copied()
    }

    /// Gives the turn to the heavy one or to the others, evenly.
    fn turn_beside(&mut self, heavy: usize) -> Option<usize> {
        let group = self.groups.get_mut(heavy)?;
        let own = i64::from(group.weight);
        let others = self.weight - own;
        let credit = group.credit.clamp(-self.weight, self.weight);
        if credit + own >= others - credit {
            group.credit = credit - others;
            return self.open.next(group.first);
        }
        group.credit = credit + own;
        let next = self.next_group()?;
        self.depart(next)
    }

    /// The group that departs next.
    fn next_group(&mut self) -> Option<usize> {
        let next = self.timetable.winner()?;
        self.now = self.groups.get(next)?.departure();
        Some(next)
    }

    /// The group that goes before `next`, when `next` would go twice in a row and the other is due in this cycle.
    fn instead_of(&mut self, next: usize) -> Option<usize> {
        let group = self.groups.get(next)?;
        if group.usable > 1 || self.open.next(group.first) != Some(self.last) {
            return None;
        }
        let (cycle, key) = (group.cycle, self.timetable.key(next));
        self.timetable.set(next, ABSENT);
        let other = self.timetable.winner();
        self.timetable.set(next, key);
        other.filter(|other| self.groups.get(*other).is_some_and(|group| group.cycle == cycle))
    }

    /// Gives the turn to a group: the seat in it whose turn it is.
    fn depart(&mut self, index: usize) -> Option<usize> {
        let group = self.groups.get_mut(index)?;
        let seat = self.open.next(group.cursor).filter(|seat| *seat < group.end);
        let seat = seat.or_else(|| self.open.next(group.first))?;
        group.cursor = seat + 1;
        group.served = Some(group.departure());
        group.advance();
        self.enter(index);
        Some(seat)
    }

    /// Writes a group's next departure into the timetable.
    fn enter(&mut self, index: usize) {
        let group = self.groups.get(index).filter(|group| group.usable > 0 && self.heavy != Some(index));
        self.timetable.set(index, group.map_or(ABSENT, Group::key));
    }

    /// True for a group of one that weighs as much as all others, if there are others.
    fn outweighs(&self, index: usize) -> bool {
        self.groups.get(index).is_some_and(|group| {
            let own = i64::from(group.weight);
            group.usable == 1 && own < self.weight && 2 * own >= self.weight
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::balance::roster::Fitness;

    struct Tier(Roster, RoundRobin);

    impl Tier {
        fn new(weights: &[u32], offset: usize) -> Self {
            let mut roster = Roster::new(weights, Duration::ZERO);
            let rotation = RoundRobin::new(&mut roster, offset);
            Tier(roster, rotation)
        }

        fn picks(&mut self, count: usize) -> Vec<usize> {
            (0..count).map(|_| self.1.pick(&mut self.0).unwrap()).collect()
        }

        fn counts(&mut self, picks: usize) -> Vec<u32> {
            let mut counts = vec![0; self.0.count()];
            self.picks(picks).into_iter().for_each(|place| counts[place] += 1);
            counts
        }

        fn set(&mut self, place: usize, fitness: Fitness) {
            if self.0.set_fitness(place, fitness) {
                self.1.toggled(place, self.0.is_usable(place));
            }
        }
    }

    /// The longest run of each, in an order that is repeated for ever.
    fn longest_runs(order: &[usize], count: usize) -> Vec<usize> {
        let (mut longest, mut run) = (vec![0; count], 0);
        let twice: Vec<_> = order.iter().chain(order).collect();
        for (at, place) in twice.iter().enumerate() {
            run = if at > 0 && twice[at - 1] == *place { run + 1 } else { 1 };
            longest[**place] = longest[**place].max(run);
        }
        longest
    }

    #[test]
    fn three_to_one_is_spread_out() {
        assert_eq!(Tier::new(&[3, 1], 0).picks(8), [0, 0, 1, 0, 0, 0, 1, 0]);
        assert_eq!(Tier::new(&[5, 1, 1], 0).picks(7), [0, 1, 0, 0, 0, 2, 0]);
    }

    #[test]
    fn offsets_begin_at_different_backends() {
        let first: Vec<_> = (0..4).map(|offset| Tier::new(&[1; 4], offset).picks(1)[0]).collect();
        assert_eq!(first, [0, 1, 2, 3]);
    }

    #[test]
    fn four_share_a_hundred_and_three_share_it_evenly_when_one_is_dead() {
        let mut tier = Tier::new(&[1; 4], 2);
        assert_eq!(tier.counts(100), [25; 4]);
        tier.set(1, Fitness::Ailing);
        let mut counts = tier.counts(100);
        assert_eq!(counts[1], 0);
        counts.sort_unstable();
        assert_eq!(counts, [0, 33, 33, 34]);
    }

    #[test]
    fn nobody_usable_is_nobody() {
        assert_eq!(Tier::new(&[], 3).1.pick(&mut Roster::new(&[], Duration::ZERO)), None);
        let mut tier = Tier::new(&[2, 0], 1);
        assert_eq!(tier.counts(9), [9, 0]);
        tier.set(0, Fitness::Out);
        assert_eq!(tier.1.pick(&mut tier.0), None);
    }

    #[test]
    fn one_that_warms_up_takes_part_of_its_turns() {
        let mut roster = Roster::new(&[1; 3], Duration::from_secs(10));
        let mut rotation = RoundRobin::new(&mut roster, 0);
        roster.warmup.start(0, 0);
        let mut counts = [0; 3];
        (0..2_100).for_each(|_| counts[rotation.pick(&mut roster).unwrap()] += 1);
        assert_eq!(counts, [100, 1_000, 1_000]);
    }

    #[test]
    fn when_all_warm_up_together_they_share_evenly() {
        let mut roster = Roster::new(&[1; 10], Duration::from_secs(10));
        (0..10).for_each(|place| roster.warmup.start(place, 0));
        let mut rotation = RoundRobin::new(&mut roster, 0);
        let mut counts = [0u32; 10];
        (0..1_000).for_each(|_| counts[rotation.pick(&mut roster).unwrap()] += 1);
        assert!(counts.iter().all(|count| count.abs_diff(100) <= 1), "{counts:?}");
    }

    proptest! {
        #[test]
        fn weights_are_met_exactly_over_a_cycle(weights in prop::collection::vec(1u32..30, 1..9), offset in 0usize..20) {
            let mut tier = Tier::new(&weights, 0);
            let cycle = weights.iter().sum::<u32>() as usize;
            for _ in 0..3 {
                prop_assert_eq!(&tier.counts(cycle), &weights);
            }
            let counts = Tier::new(&weights, offset).counts(2 * cycle);
            for (count, weight) in counts.iter().zip(&weights) {
                prop_assert!(count.abs_diff(2 * weight) <= 1 + offset as u32, "{:?}", counts);
            }
        }

        /// In any order of `w` turns among `r` others, some run has at least `w / r`; and at least one.
        #[test]
        fn bursts_are_as_short_as_they_can_be(weights in prop::collection::vec(1u32..12, 2..8)) {
            let mut tier = Tier::new(&weights, 0);
            let cycle = weights.iter().sum::<u32>() as usize;
            tier.picks(3 * cycle);
            let runs = longest_runs(&tier.picks(cycle), weights.len());
            for (run, weight) in runs.iter().zip(&weights) {
                let others = cycle - *weight as usize;
                prop_assert!(*run <= (*weight as usize).div_ceil(others).max(1), "{:?} of {:?}", runs, weights);
            }
        }

        #[test]
        fn the_share_of_the_dead_is_spread_by_weight(weights in prop::collection::vec(1u32..9, 2..9), dead in 0usize..9, before in 0usize..50) {
            let dead = dead % weights.len();
            let mut tier = Tier::new(&weights, 0);
            tier.picks(before);
            tier.set(dead, Fitness::Ailing);
            let cycle = (weights.iter().sum::<u32>() - weights[dead]) as usize;
            let counts = tier.counts(10 * cycle);
            for (place, weight) in weights.iter().enumerate() {
                let expected = if place == dead { 0 } else { 10 * weight };
                prop_assert!(counts[place].abs_diff(expected) <= 2, "{:?}", counts);
            }
        }

        /// Whoever goes and returns, nobody gets more than a turn or two above its share afterwards, or below it.
        #[test]
        fn one_that_returns_neither_catches_up_nor_loses_its_turn(
            weights in prop::collection::vec(1u32..6, 2..7),
            away in prop::collection::vec((0usize..7, 0usize..12), 0..12),
        ) {
            let mut tier = Tier::new(&weights, 0);
            for (place, picks) in away {
                let place = place % weights.len();
                tier.set(place, Fitness::Ailing);
                if tier.0.usable_count() > 0 {
                    tier.picks(picks);
                }
                tier.set(place, Fitness::Fit);
            }
            let cycle = weights.iter().sum::<u32>() as usize;
            let counts = tier.counts(cycle);
            for (count, weight) in counts.iter().zip(&weights) {
                prop_assert!(count.abs_diff(*weight) <= 2, "{:?} of {:?}", counts, weights);
            }
        }

        /// Hiding those a request was tried on, for one pick, leaves no trace in the shares.
        #[test]
        fn a_retry_shifts_nobodys_share(weights in prop::collection::vec(1u32..6, 3..7), hidden in 0usize..7) {
            let hidden = hidden % weights.len();
            let mut tier = Tier::new(&weights, 0);
            let cycle = weights.iter().sum::<u32>() as usize;
            let mut counts = vec![0u32; weights.len()];
            for _ in 0..20 * cycle {
                counts[tier.picks(1)[0]] += 1;
                tier.set(hidden, Fitness::Ailing);
                tier.set(hidden, Fitness::Fit);
            }
            for (count, weight) in counts.iter().zip(&weights) {
                prop_assert!(count.abs_diff(20 * weight) <= 3, "{:?} of {:?}", counts, weights);
            }
        }
    }
}
