//! Room at a backend, as one worker sees it: whether it may take another request, and who is told when it may again.
//!
//! Owned by one worker. Requests and connections hold their places by guards (`attempt::Attempt`, [`Seat`]), so that
//! nothing leaks whatever ends them. A place that was given to somebody who waits cannot be taken by somebody who has
//! just come.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
};

use super::{accounts::Account, credits::Credits, line::Line};

/// What is used of a backend, and how much of it there may be.
#[derive(Default)]
pub struct Room {
    requests: Credits,
    connections: Credits,
    /// Connections that are open and idle.
    pooled: Cell<u32>,
    is_limited: Cell<bool>,
    /// Its place among those that the selector takes for full, if it does.
    pub(super) full_at: Cell<Option<usize>>,
    /// It is among those that may not be full any more.
    pub(super) is_stirred: Cell<bool>,
    /// How many of those who wait were called because of it and have not come yet.
    pub(super) called: Cell<u32>,
    /// Its backend's place in the cluster, while it has one.
    pub(super) index: Cell<Option<usize>>,
    line: RefCell<Weak<Line>>,
}

impl Room {
    /// It is at this place of its cluster from now on, whose waiting line this is, and goes by these ledgers.
    pub(super) fn joins(&self, index: usize, line: &Rc<Line>, account: Option<&Account>) {
        self.index.set(Some(index));
        *self.line.borrow_mut() = Rc::downgrade(line);
        let requests = account.and_then(|account| account.requests.as_ref());
        let connections = account.and_then(|account| account.connections.as_ref());
        for (credits, terms) in [(&self.requests, requests), (&self.connections, connections)] {
            if let Some(terms) = terms {
                terms.ledger.set_limit(terms.limit);
            }
            credits.adopt(terms.map(|terms| &terms.ledger));
        }
        self.is_limited.set(requests.is_some() || connections.is_some());
    }

    /// It belongs to no cluster any more.
    pub(super) fn leaves(&self) {
        self.index.set(None);
        self.trim(true);
    }

    /// True when there is a limit.
    #[inline]
    pub fn is_limited(&self) -> bool {
        self.is_limited.get()
    }

    /// Takes a place for a request, one that may have a connection too. False when there is none.
    #[inline]
    pub(super) fn enter(&self) -> bool {
        (!self.is_limited.get() || self.secure(self.called.get().saturating_add(1))) && self.requests.take()
    }

    /// A request has ended.
    pub(super) fn exit(self: &Rc<Self>) {
        self.requests.release();
        self.stir();
    }

    /// A place for a connection. `None` when there may be no more of them.
    pub fn sit(self: &Rc<Self>) -> Option<Seat> {
        self.connections.take().then(|| Seat { room: Rc::clone(self), is_parked: false })
    }

    /// True when so many more requests could go on, each with a connection.
    pub(super) fn secure(&self, wanted: u32) -> bool {
        let connections = wanted.saturating_sub(self.pooled.get());
        self.requests.secure(wanted) && self.connections.secure(connections)
    }

    /// True when there may be room, as far as can be seen without asking for it.
    pub(super) fn may_have_room(&self) -> bool {
        self.requests.may_be_had() && (self.pooled.get() > 0 || self.connections.may_be_had())
    }

    /// Something has become free: whoever waits longest for it is called; what nobody needs here goes to others.
    pub fn stir(self: &Rc<Self>) {
        if !self.is_limited.get() {
            return;
        }
        let line = self.line.borrow().upgrade().filter(|_| self.index.get().is_some());
        let Some(line) = line else {
            self.trim(true);
            return;
        };
        line.stir(self);
        let others_wait = line.others_wait();
        if others_wait && line.is_turn_of_others() || !line.call(self) {
            let given = self.trim(others_wait);
            // Somebody may have begun to wait meanwhile, and has not seen what was given back since.
            if given && line.others_wait() {
                line.ring_others();
            }
        }
    }

    /// Gives back what is idle here, or all of it when others want it. True when something was given back.
    pub(super) fn trim(&self, others_want: bool) -> bool {
        let reserved = self.called.get();
        let requests = self.requests.trim(reserved, others_want);
        self.connections.trim(reserved, others_want) || requests
    }

    /// True when idle connections should be closed, because somebody on another worker waits for them.
    pub fn are_connections_wanted(&self) -> bool {
        self.connections.are_limited()
            && !self.connections.may_be_had()
            && self.line.borrow().upgrade().is_some_and(|line| line.others_wait() && !line.is_waited_in())
    }
}

/// A place for one connection to a backend; dropping it says that the connection is closed.
pub struct Seat {
    room: Rc<Room>,
    is_parked: bool,
}

impl Seat {
    /// Its connection is idle from now on, or in use again.
    pub fn park(&mut self, is_parked: bool) {
        if self.is_parked != is_parked {
            self.is_parked = is_parked;
            let pooled = self.room.pooled.get();
            self.room.pooled.set(if is_parked { pooled.saturating_add(1) } else { pooled.saturating_sub(1) });
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.park(false);
        self.room.connections.release();
        self.room.stir();
    }
}
