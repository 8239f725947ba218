//! Bells: how a worker that waits for room at a backend is told by another one that gave some back.
//!
//! Shared by all workers. Ringing is for the moment in which somebody waits; a request that finds room rings nobody.

use std::sync::{
    Arc, OnceLock,
    atomic::{
        AtomicU64, AtomicUsize,
        Ordering::{Relaxed, SeqCst},
    },
};

use crate::sys::doorbell::Doorbell;

/// The workers' doorbells, for as long as the process lives.
#[derive(Debug)]
pub struct Bells {
    bells: Box<[OnceLock<Doorbell>]>,
    /// How often somebody has asked the others for what they keep.
    calls: AtomicU64,
}

impl Bells {
    /// Room for so many workers, none of which can be rung yet.
    pub fn new(workers: usize) -> Self {
        Bells { bells: (0..workers).map(|_| OnceLock::new()).collect(), calls: AtomicU64::new(0) }
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.bells.len()
    }

    /// A worker can be rung from now on.
    pub fn hang(&self, worker: usize, bell: Doorbell) {
        if let Some(place) = self.bells.get(worker) {
            let _ = place.set(bell);
        }
    }

    /// How often somebody has asked the others.
    pub fn calls(&self) -> u64 {
        self.calls.load(SeqCst)
    }

    fn ring(&self, worker: usize) {
        if let Some(bell) = self.bells.get(worker).and_then(OnceLock::get) {
            bell.ring();
        }
    }
}

/// Who waits for room in one cluster, over all workers.
#[derive(Debug)]
pub struct Callers {
    /// A bit for each worker.
    waiting: Box<[AtomicU64]>,
    /// How many wait in the lines of all workers.
    queued: AtomicUsize,
    /// Who is looked at first when somebody is to be rung.
    next: AtomicUsize,
    bells: Arc<Bells>,
}

impl Callers {
    /// Nobody waits.
    pub fn new(bells: Arc<Bells>) -> Self {
        let waiting = (0..bells.workers().div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Callers { waiting, queued: AtomicUsize::new(0), next: AtomicUsize::new(0), bells }
    }

    /// All workers' bells.
    pub fn bells(&self) -> &Arc<Bells> {
        &self.bells
    }

    /// One more joins the line of some worker. False when so many wait already.
    pub fn queue(&self, max: usize) -> bool {
        let joined = |queued: usize| (queued < max).then(|| queued + 1);
        self.queued.fetch_update(SeqCst, SeqCst, joined).is_ok()
    }

    /// One has left its line.
    pub fn unqueue(&self) {
        self.queued.fetch_sub(1, SeqCst);
    }

    /// Somebody waits on this worker from now on, and the others are asked for what they keep.
    pub fn waits(&self, me: usize) {
        self.waiting.get(me / 64).into_iter().for_each(|word| {
            word.fetch_or(bit(me), SeqCst);
        });
        self.bells.calls.fetch_add(1, SeqCst);
        (0..self.bells.workers()).filter(|worker| *worker != me).for_each(|worker| self.bells.ring(worker));
    }

    /// Nobody waits on this worker any more.
    pub fn rests(&self, me: usize) {
        self.waiting.get(me / 64).into_iter().for_each(|word| {
            word.fetch_and(!bit(me), SeqCst);
        });
    }

    fn is_waited_on(&self, worker: usize) -> bool {
        self.waiting.get(worker / 64).is_some_and(|word| word.load(SeqCst) & bit(worker) != 0)
    }

    /// True when somebody waits on another worker.
    pub fn others_wait(&self, me: usize) -> bool {
        let mine = |place: usize| if place == me / 64 { bit(me) } else { 0 };
        self.waiting.iter().enumerate().any(|(place, word)| word.load(SeqCst) & !mine(place) != 0)
    }

    /// Rings so many of the other workers on which somebody waits, each time from another one on. Who has no use for what is
    /// there leaves it to those who look by themselves.
    pub fn ring(&self, me: usize, count: u32) {
        if count == 0 || !self.others_wait(me) {
            return;
        }
        let (first, workers) = (self.next.fetch_add(1, Relaxed), self.bells.workers());
        let others = (0..workers).map(|place| first.wrapping_add(place) % workers);
        let waiting = others.filter(|worker| *worker != me && self.is_waited_on(*worker));
        waiting.take(count as usize).for_each(|worker| self.bells.ring(worker));
    }
}

fn bit(worker: usize) -> u64 {
    1 << (worker % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whose bells have been rung since it was asked last.
    fn rung(bells: &[Doorbell]) -> Vec<usize> {
        let is_rung = |bell: &Doorbell| {
            let mut polled = [rustix::event::PollFd::new(bell, rustix::event::PollFlags::IN)];
            let rung = rustix::event::poll(&mut polled, Some(&Default::default())).unwrap() > 0;
            bell.silence();
            rung
        };
        bells.iter().enumerate().filter(|(_, bell)| is_rung(bell)).map(|(worker, _)| worker).collect()
    }

    #[test]
    fn only_others_that_wait_are_rung() {
        let callers = Callers::new(Arc::new(Bells::new(3)));
        let bells: Vec<_> = (0..3).map(|_| Doorbell::new().unwrap()).collect();
        bells.iter().enumerate().for_each(|(worker, bell)| callers.bells().hang(worker, bell.clone()));
        callers.waits(1);
        assert_eq!((rung(&bells), callers.bells().calls()), (vec![0, 2], 1));
        assert!(callers.others_wait(0) && !callers.others_wait(1));
        callers.ring(0, 1);
        assert_eq!(rung(&bells), [1]);
        callers.ring(1, 1);
        callers.ring(0, 0);
        callers.rests(1);
        callers.ring(0, 3);
        assert!(rung(&bells).is_empty());
    }

    #[test]
    fn no_more_join_than_may_wait_on_all_workers() {
        let callers = Callers::new(Arc::new(Bells::new(2)));
        assert_eq!([(); 3].map(|()| callers.queue(2)), [true, true, false]);
        callers.unqueue();
        assert_eq!((callers.queue(1), callers.queue(2), callers.queue(2)), (false, true, false));
    }

    #[test]
    fn as_many_are_rung_as_there_are_places_and_everybody_has_a_turn() {
        let callers = Callers::new(Arc::new(Bells::new(130)));
        let bells: Vec<_> = (0..130).map(|_| Doorbell::new().unwrap()).collect();
        bells.iter().enumerate().for_each(|(worker, bell)| callers.bells().hang(worker, bell.clone()));
        [3, 67, 129].into_iter().for_each(|worker| callers.waits(worker));
        callers.rests(67);
        assert!(callers.others_wait(3) && callers.others_wait(129));
        callers.waits(67);
        let _ = rung(&bells);
        let mut turns = [0; 130];
        for _ in 0..130 {
            callers.ring(0, 1);
            let who = rung(&bells);
            assert_eq!(who.len(), 1);
            who.into_iter().for_each(|worker| turns[worker] += 1);
        }
        assert!([3, 67, 129].into_iter().all(|worker| turns[worker] > 0));
        callers.ring(3, 9);
        assert_eq!(rung(&bells), [67, 129]);
    }
}
