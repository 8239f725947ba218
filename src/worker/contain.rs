//! The wall around a connection: a panic inside ends that connection and nothing else.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

pin_project! {
    /// A future whose panics become an `Err`.
    pub struct Contained<F> {
        #[pin]
        inner: F,
    }
}

/// Somebody else's bug; the connection it happened in is closed when the future is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Panicked;

/// Puts the wall around `inner`.
pub fn contain<F: Future>(inner: F) -> Contained<F> {
    Contained { inner }
}

impl<F: Future> Future for Contained<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let inner = self.project().inner;
        // After a panic the future is only dropped, never polled again, so broken invariants stay unseen.
        match catch_unwind(AssertUnwindSafe(|| inner.poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, task::Waker};

    use super::*;

    #[test]
    fn a_panic_becomes_an_error() {
        let mut contained = pin!(contain(async { panic!("on purpose") }));
        let polled: Poll<Result<(), _>> = contained.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(polled, Poll::Ready(Err(Panicked)));
    }
}
