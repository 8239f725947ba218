//! Takes connections off one accept queue: readiness on the ring, then `accept4(2)` in bounded batches.
//!
//! One task per worker and listener. Running out of descriptors pauses it; it never ends by an error.

use std::{cell::Cell, net::SocketAddr, os::fd::OwnedFd, rc::Rc, task::Poll, time::Duration};

use rustix::io::Errno;

use crate::{
    io::{alarm::Alarm, watch::Watch},
    limits::{ACCEPT_BATCH_MAX, ACCEPT_LONE_MAX, LISTEN_BACKLOG},
    shard::Shard,
    stats::names::Count,
    sys::socket,
};

/// How long accepting pauses when descriptors or memory are used up.
const PAUSE: Duration = Duration::from_millis(50);

/// What a failed accept means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// Nobody waits.
    Empty,
    /// That connection is gone; the next may be fine.
    Aborted,
    /// Descriptors or memory are used up: pause.
    Exhausted,
    /// Anything else: pause, too, so that no error spins.
    Other,
}

/// Sorts the errors of `accept4(2)`; Linux passes pending network errors of the new socket through it.
fn trouble(error: &std::io::Error) -> Trouble {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::AGAIN) => Trouble::Empty,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => Trouble::Exhausted,
        Some(
            Errno::CONNABORTED
            | Errno::INTR
            | Errno::PROTO
            | Errno::NETDOWN
            | Errno::NOPROTOOPT
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::OPNOTSUPP
            | Errno::NETUNREACH
            | Errno::PERM,
        ) => Trouble::Aborted,
        None => Trouble::Aborted,
        Some(_) => Trouble::Other,
    }
}

/// Accepts until the worker drains or the listener is `closing` (then [`crate::io::alarm::Alarms::rouse`] it); takes what
/// has already been shaken hands with and closes the listener.
pub async fn run(
    shard: Rc<Shard>,
    closing: Rc<Cell<bool>>,
    mut listener: Watch,
    serve: impl Fn(OwnedFd, Option<SocketAddr>),
) {
    let alarm = shard.alarms.register();
    std::future::poll_fn(|cx| {
        alarm.attach(cx.waker());
        Poll::Ready(())
    })
    .await;
    let mut crowd = Crowd::default();
    loop {
        let wanted = crowd.wanted();
        let (batch, count) = take_batch(&shard, &listener, &serve, wanted);
        crowd.came(wanted, count);
        if shard.is_draining() || closing.get() {
            return empty(&shard, &listener, &serve, batch);
        }
        match batch {
            Batch::Exhausted => wait(&alarm).await,
            // The readiness of a queue that still holds connections comes by way of the ring, after others.
            Batch::Full | Batch::Empty => {
                std::future::poll_fn(|cx| match listener.poll_readable(cx) {
                    Poll::Pending if shard.is_draining() || closing.get() => Poll::Ready(()),
                    other => other,
                })
                .await;
            }
        }
    }
}

/// Takes everything a draining listener has already shaken hands with.
fn empty(shard: &Shard, listener: &Watch, serve: &impl Fn(OwnedFd, Option<SocketAddr>), mut batch: Batch) {
    let batches = LISTEN_BACKLOG.unsigned_abs() as usize / ACCEPT_BATCH_MAX;
    for _ in 0..batches {
        if batch != Batch::Full {
            return;
        }
        (batch, _) = take_batch(shard, listener, serve, ACCEPT_BATCH_MAX);
    }
}

/// How many connections to take at once. A try at an empty queue costs nearly as much as an accept, so where connections come
/// one by one nobody looks for a second; every so often it is seen whether there are more, and then all are taken.
#[derive(Debug, Default)]
struct Crowd {
    /// How many came since somebody looked for more, while there were none.
    lone: u32,
}

impl Crowd {
    fn wanted(&self) -> usize {
        if self.lone < ACCEPT_LONE_MAX { 1 } else { ACCEPT_BATCH_MAX }
    }

    fn came(&mut self, wanted: usize, count: usize) {
        match (wanted, count) {
            (1, _) => self.lone += 1,
            (_, 0 | 1) => self.lone = 0,
            _ => {}
        }
    }
}

/// How a batch of accepts ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Batch {
    /// Nobody waits any more.
    Empty,
    /// Somebody may still wait.
    Full,
    /// Descriptors or memory are used up, or something is wrong.
    Exhausted,
}

/// Accepts at most so many; also how many they were.
fn take_batch(
    shard: &Shard,
    listener: &Watch,
    serve: &impl Fn(OwnedFd, Option<SocketAddr>),
    wanted: usize,
) -> (Batch, usize) {
    let mut count = 0;
    for _ in 0..wanted {
        match socket::accept(listener) {
            Ok((connection, peer)) => {
                count += 1;
                shard.stats.count(Count::ConnectionsAccepted);
                serve(connection, peer);
            }
            Err(error) => match trouble(&error) {
                Trouble::Empty => return (Batch::Empty, count),
                Trouble::Aborted => shard.stats.count(Count::AcceptErrorsAborted),
                Trouble::Exhausted => {
                    shard.stats.count(Count::AcceptErrorsDescriptors);
                    return (Batch::Exhausted, count);
                }
                Trouble::Other => {
                    shard.stats.count(Count::AcceptErrorsOther);
                    return (Batch::Exhausted, count);
                }
            },
        }
    }
    (Batch::Full, count)
}

async fn wait(alarm: &Alarm) {
    alarm.set(PAUSE);
    let _ = alarm.bound(|_| Poll::<()>::Pending).await;
    alarm.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_alone_is_taken_alone_and_a_crowd_all_at_once() {
        let mut crowd = Crowd::default();
        let mut asked = Vec::new();
        for waiting in [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 90, 90, 90, 90, 90, 90, 90, 90, 90, 3, 1, 1] {
            let wanted = crowd.wanted();
            asked.push(wanted);
            crowd.came(wanted, wanted.min(waiting));
        }
        let usual = [1; 8];
        assert_eq!(asked[..8], usual);
        assert_eq!((asked[8], &asked[9..17]), (ACCEPT_BATCH_MAX, &usual[..]));
        assert_eq!(asked[17..], [ACCEPT_BATCH_MAX, ACCEPT_BATCH_MAX, ACCEPT_BATCH_MAX, ACCEPT_BATCH_MAX, 1]);
    }

    #[test]
    fn only_an_empty_queue_waits_and_only_poverty_pauses() {
        let of = |errno: Errno| trouble(&errno.into());
        assert_eq!(of(Errno::AGAIN), Trouble::Empty);
        assert_eq!(of(Errno::CONNABORTED), Trouble::Aborted);
        assert_eq!(of(Errno::MFILE), Trouble::Exhausted);
        assert_eq!(of(Errno::NFILE), Trouble::Exhausted);
        assert_eq!(of(Errno::BADF), Trouble::Other);
    }
}
