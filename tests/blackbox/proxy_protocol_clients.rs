//! The PROXY protocol where clusters differ, and where the claimed client decides who its backend is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::support::introduction::{v1, v2};
use crate::support::wire::Wire;
use crate::support::{Acceptor, Backend, Client, Configured};

const TARGET: &str = "198.51.100.1:443";

/// Everything that a backend hears in front of the first request, or of the first word.
fn introduction(client: &Client, version: &str) -> Vec<u8> {
    let [source, target] =
        [client.stream.local_addr(), client.stream.peer_addr()].map(|end| end.unwrap().to_string());
    match version {
        "v1" => v1(&source, &target),
        "v2" => v2(&source, &target),
        _ => Vec::new(),
    }
}

/// A cluster of one backend which is told of its clients like this, or not at all.
fn cluster(version: &str, backend: &Acceptor) -> String {
    let send = if version == "none" { String::new() } else { format!("send_proxy = {version:?}\n") };
    format!("[[cluster]]\nname = {version:?}\n{send}backend = {:?}\n", backend.place)
}

const VERSIONS: [&str; 3] = ["v1", "v2", "none"];

fn check(backend: &mut Wire, told: &[u8], version: &str) {
    let heard = backend.take_exactly(told.len()).unwrap();
    assert_eq!(heard.escape_ascii().to_string(), told.escape_ascii().to_string(), "{version}");
}

#[test]
fn each_cluster_has_a_version_of_its_own_or_none() {
    let acceptors = VERSIONS.map(|_| Acceptor::new());
    let clusters: String =
        VERSIONS.iter().zip(&acceptors).map(|(version, acceptor)| cluster(version, acceptor)).collect();
    let listeners = VERSIONS.map(|version| {
        format!("[[listener]]\nname = \"tcp-{version}\"\nbind = \"127.0.0.1:0\"\nmode = \"tcp\"\ncluster = {version:?}\n")
    });
    let routes = VERSIONS.map(|version| {
        format!("[[route]]\nlistener = \"http\"\npath_prefix = \"/{version}\"\ncluster = {version:?}\n")
    });
    let http = "[[listener]]\nname = \"http\"\nbind = \"127.0.0.1:0\"\n";
    let text = [http, &listeners.concat(), &clusters, &routes.concat()].concat();
    let ringway = Configured::start(1, &text);
    // Requests of one client go to all of them, one after the other, in every order.
    for turn in 0..VERSIONS.len() {
        let mut client = Client::connect(ringway.listener("http"));
        for place in (0..VERSIONS.len()).map(|place| (place + turn) % VERSIONS.len()) {
            let version = VERSIONS[place];
            client.send(format!("GET /{version} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
            let mut backend = acceptors[place].accept();
            check(&mut backend, &introduction(&client, version), version);
            assert_eq!(backend.take_head().unwrap().first_line, format!("GET /{version} HTTP/1.1"));
            backend.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").unwrap();
            assert_eq!(client.response().text(), "ok");
        }
    }
    for (version, acceptor) in VERSIONS.iter().zip(&acceptors) {
        let mut client = Client::connect(ringway.listener(&format!("tcp-{version}")));
        client.send(b"hello").unwrap();
        check(&mut acceptor.accept(), &[introduction(&client, version), b"hello".to_vec()].concat(), version);
    }
}

/// Backends that name themselves and close, to requests and to connections.
fn naming(mode: &str) -> Vec<Backend> {
    let name = |number: usize| {
        let body = format!("backend {number}");
        let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
        let (answer, is_http) = (format!("{head}{body}"), mode == "http");
        Backend::scripted(move |connection| match is_http {
            true => connection.answer_all(answer.as_bytes()),
            false => connection.say(body.as_bytes()),
        })
    };
    (0..4).map(name).collect()
}

/// A listener that believes 127.0.0.1 whom it speaks for, and nobody else.
fn start(mode: &str, cluster: &str, backends: &[Backend]) -> Configured {
    let places: Vec<_> = backends.iter().map(|backend| backend.place.clone()).collect();
    let listener =
        format!("[[listener]]\nbind = \"127.0.0.1:0\"\nmode = {mode:?}\naccept_proxy = \"127.0.0.1\"\n");
    Configured::start(1, &format!("{listener}[[cluster]]\nbackend = {places:?}\n{cluster}\n"))
}

/// Who serves a connection that begins with these bytes.
fn served_by(mut client: Client, mode: &str, header: &[u8]) -> String {
    let request: &[u8] = if mode == "http" { b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" } else { b"" };
    client.send(&[header, request].concat()).unwrap();
    match mode {
        "http" => client.response().text(),
        _ => String::from_utf8(client.take_to_end().unwrap()).unwrap(),
    }
}

/// Claims of different clients, of both versions, and with another port each time.
fn claim(source: Ipv4Addr, turn: u16) -> Vec<u8> {
    let source = format!("{source}:{}", 40_000 + turn);
    if turn.is_multiple_of(2) { v1(&source, TARGET) } else { v2(&source, TARGET) }
}

#[test]
fn the_claimed_client_is_what_is_hashed() {
    for mode in ["http", "tcp"] {
        let backends = naming(mode);
        for algorithm in ["ip-hash", "ring", "maglev"] {
            let ringway = start(mode, &format!("balance = {algorithm:?}"), &backends);
            let mut homes = BTreeSet::new();
            for last in 2..=80 {
                let source = Ipv4Addr::new(127, 0, 0, last);
                let direct = served_by(ringway.client_from(source.into()), mode, b"");
                for turn in 0..3 {
                    let claimed = served_by(ringway.client(), mode, &claim(source, turn));
                    assert_eq!(claimed, direct, "{mode}, {algorithm}: {source}, turn {turn}");
                }
                homes.insert(direct);
            }
            assert_eq!(homes.len(), 4, "{mode}, {algorithm}: {homes:?}");
        }
    }
}

#[test]
fn the_claimed_client_is_what_is_remembered() {
    for mode in ["http", "tcp"] {
        let backends = naming(mode);
        let ringway = start(mode, "[cluster.sticky]\nclient_address = \"3h\"", &backends);
        // Not a multiple of the backends, or those who take turns would always find theirs again.
        let sources: Vec<_> = (1..=41).map(|last| Ipv4Addr::new(192, 0, 2, last)).collect();
        let mut homes = BTreeMap::new();
        for turn in 0..4 {
            for source in &sources {
                let home = served_by(ringway.client(), mode, &claim(*source, turn));
                assert_eq!(homes.entry(*source).or_insert_with(|| home.clone()), &home, "{mode}: {source}");
            }
        }
        // Otherwise all of them would be one client.
        let used: BTreeSet<_> = homes.values().collect();
        assert_eq!(used.len(), 4, "{mode}: {homes:?}");
    }
}
