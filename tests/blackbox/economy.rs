//! What a warm exchange costs the kernel: two poll operations on the ring, no pipe, no new connection.

use crate::support::{Backend, Ringway};

const EXCHANGES: u64 = 1_000;

#[test]
fn a_warm_exchange_takes_two_ring_operations() {
    let backend = Backend::well_behaved("a");
    let ringway = Ringway::counted_in_front_of(&[&backend]);
    let mut client = ringway.client();
    for _ in 0..EXCHANGES {
        assert_eq!(client.get("/").text(), "a");
    }
    // The count is published once a second.
    let stats = ringway.wait_stats("the ring's count", |stats| stats.counter("ring_polls") >= 2 * EXCHANGES);
    // The rest: accept, timer, doorbell, the looks through the pools, for as long as the suite may be slow.
    let others = 100 + EXCHANGES / 10;
    assert!(stats.counter("ring_polls") <= 2 * EXCHANGES + others, "{}", stats.counter("ring_polls"));
    assert_eq!((backend.connections(), stats.counter("spliced_bytes")), (1, 0));
}
