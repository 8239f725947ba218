//! What the workers of one process do alike and what they do not: each begins its rotation elsewhere.

use crate::algorithms::{balancing, numbered, places};
use crate::support::stats::{Stats, backends};
use crate::support::{Ringway, eventually};

/// What each worker has sent to each backend so far.
fn picks(stats: &Stats) -> Vec<Vec<u64>> {
    let of_backend = |backend: &serde_json::Value| backend["counters"]["picks"].as_u64().unwrap();
    stats.workers().iter().map(|worker| backends(worker).iter().map(of_backend).collect()).collect()
}

/// The backend that each worker's first request went to. The kernel chooses the worker, so it takes as many connections as
/// it takes, and after each it is looked who was first.
fn firsts(ringway: &Ringway, workers: usize) -> Vec<usize> {
    let mut firsts = vec![None; workers];
    eventually("a request at every worker", || {
        assert_eq!(ringway.get("/").status, 200);
        for (first, picks) in firsts.iter_mut().zip(picks(&ringway.stats())) {
            *first = first.or(picks.iter().position(|picks| *picks > 0));
        }
        firsts.iter().copied().collect()
    })
}

/// Promise 12 within one process.
#[test]
fn workers_of_one_process_begin_with_different_backends() {
    const WORKERS: usize = 2;
    let backends = numbered(5);
    for algorithm in ["round-robin", "least-connections", "least-response-time"] {
        let ringway = balancing(WORKERS, &format!("balance = \"{algorithm}\""), &places(&backends));
        let firsts = firsts(&ringway, WORKERS);
        assert_eq!((firsts[0] + 1) % backends.len(), firsts[1], "{algorithm}: not one after the other");
    }
}
