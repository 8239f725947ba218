//! The line in front of full backends when two workers have clients in it.

use std::collections::HashMap;

use crate::queue::{occupy, one, wait_over};
use crate::support::{Client, Configured, Holding};

/// Who waits, and at which worker.
struct Waiting {
    client: Client,
    worker: usize,
    name: String,
}

/// One more client has asked: it waits, or it was refused at once (`None`).
fn ask(ringway: &Configured, number: usize) -> Option<Waiting> {
    let before = ringway.stats();
    let (waited, refused) = (before.counter("queue_waits"), before.counter("queue_full"));
    let name = format!("/{number}");
    let mut client = ringway.client();
    client.send(format!("GET {name} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).unwrap();
    let after = ringway.wait_stats("what becomes of it", |stats| {
        stats.counter("queue_waits") > waited || stats.counter("queue_full") > refused
    });
    if after.counter("queue_full") > refused {
        let answer = client.response();
        assert_eq!((answer.status, answer.head.value("retry-after").as_deref()), (503, Some("1")));
        return None;
    }
    let (before, after) = (before.gauge_per_worker("queued"), after.gauge_per_worker("queued"));
    let worker = before.iter().zip(&after).position(|(before, after)| after > before).unwrap();
    Some(Waiting { client, worker, name })
}

/// Fills the line: those who wait, in the order of their coming.
fn fill(ringway: &Configured, max: u64) -> Vec<Waiting> {
    let mut waiting = Vec::new();
    let mut refusals = 0;
    for number in 0..200 {
        match ask(ringway, number) {
            Some(one) => waiting.push(one),
            None => {
                assert_eq!(waiting.len() as u64, max, "refused while others may still wait");
                refusals += 1;
            }
        }
        let queued = ringway.stats().gauge("queued");
        assert_eq!(queued, waiting.len() as u64);
        assert!(queued <= max, "{queued} wait");
        if queued == max && refusals >= 4 {
            return waiting;
        }
    }
    panic!("{} wait, {refusals} were refused", waiting.len());
}

#[test]
fn no_more_wait_at_two_workers_than_may_wait_at_all() {
    for max in [5, 1, 2] {
        let holding = Holding::start();
        let keys = format!("queue_max = {max}\nqueue_timeout = \"1h\"");
        let ringway = Configured::start(2, &one(&keys, &holding));
        let mut first = occupy(&ringway, &holding);
        let mut waiting = fill(&ringway, max);
        holding.release.send(()).unwrap();
        assert_eq!(first.response().status, 200);
        assert!(waiting.iter_mut().all(|one| one.client.response().status == 200));
        let stats = wait_over(&ringway);
        assert_eq!((stats.counter("queue_waits"), stats.counter("queue_timeout")), (max, 0));
        // What was refused never came to the backend.
        assert_eq!(holding.backend.heads() as u64, max + 1);
    }
}

/// One request or one connection at a time, as `limit` says, each with this response.
fn take_turns(limit: &str, content: &str) {
    let holding = Holding::with_content(content);
    let text = format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\n[[cluster]]\n{limit} = 1\nqueue_max = 24\nqueue_timeout = \"1h\"\n\
         backend = [\"{}\"]\n",
        holding.backend.place
    );
    let ringway = Configured::start(2, &text);
    let mut first = occupy(&ringway, &holding);
    let mut waiting = fill(&ringway, 24);
    let worker: HashMap<_, _> = waiting.iter().map(|one| (one.name.clone(), one.worker)).collect();
    assert!([0, 1].iter().all(|one| worker.values().any(|worker| worker == one)), "{worker:?}");
    holding.release.send(()).unwrap();
    assert_eq!(first.response().status, 200);
    assert!(waiting.iter_mut().all(|one| one.client.response().status == 200));
    let asked: Vec<_> = holding.backend.requests()[1..].iter().map(|one| one.target().to_owned()).collect();
    for of in [0, 1] {
        let came: Vec<_> = waiting.iter().filter(|one| one.worker == of).map(|one| &one.name).collect();
        let went: Vec<_> = asked.iter().filter(|name| worker[*name] == of).collect();
        assert_eq!(came, went, "worker {of}");
    }
    // Each fourth place goes to the others, so both are served in the first half.
    let half: Vec<_> = asked[..12].iter().map(|name| worker[name]).collect();
    assert!(half.contains(&0) && half.contains(&1), "{limit}: {half:?}");
    assert_eq!(wait_over(&ringway).counter("queue_waits"), 24, "each has waited once");
}

#[test]
fn the_oldest_of_each_worker_goes_first_and_no_worker_waits_for_the_end_of_the_other() {
    take_turns("max_requests", "done");
    take_turns("max_connections", "done");
}

/// A connection behind so much is not used again at once: it is closed for another one, whose place may be given to the other
/// worker meanwhile.
#[test]
fn a_connection_that_has_to_settle_costs_nobody_its_turn() {
    take_turns("max_connections", &"x".repeat(100_000));
}
