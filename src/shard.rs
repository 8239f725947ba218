//! A shard: everything one core owns. It is built on its worker's thread and never leaves it.
//!
//! Sessions share it by `Rc`; what other threads may see are the statistics alone.

mod setup;

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    sync::Arc,
};

pub use self::setup::{Picked, Setup, Wish};
use crate::{
    blueprint::Blueprint,
    cluster::{Cluster, attempt::Attempt},
    config::plan::{HeaderPolicy, Timeouts},
    date::DateCache,
    fault::{Fault, Kind},
    io::{
        alarm::{self, Alarms},
        buffer::BufferPool,
        pipes::PipePool,
        tray::Tray,
    },
    relay::flow::Supplies,
    stats::{names::Count, view::BackendCells, worker::WorkerStats},
};

/// One core's load balancer.
pub struct Shard {
    /// What this worker counts.
    pub stats: Arc<WorkerStats>,
    /// Its buffers.
    pub buffers: Rc<BufferPool>,
    /// Its pipes.
    pub pipes: Rc<PipePool>,
    /// Its deadlines.
    pub alarms: Rc<Alarms>,
    /// Its formatted date.
    pub date: DateCache,
    /// Where heads are rewritten; never held across a wait.
    pub scratch: RefCell<Vec<u8>>,
    /// Where datagrams lie while they are passed on; never held across a wait.
    pub tray: RefCell<Option<Box<Tray>>>,
    setup: RefCell<Rc<Setup>>,
    /// What was in force before, for what other workers still send by it.
    before: RefCell<Option<Rc<Setup>>>,
    timeouts: Cell<Timeouts>,
    headers: Cell<HeaderPolicy>,
    /// Where rotating selectors start.
    offset: usize,
    draining: Cell<bool>,
}

impl Shard {
    /// An empty shard. `offset` makes rotating selectors of different workers and instances start apart.
    pub fn new(
        blueprint: Arc<Blueprint>,
        stats: Arc<WorkerStats>,
        backends: &BackendCells,
        offset: usize,
    ) -> io::Result<Rc<Self>> {
        let plan = Arc::clone(&blueprint.plan);
        let clusters = build_clusters(&blueprint, backends, offset, None);
        Ok(Rc::new(Shard {
            buffers: BufferPool::new(Arc::clone(&stats)),
            pipes: PipePool::new(Arc::clone(&stats)),
            alarms: Alarms::new()?,
            date: DateCache::default(),
            scratch: RefCell::new(Vec::with_capacity(4096)),
            setup: RefCell::new(Setup::new(blueprint, clusters, offset)),
            before: RefCell::default(),
            timeouts: Cell::new(plan.timeouts),
            headers: Cell::new(plan.headers),
            offset,
            tray: RefCell::default(),
            draining: Cell::new(false),
            stats,
        }))
    }

    /// What to balance by now.
    pub fn setup(&self) -> Rc<Setup> {
        Rc::clone(&self.setup.borrow())
    }

    /// The deadlines in force.
    #[inline]
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts.get()
    }

    /// The header policy in force.
    #[inline]
    pub fn headers(&self) -> HeaderPolicy {
        self.headers.get()
    }

    /// Balances by another blueprint from now on. What is in progress goes on where it is.
    pub fn renew(&self, blueprint: Arc<Blueprint>, backends: &BackendCells) {
        let clusters = build_clusters(&blueprint, backends, self.offset, Some(&self.setup()));
        self.timeouts.set(blueprint.plan.timeouts);
        self.headers.set(blueprint.plan.headers);
        let old = self.setup.replace(Setup::new(blueprint, clusters, self.offset));
        let setup = self.setup();
        for gone in old.clusters.iter().filter(|old| !setup.clusters.iter().any(|new| Rc::ptr_eq(old, new))) {
            gone.dissolve();
        }
        self.before.replace(Some(old));
    }

    /// The setup that knows this listener, and its place in there: the one in force, or the one before.
    pub fn setup_with(&self, listener: &str) -> Option<(Rc<Setup>, usize)> {
        let known = |setup: Rc<Setup>| {
            let place = setup.plan().listeners.iter().position(|known| *known.name == *listener)?;
            Some((setup, place))
        };
        known(self.setup()).or_else(|| known(self.before.borrow().clone()?))
    }

    /// What the relay needs.
    pub fn supplies(&self) -> Supplies<'_> {
        Supplies { buffers: &self.buffers, pipes: &self.pipes, stats: &self.stats }
    }

    /// Counts a failure where it belongs; one that ends with its connection's order to end is counted there.
    pub fn blame(&self, attempt: &Attempt, fault: Fault) {
        if fault.kind != Kind::Cut {
            self.stats.count(fault.counter());
            attempt.failed(fault, alarm::now());
        }
    }

    /// True once the worker takes no new work.
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Takes no new work from now on: idle connections close, the others after their exchange.
    pub fn drain(&self) {
        self.draining.set(true);
        self.alarms.rouse(false);
    }

    /// Ends every connection at once.
    pub fn cut(&self) {
        self.draining.set(true);
        self.alarms.rouse(true);
    }

    /// Closes idle upstream connections that are stale or too old.
    pub fn sweep_pools(&self) {
        let oldest = alarm::now().saturating_sub(self.timeouts().upstream_idle.as_millis() as u64);
        for cluster in &self.setup().clusters {
            cluster.for_each(|backend| {
                let swept = backend.pool().sweep(oldest);
                self.stats.add(Count::UpstreamStale, swept.stale);
                self.stats.add(Count::UpstreamExpired, swept.expired);
            });
        }
    }
}

/// The worker's clusters; those that were there before under the same name are changed in place.
fn build_clusters(
    blueprint: &Blueprint,
    backends: &BackendCells,
    offset: usize,
    before: Option<&Setup>,
) -> Vec<Rc<Cluster>> {
    let known = |name: &str| {
        let before = before?;
        let at = before.plan().clusters.iter().position(|cluster| *cluster.name == *name)?;
        before.clusters.get(at).cloned()
    };
    let planned = blueprint.plan.clusters.iter().zip(&blueprint.layouts).zip(backends);
    let build = planned.map(|((plan, layout), stats)| match known(&plan.name) {
        Some(cluster) => {
            cluster.update(plan, Arc::clone(layout), stats, offset);
            cluster
        }
        None => Cluster::new(plan, Arc::clone(layout), stats, offset),
    });
    build.collect()
}
