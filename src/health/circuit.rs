//! A circuit breaker: closed while a backend answers, open after failures in a row, half-open for one trial at a time.
//!
//! Pure: time is an argument. Each opening without a long time of health in between lasts twice as long as the one
//! before, up to a bound, so that a backend that flaps is asked less and less often.

use crate::io::alarm::Millis;

/// When it opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Failures in a row that open it; 0 never does.
    pub failures: u16,
    /// Failures further apart than this are not in a row.
    pub window: Millis,
    /// How long the first opening lasts.
    pub open: Millis,
    /// No opening lasts longer. After so long a time of health the next opening is a first one again.
    pub open_max: Millis,
}

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Work flows.
    Closed,
    /// Nothing is sent until then.
    Open {
        /// When a trial may begin.
        until: Millis,
    },
    /// One trial is allowed.
    HalfOpen,
}

/// The circuit of one backend.
#[derive(Debug, Clone, Copy)]
pub struct Circuit {
    phase: Phase,
    /// Failures in a row.
    streak: u32,
    last_failure: Millis,
    /// How long the last opening was to last; 0 when it is forgotten.
    last_open: Millis,
    /// When it closed last.
    closed_at: Millis,
}

impl Default for Circuit {
    fn default() -> Self {
        Circuit { phase: Phase::Closed, streak: 0, last_failure: 0, last_open: 0, closed_at: 0 }
    }
}

impl Circuit {
    /// Where it stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Failures in a row.
    pub fn streak(&self) -> u32 {
        self.streak
    }

    /// Live work has failed this many times. True when that opens the circuit. What fails while it is not closed was under
    /// way before, and changes nothing.
    pub fn failed(&mut self, count: u32, rules: &Rules, now: Millis) -> bool {
        if self.phase != Phase::Closed || count == 0 {
            return false;
        }
        if now.saturating_sub(self.last_failure) > rules.window {
            self.streak = 0;
        }
        self.last_failure = now;
        self.streak = self.streak.saturating_add(count);
        let opens = rules.failures > 0 && self.streak >= u32::from(rules.failures);
        if opens {
            self.open(rules, now);
        }
        opens
    }

    /// Live work has succeeded, so what failed before was not the beginning of a row.
    pub fn succeeded(&mut self) {
        if self.phase == Phase::Closed {
            self.streak = 0;
        }
    }

    /// Opens it for another reason than failures in a row.
    pub fn open(&mut self, rules: &Rules, now: Millis) {
        let healthy = self.phase == Phase::Closed && now.saturating_sub(self.closed_at) >= rules.open_max;
        let last = if healthy { 0 } else { self.last_open };
        self.last_open = (last * 2).max(rules.open).min(rules.open_max.max(rules.open));
        self.streak = 0;
        self.phase = Phase::Open { until: now.saturating_add(self.last_open) };
    }

    /// A trial begins if it is time for one. True when it does.
    pub fn try_again(&mut self, now: Millis) -> bool {
        let is_due = matches!(self.phase, Phase::Open { until } if until <= now);
        if is_due {
            self.phase = Phase::HalfOpen;
        }
        is_due
    }

    /// Work flows again: a trial has succeeded, or a probe, or the operator says so.
    pub fn close(&mut self, now: Millis) {
        if self.phase != Phase::Closed {
            (self.phase, self.streak, self.closed_at) = (Phase::Closed, 0, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: Rules = Rules { failures: 3, window: 10_000, open: 1_000, open_max: 8_000 };

    #[test]
    fn failures_in_a_row_open_it_and_a_success_between_them_does_not() {
        let mut circuit = Circuit::default();
        assert!(!circuit.failed(2, &RULES, 10));
        circuit.succeeded();
        assert!(!circuit.failed(2, &RULES, 20));
        assert!(circuit.failed(1, &RULES, 30));
        assert_eq!(circuit.phase(), Phase::Open { until: 1_030 });
        assert!(!circuit.failed(9, &RULES, 40), "what was under way extends nothing");
        assert!(!circuit.try_again(1_029) && circuit.try_again(1_030) && !circuit.try_again(1_031));
    }

    #[test]
    fn failures_that_are_far_apart_are_not_in_a_row() {
        let mut circuit = Circuit::default();
        for turn in 0..10 {
            assert!(!circuit.failed(1, &RULES, turn * 10_001));
        }
        assert!(!circuit.failed(u32::MAX, &Rules { failures: 0, ..RULES }, 0));
    }

    #[test]
    fn openings_grow_up_to_a_bound_and_health_makes_the_next_a_first_one() {
        let mut circuit = Circuit::default();
        let mut now = 0;
        for lasts in [1_000, 2_000, 4_000, 8_000, 8_000] {
            circuit.open(&RULES, now);
            assert_eq!(circuit.phase(), Phase::Open { until: now + lasts });
            now += lasts;
            assert!(circuit.try_again(now));
        }
        circuit.close(now);
        circuit.failed(3, &RULES, now + 7_999);
        assert_eq!(
            circuit.phase(),
            Phase::Open { until: now + 7_999 + 8_000 },
            "a flapping one is remembered"
        );
        circuit.close(now + 8_000);
        circuit.failed(3, &RULES, now + 16_000);
        assert_eq!(circuit.phase(), Phase::Open { until: now + 16_000 + 1_000 });
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Fail(u32),
        Succeed,
        Try,
        Close,
        Wait(Millis),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0u32..4).prop_map(Step::Fail),
            Just(Step::Succeed),
            Just(Step::Try),
            Just(Step::Close),
            (0u64..4_000).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// The model: failures since the last success, close or long pause, and when it may be tried.
        #[test]
        fn it_opens_after_so_many_failures_and_is_tried_only_when_its_time_is_over(steps in prop::collection::vec(step(), 0..80)) {
            let (mut circuit, mut now) = (Circuit::default(), 1_000_000);
            let (mut row, mut last, mut opened) = (0, 0, None);
            for step in steps {
                let before = circuit.phase();
                match step {
                    Step::Wait(millis) => now += millis,
                    Step::Fail(count) => {
                        let opens = circuit.failed(count, &RULES, now);
                        if before == Phase::Closed && count > 0 {
                            row = if now - last > RULES.window { count } else { row + count };
                            last = now;
                            prop_assert_eq!(opens, row >= 3);
                        } else {
                            prop_assert!(!opens);
                        }
                        if opens {
                            opened = Some(now);
                        }
                    }
                    Step::Succeed => {
                        circuit.succeeded();
                        if before == Phase::Closed {
                            row = 0;
                        }
                    }
                    Step::Try => {
                        if circuit.try_again(now) {
                            let since = opened.expect("it was open");
                            prop_assert!(now >= since + RULES.open);
                        } else if let Phase::Open { until } = before {
                            prop_assert!(now < until && until <= opened.unwrap() + RULES.open_max);
                        }
                    }
                    Step::Close => {
                        circuit.close(now);
                        prop_assert_eq!(circuit.phase(), Phase::Closed);
                        if before != Phase::Closed {
                            row = 0;
                        }
                    }
                }
                if circuit.phase() != Phase::Closed {
                    row = 0;
                }
            }
        }
    }
}
