//! One backend as one worker sees it: its addresses, its idle connections, its fitness, its numbers.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use super::{
    accounts::Account,
    line::Line,
    record::Record,
    room::{Room, Seat},
    setback::Setback,
};
use crate::{
    addr::Endpoint,
    config::plan::BackendPlan,
    fault::Fault,
    io::{alarm::Millis, ready},
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
    /// Its cluster's place in the plan, and its own in there; `None` once it has left.
    place: Cell<Option<(usize, usize)>>,
    sources: RefCell<Rc<Sources>>,
    setback: Cell<Setback>,
    /// Its connections, for those who sever them.
    owner: u32,
    record: Cell<Record>,
    /// It is among those control is to hear of.
    is_reported: Cell<bool>,
    pool: IdlePool,
    room: Rc<Room>,
    stats: Arc<BackendStats>,
}

impl Backend {
    /// A backend nothing is known of, and that belongs to no cluster yet.
    pub fn new(plan: &BackendPlan, stats: Arc<BackendStats>) -> Self {
        Backend {
            name: Arc::clone(&plan.name),
            endpoints: plan.endpoints.clone(),
            preferred: Cell::new(0),
            place: Cell::new(None),
            sources: RefCell::new(Rc::new(Sources::new(Arc::default(), 0))),
            setback: Cell::default(),
            owner: ready::new_owner(),
            record: Cell::default(),
            is_reported: Cell::new(false),
            pool: IdlePool::new(Arc::clone(&stats)),
            room: Rc::default(),
            stats,
        }
    }

    /// True when it is what `plan` describes, whatever its weight.
    pub fn is(&self, plan: &BackendPlan) -> bool {
        self.name == plan.name && self.endpoints == plan.endpoints
    }

    /// It is at this place of its cluster from now on, and connections to it are made from here. Whoever finds no room
    /// stands in `line`.
    pub fn joins(
        &self,
        place: (usize, usize),
        sources: Rc<Sources>,
        line: &Rc<Line>,
        account: Option<&Account>,
    ) {
        self.place.set(Some(place));
        self.room.joins(place.1, line, account);
        self.keep_to_limit();
        self.sources.replace(sources);
    }

    /// Closes idle connections that are more than there may be since a reload.
    pub fn keep_to_limit(&self) {
        while self.room.has_too_many_connections() && self.pool.evict() {}
    }

    /// It is no member any more: what is in progress goes on, what is idle ends.
    pub fn leaves(&self) {
        self.place.set(None);
        self.pool.close();
        self.room.leaves();
    }

    /// Its cluster is in no plan any more: what is in progress and what waits for room goes on, what is idle ends.
    pub fn dissolves(&self) {
        self.place.set(None);
        self.pool.close();
    }

    /// Its place in its cluster, if it still has one.
    pub fn index(&self) -> Option<usize> {
        self.place.get().map(|(_, index)| index)
    }

    /// Its cluster's place in the plan, and its own in there.
    pub fn place(&self) -> Option<(usize, usize)> {
        self.place.get()
    }

    /// Its connections, for those who sever them.
    pub fn owner(&self) -> u32 {
        self.owner
    }

    /// What this worker has seen of it.
    pub fn record(&self) -> Record {
        self.record.get()
    }

    /// Replaces what this worker has seen of it.
    pub fn set_record(&self, record: Record) {
        self.record.set(record);
    }

    /// Takes the trial it may have, if there is one.
    pub fn begin_trial(&self) -> bool {
        let mut record = self.record.get();
        let begun = record.begin_trial();
        self.record.set(record);
        begun
    }

    /// True while control is to hear of it.
    pub fn is_reported(&self) -> bool {
        self.is_reported.get()
    }

    /// Notes whether control is to hear of it.
    pub fn set_reported(&self, is_reported: bool) {
        self.is_reported.set(is_reported);
    }

    /// The name in logs and metrics.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its idle connections.
    pub fn pool(&self) -> &IdlePool {
        &self.pool
    }

    /// A place for one more connection; an idle one is closed for it if need be. `None` when there may be no more.
    pub fn seat(&self) -> Option<Seat> {
        self.room.sit().or_else(|| if self.pool.evict() { self.room.sit() } else { None })
    }

    /// How much of it is in use.
    pub fn room(&self) -> &Rc<Room> {
        &self.room
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

    /// Counts a failure that happened with it, and sets it aside if no connection could be made.
    pub fn blame(&self, fault: Fault, now: Millis) {
        self.count(fault);
        if matches!(fault.counter(), Count::FaultUpstreamConnect | Count::FaultUpstreamConnectTimeout) {
            self.refused(now);
        }
    }

    /// Counts a failure that happened with it.
    pub fn count(&self, fault: Fault) {
        match fault.counter() {
            Count::FaultUpstreamConnect | Count::FaultUpstreamConnectTimeout => {
                self.stats.count(BackendCount::ConnectFailures);
            }
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

    /// It has been set aside, and has not shown since that it is there.
    pub fn was_set_aside(&self) -> bool {
        self.setback.get() != Setback::default()
    }

    /// A connection could not be made.
    fn refused(&self, now: Millis) {
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
        self.forgive();
    }

    /// It is not set aside any more.
    pub fn forgive(&self) {
        if self.setback.replace(Setback::default()) != Setback::default() {
            self.stats.lower(BackendLevel::Skipped);
        }
    }
}
