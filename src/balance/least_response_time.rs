//! Least response time: whoever has the least decayed time to first byte, times what it has in flight, for its weight.
//!
//! Pure: time is an argument. An estimate rises at once to a slower response, and comes down over a few seconds:
//! towards faster responses, and in silence towards nothing, so that a backend that was slow is tried again. A new
//! backend counts as fast as the best one until it has answered.
//!
//! All silent estimates decay by the same factor, which changes no order. So an estimate is kept as its logarithm plus
//! what would have decayed since the clock began, and nobody has to be touched as time passes.

use std::time::Duration;

use super::{
    least_connections::Turns,
    roster::Roster,
    tournament::{ABSENT, Tournament},
};
use crate::io::alarm::Millis;

/// After this time a response counts for 1/e of what it did.
const DECAY: Duration = Duration::from_secs(3);
/// What the first backends are taken for until one has answered.
const GUESS: Duration = Duration::from_millis(1);

/// What an estimate loses in a millisecond, as a power of two.
const LOSS: f64 = std::f64::consts::LOG2_E / DECAY.as_millis() as f64;

/// The estimates and scores of a tier.
#[derive(Debug, Clone)]
pub struct LeastResponseTime {
    estimates: Box<[Estimate]>,
    scores: Tournament,
    turns: Turns,
}

#[derive(Debug, Clone, Copy)]
struct Estimate {
    /// Binary logarithm of the microseconds, plus the loss since the clock began.
    level: f64,
    /// When it answered last, if it ever did.
    answered: Option<Millis>,
}

impl Estimate {
    fn guess(level: f64) -> Self {
        Estimate { level, answered: None }
    }

    fn observe(&mut self, first_byte: Duration, now: Millis) {
        let loss = now as f64 * LOSS;
        let sample = micros(first_byte);
        let level = sample.log2() + loss;
        self.level = match self.answered {
            Some(before) if level < self.level => {
                let weight = (-(now.saturating_sub(before) as f64) * LOSS).exp2();
                ((self.level - loss).exp2() + sample * (1.0 - weight)).log2() + loss
            }
            _ => level,
        };
        self.answered = Some(now);
    }
}

fn micros(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).max(1.0)
}

impl LeastResponseTime {
    /// Nobody has answered yet; `offset` says who is first among equals.
    pub fn new(roster: &Roster, offset: usize, now: Millis) -> Self {
        let guess = Estimate::guess(micros(GUESS).log2() + now as f64 * LOSS);
        let mut selector = LeastResponseTime {
            estimates: vec![guess; roster.count()].into(),
            scores: Tournament::new(roster.count()),
            turns: Turns::new(roster.count(), offset),
        };
        (0..roster.count()).for_each(|place| selector.refresh(place, roster));
        selector
    }

    /// One's load has changed, or whether it may be picked.
    pub fn refresh(&mut self, place: usize, roster: &Roster) {
        let estimate = self.estimates.get(place).filter(|_| roster.is_usable(place));
        let key = estimate.map_or(ABSENT, |estimate| {
            let load = (f64::from(roster.in_flight(place)) + 1.0) / roster.warm_weight(place) as f64;
            self.turns.key(ordered(estimate.level + load.log2()), place)
        });
        self.scores.set(place, key);
    }

    /// One's response has begun.
    pub fn responded(&mut self, place: usize, first_byte: Duration, now: Millis, roster: &Roster) {
        if let Some(estimate) = self.estimates.get_mut(place) {
            estimate.observe(first_byte, now);
            self.refresh(place, roster);
        }
    }

    /// One is new, or has come back as good as new: it counts as fast as the best until it has answered.
    pub fn renew(&mut self, place: usize, now: Millis, roster: &Roster) {
        let best = self.scores.winner().and_then(|best| self.estimates.get(best)).copied();
        let level = best.map_or(micros(GUESS).log2() + now as f64 * LOSS, |best| best.level);
        if let Some(estimate) = self.estimates.get_mut(place) {
            *estimate = Estimate::guess(level);
            self.refresh(place, roster);
        }
    }

    /// Takes over what another selector has learnt of one. It must be refreshed afterwards.
    pub fn inherit(&mut self, place: usize, from: &Self, from_place: usize) {
        if let (Some(estimate), Some(known)) = (self.estimates.get_mut(place), from.estimates.get(from_place))
        {
            *estimate = *known;
        }
    }

    /// Picks the one with the least score. It must be refreshed afterwards.
    pub fn pick(&mut self) -> Option<usize> {
        let place = self.scores.winner()?;
        self.turns.take(place);
        Some(place)
    }
}

/// A number in the order of the floats.
fn ordered(value: f64) -> u64 {
    let bits = value.to_bits();
    if value.is_sign_negative() { !bits } else { bits | 1 << 63 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::balance::roster::Fitness;

    struct Tier {
        roster: Roster,
        selector: LeastResponseTime,
        picks: Vec<u32>,
        now: Millis,
    }

    impl Tier {
        fn new(weights: &[u32], now: Millis) -> Self {
            let roster = Roster::new(weights, Duration::ZERO);
            let selector = LeastResponseTime::new(&roster, 0, now);
            Tier { roster, selector, picks: vec![0; weights.len()], now }
        }

        fn begin(&mut self) -> usize {
            let place = self.selector.pick().unwrap();
            self.picks[place] += 1;
            self.roster.set_in_flight(place, self.roster.in_flight(place) + 1);
            self.selector.refresh(place, &self.roster);
            place
        }

        fn end(&mut self, place: usize, took: u64) {
            self.selector.responded(place, Duration::from_millis(took), self.now, &self.roster);
            self.roster.set_in_flight(place, self.roster.in_flight(place) - 1);
            self.selector.refresh(place, &self.roster);
        }

        /// A request every millisecond, each taking what its backend takes; gives the picks.
        fn run(&mut self, took: &[u64], duration: Millis) -> Vec<u32> {
            self.picks.fill(0);
            let mut running: Vec<(Millis, usize, u64)> = Vec::new();
            for _ in 0..duration {
                self.now += 1;
                let now = self.now;
                for (_, place, took) in running.extract_if(.., |(end, ..)| *end <= now) {
                    self.end(place, took);
                }
                let place = self.begin();
                running.push((self.now + took[place], place, took[place]));
            }
            running.into_iter().for_each(|(_, place, took)| self.end(place, took));
            self.picks.clone()
        }
    }

    #[test]
    fn a_slow_one_gets_far_less_and_its_share_back_when_it_speeds_up() {
        let mut tier = Tier::new(&[1, 1], 1_000_000);
        let slow = tier.run(&[100, 5], 10_000);
        assert!(slow[0] > 0 && slow[0] * 10 < slow[1], "{slow:?}");
        tier.run(&[5, 5], 15_000);
        let even = tier.run(&[5, 5], 10_000);
        assert!(even[0].min(even[1]) > 3_000, "{even:?}");
    }

    #[test]
    fn a_slow_one_is_tried_again_after_silence() {
        let mut tier = Tier::new(&[1, 1], 0);
        for took in [100, 5] {
            let place = tier.begin();
            tier.end(place, took);
        }
        let mut tried = Vec::new();
        for now in 0..40_000 {
            tier.now = now;
            let place = tier.begin();
            tier.end(place, [100, 5][place]);
            if place == 0 {
                tried.push(now);
            }
        }
        assert!((2..=8).contains(&tried.len()), "{tried:?}");
    }

    #[test]
    fn a_new_one_is_tried_but_not_overrun() {
        let mut tier = Tier::new(&[1; 4], 0);
        tier.run(&[5; 4], 5_000);
        tier.roster.set_fitness(3, Fitness::Ailing);
        tier.selector.refresh(3, &tier.roster);
        tier.run(&[5; 4], 5_000);
        tier.roster.set_fitness(3, Fitness::Fit);
        tier.selector.renew(3, tier.now, &tier.roster);
        // It does not answer for a second: it gets no more at a time than the others.
        let mut most = 0;
        for _ in 0..1_000 {
            tier.now += 1;
            let place = tier.begin();
            if place != 3 {
                tier.end(place, 5);
            }
            most = most.max(tier.roster.in_flight(3));
        }
        assert!((1..=30).contains(&most), "{most} in flight");
    }

    #[test]
    fn an_estimate_rises_at_once_and_comes_down_over_seconds() {
        let mut estimate = Estimate::guess(0.0);
        let mut observe = |took, now| {
            estimate.observe(Duration::from_millis(took), now);
            ((estimate.level - now as f64 * LOSS).exp2() / 1e3).round()
        };
        assert_eq!([observe(5, 1_000), observe(5, 1_001), observe(100, 1_002)], [5.0, 5.0, 100.0]);
        // After one decay, 1/e of the difference is left.
        assert_eq!([observe(5, 1_003), observe(5, 4_002), observe(5, 60_000)], [100.0, 40.0, 5.0]);
    }

    #[test]
    fn in_the_beginning_everyone_is_asked() {
        let mut tier = Tier::new(&[1; 8], 0);
        (0..8).for_each(|_| _ = tier.begin());
        assert_eq!(tier.picks, [1; 8]);
    }

    #[test]
    fn equally_fast_ones_go_by_weight() {
        let mut tier = Tier::new(&[3, 1], 0);
        let picks = tier.run(&[200, 200], 20_000);
        assert!(picks[1].abs_diff(5_000) < 300, "{picks:?}");
    }

    proptest! {
        #[test]
        fn floats_keep_their_order(a in any::<f64>(), b in any::<f64>()) {
            prop_assume!(!a.is_nan() && !b.is_nan());
            prop_assert_eq!(a.total_cmp(&b), ordered(a).cmp(&ordered(b)));
        }

        #[test]
        fn an_estimate_stays_between_the_extremes(samples in prop::collection::vec((1u64..1_000, 0u64..5_000), 1..50)) {
            let mut estimate = Estimate::guess(0.0);
            let (mut now, mut least, mut most) = (1_000_000, f64::MAX, 0f64);
            for (took, pause) in samples {
                now += pause;
                estimate.observe(Duration::from_millis(took), now);
                (least, most) = (least.min(took as f64 * 1e3), most.max(took as f64 * 1e3));
                let micros = (estimate.level - now as f64 * LOSS).exp2();
                prop_assert!(micros >= least * 0.999 && micros <= most * 1.001, "{} of {}..{}", micros, least, most);
            }
        }
    }
}
