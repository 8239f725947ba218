//! The readiness of all connections of a worker: one set that the ring polls, and who waits for what in it.
//!
//! Every connection is put into an edge-triggered epoll set once, for its whole life. One poll operation on the ring
//! tells that the set has news, whatever number of connections they are about; a poll of its own for each wait costs
//! more than the receive that follows it. What an edge has told is kept here until a call meets an empty or a full
//! queue, so nothing depends on who was waiting at the time.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    io,
    os::fd::{AsFd, OwnedFd},
    task::{Context, Poll, Waker},
};

use super::{places::Places, watch::Watch};
use crate::{
    limits::READY_EVENTS_MAX,
    sys::{
        doorbell::Doorbell,
        ready_set::{self, Edge, Told},
    },
};

/// The token of the bell that gives way.
const BELL: u64 = u64::MAX;

/// A connection's place among those of its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    index: u32,
    /// Tells it from others that had the place before.
    generation: u32,
}

impl Token {
    fn number(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    fn from_number(number: u64) -> Self {
        Token { index: number as u32, generation: (number >> 32) as u32 }
    }
}

/// Which direction to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Receiving may succeed.
    Read,
    /// Sending may succeed.
    Write,
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Side {
    /// It may succeed, as far as is known.
    ready: bool,
    /// It ends or fails at once from now on.
    over: bool,
    waker: Option<Waker>,
}

impl Side {
    fn tell(&mut self, ready: bool, over: bool) {
        self.ready |= ready;
        self.over |= over;
        if (ready || over)
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }
}

#[derive(Debug, Default)]
struct Entry {
    generation: u32,
    read: Side,
    write: Side,
    /// To whom it leads; 0 for a client.
    owner: u32,
    /// It is to be reset by whoever waits for it.
    is_severed: bool,
    /// It failed.
    is_broken: bool,
    /// An urgent byte has come: a receive may stop in front of it, and a splice always does, with bytes behind it.
    urgent: bool,
}

impl Entry {
    fn side(&mut self, direction: Direction) -> &mut Side {
        match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
    }
}

/// A worker's set; built on first use on its thread.
struct Ready {
    set: OwnedFd,
    bell: Doorbell,
    entries: Places<Entry>,
    /// Who gives way until the next look at the set.
    waiting: Vec<Waker>,
}

thread_local! {
    static READY: RefCell<Option<Ready>> = const { RefCell::new(None) };
    static OWNERS: Cell<u32> = const { Cell::new(0) };
    /// News of connections that are not counted yet.
    static NEWS: Cell<u64> = const { Cell::new(0) };
}

impl Ready {
    fn new() -> io::Result<Self> {
        let (set, bell) = (ready_set::create()?, Doorbell::new()?);
        ready_set::add(&set, &bell, BELL)?;
        Ok(Ready { set, bell, entries: Places::new(), waiting: Vec::new() })
    }

    fn entry(&mut self, token: Token) -> Option<&mut Entry> {
        self.entries.get_mut(token.index as usize).filter(|entry| entry.generation == token.generation)
    }

    fn tell(&mut self, number: u64, edge: Edge) {
        if number == BELL {
            self.bell.silence();
            self.waiting.drain(..).for_each(Waker::wake);
        } else if let Some(entry) = self.entry(Token::from_number(number)) {
            entry.urgent |= edge.urgent;
            entry.is_broken |= edge.broken;
            entry.read.tell(edge.readable, edge.read_over);
            entry.write.tell(edge.writable, edge.write_over);
        }
    }
}

/// Runs `f` on this thread's set.
fn with<R>(f: impl FnOnce(&mut Ready) -> io::Result<R>) -> io::Result<R> {
    READY.with(|ready| {
        let mut ready = ready.borrow_mut();
        match ready.as_mut() {
            Some(ready) => f(ready),
            None => f(ready.insert(Ready::new()?)),
        }
    })
}

/// Puts a connection into this thread's set; `ready` says what may be tried before anything is told.
pub fn register(socket: impl AsFd, ready: bool) -> io::Result<Token> {
    with(|all| {
        let place = all.entries.take();
        let index = u32::try_from(place).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let entry = all.entries.get_mut(place).ok_or(io::ErrorKind::OutOfMemory)?;
        (entry.read.ready, entry.write.ready) = (ready, ready);
        let token = Token { index, generation: entry.generation };
        let added = ready_set::add_for_life(&all.set, socket, token.number());
        if added.is_err() {
            all.entries.give_back(place);
        }
        added.map(|()| token)
    })
}

/// True when sending fails at once, as it does when a handshake has failed.
pub fn is_over(token: Token) -> bool {
    with(|all| Ok(all.entry(token).is_none_or(|entry| entry.write.over))).unwrap_or(true)
}

/// True when the end of what is received is known to have come, and is no failure.
pub fn is_ending(token: Token) -> bool {
    let ends = |entry: &mut Entry| entry.read.over && !entry.is_broken && !entry.is_severed;
    with(|all| Ok(all.entry(token).is_some_and(ends))).unwrap_or(false)
}

/// Forgets a connection, whose descriptor is closed next, which takes it out of the set.
pub fn forget(token: Token) {
    let _ = with(|all| {
        if let Some(entry) = all.entry(token) {
            *entry = Entry { generation: entry.generation.wrapping_add(1), ..Entry::default() };
            all.entries.give_back(token.index as usize);
        }
        Ok(())
    });
}

/// Whose connections can be severed together; different from all others of this thread.
pub fn new_owner() -> u32 {
    OWNERS.with(|owners| {
        owners.set(owners.get().wrapping_add(1).max(1));
        owners.get()
    })
}

/// Notes to whom a connection leads.
pub fn belongs_to(token: Token, owner: u32) {
    let _ = with(|all| {
        all.entry(token).into_iter().for_each(|entry| entry.owner = owner);
        Ok(())
    });
}

/// Has every connection that leads there reset. Looks at all connections, so this is for rare occasions.
pub fn sever(owner: u32) {
    let _ = with(|all| {
        for entry in all.entries.iter_mut().filter(|entry| entry.owner == owner) {
            entry.is_severed = true;
            entry.read.tell(true, true);
            entry.write.tell(true, true);
        }
        Ok(())
    });
}

/// Ready while a call in this direction may succeed, end or fail, with whether the connection is to be reset; otherwise
/// the task is woken when it is ready.
pub fn poll(token: Token, direction: Direction, cx: &mut Context<'_>) -> Poll<bool> {
    let polled = with(|all| {
        let Some(entry) = all.entry(token) else { return Ok(Poll::Ready(false)) };
        let is_severed = entry.is_severed;
        let side = entry.side(direction);
        if side.ready || side.over {
            return Ok(Poll::Ready(is_severed));
        }
        if !side.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            side.waker = Some(cx.waker().clone());
        }
        Ok(Poll::Pending)
    });
    polled.unwrap_or(Poll::Ready(false))
}

/// The task is woken by the next news of this connection's receiving side, whatever is known already.
pub fn await_news(token: Token, cx: &mut Context<'_>) {
    let _ = with(|all| {
        if let Some(entry) = all.entry(token) {
            entry.read.waker = Some(cx.waker().clone());
        }
        Ok(())
    });
}

/// A call in this direction has met an empty or a full queue: the next edge tells when it is worth another one.
pub fn met_its_end(token: Token, direction: Direction) {
    let _ = with(|all| {
        if let Some(entry) = all.entry(token) {
            entry.side(direction).ready = false;
        }
        Ok(())
    });
}

/// A call has failed.
pub fn has_failed(token: Token) {
    let _ = with(|all| {
        all.entry(token).into_iter().for_each(|entry| entry.is_broken = true);
        Ok(())
    });
}

/// A receive got less than it asked for, or a splice nothing: then the queue is empty, unless there are urgent bytes.
pub fn seems_empty(token: Token) {
    let _ = with(|all| {
        if let Some(entry) = all.entry(token) {
            entry.read.ready &= entry.urgent;
        }
        Ok(())
    });
}

/// Lets others run: the task is woken after the next look at the set, by way of the ring.
pub fn give_way(cx: &mut Context<'_>) {
    let _ = with(|all| {
        all.waiting.push(cx.waker().clone());
        all.bell.ring();
        Ok(())
    });
}

/// Opens what it needs and then, when it is run, tells everybody the news for as long as the worker lives.
pub fn watch() -> io::Result<impl Future<Output = io::Result<Infallible>>> {
    let mut set = Watch::new(with(|all| all.set.try_clone())?)?;
    let mut told = Told::new(READY_EVENTS_MAX);
    Ok(async move {
        loop {
            set.readable().await;
            with(|all| {
                let count = told.look(&all.set)?;
                NEWS.with(|news| news.set(news.get() + count as u64));
                for place in 0..count {
                    if let Some((number, edge)) = told.edge(place) {
                        all.tell(number, edge);
                    }
                }
                Ok(())
            })?;
        }
    })
}

/// Takes the number of news since the last call.
pub fn take_news() -> u64 {
    NEWS.with(Cell::take)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    /// What the kernel would tell of a connection.
    fn tell(token: Token, broken: bool) {
        let edge = Edge {
            readable: true,
            writable: true,
            read_over: true,
            write_over: broken,
            broken,
            urgent: false,
        };
        let told = with(|all| {
            all.tell(token.number(), edge);
            Ok(())
        });
        told.unwrap();
    }

    #[test]
    fn an_end_that_is_a_failure_is_none() {
        let ending = |spoil: fn(Token)| {
            let (socket, _peer) = UnixStream::pair().unwrap();
            let token = register(&socket, true).unwrap();
            assert!(!is_ending(token), "nothing is known yet");
            tell(token, false);
            assert!(is_ending(token));
            spoil(token);
            let ends = is_ending(token);
            forget(token);
            ends
        };
        assert!(ending(|_| {}));
        assert!(!ending(|token| tell(token, true)));
        assert!(!ending(has_failed));
        assert!(!ending(|token| {
            belongs_to(token, 7);
            sever(7);
        }));
    }
}
