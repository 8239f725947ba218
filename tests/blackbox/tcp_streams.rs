//! TCP mode under load: large streams both ways, byte for byte, and a reader that rests holds its sender back.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::support::torrent::{Torrent, both_ways, wait_stalled};
use crate::support::{Acceptor, Directory, Ringway};

const HUGE: usize = 256 << 20;
/// More than all buffers on the way hold.
const PRESSED: usize = 64 << 20;
const GROWTH_MAX: u64 = 4 << 20;

/// Balancers over TCP and over UNIX sockets, each with its backend.
fn settings(directory: &Directory) -> [(Acceptor, Ringway); 2] {
    let [inet, unix] = [Acceptor::new(), Acceptor::at(&directory.socket("backend"))];
    let options = || Ringway::options().tcp().json();
    let over_inet = options().backend(&inet.place).start();
    let over_unix = options().listen(&directory.socket("listener")).backend(&unix.place).start();
    [(inet, over_inet), (unix, over_unix)]
}

/// Promise 31. Compared byte for byte, which is stricter than by hash.
#[test]
fn a_quarter_of_a_gigabyte_passes_each_way_at_once() {
    let directory = Directory::new();
    for (acceptor, ringway) in settings(&directory) {
        let (client, backend) = acceptor.tunnel(&ringway);
        let before = ringway.resident_bytes();
        both_ways(&client.stream, &backend.stream, HUGE);
        let growth = ringway.resident_bytes().saturating_sub(before);
        assert!(growth < GROWTH_MAX, "{growth} bytes more");
        drop((client, backend));
        let stats = ringway.wait_quiet();
        for side in ["client", "upstream"] {
            assert_eq!(stats.counter(&format!("{side}_received_bytes")), HUGE as u64);
            assert_eq!(stats.counter(&format!("{side}_sent_bytes")), HUGE as u64);
        }
        let spliced = stats.counter("spliced_bytes");
        assert!(spliced > HUGE as u64, "only {spliced} of {} bytes were spliced", 2 * HUGE);
    }
}

/// Sends until nothing moves any more, then reads; everything arrives and nothing was piled up.
fn press(ringway: &Ringway, from: &TcpStream, to: &mut TcpStream) {
    let before = ringway.resident_bytes();
    let moved = Arc::new(AtomicUsize::new(0));
    let (mut sender, counter) = (from.try_clone().unwrap(), Arc::clone(&moved));
    let sending = thread::spawn(move || Torrent::new(6).pour(&mut sender, PRESSED, &counter));
    let stalled = wait_stalled(&moved);
    let growth = ringway.resident_bytes().saturating_sub(before);
    assert!(stalled < PRESSED, "nothing held the sender back");
    assert!(growth < GROWTH_MAX, "{growth} bytes more while the reader rests");
    Torrent::new(6).expect(to, PRESSED);
    sending.join().unwrap().unwrap();
    assert_eq!(moved.load(Ordering::SeqCst), PRESSED);
}

#[test]
fn a_reader_that_rests_holds_the_sender_back_and_misses_nothing() {
    let directory = Directory::new();
    for (acceptor, ringway) in settings(&directory) {
        let (mut client, mut backend) = acceptor.tunnel(&ringway);
        press(&ringway, &client.stream, &mut backend.stream);
        press(&ringway, &backend.stream, &mut client.stream);
        drop((client, backend));
        ringway.wait_quiet();
    }
}

/// A clock that runs a hundred times as fast: a third of a second of rest is more than 30 seconds, and longer than every
/// time-out but that of a silent tunnel.
#[test]
fn a_reader_that_rests_for_half_a_minute_is_waited_for() {
    if !cfg!(debug_assertions) {
        return;
    }
    let acceptor = Acceptor::new();
    let options = Ringway::options().tcp().backend(&acceptor.place).json().hastened(100);
    let ringway = options.arg("--accept-proxy").arg("127.0.0.9").start();
    for client_rests in [true, false] {
        let (client, backend) = acceptor.tunnel(&ringway);
        let (client, backend) = (client.into_stream(), backend.stream);
        let (mut rests, sends) = if client_rests { (client, backend) } else { (backend, client) };
        let before = ringway.resident_bytes();
        let moved = Arc::new(AtomicUsize::new(0));
        let (mut sender, counter) = (sends.try_clone().unwrap(), Arc::clone(&moved));
        let sending = thread::spawn(move || Torrent::new(6).pour(&mut sender, PRESSED, &counter));
        let stalled = wait_stalled(&moved);
        // Ten seconds each is what a client has that must introduce itself and does not.
        for _ in 0..3 {
            ringway.client_from([127, 0, 0, 9].into()).closing();
        }
        assert_eq!(moved.load(Ordering::SeqCst), stalled, "somebody has read");
        assert!(stalled < PRESSED, "nothing held the sender back");
        let growth = ringway.resident_bytes().saturating_sub(before);
        assert!(growth < GROWTH_MAX, "{growth} bytes more while the reader rests");
        Torrent::new(6).expect(&mut rests, PRESSED);
        sending.join().unwrap().unwrap();
    }
    let stats = ringway.wait_quiet();
    assert_eq!((stats.counter("proxy_headers_timeout"), stats.counter("tunnel_timeouts")), (6, 0));
}

/// One direction that is blocked does not block the other one.
#[test]
fn while_one_direction_is_blocked_the_other_one_runs() {
    let acceptor = Acceptor::new();
    let ringway = Ringway::options().tcp().backend(&acceptor.place).json().start();
    for client_rests in [true, false] {
        let (client, backend) = acceptor.tunnel(&ringway);
        let (client, backend) = (client.into_stream(), backend.stream);
        let (rests, mut sends) = if client_rests { (client, backend) } else { (backend, client) };
        let moved = Arc::new(AtomicUsize::new(0));
        let (mut sender, counter) = (sends.try_clone().unwrap(), Arc::clone(&moved));
        let sending = thread::spawn(move || Torrent::new(7).pour(&mut sender, PRESSED, &counter));
        wait_stalled(&moved);
        let mut other = rests.try_clone().unwrap();
        let answering =
            thread::spawn(move || Torrent::new(8).pour(&mut other, PRESSED / 4, &AtomicUsize::new(0)));
        Torrent::new(8).expect(&mut sends, PRESSED / 4);
        answering.join().unwrap().unwrap();
        let mut rests = rests;
        Torrent::new(7).expect(&mut rests, PRESSED);
        sending.join().unwrap().unwrap();
    }
    ringway.wait_quiet();
}
