//! Reloads whose names take long to look up: everything else goes on meanwhile.

use std::time::Duration;

use crate::support::ringway::message;
use crate::support::stats::backends;
use crate::support::{Backend, Configured, eventually, refusing_address};

/// A name nobody ever hears of.
const HANGING: &str = "hanging.test";

/// Far below the 5 s after which a lookup is given up.
const PROMPTLY: Duration = Duration::from_secs(3);

/// A cluster of these backends, which are ejected for long.
fn cluster(places: &[&str]) -> String {
    let places: Vec<_> = places.iter().map(|place| format!("\"{place}\"")).collect();
    format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\n[[cluster]]\ncircuit = {{ failures = 1, open = \"1h\", open_max = \"1h\" }}\n\
         backend = [{}]\n",
        places.join(", ")
    )
}

fn start(text: &str) -> Configured {
    Configured::start_changed(1, text, |command| {
        command.env("RINGWAY_TEST_HANGING_NAME", HANGING);
    })
}

/// Orders a reload, and returns when one of its names is looked up: how many lines were said before.
fn reload_that_hangs(ringway: &Configured, good: &str) -> usize {
    let known = ringway.signal_with(&cluster(&[good, &format!("{HANGING}:80")]));
    ringway.wait_line_after(known, "a lookup that hangs", |line| message(line) == "a lookup hangs");
    known
}

fn is_end_of_reload(line: &str) -> bool {
    message(line).starts_with("not reloaded: ") || message(line) == "reloaded"
}

#[test]
fn an_ejection_does_not_wait_for_a_name_and_another_order_is_remembered() {
    if !cfg!(debug_assertions) {
        return;
    }
    let (good, other) = (Backend::well_behaved("good"), Backend::well_behaved("other"));
    let (_bound, dead) = refusing_address();
    let text = cluster(&[&good.place, &dead.to_string()]);
    let ringway = start(&text);
    let known = reload_that_hangs(&ringway, &good.place);
    eventually("the ejection", || {
        assert_eq!(ringway.get("/").text(), "good");
        (backends(ringway.stats().total())[1]["state"] == "ejected").then_some(())
    });
    assert!(
        !ringway.lines()[known..].iter().any(|line| is_end_of_reload(line)),
        "the lookup was over before"
    );
    let known = ringway.signal_with(&cluster(&[&other.place]));
    let refused = ringway.wait_line_after(known, "the end of the lookup", is_end_of_reload);
    assert_ne!(message(&refused), "reloaded");
    ringway.wait_line_after(known, "the reload that was asked for meanwhile", |line| {
        message(line) == "reloaded"
    });
    assert_eq!(ringway.get("/").text(), "other");
}

#[test]
fn the_end_does_not_wait_for_a_name() {
    if !cfg!(debug_assertions) {
        return;
    }
    let good = Backend::well_behaved("good");
    let mut ringway = start(&cluster(&[&good.place]));
    reload_that_hangs(&ringway, &good.place);
    assert_eq!(ringway.get("/").text(), "good");
    ringway.signal(libc::SIGTERM);
    assert_eq!(ringway.wait_exit(PROMPTLY), Some(0));
    assert!(!ringway.lines().iter().any(|line| is_end_of_reload(line)));
}
