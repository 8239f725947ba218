//! A backend's idle connections on one worker: last in, first out, capped, watched for every sign of life.
//!
//! An idle connection is silent by definition: its armed readable watch fires on FIN, RST and on bytes nobody
//! asked for, and then it is never reused.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    sync::Arc,
};

use crate::{
    cluster::room::Seat,
    io::{alarm::Millis, stream::Stream},
    limits::IDLE_PER_BACKEND_MAX,
    stats::{names::BackendLevel, worker::BackendStats},
};

struct Idle {
    stream: Stream,
    since: Millis,
    /// What followed its last response may still be on its way.
    unsettled: bool,
    /// Whom its PROXY protocol header speaks for.
    client: Option<SocketAddr>,
    /// Behind the stream: the place is free when that is closed.
    seat: Seat,
}

impl Idle {
    /// False while bytes behind the last response could arrive together with the answer to the next request.
    fn is_settled(&self, now: Millis) -> bool {
        !self.unsettled || now.saturating_sub(self.since) > SETTLE_MS
    }
}

/// How long a connection settles whose last receive may have left bytes behind: longer than a round trip in a data
/// centre and two ticks of the coarse clock.
const SETTLE_MS: Millis = 9;

/// Idle connections, the freshest on top.
pub struct IdlePool {
    idle: RefCell<Vec<Idle>>,
    is_closed: Cell<bool>,
    stats: Arc<BackendStats>,
}

/// How many connections a clean-up closed, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// The backend closed them or sent something.
    pub stale: u64,
    /// They were idle for too long.
    pub expired: u64,
}

impl IdlePool {
    /// An empty pool.
    pub fn new(stats: Arc<BackendStats>) -> Self {
        IdlePool { idle: RefCell::default(), is_closed: Cell::new(false), stats }
    }

    /// Takes the freshest settled connection that has been silent, and tells how many were not. Only one that speaks
    /// for the same `client` will do, or for nobody.
    pub fn take(&self, now: Millis, client: Option<SocketAddr>) -> (Option<(Stream, Seat)>, u64) {
        let mut stale = 0;
        let mut idle = self.idle.borrow_mut();
        while let Some(place) = idle.iter().rposition(|idle| idle.client == client && idle.is_settled(now)) {
            let mut freshest = idle.remove(place);
            self.stats.lower(BackendLevel::Idle);
            if freshest.stream.has_been_silent() {
                freshest.seat.park(false);
                return (Some((freshest.stream, freshest.seat)), stale);
            }
            stale += 1;
        }
        (None, stale)
    }

    /// Keeps a connection for the next request; one that is `unsettled` is left alone for a moment. A full pool
    /// closes it instead. False when it was not silent, and closed.
    pub fn put(
        &self,
        (mut stream, mut seat): (Stream, Seat),
        now: Millis,
        unsettled: bool,
        client: Option<SocketAddr>,
    ) -> bool {
        let mut idle = self.idle.borrow_mut();
        // A watch that has fired was for what has been received since; the next one begins with a look.
        let silent = stream.has_been_silent() || (stream.is_silent() && stream.has_been_silent());
        if silent && idle.len() < IDLE_PER_BACKEND_MAX && !self.is_closed.get() {
            self.stats.raise(BackendLevel::Idle);
            seat.park(true);
            idle.push(Idle { stream, since: now, unsettled, client, seat });
        }
        silent
    }

    /// Closes what is stale and what has been idle since before `oldest`.
    pub fn sweep(&self, oldest: Millis) -> Swept {
        let mut swept = Swept::default();
        self.idle.borrow_mut().retain_mut(|idle| {
            let expired = idle.since < oldest;
            let stale = !expired && !idle.stream.has_been_silent();
            swept.expired += u64::from(expired);
            swept.stale += u64::from(stale);
            if expired || stale {
                self.stats.lower(BackendLevel::Idle);
            }
            !expired && !stale
        });
        swept
    }

    /// Closes what speaks for a client that has left.
    pub fn forget(&self, client: SocketAddr) {
        self.idle.borrow_mut().retain(|idle| {
            let other = idle.client != Some(client);
            if !other {
                self.stats.lower(BackendLevel::Idle);
            }
            other
        });
    }

    /// Closes the one that has been idle longest, to make room for another connection. False when there is none.
    pub fn evict(&self) -> bool {
        let mut idle = self.idle.borrow_mut();
        let evicted = (!idle.is_empty()).then(|| idle.remove(0));
        drop(idle);
        if evicted.is_some() {
            self.stats.lower(BackendLevel::Idle);
        }
        evicted.is_some()
    }

    /// Closes all of them, and keeps none from now on.
    pub fn close(&self) {
        self.is_closed.set(true);
        self.clear();
    }

    /// Closes all of them.
    pub fn clear(&self) {
        for _ in self.idle.take() {
            self.stats.lower(BackendLevel::Idle);
        }
    }

    /// How many are idle.
    pub fn len(&self) -> usize {
        self.idle.borrow().len()
    }

    /// True when none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
