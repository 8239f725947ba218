//! Turns: which worker a trial goes to, and when to see whether it should go on to another.
//!
//! Pure. A trial goes to those who have requests for it: no idle worker is woken for nothing, and a busy one does not have
//! to wait until all the idle ones have had their turn.

use crate::io::alarm::Millis;

/// How long a worker keeps a trial it has no request for, while others have work.
pub(super) const PATIENCE: Millis = 250;

/// How often at least it is seen whether others have work meanwhile.
const LOOK: Millis = 1_000;

/// What a worker is known to have been asked.
#[derive(Debug, Clone, Copy, Default)]
struct Work {
    count: u64,
    /// When it was seen that there is more.
    seen_at: Millis,
}

/// Who has work, and whose turn it is to try.
#[derive(Debug)]
pub(super) struct Turns {
    next: usize,
    work: Vec<Work>,
}

impl Turns {
    /// For so many workers, of which nothing is known.
    pub(super) fn new(workers: usize) -> Self {
        Turns { next: 0, work: vec![Work::default(); workers] }
    }

    /// What each worker has been asked to do since it began.
    pub(super) fn worked(&mut self, counts: impl IntoIterator<Item = u64>, now: Millis) {
        for (work, count) in self.work.iter_mut().zip(counts) {
            if work.count != count {
                *work = Work { count, seen_at: now };
            }
        }
    }

    /// True when any worker but this one was seen to have work later than that.
    pub(super) fn has_others(&self, but: usize, since: Millis) -> bool {
        self.work.iter().enumerate().any(|(worker, work)| worker != but && work.seen_at > since)
    }

    /// Whose turn it is: of those who were seen to have work later than that, or of all if there is none.
    pub(super) fn take(&mut self, since: Millis) -> usize {
        let count = self.work.len().max(1);
        let has_work = |worker: &usize| self.work.get(*worker).is_some_and(|work| work.seen_at > since);
        let worker = (0..count).map(|turn| (self.next + turn) % count).find(has_work).unwrap_or(self.next);
        self.next = (worker + 1) % count;
        worker
    }
}

/// When to look again at a trial that was given then: less and less often.
pub(super) fn next_look(since: Millis, now: Millis) -> Millis {
    let passed = now.saturating_sub(since);
    let later = || (passed / LOOK + 1) * LOOK;
    since + [PATIENCE, PATIENCE * 2].into_iter().find(|look| *look > passed).unwrap_or_else(later)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_have_work_take_turns_and_all_do_where_nobody_has() {
        let mut turns = Turns::new(4);
        assert_eq!([(); 5].map(|()| turns.take(0)), [0, 1, 2, 3, 0]);
        turns.worked([0, 7, 0, 7], 10);
        assert_eq!([(); 3].map(|()| turns.take(9)), [1, 3, 1]);
        assert!(turns.has_others(1, 9) && !turns.has_others(1, 10));
        turns.worked([0, 7, 0, 8], 20);
        assert_eq!([(); 2].map(|()| turns.take(10)), [3, 3]);
        assert!(!turns.has_others(3, 10));
    }

    #[test]
    fn looks_become_fewer() {
        let mut now = 5_000;
        let looks = [(); 6].map(|()| {
            now = next_look(5_000, now);
            now - 5_000
        });
        assert_eq!(looks, [250, 500, 1_000, 2_000, 3_000, 4_000]);
    }
}
