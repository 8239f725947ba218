//! The blind relay on the runtime that ringway runs on, by one of four disciplines of I/O: what does the ring itself cost, and
//! which way of using it is cheapest?
//!
//! One task for a client connection and its upstream connection, strictly in turn: receive from the client, send upstream,
//! receive from upstream, send to the client. Nothing is parsed. For messages that fit into one buffer and one send.
//!
//! `relay_ring LISTEN UPSTREAM --io set|poll|posted|ring [--ring defer|coop|plain] [--core N]`; `ready on ADDR:PORT` on stderr
//! means it accepts.
//!
//! * `set`: all connections in one edge-triggered set that the ring polls; direct calls. This is ringway's own.
//! * `poll`: a poll operation on the ring for each wait; direct calls.
//! * `posted`: a receive operation on the ring, whose buffer the kernel has meanwhile; direct sends.
//! * `ring`: receive and send are operations on the ring.
//!
//! `--ring` sets the ring up with less than the best this kernel offers: `coop` (`COOP_TASKRUN`) or `plain` (no flags).

use std::{
    error::Error,
    future::poll_fn,
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd, OwnedFd},
};

use monoio::{
    IoUringDriver, RuntimeBuilder,
    io::{AsyncReadRent, AsyncWriteRentExt},
};
use ringway::{
    addr::Endpoint,
    io::{ready, stream::Stream, watch::Watch},
    sys::{
        descriptor::Descriptor,
        ring::{self, RingFlags},
        socket,
    },
};

const BUFFER_BYTES: usize = 16 * 1024;
const USAGE: &str =
    "usage: relay_ring LISTEN UPSTREAM --io set|poll|posted|ring [--ring defer|coop|plain] [--core N]";

/// How the relay waits, receives and sends.
#[derive(Clone, Copy)]
enum Discipline {
    Set,
    Poll,
    Posted,
    Ring,
}

impl Discipline {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "set" => Discipline::Set,
            "poll" => Discipline::Poll,
            "posted" => Discipline::Posted,
            "ring" => Discipline::Ring,
            _ => return None,
        })
    }

    /// Relays until either side ends.
    async fn relay(self, client: TcpStream, upstream: TcpStream) -> io::Result<()> {
        match self {
            Discipline::Set => by_set(client, upstream).await,
            Discipline::Poll => by_poll(client, upstream).await,
            Discipline::Posted => by_posted(client, upstream).await,
            Discipline::Ring => by_ring(client, upstream).await,
        }
    }
}

/// A message has to leave whole.
fn whole(sent: io::Result<usize>, length: usize) -> io::Result<()> {
    if sent? == length { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

async fn by_set(client: TcpStream, upstream: TcpStream) -> io::Result<()> {
    let mut sides = [Stream::new(client.into())?, Stream::new(upstream.into())?];
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        for from in [0, 1] {
            let count = loop {
                poll_fn(|cx| sides[from].poll_readable(cx)).await;
                match sides[from].receive(&mut buffer) {
                    Ok(0) => return Ok(()),
                    Ok(count) => break count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            };
            whole(sides[1 - from].transmit(&buffer[..count]), count)?;
        }
    }
}

async fn by_poll(client: TcpStream, upstream: TcpStream) -> io::Result<()> {
    let sides = [Descriptor::new(client.into())?, Descriptor::new(upstream.into())?];
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        for from in [0, 1] {
            let count = loop {
                sides[from].clone().readable().await;
                match socket::receive(&sides[from], &mut buffer) {
                    Ok(0) => return Ok(()),
                    Ok(count) => break count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            };
            whole(socket::transmit(&sides[1 - from], &buffer[..count]), count)?;
        }
    }
}

async fn by_posted(client: TcpStream, upstream: TcpStream) -> io::Result<()> {
    let direct = [client.try_clone()?, upstream.try_clone()?];
    let mut sides = [client, upstream].map(monoio::net::TcpStream::from_std);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        for (from, to) in [(0, &direct[1]), (1, &direct[0])] {
            let side = sides[from].as_mut().map_err(|error| io::Error::from(error.kind()))?;
            let (received, returned) = side.read(buffer).await;
            buffer = returned;
            let count = received?;
            if count == 0 {
                return Ok(());
            }
            whole(socket::transmit(to, &buffer[..count]), count)?;
        }
    }
}

async fn by_ring(client: TcpStream, upstream: TcpStream) -> io::Result<()> {
    let [client, upstream] = [client, upstream].map(monoio::net::TcpStream::from_std);
    let mut sides = [client?, upstream?];
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    loop {
        for from in [0, 1] {
            buffer.clear();
            let (received, filled) = sides[from].read(buffer).await;
            if received? == 0 {
                return Ok(());
            }
            let (sent, emptied) = sides[1 - from].write_all(filled).await;
            sent?;
            buffer = emptied;
        }
    }
}

/// Accepts for as long as the process lives.
async fn accept(listener: TcpListener, upstream: SocketAddr, discipline: Discipline) -> io::Result<()> {
    monoio::spawn(ready::watch()?);
    let listener = OwnedFd::from(listener);
    let mut watch = Watch::new(listener.try_clone()?)?;
    loop {
        watch.readable().await;
        while let Ok((client, _)) = socket::accept(listener.as_fd()) {
            // Dropping the client is the whole answer to an upstream that cannot be reached.
            // Over the loopback the handshake is done when this returns.
            let endpoint = Endpoint::Inet(upstream);
            let Ok(upstream) = socket::open_stream(&endpoint) else { continue };
            if socket::start_connect(&upstream, &endpoint, None).is_err() {
                continue;
            }
            socket::set_nodelay(&client)?;
            monoio::spawn(discipline.relay(client.into(), upstream.into()));
        }
    }
}

/// What follows `--name`.
fn option<'a>(words: &'a [String], name: &str) -> Option<&'a str> {
    words.chunks_exact(2).find(|pair| pair[0] == name).map(|pair| &*pair[1])
}

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [listen, upstream, options @ ..] = &words[..] else { return Err(USAGE.into()) };
    let discipline = option(options, "--io").and_then(Discipline::named).ok_or(USAGE)?;
    let flags = match option(options, "--ring") {
        None => ring::probe()?,
        Some("defer") => RingFlags::DeferTaskrun,
        Some("coop") => RingFlags::CoopTaskrun,
        Some("plain") => RingFlags::Plain,
        Some(_) => return Err(USAGE.into()),
    };
    if let Some(core) = option(options, "--core") {
        let mut cores = rustix::thread::CpuSet::new();
        cores.set(core.parse()?);
        rustix::thread::sched_setaffinity(None, &cores)?;
    }
    let listener = TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    let upstream = upstream.parse()?;
    let mut runtime = RuntimeBuilder::<IoUringDriver>::new().uring_builder(flags.builder()).build()?;
    eprintln!("ready on {}", listener.local_addr()?);
    Ok(runtime.block_on(accept(listener, upstream, discipline))?)
}
