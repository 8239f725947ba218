//! A warm keep-alive exchange allocates nothing, and neither does a warm round trip through a tunnel or a datagram of a
//! flow that has a session.
//!
//! Runs a real worker in this process under an allocator that counts per thread, between a client and a backend on
//! threads of their own. When the worker allocates after all, the first few allocations are shown with their
//! backtraces.

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

use std::{
    alloc::{GlobalAlloc, Layout, System},
    backtrace::Backtrace,
    cell::Cell,
    fs,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    num::NonZeroU32,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam::channel::{Receiver, bounded};
use ringway::{
    blueprint::Blueprint,
    cli,
    config::{
        self, Environment,
        plan::{
            AdmissionPlan, Plan,
            admission::{RATE_COUNT_MAX, Rate, RateKey, RateLimit},
        },
    },
    listener,
    stats::{names::Count, view::View},
    sys::ring,
    worker::{
        mailbox::{Command, Handle, Mailbox},
        outbox::Outbox,
        run::{Event, Start, spawn},
    },
};

/// Exchanges before counting: pools, scratch space and the ring have their sizes then.
const WARM_UP: usize = 200;
/// Exchanges while counting.
const COUNTED: usize = 1000;
/// Counting goes on at least this long, so that what a worker does once a second falls into it.
const COUNTED_TIME: Duration = Duration::from_millis(1200);
/// Allocations shown with their backtraces.
const SHOWN_MAX: usize = 2;
/// No wait in this test is longer.
const PATIENCE: Duration = Duration::from_secs(20);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Threads that ever allocated, each with a slot of its own: its kernel number and its count.
static THREADS: [(AtomicI32, AtomicU64); 64] = [const { (AtomicI32::new(0), AtomicU64::new(0)) }; 64];
static SLOTS_TAKEN: AtomicUsize = AtomicUsize::new(0);
/// The slot whose allocations are shown, and how many more of them.
static SHOWN_SLOT: AtomicUsize = AtomicUsize::new(usize::MAX);
static SHOWN_LEFT: AtomicUsize = AtomicUsize::new(SHOWN_MAX);
/// One test at a time: they share all of the above.
static TURN: Mutex<()> = Mutex::new(());

thread_local! {
    static SLOT: Cell<usize> = const { Cell::new(usize::MAX) };
    static SHOWING: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

/// Counts an allocation of this thread. Must not allocate itself, except to show a backtrace.
fn count(bytes: usize) {
    if SHOWING.get() {
        return;
    }
    if SLOT.get() == usize::MAX {
        SLOT.set(SLOTS_TAKEN.fetch_add(1, SeqCst));
        let thread = rustix::thread::gettid().as_raw_nonzero().get();
        if let Some((slot, _)) = THREADS.get(SLOT.get()) {
            slot.store(thread, SeqCst);
        }
    }
    let Some((_, count)) = THREADS.get(SLOT.get()) else { return };
    count.fetch_add(1, SeqCst);
    let spend = |left: usize| left.checked_sub(1);
    if SLOT.get() == SHOWN_SLOT.load(SeqCst) && SHOWN_LEFT.fetch_update(SeqCst, SeqCst, spend).is_ok() {
        SHOWING.set(true);
        eprintln!("the worker allocates {bytes} bytes:\n{}", Backtrace::force_capture());
        SHOWING.set(false);
    }
}

// SAFETY: every method calls the system's allocator with the arguments it was called with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

/// The slot of the youngest thread of this process that has this name.
fn slot_of(name: &str) -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let named =
        tasks.filter(|task| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim_end() == name));
    let threads: Vec<i32> =
        named.map(|task| task.file_name().unwrap().to_str().unwrap().parse().unwrap()).collect();
    let youngest = *threads.iter().max().unwrap();
    THREADS.iter().position(|(thread, _)| thread.load(SeqCst) == youngest).expect("it has allocated before")
}

/// One worker over one backend. Each has a number of its own, by which its thread is found.
struct Worker {
    address: SocketAddr,
    handle: Handle,
    events: Receiver<(usize, Event)>,
}

impl Worker {
    fn start(worker: usize, backend: SocketAddr, mode: &str) -> Worker {
        let core = core_affinity::get_core_ids().unwrap()[0].id;
        let blueprint = Arc::new(Blueprint::new(plan(backend, core, mode), None));
        let bound = listener::bind::bind(&blueprint.plan.listeners[0], 1, &[]).unwrap();
        let cells = View::new(Arc::clone(&blueprint.plan)).workers.remove(0);
        let (mailbox, handle) = Mailbox::new(cells.stats).unwrap();
        let (sender, events) = bounded(4);
        let start = Start {
            worker,
            core,
            blueprint,
            backends: cells.backends,
            standings: Vec::new(),
            flags: ring::probe().unwrap_or_else(|error| panic!("{error}")),
            sockets: bound.sockets.into_iter().map(|socket| (0, socket)).collect(),
            mailbox,
            peers: vec![handle.clone(); worker + 1],
            offset: 0,
            outbox: Outbox::new(worker, sender, Arc::default()),
        };
        spawn(start).unwrap();
        let event = events.recv_timeout(PATIENCE);
        assert!(matches!(event, Ok((_, Event::Ready))), "{event:?}");
        Worker { address: bound.endpoint.inet().unwrap(), handle, events }
    }

    fn stop(self) {
        self.handle.send(Command::Drain).unwrap();
        let event = self.events.recv_timeout(PATIENCE);
        assert!(matches!(event, Ok((_, Event::Ended))), "{event:?}");
    }
}

/// Asks everything of everybody, and lets them all in.
fn generous() -> AdmissionPlan {
    let rate = Rate { count: RATE_COUNT_MAX, per: Duration::from_secs(1) };
    AdmissionPlan {
        allow: "127.0.0.0/8".parse().unwrap(),
        deny: "10.0.0.0/8".parse().unwrap(),
        rate: Some(RateLimit { rate, burst: RATE_COUNT_MAX, key: RateKey::Header("x-none".into()) }),
        connections_per_client: NonZeroU32::new(100),
    }
}

fn plan(backend: SocketAddr, core: usize, mode: &str) -> Plan {
    let flags = ["ringway", "--listen=127.0.0.1:0", "--mode", mode, "--cores", &core.to_string()]
        .map(std::ffi::OsString::from)
        .into_iter()
        .chain([format!("--backends={backend}").into()]);
    match cli::parse(flags) {
        Ok(cli::Command::Run(source)) => {
            let checked = config::load(&source, &Environment::of_process().unwrap()).unwrap();
            let mut plan = checked.into_plan(vec![vec![backend.into()]]);
            plan.listeners[0].admission = generous();
            plan
        }
        other => panic!("{other:?}"),
    }
}

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
    check(0, "http", Count::Requests, &[("GET", get), ("POST", post)]);
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
    let slot_name = format!("worker-{worker}");
    let worker = Worker::start(worker, backend(), mode);
    let mut client = TcpStream::connect(worker.address).unwrap();
    client.set_nodelay(true).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let slot = slot_of(&slot_name);
    let count = || THREADS[slot].1.load(SeqCst);
    let mut exchanges = 0;
    let mut found = Vec::new();
    for (name, request) in requests {
        exchanges += exchange(&mut client, request, WARM_UP, Duration::ZERO);
        SHOWN_SLOT.store(slot, SeqCst);
        let before = count();
        let counted = exchange(&mut client, request, COUNTED, COUNTED_TIME);
        found.push((*name, counted, count() - before));
        SHOWN_SLOT.store(usize::MAX, SeqCst);
        exchanges += counted;
    }

    let expected = if served == Count::Tunnels { 1 } else { exchanges };
    assert_eq!(worker.handle.stats.get(served), expected, "the worker has served them all");
    assert_eq!(worker.handle.stats.get(Count::ConnectionsAccepted), 1, "on one connection");
    let before = count();
    drop(client);
    worker.stop();
    assert!(before > 0, "the worker's allocations are counted");
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
    let slot = slot_of("worker-1");
    let count = || THREADS[slot].1.load(SeqCst);
    (0..WARM_UP / 4).for_each(|_| round());
    let (before, begun, mut rounds) = (count(), Instant::now(), 0u64);
    while rounds < 100 || begun.elapsed() < COUNTED_TIME {
        round();
        rounds += 1;
    }
    let allocations = count() - before;
    assert_eq!(worker.handle.stats.get(Count::UdpSessionsOpened), 8, "the flows have kept their sessions");
    assert!(before > 0, "the worker's allocations are counted");
    worker.stop();
    assert_eq!(allocations, 0, "in {rounds} rounds");
}
