//! A backend's idle connections on one worker: last in, first out, capped, watched for every sign of life.
//!
//! An idle connection is silent by definition: its armed readable watch fires on FIN, RST and on bytes nobody
//! asked for, and then it is never reused. One whose PROXY protocol header speaks for a client waits for that client.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
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

/// Idle connections.
#[derive(Default)]
struct Kept {
    /// For everybody, the freshest on top.
    common: Vec<Idle>,
    /// For those that their PROXY protocol headers speak for, who have one request at a time.
    by_client: HashMap<SocketAddr, Idle>,
}

impl Kept {
    fn len(&self) -> usize {
        self.common.len() + self.by_client.len()
    }

    /// The freshest one for a client, or for everybody, that is settled.
    fn take(&mut self, now: Millis, client: Option<SocketAddr>) -> Option<Idle> {
        match client {
            None => {
                let place = self.common.iter().rposition(|idle| idle.is_settled(now))?;
                Some(self.common.remove(place))
            }
            Some(client) => {
                self.by_client.get(&client).filter(|idle| idle.is_settled(now))?;
                self.by_client.remove(&client)
            }
        }
    }

    /// Adds one; returns the one that it replaces.
    fn put(&mut self, idle: Idle, client: Option<SocketAddr>) -> Option<Idle> {
        match client {
            None => {
                self.common.push(idle);
                None
            }
            Some(client) => self.by_client.insert(client, idle),
        }
    }

    /// Removes the one that has been idle longest.
    fn evict(&mut self) -> Option<Idle> {
        let common = self.common.first().map(|idle| idle.since);
        let oldest = self.by_client.iter().map(|(client, idle)| (idle.since, *client)).min();
        match (common, oldest) {
            (Some(since), oldest) if oldest.is_none_or(|(oldest, _)| since <= oldest) => {
                Some(self.common.remove(0))
            }
            (_, oldest) => self.by_client.remove(&oldest?.1),
        }
    }
}

/// The idle connections to a backend.
pub struct IdlePool {
    kept: RefCell<Kept>,
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
        IdlePool { kept: RefCell::default(), is_closed: Cell::new(false), stats }
    }

    /// Takes the freshest settled connection that has been silent, and tells how many were not. Only one that speaks
    /// for the same `client` will do, or for nobody.
    pub fn take(&self, now: Millis, client: Option<SocketAddr>) -> (Option<(Stream, Seat)>, u64) {
        let mut stale = 0;
        let mut kept = self.kept.borrow_mut();
        while let Some(mut freshest) = kept.take(now, client) {
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
        let mut kept = self.kept.borrow_mut();
        // A watch that has fired was for what has been received since; the next one begins with a look.
        let silent = stream.has_been_silent() || (stream.is_silent() && stream.has_been_silent());
        if silent && kept.len() < IDLE_PER_BACKEND_MAX && !self.is_closed.get() {
            self.stats.raise(BackendLevel::Idle);
            seat.park(true);
            let replaced = kept.put(Idle { stream, since: now, unsettled, seat }, client);
            self.have_left(usize::from(replaced.is_some()));
        }
        silent
    }

    /// Closes what is stale and what has been idle since before `oldest`.
    pub fn sweep(&self, oldest: Millis) -> Swept {
        let mut swept = Swept::default();
        let mut stays = |idle: &mut Idle| {
            let expired = idle.since < oldest;
            let stale = !expired && !idle.stream.has_been_silent();
            swept.expired += u64::from(expired);
            swept.stale += u64::from(stale);
            !expired && !stale
        };
        let mut kept = self.kept.borrow_mut();
        let before = kept.len();
        kept.common.retain_mut(&mut stays);
        kept.by_client.retain(|_, idle| stays(idle));
        self.have_left(before - kept.len());
        swept
    }

    /// Closes what speaks for a client that has left.
    pub fn forget(&self, client: SocketAddr) {
        let forgotten = self.kept.borrow_mut().by_client.remove(&client);
        self.have_left(usize::from(forgotten.is_some()));
    }

    /// Closes the one that has been idle longest, to make room for another connection. False when there is none.
    pub fn evict(&self) -> bool {
        let evicted = self.kept.borrow_mut().evict();
        self.have_left(usize::from(evicted.is_some()));
        evicted.is_some()
    }

    /// Closes all of them, and keeps none from now on.
    pub fn close(&self) {
        self.is_closed.set(true);
        self.clear();
    }

    /// Closes all of them.
    pub fn clear(&self) {
        self.have_left(self.kept.take().len());
    }

    /// How many are idle.
    pub fn len(&self) -> usize {
        self.kept.borrow().len()
    }

    /// True when none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// So many are not idle any more.
    fn have_left(&self, count: usize) {
        (0..count).for_each(|_| self.stats.lower(BackendLevel::Idle));
    }
}
