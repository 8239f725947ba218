//! The blind relay floor: what the kernel alone charges for carrying a round trip through a process.
//!
//! One thread, level-triggered epoll, and four socket calls a round trip: receive from the client, send upstream, receive
//! from upstream, send to the client. Nothing is parsed and every client connection has an upstream connection
//! of its own, opened when it is accepted. A proxy that understands HTTP cannot be expected to cost less.
//! It must stay blind: whatever is added here raises the floor and flatters what is measured against it.
//!
//! With `--turns N` each client connection has N upstream connections, to one upstream after the other, and what it says
//! goes to each of them in turn: what it costs to use many connections seldom in place of few often. What a client says
//! must come in one piece then.
//!
//! `relay_floor LISTEN UPSTREAM[,UPSTREAM…] [--turns N] [--core N]`; `ready on ADDR:PORT` on stderr means it accepts.

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
const SIDE_BITS: u32 = 8;
const TURNS_MAX: usize = (1 << SIDE_BITS) - 1;

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

/// A client connection (side 0) and its upstream connections.
struct Bundle {
    sides: Vec<Side>,
    /// The upstream connection that gets what the client says next.
    turn: usize,
}

impl Bundle {
    /// Serves one event; `Ok(false)` when all sides have ended and nothing is left to carry.
    fn serve(&mut self, from: usize, flags: EventFlags, buffer: &mut [u8]) -> Result<bool> {
        if flags.contains(EventFlags::ERR) {
            return Ok(false);
        }
        if flags.contains(EventFlags::OUT) {
            self.flush(from)?;
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP) {
            if self.sides[from].ended {
                return Ok(false);
            }
            self.carry(from, buffer)?;
        }
        Ok(!self.sides.iter().all(|side| side.ended && side.unsent.is_empty()))
    }

    fn carry(&mut self, from: usize, buffer: &mut [u8]) -> Result<()> {
        match net::recv(&self.sides[from].socket, &mut *buffer, RecvFlags::empty()) {
            Ok((0, _)) => {
                self.sides[from].ended = true;
                self.pass_end_on(from);
                Ok(())
            }
            Ok((received, _)) => {
                let to = if from == 0 { self.take_turn() } else { 0 };
                self.sides[to].send(&buffer[..received])
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn take_turn(&mut self) -> usize {
        self.turn = if self.turn + 1 < self.sides.len() { self.turn + 1 } else { 1 };
        self.turn
    }

    fn flush(&mut self, to: usize) -> Result<()> {
        let waiting = std::mem::take(&mut self.sides[to].unsent);
        self.sides[to].send(&waiting)?;
        for from in 0..self.sides.len() {
            if (from == 0) != (to == 0) && self.sides[from].ended {
                self.pass_end_on(from);
            }
        }
        Ok(())
    }

    fn pass_end_on(&self, from: usize) {
        let others = if from == 0 { &self.sides[1..] } else { &self.sides[..1] };
        for to in others.iter().filter(|to| to.unsent.is_empty()) {
            // Not connected any more is as good as shut down.
            let _ = net::shutdown(&to.socket, Shutdown::Write);
        }
    }

    /// A side is read only while whoever it speaks to has nothing unsent: one buffer per direction is the bound.
    fn watch(&mut self, epoll: &OwnedFd, number: u64) -> Result<()> {
        let unsent = |sides: &[Side]| sides.iter().any(|side| !side.unsent.is_empty());
        let (upstream_waits, client_waits) = (unsent(&self.sides[1..]), unsent(&self.sides[..1]));
        for (index, side) in self.sides.iter_mut().enumerate() {
            let readable = !side.ended && !if index == 0 { upstream_waits } else { client_waits };
            let mut wanted = EventFlags::empty();
            wanted.set(EventFlags::IN, readable);
            wanted.set(EventFlags::OUT, !side.unsent.is_empty());
            if wanted != side.watched {
                epoll::modify(epoll, &side.socket, token(number, index), wanted)?;
                side.watched = wanted;
            }
        }
        Ok(())
    }
}

/// An event's bundle and side.
fn token(number: u64, side: usize) -> EventData {
    EventData::new_u64(number << SIDE_BITS | side as u64)
}

struct Relay {
    epoll: OwnedFd,
    listener: OwnedFd,
    upstreams: Vec<SocketAddr>,
    next_upstream: usize,
    turns: usize,
    bundles: Vec<Option<Bundle>>,
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
                let (number, side) = (data >> SIDE_BITS, data as usize & TURNS_MAX);
                let slot = number as usize;
                let Some(bundle) = &mut self.bundles[slot] else { continue };
                let alive = bundle.serve(side, flags, &mut buffer).unwrap_or(false);
                if !alive || bundle.watch(&self.epoll, number).is_err() {
                    self.bundles[slot] = None;
                    closed.push(slot);
                }
            }
            // Only now may a slot be used again: the events of this turn may still name the old bundle.
            self.free.append(&mut closed);
        }
    }

    fn accept(&mut self) {
        while let Ok(client) = net::accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
        {
            // Dropping the client socket is the whole answer to an upstream that cannot be reached.
            let _ = self.join(client);
        }
    }

    fn join(&mut self, client: OwnedFd) -> Result<()> {
        let mut sides = vec![Side::new(client)];
        for _ in 0..self.turns {
            sides.push(Side::new(connect(self.upstreams[self.next_upstream])?));
            self.next_upstream = (self.next_upstream + 1) % self.upstreams.len();
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.bundles.push(None);
            self.bundles.len() - 1
        });
        for (index, side) in sides.iter().enumerate() {
            sockopt::set_tcp_nodelay(&side.socket, true)?;
            epoll::add(&self.epoll, &side.socket, token(slot as u64, index), EventFlags::IN)?;
        }
        self.bundles[slot] = Some(Bundle { sides, turn: 0 });
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

fn listen_on(address: SocketAddr) -> Result<OwnedFd> {
    let listener = stream_socket(address)?;
    sockopt::set_socket_reuseaddr(&listener, true)?;
    net::bind(&listener, &address)?;
    net::listen(&listener, BACKLOG)?;
    Ok(listener)
}

fn pin(core: usize) -> Result<()> {
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(core);
    rustix::thread::sched_setaffinity(None, &cores)
}

type Failure = Box<dyn std::error::Error>;

fn relay(arguments: &[String]) -> std::result::Result<Relay, Failure> {
    const USAGE: &str = "usage: relay_floor LISTEN UPSTREAM[,UPSTREAM…] [--turns N] [--core N]";
    let [listen, upstreams, options @ ..] = arguments else { return Err(USAGE.into()) };
    let upstreams = upstreams.split(',').map(str::parse).collect::<std::result::Result<_, _>>()?;
    let mut turns = 1;
    for option in options.chunks(2) {
        match option {
            [name, value] if name == "--turns" => turns = value.parse()?,
            [name, value] if name == "--core" => pin(value.parse()?)?,
            _ => return Err(USAGE.into()),
        }
    }
    if !(1..=TURNS_MAX).contains(&turns) {
        return Err(format!("--turns is from 1 to {TURNS_MAX}").into());
    }
    let listener = listen_on(listen.parse()?)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    Ok(Relay { epoll, listener, upstreams, next_upstream: 0, turns, bundles: Vec::new(), free: Vec::new() })
}

fn main() -> std::result::Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut relay = relay(&arguments)?;
    let bound: SocketAddr = net::getsockname(&relay.listener)?.try_into()?;
    eprintln!("ready on {bound}");
    relay.run()?;
    Ok(())
}
