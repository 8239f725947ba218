//! Selectors: which backend of a cluster takes the next request. One file per algorithm, all pure.

pub mod round_robin;

use crate::config::plan::{Algorithm, ClusterPlan};

/// A worker's selector of one cluster.
#[derive(Debug)]
pub enum Selector {
    /// Smooth weighted round robin.
    RoundRobin(round_robin::RoundRobin),
}

impl Selector {
    /// The selector `plan` asks for; `offset` makes workers and instances start at different places.
    pub fn new(plan: &ClusterPlan, offset: usize) -> Self {
        let weights = plan.backends.iter().map(|backend| backend.weight);
        match plan.algorithm {
            Algorithm::RoundRobin => Selector::RoundRobin(round_robin::RoundRobin::new(weights, offset)),
        }
    }

    /// Picks one of the backends for which `usable` holds; `None` when there is none.
    pub fn pick(&mut self, usable: impl Fn(usize) -> bool) -> Option<usize> {
        match self {
            Selector::RoundRobin(selector) => selector.pick(usable),
        }
    }
}
