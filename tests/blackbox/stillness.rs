//! Where nothing moves, nothing runs: a waiting connection costs no processor time and an idle one holds no buffer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::datagram::{DatagramBackend, DatagramClient, udp_options};
use crate::support::kernel::limit_descriptors;
use crate::support::{Backend, Client, PATIENCE, Ringway, eventually};

/// How long the processor time is measured.
const WINDOW: Duration = Duration::from_millis(600);
/// What timers and the control thread may use in that time. A spinning worker uses all of it.
const USE_MAX: Duration = Duration::from_millis(100);

/// Waits until a short window shows no more than noise, then measures a whole one.
fn assert_still(ringway: &Ringway, what: &str) {
    let used = |window: Duration| {
        let (before, start) = (ringway.processor_time(), Instant::now());
        while start.elapsed() < window {
            thread::park_timeout(window.saturating_sub(start.elapsed()));
        }
        ringway.processor_time().saturating_sub(before)
    };
    let start = Instant::now();
    let mut last = used(WINDOW);
    // What still moves (buffers that fill up, say) may come to rest first.
    while last > USE_MAX && start.elapsed() < PATIENCE / 2 {
        last = used(WINDOW);
    }
    assert!(last <= USE_MAX, "{what}: {last:?} of processor time in {WINDOW:?}");
}

/// A backend that takes the request head and then neither reads nor writes until the test is over.
fn frozen_behind(answer: &'static [u8]) -> Backend {
    Backend::scripted(move |connection| {
        if connection.request_head().is_some() {
            connection.say(answer);
            park_for_ever();
        }
    })
}

/// Holds a backend's thread, and with it its connection, for the rest of the test run.
fn park_for_ever() {
    static OVER: AtomicBool = AtomicBool::new(false);
    while !OVER.load(Ordering::Relaxed) {
        thread::park();
    }
}

fn client_that_sent(ringway: &Ringway, bytes: &[u8]) -> Client {
    let mut client = ringway.client();
    client.send(bytes).unwrap();
    client
}

#[test]
fn idle_connections_hold_no_buffer_and_cost_no_time() {
    let backend = Backend::well_behaved("a");
    let ringway = Ringway::options().backends(&[&backend]).cores(2).json().start();
    let mut idle: Vec<_> = (0..300).map(|_| ringway.client()).collect();
    for client in idle.iter_mut().step_by(2) {
        assert_eq!(client.get("/").status, 200);
    }
    ringway.wait_stats("300 connections and no buffer", |stats| {
        let held = ["buffers_in_use", "pipes_in_use", "exchanges_active"];
        stats.gauge("connections_active") == 300 && held.iter().all(|name| stats.gauge(name) == 0)
    });
    assert_still(&ringway, "300 idle connections");
    for client in &mut idle {
        assert_eq!(client.get("/").status, 200);
    }
}

#[test]
fn idle_flows_of_datagrams_cost_no_time() {
    let backend = DatagramBackend::echoing();
    let ringway = udp_options(&[backend.address]).cores(2).start();
    for _ in 0..300 {
        assert_eq!(DatagramClient::new(ringway.address()).ask(b"x"), b"x");
    }
    ringway.wait_stats("300 flows", |stats| stats.gauge("udp_sessions_active") >= 290);
    assert_still(&ringway, "300 idle flows");
}

#[test]
fn a_wait_for_an_answer_costs_no_time() {
    let backend = frozen_behind(b"");
    let cases: &[(&str, &[u8])] = &[
        ("alone", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("with a request sent ahead", b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("with half a request sent ahead", b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HT"),
        ("with half a body", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello"),
        ("with half a chunk", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhello"),
    ];
    for (name, bytes) in cases {
        let ringway = Ringway::in_front_of(&[&backend]);
        let mut client = client_that_sent(&ringway, bytes);
        assert_still(&ringway, name);
        assert!(!client.has_input(), "{name}: nobody has answered");
    }
}

/// More than one buffer of requests sent ahead: they must wait without being looked at again and again.
#[test]
fn a_flood_of_requests_sent_ahead_costs_no_time() {
    let backend = frozen_behind(b"");
    let ringway = Ringway::in_front_of(&[&backend]);
    let client = ringway.client();
    let mut writer = client.stream.try_clone().unwrap();
    writer.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let before = ringway.resident_bytes();
    let flood = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2_000);
    while std::io::Write::write_all(&mut writer, &flood).is_ok() {}
    assert_still(&ringway, "a flood of requests sent ahead");
    let growth = ringway.resident_bytes().saturating_sub(before);
    assert!(growth < 4 << 20, "{growth} bytes more");
}

#[test]
fn a_reader_that_stopped_costs_no_time() {
    for head in ["Content-Length: 100000000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n5f5e100\r\n", "\r\n"]
    {
        let backend = Backend::scripted(move |connection| {
            connection.request();
            connection.say(format!("HTTP/1.1 200 OK\r\n{head}").as_bytes());
            connection.say(&vec![b'x'; 100_000_000]);
        });
        let ringway = Ringway::in_front_of(&[&backend]);
        let mut client = client_that_sent(&ringway, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client.head();
        assert_still(&ringway, head);
    }
}

#[test]
fn a_backend_that_stopped_reading_costs_no_time() {
    let backend = frozen_behind(b"");
    for (head, repeat) in [("Content-Length: 100000000", false), ("Transfer-Encoding: chunked", true)] {
        let ringway = Ringway::in_front_of(&[&backend]);
        let mut client = ringway.client();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n").as_bytes()).unwrap();
        let mut writer = client.stream.try_clone().unwrap();
        writer.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        let piece = vec![b'x'; 65_536];
        let piece = if repeat { [b"10000\r\n", piece.as_slice(), b"\r\n"].concat() } else { piece };
        while std::io::Write::write_all(&mut writer, &piece).is_ok() {}
        assert_still(&ringway, head);
    }
}

const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";

#[test]
fn a_tunnel_where_nothing_moves_costs_no_time() {
    let backend = frozen_behind(SWITCH);
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = client_that_sent(&ringway, UPGRADE);
    assert_eq!(client.response().status, 101);
    assert_still(&ringway, "an open tunnel");
    client.finish();
    assert_still(&ringway, "a tunnel whose client has ended its direction");

    let backend = Backend::scripted(|connection| {
        connection.request();
        connection.say(SWITCH);
        connection.finish();
        park_for_ever();
    });
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = client_that_sent(&ringway, UPGRADE);
    assert_eq!(client.response().status, 101);
    assert_still(&ringway, "a tunnel whose backend has ended its direction");
}

#[test]
fn a_drain_that_waits_costs_no_time() {
    let backend = frozen_behind(b"");
    let ringway = Ringway::in_front_of(&[&backend]);
    let _client = client_that_sent(&ringway, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the request at the backend", || (backend.heads() == 1).then_some(()));
    ringway.signal(libc::SIGTERM);
    ringway.wait_refuses();
    assert_still(&ringway, "a drain");
}

#[test]
fn the_want_of_descriptors_costs_no_time() {
    let backend = Backend::well_behaved("a");
    let options = Ringway::options().backends(&[&backend]);
    let ringway = options.command(|command| limit_descriptors(command, 64)).start();
    let crowd: Vec<_> = (0..200).map(|_| ringway.client()).collect();
    eventually("the descriptors to be used up", || (ringway.most_descriptors() >= 60).then_some(()));
    assert_still(&ringway, "waiting for descriptors");
    drop(crowd);
}
