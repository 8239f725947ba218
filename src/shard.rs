//! A shard: everything one core owns. It is built on its worker's thread and never leaves it.
//!
//! Sessions share it by `Rc`; what other threads may see are the statistics alone.

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    sync::Arc,
};

use crate::{
    cluster::{Cluster, backend::Backend},
    config::plan::Plan,
    date::DateCache,
    fault::{Fault, Kind},
    io::{
        alarm::{self, Alarms},
        buffer::BufferPool,
        pipes::PipePool,
    },
    relay::flow::Supplies,
    stats::{names::Count, worker::WorkerStats},
};

/// One core's load balancer.
pub struct Shard {
    /// The plan all workers share.
    pub plan: Arc<Plan>,
    /// What this worker counts.
    pub stats: Arc<WorkerStats>,
    /// Its buffers.
    pub buffers: Rc<BufferPool>,
    /// Its pipes.
    pub pipes: Rc<PipePool>,
    /// Its deadlines.
    pub alarms: Rc<Alarms>,
    /// Its clusters, in the order of the plan.
    pub clusters: Vec<Cluster>,
    /// Its formatted date.
    pub date: DateCache,
    /// Where heads are rewritten; never held across a wait.
    pub scratch: RefCell<Vec<u8>>,
    draining: Cell<bool>,
}

impl Shard {
    /// An empty shard. `offset` makes rotating selectors of different workers and instances start apart.
    pub fn new(plan: Arc<Plan>, stats: Arc<WorkerStats>, offset: usize) -> io::Result<Rc<Self>> {
        let clusters = plan.clusters.iter().zip(&stats.clusters);
        let clusters = clusters.map(|(plan, stats)| Cluster::new(plan, stats, offset)).collect();
        Ok(Rc::new(Shard {
            buffers: BufferPool::new(Arc::clone(&stats)),
            pipes: PipePool::new(Arc::clone(&stats)),
            alarms: Alarms::new()?,
            clusters,
            date: DateCache::default(),
            scratch: RefCell::new(Vec::with_capacity(4096)),
            draining: Cell::new(false),
            plan,
            stats,
        }))
    }

    /// What the relay needs.
    pub fn supplies(&self) -> Supplies<'_> {
        Supplies { buffers: &self.buffers, pipes: &self.pipes, stats: &self.stats }
    }

    /// Counts a failure where it belongs; one that ends with its connection's order to end is counted there.
    pub fn blame(&self, backend: &Backend, fault: Fault) {
        if fault.kind != Kind::Cut {
            self.stats.count(fault.counter());
            backend.blame(fault, alarm::now());
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
        let oldest = alarm::now().saturating_sub(self.plan.timeouts.upstream_idle.as_millis() as u64);
        for backend in self.clusters.iter().flat_map(Cluster::backends) {
            let swept = backend.pool().sweep(oldest);
            self.stats.add(Count::UpstreamStale, swept.stale);
            self.stats.add(Count::UpstreamExpired, swept.expired);
        }
    }
}
