//! A ledger: how much of one thing all workers together may have at one backend.
//!
//! Shared by all workers and made of atomics; nobody ever waits for anybody. Workers lease from it in batches and keep
//! what they use again at once (`credits`), so it is written seldom. It must never give out more than its limit.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst};

/// Credits for one kind of thing: requests in flight, or open connections.
#[derive(Debug)]
pub struct Ledger {
    limit: AtomicI64,
    /// The limit less what workers have. Below zero after the limit was lowered, until enough has come back.
    free: AtomicI64,
    /// Workers that have not said yet what they had before there was a limit; until then nothing is given out.
    unheard: AtomicUsize,
    workers: i64,
}

impl Ledger {
    /// All credits free. `unheard` workers have to say first what they have already; zero where nobody can have
    /// anything.
    pub fn new(limit: u32, workers: usize, unheard: usize) -> Self {
        Ledger {
            limit: AtomicI64::new(i64::from(limit)),
            free: AtomicI64::new(i64::from(limit)),
            unheard: AtomicUsize::new(unheard),
            workers: i64::try_from(workers.max(1)).unwrap_or(i64::MAX),
        }
    }

    /// Takes some credits: at least one if there is one, and more while there are many. Zero when there is none.
    pub fn lease(&self) -> u32 {
        if self.unheard.load(SeqCst) > 0 {
            return 0;
        }
        let batch = |free: i64| if free > 0 { self.batch(free) } else { 0 };
        let taken = self.free.fetch_update(SeqCst, SeqCst, |free| match batch(free) {
            0 => None,
            batch => Some(free - batch),
        });
        taken.map_or(0, |free| u32::try_from(batch(free)).unwrap_or(0))
    }

    /// What is leased at a time when so much is free: all workers together take half of it.
    fn batch(&self, free: i64) -> i64 {
        (free / self.workers.saturating_mul(2)).max(1)
    }

    /// Takes credits that were leased back.
    pub fn give_back(&self, count: u32) {
        self.free.fetch_add(i64::from(count), SeqCst);
    }

    /// A worker says what it had before it knew of this ledger. That is more than there is, perhaps.
    pub fn seize(&self, count: u32) {
        self.free.fetch_sub(i64::from(count), SeqCst);
        let _ = self.unheard.fetch_update(SeqCst, SeqCst, |unheard| unheard.checked_sub(1));
    }

    /// Changes the limit; a lower one gives nothing out until enough has come back. Saying it again changes nothing.
    pub fn set_limit(&self, limit: u32) {
        let before = self.limit.swap(i64::from(limit), SeqCst);
        self.free.fetch_add(i64::from(limit) - before, SeqCst);
    }

    /// True when workers have more than there may be: then nobody uses what it has idle.
    pub fn is_overdrawn(&self) -> bool {
        self.free.load(SeqCst) < 0
    }

    /// True when something can be leased, for the moment.
    pub fn has_free(&self) -> bool {
        self.unheard.load(SeqCst) == 0 && self.free.load(SeqCst) > 0
    }

    /// How many idle credits a worker may keep: one batch while there is plenty, else none.
    pub fn keepable(&self) -> u32 {
        let (free, limit) = (self.free.load(SeqCst), self.limit.load(SeqCst));
        let plenty = free > 0 && free.saturating_mul(4) >= limit;
        if plenty { u32::try_from(self.batch(free)).unwrap_or(u32::MAX) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_shrink_with_what_is_free() {
        let ledger = Ledger::new(100, 2, 0);
        assert_eq!((ledger.lease(), ledger.lease()), (25, 18));
        let rest: Vec<_> = std::iter::from_fn(|| Some(ledger.lease()).filter(|batch| *batch > 0)).collect();
        assert_eq!(rest.iter().sum::<u32>(), 57);
        assert_eq!(rest.last(), Some(&1));
        assert!(!ledger.has_free() && ledger.keepable() == 0);
        ledger.give_back(30);
        assert!(ledger.has_free() && ledger.keepable() > 0);
    }

    #[test]
    fn a_lowered_limit_gives_nothing_out_until_enough_came_back() {
        let ledger = Ledger::new(4, 2, 0);
        assert_eq!(std::iter::repeat_with(|| ledger.lease()).take(4).sum::<u32>(), 4);
        ledger.set_limit(2);
        ledger.set_limit(2);
        ledger.give_back(2);
        assert_eq!((ledger.lease(), ledger.has_free()), (0, false));
        ledger.give_back(1);
        assert_eq!((ledger.lease(), ledger.lease()), (1, 0));
        ledger.set_limit(3);
        assert_eq!(ledger.lease(), 1);
    }

    #[test]
    fn a_limit_that_appears_waits_for_what_is_there_already() {
        let ledger = Ledger::new(5, 2, 2);
        ledger.seize(3);
        assert_eq!((ledger.lease(), ledger.has_free()), (0, false));
        ledger.seize(4);
        assert_eq!(ledger.lease(), 0, "seven are there, five are allowed");
        ledger.give_back(3);
        assert_eq!((ledger.lease(), ledger.lease()), (1, 0));
    }
}
