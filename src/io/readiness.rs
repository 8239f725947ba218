//! Waiting on the ring until a descriptor is readable: one poll operation at a time, kept armed across futures.
//!
//! The operation belongs to the descriptor's owner, not to the future that waits for it: dropping a wait loses nothing
//! and cancels nothing, and the next wait finds the same operation.

use std::{
    cell::Cell,
    task::{Context, Poll},
};

use super::reuse::{Reusable, reusable};
use crate::sys::descriptor::Descriptor;

/// A re-armable wait. The memory of the operation is allocated on first use and then kept.
#[derive(Default)]
pub(super) struct Readiness {
    armed: bool,
    operation: Option<Reusable<Descriptor, ()>>,
}

impl Readiness {
    /// Arms if needed; ready once the operation has fired. Each `Ready` stands for one fired operation.
    pub(super) fn poll(&mut self, descriptor: &Descriptor, cx: &mut Context<'_>) -> Poll<()> {
        let operation = self.operation.get_or_insert_with(|| reusable(Descriptor::readable));
        if !self.armed {
            operation.as_mut().start(descriptor.clone());
            self.armed = true;
        }
        let fired = operation.as_mut().poll_done(cx);
        if fired.is_ready() {
            self.armed = false;
            FIRED.with(|fired| fired.set(fired.get() + 1));
        }
        fired
    }
}

thread_local! {
    /// Poll operations that fired on this worker's ring and are not counted yet.
    static FIRED: Cell<u64> = const { Cell::new(0) };
}

/// Takes the number of poll operations that fired since the last call.
pub fn take_fired() -> u64 {
    FIRED.with(Cell::take)
}
