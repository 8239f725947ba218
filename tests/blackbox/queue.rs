//! The line in front of backends that have all they may have: who waits, for how long, and who goes first.

use std::time::{Duration, Instant};

use crate::support::kernel;
use crate::support::stats::Stats;
use crate::support::{Acceptor, Backend, Client, Configured, Holding, PATIENCE};

const ASK: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";

/// One request at a time at each of these backends.
pub(crate) fn text(keys: &str, backends: &str) -> String {
    format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\n[[cluster]]\nmax_requests = 1\n{keys}\nbackend = [{backends}]\n"
    )
}

pub(crate) fn one(keys: &str, holding: &Holding) -> String {
    text(keys, &format!("\"{}\"", holding.backend.place))
}

/// A client whose request is in progress and will stay so.
pub(crate) fn occupy(ringway: &Configured, holding: &Holding) -> Client {
    let mut client = ringway.client();
    client.send(b"GET /held HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    holding.asked.recv_timeout(PATIENCE).unwrap();
    client
}

/// A client that has asked, and waits as the last of `count`.
pub(crate) fn stand_in_line(ringway: &Configured, count: u64, request: &[u8]) -> Client {
    let mut client = ringway.client();
    client.send(request).unwrap();
    ringway.wait_stats("one more who waits", |stats| stats.gauge("queued") == count);
    client
}

/// Waits until nothing is in progress, whoever is still connected.
pub(crate) fn wait_over(ringway: &Configured) -> Stats {
    ringway.wait_stats("the end of all requests", |stats| {
        let gauges = ["exchanges_active", "tunnels_active", "queued"];
        gauges.iter().all(|name| stats.gauge(name) == 0) && stats.backend_gauge("active") == 0
    })
}

#[test]
fn who_waits_in_vain_is_told_to_come_again() {
    let holding = Holding::start();
    let ringway = Configured::start(2, &one("queue_timeout = \"200ms\"", &holding));
    let mut first = occupy(&ringway, &holding);
    let (mut second, begun) = (ringway.client(), Instant::now());
    let answer = second.get("/");
    assert_eq!((answer.status, answer.head.value("retry-after").as_deref()), (503, Some("1")));
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert!(!answer.says_close());
    holding.release.send(()).unwrap();
    assert_eq!(first.response().status, 200);
    assert_eq!(second.get("/").status, 200);
    let stats = ringway.stats();
    assert_eq!((stats.counter("queue_timeout"), stats.counter("fault_no_backend")), (1, 0));
    assert_eq!(holding.backend.heads(), 2);
}

#[test]
fn a_full_line_refuses_at_once_and_the_oldest_goes_first() {
    let holding = Holding::start();
    let ringway = Configured::start(1, &one("queue_max = 3\nqueue_timeout = \"1h\"", &holding));
    let mut first = occupy(&ringway, &holding);
    let mut waiting: Vec<_> = (1..=3)
        .map(|count| {
            stand_in_line(&ringway, count, format!("GET /{count} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes())
        })
        .collect();
    let answer = ringway.get("/");
    assert_eq!((answer.status, answer.head.value("retry-after").as_deref()), (503, Some("1")));
    holding.release.send(()).unwrap();
    assert_eq!(first.response().status, 200);
    assert!(waiting.iter_mut().all(|client| client.response().status == 200));
    let targets: Vec<_> =
        holding.backend.requests().iter().map(|request| request.target().to_owned()).collect();
    assert_eq!(targets, ["/held", "/1", "/2", "/3"]);
    let stats = wait_over(&ringway);
    assert_eq!((stats.counter("queue_full"), stats.counter("queue_waits")), (1, 3));
    // Whoever may not wait is not kept.
    ringway.reload(&one("queue_max = 0", &holding));
    let _first = occupy(&ringway, &holding);
    assert_eq!(ringway.get("/").status, 503);
}

#[test]
fn who_leaves_the_line_frees_the_place() {
    let holding = Holding::start();
    let ringway = Configured::start(1, &one("queue_max = 1\nqueue_timeout = \"1h\"", &holding));
    let mut first = occupy(&ringway, &holding);
    for reset in [false, true] {
        let gone = stand_in_line(&ringway, 1, b"GET /gone HTTP/1.1\r\nHost: h\r\n\r\n");
        if reset {
            kernel::reset_on_close(&gone.stream);
        }
        drop(gone);
        ringway.wait_stats("nobody who waits", |stats| stats.gauge("queued") == 0);
    }
    // One that is still being sent is noticed as well.
    let gone = stand_in_line(&ringway, 1, b"POST /gone HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf");
    kernel::reset_on_close(&gone.stream);
    drop(gone);
    ringway.wait_stats("nobody who waits", |stats| stats.gauge("queued") == 0);
    let mut last = stand_in_line(&ringway, 1, ASK);
    holding.release.send(()).unwrap();
    assert_eq!((first.response().status, last.response().status), (200, 200));
    let stats = ringway.stats();
    // One that has only ended its direction is given a moment, since it may still listen.
    let ends = ["queue_left", "queue_timeout", "queue_full"].map(|name| stats.counter(name));
    assert_eq!(ends, [2, 1, 0]);
    assert!(holding.backend.requests().iter().all(|request| request.target() != "/gone"));
}

/// A request with a body waits as others do, and so does one that came ahead of its turn.
#[test]
fn what_was_sent_before_and_behind_is_kept_while_a_request_waits() {
    let holding = Holding::start();
    let ringway = Configured::start(2, &one("queue_timeout = \"1h\"", &holding));
    let mut first = occupy(&ringway, &holding);
    let both =
        b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbodyGET /b HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut second = stand_in_line(&ringway, 1, both);
    second.send(b"GET /c HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    holding.release.send(()).unwrap();
    assert_eq!(first.response().status, 200);
    assert!((0..3).all(|_| second.response().status == 200));
    let asked: Vec<_> =
        holding.backend.requests().iter().map(|request| request.target().to_owned()).collect();
    assert_eq!(asked, ["/held", "/a", "/b", "/c"]);
    assert_eq!(holding.backend.requests()[1].whole().bytes, b"body");
}

/// The free place may be on another worker than those who wait.
#[test]
fn a_place_goes_to_whoever_waits_on_any_worker() {
    let holding = Holding::start();
    let ringway = Configured::start(2, &one("queue_timeout = \"1h\"", &holding));
    let mut first = occupy(&ringway, &holding);
    let mut waiting: Vec<_> = (1..=20).map(|count| stand_in_line(&ringway, count, ASK)).collect();
    holding.release.send(()).unwrap();
    assert_eq!(first.response().status, 200);
    assert!(waiting.iter_mut().all(|client| client.response().status == 200));
    wait_over(&ringway);
}

#[test]
fn a_backend_that_dies_while_all_wait_keeps_nobody() {
    let backend = Acceptor::new();
    let keys = "queue_timeout = \"1h\"\ncircuit = { failures = 0 }";
    let ringway = Configured::start(2, &text(keys, &format!("\"{}\"", backend.place)));
    let mut clients = vec![ringway.client()];
    clients[0].send(ASK).unwrap();
    let mut end = backend.accept();
    end.take_head().unwrap();
    clients.extend((1..=6).map(|count| stand_in_line(&ringway, count, ASK)));
    drop((backend, end));
    for (place, client) in clients.iter_mut().enumerate() {
        let status = client.response().status;
        assert_eq!(status, if place == 0 { 502 } else { 503 });
    }
    wait_over(&ringway);
}

/// One that is ejected while all wait is not waited for, unless nobody else is left.
#[test]
fn those_who_wait_for_a_backend_that_leaves_go_to_another_one() {
    let (holding, other) = (Holding::start(), Backend::well_behaved("other"));
    let keys = "queue_timeout = \"1h\"";
    let ringway = Configured::start(2, &one(keys, &holding));
    let mut first = occupy(&ringway, &holding);
    let mut waiting: Vec<_> = (1..=5).map(|count| stand_in_line(&ringway, count, ASK)).collect();
    ringway.reload(&text(keys, &format!("\"{}\"", other.place)));
    for client in &mut waiting {
        assert!(matches!(client.response().status, 200 | 503));
    }
    holding.release.send(()).unwrap();
    assert_eq!(first.response().status, 200);
    assert_eq!(ringway.get("/").text(), "other");
    wait_over(&ringway);
}

#[test]
fn a_client_that_is_pinned_waits_for_its_own_backend() {
    let (holding, other) = (Holding::start(), Backend::well_behaved("other"));
    let keys = format!(
        "queue_timeout = \"1h\"\nbalance = \"first\"\nsticky = {{ cookie = \"pin\", key = \"{}\" }}",
        "ab".repeat(32)
    );
    let backends =
        format!("{{ address = \"{}\", name = \"own\" }}, \"{}\"", holding.backend.place, other.place);
    let ringway = Configured::start(2, &text(&keys, &backends));
    let answer = ringway.get("/");
    assert_eq!(answer.text(), "done");
    let cookie = answer.head.value("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let mut first = occupy(&ringway, &holding);
    assert_eq!(ringway.get("/").text(), "other", "who is not pinned does not wait");
    let pinned = format!("GET / HTTP/1.1\r\nHost: h\r\nCookie: {cookie}\r\n\r\n");
    let mut second = stand_in_line(&ringway, 1, pinned.as_bytes());
    let mut third = stand_in_line(&ringway, 2, pinned.as_bytes());
    assert_eq!(ringway.get("/").text(), "other", "and does not stand behind those who are");
    holding.release.send(()).unwrap();
    assert_eq!(first.response().status, 200);
    assert_eq!((second.response().text().as_str(), third.response().text().as_str()), ("done", "done"));
    // One that is taken out is not waited for.
    wait_over(&ringway);
    let _first = occupy(&ringway, &holding);
    let mut fourth = stand_in_line(&ringway, 1, pinned.as_bytes());
    ringway.reload(&text(&keys, &backends.replace("name = \"own\"", "name = \"own\", state = \"maint\"")));
    assert_eq!(fourth.response().text(), "other");
}

/// What is being drained is served to its end, and those who wait belong to it.
#[test]
fn those_who_wait_are_served_while_all_is_drained() {
    let holding = Holding::start();
    let ringway = Configured::start(2, &one("queue_timeout = \"1h\"", &holding));
    let mut first = occupy(&ringway, &holding);
    let mut second = stand_in_line(&ringway, 1, ASK);
    ringway.signal(libc::SIGTERM);
    ringway.wait_refuses();
    holding.release.send(()).unwrap();
    assert_eq!((first.response().status, second.response().status), (200, 200));
}
