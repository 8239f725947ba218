//! Alarms: one deadline per connection, kept in a table that one timer per worker sweeps.
//!
//! Setting a deadline is a store. The timer is re-armed only when a deadline comes earlier than everything
//! it waits for, which in steady state happens about once per shortest timeout. The sweep also carries the
//! two orders of a shutdown: look whether you may end (drain), end now (cut).

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

use super::places::Places;
use crate::sys::timer::Timer;

/// Milliseconds of the monotonic clock.
pub type Millis = u64;

const NEVER: Millis = Millis::MAX;

/// At most one sweep in this time, so that no pattern of deadlines makes sweeping expensive.
const SWEEP_MS_MIN: Millis = 5;

/// A sweep that comes later than this was held up with the whole worker: the process was stopped, or its host.
const SWEEP_LATE_MS: Millis = 100;

/// How long the worker has then to look at what has come meanwhile, before anybody is said to be late.
const GRACE_MS: Millis = 200;

/// The monotonic clock, to a tick of the kernel (1 to 4 ms): good for deadlines, and a few nanoseconds cheap.
pub fn now() -> Millis {
    #[cfg(test)]
    if let Some(at) = STOPPED.get() {
        return at;
    }
    let time = clock_gettime(ClockId::MonotonicCoarse);
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

/// A duration on that clock's scale.
pub fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

#[cfg(test)]
thread_local! {
    static STOPPED: Cell<Option<Millis>> = const { Cell::new(None) };
}

/// Stops this thread's clock at a moment, or lets it go again with `None`.
#[cfg(test)]
pub(crate) fn stop_clock(at: Option<Millis>) {
    STOPPED.set(at);
}

/// Why a wait ended before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ring {
    /// The deadline set last has passed.
    Deadline,
    /// The worker ends now.
    Cut,
}

struct Slot {
    deadline: Millis,
    expired: bool,
    waker: Option<Waker>,
}

impl Default for Slot {
    fn default() -> Self {
        Slot { deadline: NEVER, expired: false, waker: None }
    }
}

/// Which deadlines passed while the worker was held up, and until when nobody is blamed for them.
#[derive(Debug, Clone, Copy, Default)]
struct Excused {
    after: Millis,
    up_to: Millis,
    until: Millis,
}

impl Excused {
    /// It was held up until now. What is excused already is not excused again.
    fn extended(self, now: Millis) -> Self {
        Excused { after: self.up_to, up_to: now, until: now + GRACE_MS }
    }

    /// When a deadline is over.
    fn postponed(self, deadline: Millis) -> Millis {
        if deadline > self.after && deadline <= self.up_to { self.until } else { deadline }
    }
}

/// A worker's table of deadlines.
pub struct Alarms {
    slots: RefCell<Places<Slot>>,
    earliest: Cell<Millis>,
    /// Deadlines that passed while the worker was held up.
    excused: Cell<Excused>,
    cut: Cell<bool>,
    timer: Timer,
}

impl Alarms {
    /// An empty table with its timer.
    pub fn new() -> std::io::Result<Rc<Self>> {
        Ok(Rc::new(Alarms {
            slots: RefCell::new(Places::new()),
            earliest: Cell::new(NEVER),
            excused: Cell::default(),
            cut: Cell::new(false),
            timer: Timer::new()?,
        }))
    }

    /// The timer whose descriptor becomes readable when [`Self::sweep`] is due.
    pub fn timer(&self) -> &Timer {
        &self.timer
    }

    /// When [`Self::sweep`] is due; the end of time when nobody has a deadline.
    #[cfg(test)]
    pub(crate) fn due(&self) -> Millis {
        self.earliest.get()
    }

    /// Reserves a place in the table.
    pub fn register(self: &Rc<Self>) -> Alarm {
        let index = self.slots.borrow_mut().take();
        Alarm { alarms: Rc::clone(self), index }
    }

    /// Wakes everybody whose deadline has passed and arms the timer for the next one. When the worker was held up, what came
    /// in time may not have been looked at: then it is done a little later, once.
    pub fn sweep(&self, now: Millis) {
        self.timer.acknowledge();
        if self.earliest.get() < now.saturating_sub(SWEEP_LATE_MS) {
            self.excused.set(self.excused.get().extended(now));
        }
        let (mut earliest, excused) = (NEVER, self.excused.get());
        for slot in self.slots.borrow_mut().iter_mut() {
            let deadline = excused.postponed(slot.deadline);
            if deadline <= now {
                slot.deadline = NEVER;
                slot.expired = true;
                if let Some(waker) = &slot.waker {
                    waker.wake_by_ref();
                }
            } else {
                earliest = earliest.min(deadline);
            }
        }
        self.earliest.set(NEVER);
        self.aim(earliest, now);
    }

    /// Wakes everybody to look at the worker's state again; with `cut` every wait ends at once.
    pub fn rouse(&self, cut: bool) {
        self.cut.set(self.cut.get() || cut);
        for slot in self.slots.borrow_mut().iter_mut() {
            if let Some(waker) = &slot.waker {
                waker.wake_by_ref();
            }
        }
    }

    /// Arms the timer if `deadline` comes before what it waits for.
    fn aim(&self, deadline: Millis, now: Millis) {
        if deadline < self.earliest.get() {
            let delay = deadline.saturating_sub(now).max(SWEEP_MS_MIN);
            self.earliest.set(now + delay);
            // One tick later than asked: the coarse clock may be behind the timer's by as much.
            self.timer.fire_after(Duration::from_millis(delay + 4));
        }
    }
}

/// One connection's place in the table; given back on drop.
pub struct Alarm {
    alarms: Rc<Alarms>,
    index: usize,
}

impl Alarm {
    fn with<R: Default>(&self, f: impl FnOnce(&mut Slot) -> R) -> R {
        self.alarms.slots.borrow_mut().get_mut(self.index).map(f).unwrap_or_default()
    }

    /// Whom to wake; once per task is enough, since a connection is one task.
    pub fn attach(&self, waker: &Waker) {
        self.with(|slot| slot.waker = Some(waker.clone()));
    }

    /// Sets the deadline `after` from now, replacing the one before. Zero clears it.
    pub fn set(&self, after: Duration) {
        if after.is_zero() {
            return self.clear();
        }
        let now = now();
        let deadline = now.saturating_add(millis(after));
        self.with(|slot| {
            slot.deadline = deadline;
            slot.expired = false;
        });
        self.alarms.aim(deadline, now);
    }

    /// Brings the deadline nearer, if it is further away than `after`.
    pub fn hasten(&self, after: Duration) {
        if self.with(|slot| slot.deadline) > now().saturating_add(millis(after)) {
            self.set(after);
        }
    }

    /// Takes the deadline away.
    pub fn clear(&self) {
        self.with(|slot| {
            slot.deadline = NEVER;
            slot.expired = false;
        });
    }

    /// Waits for `poll` unless the alarm rings first.
    pub async fn bound<T>(&self, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Result<T, Ring> {
        poll_fn(|cx| match self.rung() {
            Some(ring) => Poll::Ready(Err(ring)),
            None => poll(cx).map(Ok),
        })
        .await
    }

    /// Asked by every wait before it goes to sleep.
    pub fn rung(&self) -> Option<Ring> {
        if self.alarms.cut.get() {
            return Some(Ring::Cut);
        }
        self.with(|slot| slot.expired).then_some(Ring::Deadline)
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.with(|slot| *slot = Slot::default());
        self.alarms.slots.borrow_mut().give_back(self.index);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Wake,
    };

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);
    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn only_passed_deadlines_ring_and_they_ring_once() {
        let alarms = Alarms::new().unwrap();
        let (early, late) = (alarms.register(), alarms.register());
        let wakes = Arc::new(Wakes::default());
        early.attach(&Waker::from(Arc::clone(&wakes)));
        late.attach(&Waker::from(Arc::clone(&wakes)));
        early.set(Duration::from_secs(10));
        late.set(Duration::from_secs(20));
        let start = now();
        alarms.sweep(start + 10_050);
        assert_eq!((early.rung(), late.rung()), (Some(Ring::Deadline), None));
        alarms.sweep(start + 10_060);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        early.set(Duration::from_secs(10));
        assert_eq!(early.rung(), None);
    }

    #[test]
    fn what_passed_while_the_worker_was_held_up_rings_a_little_later_and_once() {
        let alarms = Alarms::new().unwrap();
        let (old, new) = (alarms.register(), alarms.register());
        let start = now();
        old.set(Duration::from_millis(1_000));
        let late = start + 5_000;
        alarms.sweep(late);
        assert_eq!(old.rung(), None, "what has come meanwhile is looked at first");
        new.with(|slot| slot.deadline = late + 10);
        alarms.sweep(late + 20);
        assert_eq!((old.rung(), new.rung()), (None, Some(Ring::Deadline)));
        alarms.sweep(late + GRACE_MS);
        assert_eq!(old.rung(), Some(Ring::Deadline));
        // A worker that is late every time excuses nothing twice.
        old.with(|slot| (slot.deadline, slot.expired) = (start + 9_000, false));
        alarms.earliest.set(start + 9_000);
        alarms.sweep(start + 10_000);
        assert_eq!(old.rung(), None);
        alarms.sweep(start + 20_000);
        assert_eq!(old.rung(), Some(Ring::Deadline));
    }

    #[test]
    fn a_place_is_reused_clean() {
        let alarms = Alarms::new().unwrap();
        let first = alarms.register();
        first.set(Duration::from_millis(1));
        alarms.sweep(now() + 50);
        assert_eq!(first.rung(), Some(Ring::Deadline));
        drop(first);
        let second = alarms.register();
        assert_eq!(second.index, 0);
        assert_eq!(second.rung(), None);
    }

    #[test]
    fn a_cut_ends_every_wait() {
        let alarms = Alarms::new().unwrap();
        let alarm = alarms.register();
        alarms.rouse(false);
        assert_eq!(alarm.rung(), None);
        alarms.rouse(true);
        assert_eq!(alarm.rung(), Some(Ring::Cut));
        assert_eq!(alarms.register().rung(), Some(Ring::Cut));
    }

    #[test]
    fn the_timer_is_aimed_again_only_for_an_earlier_deadline() {
        let alarms = Alarms::new().unwrap();
        let alarm = alarms.register();
        alarm.set(Duration::from_secs(5));
        let aimed = alarms.earliest.get();
        alarm.set(Duration::from_secs(50));
        assert_eq!(alarms.earliest.get(), aimed);
        alarm.set(Duration::from_secs(1));
        assert!(alarms.earliest.get() < aimed);
    }
}
