//! The ledgers that somebody still holds, by cluster and backend.
//!
//! Built on the control thread with each blueprint. A backend that leaves with one reload and is back with another finds its own
//! again as long as anything of it is in progress, so that its limit counts that too. Holds nothing itself.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use super::ledger::Ledger;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Requests in flight.
    Requests,
    /// Open connections.
    Connections,
}

type Key = (Arc<str>, Arc<str>, Kind);

/// Where each ledger is.
#[derive(Debug, Clone, Default)]
pub struct Ledgers(HashMap<Key, Weak<Ledger>>);

impl Ledgers {
    /// Those that are still of use.
    pub fn still_held(&self) -> Self {
        let held = self.0.iter().filter(|(_, ledger)| ledger.strong_count() > 0);
        Ledgers(held.map(|(key, ledger)| (key.clone(), Weak::clone(ledger))).collect())
    }

    /// The one of this name that somebody still holds, or a new one.
    pub(super) fn get_or(&mut self, key: Key, new: impl FnOnce() -> Ledger) -> Arc<Ledger> {
        let held = self.0.get(&key).and_then(Weak::upgrade);
        held.unwrap_or_else(|| self.put(key, new()))
    }

    /// A new one, whatever was known by this name.
    pub(super) fn put(&mut self, key: Key, ledger: Ledger) -> Arc<Ledger> {
        let ledger = Arc::new(ledger);
        self.0.insert(key, Arc::downgrade(&ledger));
        ledger
    }
}
