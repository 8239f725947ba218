//! The backends one request has been tried on, and how many attempts it has left.

use crate::limits::{ATTEMPTS_MAX, ATTEMPTS_USUAL};

/// At most as many as there may be attempts.
#[derive(Debug, Clone, Copy)]
pub struct Tried {
    indices: [usize; ATTEMPTS_MAX],
    count: usize,
    /// How many of the first ones may have been sent the request: they are never forgotten.
    spent: usize,
    /// Attempts, those on the same backend included.
    attempts: usize,
    max: usize,
    /// It has waited in line, and its turn has come.
    in_turn: bool,
    /// The last attempt was made in turn.
    had_turn: bool,
}

impl Default for Tried {
    fn default() -> Self {
        Tried::new(ATTEMPTS_USUAL)
    }
}

impl Tried {
    /// Nothing tried, and so many attempts allowed, 1 to [`ATTEMPTS_MAX`].
    pub fn new(max: usize) -> Self {
        Tried {
            indices: [0; ATTEMPTS_MAX],
            count: 0,
            spent: 0,
            attempts: 0,
            max: max.min(ATTEMPTS_MAX),
            in_turn: false,
            had_turn: false,
        }
    }

    /// Notes an attempt.
    pub fn add(&mut self, index: usize) {
        self.attempts += 1;
        self.had_turn = std::mem::take(&mut self.in_turn);
        if let Some(slot) = self.indices.get_mut(self.count) {
            *slot = index;
            self.count += 1;
        }
    }

    /// Notes another attempt on the one that was tried last.
    pub fn repeat(&mut self) {
        self.attempts += 1;
    }

    /// The last attempt was not made after all; its turn is not over.
    pub fn take_back(&mut self) {
        self.in_turn = self.had_turn;
        self.attempts = self.attempts.saturating_sub(1);
        self.count = self.count.saturating_sub(1).max(self.spent);
    }

    /// Those that were tried, in order.
    pub fn indices(&self) -> &[usize] {
        self.indices.get(..self.count).unwrap_or_default()
    }

    /// The one that was tried last may have been sent the request.
    pub fn spend(&mut self) {
        if let Some(last) = self.count.checked_sub(1).filter(|last| *last >= self.spent) {
            self.indices.swap(last, self.spent);
            self.spent += 1;
        }
    }

    /// Those that were sent nothing may be tried again; the attempts stay counted.
    pub fn forget(&mut self) {
        self.count = self.spent;
    }

    /// Nobody is known to have been tried; the attempts stay counted.
    pub fn forget_all(&mut self) {
        (self.count, self.spent) = (0, 0);
    }

    /// True when no further attempt is allowed.
    pub fn is_exhausted(&self) -> bool {
        self.attempts >= self.max
    }

    /// Its turn has come, so it need not go to the end of the line.
    pub fn comes_in_turn(&mut self) {
        self.in_turn = true;
    }

    /// True when its turn has come.
    pub fn is_in_turn(&self) -> bool {
        self.in_turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_sent_nothing_may_be_tried_again_as_long_as_attempts_are_left() {
        let mut tried = Tried::new(4);
        tried.add(7);
        tried.add(8);
        tried.spend();
        tried.add(9);
        assert_eq!(tried.indices(), [8, 7, 9]);
        tried.forget();
        assert_eq!(tried.indices(), [8]);
        tried.take_back();
        assert_eq!((tried.indices(), tried.is_exhausted()), (&[8][..], false));
        (0..2).for_each(|_| tried.repeat());
        assert!(tried.is_exhausted());
    }

    #[test]
    fn a_turn_is_over_with_the_attempt_unless_that_was_none() {
        let mut tried = Tried::new(4);
        let mut turns = vec![tried.is_in_turn()];
        tried.comes_in_turn();
        turns.push(tried.is_in_turn());
        tried.add(7);
        turns.push(tried.is_in_turn());
        tried.take_back();
        turns.push(tried.is_in_turn());
        tried.add(8);
        tried.add(9);
        tried.take_back();
        turns.push(tried.is_in_turn());
        assert_eq!(turns, [false, true, false, true, false]);
    }
}
