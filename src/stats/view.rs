//! Whose numbers are shown: the plan in force, and the cells of every worker and backend.

use std::{collections::HashMap, sync::Arc};

use super::{
    state::StateCell,
    worker::{BackendStats, WorkerStats},
};
use crate::config::plan::Plan;

/// One worker's cells of all backends: per cluster, per backend, in the order of the plan.
pub type BackendCells = Vec<Vec<Arc<BackendStats>>>;

/// Everything there is to read. A reload makes a new one.
#[derive(Debug, Clone)]
pub struct View {
    /// The plan in force.
    pub plan: Arc<Plan>,
    /// In the order of the plan's cores.
    pub workers: Vec<WorkerView>,
    /// How each backend stands: per cluster, in the order of the plan.
    pub states: Vec<Vec<Arc<StateCell>>>,
}

/// One worker's cells.
#[derive(Debug, Clone)]
pub struct WorkerView {
    /// Its own.
    pub stats: Arc<WorkerStats>,
    /// Its backends'.
    pub backends: BackendCells,
}

impl View {
    /// All numbers zero.
    pub fn new(plan: Arc<Plan>) -> Self {
        let worker = |_| WorkerView { stats: Arc::default(), backends: cells(&plan, |_, _| None) };
        let workers = plan.cores.iter().map(worker).collect();
        let states = cells(&plan, |_, _| None);
        View { plan, workers, states }
    }

    /// The same workers under another plan. A backend that keeps its name and its cluster's keeps its numbers.
    pub fn renewed(&self, plan: Arc<Plan>) -> Self {
        let known: HashMap<(&str, &str), (usize, usize)> = self.places().collect();
        let worker = |worker: &WorkerView| WorkerView {
            stats: Arc::clone(&worker.stats),
            backends: cells(&plan, |cluster, backend| {
                let (of, at) = known.get(&(cluster, backend)).copied()?;
                worker.backends.get(of)?.get(at).cloned()
            }),
        };
        let states = cells(&plan, |cluster, backend| {
            let (of, at) = known.get(&(cluster, backend)).copied()?;
            self.states.get(of)?.get(at).cloned()
        });
        View { workers: self.workers.iter().map(worker).collect(), states, plan }
    }

    /// Where each backend is in the plan, by its cluster's name and its own.
    fn places(&self) -> impl Iterator<Item = ((&str, &str), (usize, usize))> {
        self.plan.clusters.iter().enumerate().flat_map(|(of, cluster)| {
            let backends = cluster.backends.iter().enumerate();
            backends.map(move |(at, backend)| ((&*cluster.name, &*backend.name), (of, at)))
        })
    }
}

fn cells<T: Default>(plan: &Plan, known: impl Fn(&str, &str) -> Option<Arc<T>>) -> Vec<Vec<Arc<T>>> {
    let of = |cluster: &crate::config::plan::ClusterPlan| {
        let backends = cluster.backends.iter();
        backends.map(|backend| known(&cluster.name, &backend.name).unwrap_or_default()).collect()
    };
    plan.clusters.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::names::BackendCount;

    /// The cache lines of something, and of the counts of its owners in front of it.
    fn lines<T>(cells: &Arc<T>) -> std::ops::RangeInclusive<usize> {
        let start = Arc::as_ptr(cells) as usize;
        (start - 2 * size_of::<usize>()) / 64..=(start + size_of::<T>() - 1) / 64
    }

    #[test]
    fn no_two_workers_write_to_the_same_cache_line() {
        // Some numbers of backends come out even by chance.
        for backends in 1..20 {
            let backends: Vec<_> = (0..backends).map(|port| format!("127.0.0.1:{}", port + 1)).collect();
            let backends: Vec<_> = backends.iter().map(String::as_str).collect();
            let view = View::new(Arc::new(Plan { cores: (0..8).collect(), ..Plan::for_tests(&backends) }));
            let mut owners = HashMap::new();
            for (worker, cells) in view.workers.iter().enumerate() {
                let of_backends = cells.backends.iter().flatten().flat_map(lines);
                for line in lines(&cells.stats).chain(of_backends) {
                    assert_eq!(*owners.entry(line).or_insert(worker), worker, "{} backends", backends.len());
                }
            }
        }
    }

    #[test]
    fn who_keeps_the_name_keeps_the_numbers() {
        let view = View::new(Arc::new(Plan::for_tests(&["127.0.0.1:1", "127.0.0.1:2"])));
        view.workers[0].backends[0][1].add(BackendCount::Picks, 7);
        let renewed = view.renewed(Arc::new(Plan::for_tests(&["127.0.0.1:2", "127.0.0.1:3"])));
        let picks = |at: usize| renewed.workers[0].backends[0][at].get(BackendCount::Picks);
        assert_eq!((picks(0), picks(1)), (7, 0));
        assert!(Arc::ptr_eq(&view.workers[0].stats, &renewed.workers[0].stats));
    }
}
