//! The tasks of a run, and its time: a clock that moves only when nobody has anything to do.
//!
//! Everything that happens at one moment happens in an order the seed decides.

use std::{
    cell::{Cell, RefCell},
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use crossbeam::queue::SegQueue;

use crate::io::alarm::{self, Millis};

/// Nobody may be this busy at one moment.
const POLLS_MAX: usize = 100_000;

/// The moment at which every run begins.
const BEGIN: Millis = 1_000_000;

type Work = Pin<Box<dyn Future<Output = ()>>>;

/// Which task.
pub(super) type Id = u64;

/// All tasks of a run.
pub(super) struct Tasks {
    now: Cell<Millis>,
    chance: RefCell<fastrand::Rng>,
    works: RefCell<HashMap<Id, (Work, Waker)>>,
    next: Cell<Id>,
    woken: Arc<SegQueue<Id>>,
    /// When whom to wake; the number keeps the order of those with the same time.
    agenda: RefCell<BinaryHeap<Reverse<(Millis, u64)>>>,
    sleepers: RefCell<HashMap<u64, Waker>>,
    numbers: Cell<u64>,
}

/// Wakes one task.
struct Knock {
    id: Id,
    woken: Arc<SegQueue<Id>>,
}

impl Wake for Knock {
    fn wake(self: Arc<Self>) {
        self.woken.push(self.id);
    }
}

impl Tasks {
    /// Nothing to do, at the beginning of time.
    pub(super) fn new(chance: fastrand::Rng) -> Self {
        alarm::stop_clock(Some(BEGIN));
        Tasks {
            now: Cell::new(BEGIN),
            chance: RefCell::new(chance),
            works: RefCell::default(),
            next: Cell::new(0),
            woken: Arc::default(),
            agenda: RefCell::default(),
            sleepers: RefCell::default(),
            numbers: Cell::new(0),
        }
    }

    /// The time.
    pub(super) fn now(&self) -> Millis {
        self.now.get()
    }

    /// A number below `below`, or zero.
    pub(super) fn roll(&self, below: u64) -> u64 {
        if below == 0 { 0 } else { self.chance.borrow_mut().u64(..below) }
    }

    /// A place below `below`, which is not zero.
    pub(super) fn place(&self, below: usize) -> usize {
        self.chance.borrow_mut().usize(..below)
    }

    /// True in so many of a hundred cases.
    pub(super) fn is_lucky(&self, percent: u64) -> bool {
        self.roll(100) < percent
    }

    /// Decides with the seed's own numbers.
    pub(super) fn with_chance<R>(&self, decide: impl FnOnce(&mut fastrand::Rng) -> R) -> R {
        decide(&mut self.chance.borrow_mut())
    }

    /// Begins a task.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + 'static) -> Id {
        let id = self.next.replace(self.next.get() + 1);
        let waker = Waker::from(Arc::new(Knock { id, woken: Arc::clone(&self.woken) }));
        self.works.borrow_mut().insert(id, (Box::pin(work), waker));
        self.woken.push(id);
        id
    }

    /// Ends a task where it is: it is dropped.
    pub(super) fn cut(&self, id: Id) {
        let work = self.works.borrow_mut().remove(&id);
        drop(work);
    }

    /// Ends all tasks.
    pub(super) fn cut_all(&self) {
        let works = self.works.take();
        drop(works);
    }

    /// Waits so long; even if that is no time at all, others come first.
    pub(super) async fn sleep(&self, millis: Millis) {
        let at = self.now() + millis;
        let mut number = None;
        poll_fn(|cx| {
            let is_registered = number.is_some();
            if is_registered && self.now() >= at {
                return Poll::Ready(());
            }
            let number = *number.get_or_insert_with(|| self.note(at));
            self.sleepers.borrow_mut().insert(number, cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn note(&self, at: Millis) -> u64 {
        let number = self.numbers.replace(self.numbers.get() + 1);
        self.agenda.borrow_mut().push(Reverse((at, number)));
        number
    }

    /// Runs until that time, or until `goes_on` says no after a step. An error is a task that would not rest.
    pub(super) fn run(&self, until: Millis, mut goes_on: impl FnMut() -> bool) -> Result<(), String> {
        let mut polls = 0;
        let mut ready = Vec::new();
        loop {
            while let Some(id) = self.woken.pop() {
                ready.push(id);
            }
            if ready.is_empty() {
                polls = 0;
                if !self.advance(until) {
                    return Ok(());
                }
                continue;
            }
            let id = ready.swap_remove(self.place(ready.len()));
            self.poll(id);
            polls += 1;
            if polls > POLLS_MAX {
                return Err(format!("{polls} steps at one moment: somebody spins"));
            }
            if !goes_on() {
                return Ok(());
            }
        }
    }

    fn poll(&self, id: Id) {
        let taken = self.works.borrow_mut().remove(&id);
        let Some((mut work, waker)) = taken else { return };
        if work.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            self.works.borrow_mut().insert(id, (work, waker));
        }
    }

    /// Goes to the next time at which somebody has something to do, and wakes all of those.
    fn advance(&self, until: Millis) -> bool {
        let first = self.agenda.borrow().peek().map(|Reverse((at, _))| *at);
        let Some(at) = first.filter(|at| *at <= until) else { return false };
        self.now.set(at.max(self.now()));
        alarm::stop_clock(Some(self.now()));
        while let Some(Reverse((_, number))) = self.pop_due() {
            let waker = self.sleepers.borrow_mut().remove(&number);
            waker.into_iter().for_each(Waker::wake);
        }
        true
    }

    fn pop_due(&self) -> Option<Reverse<(Millis, u64)>> {
        let mut agenda = self.agenda.borrow_mut();
        agenda.peek().filter(|Reverse((at, _))| *at <= self.now())?;
        agenda.pop()
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        alarm::stop_clock(None);
    }
}

/// A bell that one task waits for; a ring is remembered.
#[derive(Default)]
pub(super) struct Bell {
    is_rung: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Bell {
    /// Rings.
    pub(super) fn ring(&self) {
        self.is_rung.set(true);
        self.waker.take().into_iter().for_each(Waker::wake);
    }

    /// Waits for a ring, until `at` if there is such a time.
    pub(super) async fn wait(&self, tasks: &Tasks, at: Option<Millis>) {
        let mut number = None;
        poll_fn(|cx| {
            if self.is_rung.take() || at.is_some_and(|at| at <= tasks.now() && number.is_some()) {
                return Poll::Ready(());
            }
            self.waker.replace(Some(cx.waker().clone()));
            if let Some(at) = at {
                let number = *number.get_or_insert_with(|| tasks.note(at));
                tasks.sleepers.borrow_mut().insert(number, cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}
