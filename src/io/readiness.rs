//! One direction's readiness: a poll operation on the ring that stays armed until it fires.
//!
//! Dropping a future that waits here loses nothing: the operation belongs to the stream, not to the wait.
//! That lets one armed poll serve two purposes in turn (an idle pooled connection is watched by the same
//! operation that later announces its response), which keeps a warm exchange at two ring operations.

use std::{
    cell::Cell,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

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
    operation: Option<Pin<Box<dyn Rearm>>>,
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
            operation.as_mut().rearm(descriptor.clone());
            self.armed = true;
        }
        let fired = operation.as_mut().poll_fired(cx);
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

/// Object-safe face of [`Operation`], whose future has no name.
trait Rearm {
    fn rearm(self: Pin<&mut Self>, descriptor: Descriptor);
    fn poll_fired(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()>;
}

pin_project! {
    struct Operation<F, M> {
        make: M,
        #[pin]
        future: Option<F>,
    }
}

impl<F: Future<Output = ()>, M: Fn(Descriptor) -> F> Rearm for Operation<F, M> {
    fn rearm(self: Pin<&mut Self>, descriptor: Descriptor) {
        let mut this = self.project();
        let future = (this.make)(descriptor);
        this.future.set(Some(future));
    }

    fn poll_fired(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let fired = this.future.as_mut().as_pin_mut().map_or(Poll::Ready(()), |future| future.poll(cx));
        if fired.is_ready() {
            // Releases the descriptor, so that a close needs no help from the ring.
            this.future.set(None);
        }
        fired
    }
}

fn start(interest: Interest) -> Pin<Box<dyn Rearm>> {
    match interest {
        Interest::Readable => Box::pin(Operation { make: Descriptor::readable, future: None }),
        Interest::Writable => Box::pin(Operation { make: Descriptor::writable, future: None }),
    }
}
