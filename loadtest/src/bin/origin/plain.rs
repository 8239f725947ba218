//! Bytes that come back, by a thread on level-triggered epoll: a backend of the kind that most are.
//!
//! glommio's ring interrupts its thread for each message that comes while it runs, and on one host the proxy that sends the message pays
//! for that. Beside this service a proxy can be seen without it.

use std::convert::Infallible;
use std::net::TcpListener;
use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::{Errno, Result};
use rustix::net::{self, RecvFlags, SendFlags, SocketFlags, sockopt};

use crate::tally::Tally;

const BUFFER_BYTES: usize = 4 * 1024;
const EVENTS_MAX: usize = 256;
const LISTENER: u64 = u64::MAX;

/// Sends back what comes on any connection, as long as the process lives.
pub fn echo(listener: &TcpListener, tally: &Tally) -> Result<Infallible> {
    let set = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&set, listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let (mut streams, mut free) = (Vec::<Option<OwnedFd>>::new(), Vec::new());
    let (mut events, mut buffer) = (Vec::with_capacity(EVENTS_MAX), [0; BUFFER_BYTES]);
    loop {
        match epoll::wait(&set, spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        for event in events.drain(..) {
            let place = event.data.u64();
            if place == LISTENER {
                let stream = match net::accept_with(listener, SocketFlags::CLOEXEC) {
                    Ok(stream) => stream,
                    Err(errno) => {
                        eprintln!("plain: {errno}");
                        continue;
                    }
                };
                tally.connections.add(1);
                sockopt::set_tcp_nodelay(&stream, true)?;
                let place = free.pop().unwrap_or_else(|| {
                    streams.push(None);
                    streams.len() - 1
                });
                epoll::add(&set, &stream, EventData::new_u64(place as u64), EventFlags::IN)?;
                streams[place] = Some(stream);
                continue;
            }
            let place = place as usize;
            let goes_on = streams[place].as_ref().is_some_and(|stream| answer(stream, &mut buffer, tally));
            if !goes_on && streams[place].take().is_some() {
                free.push(place);
            }
        }
    }
}

/// Answers one message; false at the end of the connection. It waits for a client that does not read.
fn answer(stream: &OwnedFd, buffer: &mut [u8], tally: &Tally) -> bool {
    let received = match net::recv(stream, &mut *buffer, RecvFlags::DONTWAIT) {
        Ok((received, _)) => received,
        Err(errno) => return matches!(errno, Errno::AGAIN | Errno::INTR),
    };
    tally.requests.add(1);
    let mut rest = &buffer[..received];
    while !rest.is_empty() {
        let Ok(sent) = net::send(stream, rest, SendFlags::NOSIGNAL) else { return false };
        rest = &rest[sent..];
    }
    received > 0
}
