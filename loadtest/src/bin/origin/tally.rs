//! What the origin counts. Each executor writes a tally of its own; `/stats` adds them up.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Numbers that an executor remembers; those beyond are only counted as such.
const NUMBERS_MAX: usize = 1 << 20;

/// One core's counters. Single writer, so an increment is a load and a store, never a locked instruction.
#[derive(Default)]
#[repr(align(128))]
pub struct Tally {
    pub connections: Counter,
    pub requests: Counter,
    pub malformed: Counter,
    pub body_bytes: Counter,
    /// Requests that might fail on purpose.
    tried: Counter,
    forgotten: Counter,
    numbers: Numbers,
}

/// How often a request came, by the number in its head. Only those who send one pay for the lock.
#[derive(Default)]
struct Numbers(Mutex<HashMap<u64, u64>>);

impl Numbers {
    #[expect(
        clippy::disallowed_methods,
        reason = "no worker of the proxy: held for one look-up, by the origin's few threads"
    )]
    fn open(&self) -> MutexGuard<'_, HashMap<u64, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    pub fn note(&self, number: u64) {
        let mut numbers = self.numbers.open();
        if numbers.len() < NUMBERS_MAX || numbers.contains_key(&number) {
            *numbers.entry(number).or_default() += 1;
        } else {
            self.forgotten.add(1);
        }
    }

    /// Whether this is the one of `among` requests that is to fail. Never for 0.
    pub fn fails(&self, among: u64) -> bool {
        self.tried.add(1);
        among > 0 && self.tried.get().is_multiple_of(among)
    }
}

#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed) + amount, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

pub struct Tallies(Vec<Tally>);

impl Tallies {
    pub fn new(count: usize) -> Self {
        Self((0..count).map(|_| Tally::default()).collect())
    }

    pub fn iter(&self) -> impl Iterator<Item = &Tally> {
        self.0.iter()
    }

    pub fn count(&self, number: u64) -> u64 {
        self.0.iter().filter_map(|tally| tally.numbers.open().get(&number).copied()).sum()
    }

    pub fn json(&self) -> String {
        let total =
            |counter: fn(&Tally) -> &Counter| self.0.iter().map(|tally| counter(tally).get()).sum::<u64>();
        format!(
            "{{\"connections\":{},\"requests\":{},\"malformed\":{},\"body_bytes\":{},\"forgotten\":{}}}\n",
            total(|tally| &tally.connections),
            total(|tally| &tally.requests),
            total(|tally| &tally.malformed),
            total(|tally| &tally.body_bytes),
            total(|tally| &tally.forgotten),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_so_many_fails() {
        let tally = Tally::default();
        assert_eq!((0..9).map(|_| tally.fails(3)).collect::<Vec<_>>(), [false, false, true].repeat(3));
        assert!((0..9).all(|_| !tally.fails(0)));
    }

    #[test]
    fn numbers_are_counted_over_all_executors() {
        let tallies = Tallies::new(2);
        tallies.iter().for_each(|tally| tally.note(7));
        assert_eq!((tallies.count(7), tallies.count(8)), (2, 0));
    }
}
