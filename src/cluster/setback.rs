//! How long a backend that refused a connection is set aside: doubling from one second to ten.
//!
//! Pure: time is an argument. One success forgives everything.

use crate::io::alarm::Millis;

const FIRST: Millis = 1_000;
const LONGEST: Millis = 10_000;

/// The record of one backend on one worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Setback {
    until: Millis,
    streak: u32,
}

impl Setback {
    /// True while the backend should be left alone.
    pub fn holds(&self, now: Millis) -> bool {
        now < self.until
    }

    /// Until when it holds, if it does.
    pub fn until(&self, now: Millis) -> Option<Millis> {
        self.holds(now).then_some(self.until)
    }

    /// A connection was refused or could not be made in time. A failure while set aside (a forced trial, or one
    /// of several attempts in flight) extends nothing. True when this sets it aside anew.
    pub fn failed(&mut self, now: Millis) -> bool {
        if self.holds(now) {
            return false;
        }
        let pause = FIRST.saturating_mul(1 << self.streak.min(10)).min(LONGEST);
        self.until = now.saturating_add(pause);
        self.streak = self.streak.saturating_add(1);
        true
    }

    /// A connection was made.
    pub fn succeeded(&mut self) {
        *self = Setback::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_success_forgives() {
        let mut setback = Setback::default();
        let mut now = 5;
        for pause in [1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
            assert!(!setback.holds(now));
            assert!(setback.failed(now));
            assert!(!setback.failed(now + 1), "one burst of failures counts once");
            assert!(setback.holds(now + pause - 1) && !setback.holds(now + pause));
            now += pause;
        }
        setback.succeeded();
        assert!(!setback.holds(now));
    }
}
