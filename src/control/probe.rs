//! The prober: one task for each backend whose cluster has health checks, so never two probes at a time for one.
//!
//! Owns the tasks, the bound on probes at the same time and the queue of what they find. It decides nothing about
//! traffic: who reads the findings does. Runs on the control thread.

mod call;
mod http;
mod rounds;
mod script;
mod subject;

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, atomic::AtomicU64},
};

use rustix::process::{Resource, getrlimit};
use tokio::{
    sync::{
        Semaphore,
        mpsc::{self, Receiver, Sender},
    },
    task::JoinHandle,
};

use self::{
    rounds::{Place, Rounds},
    subject::Subject,
};
pub use crate::health::pulse::Verdict;
use crate::{
    addr::Endpoint,
    config::plan::Plan,
    limits::{FINDINGS_MAX, PROBES_MAX},
    stats::probes::{Chart, Record},
};

/// What probes say of a backend now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Its cluster's name.
    pub cluster: Arc<str>,
    /// Its own name.
    pub backend: Arc<str>,
    /// Where it took clients' work when it was probed.
    pub endpoints: Arc<[Endpoint]>,
    /// Whether it may take work.
    pub verdict: Verdict,
}

/// All tasks. Dropping it ends them, and so the queue.
pub struct Prober {
    /// What they find: the first result of each backend, and later only what changes. They wait while it is full, so
    /// what is found last is never lost.
    pub findings: Receiver<Finding>,
    tasks: HashMap<Key, Task>,
    shared: Arc<Shared>,
    chart: Arc<Chart>,
    chance: RandomState,
}

/// Names of a cluster and a backend.
type Key = (Arc<str>, Arc<str>);

/// What all tasks have in common.
struct Shared {
    findings: Sender<Finding>,
    /// One for each probe that may run now.
    slots: Semaphore,
    /// When this host's poverty was complained about last, in milliseconds.
    complained: AtomicU64,
}

struct Task {
    subject: Arc<Subject>,
    record: Arc<Record>,
    running: JoinHandle<()>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Prober {
    /// Begins to probe. `chart` is where its numbers are shown. Must be called on a tokio runtime.
    pub fn start(plan: &Plan, chart: Arc<Chart>) -> Self {
        let (sender, findings) = mpsc::channel(FINDINGS_MAX);
        let slots = Semaphore::new(slots());
        let shared = Arc::new(Shared { findings: sender, slots, complained: AtomicU64::new(0) });
        let mut prober =
            Prober { findings, tasks: HashMap::new(), shared, chart, chance: RandomState::new() };
        prober.follow(plan);
        prober
    }

    /// Goes by another plan. A backend that is probed as before and where it was before notices nothing; one that is
    /// probed otherwise keeps its state until the first result; one that is somewhere else now is another one; who is not in
    /// the plan is not probed any more.
    pub fn follow(&mut self, plan: &Plan) {
        let mut before = std::mem::take(&mut self.tasks);
        let mut records = Vec::new();
        let mut fresh = Vec::new();
        for subject in subject::all(plan) {
            let key = (Arc::clone(&subject.cluster), Arc::clone(&subject.backend));
            let known = before.remove(&key);
            let same = known.as_ref().filter(|task| task.subject.own == subject.own);
            let record = same.map_or_else(|| subject.record(), |task| Arc::clone(&task.record));
            records.push(Arc::clone(&record));
            match known {
                Some(task) if *task.subject == subject => _ = self.tasks.insert(key, task),
                known => fresh.push((key, subject, record, known)),
            }
        }
        let count = fresh.len();
        for (index, (key, subject, record, known)) in fresh.into_iter().enumerate() {
            let subject = Arc::new(subject);
            let seed = self.chance.hash_one(&key);
            let place = Place { index, count };
            let rounds = Rounds::new(&subject, &record, &self.shared, seed);
            let running = tokio::spawn(rounds.run(place, known));
            self.tasks.insert(key, Task { subject, record, running });
        }
        self.chart.show(records);
    }
}

/// How many probes may run at a time: an eighth of the descriptors, which clients need more.
fn slots() -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(descriptors / 8).unwrap_or(PROBES_MAX).clamp(1, PROBES_MAX)
}

#[cfg(test)]
mod tests;
