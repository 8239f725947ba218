//! The pulse of one backend: from the results of its probes to "up" and "down", and to when it is asked next.
//!
//! Pure: knows no socket, no clock and no source of chance. Results and rolls of the dice are arguments.

use crate::io::alarm::Millis;

/// How many results turn a backend, and how often it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Successes in a row that bring it back; at least 1.
    pub rise: u32,
    /// Failures in a row that take it out; at least 1.
    pub fall: u32,
    /// From the beginning of one probe to that of the next, in milliseconds.
    pub interval: Millis,
    /// In place of `interval` while results contradict the state and have not turned it yet.
    pub fast_interval: Millis,
    /// How far a pause may be longer or shorter, in percent of it; at most 100.
    pub jitter_percent: u32,
}

/// What probes say of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It answers as it should.
    Up,
    /// It does not, and this is what went wrong last.
    Down(String),
}

/// What has been heard of a backend.
#[derive(Debug, Clone)]
pub struct Pulse {
    rules: Rules,
    up: bool,
    /// The first result has come.
    proven: bool,
    /// Results in a row that contradict the state.
    against: u32,
}

impl Pulse {
    /// A backend that counts as `up` or not until its first probe, which decides alone.
    pub fn new(rules: Rules, up: bool) -> Self {
        Pulse { rules, up, proven: false, against: 0 }
    }

    /// True while it is up.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// A probe has ended; a failure comes with its reason. Returns what follows from the first one, and later only
    /// what changes.
    pub fn hear(&mut self, result: Result<(), String>) -> Option<Verdict> {
        let up = result.is_ok();
        let first = !std::mem::replace(&mut self.proven, true);
        if !first {
            if up == self.up {
                self.against = 0;
                return None;
            }
            self.against = self.against.saturating_add(1);
            if self.against < if up { self.rules.rise } else { self.rules.fall } {
                return None;
            }
        }
        self.up = up;
        self.against = 0;
        Some(result.map_or_else(Verdict::Down, |()| Verdict::Up))
    }

    /// How long after the beginning of the last probe the next one is due; `roll` is any number, evenly spread.
    pub fn pause(&self, roll: u64) -> Millis {
        let Rules { interval, fast_interval, jitter_percent, .. } = self.rules;
        let usual = if self.against > 0 { fast_interval } else { interval };
        let most = usual.saturating_mul(u64::from(jitter_percent.min(100))) / 100;
        let spread = most.saturating_mul(2).saturating_add(1);
        (usual - most).saturating_add(roll % spread)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: Rules = Rules { rise: 2, fall: 3, interval: 2_000, fast_interval: 500, jitter_percent: 0 };

    /// Feeds `+` for a success and `-` for a failure; the answer shows each turn behind the result that made it.
    fn fed(rules: Rules, up: bool, results: &str) -> String {
        let mut pulse = Pulse::new(rules, up);
        let mut shown = String::new();
        for result in results.chars() {
            shown.push(result);
            let heard = pulse.hear(if result == '+' { Ok(()) } else { Err("why".to_owned()) });
            shown.push_str(match heard {
                Some(Verdict::Up) => "U",
                Some(Verdict::Down(_)) => "D",
                None => "",
            });
        }
        shown
    }

    #[test]
    fn it_takes_fall_failures_and_rise_successes() {
        assert_eq!(fed(RULES, true, "++---+-++--"), "+U+---D+-++U--");
        assert_eq!(fed(RULES, true, "+--+--+---"), "+U--+--+---D");
        assert_eq!(fed(Rules { rise: 1, fall: 1, ..RULES }, true, "+-+-"), "+U-D+U-D");
    }

    #[test]
    fn the_first_probe_decides_alone_wherever_it_began() {
        for up in [true, false] {
            assert_eq!(fed(RULES, up, "-"), "-D");
            assert_eq!(fed(RULES, up, "+--"), "+U--");
        }
    }

    #[test]
    fn the_last_reason_is_told() {
        let mut pulse = Pulse::new(Rules { fall: 2, ..RULES }, true);
        pulse.hear(Ok(()));
        assert_eq!(pulse.hear(Err("first".to_owned())), None);
        assert_eq!(pulse.hear(Err("second".to_owned())), Some(Verdict::Down("second".to_owned())));
    }

    #[test]
    fn it_is_asked_faster_while_it_may_turn() {
        let mut pulse = Pulse::new(RULES, true);
        let failure = || Err("why".to_owned());
        let mut pause_after = |result| {
            pulse.hear(result);
            pulse.pause(0)
        };
        let results = [Ok(()), failure(), failure(), failure(), Ok(()), Ok(())];
        assert_eq!(results.map(&mut pause_after), [2_000, 500, 500, 2_000, 500, 2_000]);
    }

    /// What the pulse should say, from the whole history: it turns when everything since the last turn ends in enough
    /// results that contradict it.
    fn model(rules: Rules, results: &[bool]) -> Vec<Option<bool>> {
        let (mut turns, mut up, mut since) = (Vec::new(), None, 0);
        for end in 1..=results.len() {
            let run = results[since..end].iter().rev().take_while(|result| Some(**result) != up).count();
            let enough = match up {
                None => 1,
                Some(true) => rules.fall,
                Some(false) => rules.rise,
            };
            let turned = run >= enough as usize;
            if turned {
                (up, since) = (Some(results[end - 1]), end);
            }
            turns.push(up.filter(|_| turned));
        }
        turns
    }

    fn rules() -> impl Strategy<Value = Rules> {
        (1u32..6, 1u32..6, 1u64..100_000, 1u64..100_000, 0u32..=100).prop_map(
            |(rise, fall, interval, fast_interval, jitter_percent)| Rules {
                rise,
                fall,
                interval,
                fast_interval,
                jitter_percent,
            },
        )
    }

    proptest! {
        #[test]
        fn it_turns_as_the_whole_history_says(
            rules in rules(),
            up: bool,
            results in proptest::collection::vec(any::<bool>(), 0..200),
        ) {
            let mut pulse = Pulse::new(rules, up);
            let turns: Vec<_> = results
                .iter()
                .map(|result| {
                    let told = pulse.hear(if *result { Ok(()) } else { Err(String::new()) });
                    told.map(|verdict| verdict == Verdict::Up)
                })
                .collect();
            prop_assert_eq!(&turns, &model(rules, &results));
            let told: Vec<_> = turns.into_iter().flatten().collect();
            prop_assert!(told.windows(2).all(|pair| pair[0] != pair[1]), "the same twice: {:?}", told);
        }

        #[test]
        fn pauses_keep_to_their_jitter(rules in rules(), roll: u64, fails: bool) {
            let mut pulse = Pulse::new(Rules { fall: 2, ..rules }, true);
            pulse.hear(Ok(()));
            if fails {
                pulse.hear(Err(String::new()));
            }
            let usual = if fails { rules.fast_interval } else { rules.interval };
            let most = usual * u64::from(rules.jitter_percent) / 100;
            prop_assert!((usual - most..=usual + most).contains(&pulse.pause(roll)));
        }
    }

    #[test]
    fn jitter_reaches_both_ends() {
        let pulse = Pulse::new(Rules { jitter_percent: 10, ..RULES }, true);
        assert_eq!((pulse.pause(0), pulse.pause(200), pulse.pause(400)), (1_800, 2_000, 2_200));
    }
}
