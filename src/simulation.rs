//! A cluster in trouble, simulated: the real state machines of control and of several workers, with virtual time in place of
//! clocks, and lives made up by a seed in place of backends and clients.
//!
//! Nothing in it is left to chance but the seed, so a failure can be seen again: it says how. `RINGWAY_SIM_SEED` runs one
//! seed, `RINGWAY_SIM_SEEDS` so many from there on instead of the usual ones, and `RINGWAY_SIM_EVENTS` says how many of its last events
//! a failed run shows.

mod census;
mod check;
mod client;
mod control;
mod journal;
mod life;
mod prober;
mod scenario;
mod tasks;
mod trace;
mod worker;
mod world;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
};

use self::{journal::Journal, world::Outcome};

/// Seeds that every run of the tests looks at.
const SEEDS: u64 = 256;

/// Who has seen so many fail has seen enough.
const FAILURES_MAX: usize = 3;

/// A number from the environment.
fn asked_for(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Runs a seed; a failure says which one, and how to see it again.
fn outcome(seed: u64) -> Result<Outcome, String> {
    let kept = asked_for("RINGWAY_SIM_EVENTS").and_then(|kept| usize::try_from(kept).ok());
    let ran = tracing::subscriber::with_default(Journal, || {
        catch_unwind(AssertUnwindSafe(|| world::run(seed, kept)))
    });
    let failure = match ran {
        Ok(Outcome { failure: Some(failure), .. }) => failure,
        Ok(outcome) => return Ok(outcome),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
        }
    };
    Err(format!(
        "seed {seed}: {failure}\nto see it again: RINGWAY_SIM_SEED={seed} cargo test --lib simulation -- --nocapture"
    ))
}

#[test]
fn a_cluster_in_trouble_keeps_its_promises() {
    let one = asked_for("RINGWAY_SIM_SEED");
    let first = one.unwrap_or(0);
    let count = asked_for("RINGWAY_SIM_SEEDS").unwrap_or(if one.is_some() { 1 } else { SEEDS });
    let end = first + count;
    let next = AtomicU64::new(first);
    let (events, requests) = (AtomicU64::new(0), AtomicU64::new(0));
    let failures = crossbeam::queue::SegQueue::new();
    let work = || {
        while let Some(seed) =
            Some(next.fetch_add(1, Relaxed)).filter(|seed| *seed < end && failures.len() < FAILURES_MAX)
        {
            match outcome(seed) {
                Ok(outcome) => {
                    events.fetch_add(outcome.events as u64, Relaxed);
                    requests.fetch_add(outcome.requests as u64, Relaxed);
                }
                Err(failure) => failures.push(failure),
            }
        }
    };
    thread::scope(|scope| {
        (0..thread::available_parallelism().map_or(1, usize::from).min(4))
            .for_each(|_| _ = scope.spawn(work));
    });
    println!("{count} seeds, {requests:?} requests, {events:?} events");
    let failures: Vec<_> = std::iter::from_fn(|| failures.pop()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..8 {
        let sums = [(); 2].map(|()| outcome(seed).map(|outcome| (outcome.sum, outcome.events)));
        let [first, second] = sums.map(|sum| sum.unwrap());
        assert_eq!(first, second, "seed {seed}");
    }
    assert_ne!(outcome(0).unwrap().sum, outcome(1).unwrap().sum);
}
