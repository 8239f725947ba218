//! A name that cannot be looked up when the configuration is loaded again: everything stays as it was.

use crate::membership::{cluster, listener, simple};
use crate::support::ringway::message;
use crate::support::{Backend, Client, Configured, Holding, PATIENCE, eventually};

/// Nobody may ever register it (RFC 2606).
const NOWHERE: &str = "no-such-host.invalid";

#[test]
fn a_host_that_cannot_be_found_changes_nothing_and_is_named() {
    let (holding, other) = (Holding::start(), Backend::well_behaved("other"));
    let place = &*holding.backend.place;
    let good = simple("http", &[(place, 1)]);
    let ringway = Configured::start(2, &good);
    let mut idle = ringway.client();
    assert_eq!(idle.get("/").text(), "done");
    let mut running = ringway.client();
    running.send(b"GET /held HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    holding.asked.recv_timeout(PATIENCE).unwrap();
    let config = ringway.config();
    let nowhere = format!("{NOWHERE}:80");
    let files = [
        // In place of the one that is there, beside it, and in a cluster that is new.
        simple("http", &[(&nowhere, 1)]),
        simple("http", &[(place, 1), (&nowhere, 1), (&other.place, 1)]),
        listener("more", "http", "more")
            + &simple("http", &[(&other.place, 1)])
            + &cluster("more", &[(&nowhere, 1)]),
    ];
    for text in files {
        let known = ringway.signal_with(&text);
        // Meanwhile everybody is served: the lookup keeps no worker.
        let said = eventually("the end of the reload", || {
            assert_eq!((idle.get("/").text().as_str(), ringway.get("/").text().as_str()), ("done", "done"));
            let said: Vec<_> = ringway.lines()[known..].iter().map(|line| message(line)).collect();
            said.iter().any(|line| line.contains("reloaded")).then_some(said)
        });
        assert_eq!(said.last().unwrap(), "not reloaded: the configuration in force stays");
        assert!(said.iter().any(|line| line.contains(NOWHERE)), "{said:?}");
        assert_eq!(ringway.config(), config);
        assert!(ringway.lines()[known..].iter().all(|line| !line.contains("listening on")));
    }
    assert_eq!(other.connections(), 0);
    holding.release.send(()).unwrap();
    assert_eq!(running.response().text(), "done");
    assert_eq!(running.get("/").text(), "done");
    assert_eq!(holding.backend.requests().iter().filter(|asked| asked.target() == "/held").count(), 1);
    // It is not stuck.
    ringway.reload(&simple("http", &[(&other.place, 1)]));
    assert_eq!((idle.get("/").text(), running.get("/").text()), ("other".to_owned(), "other".to_owned()));
    assert_eq!(Client::connect(ringway.listener("front")).get("/").text(), "other");
}
