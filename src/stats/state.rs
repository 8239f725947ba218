//! How a backend stands, for everybody to read: written by the control thread alone.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicU8, Ordering::Relaxed},
};

use crate::health::standing::State;

/// One backend's.
#[derive(Debug, Default)]
pub struct StateCell {
    state: AtomicU8,
    reason: RwLock<Arc<str>>,
}

impl StateCell {
    /// How it stands, and why; the reason is empty for what is as configured.
    pub fn get(&self) -> (State, Arc<str>) {
        let state = State::ALL.get(usize::from(self.state.load(Relaxed))).copied().unwrap_or_default();
        (state, Arc::clone(&self.reason.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// It stands so now. Control thread only.
    pub fn set(&self, state: State, reason: &str) {
        self.state.store(state as u8, Relaxed);
        *self.reason.write().unwrap_or_else(PoisonError::into_inner) = Arc::from(reason);
    }
}
