//! The main job: turns between backends, and what is said at the start.

use std::collections::BTreeMap;
use std::net::TcpListener;

use crate::support::kernel::reset_now;
use crate::support::ringway::{Options, message};
use crate::support::{Acceptor, Backend, Ringway, refusing_address};

/// How often each id answered `count` requests, over one connection and over many.
fn answers(ringway: &Ringway, count: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let mut client = ringway.client();
    for turn in 0..count {
        let response = if turn % 2 == 0 { client.get("/") } else { ringway.get("/") };
        assert_eq!(response.status, 200, "turn {turn}: {response:?}");
        *counts.entry(response.text()).or_default() += 1;
    }
    counts
}

#[test]
fn alternates_between_two_backends() {
    let (a, b) = (Backend::well_behaved("a"), Backend::well_behaved("b"));
    let ringway = Ringway::in_front_of(&[&a, &b]);
    let ids: Vec<_> = (0..10).map(|_| ringway.get("/").text()).collect();
    for pair in ids.windows(2) {
        assert_ne!(pair[0], pair[1], "not in turn: {ids:?}");
    }
}

#[test]
fn alternates_inside_one_connection() {
    let (a, b) = (Backend::well_behaved("a"), Backend::well_behaved("b"));
    let ringway = Ringway::in_front_of(&[&a, &b]);
    let mut client = ringway.client();
    let ids: Vec<_> = (0..10).map(|_| client.get("/").text()).collect();
    for pair in ids.windows(2) {
        assert_ne!(pair[0], pair[1], "not in turn: {ids:?}");
    }
    assert_eq!((a.connections(), b.connections()), (1, 1));
}

#[test]
fn four_backends_get_a_quarter_each() {
    let backends = ["a", "b", "c", "d"].map(Backend::well_behaved);
    let ringway = Ringway::in_front_of(&backends.each_ref());
    let counts = answers(&ringway, 100);
    assert_eq!(counts.values().copied().collect::<Vec<_>>(), [25, 25, 25, 25], "{counts:?}");
}

#[test]
fn a_dead_backend_is_skipped_and_its_share_spread_evenly() {
    let backends = ["a", "b", "c"].map(Backend::well_behaved);
    let (_socket, dead) = refusing_address();
    let [a, b, c] = &backends;
    let ringway = Ringway::options().backends(&[a]).backend(dead).backends(&[b, c]).start();
    let counts = answers(&ringway, 99);
    assert_eq!(counts.len(), 3, "{counts:?}");
    // The first refusal lets a neighbour take a turn more; if the dead one is tried again, another.
    assert!(counts.values().all(|count| count.abs_diff(33) <= 2), "uneven: {counts:?}");
}

#[test]
fn the_lines_at_the_start_name_listener_backends_and_ring() {
    let (a, b) = (Backend::well_behaved("a"), Backend::well_behaved("b"));
    let ringway = Ringway::in_front_of(&[&a, &b]);
    let lines: Vec<_> = ringway.lines().iter().map(|line| message(line)).collect();
    let listening = format!("listening on {} mode=http cluster=default workers=1", ringway.address());
    assert_eq!(lines.iter().filter(|line| line.contains(&listening)).count(), 1, "{lines:#?}");
    for backend in [&a, &b] {
        let address = backend.address.to_string();
        assert!(lines.iter().any(|line| line.contains(&address)), "no {address} among {lines:#?}");
    }
    let flags = ["DEFER_TASKRUN", "COOP_TASKRUN", "plain"];
    let named = |line: &String| flags.iter().any(|flag| line.to_lowercase().contains(&flag.to_lowercase()));
    assert!(lines.iter().any(named), "no ring flags among {lines:#?}");
    assert!(lines.last().unwrap().starts_with("ready"), "{lines:#?}");
}

#[test]
fn the_start_is_understood_in_json_as_well() {
    let backend = Backend::well_behaved("a");
    let ringway = Ringway::counted_in_front_of(&[&backend]);
    for line in ringway.lines() {
        let parsed = serde_json::from_str::<serde_json::Value>(&line);
        assert!(parsed.is_ok_and(|value| value.is_object()), "no JSON object: {line}");
    }
    assert_eq!(ringway.get("/").text(), "a");
}

#[test]
fn nothing_is_printed_for_a_connection_or_a_request() {
    let backend = Backend::well_behaved("a");
    let ringway = Ringway::counted_in_front_of(&[&backend]);
    let before = ringway.lines().len();
    for _ in 0..5 {
        assert_eq!(ringway.get("/").status, 200);
        let mut malformed = ringway.client();
        malformed.send(b"nonsense\r\n\r\n").unwrap();
        assert_eq!(malformed.last_response().unwrap().status, 400);
        drop(ringway.client());
    }
    // Once the dump is there, so is everything that was printed before it.
    ringway.stats();
    let fresh: Vec<_> = ringway.lines().into_iter().skip(before).collect();
    assert_eq!(fresh.len(), 1, "more than the statistics: {fresh:#?}");
}

#[test]
fn nothing_is_printed_for_a_tunnel() {
    let acceptor = Acceptor::new();
    let options = Ringway::options().tcp().backend(&acceptor.place).json();
    let ringway = options.arg("--accept-proxy").arg("127.0.0.9").start();
    let before = ringway.lines().len();
    for turn in 0..15 {
        let (mut client, mut backend) = acceptor.tunnel(&ringway);
        client.send(b"hello").unwrap();
        assert_eq!(backend.take_exactly(5).unwrap(), b"hello");
        // However they end.
        match turn % 3 {
            0 => drop((client, backend)),
            1 => {
                reset_now(&client.stream);
                backend.wait_closed();
            }
            _ => {
                reset_now(&backend.stream);
                client.wait_closed();
            }
        }
        let mut no_proxy = ringway.client_from([127, 0, 0, 9].into());
        no_proxy.send(b"nonsense\r\n").unwrap();
        no_proxy.wait_closed();
    }
    ringway.stats();
    let fresh: Vec<_> = ringway.lines().into_iter().skip(before).collect();
    assert_eq!(fresh.len(), 1, "more than the statistics: {fresh:#?}");
    assert_eq!(ringway.wait_quiet().counter("tunnels"), 15);
}

#[test]
fn ipv6_works_on_both_sides() {
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("this machine has no IPv6");
        return;
    }
    let backend = Backend::well_behaved_at("[::1]:0", "six");
    let mut command = Options::bare();
    command.args(["--listen", "[::1]:0", "--backends", &format!("http://{}", backend.address)]);
    let ringway = Ringway::spawn(command);
    assert!(ringway.address().is_ipv6());
    assert_eq!(ringway.get("/").text(), "six");
    assert_eq!(backend.last().head.value("x-forwarded-for").as_deref(), Some("::1"));
}
