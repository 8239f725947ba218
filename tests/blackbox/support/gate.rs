//! A gate at a backend: requests go through it together, so many at a time.

use std::sync::{Condvar, Mutex};

use super::PATIENCE;

#[derive(Default)]
struct State {
    /// Who is being served.
    inside: usize,
    /// The most there ever were.
    most: usize,
    /// Who waits for the others.
    waiting: usize,
    /// How often it was opened.
    openings: usize,
}

/// Opens when `size` are there.
pub(crate) struct Gate {
    size: usize,
    state: Mutex<State>,
    opened: Condvar,
}

impl Gate {
    pub(crate) fn new(size: usize) -> Self {
        Self { size, state: Mutex::default(), opened: Condvar::new() }
    }

    /// Waits until so many are there as it takes. False when they did not come.
    pub(crate) fn pass(&self) -> bool {
        let mut state = self.state.lock().unwrap();
        state.inside += 1;
        state.most = state.most.max(state.inside);
        state.waiting += 1;
        let number = state.openings;
        if state.waiting == self.size {
            (state.waiting, state.openings) = (0, number + 1);
            self.opened.notify_all();
        }
        let (mut state, late) =
            self.opened.wait_timeout_while(state, PATIENCE, |state| state.openings == number).unwrap();
        // Its answer has not left yet, so nobody can have its place.
        state.inside -= 1;
        !late.timed_out()
    }

    /// The most that were there at once.
    pub(crate) fn most(&self) -> usize {
        self.state.lock().unwrap().most
    }
}
