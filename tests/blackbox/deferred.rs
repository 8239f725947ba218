//! Connections that are accepted with their first bytes (`defer_accept`).

use crate::support::{Backend, Configured};

fn text(defer: bool, backend: &str) -> String {
    format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\ndefer_accept = {defer}\n[[cluster]]\nbackend = \"{backend}\"\n"
    )
}

#[test]
fn a_client_that_says_nothing_is_not_there_yet() {
    let backend = Backend::well_behaved("good");
    let ringway = Configured::start(2, &text(true, &backend.place));
    let mut silent: Vec<_> = (0..4).map(|_| ringway.client()).collect();
    assert_eq!(ringway.get("/").text(), "good");
    assert_eq!(ringway.stats().counter("connections_accepted"), 1);
    assert!(silent.iter_mut().all(|client| client.get("/").text() == "good"));
    ringway.wait_stats("all of them", |stats| stats.counter("connections_accepted") == 5);
}

/// The sockets stay, with whoever has connected to them and said nothing yet.
#[test]
fn a_reload_changes_it() {
    let backend = Backend::well_behaved("good");
    let ringway = Configured::start(2, &text(false, &backend.place));
    let mut early = ringway.client();
    assert_eq!(early.get("/").text(), "good");
    for defer in [true, false] {
        let mut waiting: Vec<_> = (0..4).map(|_| ringway.client()).collect();
        ringway.reload(&text(defer, &backend.place));
        assert!(waiting.iter_mut().all(|client| client.get("/").text() == "good"), "{defer}");
        assert_eq!(early.get("/").text(), "good");
        let before = ringway.stats().counter("connections_accepted");
        let (mut silent, mut other) = (ringway.client(), ringway.client());
        assert_eq!(other.get("/").text(), "good");
        let wanted = if defer { 1 } else { 2 };
        let stats = ringway
            .wait_stats("the connection", |stats| stats.counter("connections_accepted") >= before + wanted);
        assert_eq!(stats.counter("connections_accepted"), before + wanted);
        assert_eq!(silent.get("/").text(), "good");
    }
}
