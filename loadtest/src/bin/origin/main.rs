//! The load-test origin: a small, fast server on glommio, one executor per core, nothing shared but counters. It speaks HTTP/1.1 and,
//! on addresses of their own, the few things the TCP and UDP scenarios need.
//!
//! It stands behind the proxies under test. It runs on a runtime other than ringway's so that a fault of one runtime cannot
//! hide in both, and it has to be much faster than any proxy so that it is never what is measured. It is no web server: it
//! trusts its clients, which are proxies on the loopback interface.
//!
//! `origin --listen 127.0.0.1:0 --echo 127.0.0.1:0 --cores 1`; a line `SERVICE on ADDR:PORT` for each service, at last `ready`, on stderr.

mod answer;
mod body;
mod connection;
mod door;
mod plain;
mod raw;
mod request;
mod tally;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::thread;

use glommio::{LocalExecutorBuilder, Placement};
use rustix::thread::{CpuSet, sched_setaffinity};

use door::{Door, Service};
use tally::{Tallies, Tally};

/// Registered with the ring and therefore counted against RLIMIT_MEMLOCK, which is 8 MiB on many hosts; sockets do not use it.
const IO_MEMORY_BYTES: usize = 256 * 1024;
const RING_DEPTH: usize = 256;

const USAGE: &str = "usage: origin [--listen ADDR:PORT] [--SERVICE ADDR:PORT ..] [--cores LIST]
--listen, HTTP:
  GET /              128 bytes, the smallest exchange
  GET /bytes/N       N bytes with Content-Length
  GET /chunked/N     N bytes in chunks
  GET /close/N       N bytes, ended by closing the connection
  GET /slow/MS       the 128 bytes after MS milliseconds
  GET /stream/N/MS   N bytes in chunks of 1 KiB, MS milliseconds after each
  GET /hang          no answer, until the client gives up
  GET /flaky/N       the 128 bytes, but one of N requests is answered 503
  GET /drop/N        the 128 bytes, but one of N connections is closed instead
  GET /cut/N         the 128 bytes, but one of N answers ends in the middle, and its connection with it
  GET /count/ID      how many requests had the header X-Number: ID
  GET /stats         what was counted, of all services, as JSON
  POST or PUT /      reads the whole body, then answers 200 with its size
--echo, TCP:         every byte comes back
--plain, TCP:        the same, by one thread on epoll on the first of the cores
--once, TCP:         a message of 128 bytes comes back, then the connection is closed
--bulk, TCP:         a message of 128 bytes, of which the first 8 say N (little endian), is answered with N bytes
--datagrams, UDP:    every datagram comes back";

type Failure = Box<dyn std::error::Error>;

struct Options {
    services: Vec<(Service, SocketAddr)>,
    plain: Option<SocketAddr>,
    cores: Vec<usize>,
}

fn options() -> Result<Options, Failure> {
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut options = Options { services: vec![(Service::Http, local)], plain: None, cores: vec![0] };
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or(USAGE)?;
        match flag.as_str() {
            "--listen" => options.services[0].1 = value.parse()?,
            "--plain" => options.plain = Some(value.parse()?),
            "--cores" => options.cores = cores(&value)?,
            other => {
                let service = other.strip_prefix("--").and_then(Service::named).ok_or(USAGE)?;
                options.services.push((service, value.parse()?));
            }
        }
    }
    Ok(options)
}

/// `0,2-3` → 0, 2, 3.
fn cores(list: &str) -> Result<Vec<usize>, Failure> {
    let mut cores = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cores.extend(first.parse::<usize>()?..=last.parse::<usize>()?);
    }
    if cores.is_empty() { Err("no cores".into()) } else { Ok(cores) }
}

/// Runs one executor; reports the bound addresses once, in the order of `services`.
fn spawn(
    core: usize,
    services: Vec<(Service, SocketAddr)>,
    tallies: &'static Tallies,
    tally: &'static Tally,
    bound: mpsc::Sender<io::Result<Vec<SocketAddr>>>,
) -> glommio::Result<glommio::ExecutorJoinHandle<()>, ()> {
    LocalExecutorBuilder::new(Placement::Fixed(core))
        .name(&format!("origin-{core}"))
        .io_memory(IO_MEMORY_BYTES)
        .ring_depth(RING_DEPTH)
        .spawn(move || async move {
            let doors = services.into_iter().map(|(service, address)| Door::bind(service, address));
            let doors = match doors.collect::<io::Result<Vec<_>>>() {
                Ok(doors) => doors,
                Err(error) => {
                    let _ = bound.send(Err(error));
                    return;
                }
            };
            let _ = bound.send(doors.iter().map(Door::address).collect());
            let open = |door: Door| glommio::spawn_local(door.serve(tallies, tally));
            for task in doors.into_iter().map(open).collect::<Vec<_>>() {
                task.await;
            }
        })
}

fn main() -> Result<(), Failure> {
    let Options { mut services, plain, cores } = options()?;
    // One more, for the thread without an executor.
    let tallies: &'static Tallies = Box::leak(Box::new(Tallies::new(cores.len() + 1)));
    if let Some((address, tally)) = plain.zip(tallies.iter().last()) {
        let listener = TcpListener::bind(address)?;
        eprintln!("plain on {}", listener.local_addr()?);
        let mut core = CpuSet::new();
        core.set(cores[0]);
        thread::spawn(move || {
            let ended = sched_setaffinity(None, &core).and_then(|()| plain::echo(&listener, tally));
            eprintln!("plain: {ended:?}");
        });
    }
    let mut executors = Vec::new();
    for (core, tally) in cores.into_iter().zip(tallies.iter()) {
        let (bound, addresses) = mpsc::channel();
        executors.push(spawn(core, services.clone(), tallies, tally, bound)?);
        // The first core settles the ports that were 0; the others join its reuseport groups.
        for (service, address) in services.iter_mut().zip(addresses.recv()??) {
            service.1 = address;
        }
    }
    for (service, address) in services {
        eprintln!("{} on {address}", service.name());
    }
    eprintln!("ready");
    for executor in executors {
        executor.join()?;
    }
    Ok(())
}
