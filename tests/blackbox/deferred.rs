//! Connections that are accepted with their first bytes (`defer_accept`).

use crate::support::{Backend, Client, Configured};

fn text(port: u16, defer: bool, backend: &str) -> String {
    format!(
        "[[listener]]\nbind = \"127.0.0.1:{port}\"\ndefer_accept = {defer}\n[[cluster]]\nbackend = \"{backend}\"\n"
    )
}

#[test]
fn a_client_that_says_nothing_is_not_there_yet() {
    let backend = Backend::well_behaved("good");
    let ringway = Configured::start(2, &text(0, true, &backend.place));
    let mut silent: Vec<_> = (0..4).map(|_| ringway.client()).collect();
    assert_eq!(ringway.get("/").text(), "good");
    assert_eq!(ringway.stats().counter("connections_accepted"), 1);
    assert!(silent.iter_mut().all(|client| client.get("/").text() == "good"));
    ringway.wait_stats("all of them", |stats| stats.counter("connections_accepted") == 5);
}

/// A reload opens other sockets at the same port, and those that are connected stay.
#[test]
fn a_reload_changes_it() {
    let backend = Backend::well_behaved("good");
    let ringway = Configured::start(2, &text(0, false, &backend.place));
    let mut early = ringway.client();
    assert_eq!(early.get("/").text(), "good");
    let address = ringway.address();
    for defer in [true, false] {
        ringway.reload(&text(address.port(), defer, &backend.place));
        assert_eq!(early.get("/").text(), "good");
        let before = ringway.stats().counter("connections_accepted");
        let (mut silent, mut other) = (Client::connect(address), Client::connect(address));
        assert_eq!(other.get("/").text(), "good");
        let wanted = if defer { 1 } else { 2 };
        let stats = ringway
            .wait_stats("the connection", |stats| stats.counter("connections_accepted") >= before + wanted);
        assert_eq!(stats.counter("connections_accepted"), before + wanted);
        assert_eq!(silent.get("/").text(), "good");
    }
}
