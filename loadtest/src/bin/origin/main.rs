//! The load-test origin: a small, fast HTTP/1.1 server on glommio, one executor per core, nothing shared but counters.
//!
//! It stands behind the proxies under test. It runs on a runtime other than ringway's so that a fault of one runtime cannot
//! hide in both, and it has to be much faster than any proxy so that it is never what is measured. It is no web server: it
//! trusts its clients, which are proxies on the loopback interface.
//!
//! `origin --listen 127.0.0.1:0 --cores 1`; `ready on ADDR:PORT` on stderr means it accepts.

mod answer;
mod body;
mod connection;
mod request;
mod tally;

use std::net::SocketAddr;
use std::sync::mpsc;

use glommio::net::TcpListener;
use glommio::{LocalExecutorBuilder, Placement};

use tally::{Tallies, Tally};

/// Registered with the ring and therefore counted against RLIMIT_MEMLOCK, which is 8 MiB on many hosts; sockets do not use it.
const IO_MEMORY_BYTES: usize = 256 * 1024;
const RING_DEPTH: usize = 256;

const USAGE: &str = "usage: origin [--listen ADDR:PORT] [--cores LIST]
  GET /              128 bytes, the smallest exchange
  GET /bytes/N       N bytes with Content-Length
  GET /chunked/N     N bytes in chunks
  GET /close/N       N bytes, ended by closing the connection
  GET /slow/MS       the 128 bytes after MS milliseconds
  GET /hang          no answer, until the client gives up
  GET /stats         what was counted, as JSON
  POST or PUT /      reads the whole body, then answers 200 with its size";

type Failure = Box<dyn std::error::Error>;

struct Options {
    listen: SocketAddr,
    cores: Vec<usize>,
}

fn options() -> Result<Options, Failure> {
    let mut options = Options { listen: SocketAddr::from(([127, 0, 0, 1], 0)), cores: vec![0] };
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or(USAGE)?;
        match flag.as_str() {
            "--listen" => options.listen = value.parse()?,
            "--cores" => options.cores = cores(&value)?,
            _ => return Err(USAGE.into()),
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

/// Runs one executor until its listener fails; reports the bound address once.
fn spawn(
    core: usize,
    listen: SocketAddr,
    tallies: &'static Tallies,
    tally: &'static Tally,
    bound: mpsc::Sender<std::io::Result<SocketAddr>>,
) -> glommio::Result<glommio::ExecutorJoinHandle<()>, ()> {
    LocalExecutorBuilder::new(Placement::Fixed(core))
        .name(&format!("origin-{core}"))
        .io_memory(IO_MEMORY_BYTES)
        .ring_depth(RING_DEPTH)
        .spawn(move || async move {
            // glommio sets SO_REUSEPORT, so every core has a listener of its own on the one address.
            let listener = match TcpListener::bind(listen) {
                Ok(listener) => listener,
                Err(error) => {
                    let _ = bound.send(Err(error.into()));
                    return;
                }
            };
            let _ = bound.send(listener.local_addr().map_err(Into::into));
            loop {
                match listener.accept().await {
                    Ok(stream) => {
                        glommio::spawn_local(connection::serve(stream, tallies, tally)).detach();
                    }
                    Err(error) => {
                        // Most likely out of descriptors: try again when some connections have gone.
                        eprintln!("accept: {error}");
                        glommio::timer::sleep(std::time::Duration::from_millis(100)).await;
                    }
                }
            }
        })
}

fn main() -> Result<(), Failure> {
    let Options { mut listen, cores } = options()?;
    let tallies: &'static Tallies = Box::leak(Box::new(Tallies::new(cores.len())));
    let mut executors = Vec::new();
    for (core, tally) in cores.into_iter().zip(tallies.iter()) {
        let (bound, address) = mpsc::channel();
        executors.push(spawn(core, listen, tallies, tally, bound)?);
        // The first core settles the port when it was 0; the others join its reuseport group.
        listen = address.recv()??;
    }
    eprintln!("ready on {listen}");
    for executor in executors {
        executor.join()?;
    }
    Ok(())
}
