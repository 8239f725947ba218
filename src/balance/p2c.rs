//! The power of two choices: of two different backends drawn by weight, the one with less in flight for its weight.
//!
//! Pure. Nearly as even as `least-connections`, and no two workers run after the same idle backend. A draw between
//! equals goes to the first drawn, so that idle backends share by weight.

use super::{random::Draw, roster::Roster};

/// Picks the better of two.
pub fn pick(draw: &mut Draw, roster: &mut Roster) -> Option<usize> {
    let first = draw.pick(roster)?;
    let Some(second) = draw.pick_besides(first, roster) else { return Some(first) };
    // a / b < c / d, without dividing.
    let load = |place, other| u64::from(roster.in_flight(place)) * roster.warm_weight(other);
    Some(if load(second, first) < load(first, second) { second } else { first })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn fill(roster: &mut Roster, seed: u64, requests: usize) -> Vec<u32> {
        let mut draw = Draw::new(roster, seed);
        for _ in 0..requests {
            let place = pick(&mut draw, roster).unwrap();
            roster.set_in_flight(place, roster.in_flight(place) + 1);
        }
        (0..roster.count()).map(|place| roster.in_flight(place)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// A hundred requests each: one choice would leave someone with about 135, two leave ln ln n / ln 2 above.
        #[test]
        fn nobody_has_much_more_than_the_average(seed in any::<u64>(), count in 2usize..300) {
            let mut roster = Roster::new(&vec![1; count], Duration::ZERO);
            let loads = fill(&mut roster, seed, count * 100);
            prop_assert!(*loads.iter().max().unwrap() <= 106, "{:?}", loads);
        }

        /// Requests end at random: what is in flight stays as even.
        #[test]
        fn a_random_workload_stays_even(seed in any::<u64>()) {
            let mut roster = Roster::new(&[1; 100], Duration::ZERO);
            fill(&mut roster, seed, 1_000);
            let (mut draw, mut ends) = (Draw::new(&roster, seed), fastrand::Rng::with_seed(seed));
            for _ in 0..10_000 {
                let ended = loop {
                    let place = ends.usize(..100);
                    if roster.in_flight(place) > 0 {
                        break place;
                    }
                };
                roster.set_in_flight(ended, roster.in_flight(ended) - 1);
                let place = pick(&mut draw, &mut roster).unwrap();
                roster.set_in_flight(place, roster.in_flight(place) + 1);
            }
            let most = (0..100).map(|place| roster.in_flight(place)).max().unwrap();
            prop_assert!(most <= 22, "{} of 10 on average", most);
        }

        #[test]
        fn the_busier_of_two_is_never_picked(a in 0u32..50, b in 0u32..50, seed in any::<u64>()) {
            let mut roster = Roster::new(&[1, 1], Duration::ZERO);
            roster.set_in_flight(0, a);
            roster.set_in_flight(1, b);
            let place = pick(&mut Draw::new(&roster, seed), &mut roster).unwrap();
            prop_assert_eq!(roster.in_flight(place), a.min(b));
        }
    }

    #[test]
    fn weights_count_idle_and_loaded() {
        let mut roster = Roster::new(&[3, 1], Duration::ZERO);
        let mut draw = Draw::new(&roster, 1);
        let light = (0..40_000).filter(|_| pick(&mut draw, &mut roster) == Some(1)).count();
        assert!(light.abs_diff(10_000) < 800, "{light} of 40000 while idle");
        let loads = fill(&mut roster, 1, 4_000);
        assert!(loads[1].abs_diff(1_000) < 5, "{loads:?}");
    }
}
