//! Where connections to backends come from: several addresses take turns, and ports that run out are told apart.

use std::collections::BTreeMap;

use crate::support::kernel::{forbid, own_network, reset_now};
use crate::support::run::run;
use crate::support::{Acceptor, Backend, Connection, Directory, Ringway, eventually};

/// Says who has connected.
fn name_peer(connection: &mut Connection) {
    let peer = connection.stream.peer_addr().unwrap().ip().to_string();
    connection.say(peer.as_bytes());
}

#[test]
fn connections_come_from_the_sources_in_turns() {
    let backend = Backend::scripted(name_peer);
    let options = Ringway::options().tcp().backends(&[&backend]).json();
    let ringway = options.arg("--source").arg("127.0.0.2,127.0.0.3,127.0.0.4").start();
    let heard: Vec<_> = (0..12).map(|_| ringway.client().take_to_end().unwrap()).collect();
    let mut counts = BTreeMap::new();
    for peer in &heard {
        *counts.entry(String::from_utf8_lossy(peer).into_owned()).or_insert(0) += 1;
    }
    let expected = [("127.0.0.2".to_owned(), 4), ("127.0.0.3".to_owned(), 4), ("127.0.0.4".to_owned(), 4)];
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), expected);
    assert!(heard.chunks(3).all(|round| round == &heard[..3]), "not in turns");
}

#[test]
fn requests_come_from_the_sources_too() {
    let backend = Backend::scripted(|connection| {
        let peer = connection.stream.peer_addr().unwrap().ip().to_string();
        connection.answer_all(
            format!("HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\n{peer}").as_bytes(),
        );
    });
    let ringway = Ringway::options()
        .backends(&[&backend])
        .arg("--source")
        .arg("127.0.0.2")
        .arg("--source")
        .arg("127.0.0.3")
        .start();
    let mut heard: Vec<_> = (0..2).map(|_| ringway.get("/").text()).collect();
    heard.sort();
    assert_eq!(heard, ["127.0.0.2", "127.0.0.3"]);
}

/// An address of the other family is left out, and where none is left the kernel chooses.
#[test]
fn a_source_of_the_other_family_does_no_harm() {
    let backend = Backend::scripted(name_peer);
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("this machine has no IPv6");
        return;
    }
    for (sources, peer) in [("::1,127.0.0.2", "127.0.0.2"), ("::1", "127.0.0.1")] {
        let ringway = Ringway::options().tcp().backends(&[&backend]).arg("--source").arg(sources).start();
        for _ in 0..3 {
            assert_eq!(ringway.client().take_to_end().unwrap(), peer.as_bytes());
        }
    }
}

#[test]
fn an_address_of_somebody_else_is_exit_4_with_cause_and_remedy() {
    for source in ["192.0.2.1", "127.0.0.2,192.0.2.1", "2001:db8::1"] {
        let options = Ringway::options().tcp().backend("127.0.0.1:1").arg("--source").arg(source);
        let (code, _, stderr) = run(&mut options.into_command());
        let wrong = source.rsplit(',').next().unwrap();
        assert_eq!(code, Some(4), "{stderr}");
        assert!(
            stderr.contains(wrong) && stderr.contains("no interface of this host has that address"),
            "{stderr}"
        );
    }
}

/// A kernel that has no port left for anything: every source is tried and counted, the backend is not to blame, and
/// the client is told.
#[test]
fn ports_that_run_out_are_told_and_counted() {
    let acceptor = Acceptor::new();
    let options = Ringway::options().tcp().backend(&acceptor.place).json();
    let options = options.arg("--source").arg("127.0.0.2,127.0.0.3");
    let ringway = options.command(|command| forbid(command, libc::SYS_connect, libc::EADDRNOTAVAIL)).start();
    for _ in 0..5 {
        assert_eq!(ringway.client().take_to_end().unwrap(), b"Server is down\n");
    }
    let stats = ringway.wait_quiet();
    assert_eq!(stats.counter("fault_ports_exhausted"), 5);
    assert_eq!(stats.counter_per_backend("ports_exhausted"), [10]);
    assert_eq!(stats.counter_per_backend("connect_failures"), [0]);
    assert_eq!(stats.gauge_per_backend("skipped"), [0]);

    let ringway = Ringway::options().backend(&acceptor.place).json();
    let ringway = ringway.command(|command| forbid(command, libc::SYS_connect, libc::EADDRNOTAVAIL)).start();
    assert_eq!(ringway.get("/").status, 503);
    assert_eq!(ringway.wait_quiet().counter("fault_ports_exhausted"), 1);
}

/// Ten ports an address: the second address takes over, then another backend, and nobody has to be told.
#[test]
fn another_source_and_another_backend_have_ports_left() {
    // The network is the thread's, and must not become that of the tests after this one.
    std::thread::spawn(run_out_of_ports).join().unwrap();
}

fn run_out_of_ports() {
    const PORTS: usize = 10;
    if !own_network(PORTS) {
        eprintln!("this user may not have a network of its own, so ports do not run out");
        return;
    }
    // Whoever listens, or says where it connects from, takes a port away; so nobody else uses one of the range.
    let directory = Directory::new();
    let (one, other) = (Acceptor::at("127.0.0.1:1001"), Acceptor::at("127.0.0.1:1002"));
    let options = Ringway::options().tcp().json().backend(&one.place).backend(&other.place);
    let options = options.listen(&directory.socket("listener"));
    let ringway = options.arg("--source").arg("127.0.0.2,127.0.0.3").start();
    let accept = || eventually("a backend", || one.try_accept().or_else(|| other.try_accept()));
    // Two addresses with ten ports each, for each of two backends.
    let mut open: Vec<_> = (0..4 * PORTS).map(|_| (ringway.client(), accept())).collect();
    let stats = ringway.stats();
    assert_eq!((stats.counter("tunnels"), stats.counter("tunnels_refused")), (4 * PORTS as u64, 0));
    let before = stats.counter("fault_ports_exhausted");
    assert_eq!(ringway.client().take_to_end().unwrap(), b"Server is down\n");
    let stats = ringway.stats();
    assert_eq!(stats.counter("fault_ports_exhausted"), before + 2);
    assert!(stats.counter_per_backend("ports_exhausted").iter().all(|&count| count >= 2));
    assert_eq!(stats.gauge_per_backend("skipped"), [0, 0]);
    // A port that is free again is found again; a reset leaves it no time to wait.
    let (_client, backend) = open.pop().unwrap();
    reset_now(&backend.stream);
    ringway.wait_stats("its end", |stats| stats.gauge("tunnels_active") == 4 * PORTS as u64 - 1);
    let mut back = ringway.client();
    back.send(b"hello").unwrap();
    assert_eq!(accept().take_exactly(5).unwrap(), b"hello");
}
