//! One backend as one worker sees it: its addresses, its idle connections, its fitness, its numbers.

use std::{cell::Cell, net::SocketAddr, sync::Arc};

use super::setback::Setback;
use crate::{
    io::alarm::Millis,
    stats::{
        names::{BackendCount, BackendLevel},
        worker::BackendStats,
    },
    upstream::pool::IdlePool,
};

/// A worker's own record of a backend.
pub struct Backend {
    name: Arc<str>,
    addresses: Vec<SocketAddr>,
    /// Which address worked last.
    preferred: Cell<usize>,
    setback: Cell<Setback>,
    pool: IdlePool,
    stats: Arc<BackendStats>,
}

impl Backend {
    /// A backend nothing is known of.
    pub fn new(name: Arc<str>, addresses: Vec<SocketAddr>, stats: Arc<BackendStats>) -> Self {
        Backend {
            name,
            addresses,
            preferred: Cell::new(0),
            setback: Cell::default(),
            pool: IdlePool::new(Arc::clone(&stats)),
            stats,
        }
    }

    /// The name in logs and metrics.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its idle connections.
    pub fn pool(&self) -> &IdlePool {
        &self.pool
    }

    /// Its numbers.
    pub fn stats(&self) -> &BackendStats {
        &self.stats
    }

    /// Its addresses with their places, beginning with the one that worked last.
    pub fn addresses(&self) -> impl Iterator<Item = (usize, SocketAddr)> {
        let count = self.addresses.len().max(1);
        let first = self.preferred.get();
        (0..self.addresses.len()).filter_map(move |step| {
            let place = (first + step) % count;
            self.addresses.get(place).map(|address| (place, *address))
        })
    }

    /// False while it is set aside.
    pub fn is_fit(&self, now: Millis) -> bool {
        !self.setback.get().holds(now)
    }

    /// A connection could not be made.
    pub fn refused(&self, now: Millis) {
        self.stats.count(BackendCount::ConnectFailures);
        let mut setback = self.setback.get();
        let fresh = setback == Setback::default();
        if setback.failed(now) {
            self.stats.count(BackendCount::Skips);
            if fresh {
                self.stats.raise(BackendLevel::Skipped);
            }
        }
        self.setback.set(setback);
    }

    /// A connection was made, to the address at this place.
    pub fn connected(&self, place: usize) {
        self.stats.count(BackendCount::Connects);
        self.preferred.set(place);
        if self.setback.replace(Setback::default()) != Setback::default() {
            self.stats.lower(BackendLevel::Skipped);
        }
    }
}
