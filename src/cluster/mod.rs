//! Clusters and backends as one worker sees them: who may be asked, who was refused lately, what is in progress.
//!
//! This is the seam for health: everything that makes a backend unusable is decided in [`backend::Backend`].

pub mod backend;
pub mod setback;

use std::cell::RefCell;
use std::rc::Rc;

use crate::{
    balance::Selector,
    config::plan::ClusterPlan,
    io::alarm::Millis,
    limits::ATTEMPTS_MAX,
    stats::{names::BackendCount, worker::BackendStats},
    upstream::source::Sources,
};
use backend::Backend;
use std::sync::Arc;

/// The backends one request has been tried on.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tried {
    indices: [usize; ATTEMPTS_MAX],
    count: usize,
}

impl Tried {
    /// Notes an attempt.
    pub fn add(&mut self, index: usize) {
        if let Some(slot) = self.indices.get_mut(self.count) {
            *slot = index;
            self.count += 1;
        }
    }

    /// True when `index` was tried.
    pub fn contains(&self, index: usize) -> bool {
        self.indices.iter().take(self.count).any(|tried| *tried == index)
    }

    /// True when no further attempt is allowed.
    pub fn is_exhausted(&self) -> bool {
        self.count == ATTEMPTS_MAX
    }
}

/// One worker's view of a cluster.
pub struct Cluster {
    backends: Vec<Rc<Backend>>,
    selector: RefCell<Selector>,
}

impl Cluster {
    /// The worker's own copy of a planned cluster.
    pub fn new(plan: &ClusterPlan, stats: &[Arc<BackendStats>], offset: usize) -> Self {
        let sources = Rc::new(Sources::new(Arc::clone(&plan.sources), offset));
        let backends = plan.backends.iter().zip(stats);
        let backends =
            backends.map(|(plan, stats)| Rc::new(Backend::new(plan, Rc::clone(&sources), Arc::clone(stats))));
        Cluster { backends: backends.collect(), selector: RefCell::new(Selector::new(plan, offset)) }
    }

    /// Its backends, in the order of the plan.
    pub fn backends(&self) -> &[Rc<Backend>] {
        &self.backends
    }

    /// Picks a backend for the next attempt: one that is fit, or, when none is, one that was only set aside.
    /// `None` when all have been tried.
    pub fn pick(&self, tried: &mut Tried, now: Millis) -> Option<Rc<Backend>> {
        if tried.is_exhausted() {
            return None;
        }
        let fit = |index: usize| self.backends.get(index).is_some_and(|backend| backend.is_fit(now));
        let mut selector = self.selector.borrow_mut();
        let index = selector
            .pick(|index| fit(index) && !tried.contains(index))
            .or_else(|| selector.pick(|index| !tried.contains(index)))?;
        tried.add(index);
        let backend = self.backends.get(index)?;
        backend.stats().count(BackendCount::Picks);
        Some(Rc::clone(backend))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::plan::Plan,
        fault::{Fault, Kind, Phase},
        stats::worker::WorkerStats,
    };

    fn cluster(backends: &[&str]) -> Cluster {
        let plan = Plan::for_tests(backends);
        let stats = WorkerStats::new(&plan);
        Cluster::new(&plan.clusters[0], &stats.clusters[0], 0)
    }

    #[test]
    fn a_backend_is_tried_once_and_three_are_enough() {
        let cluster = cluster(&["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4"]);
        let mut tried = Tried::default();
        let names: std::collections::HashSet<_> = std::iter::from_fn(|| cluster.pick(&mut tried, 0))
            .map(|backend| backend.name().to_owned())
            .collect();
        assert_eq!(names.len(), ATTEMPTS_MAX);
    }

    #[test]
    fn one_set_aside_is_skipped_unless_nobody_else_is_left() {
        let cluster = cluster(&["127.0.0.1:1", "127.0.0.1:2"]);
        let refused = Fault::upstream(Phase::Connect, Kind::Died);
        cluster.backends()[0].blame(refused, 0);
        for _ in 0..4 {
            assert_eq!(cluster.pick(&mut Tried::default(), 1).unwrap().name(), "127.0.0.1:2");
        }
        cluster.backends()[1].blame(refused, 0);
        assert!(cluster.pick(&mut Tried::default(), 1).is_some());
    }
}
