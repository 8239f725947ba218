//! What probes found: control's own numbers, since workers do not probe.
//!
//! A probe's task writes its record and admin and dumps read it, all on the control thread: nobody waits for a lock.

use std::sync::{Arc, PoisonError, RwLock};

use serde_json::{Value, json};

/// The records of all backends that are probed, in the order of the plan.
#[derive(Debug, Default)]
pub struct Chart(RwLock<Vec<Arc<Record>>>);

/// What is known of one backend.
#[derive(Debug)]
pub struct Record {
    cluster: Arc<str>,
    backend: Arc<str>,
    latest: RwLock<Latest>,
}

/// What its probes said until now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latest {
    /// They let it take work.
    pub up: bool,
    /// How many have ended.
    pub probes: u64,
    /// How many of them failed.
    pub failures: u64,
    /// How the last one ended: `ok`, or what went wrong.
    pub last: String,
    /// How long it took, in milliseconds.
    pub last_ms: u64,
}

/// One backend's numbers at one moment.
#[derive(Debug, Clone)]
pub struct ProbeFigures {
    /// Its cluster's name.
    pub cluster: Arc<str>,
    /// Its own name.
    pub backend: Arc<str>,
    /// The numbers.
    pub latest: Latest,
}

impl Chart {
    /// Everybody's numbers.
    pub fn figures(&self) -> Vec<ProbeFigures> {
        let records = self.0.read().unwrap_or_else(PoisonError::into_inner);
        records.iter().map(|record| record.figures()).collect()
    }

    /// These are probed from now on.
    pub fn show(&self, records: Vec<Arc<Record>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = records;
    }
}

impl Record {
    /// A backend that has not been probed.
    pub fn new(cluster: Arc<str>, backend: Arc<str>, up: bool) -> Self {
        let latest = Latest { up, probes: 0, failures: 0, last: "not probed yet".to_owned(), last_ms: 0 };
        Record { cluster, backend, latest: RwLock::new(latest) }
    }

    /// Changes the numbers.
    pub fn write(&self, change: impl FnOnce(&mut Latest)) {
        change(&mut self.latest.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// The numbers now.
    pub fn figures(&self) -> ProbeFigures {
        let latest = self.latest.read().unwrap_or_else(PoisonError::into_inner).clone();
        ProbeFigures { cluster: Arc::clone(&self.cluster), backend: Arc::clone(&self.backend), latest }
    }
}

impl ProbeFigures {
    /// For machines.
    pub(super) fn to_json(&self) -> Value {
        let ProbeFigures { cluster, backend, latest } = self;
        json!({
            "cluster": **cluster,
            "backend": **backend,
            "state": latest.state(),
            "probes": latest.probes,
            "probes_failed": latest.failures,
            "last": latest.last,
            "last_ms": latest.last_ms,
        })
    }

    /// For people.
    pub(super) fn to_text(&self) -> String {
        let ProbeFigures { cluster, backend, latest } = self;
        let Latest { probes, failures, last, last_ms, .. } = latest;
        let state = latest.state();
        format!(
            "backend {backend} cluster={cluster} state={state} probes={probes} probes_failed={failures} last_ms={last_ms} last={last:?}"
        )
    }
}

impl Latest {
    /// `up` or `down`.
    pub fn state(&self) -> &'static str {
        if self.up { "up" } else { "down" }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::stats::report::{Report, tests::two_workers};

    /// A backend that has failed five of seven probes.
    pub(crate) fn probed() -> ProbeFigures {
        let record = Record::new("default".into(), "127.0.0.1:3031".into(), true);
        let last = "status 503".to_owned();
        record.write(|latest| *latest = Latest { up: false, probes: 7, failures: 5, last, last_ms: 250 });
        record.figures()
    }

    #[test]
    fn both_forms_say_the_same() {
        let report = Report::collect(&two_workers()).with_probes(vec![probed()]);
        let json = &report.to_json()["stats"]["probes"];
        let expected = json!([{
            "cluster": "default", "backend": "127.0.0.1:3031", "state": "down",
            "probes": 7, "probes_failed": 5, "last": "status 503", "last_ms": 250,
        }]);
        assert_eq!(*json, expected);
        let line = "backend 127.0.0.1:3031 cluster=default state=down probes=7 probes_failed=5 last_ms=250 last=\"status 503\"";
        assert!(report.to_text().lines().any(|found| found == line), "{}", report.to_text());
    }

    #[test]
    fn a_chart_shows_whom_it_was_given() {
        let chart = Chart::default();
        assert!(chart.figures().is_empty());
        let record = Arc::new(Record::new("a".into(), "b".into(), false));
        chart.show(vec![Arc::clone(&record)]);
        record.write(|latest| latest.probes = 3);
        let [figures] = &chart.figures()[..] else { panic!() };
        assert_eq!((figures.latest.probes, figures.latest.state()), (3, "down"));
    }
}
