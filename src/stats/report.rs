//! The report: every worker's numbers read once, and their sum, for dumps, `/stats` and `/metrics`.
//!
//! Runs on the control thread. It copies cells and never writes one, so workers do not notice it; numbers that
//! move while it reads may differ by what happened meanwhile.

mod text;

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{
    histogram::Snapshot,
    names::{BackendCount, BackendLevel, Count, Level, Refusal},
    probes::ProbeFigures,
    view::{BackendCells, View, WorkerView},
    worker::{BackendStats, WorkerStats},
};
use crate::health::standing::State;

/// All workers at about one moment.
#[derive(Debug, Clone)]
pub struct Report {
    workers: Vec<WorkerFigures>,
    total: Figures,
    probes: Vec<ProbeFigures>,
}

/// One worker's column.
#[derive(Debug, Clone)]
pub struct WorkerFigures {
    /// Its place among the workers.
    pub worker: usize,
    /// The core it runs on.
    pub core: usize,
    /// What it counted.
    pub figures: Figures,
}

/// The numbers of one worker, or of all together.
#[derive(Debug, Clone)]
pub struct Figures {
    counters: Vec<u64>,
    gauges: Vec<u64>,
    refusals: Vec<u64>,
    /// From the first byte of a request to the last of its response.
    pub total_time: Snapshot,
    /// From the end of the request to the first byte of the response.
    pub first_byte_time: Snapshot,
    /// All clusters' backends, in the order of the plan.
    pub backends: Vec<BackendFigures>,
}

/// One backend as one worker, or all together, see it.
#[derive(Debug, Clone)]
pub struct BackendFigures {
    /// Its cluster's name.
    pub cluster: Arc<str>,
    /// Its own name.
    pub backend: Arc<str>,
    /// How it stands, with all workers.
    state: State,
    /// Why; empty while it stands as configured.
    pub reason: Arc<str>,
    counters: Vec<u64>,
    gauges: Vec<u64>,
}

impl Report {
    /// Reads the workers' cells.
    pub fn collect(view: &View) -> Report {
        let plan = &view.plan;
        let read = |(worker, (cells, core)): (usize, (&WorkerView, &usize))| WorkerFigures {
            worker,
            core: *core,
            figures: Figures::read(view, &cells.stats, &cells.backends),
        };
        let workers: Vec<_> = view.workers.iter().zip(&plan.cores).enumerate().map(read).collect();
        let zero: BackendCells =
            plan.clusters.iter().map(|c| c.backends.iter().map(|_| Arc::default()).collect()).collect();
        let mut total = Figures::read(view, &WorkerStats::default(), &zero);
        for worker in &workers {
            total.merge(&worker.figures);
        }
        Report { workers, total, probes: Vec::new() }
    }

    /// Adds what only control knows.
    pub fn with_probes(self, probes: Vec<ProbeFigures>) -> Report {
        Report { probes, ..self }
    }

    /// Every backend that is probed, in the order of the plan.
    pub fn probes(&self) -> &[ProbeFigures] {
        &self.probes
    }

    /// Each worker, in order.
    pub fn workers(&self) -> &[WorkerFigures] {
        &self.workers
    }

    /// The sum over all workers.
    pub fn total(&self) -> &Figures {
        &self.total
    }

    /// The form of `/stats` and of a dump for programs.
    pub fn to_json(&self) -> Value {
        let worker = |of: &WorkerFigures| {
            let mut object = of.figures.to_map();
            object.insert("worker".to_owned(), of.worker.into());
            object.insert("core".to_owned(), of.core.into());
            Value::Object(object)
        };
        let workers: Vec<_> = self.workers.iter().map(worker).collect();
        let probes: Vec<_> = self.probes.iter().map(ProbeFigures::to_json).collect();
        json!({ "stats": { "workers": workers, "total": self.total.to_map(), "probes": probes } })
    }

    /// The form of a dump for people: a column for the total and one per worker.
    pub fn to_text(&self) -> String {
        text::render(self)
    }
}

impl Figures {
    fn read(view: &View, stats: &WorkerStats, backends: &BackendCells) -> Figures {
        let planned = view.plan.clusters.iter().zip(&view.states).zip(backends);
        let backends = planned.flat_map(|((cluster, states), cells)| {
            let figures = cluster.backends.iter().zip(states).zip(cells);
            figures.map(|((backend, state), cells)| {
                let (state, reason) = state.get();
                let (cluster, backend) = (Arc::clone(&cluster.name), Arc::clone(&backend.name));
                BackendFigures { cluster, backend, state, reason, ..BackendFigures::read(cells) }
            })
        });
        Figures {
            counters: Count::ALL.iter().map(|what| stats.get(*what)).collect(),
            gauges: Level::ALL.iter().map(|what| stats.level(*what)).collect(),
            refusals: Refusal::ALL.iter().map(|why| stats.refused(*why)).collect(),
            total_time: stats.total_time.snapshot(),
            first_byte_time: stats.first_byte_time.snapshot(),
            backends: backends.collect(),
        }
    }

    fn merge(&mut self, other: &Figures) {
        add(&mut self.counters, &other.counters);
        add(&mut self.gauges, &other.gauges);
        add(&mut self.refusals, &other.refusals);
        self.total_time.merge(&other.total_time);
        self.first_byte_time.merge(&other.first_byte_time);
        for (mine, theirs) in self.backends.iter_mut().zip(&other.backends) {
            add(&mut mine.counters, &theirs.counters);
            add(&mut mine.gauges, &theirs.gauges);
        }
    }

    /// A counter's value.
    pub fn get(&self, what: Count) -> u64 {
        value(&self.counters, what as usize)
    }

    /// A gauge's value.
    pub fn level(&self, what: Level) -> u64 {
        value(&self.gauges, what as usize)
    }

    /// How many requests were refused for this reason.
    pub fn refused(&self, why: Refusal) -> u64 {
        value(&self.refusals, why as usize)
    }

    fn to_map(&self) -> Map<String, Value> {
        let mut object = Map::new();
        let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
        put("counters", named(Count::ALL.iter().map(|c| c.name()), &self.counters));
        put("gauges", named(Level::ALL.iter().map(|l| l.name()), &self.gauges));
        put("refusals", named(Refusal::ALL.iter().map(|r| r.name()), &self.refusals));
        let latency = json!({
            "total": latency(&self.total_time),
            "first_byte": latency(&self.first_byte_time),
        });
        put("latency_us", latency);
        put("backends", self.backends.iter().map(BackendFigures::to_json).collect());
        object
    }
}

impl BackendFigures {
    /// Nameless: the names are the plan's.
    fn read(stats: &BackendStats) -> BackendFigures {
        BackendFigures {
            cluster: Arc::default(),
            backend: Arc::default(),
            state: State::default(),
            reason: Arc::default(),
            counters: BackendCount::ALL.iter().map(|what| stats.get(*what)).collect(),
            gauges: BackendLevel::ALL.iter().map(|what| stats.level(*what)).collect(),
        }
    }

    /// A counter's value.
    pub fn get(&self, what: BackendCount) -> u64 {
        value(&self.counters, what as usize)
    }

    /// A gauge's value.
    pub fn level(&self, what: BackendLevel) -> u64 {
        value(&self.gauges, what as usize)
    }

    /// How it stands: the name of its state, or `skipped` while it is up and set aside; in the total, while any worker
    /// sets it aside (the gauge says how many).
    pub fn state(&self) -> &'static str {
        let is_skipped = self.state == State::Up && self.level(BackendLevel::Skipped) > 0;
        if is_skipped { "skipped" } else { self.state.name() }
    }

    /// True when it is in this state, whatever a worker does.
    pub fn is_in(&self, state: State) -> bool {
        self.state == state
    }

    fn to_json(&self) -> Value {
        json!({
            "cluster": &*self.cluster,
            "backend": &*self.backend,
            "state": self.state(),
            "reason": &*self.reason,
            "counters": named(BackendCount::ALL.iter().map(|c| c.name()), &self.counters),
            "gauges": named(BackendLevel::ALL.iter().map(|l| l.name()), &self.gauges),
        })
    }
}

/// The quantiles every form shows.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)];

fn latency(times: &Snapshot) -> Value {
    let quantiles = QUANTILES.iter().map(|(name, share)| ((*name).to_owned(), times.quantile(*share).into()));
    let count = ("count".to_owned(), Value::from(times.count()));
    Value::Object(std::iter::once(count).chain(quantiles).collect())
}

fn named(names: impl Iterator<Item = &'static str>, values: &[u64]) -> Value {
    Value::Object(names.map(str::to_owned).zip(values.iter().map(|value| Value::from(*value))).collect())
}

fn value(values: &[u64], index: usize) -> u64 {
    values.get(index).copied().unwrap_or(0)
}

fn add(into: &mut [u64], from: &[u64]) {
    for (mine, theirs) in into.iter_mut().zip(from) {
        *mine = mine.wrapping_add(*theirs);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::plan::Plan;

    /// Two backends and two workers that have counted different things.
    pub(crate) fn two_workers() -> View {
        let mut plan = Plan::for_tests(&["127.0.0.1:3031", "127.0.0.1:3032"]);
        plan.cores = vec![2, 5];
        let view = View::new(Arc::new(plan));
        let (first, second) = (&view.workers[0].stats, &view.workers[1].stats);
        first.add(Count::Requests, 1_000);
        second.add(Count::Requests, 234);
        second.add(Count::ClientSentBytes, 12_345_678_901);
        first.raise(Level::ConnectionsActive);
        second.raise(Level::ConnectionsActive);
        second.refuse(Refusal::RepeatedHost);
        first.total_time.record(100);
        first.total_time.record(200);
        second.total_time.record(5_000_000);
        let (first, second) = (&view.workers[0].backends[0], &view.workers[1].backends[0]);
        first[0].add(BackendCount::Picks, 7);
        second[1].add(BackendCount::Picks, 3);
        second[1].raise(BackendLevel::Skipped);
        view
    }

    #[test]
    fn json_holds_every_worker_and_the_sum() {
        let json = Report::collect(&two_workers()).to_json();
        let workers = json["stats"]["workers"].as_array().unwrap();
        let total = &json["stats"]["total"];
        assert_eq!(workers.len(), 2);
        assert_eq!((&workers[1]["worker"], &workers[1]["core"]), (&json!(1), &json!(5)));
        assert_eq!(workers[0]["counters"]["requests"], 1_000);
        assert_eq!(total["counters"]["requests"], 1_234);
        assert_eq!(total["gauges"]["connections_active"], 2);
        assert_eq!(total["refusals"]["repeated_host"], 1);
        assert_eq!(total["latency_us"]["total"]["count"], 3);
        let slowest = total["latency_us"]["total"]["p999"].as_u64().unwrap();
        assert!((5_000_000..5_000_000 * 9 / 8).contains(&slowest));
        assert_eq!(total["latency_us"]["first_byte"]["p50"], 0);
        assert!(total.get("worker").is_none() && total.get("core").is_none());
    }

    #[test]
    fn json_names_every_backend_and_its_state() {
        let json = Report::collect(&two_workers()).to_json();
        let state = |of: &Value, index: usize| of["backends"][index]["state"].as_str().unwrap().to_owned();
        let stats = &json["stats"];
        assert_eq!(state(&stats["workers"][0], 1), "up");
        assert_eq!(state(&stats["workers"][1], 1), "skipped");
        assert_eq!((state(&stats["total"], 0), state(&stats["total"], 1)), ("up".into(), "skipped".into()));
        let backend = &stats["total"]["backends"][1];
        assert_eq!((&backend["cluster"], &backend["backend"]), (&json!("default"), &json!("127.0.0.1:3032")));
        assert_eq!((&backend["counters"]["picks"], &backend["gauges"]["skipped"]), (&json!(3), &json!(1)));
    }

    #[test]
    fn json_has_every_name_of_the_tables() {
        let json = Report::collect(&two_workers()).to_json();
        let total = &json["stats"]["total"];
        let length = |of: &Value| of.as_object().unwrap().len();
        assert_eq!(length(&total["counters"]), Count::LEN);
        assert_eq!(length(&total["gauges"]), Level::LEN);
        assert_eq!(length(&total["refusals"]), Refusal::LEN);
        assert_eq!(length(&total["backends"][0]["counters"]), BackendCount::LEN);
        assert_eq!(length(&total["backends"][0]["gauges"]), BackendLevel::LEN);
    }
}
