//! One backend as one worker sees it: its addresses, its idle connections, its fitness, its numbers.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use super::setback::Setback;
use crate::{
    addr::Endpoint,
    config::plan::BackendPlan,
    fault::Fault,
    io::alarm::Millis,
    stats::{
        names::{BackendCount, BackendLevel, Count},
        worker::BackendStats,
    },
    upstream::{pool::IdlePool, source::Sources},
};

/// A worker's own record of a backend.
pub struct Backend {
    name: Arc<str>,
    endpoints: Vec<Endpoint>,
    /// Which endpoint worked last.
    preferred: Cell<usize>,
    /// Its place in its cluster; `None` once it has left.
    index: Cell<Option<usize>>,
    sources: RefCell<Rc<Sources>>,
    setback: Cell<Setback>,
    pool: IdlePool,
    stats: Arc<BackendStats>,
}

impl Backend {
    /// A backend nothing is known of, and that belongs to no cluster yet.
    pub fn new(plan: &BackendPlan, stats: Arc<BackendStats>) -> Self {
        Backend {
            name: Arc::clone(&plan.name),
            endpoints: plan.endpoints.clone(),
            preferred: Cell::new(0),
            index: Cell::new(None),
            sources: RefCell::new(Rc::new(Sources::new(Arc::default(), 0))),
            setback: Cell::default(),
            pool: IdlePool::new(Arc::clone(&stats)),
            stats,
        }
    }

    /// True when it is what `plan` describes, whatever its weight.
    pub fn is(&self, plan: &BackendPlan) -> bool {
        self.name == plan.name && self.endpoints == plan.endpoints
    }

    /// It is at this place of its cluster from now on, and connections to it are made from here.
    pub fn joins(&self, index: usize, sources: Rc<Sources>) {
        self.index.set(Some(index));
        self.sources.replace(sources);
    }

    /// It is no member any more: what is in progress goes on, what is idle ends.
    pub fn leaves(&self) {
        self.index.set(None);
        self.pool.clear();
    }

    /// Its place in its cluster, if it still has one.
    pub fn index(&self) -> Option<usize> {
        self.index.get()
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

    /// Its endpoints with their places, beginning with the one that worked last.
    pub fn endpoints(&self) -> impl Iterator<Item = (usize, &Endpoint)> {
        let count = self.endpoints.len().max(1);
        let first = self.preferred.get();
        (0..self.endpoints.len()).filter_map(move |step| {
            let place = (first + step) % count;
            self.endpoints.get(place).map(|endpoint| (place, endpoint))
        })
    }

    /// The place of the endpoint that worked last.
    pub fn preferred(&self) -> usize {
        self.preferred.get()
    }

    /// How many endpoints it has.
    pub fn endpoint_count(&self) -> usize {
        self.endpoints.len()
    }

    /// The endpoint at a place.
    pub fn endpoint(&self, place: usize) -> Option<&Endpoint> {
        self.endpoints.get(place)
    }

    /// Where connections to it are made from.
    pub fn sources(&self) -> Rc<Sources> {
        Rc::clone(&self.sources.borrow())
    }

    /// Counts a failure that happened with it, and sets it aside if it is to blame.
    pub fn blame(&self, fault: Fault, now: Millis) {
        match fault.counter() {
            Count::FaultUpstreamConnect | Count::FaultUpstreamConnectTimeout => self.refused(now),
            Count::FaultUpstreamReset => self.stats.count(BackendCount::Resets),
            Count::FaultUpstreamTimeout => self.stats.count(BackendCount::Timeouts),
            Count::FaultUpstreamMalformed => self.stats.count(BackendCount::Malformed),
            _ => {}
        }
    }

    /// Until when it is set aside, if it is.
    pub fn set_aside_until(&self, now: Millis) -> Option<Millis> {
        self.setback.get().until(now)
    }

    /// A connection could not be made.
    fn refused(&self, now: Millis) {
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

    /// A connection was made, to the endpoint at this place.
    pub fn connected(&self, place: usize) {
        self.stats.count(BackendCount::Connects);
        self.answered(place);
    }

    /// The endpoint at this place has shown that it is there, which forgives everything.
    pub fn answered(&self, place: usize) {
        self.preferred.set(place);
        if self.setback.replace(Setback::default()) != Setback::default() {
            self.stats.lower(BackendLevel::Skipped);
        }
    }
}
