//! Room at a backend, as one worker sees it: whether it may take another request, and who is told when it may again.
//!
//! Owned by one worker. Requests and connections hold their places by guards (`attempt::Attempt`, [`Seat`]), so that
//! nothing leaks whatever ends them. A place that was given to somebody who waits cannot be taken by somebody who has
//! just come.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
};

use super::{
    accounts::Account,
    credits::Credits,
    line::{Line, TURN_OF_OTHERS},
};
use crate::{
    io::alarm::{self, Millis},
    limits::QUEUE_LOOK,
};

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
    /// What becomes free next is for other workers, whoever waits here.
    owes_others: Cell<bool>,
    /// Something was left to other workers that wait: until then it is theirs to take.
    yields_until: Cell<Millis>,
    /// How many connections were kept while other workers waited for one.
    kept: Cell<u32>,
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
        self.has_room_for_another() && self.requests.take()
    }

    /// True when there is a place besides those of who was called.
    #[inline]
    pub(super) fn has_room_for_another(&self) -> bool {
        !self.is_limited.get() || self.secure(self.called.get().saturating_add(1))
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
        let may_lease = self.may_lease();
        self.requests.secure(wanted, may_lease) && self.connections.secure(connections, may_lease)
    }

    /// True when there may be room, as far as can be seen without asking for it.
    pub(super) fn may_have_room(&self) -> bool {
        let may_lease = self.may_lease();
        self.requests.may_be_had(may_lease)
            && (self.pooled.get() > 0 || self.connections.may_be_had(may_lease))
    }

    /// False while there may be something that was left to others.
    fn may_lease(&self) -> bool {
        let until = self.yields_until.get();
        let line = || self.line.borrow().upgrade();
        let yields = until > 0 && until > alarm::now() && line().is_some_and(|line| line.others_wait());
        if until > 0 && !yields {
            self.yields_until.set(0);
        }
        !yields
    }

    /// What was left to others and is still there may be had again.
    pub(super) fn yields_no_longer(&self) {
        self.yields_until.set(0);
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
        let is_their_turn = self.owes_others.take() || others_wait && line.is_turn_of_others();
        if is_their_turn || !line.call(self) {
            let given = self.trim(others_wait);
            if others_wait && given > 0 {
                self.yields_until.set(alarm::now() + alarm::millis(QUEUE_LOOK));
            }
            // Somebody may have begun to wait meanwhile, and has not seen what was given back since.
            line.ring_others(given);
        }
    }

    /// Gives back what is idle here, or all of it when others want it. How many places were given back.
    pub(super) fn trim(&self, others_want: bool) -> u32 {
        let reserved = self.called.get();
        let requests = self.requests.trim(reserved, others_want);
        self.connections.trim(reserved, others_want).max(requests)
    }

    /// True when idle connections should be closed, because somebody on another worker waits for them and nobody here.
    pub fn are_connections_wanted(&self) -> bool {
        self.lacks_connections_for_others().is_some_and(|line| !line.is_waited_in())
    }

    /// The line, when somebody on another worker waits and there is no connection to be had but by closing one.
    fn lacks_connections_for_others(&self) -> Option<Rc<Line>> {
        let lacks = self.connections.are_limited() && !self.connections.may_be_had(true);
        self.line.borrow().upgrade().filter(|line| lacks && line.others_wait())
    }

    /// True when a connection that is free now must be closed: there are too many, or it is another worker's turn.
    pub fn takes_connection_back(&self) -> bool {
        if self.has_too_many_connections() {
            return true;
        }
        let Some(line) = self.lacks_connections_for_others() else { return false };
        self.kept.set(self.kept.get().wrapping_add(1));
        let owes = !line.is_waited_in() || self.kept.get().is_multiple_of(TURN_OF_OTHERS);
        self.owes_others.set(owes);
        owes
    }

    /// True when the limit was lowered and more are open.
    pub fn has_too_many_connections(&self) -> bool {
        self.connections.are_overdrawn()
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
