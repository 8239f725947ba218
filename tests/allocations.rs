//! A warm keep-alive exchange allocates nothing, and neither does a warm round trip through a tunnel or a datagram of a
//! flow that has a session. Nor does any algorithm's pick.
//!
//! Runs a real worker in this process under an allocator that counts per thread, between a client and a backend on
//! threads of their own. When it allocates after all, the first few allocations are shown with their backtraces.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test: it may panic, and block in its own threads"
)]
#![allow(
    unsafe_code,
    reason = "`GlobalAlloc` is an unsafe trait; every call goes on to the system's allocator"
)]

#[path = "allocations/counting.rs"]
mod counting;
#[path = "allocations/picks.rs"]
mod picks;
#[path = "in_process/worker.rs"]
mod worker;

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use counting::Counted;
use ringway::stats::names::Count;
use worker::{PATIENCE, Worker};

/// Exchanges before counting: pools, scratch space and the ring have their sizes then.
const WARM_UP: usize = 200;
/// Exchanges while counting.
const COUNTED: usize = 1000;
/// Counting goes on at least this long, so that what a worker does once a second falls into it.
const COUNTED_TIME: Duration = Duration::from_millis(1200);
/// Buffers that may still be missing behind the warm-up: how many are out at once is a matter of chance on a busy host, and
/// those that come back are used again.
const BUFFERS: u64 = 4;

/// One test at a time, since only one thread's allocations are shown.
static TURN: Mutex<()> = Mutex::new(());

/// Answers every request on every connection with 128 bytes; sends no `Date`, which the worker has to add then.
fn backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.set_nodelay(true).unwrap();
            thread::spawn(move || {
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: 128\r\nServer: test\r\n\r\n{}",
                    "x".repeat(128)
                );
                let mut inbox = Vec::new();
                while read_message(&mut stream, &mut inbox) {
                    stream.write_all(answer.as_bytes()).unwrap();
                }
            });
        }
    });
    address
}

/// Reads one message with its `Content-Length` body into `message`; false at the end of the stream.
fn read_message(stream: &mut TcpStream, message: &mut Vec<u8>) -> bool {
    message.clear();
    let mut piece = [0; 4096];
    loop {
        if let Some(head) = message.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let text = std::str::from_utf8(&message[..head]).unwrap().to_ascii_lowercase();
            let length = text
                .split_once("content-length: ")
                .map_or(0, |(_, rest)| rest.split("\r\n").next().unwrap().parse::<usize>().unwrap());
            assert!(message.len() <= head + 4 + length, "one message at a time");
            if message.len() == head + 4 + length {
                return true;
            }
        }
        match stream.read(&mut piece) {
            // The ring that was probed on this thread interrupts it once more while it goes away.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(0) | Err(_) if message.is_empty() => return false,
            received => {
                let received = received.unwrap();
                assert_ne!(received, 0, "the stream ends inside a message");
                message.extend_from_slice(&piece[..received]);
            }
        }
    }
}

/// Sends `request` again and again, at least `times` and for at least `time`.
fn exchange(client: &mut TcpStream, request: &[u8], times: usize, time: Duration) -> u64 {
    let (mut answer, begun, mut done) = (Vec::new(), Instant::now(), 0);
    while done < times || begun.elapsed() < time {
        client.write_all(request).unwrap();
        assert!(read_message(client, &mut answer), "the connection is kept");
        assert!(answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(&[b'x'; 128]));
        done += 1;
    }
    done as u64
}

#[test]
fn a_warm_keep_alive_exchange_allocates_nothing() {
    let get =
        b"GET /small?q=1 HTTP/1.1\r\nHost: example.com\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n".to_vec();
    let mut post = b"POST /form HTTP/1.1\r\nHost: example.com\r\nContent-Length: 1024\r\n\r\n".to_vec();
    post.resize(post.len() + 1024, b'p');
    let mut upload = b"POST /file HTTP/1.1\r\nHost: example.com\r\nContent-Length: 65536\r\n\r\n".to_vec();
    upload.resize(upload.len() + 65_536, b'p');
    check(0, "http", Count::Requests, &[("GET", get), ("POST", post), ("upload", upload)]);
}

/// Its task, its session and the futures that live as long as it is served: so many, whatever is asked of it.
#[test]
fn a_connection_for_one_request_takes_a_handful_of_allocations() {
    const REQUEST: &[u8] = b"GET /small HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n";
    const AT_MOST: u64 = 5;
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let worker = Worker::start(4, backend(), "http");
    let connection = || {
        let mut client = TcpStream::connect(worker.address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(REQUEST).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(&[b'x'; 128]));
    };
    let thread = Counted::named("worker-4");
    (0..WARM_UP).for_each(|_| connection());
    let (allocations, ()) = thread.during(|| (0..COUNTED).for_each(|_| connection()));
    worker.stop();
    // The last one may end behind its answer, and the worker has its own work now and then.
    let most = COUNTED as u64 * AT_MOST + 50;
    assert!((1..=most).contains(&allocations), "{allocations} for {COUNTED} connections");
}

/// What passes happens to look like HTTP, which the worker does not know.
#[test]
fn a_warm_round_trip_through_a_tunnel_allocates_nothing() {
    let small = b"GET / HTTP/1.1\r\n\r\n".to_vec();
    let mut bulk = b"POST / HTTP/1.1\r\nContent-Length: 60000\r\n\r\n".to_vec();
    bulk.resize(bulk.len() + 60_000, b'p');
    check(2, "tcp", Count::Tunnels, &[("small", small), ("bulk", bulk)]);
}

/// Sends each request again and again on one connection. `served` counts all of them, or the one connection.
fn check(worker: usize, mode: &str, served: Count, requests: &[(&str, Vec<u8>)]) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let thread_name = format!("worker-{worker}");
    let worker = Worker::start(worker, backend(), mode);
    let mut client = TcpStream::connect(worker.address).unwrap();
    client.set_nodelay(true).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let thread = Counted::named(&thread_name);
    let mut exchanges = 0;
    let mut found = Vec::new();
    for (name, request) in requests {
        exchanges += exchange(&mut client, request, WARM_UP, Duration::ZERO);
        let mut missing = BUFFERS;
        let (counted, allocations) = loop {
            let (allocations, counted) =
                thread.during(|| exchange(&mut client, request, COUNTED, COUNTED_TIME));
            exchanges += counted;
            if allocations == 0 || allocations > missing {
                break (counted, allocations);
            }
            missing -= allocations;
        };
        found.push((*name, counted, allocations));
    }

    let expected = if served == Count::Tunnels { 1 } else { exchanges };
    assert_eq!(worker.handle.stats.get(served), expected, "the worker has served them all");
    assert_eq!(worker.handle.stats.get(Count::ConnectionsAccepted), 1, "on one connection");
    drop(client);
    worker.stop();
    assert!(thread.allocations() > 0, "the worker's allocations are counted");
    assert!(
        found.iter().all(|(_, _, allocations)| *allocations == 0),
        "what, exchanges, allocations: {found:?}"
    );
}

/// Answers every datagram with itself.
fn datagram_backend() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut room = [0; 2048];
        loop {
            if let Ok((length, from)) = socket.recv_from(&mut room) {
                let _gone = socket.send_to(&room[..length], from);
            }
        }
    });
    address
}

fn receive(client: &UdpSocket, room: &mut [u8]) {
    match client.recv(room) {
        // As in `read_message`.
        Err(error) if error.kind() == ErrorKind::Interrupted => receive(client, room),
        received => _ = received.unwrap(),
    }
}

#[test]
fn a_datagram_of_a_known_flow_allocates_nothing() {
    let worker = Worker::start(1, datagram_backend(), "udp");
    let clients: Vec<_> = (0..8).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    for client in &clients {
        client.connect(worker.address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    // Single datagrams and bursts, of one flow and of several, of one size and of two.
    let round = || {
        let mut room = [0; 2048];
        for burst in [1, 3, 6] {
            for (number, client) in clients.iter().enumerate() {
                for step in 0..burst {
                    client.send(&room[..if (number + step) % 5 == 0 { 100 } else { 700 }]).unwrap();
                }
            }
            for client in &clients {
                for _ in 0..burst {
                    receive(client, &mut room);
                }
            }
        }
    };
    let thread = Counted::named("worker-1");
    (0..WARM_UP / 4).for_each(|_| round());
    let (before, begun, mut rounds) = (thread.allocations(), Instant::now(), 0u64);
    while rounds < 100 || begun.elapsed() < COUNTED_TIME {
        round();
        rounds += 1;
    }
    let allocations = thread.allocations() - before;
    assert_eq!(worker.handle.stats.get(Count::UdpSessionsOpened), 8, "the flows have kept their sessions");
    assert!(before > 0, "the worker's allocations are counted");
    worker.stop();
    assert_eq!(allocations, 0, "in {rounds} rounds");
}
