//! UDP mode when something is wrong: dead backends, too many flows, too few descriptors, the end.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::support::datagram::{DatagramBackend, DatagramClient, deaf_address, udp_options};
use crate::support::kernel::limit_descriptors;
use crate::support::stats::Stats;
use crate::support::{PATIENCE, Ringway, eventually};

/// Far below the shutdown time-out of 25 s, and above the second a flow may be silent while draining.
const PROMPTLY: Duration = Duration::from_secs(4);

fn haste(factor: u32) -> (&'static str, String) {
    ("RINGWAY_TEST_HASTE", factor.to_string())
}

#[test]
fn a_dead_backend_costs_no_answer() {
    let (_deaf, dead) = deaf_address();
    let alive = DatagramBackend::named("alive");
    let ringway = udp_options(&[dead, alive.address]).start();
    for number in 0..20 {
        let said = format!("{number}");
        // The only attempt: a client that lost its first datagram would wait in vain.
        let mut client = DatagramClient::new(ringway.address());
        assert_eq!(client.ask(said.as_bytes()), format!("alive:{said}").as_bytes());
    }
    let stats = ringway.stats();
    let refused = stats.counter("udp_refused");
    assert!((1..10).contains(&refused), "set aside too late: {refused}");
    assert_eq!(stats.counter("retries_connect"), refused);
    assert_eq!(alive.arrivals().len(), 20, "something was delivered twice");
    assert_eq!(stats.counter("udp_no_backend"), 0);
}

#[test]
fn nobody_left_is_counted_and_service_comes_back() {
    let (deaf, dead) = deaf_address();
    let ringway = udp_options(&[dead]).start();
    let mut client = DatagramClient::new(ringway.address());
    client.send(b"in vain");
    let stats = ringway.wait_stats("that nobody was left", |stats| stats.counter("udp_no_backend") > 0);
    assert!(stats.counter("udp_refused") > 0);
    ringway.wait_quiet();
    drop(deaf);
    let _back = DatagramBackend::echoing_at(&dead.to_string());
    assert_eq!(client.ask_patiently(b"again"), b"again");
}

#[test]
fn a_backend_that_dies_loses_its_flows_to_another() {
    let (a, b) = (DatagramBackend::named("a"), DatagramBackend::named("b"));
    let ringway = udp_options(&[a.address, b.address]).start();
    let mut clients = [(); 4].map(|()| DatagramClient::new(ringway.address()));
    let homes: Vec<_> = clients.iter_mut().map(|client| client.ask(b"")[0]).collect();
    assert_eq!(homes.iter().filter(|home| **home == b'a').count(), 2, "{homes:?}");
    drop(a);
    for client in &mut clients {
        // What was on its way to the dead one may be lost, as datagrams are.
        assert_eq!(client.ask_patiently(b"x"), b"b:x");
        client.send(b"y");
        // A slow answer may have been asked for twice.
        while client.receive() != b"b:y" {}
    }
    assert!(ringway.stats().counter("udp_refused") >= 1);
}

#[test]
fn a_network_that_cannot_be_reached_is_counted_and_avoided() {
    let alive = DatagramBackend::named("alive");
    // Sending to everybody needs a permission that it does not ask for.
    let nowhere = "255.255.255.255:9".parse().unwrap();
    let ringway = udp_options(&[nowhere, alive.address]).start();
    for _ in 0..10 {
        assert_eq!(DatagramClient::new(ringway.address()).ask(b"x"), b"alive:x");
    }
    let lonely = udp_options(&[nowhere]).start();
    DatagramClient::new(lonely.address()).send(b"x");
    let stats = lonely.wait_stats("that nobody was left", |stats| stats.counter("udp_no_backend") == 1);
    assert!(stats.counter("fault_upstream_connect") >= 1);
    lonely.wait_quiet();
}

#[test]
fn a_datagram_too_large_for_the_other_side_is_counted() {
    if UdpSocket::bind("[::1]:0").is_err() {
        eprintln!("this machine has no IPv6");
        return;
    }
    let backend = DatagramBackend::echoing();
    let mut command = crate::support::ringway::Options::bare();
    command.args(["--mode", "udp", "--listen", "[::1]:0", "--log-format", "json"]);
    command.args(["--backends", &backend.address.to_string()]);
    let ringway = Ringway::spawn(command);
    let mut client = DatagramClient::new(ringway.address());
    assert_eq!(client.ask(b"before"), b"before");
    // IPv6 carries 20 bytes more than IPv4.
    client.send(&vec![b'x'; 65_520]);
    ringway.wait_stats("a datagram that is too large", |stats| stats.counter("udp_oversized") == 1);
    assert_eq!(client.ask(b"after"), b"after");
    assert_eq!(backend.arrivals().len(), 2);
}

/// No real one is, so the balancer is given less room here. Half a datagram is none.
#[test]
fn a_datagram_that_was_cut_off_is_counted_and_dropped() {
    if !cfg!(debug_assertions) {
        return;
    }
    let backend = DatagramBackend::scripted("127.0.0.1:0", |socket, from, bytes| {
        let size = if bytes == b"much" { 1001 } else { bytes.len() };
        let _gone = socket.send_to(&vec![b'y'; size], from);
    });
    let ringway = udp_options(&[backend.address]).env("RINGWAY_TEST_DATAGRAM_BYTES", "1000").start();
    let mut client = DatagramClient::new(ringway.address());
    let cut = |stats: &Stats, count| stats.counter("udp_truncated") == count;
    assert_eq!(client.ask(&[b'x'; 1000]).len(), 1000);
    client.send(&[b'x'; 1001]);
    ringway.wait_stats("a datagram of a client", |stats| cut(stats, 1));
    client.send(b"much");
    let stats = ringway.wait_stats("a datagram of a backend", |stats| cut(stats, 2));
    assert_eq!((stats.counter("udp_client_received"), stats.counter("udp_upstream_sent")), (3, 2));
    assert_eq!((stats.counter("udp_upstream_received"), stats.counter("udp_client_sent")), (2, 1));
    // The flow is what it was.
    assert_eq!(client.ask(b"few"), b"yyy");
    assert_eq!((backend.arrivals().len(), ringway.stats().counter("udp_sessions_opened")), (3, 1));
}

#[test]
fn a_silent_flow_is_forgotten_with_its_descriptor() {
    if !cfg!(debug_assertions) {
        return;
    }
    let backend = DatagramBackend::named("a");
    // A minute becomes a fifth of a second.
    let (name, factor) = haste(300);
    let ringway = udp_options(&[backend.address]).env(name, &factor).start();
    let before = ringway.descriptors();
    for round in 1..=2 {
        let mut clients: Vec<_> = (0..50).map(|_| DatagramClient::new(ringway.address())).collect();
        for client in &mut clients {
            assert_eq!(client.ask(b"x"), b"a:x");
        }
        let stats = ringway.wait_quiet();
        assert_eq!(stats.counter("udp_sessions_expired"), stats.counter("udp_sessions_opened"));
        assert!(stats.counter("udp_sessions_expired") >= 50 * round);
        eventually("the descriptors to be closed", || (ringway.descriptors() == before).then_some(()));
    }
}

#[test]
fn a_flow_in_use_is_not_forgotten() {
    if !cfg!(debug_assertions) {
        return;
    }
    let backend = DatagramBackend::echoing();
    // A minute becomes 2.4 s, far more than the busy one is kept from its next question.
    let (name, factor) = haste(25);
    let ringway = udp_options(&[backend.address]).env(name, &factor).start();
    let mut busy = DatagramClient::new(ringway.address());
    let mut silent = DatagramClient::new(ringway.address());
    assert_eq!((busy.ask(b"x"), silent.ask(b"x")), (b"x".to_vec(), b"x".to_vec()));
    let mut seen = None;
    eventually("the silent flow to be forgotten", || {
        assert_eq!(busy.ask(b"y"), b"y");
        let stats = ringway.stats();
        seen = Some(stats.gauge("udp_sessions_active"));
        (stats.counter("udp_sessions_expired") == 1).then_some(())
    });
    assert_eq!(seen, Some(1));
    let ports: std::collections::HashSet<_> =
        backend.arrivals().iter().map(|(from, _)| from.port()).collect();
    assert_eq!(ports.len(), 2, "the busy flow has changed its port");
}

#[test]
fn the_table_is_bounded_and_the_stalest_flow_makes_room() {
    const MAX: usize = 8192;
    const MORE: usize = 50;
    let backend = DatagramBackend::echoing();
    let ringway = udp_options(&[backend.address]).start();
    let mut first = DatagramClient::new(ringway.address());
    assert_eq!(first.ask(b"x"), b"x");
    for number in 1..MAX + MORE {
        let said = number.to_le_bytes();
        assert_eq!(DatagramClient::new(ringway.address()).ask(&said), said);
        if number == MAX - 1 {
            // Not the stalest any more.
            assert_eq!(first.ask(b"x"), b"x");
        }
    }
    let opened = ringway.stats().counter("udp_sessions_opened");
    assert_eq!(first.ask(b"y"), b"y");
    let stats = ringway.stats();
    assert_eq!(stats.counter("udp_sessions_opened"), opened, "the flow in use was forgotten");
    // Now and then a client gets the port of another one that has gone.
    assert!(opened <= (MAX + MORE) as u64);
    assert_eq!(stats.gauge("udp_sessions_active"), opened.min(MAX as u64));
    assert_eq!(stats.counter("udp_sessions_evicted"), opened.saturating_sub(MAX as u64));
    assert_eq!(stats.backend_gauge("active"), stats.gauge("udp_sessions_active"));
}

#[test]
fn it_survives_the_want_of_descriptors_and_serves_again() {
    if !cfg!(debug_assertions) {
        return;
    }
    let backend = DatagramBackend::echoing();
    let (name, factor) = haste(100);
    let options = udp_options(&[backend.address]).env(name, &factor);
    let mut ringway = options.command(|command| limit_descriptors(command, 64)).start();
    let before = ringway.descriptors();
    for _ in 0..2 {
        let mut crowd: Vec<_> = (0..200).map(|_| DatagramClient::new(ringway.address())).collect();
        for client in &mut crowd {
            assert_eq!(client.ask_patiently(b"x"), b"x");
        }
        let stats = ringway.stats();
        assert!(stats.counter("udp_sessions_evicted") > 0 && stats.gauge("udp_sessions_active") < 64);
        assert!(ringway.ended().is_none());
    }
    let stats = ringway.wait_quiet();
    eventually("the descriptors to be closed", || (ringway.descriptors() == before).then_some(()));
    assert_eq!(stats.counter("connection_panics"), 0);
    assert_eq!(DatagramClient::new(ringway.address()).ask(b"y"), b"y");
}

#[test]
fn idle_flows_do_not_hold_up_the_end() {
    let backend = DatagramBackend::echoing();
    let mut ringway = udp_options(&[backend.address]).cores(2).start();
    let mut clients: Vec<_> = (0..20).map(|_| DatagramClient::new(ringway.address())).collect();
    for client in &mut clients {
        assert_eq!(client.ask(b"x"), b"x");
    }
    ringway.signal(libc::SIGTERM);
    assert_eq!(ringway.wait_exit(PROMPTLY), Some(0));
    let farewell = ringway.wait_line("the farewell", |line| line.contains("stopped"));
    assert!(farewell.contains("20"), "{farewell}");
}

#[test]
fn an_answer_on_its_way_still_arrives_and_new_flows_are_turned_away() {
    let (asked_here, asked) = channel();
    let (release, released) = channel::<()>();
    let backend = DatagramBackend::scripted("127.0.0.1:0", move |socket, from, bytes| {
        if bytes == b"late" {
            asked_here.send(()).unwrap();
            // An error means that the test is over.
            let _over = released.recv_timeout(PATIENCE);
            let _gone = socket.send_to(bytes, from);
        }
    });
    // Dropped before the backend, whose end would wait for it.
    let release = release;
    let mut ringway = udp_options(&[backend.address]).start();
    let mut client = DatagramClient::new(ringway.address());
    client.send(b"late");
    asked.recv_timeout(PATIENCE).unwrap();
    ringway.signal(libc::SIGTERM);
    ringway.wait_line("the order to stop", |line| line.contains("stopping"));
    let turned_away = |stats: &Stats| {
        // One that came before the worker had heard of the end would have its flow.
        let newcomer = DatagramClient::new(ringway.address());
        newcomer.send(b"new");
        // However slow this machine is, the flow that waits must not be silent for a second.
        client.send(b"still here");
        stats.counter("udp_turned_away") > 0
    };
    ringway.wait_stats("a flow that is turned away", turned_away);
    release.send(()).unwrap();
    assert_eq!(client.receive(), b"late");
    assert_eq!(ringway.wait_exit(PROMPTLY), Some(0));
}

#[test]
fn a_second_signal_cuts_flows_that_never_rest() {
    let backend = DatagramBackend::echoing();
    let mut ringway = udp_options(&[backend.address]).start();
    let mut client = DatagramClient::new(ringway.address());
    assert_eq!(client.ask(b"x"), b"x");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            client.socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            while !over.load(Ordering::SeqCst) {
                let _gone = client.socket.send_to(b"x", ringway.address());
                let _lost = client.try_receive();
            }
        });
        ringway.signal(libc::SIGTERM);
        ringway.wait_line("the order to stop", |line| line.contains("stopping"));
        ringway.signal(libc::SIGTERM);
        ringway.wait_line("the farewell", |line| line.contains("stopped") && line.contains("\"cut\":1"));
        over.store(true, Ordering::SeqCst);
    });
    assert_eq!(ringway.wait_exit(PROMPTLY), Some(0));
}

#[test]
fn a_panic_is_the_end_of_the_flows_and_not_of_the_listener() {
    if !cfg!(debug_assertions) {
        return;
    }
    let backend = DatagramBackend::echoing();
    let ringway = udp_options(&[backend.address]).env("RINGWAY_TEST_PANIC", "1").start();
    let mut client = DatagramClient::new(ringway.address());
    for count in 1..=3 {
        assert_eq!(client.ask(b"x"), b"x");
        client.send(b"__ringway_panic");
        ringway.wait_stats("the panic", |stats| stats.counter("connection_panics") == count);
        ringway.wait_quiet();
    }
    assert_eq!(client.ask(b"y"), b"y");
}

#[test]
fn what_a_full_queue_loses_is_counted() {
    const SENT: u64 = 1000;
    let backend = DatagramBackend::silent();
    let ringway = udp_options(&[backend.address]).start();
    let client = DatagramClient::new(ringway.address());
    ringway.pause();
    for _ in 0..SENT {
        client.send(&[b'x'; 30_000]);
    }
    ringway.resume();
    // The loss is told with the next datagram that finds room.
    let all = |stats: &Stats| {
        client.send(b"next");
        let (came, lost) = (stats.counter("udp_client_received"), stats.counter("udp_overflowed"));
        lost > 0 && came + lost > SENT
    };
    let stats = ringway.wait_stats("the loss", all);
    assert!(stats.counter("udp_client_received") > 0);
}

/// Whoever has much to say gets a turn like everybody else.
#[test]
fn a_flood_does_not_silence_a_quiet_flow() {
    let backend = DatagramBackend::scripted("127.0.0.1:0", |socket, from, bytes| {
        if bytes.len() < 100 {
            let _gone = socket.send_to(bytes, from);
        }
    });
    let ringway = udp_options(&[backend.address]).start();
    let mut quiet = DatagramClient::new(ringway.address());
    let floods = [(); 4].map(|()| DatagramClient::new(ringway.address()));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for flood in &floods {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    flood.send(&[b'f'; 60_000]);
                }
            });
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            ringway.wait_stats("a flood", |stats| stats.counter("turns") > 10);
            for number in 0..50 {
                // The flood may take the room of a datagram in a queue, but not its turn.
                let said = format!("{number}");
                while quiet.ask_patiently(said.as_bytes()) != said.as_bytes() {}
            }
        }));
        over.store(true, Ordering::SeqCst);
        assert!(outcome.is_ok(), "the quiet flow was not answered");
    });
}

/// A flow nobody answers is not a reason to blame anybody.
#[test]
fn silence_is_no_fault() {
    let (a, b) = (DatagramBackend::silent(), DatagramBackend::silent());
    let ringway = udp_options(&[a.address, b.address]).start();
    let clients: Vec<_> = (0..10).map(|_| DatagramClient::new(ringway.address())).collect();
    for _ in 0..3 {
        clients.iter().for_each(|client| client.send(b"x"));
    }
    eventually("all datagrams", || (a.arrivals().len() + b.arrivals().len() == 30).then_some(()));
    assert_eq!((a.arrivals().len(), b.arrivals().len()), (15, 15));
    assert_eq!(ringway.stats().backend_gauge("skipped"), 0);
}
