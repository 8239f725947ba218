//! The blind relay floor: what the kernel alone charges for carrying a round trip through a process.
//!
//! One thread, level-triggered epoll, and four socket calls a round trip: receive from the client, send upstream, receive
//! from upstream, send to the client. Nothing is parsed and every client connection has an upstream connection
//! of its own, opened when it is accepted. A proxy that understands HTTP cannot be expected to cost less.
//! It must stay blind: whatever is added here raises the floor and flatters what is measured against it.
//!
//! `relay_floor LISTEN UPSTREAM [--core N]`; `ready on ADDR:PORT` on stderr means it accepts.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::{Errno, Result};
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, sockopt};

const BUFFER_BYTES: usize = 16 * 1024;
const EVENTS_MAX: usize = 256;
const BACKLOG: i32 = 4096;
const LISTENER: u64 = u64::MAX;

/// One socket of a pair, and what is waiting to be written to it.
struct Side {
    socket: OwnedFd,
    unsent: Vec<u8>,
    ended: bool,
    watched: EventFlags,
}

impl Side {
    fn new(socket: OwnedFd) -> Self {
        Self { socket, unsent: Vec::new(), ended: false, watched: EventFlags::IN }
    }

    /// Sends `bytes` and keeps what the kernel does not take now.
    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let sent = match net::send(&self.socket, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => sent,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(errno) => return Err(errno),
        };
        self.unsent.extend_from_slice(&bytes[sent..]);
        Ok(())
    }
}

/// A client connection (side 0) and its upstream connection (side 1).
struct Pair([Side; 2]);

impl Pair {
    /// Serves one event; `Ok(false)` when both sides have ended and nothing is left to carry.
    fn serve(&mut self, from: usize, flags: EventFlags, buffer: &mut [u8]) -> Result<bool> {
        if flags.contains(EventFlags::ERR) {
            return Ok(false);
        }
        if flags.contains(EventFlags::OUT) {
            self.flush(from)?;
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP) {
            if self.0[from].ended {
                return Ok(false);
            }
            self.carry(from, buffer)?;
        }
        Ok(!self.0.iter().all(|side| side.ended && side.unsent.is_empty()))
    }

    fn carry(&mut self, from: usize, buffer: &mut [u8]) -> Result<()> {
        match net::recv(&self.0[from].socket, &mut *buffer, RecvFlags::empty()) {
            Ok((0, _)) => {
                self.0[from].ended = true;
                self.pass_end_on(from);
                Ok(())
            }
            Ok((received, _)) => self.0[1 - from].send(&buffer[..received]),
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn flush(&mut self, to: usize) -> Result<()> {
        let waiting = std::mem::take(&mut self.0[to].unsent);
        self.0[to].send(&waiting)?;
        if self.0[1 - to].ended {
            self.pass_end_on(1 - to);
        }
        Ok(())
    }

    fn pass_end_on(&self, from: usize) {
        let to = &self.0[1 - from];
        if to.unsent.is_empty() {
            // Not connected any more is as good as shut down.
            let _ = net::shutdown(&to.socket, Shutdown::Write);
        }
    }

    /// A side is read only while the other has nothing unsent: one buffer per direction is the bound.
    fn watch(&mut self, epoll: &OwnedFd, slot: usize) -> Result<()> {
        for index in 0..2 {
            let readable = !self.0[index].ended && self.0[1 - index].unsent.is_empty();
            let side = &mut self.0[index];
            let mut wanted = EventFlags::empty();
            wanted.set(EventFlags::IN, readable);
            wanted.set(EventFlags::OUT, !side.unsent.is_empty());
            if wanted != side.watched {
                epoll::modify(epoll, &side.socket, token(slot, index), wanted)?;
                side.watched = wanted;
            }
        }
        Ok(())
    }
}

fn token(slot: usize, side: usize) -> EventData {
    EventData::new_u64((slot * 2 + side) as u64)
}

struct Relay {
    epoll: OwnedFd,
    listener: OwnedFd,
    upstream: SocketAddr,
    pairs: Vec<Option<Pair>>,
    free: Vec<usize>,
}

impl Relay {
    fn run(&mut self) -> Result<()> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut closed = Vec::new();
        loop {
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
            for event in events.drain(..) {
                let (flags, data) = (event.flags, event.data.u64());
                if data == LISTENER {
                    self.accept();
                    continue;
                }
                let (slot, side) = ((data / 2) as usize, (data % 2) as usize);
                let Some(pair) = &mut self.pairs[slot] else { continue };
                let alive = pair.serve(side, flags, &mut buffer).unwrap_or(false);
                if !alive || pair.watch(&self.epoll, slot).is_err() {
                    self.pairs[slot] = None;
                    closed.push(slot);
                }
            }
            // Only now may a slot be used again: the events of this turn may still name the old pair.
            self.free.append(&mut closed);
        }
    }

    fn accept(&mut self) {
        while let Ok(client) = net::accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
        {
            // Dropping the client socket is the whole answer to an upstream that cannot be reached.
            if let Ok(upstream) = connect(self.upstream) {
                let _ = self.join(client, upstream);
            }
        }
    }

    fn join(&mut self, client: OwnedFd, upstream: OwnedFd) -> Result<()> {
        sockopt::set_tcp_nodelay(&client, true)?;
        sockopt::set_tcp_nodelay(&upstream, true)?;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.pairs.push(None);
            self.pairs.len() - 1
        });
        epoll::add(&self.epoll, &client, token(slot, 0), EventFlags::IN)?;
        epoll::add(&self.epoll, &upstream, token(slot, 1), EventFlags::IN)?;
        self.pairs[slot] = Some(Pair([Side::new(client), Side::new(upstream)]));
        Ok(())
    }
}

fn stream_socket(address: SocketAddr) -> Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    net::socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)
}

fn connect(upstream: SocketAddr) -> Result<OwnedFd> {
    let socket = stream_socket(upstream)?;
    match net::connect(&socket, &upstream) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

fn relay(listen: SocketAddr, upstream: SocketAddr) -> Result<Relay> {
    let listener = stream_socket(listen)?;
    sockopt::set_socket_reuseaddr(&listener, true)?;
    net::bind(&listener, &listen)?;
    net::listen(&listener, BACKLOG)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    Ok(Relay { epoll, listener, upstream, pairs: Vec::new(), free: Vec::new() })
}

fn pin(core: usize) -> Result<()> {
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(core);
    rustix::thread::sched_setaffinity(None, &cores)
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    const USAGE: &str = "usage: relay_floor LISTEN UPSTREAM [--core N]";
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (listen, upstream) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [listen, upstream] => (listen, upstream),
        [listen, upstream, "--core", core] => {
            pin(core.parse()?)?;
            (listen, upstream)
        }
        _ => return Err(USAGE.into()),
    };
    let mut relay = relay(listen.parse()?, upstream.parse()?)?;
    let bound: SocketAddr = net::getsockname(&relay.listener)?.try_into()?;
    eprintln!("ready on {bound}");
    relay.run()?;
    Ok(())
}
