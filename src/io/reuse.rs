//! Futures whose memory is used again: what would be an allocation per run becomes one for the first run.
//!
//! The future's type has no name, so it is kept behind a trait object; a start moves its arguments in.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

/// A place in which futures of one kind run, one after the other.
pub type Reusable<A, T> = Pin<Box<dyn Rerun<A, T>>>;

/// Object-safe face of [`Slot`].
pub trait Rerun<A, T> {
    /// Drops what ran before and starts anew.
    fn start(self: Pin<&mut Self>, arguments: A);
    /// Polls what was started last; its memory stays, its contents are dropped when it is done.
    fn poll_done(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T>;
}

pin_project! {
    struct Slot<F, M> {
        make: M,
        #[pin]
        future: Option<F>,
    }
}

impl<A, F: Future, M: Fn(A) -> F> Rerun<A, F::Output> for Slot<F, M> {
    fn start(self: Pin<&mut Self>, arguments: A) {
        let mut this = self.project();
        let future = (this.make)(arguments);
        this.future.set(Some(future));
    }

    fn poll_done(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        let polled = this.future.as_mut().as_pin_mut().map_or(Poll::Pending, |future| future.poll(cx));
        if polled.is_ready() {
            this.future.set(None);
        }
        polled
    }
}

/// An empty place for futures that `make` makes.
pub fn reusable<A: 'static, F: Future + 'static>(make: impl Fn(A) -> F + 'static) -> Reusable<A, F::Output>
where
    F::Output: 'static,
{
    Box::pin(Slot { make, future: None })
}

#[cfg(test)]
mod tests {
    use std::{rc::Rc, task::Waker};

    use super::*;

    #[test]
    fn contents_are_dropped_when_done_and_the_place_runs_again() {
        let mut place = reusable(|held: Rc<u32>| async move { *held });
        let cx = &mut Context::from_waker(Waker::noop());
        for value in [1, 2] {
            let held = Rc::new(value);
            place.as_mut().start(Rc::clone(&held));
            assert_eq!(Rc::strong_count(&held), 2);
            assert_eq!(place.as_mut().poll_done(cx), Poll::Ready(value));
            assert_eq!(Rc::strong_count(&held), 1);
        }
        assert_eq!(place.as_mut().poll_done(cx), Poll::Pending);
    }
}
