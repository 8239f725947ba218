//! Bells: how a worker that waits for room at a backend is told by another one that gave some back.
//!
//! Shared by all workers. Ringing is for the moment in which somebody waits; a request that finds room rings nobody.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering::SeqCst},
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

    fn ring(&self, who: impl Fn(usize) -> bool) {
        for (_, bell) in self.bells.iter().enumerate().filter(|(worker, _)| who(*worker)) {
            if let Some(bell) = bell.get() {
                bell.ring();
            }
        }
    }
}

/// The workers that wait for room in one cluster.
#[derive(Debug)]
pub struct Callers {
    /// A bit for each worker; with more than 64 of them some share one, and may be rung for nothing.
    waiting: AtomicU64,
    bells: Arc<Bells>,
}

impl Callers {
    /// Nobody waits.
    pub fn new(bells: Arc<Bells>) -> Self {
        Callers { waiting: AtomicU64::new(0), bells }
    }

    /// All workers' bells.
    pub fn bells(&self) -> &Arc<Bells> {
        &self.bells
    }

    /// Somebody waits on this worker from now on, and the others are asked for what they keep.
    pub fn waits(&self, me: usize) {
        self.waiting.fetch_or(bit(me), SeqCst);
        self.bells.calls.fetch_add(1, SeqCst);
        self.bells.ring(|worker| worker != me);
    }

    /// Nobody waits on this worker any more.
    pub fn rests(&self, me: usize) {
        self.waiting.fetch_and(!bit(me), SeqCst);
    }

    /// True when somebody waits on another worker.
    pub fn others_wait(&self, me: usize) -> bool {
        self.waiting.load(SeqCst) & !bit(me) != 0
    }

    /// Rings the other workers on which somebody waits.
    pub fn ring(&self, me: usize) {
        let waiting = self.waiting.load(SeqCst);
        self.bells.ring(|worker| worker != me && waiting & bit(worker) != 0);
    }
}

fn bit(worker: usize) -> u64 {
    1 << (worker % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_others_that_wait_are_rung() {
        let callers = Callers::new(Arc::new(Bells::new(3)));
        let bells: Vec<_> = (0..3).map(|_| Doorbell::new().unwrap()).collect();
        bells.iter().enumerate().for_each(|(worker, bell)| callers.bells().hang(worker, bell.clone()));
        let rung = || -> Vec<bool> {
            bells
                .iter()
                .map(|bell| {
                    let ready = rustix::event::PollFlags::IN;
                    let mut polled = [rustix::event::PollFd::new(bell, ready)];
                    let rung = rustix::event::poll(&mut polled, Some(&Default::default())).unwrap() > 0;
                    bell.silence();
                    rung
                })
                .collect()
        };
        callers.waits(1);
        assert_eq!((rung(), callers.bells().calls()), (vec![true, false, true], 1));
        assert!(callers.others_wait(0) && !callers.others_wait(1));
        callers.ring(0);
        assert_eq!(rung(), [false, true, false]);
        callers.ring(1);
        callers.rests(1);
        callers.ring(0);
        assert_eq!(rung(), [false; 3]);
    }
}
