//! A worker's credits of one kind at one backend: what it uses, and what it keeps for the next moment.
//!
//! Owned by one worker. What is used is counted whether there is a limit or not, so that a limit may appear with a
//! reload. Dropping it gives everything back.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
};

use super::ledger::Ledger;

/// What one worker has.
#[derive(Debug, Default)]
pub struct Credits {
    used: Cell<u32>,
    /// What it has from the ledger, used or not.
    held: Cell<u32>,
    /// Without one there is no limit.
    ledger: RefCell<Option<Arc<Ledger>>>,
}

impl Credits {
    /// True when there is a limit.
    pub fn are_limited(&self) -> bool {
        self.ledger.borrow().is_some()
    }

    /// Uses one that is at hand or can be leased. False when there is none.
    pub fn take(&self) -> bool {
        let granted = self.secure(1, true);
        if granted {
            self.used.set(self.used.get().saturating_add(1));
        }
        granted
    }

    /// One that was used is idle again, until it is taken or trimmed.
    pub fn release(&self) {
        self.used.set(self.used.get().saturating_sub(1));
    }

    /// How many are at hand.
    fn idle(&self, ledger: &Ledger) -> u32 {
        // A limit that was lowered holds for what is idle too.
        if ledger.is_overdrawn() { 0 } else { self.held.get().saturating_sub(self.used.get()) }
    }

    /// Leases, if that is allowed, until so many are at hand. False when there are too few.
    pub fn secure(&self, wanted: u32, may_lease: bool) -> bool {
        let ledger = self.ledger.borrow();
        let Some(ledger) = &*ledger else { return true };
        if ledger.is_overdrawn() {
            self.give_back(ledger, 0);
        }
        while self.idle(ledger) < wanted {
            match if may_lease { ledger.lease() } else { 0 } {
                0 => return false,
                batch => self.held.set(self.held.get().saturating_add(batch)),
            }
        }
        true
    }

    /// True when one may be had, as far as can be seen without taking it.
    pub fn may_be_had(&self, may_lease: bool) -> bool {
        let ledger = self.ledger.borrow();
        ledger.as_ref().is_none_or(|ledger| self.idle(ledger) > 0 || may_lease && ledger.has_free())
    }

    /// True when workers have more than there may be: what ends is not begun again.
    pub fn are_overdrawn(&self) -> bool {
        self.ledger.borrow().as_ref().is_some_and(|ledger| ledger.is_overdrawn())
    }

    /// Gives back what is idle, but for `reserved` ones and, unless somebody else `wants` them, what may be kept. How many
    /// were given back.
    pub fn trim(&self, reserved: u32, wants: bool) -> u32 {
        let ledger = self.ledger.borrow();
        let Some(ledger) = &*ledger else { return 0 };
        self.give_back(ledger, if wants { reserved } else { reserved.max(ledger.keepable()) })
    }

    /// Gives back all idle ones but so many.
    fn give_back(&self, ledger: &Ledger, keep: u32) -> u32 {
        let surplus = self.held.get().saturating_sub(self.used.get()).saturating_sub(keep);
        if surplus > 0 {
            self.held.set(self.held.get() - surplus);
            ledger.give_back(surplus);
        }
        surplus
    }

    /// Goes by this ledger from now on, and tells it what is in use.
    pub fn adopt(&self, ledger: Option<&Arc<Ledger>>) {
        let mut own = self.ledger.borrow_mut();
        let same = match (&*own, ledger) {
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            (own, other) => own.is_none() && other.is_none(),
        };
        if same {
            return;
        }
        if let Some(old) = own.take() {
            old.give_back(self.held.get());
        }
        if let Some(ledger) = ledger {
            ledger.seize(self.used.get());
        }
        self.held.set(if ledger.is_some() { self.used.get() } else { 0 });
        *own = ledger.cloned();
    }
}

impl Drop for Credits {
    fn drop(&mut self) {
        self.adopt(None);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    use proptest::prelude::*;

    use super::*;

    /// Everything that is free, and has to be given back.
    fn drain(ledger: &Ledger) -> u32 {
        let all = std::iter::from_fn(|| Some(ledger.lease()).filter(|batch| *batch > 0)).sum();
        ledger.give_back(all);
        all
    }

    #[test]
    fn a_limit_that_appears_counts_what_is_in_use() {
        let (here, there) = (Credits::default(), Credits::default());
        assert!((0..3).all(|_| here.take()) && there.take());
        let ledger = Arc::new(Ledger::new(5, 2, 2));
        here.adopt(Some(&ledger));
        assert!(!here.take(), "the other worker was not heard yet");
        there.adopt(Some(&ledger));
        assert!(here.take() && !there.take());
        (0..4).for_each(|_| here.release());
        here.trim(0, true);
        assert!(there.take());
        drop((here, there));
        assert_eq!(drain(&ledger), 5);
    }

    proptest! {
        /// Whatever workers do in whatever order: the limit holds, and everything comes back.
        #[test]
        fn the_sum_never_exceeds_the_limit(
            limit in 1u32..20,
            workers in 1usize..5,
            steps in prop::collection::vec((0usize..5, 0u8..8, 1u32..20), 1..200),
        ) {
            let ledger = Arc::new(Ledger::new(limit, workers, 0));
            let credits: Vec<_> = (0..workers).map(|_| Credits::default()).collect();
            credits.iter().for_each(|credits| credits.adopt(Some(&ledger)));
            let (mut used, mut limit) = (vec![0u32; workers], limit);
            for (worker, what, value) in steps {
                let worker = worker % workers;
                let before: u32 = used.iter().sum();
                match what {
                    0..=2 => {
                        let taken = credits[worker].take();
                        used[worker] += u32::from(taken);
                        prop_assert!(!taken || before < limit);
                        // Whoever has an idle credit is never refused.
                        prop_assert!(taken || !credits[worker].may_be_had(true));
                    }
                    3..=5 if used[worker] > 0 => {
                        credits[worker].release();
                        used[worker] -= 1;
                    }
                    6 => {
                        credits[worker].trim(0, value % 2 == 0);
                    }
                    7 => {
                        limit = value;
                        ledger.set_limit(limit);
                    }
                    _ => {}
                }
            }
            for (credits, used) in credits.iter().zip(used) {
                (0..used).for_each(|_| credits.release());
                credits.trim(0, true);
            }
            prop_assert_eq!(drain(&ledger), limit);
        }
    }

    #[test]
    fn threads_that_hurry_never_exceed_the_limit() {
        const LIMIT: u32 = 7;
        let ledger = Arc::new(Ledger::new(LIMIT, 4, 0));
        let (inside, most) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for worker in 0..4u32 {
                let (ledger, inside, most) = (&ledger, &inside, &most);
                scope.spawn(move || {
                    let credits = Credits::default();
                    credits.adopt(Some(ledger));
                    let mut used = 0;
                    for turn in 0..20_000u32 {
                        if turn.wrapping_mul(2_654_435_761).wrapping_add(worker) >> 16 & 3 != 0 {
                            if credits.take() {
                                used += 1;
                                most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                            }
                        } else {
                            inside.fetch_sub(used, SeqCst);
                            (0..used).for_each(|_| credits.release());
                            used = 0;
                            credits.trim(0, turn % 2 == 0);
                        }
                    }
                    inside.fetch_sub(used, SeqCst);
                });
            }
        });
        assert!(most.load(SeqCst) <= LIMIT, "{most:?}");
        assert_eq!(drain(&ledger), LIMIT);
    }
}
