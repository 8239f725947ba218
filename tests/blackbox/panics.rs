//! A panic in one connection is the end of that connection and of nothing else. Debug builds have a path that panics.

use crate::support::client::is_cut;
use crate::support::stats::Stats;
use crate::support::{Acceptor, Backend, Configured, Ringway};

const ARM: &str = "RINGWAY_TEST_PANIC";

/// A client whose request panics: its connection ends, with 500 if there was still time.
fn panics(ringway: &Ringway, target: &str) {
    let mut client = ringway.client();
    client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
    match client.response_to("GET") {
        Ok(response) => assert_eq!((response.status, response.says_close()), (500, true)),
        Err(failure) => assert!(is_cut(&failure), "{failure:?}"),
    }
    client.wait_closed();
}

#[test]
fn a_panic_ends_one_connection_only() {
    if !cfg!(debug_assertions) {
        return;
    }
    let backend = Backend::well_behaved("a");
    let ringway = Ringway::options().backends(&[&backend]).json().env(ARM, "1").start();
    let mut bystander = ringway.client();
    assert_eq!(bystander.get("/").text(), "a");
    for count in 1..=3 {
        panics(&ringway, "/__ringway_panic");
        assert_eq!(bystander.get("/").text(), "a");
        assert_eq!(ringway.get("/").text(), "a");
        let stats = ringway.wait_stats("the bystander alone", |stats| stats.gauge("connections_active") == 1);
        assert_eq!(stats.counter("connection_panics"), count);
        assert_eq!((stats.gauge("exchanges_active"), stats.backend_gauge("active")), (0, 0));
    }
    drop(bystander);
    ringway.wait_quiet();
}

/// Without the variable the path is a path like any other.
#[test]
fn the_panic_is_not_armed_by_default() {
    let backend = Backend::well_behaved("a");
    let ringway = Ringway::in_front_of(&[&backend]);
    assert_eq!(ringway.get("/__ringway_panic").text(), "a");
}

/// One place and one connection for everybody, over both workers; armed.
fn scarce(mode: &str, listener: &str, place: &str) -> Configured {
    let text = format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\nmode = \"{mode}\"\n{listener}\n[[cluster]]\nmax_requests = 1\n\
         max_connections = 1\nqueue_timeout = \"10s\"\nbackend = \"{place}\"\n"
    );
    Configured::start_changed(2, &text, |command| {
        command.env(ARM, "1");
    })
}

/// Nothing is held by anybody, and nobody waits.
fn nothing_is_held(stats: &Stats) -> bool {
    stats.is_quiet() && stats.gauge("queued") == 0
}

/// Promise 26: the exchange that panics has a backend's place, its connection, and a buffer with half a response.
#[test]
fn a_panic_while_a_backend_is_held_leaves_its_place_and_its_connection_to_others() {
    if !cfg!(debug_assertions) {
        return;
    }
    let backend = Backend::scripted(|connection| {
        while let Some(request) = connection.request() {
            connection.say(match request.target() {
                "/panic" => b"HTTP/1.1 299 __ringway_panic\r\nContent-Length: 9\r\n\r\nhalf",
                _ => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            });
        }
    });
    let ringway = scarce("http", "", &backend.place);
    let mut bystander = ringway.client();
    // More than either worker could lose and still have a place.
    for count in 1..=20 {
        panics(&ringway, "/panic");
        assert_eq!(bystander.get("/").text(), "ok");
        assert_eq!(ringway.get("/").text(), "ok");
        ringway.wait_stats("the panic", |stats| stats.counter("connection_panics") == count);
    }
    drop(bystander);
    let stats = ringway.wait_stats("that nothing is held", nothing_is_held);
    assert_eq!(stats.counter_per_backend("picks"), [60]);
}

#[test]
fn a_panic_in_a_tcp_connection_leaves_its_place_to_others() {
    if !cfg!(debug_assertions) {
        return;
    }
    let backend = Acceptor::new();
    let ringway = scarce("tcp", "accept_proxy = \"all\"", &backend.place);
    let begin = |rest: &str| {
        let mut client = ringway.client();
        client.send(format!("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n{rest}").as_bytes()).unwrap();
        (client, backend.accept())
    };
    for count in 1..=10 {
        let (mut client, mut end) = begin("__ringway_panic");
        client.wait_closed();
        end.wait_closed();
        ringway.wait_stats("the panic", |stats| stats.counter("connection_panics") == count);
        // The only place is free again.
        let (mut client, mut end) = begin("hello");
        assert_eq!(end.take_exactly(5).unwrap(), b"hello");
        end.send(b"you").unwrap();
        assert_eq!(client.take_exactly(3).unwrap(), b"you");
        drop((client, end));
    }
    let stats = ringway.wait_stats("that nothing is held", nothing_is_held);
    assert_eq!(stats.gauge("tunnels_active"), 0);
}
