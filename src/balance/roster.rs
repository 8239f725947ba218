//! The roster of a tier: who may be picked, what everyone weighs and has in flight.
//!
//! Pure, and owned by one worker. A backend is usable while it is fit, not full, and not hidden from the request
//! being served because that has been tried on it.

use std::time::Duration;

use super::{bitset::BitSet, warmup::Warmup};

/// Whether a backend may be asked, as far as its health and its operator say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fitness {
    /// It takes work.
    #[default]
    Fit,
    /// Down, set aside or ejected: asked only when nobody else is left and the caller wants to try.
    Ailing,
    /// Draining or disabled: no new work, whatever happens.
    Out,
}

/// What is known of one backend.
#[derive(Debug, Clone)]
struct Entry {
    weight: u32,
    in_flight: u32,
    fitness: Fitness,
    is_full: bool,
    is_hidden: bool,
}

impl Entry {
    fn is_usable(&self) -> bool {
        self.is_fit() && !self.is_full && !self.is_hidden
    }

    fn is_fit(&self) -> bool {
        self.fitness == Fitness::Fit && self.weight > 0
    }

    fn is_last_resort(&self) -> bool {
        self.fitness == Fitness::Ailing && self.weight > 0 && !self.is_full && !self.is_hidden
    }
}

/// All backends of a tier; a backend's place is its index here.
#[derive(Debug, Clone)]
pub struct Roster {
    entries: Box<[Entry]>,
    usable: BitSet,
    usable_count: usize,
    usable_weight: u64,
    usable_in_flight: u64,
    fit_count: usize,
    /// How far the ones that came back have got.
    pub warmup: Warmup,
}

impl Roster {
    /// All fit, idle and warm. Who weighs nothing gets nothing.
    pub fn new(weights: &[u32], slow_start: Duration) -> Self {
        let entry = |weight: &u32| Entry {
            weight: *weight,
            in_flight: 0,
            fitness: Fitness::Fit,
            is_full: false,
            is_hidden: false,
        };
        let mut usable = BitSet::new(weights.len());
        let mut count = 0;
        for (place, _) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0) {
            usable.insert(place);
            count += 1;
        }
        Roster {
            entries: weights.iter().map(entry).collect(),
            usable,
            usable_count: count,
            usable_weight: weights.iter().copied().map(u64::from).sum(),
            usable_in_flight: 0,
            fit_count: count,
            warmup: Warmup::new(weights.len(), slow_start),
        }
    }

    /// How many backends there are, usable or not.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// True when this one may be picked.
    pub fn is_usable(&self, place: usize) -> bool {
        self.usable.contains(place)
    }

    /// Those that may be picked.
    pub fn usable(&self) -> &BitSet {
        &self.usable
    }

    /// How many may be picked.
    pub fn usable_count(&self) -> usize {
        self.usable_count
    }

    /// How many are fit, be they full or not.
    pub fn fit_count(&self) -> usize {
        self.fit_count
    }

    /// How many are a last resort, be they full or not. Looks at each.
    pub fn ailing_count(&self) -> usize {
        self.entries.iter().filter(|entry| entry.fitness == Fitness::Ailing && entry.weight > 0).count()
    }

    /// The weights of those that may be picked, together.
    pub fn usable_weight(&self) -> u64 {
        self.usable_weight
    }

    /// What those that may be picked have in flight, together.
    pub fn usable_in_flight(&self) -> u64 {
        self.usable_in_flight
    }

    /// One's configured weight.
    pub fn weight(&self, place: usize) -> u32 {
        self.entries.get(place).map_or(0, |entry| entry.weight)
    }

    /// One's weight in hundredths, as far as it has warmed up.
    pub fn warm_weight(&self, place: usize) -> u64 {
        u64::from(self.weight(place)) * u64::from(self.warmup.percent(place))
    }

    /// What one has in flight.
    pub fn in_flight(&self, place: usize) -> u32 {
        self.entries.get(place).map_or(0, |entry| entry.in_flight)
    }

    /// The first from `place` on, around the roster, that may be asked although it is ailing. Looks at each.
    pub fn next_last_resort(&self, place: usize) -> Option<usize> {
        let around = (place..self.count()).chain(0..place.min(self.count()));
        around.into_iter().find(|place| self.entries.get(*place).is_some_and(Entry::is_last_resort))
    }

    /// One's fitness.
    pub fn fitness(&self, place: usize) -> Fitness {
        self.entries.get(place).map_or(Fitness::Out, |entry| entry.fitness)
    }

    /// True when one has all it can take.
    pub fn is_full(&self, place: usize) -> bool {
        self.entries.get(place).is_some_and(|entry| entry.is_full)
    }

    /// Changes what one has in flight.
    pub fn set_in_flight(&mut self, place: usize, in_flight: u32) {
        let Some(entry) = self.entries.get_mut(place) else { return };
        if entry.is_usable() {
            self.usable_in_flight += u64::from(in_flight);
            self.usable_in_flight -= u64::from(entry.in_flight);
        }
        entry.in_flight = in_flight;
    }

    /// True when one is fit, be it full or not.
    pub fn is_fit(&self, place: usize) -> bool {
        self.entries.get(place).is_some_and(Entry::is_fit)
    }

    /// Changes one's fitness. True when that changed whether it may be picked.
    pub fn set_fitness(&mut self, place: usize, fitness: Fitness) -> bool {
        let was_fit = self.is_fit(place);
        let changed = self.change(place, |entry| entry.fitness = fitness);
        match (was_fit, self.is_fit(place)) {
            (true, false) => self.fit_count -= 1,
            (false, true) => self.fit_count += 1,
            _ => {}
        }
        changed
    }

    /// Says whether one has all it can take. True when that changed whether it may be picked.
    pub fn set_full(&mut self, place: usize, is_full: bool) -> bool {
        self.change(place, |entry| entry.is_full = is_full)
    }

    /// Hides one for a moment, or shows it again. True when that changed whether it may be picked.
    pub fn set_hidden(&mut self, place: usize, is_hidden: bool) -> bool {
        self.change(place, |entry| entry.is_hidden = is_hidden)
    }

    fn change(&mut self, place: usize, apply: impl FnOnce(&mut Entry)) -> bool {
        let Some(entry) = self.entries.get_mut(place) else { return false };
        let before = entry.is_usable();
        apply(entry);
        let after = entry.is_usable();
        if before == after {
            return false;
        }
        let (weight, in_flight) = (u64::from(entry.weight), u64::from(entry.in_flight));
        if after {
            self.usable.insert(place);
            self.usable_count += 1;
            self.usable_weight += weight;
            self.usable_in_flight += in_flight;
        } else {
            self.usable.remove(place);
            self.usable_count -= 1;
            self.usable_weight -= weight;
            self.usable_in_flight -= in_flight;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_sums_are_those_of_the_usable(steps in prop::collection::vec((0usize..5, 0usize..4, 0u32..9), 1..80)) {
            let weights = [1, 2, 3, 0, 5];
            let mut roster = Roster::new(&weights, Duration::ZERO);
            let mut model: Vec<_> = vec![(Fitness::Fit, false, false, 0); weights.len()];
            for (place, what, value) in steps {
                let entry = &mut model[place];
                let usable = |place: usize, entry: &(Fitness, bool, bool, u32)| {
                    weights[place] > 0 && entry.0 == Fitness::Fit && !entry.1 && !entry.2
                };
                let before = usable(place, entry);
                let changed = match what {
                    0 => {
                        entry.0 = [Fitness::Fit, Fitness::Ailing, Fitness::Out][value as usize % 3];
                        roster.set_fitness(place, entry.0)
                    }
                    1 => {
                        entry.1 = value % 2 == 0;
                        roster.set_full(place, entry.1)
                    }
                    2 => {
                        entry.2 = value % 2 == 0;
                        roster.set_hidden(place, entry.2)
                    }
                    _ => {
                        entry.3 = value;
                        roster.set_in_flight(place, value);
                        false
                    }
                };
                prop_assert_eq!(changed, before != usable(place, entry));
                let open: Vec<_> = (0..weights.len()).filter(|place| usable(*place, &model[*place])).collect();
                prop_assert_eq!(open.len(), roster.usable_count());
                prop_assert_eq!(open.iter().map(|p| u64::from(weights[*p])).sum::<u64>(), roster.usable_weight());
                prop_assert_eq!(open.iter().map(|p| u64::from(model[*p].3)).sum::<u64>(), roster.usable_in_flight());
                prop_assert_eq!((0..5).filter(|p| weights[*p] > 0 && model[*p].0 == Fitness::Fit).count(), roster.fit_count());
                prop_assert!((0..5).all(|place| roster.is_usable(place) == open.contains(&place)));
            }
        }
    }
}
