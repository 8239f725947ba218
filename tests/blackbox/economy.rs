//! What a warm exchange costs the kernel: two poll operations on the ring, few calls, no pipe, no new connection. And the end
//! of a connection: no segment of its own.

use std::time::{Duration, Instant};

use crate::support::kernel::segments_received;
use crate::support::tracer::Tracer;
use crate::support::wire::Wire;
use crate::support::{Acceptor, Backend, Configured, Ringway};

const EXCHANGES: u64 = 1_000;

/// Checks the ring's count after `EXCHANGES` exchanges: two for each. The rest: accept, timer, doorbell, the looks through
/// the pools, for as long as the suite may be slow.
fn check_ring_operations(ringway: &Ringway) {
    // The count is published once a second.
    let stats = ringway.wait_stats("the ring's count", |stats| stats.counter("ring_polls") >= 2 * EXCHANGES);
    let others = 100 + EXCHANGES / 10;
    assert!(stats.counter("ring_polls") <= 2 * EXCHANGES + others, "{}", stats.counter("ring_polls"));
    assert_eq!(stats.counter("spliced_bytes"), 0);
}

#[test]
fn a_warm_exchange_takes_two_ring_operations() {
    let backend = Backend::well_behaved("a");
    let ringway = Ringway::counted_in_front_of(&[&backend]);
    let mut client = ringway.client();
    for _ in 0..EXCHANGES {
        assert_eq!(client.get("/").text(), "a");
    }
    check_ring_operations(&ringway);
    assert_eq!(backend.connections(), 1);
}

/// A round trip through a tunnel: each message wakes its direction once and is received and sent once.
#[test]
fn a_warm_round_trip_takes_two_ring_operations_and_four_calls() {
    let acceptor = Acceptor::new();
    let ringway = Ringway::options().tcp().backend(&acceptor.place).json().start();
    let (mut client, mut backend) = acceptor.tunnel(&ringway);
    let mut trips = |count: u64| {
        for _ in 0..count {
            client.send(&[b'x'; 100]).unwrap();
            backend.take_exactly(100).unwrap();
            backend.send(&[b'y'; 100]).unwrap();
            client.take_exactly(100).unwrap();
        }
    };
    trips(EXCHANGES);
    check_ring_operations(&ringway);
    let mut traced = || {
        let tracer = Tracer::attach(&ringway)?;
        trips(EXCHANGES);
        let calls = tracer.calls();
        let data = ["recvfrom", "sendto", "recvmsg", "sendmsg", "splice", "readv", "writev"];
        let data: u64 = data.iter().filter_map(|name| calls.get(*name)).sum();
        // With fewer nothing can pass: a tracer that lost its way on a busy machine tells nothing.
        (data >= 4 * EXCHANGES).then_some((data, calls))
    };
    let Some((data, calls)) = (0..3).find_map(|_| traced()) else {
        eprintln!("no tracer here that may look at the calls of another process");
        return;
    };
    assert!(data <= 4 * EXCHANGES + 20, "{calls:?}");
    let enters = calls.get("io_uring_enter").copied().unwrap_or(0);
    assert!(enters <= 2 * EXCHANGES + EXCHANGES / 10, "{calls:?}");
}

#[test]
fn the_end_of_a_last_response_comes_in_the_segment_of_its_last_bytes() {
    let backend = Backend::well_behaved("a");
    let ringway = Ringway::in_front_of(&[&backend]);
    let segments = |_| {
        let mut client = ringway.client();
        assert_eq!(client.ask("GET /", "Host: ringway.test\r\nConnection: close\r\n").text(), "a");
        assert!(client.take_to_end().unwrap().is_empty());
        segments_received(&client.stream)
    };
    // The handshake, the acknowledgement of the request, and the response with its end.
    assert_eq!((0..20).map(segments).min(), Some(3));
}

/// How many segments each side has received when its peer's last bytes and its end were there together: the backend first.
fn last_segments(acceptor: &Acceptor, ringway: &Ringway) -> [u32; 2] {
    let (mut client, mut backend) = acceptor.tunnel(ringway);
    [(0, 1), (1, 0)].map(|(from, to)| {
        let sides = [&mut *client, &mut backend];
        let before = segments_received(&sides[to].stream);
        ringway.pause();
        sides[from].send(b"bye").unwrap();
        sides[from].finish();
        ringway.resume();
        assert_eq!(sides[to].take_to_end().unwrap(), b"bye");
        segments_received(&sides[to].stream) - before
    })
}

#[test]
fn an_end_that_has_come_with_the_last_bytes_goes_on_with_them() {
    let acceptor = Acceptor::new();
    let ringway = Ringway::options().tcp().backend(&acceptor.place).start();
    let all = [(); 20].map(|()| last_segments(&acceptor, &ringway));
    // On a slow machine an acknowledgement comes now and then by itself.
    assert_eq!([0, 1].map(|to| all.iter().map(|one| one[to]).min()), [Some(1); 2], "{all:?}");
}

/// One worker in front of this backend.
fn in_front_of(acceptor: &Acceptor, mode: &str, cluster: &str) -> Configured {
    let text = format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\nmode = \"{mode}\"\n[[cluster]]\n{cluster}\nbackend = [{:?}]\n",
        acceptor.place
    );
    Configured::start(1, &text)
}

/// Takes a PROXY protocol header of version 1.
fn take_greeting(backend: &mut Wire) {
    while backend.take_exactly(1).unwrap() != b"\n" {}
}

/// How many segments the backend has received when it has the first bytes of a client that speaks before or after the
/// connection to the backend is made.
fn first_segments(acceptor: &Acceptor, ringway: &Ringway, speaks_first: bool, is_greeted: bool) -> u32 {
    ringway.pause();
    let mut client = ringway.client();
    if speaks_first {
        client.send(b"hello").unwrap();
    }
    ringway.resume();
    let mut backend = acceptor.accept();
    if is_greeted {
        take_greeting(&mut backend);
    }
    if !speaks_first {
        client.send(b"hello").unwrap();
    }
    assert_eq!(backend.take_exactly(5).unwrap(), b"hello");
    segments_received(&backend.stream)
}

#[test]
fn the_first_bytes_of_a_client_end_the_handshake_with_its_backend() {
    for (cluster, segments) in [("", [2, 3]), ("send_proxy = \"v1\"", [2, 4])] {
        let acceptor = Acceptor::new();
        let ringway = in_front_of(&acceptor, "tcp", cluster);
        let counted = [true, false].map(|speaks_first| {
            let count = |_| first_segments(&acceptor, &ringway, speaks_first, !cluster.is_empty());
            (0..10).map(count).min().unwrap()
        });
        assert_eq!(counted, segments, "{cluster}");
    }
}

/// With the end of the client's direction there is nothing that an acknowledgement could wait for.
#[test]
fn bytes_and_end_of_a_client_end_the_handshake_together() {
    let acceptor = Acceptor::new();
    let ringway = in_front_of(&acceptor, "tcp", "");
    let counted = (0..10).map(|_| {
        ringway.pause();
        let mut client = ringway.client();
        client.send(b"hello").unwrap();
        client.finish();
        ringway.resume();
        let mut backend = acceptor.accept();
        assert_eq!(backend.take_to_end().unwrap(), b"hello");
        segments_received(&backend.stream)
    });
    assert_eq!(counted.min(), Some(2));
    let stats = ringway.wait_quiet();
    let bytes = ["client_received_bytes", "upstream_sent_bytes"].map(|name| stats.counter(name));
    assert_eq!(bytes, [50; 2], "what comes before the backend counts, too");
}

#[test]
fn a_request_ends_the_handshake_with_its_backend() {
    for cluster in ["", "send_proxy = \"v1\""] {
        let acceptor = Acceptor::new();
        let ringway = in_front_of(&acceptor, "http", cluster);
        let counted = (0..10).map(|_| {
            let mut client = ringway.client();
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            let mut backend = acceptor.accept();
            if !cluster.is_empty() {
                take_greeting(&mut backend);
            }
            backend.take_head().unwrap();
            segments_received(&backend.stream)
        });
        assert_eq!(counted.min(), Some(2), "{cluster}");
    }
}

/// Its second piece waits for the acknowledgement of the first one (Nagle's algorithm). A delayed one takes 40 ms at the
/// least, however fast the machine is; on a slow one some connection is faster than that.
#[test]
fn a_backend_that_waits_for_acknowledgements_is_not_kept_waiting() {
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const PIECES: [&[u8]; 3] = [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", b"o", b"k"];
    for (mode, client_ends) in [("tcp", false), ("tcp", true), ("http", false)] {
        let acceptor = Acceptor::new();
        let ringway = in_front_of(&acceptor, mode, "");
        let fastest = (0..30).map(|_| {
            ringway.pause();
            let mut client = ringway.client();
            client.send(REQUEST).unwrap();
            if client_ends {
                client.finish();
            }
            ringway.resume();
            let mut backend = acceptor.accept();
            backend.stream.set_nodelay(false).unwrap();
            backend.take_head().unwrap();
            let begun = Instant::now();
            PIECES.iter().for_each(|piece| backend.send(piece).unwrap());
            assert_eq!(client.response().text(), "ok");
            // The connection is not used again.
            drop(backend);
            begun.elapsed()
        });
        assert!(fastest.min().unwrap() < Duration::from_millis(30), "{mode} {client_ends}");
    }
}
