//! The line in front of a cluster on one worker: who waits for room at a backend, the oldest first.
//!
//! Owned by one worker. One place that becomes free calls one who waits; nobody is called for nothing, and whoever
//! leaves before it comes passes the call on. It knows no deadline: whoever waits has an alarm.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::{bells::Callers, room::Room};
use crate::stats::{
    names::Level,
    worker::{Held, WorkerStats},
};

/// While others wait too, each so manieth free place goes to them, so that a worker that has nothing gets its turn.
pub(super) const TURN_OF_OTHERS: u32 = 4;

/// A cluster's line on one worker.
pub struct Line {
    waiters: RefCell<BTreeMap<u64, Waiter>>,
    /// The number of the next one.
    next: Cell<u64>,
    /// Those who would take any backend and were not called.
    idle_count: Cell<usize>,
    /// How many may wait at once, on all workers.
    max: Cell<usize>,
    /// Some backend has a limit.
    is_limited: Cell<bool>,
    /// The rooms that the selector takes for full.
    full: RefCell<Vec<Rc<Room>>>,
    /// The full one that is looked at next.
    cursor: Cell<usize>,
    /// Those of them that may not be full any more.
    stirred: RefCell<Vec<Rc<Room>>>,
    /// Somebody who waits was called to a room that is none for it, so there may be room for those behind.
    has_declined: Cell<bool>,
    turns: Cell<u32>,
    me: usize,
    callers: Arc<Callers>,
}

struct Waiter {
    /// It would take no other.
    pinned: Option<Rc<Room>>,
    call: Call,
    waker: Option<Waker>,
    /// Rooms to which it was called and not sent: it is not called there again until something has changed.
    declined: Vec<Rc<Room>>,
}

/// How far one has come.
enum Call {
    /// It has to wait.
    None,
    /// There is room, here or, if it is not known where, perhaps somewhere.
    Made(Option<Rc<Room>>),
    /// It has come to see, because of this one.
    Answered(Option<Rc<Room>>),
}

impl Line {
    /// Nobody waits, nobody may.
    pub fn new(me: usize, callers: Arc<Callers>) -> Rc<Self> {
        Rc::new(Line {
            waiters: RefCell::default(),
            next: Cell::new(0),
            idle_count: Cell::new(0),
            max: Cell::new(0),
            is_limited: Cell::new(false),
            full: RefCell::default(),
            stirred: RefCell::default(),
            has_declined: Cell::new(false),
            cursor: Cell::new(0),
            turns: Cell::new(0),
            me,
            callers,
        })
    }

    /// Goes by another plan: `max` may wait on all workers together.
    pub(super) fn update(&self, max: usize, is_limited: bool) {
        self.max.set(max);
        self.is_limited.set(is_limited);
    }

    /// True when some backend has a limit.
    #[inline]
    pub(super) fn is_limited(&self) -> bool {
        self.is_limited.get()
    }

    /// True when somebody waits who would take any backend: whoever comes now is behind.
    pub(super) fn has_precedence(&self) -> bool {
        self.idle_count.get() > 0
    }

    /// True when the selector takes somebody for full.
    pub(super) fn has_full(&self) -> bool {
        !self.full.borrow().is_empty()
    }

    /// True when anybody waits.
    pub fn is_waited_in(&self) -> bool {
        !self.waiters.borrow().is_empty()
    }

    pub(super) fn others_wait(&self) -> bool {
        self.callers.others_wait(self.me)
    }

    /// Calls so many other workers that wait.
    pub(super) fn ring_others(&self, count: u32) {
        self.callers.ring(self.me, count);
    }

    /// True once in a while.
    pub(super) fn is_turn_of_others(&self) -> bool {
        self.turns.set(self.turns.get().wrapping_add(1));
        self.turns.get().is_multiple_of(TURN_OF_OTHERS)
    }

    /// This one may have room again.
    pub(super) fn stir(&self, room: &Rc<Room>) {
        if room.full_at.get().is_some() && !room.is_stirred.replace(true) {
            self.stirred.borrow_mut().push(Rc::clone(room));
        }
    }

    /// The selector takes this one for full.
    pub(super) fn fill(&self, room: &Rc<Room>) {
        if room.full_at.get().is_none() {
            let mut full = self.full.borrow_mut();
            room.full_at.set(Some(full.len()));
            full.push(Rc::clone(room));
        }
    }

    /// It does so no longer.
    fn empty(&self, room: &Room) {
        let mut full = self.full.borrow_mut();
        if let Some(place) = room.full_at.take().filter(|place| *place < full.len()) {
            full.swap_remove(place);
            full.get(place).iter().for_each(|moved| moved.full_at.set(Some(place)));
        }
    }

    /// Tells of those that may have room again: all that are known here, and one more that others may have left.
    pub(super) fn refresh(&self, mut tell: impl FnMut(usize)) {
        let mut forget = |room: &Rc<Room>| {
            self.empty(room);
            room.index.get().into_iter().for_each(&mut tell);
        };
        while let Some(room) = self.pop_stirred() {
            room.is_stirred.set(false);
            forget(&room);
        }
        if let Some(room) = self.next_full().filter(|room| room.may_have_room()) {
            forget(&room);
        }
    }

    fn pop_stirred(&self) -> Option<Rc<Room>> {
        self.stirred.borrow_mut().pop()
    }

    fn next_full(&self) -> Option<Rc<Room>> {
        let full = self.full.borrow();
        let next = self.cursor.get().wrapping_add(1).checked_rem(full.len())?;
        self.cursor.set(next);
        full.get(next).cloned()
    }

    /// As [`Self::refresh`], of all of them: the plan has changed.
    pub(super) fn renew(&self, tell: impl FnMut(usize)) {
        let full = self.full.borrow().clone();
        full.iter().for_each(|room| self.stir(room));
        self.refresh(tell);
    }

    /// A place in the line, for a request that would take any backend or only the one it is `pinned` to, and whether nobody
    /// else has one: at the end, or, for one that was called and lost its backend again, `where_it_stood`. `None` when
    /// too many wait.
    pub(super) fn join(
        self: &Rc<Self>,
        pinned: Option<Rc<Room>>,
        where_it_stood: Option<u64>,
        stats: &Arc<WorkerStats>,
    ) -> Option<(Ticket, bool)> {
        if !self.callers.queue(self.max.get()) {
            return None;
        }
        let mut waiters = self.waiters.borrow_mut();
        self.idle_count.set(self.idle_count.get() + usize::from(pinned.is_none()));
        let free = |number: &u64| *number < self.next.get() && !waiters.contains_key(number);
        let number =
            where_it_stood.filter(free).unwrap_or_else(|| self.next.replace(self.next.get().wrapping_add(1)));
        waiters.insert(number, Waiter { pinned, call: Call::None, waker: None, declined: Vec::new() });
        let is_first = waiters.len() == 1;
        drop(waiters);
        let ticket = Ticket { line: Rc::clone(self), number, _held: stats.hold(Level::Queued) };
        if is_first {
            self.callers.waits(self.me);
        }
        Some((ticket, is_first))
    }

    /// Calls those who wait for this one, as long as there is room. False when nobody was called.
    pub(super) fn call(&self, room: &Rc<Room>) -> bool {
        let mut waiters = self.waiters.borrow_mut();
        let mut called = false;
        for waiter in waiters.values_mut().filter(|waiter| waiter.would_take(room)) {
            if !room.secure(room.called.get().saturating_add(1)) {
                break;
            }
            room.called.set(room.called.get().saturating_add(1));
            self.summon(waiter, Some(Rc::clone(room)));
            called = true;
        }
        called
    }

    fn summon(&self, waiter: &mut Waiter, room: Option<Rc<Room>>) {
        if waiter.pinned.is_none() && matches!(waiter.call, Call::None) {
            self.idle_count.set(self.idle_count.get().saturating_sub(1));
        }
        waiter.call = Call::Made(room);
        if let Some(waker) = &waiter.waker {
            waker.wake_by_ref();
        }
    }

    /// There may be room here, of which nobody was told.
    pub(super) fn look_at(&self, room: &Rc<Room>) {
        if room.may_have_room() && self.call(room) {
            self.stir(room);
        }
    }

    /// True when there may be room for somebody who joins behind others.
    pub(super) fn has_declined(&self) -> bool {
        self.has_declined.get()
    }

    /// Everybody comes to see: the plan has changed, or who may be asked.
    pub(super) fn call_all(&self) {
        self.has_declined.set(false);
        for waiter in self.waiters.borrow_mut().values_mut() {
            waiter.declined.clear();
            if matches!(waiter.call, Call::None) {
                self.summon(waiter, None);
            }
        }
    }
}

impl Waiter {
    fn would_take(&self, room: &Rc<Room>) -> bool {
        let fits = self.pinned.as_ref().is_none_or(|pinned| Rc::ptr_eq(pinned, room));
        fits && matches!(self.call, Call::None) && !self.has_declined(room)
    }

    fn has_declined(&self, room: &Rc<Room>) -> bool {
        self.declined.iter().any(|declined| Rc::ptr_eq(declined, room))
    }
}

/// A place in the line; dropping it leaves the line, and passes on a call that was not answered.
pub struct Ticket {
    line: Rc<Line>,
    number: u64,
    _held: Held,
}

impl Ticket {
    /// Ready when it is called; the call is answered by that, and there is room until something is awaited.
    pub fn poll_called(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waiters = self.line.waiters.borrow_mut();
        let Some(waiter) = waiters.get_mut(&self.number) else { return Poll::Ready(()) };
        let mut declined = None;
        match std::mem::replace(&mut waiter.call, Call::None) {
            Call::Made(room) => {
                waiter.call = Call::Answered(room.clone());
                drop(waiters);
                room.iter().for_each(answered);
                return Poll::Ready(());
            }
            // It was in vain, so it waits again at its old place.
            Call::Answered(room) => {
                let is_any = usize::from(waiter.pinned.is_none());
                self.line.idle_count.set(self.line.idle_count.get() + is_any);
                // There is room, but it is not sent there.
                declined = room.filter(|room| room.has_room_for_another());
                waiter.declined.extend(declined.clone());
            }
            Call::None => {}
        }
        if !waiter.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            waiter.waker = Some(cx.waker().clone());
        }
        drop(waiters);
        if let Some(room) = declined {
            self.line.has_declined.set(true);
            room.stir();
        }
        Poll::Pending
    }

    /// Where it stands among those of its line, for [`Line::join`].
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The place, in its cluster, of the backend it is pinned to; `None` when that has left, or there is none.
    pub fn pinned(&self) -> Option<usize> {
        self.line.waiters.borrow().get(&self.number)?.pinned.as_ref()?.index.get()
    }
}

/// Somebody who was called because of this room has come, or has left.
fn answered(room: &Rc<Room>) {
    room.called.set(room.called.get().saturating_sub(1));
    if room.index.get().is_none() {
        room.trim(true);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let (waiter, is_last) = {
            let mut waiters = self.line.waiters.borrow_mut();
            (waiters.remove(&self.number), waiters.is_empty())
        };
        self.line.callers.unqueue();
        if is_last {
            self.line.has_declined.set(false);
            self.line.callers.rests(self.line.me);
        }
        let Some(waiter) = waiter else { return };
        match waiter.call {
            Call::None if waiter.pinned.is_none() => {
                self.line.idle_count.set(self.line.idle_count.get().saturating_sub(1));
            }
            Call::Made(Some(room)) => {
                answered(&room);
                room.stir();
            }
            // It may have found room elsewhere; then the next one can have this.
            Call::Answered(Some(room)) => room.stir(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::bells::Bells;

    #[test]
    fn who_comes_back_stands_where_it_stood() {
        let line = Line::new(0, Arc::new(Callers::new(Arc::new(Bells::new(1)))));
        line.update(4, true);
        let join = |stood| line.join(None, stood, &Arc::default()).unwrap().0;
        let (first, second) = (join(None), join(None));
        let (number, behind) = (first.number(), second.number());
        assert!(number < behind);
        // Taken by somebody else, or never given to anybody: it is not to be had.
        assert!(
            [join(Some(number)).number(), join(Some(1_000)).number()].iter().all(|fresh| *fresh > behind)
        );
        drop(first);
        let back = join(Some(number));
        assert_eq!(back.number(), number);
        let order: Vec<_> = line.waiters.borrow().keys().copied().collect();
        assert_eq!(order, [number, behind]);
    }
}
