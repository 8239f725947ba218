//! A panic in one connection is the end of that connection and of nothing else. Debug builds have a path that panics.

use crate::support::client::is_cut;
use crate::support::{Backend, Ringway};

const ARM: &str = "RINGWAY_TEST_PANIC";

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
        let mut client = ringway.client();
        client.send(b"GET /__ringway_panic HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        match client.response_to("GET") {
            Ok(response) => assert_eq!((response.status, response.says_close()), (500, true)),
            Err(failure) => assert!(is_cut(&failure), "{failure:?}"),
        }
        client.wait_closed();
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
