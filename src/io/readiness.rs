//! One direction's readiness: a poll operation on the ring that stays armed until it fires.
//!
//! Dropping a future that waits here loses nothing: the operation belongs to the stream, not to the wait.
//! That lets one armed poll serve two purposes in turn (an idle pooled connection is watched by the same
//! operation that later announces its response), which keeps a warm exchange at two ring operations.

use std::{
    cell::Cell,
    task::{Context, Poll},
};

use super::reuse::{Reusable, reusable};
use crate::sys::descriptor::Descriptor;

/// Which readiness to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interest {
    Readable,
    Writable,
}

/// A re-armable wait. The memory of the operation is allocated on first use and then kept.
pub(super) struct Readiness {
    interest: Interest,
    armed: bool,
    operation: Option<Reusable<Descriptor, ()>>,
}

impl Readiness {
    pub(super) fn new(interest: Interest) -> Self {
        Readiness { interest, armed: false, operation: None }
    }

    /// True while an operation is in flight on the ring.
    pub(super) fn is_armed(&self) -> bool {
        self.armed
    }

    /// Arms if needed; ready once the operation has fired. Each `Ready` stands for one fired operation.
    pub(super) fn poll(&mut self, descriptor: &Descriptor, cx: &mut Context<'_>) -> Poll<()> {
        let interest = self.interest;
        let operation = self.operation.get_or_insert_with(|| start(interest));
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

fn start(interest: Interest) -> Reusable<Descriptor, ()> {
    match interest {
        Interest::Readable => reusable(Descriptor::readable),
        Interest::Writable => reusable(Descriptor::writable),
    }
}
