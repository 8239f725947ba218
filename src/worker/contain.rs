//! The wall around a connection: a panic inside ends that connection and nothing else.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, ready},
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

pin_project! {
    /// A contained future with something to be done after it.
    ///
    /// An `async` block that awaits the future it has captured has room for it twice, which every idle connection would pay.
    pub struct Followed<F, T> {
        #[pin]
        inner: Option<Contained<F>>,
        then: Option<T>,
    }
}

impl<F: Future> Contained<F> {
    /// Calls `then` once when the future has ended and is gone.
    pub fn then<T: FnOnce(Result<F::Output, Panicked>)>(self, then: T) -> Followed<F, T> {
        Followed { inner: Some(self), then: Some(then) }
    }
}

impl<F: Future, T: FnOnce(Result<F::Output, Panicked>)> Future for Followed<F, T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Ready(()) };
        let outcome = ready!(inner.poll(cx));
        this.inner.set(None);
        if let Some(then) = this.then.take() {
            then(outcome);
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        future::{pending, poll_fn},
        pin::pin,
        rc::Rc,
        task::Waker,
    };

    use super::*;

    #[test]
    fn a_panic_becomes_an_error() {
        let mut contained = pin!(contain(async { panic!("on purpose") }));
        let polled: Poll<Result<(), _>> = contained.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(polled, Poll::Ready(Err(Panicked)));
    }

    #[test]
    fn what_follows_comes_once_and_finds_everything_gone() {
        let (alive, ends) = (Rc::new(()), Cell::new(0));
        let held = Rc::clone(&alive);
        let mut turns = 0;
        let session = poll_fn(move |_| {
            turns += Rc::strong_count(&held);
            if turns > 2 { Poll::Ready(()) } else { Poll::Pending }
        });
        let mut followed = pin!(contain(session).then(|outcome| {
            assert_eq!((outcome, Rc::strong_count(&alive)), (Ok(()), 1));
            ends.set(ends.get() + 1);
        }));
        let mut cx = Context::from_waker(Waker::noop());
        let polled = [(); 3].map(|()| followed.as_mut().poll(&mut cx));
        assert_eq!((polled, ends.get()), ([Poll::Pending, Poll::Ready(()), Poll::Ready(())], 1));
    }

    #[test]
    fn no_room_is_taken_twice() {
        let room = [0u8; 512];
        let session = async move {
            pending::<()>().await;
            std::hint::black_box(room);
        };
        let size = size_of_val(&session);
        let followed = contain(session).then(|_| ());
        assert!(size_of_val(&followed) < size + 64);
    }
}
