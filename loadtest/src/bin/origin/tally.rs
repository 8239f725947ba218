//! What the origin counts. Each executor writes a tally of its own; `/stats` adds them up.

use std::sync::atomic::{AtomicU64, Ordering};

/// One core's counters. Single writer, so an increment is a load and a store, never a locked instruction.
#[derive(Default)]
#[repr(align(128))]
pub struct Tally {
    pub connections: Counter,
    pub requests: Counter,
    pub malformed: Counter,
    pub body_bytes: Counter,
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

    pub fn json(&self) -> String {
        let total =
            |counter: fn(&Tally) -> &Counter| self.0.iter().map(|tally| counter(tally).get()).sum::<u64>();
        format!(
            "{{\"connections\":{},\"requests\":{},\"malformed\":{},\"body_bytes\":{}}}\n",
            total(|tally| &tally.connections),
            total(|tally| &tally.requests),
            total(|tally| &tally.malformed),
            total(|tally| &tally.body_bytes),
        )
    }
}
