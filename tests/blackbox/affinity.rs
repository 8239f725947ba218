//! Affinity by client address: one backend for all of a client's connections, for as long as it is not silent.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use crate::support::datagram::{DatagramBackend, DatagramClient};
use crate::support::{Backend, Configured, Directory, Ringway, eventually};

/// Sources of the host's own network, in order.
fn sources(count: u16) -> Vec<IpAddr> {
    let source = |number: u16| {
        let [high, low] = (number + 2).to_be_bytes();
        IpAddr::from(Ipv4Addr::new(127, 0, high, low))
    };
    (0..count).map(source).collect()
}

/// Names itself on each connection and closes it.
fn naming(directory: &Directory, name: &'static str) -> Backend {
    let answer =
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{name}", name.len());
    Backend::scripted_at(&directory.socket(name), move |connection| {
        if connection.request().is_some() {
            connection.say(answer.as_bytes());
        }
    })
}

/// A listener in front of these backends that remembers clients for this long.
fn text(listener: &str, cluster: &str, backends: &[Backend], limit: &str) -> String {
    let places = backends.iter().map(|backend| backend.place.clone());
    text_for(listener, cluster, &places.collect::<Vec<_>>(), limit)
}

/// The same for backends of which only the places are known.
fn text_for(listener: &str, cluster: &str, places: &[String], limit: &str) -> String {
    format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\n{listener}\n[[cluster]]\n{cluster}\nbackend = {places:?}\n[cluster.sticky]\nclient_address = \"{limit}\"\n"
    )
}

fn ask(ringway: &Ringway, source: IpAddr) -> String {
    let response = ringway.client_from(source).get("/");
    assert_eq!(response.status, 200, "{response:?}");
    assert!(!response.head.has("set-cookie"));
    response.text()
}

/// So many were not all for one worker.
fn all_workers_have(ringway: &Ringway, counter: &str) {
    let counts = ringway.stats().counter_per_worker(counter);
    assert!(counts.iter().all(|count| *count > 0), "{counter}: {counts:?}");
}

#[test]
fn all_connections_of_a_client_go_to_one_backend() {
    let directory = Directory::new();
    let backends = ["alpha", "beta", "gamma"].map(|name| naming(&directory, name));
    for limit in ["3h", "30d"] {
        let ringway = Configured::start(2, &text("", "", &backends, limit));
        let clients: Vec<_> = sources(29).into_iter().map(|source| (source, ask(&ringway, source))).collect();
        for _ in 0..10 {
            for (source, backend) in &clients {
                assert_eq!(ask(&ringway, *source), *backend, "{source}");
            }
        }
        let used: BTreeSet<_> = clients.iter().map(|(_, backend)| backend).collect();
        assert_eq!(used.len(), 3, "new clients go round");
        all_workers_have(&ringway, "requests");
        // Where a client goes does not depend on the order of the backends, nor on who is there besides.
        let mut turned: Vec<_> = backends.iter().rev().map(|backend| backend.place.clone()).collect();
        turned.push(directory.socket("nobody"));
        ringway.reload(&text_for("", "", &turned, limit));
        for (source, backend) in &clients {
            assert_eq!(ask(&ringway, *source), *backend, "{source} after the reload");
        }
    }
}

/// Promise 28: a word is enough, and then it is three hours.
#[test]
fn without_a_limit_of_its_own_a_client_is_remembered_for_three_hours() {
    let directory = Directory::new();
    let backends = ["alpha", "beta", "gamma"].map(|name| naming(&directory, name));
    let places = backends.each_ref().map(|backend| backend.place.clone());
    let text = format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\n[[cluster]]\nbackend = {places:?}\nsticky = \"client-address\"\n"
    );
    let ringway = Configured::start(2, &text);
    let kept = &ringway.config()["cluster"][0]["sticky"];
    assert_eq!(kept["client_address"], "3h", "{kept}");
    let clients: Vec<_> = sources(9).into_iter().map(|source| (source, ask(&ringway, source))).collect();
    let used: BTreeSet<_> = clients.iter().map(|(_, backend)| backend).collect();
    assert_eq!(used.len(), 3, "new clients go round");
    for (source, backend) in clients.iter().cycle().take(45) {
        assert_eq!(ask(&ringway, *source), *backend, "{source}");
    }
}

#[test]
fn connections_without_http_stay_too() {
    let directory = Directory::new();
    let backends = ["alpha", "beta", "gamma"].map(|name| {
        Backend::scripted_at(&directory.socket(name), move |connection| connection.say(name.as_bytes()))
    });
    let ringway = Configured::start(2, &text("mode = \"tcp\"", "", &backends, "3h"));
    let heard = |source| {
        let bytes = ringway.client_from(source).take_to_end().unwrap();
        String::from_utf8(bytes).unwrap()
    };
    let clients: Vec<_> = sources(29).into_iter().map(|source| (source, heard(source))).collect();
    for _ in 0..10 {
        for (source, backend) in &clients {
            assert_eq!(heard(*source), *backend, "{source}");
        }
    }
    let used: BTreeSet<_> = clients.iter().map(|(_, backend)| backend).collect();
    assert_eq!(used.len(), 3, "new clients go round");
    all_workers_have(&ringway, "tunnels");
}

#[test]
fn flows_of_datagrams_stay_too() {
    let backends = ["alpha", "beta", "gamma"].map(DatagramBackend::named);
    let places = backends.each_ref().map(|backend| backend.address.to_string());
    let ringway = Configured::start(2, &text_for("mode = \"udp\"", "", &places, "3h"));
    // Each has a port of its own, so each is another flow of the same client.
    let heard: BTreeSet<_> =
        (0..30).map(|_| DatagramClient::new(ringway.address()).ask_patiently(b"")).collect();
    assert_eq!(heard.len(), 1, "{heard:?}");
    all_workers_have(&ringway, "udp_sessions_opened");
}

/// Being looked at counts as a use, so every client is looked at only once after it was pinned; one that goes on asking
/// is never forgotten.
#[test]
fn a_silent_client_is_forgotten_and_a_busy_one_is_not() {
    const LIMIT: Duration = Duration::from_secs(1);
    let directory = Directory::new();
    let backends = ["alpha", "beta"].map(|name| naming(&directory, name));
    let ringway = Configured::start(2, &text("", "balance = \"random\"", &backends, "1s"));
    let busy = IpAddr::from(Ipv4Addr::LOCALHOST);
    let (begun, its_own) = (Instant::now(), ask(&ringway, busy));
    let mut silent = sources(2000).into_iter().map(|source| {
        assert_eq!(ask(&ringway, busy), its_own);
        (source, Instant::now(), ask(&ringway, source))
    });
    let pinned: Vec<_> = silent.by_ref().take(1000).collect();
    let mut waiting = pinned.into_iter();
    let pinned_at = eventually("a client that is forgotten", || {
        assert_eq!(ask(&ringway, busy), its_own, "the busy one was forgotten");
        let (source, since, backend) = waiting.next().expect("nobody was ever forgotten");
        (ask(&ringway, source) != backend).then_some(since)
    });
    assert!(pinned_at.elapsed() >= LIMIT, "forgotten after {:?}", pinned_at.elapsed());
    assert!(begun.elapsed() >= LIMIT);
}

#[test]
fn a_dead_backends_clients_move_and_stay_where_they_went() {
    let directory = Directory::new();
    let mut backends =
        vec![naming(&directory, "alpha"), naming(&directory, "beta"), naming(&directory, "gamma")];
    let ringway = Configured::start(2, &text("", "", &backends, "3h"));
    let clients: Vec<_> = sources(29).into_iter().map(|source| (source, ask(&ringway, source))).collect();
    drop(backends.remove(1));
    let moved: Vec<_> = clients.iter().map(|(source, _)| ask(&ringway, *source)).collect();
    for ((source, before), after) in clients.iter().zip(&moved) {
        assert_ne!(after, "beta");
        assert!(before == "beta" || before == after, "{source} was moved from {before} to {after}");
    }
    for _ in 0..6 {
        for ((source, _), after) in clients.iter().zip(&moved) {
            assert_eq!(ask(&ringway, *source), *after, "{source} moved again");
        }
    }
}

/// One that drains keeps those that are pinned to it by their address, as it does those with a cookie.
#[test]
fn a_draining_backend_keeps_the_clients_it_has_and_gets_no_others() {
    let directory = Directory::new();
    let backends = ["alpha", "beta", "gamma"].map(|name| naming(&directory, name));
    let text_with = |state: &str| {
        let tables = backends.iter().zip(["ready", state, "ready"]).map(|(backend, state)| {
            format!("[[cluster.backend]]\naddress = \"{}\"\nstate = \"{state}\"\n", backend.place)
        });
        let tables: String = tables.collect();
        format!(
            "[[listener]]\nbind = \"127.0.0.1:0\"\n[[cluster]]\nsticky = {{ client_address = \"3h\" }}\n{tables}"
        )
    };
    let ringway = Configured::start(2, &text_with("ready"));
    let all = sources(40);
    let (known, newcomers) = all.split_at(20);
    let before: Vec<_> = known.iter().map(|source| ask(&ringway, *source)).collect();
    assert!(before.iter().any(|backend| backend == "beta"), "{before:?}");

    ringway.reload(&text_with("drain"));
    for _ in 0..4 {
        for (source, backend) in known.iter().zip(&before) {
            assert_eq!(ask(&ringway, *source), *backend, "{source} was moved from one that drains");
        }
    }
    let new: Vec<_> = newcomers.iter().map(|source| ask(&ringway, *source)).collect();
    assert!(new.iter().all(|backend| backend != "beta"), "one that drains got a newcomer: {new:?}");
    all_workers_have(&ringway, "requests");

    // Who is out altogether keeps nobody.
    ringway.reload(&text_with("maint"));
    for (source, before) in all.iter().zip(before.iter().chain(&new)) {
        let after = ask(&ringway, *source);
        assert_ne!(after, "beta", "{source}");
        assert!(before == "beta" || *before == after, "{source} was moved from {before} to {after}");
    }
}
