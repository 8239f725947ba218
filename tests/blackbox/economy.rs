//! What a warm exchange costs the kernel: two poll operations on the ring, few calls, no pipe, no new connection.

use crate::support::tracer::Tracer;
use crate::support::{Acceptor, Backend, Ringway};

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
