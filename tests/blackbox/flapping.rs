//! A backend that comes and goes without end: its clients notice nothing, and neither log nor probes run away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::probes::turns;
use crate::support::deadline::within;
use crate::support::stats::backends;
use crate::support::{Backend, Configured, Load, Work};

/// As many as a minute of one per second has.
const FLAPS: usize = 60;
/// Of probes.
const INTERVAL: Duration = Duration::from_millis(40);

/// Answers everything or dies of everything.
fn switched() -> (Arc<AtomicBool>, Backend) {
    let well = Arc::new(AtomicBool::new(true));
    let is_well = Arc::clone(&well);
    let backend = Backend::scripted(move |connection| {
        while connection.request().is_some() {
            if !is_well.load(SeqCst) {
                return;
            }
            connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    (well, backend)
}

/// What it is taken for after each turn, as the log has told it.
fn states(ringway: &Configured) -> Vec<String> {
    turns(ringway, "flaps").into_iter().map(|turn| turn.0).collect()
}

/// Each time it waits until it is known that it is gone, and that it is back: so all sixty are real, however slow the
/// machine is. The pauses are those of one flap per second, divided by ten or more. A flap costs as many retries as it would
/// then, in a tenth of the time, which is why there is a larger budget for them.
fn flapping(rules: &str) -> (Configured, Duration) {
    let ((well, flaps), steady) = (switched(), Backend::well_behaved("ok"));
    let text = format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\n[[cluster]]\n\
         retry_budget = 100\nbackend = [{{ address = \"{}\", name = \"flaps\" }}, \"{}\"]\n{rules}",
        flaps.place, steady.place
    );
    let ringway = Configured::start(2, &text);
    let load = Load::start(ringway.address(), &[(Work::Get, 4), (Work::GetOnce, 2)]);
    load.wait_more(50);
    let begun = Instant::now();
    let mut known = 0;
    let mut wait = |is_up: bool| {
        let turned = within(Duration::from_secs(20), || {
            let states = states(&ringway);
            let there = states.len() > known && (states.last().is_some_and(|state| state == "up") == is_up);
            there.then(|| known = states.len())
        });
        assert!(turned.is_some(), "not known that it is up ({is_up}): {:?}", states(&ringway));
    };
    for _ in 0..FLAPS {
        well.store(false, SeqCst);
        wait(false);
        well.store(true, SeqCst);
        wait(true);
    }
    let took = begun.elapsed();
    load.wait_more(50);
    load.stop().check_flawless(500);
    let states = states(&ringway);
    // A line is a change; it goes away once, perhaps for two reasons, and comes back once.
    assert!(states.windows(2).all(|pair| pair[0] != pair[1]), "{states:?}");
    let mut told: BTreeMap<&str, usize> = BTreeMap::new();
    states.iter().for_each(|state| *told.entry(state).or_default() += 1);
    assert!((2 * FLAPS..=4 * FLAPS).contains(&states.len()), "{told:?}");
    let total = ringway.stats();
    let of: Vec<_> = backends(total.total()).iter().map(|backend| backend["state"].clone()).collect();
    assert_eq!(of, ["up", "up"]);
    (ringway, took)
}

#[test]
fn sixty_flaps_that_probes_see_cost_nobody_an_answer() {
    let rules = format!(
        "circuit = {{ failures = 0 }}\n[cluster.health]\npath = \"/\"\ninterval = \"{0}ms\"\n\
         fast_interval = \"{0}ms\"\ntimeout = \"10s\"\nrise = 1\nfall = 1\n",
        INTERVAL.as_millis()
    );
    let (ringway, took) = flapping(&rules);
    assert_eq!(states(&ringway).len(), 2 * FLAPS, "one line for each change");
    // The shortest pause, and those of before and after the sixty.
    let most = (took + Duration::from_secs(2)).as_secs_f64() / (INTERVAL.as_secs_f64() * 0.9);
    for of in ringway.stats().probes() {
        let probes = of["probes"].as_f64().unwrap();
        assert!(probes <= most, "{probes} probes of {} in {took:?}", of["backend"]);
    }
}

#[test]
fn sixty_flaps_that_live_requests_see_cost_nobody_an_answer() {
    let (ringway, _took) = flapping("circuit = { failures = 3, open = \"100ms\", open_max = \"100ms\" }\n");
    assert_eq!(states(&ringway).len(), 2 * FLAPS, "one line for each change");
}

#[test]
fn sixty_flaps_that_both_see_cost_nobody_an_answer() {
    let rules = format!(
        "circuit = {{ failures = 3, open = \"100ms\", open_max = \"100ms\" }}\n[cluster.health]\npath = \"/\"\n\
         interval = \"{}ms\"\ntimeout = \"10s\"\nrise = 1\nfall = 1\n",
        INTERVAL.as_millis()
    );
    flapping(&rules);
}
