//! Many sockets whose readiness one wait tells: an epoll set (`epoll(7)`), which is itself waited for on the ring.
//!
//! [`add`] is level-triggered: what was not received yet is told again, so nothing is lost by looking at a part of it.
//! Closing a socket takes it out of the set.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    event::{
        Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
    },
    io::Errno,
};

/// Opens an empty set, close-on-exec. It is readable while one of its sockets is.
pub fn create() -> io::Result<OwnedFd> {
    Ok(epoll::create(CreateFlags::CLOEXEC)?)
}

/// Puts `socket` into the set, to be told by `token` when it is readable or in error.
pub fn add(set: impl AsFd, socket: impl AsFd, token: u64) -> io::Result<()> {
    Ok(epoll::add(set, socket, EventData::new_u64(token), EventFlags::IN)?)
}

/// Puts a connection into the set for its whole life, to be told by `token` whenever something changes for it: bytes
/// or an end arrive, there is room to send again, or it breaks (`epoll(7)`, EPOLLET).
pub fn add_for_life(set: impl AsFd, socket: impl AsFd, token: u64) -> io::Result<()> {
    let all = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::PRI | EventFlags::ET;
    Ok(epoll::add(set, socket, EventData::new_u64(token), all)?)
}

/// What has changed for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// There is something to receive.
    pub readable: bool,
    /// There is room to send.
    pub writable: bool,
    /// Nothing more will arrive.
    pub read_over: bool,
    /// Nothing more can be sent.
    pub write_over: bool,
    /// It failed, as by a reset.
    pub broken: bool,
    /// A byte out of band waits among those to be received (`tcp(7)`).
    pub urgent: bool,
}

/// Room for what one look at a set tells.
pub struct Told {
    events: Vec<Event>,
    max: usize,
}

impl Told {
    /// At most `max` sockets are told at a time; the others come first the next time.
    pub fn new(max: usize) -> Self {
        Told { events: Vec::with_capacity(max), max }
    }

    /// Looks, without waiting, which sockets of the set are readable or in error: how many.
    pub fn look(&mut self, set: impl AsFd) -> io::Result<usize> {
        self.events.clear();
        // The capacity may be more than was asked for.
        self.events.reserve_exact(self.max);
        let looked =
            epoll::wait(set, rustix::buffer::spare_capacity(&mut self.events), Some(&Timespec::default()));
        match looked {
            Ok(count) => Ok(count),
            Err(Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// The token at a place, and what has changed for its connection.
    pub fn edge(&self, place: usize) -> Option<(u64, Edge)> {
        // The structure is packed: its parts are copied before they are used.
        let (flags, data) = self.events.get(place).map(|event| (event.flags, event.data))?;
        let has = |wanted| flags.intersects(wanted);
        let edge = Edge {
            readable: has(EventFlags::IN | EventFlags::PRI),
            writable: has(EventFlags::OUT),
            read_over: has(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR),
            write_over: has(EventFlags::HUP | EventFlags::ERR),
            broken: has(EventFlags::ERR),
            urgent: has(EventFlags::PRI),
        };
        Some((data.u64(), edge))
    }

    /// The token at a place.
    pub fn token(&self, place: usize) -> Option<u64> {
        self.events.get(place).map(|event| event.data.u64())
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn readable_sockets_are_told_until_they_are_read_or_closed() {
        let set = create().unwrap();
        let [a, b] = [7, 9].map(|token| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            add(&set, &socket, token).unwrap();
            socket
        });
        let mut told = Told::new(4);
        assert_eq!(told.look(&set).unwrap(), 0);
        a.send_to(b"x", b.local_addr().unwrap()).unwrap();
        for _ in 0..2 {
            assert_eq!((told.look(&set).unwrap(), told.token(0), told.token(1)), (1, Some(9), None));
        }
        b.recv(&mut [0; 4]).unwrap();
        assert_eq!(told.look(&set).unwrap(), 0);
        b.send_to(b"x", a.local_addr().unwrap()).unwrap();
        assert_eq!((told.look(&set).unwrap(), told.token(0)), (1, Some(7)));
        drop(a);
        assert_eq!(told.look(&set).unwrap(), 0);
    }
}
