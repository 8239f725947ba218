//! Hashing by weight: the same key, the same backend, as long as it is usable.
//!
//! Pure. The key draws among all backends, usable or not, so a backend that goes takes no other's clients with it and
//! finds its own when it returns; meanwhile they are spread over the rest. A change of the set itself moves most keys:
//! for caches, `ring` and `maglev` are the better choice.

use super::{bound::Bound, roster::Roster, shares::Shares, spill::Spill};

/// The shares of all backends of a tier.
#[derive(Debug, Clone)]
pub struct IpHash {
    shares: Shares,
    spill: Spill,
}

impl IpHash {
    /// The shares of everyone on this roster.
    pub fn new(roster: &Roster) -> Self {
        let mut shares = Shares::new(roster.count());
        (0..roster.count()).for_each(|place| shares.set(place, u64::from(roster.weight(place))));
        IpHash { shares, spill: Spill::new(roster) }
    }

    /// One may be picked from now on, or no longer.
    pub fn toggled(&mut self, place: usize, roster: &Roster) {
        self.spill.toggled(place, roster);
    }

    /// Picks the key's own backend, or the one that stands in for it.
    pub fn pick(&self, key: u64, roster: &Roster, bound: Bound) -> Option<usize> {
        let own = self.shares.of(key)?;
        if roster.is_usable(own) && bound.has_room(own, roster) {
            return Some(own);
        }
        self.spill.pick(key, roster, bound)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::balance::{algorithm::Algorithm, key, roster::Fitness};

    fn clients() -> impl Iterator<Item = u64> {
        (0..10_000u32).map(|client| key::of_client(Algorithm::IpHash, client.to_be_bytes().into()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn only_the_clients_of_the_one_that_left_move_and_they_spread(weights in prop::collection::vec(1u32..4, 2..9), left in 0usize..9) {
            let left = left % weights.len();
            let mut roster = Roster::new(&weights, Duration::ZERO);
            let mut selector = IpHash::new(&roster);
            let before: Vec<_> = clients().map(|key| selector.pick(key, &roster, Bound::default()).unwrap()).collect();
            roster.set_fitness(left, Fitness::Ailing);
            selector.toggled(left, &roster);
            let mut gained = vec![0u32; weights.len()];
            for (key, before) in clients().zip(before) {
                let after = selector.pick(key, &roster, Bound::default()).unwrap();
                if before == left {
                    gained[after] += 1;
                } else {
                    prop_assert_eq!(before, after);
                }
            }
            prop_assert_eq!(gained[left], 0);
            let others: u32 = weights.iter().sum::<u32>() - weights[left];
            let moved: u32 = gained.iter().sum();
            for place in (0..weights.len()).filter(|place| *place != left) {
                let fair = f64::from(moved * weights[place]) / f64::from(others);
                // Six standard deviations of a fair draw.
                prop_assert!((f64::from(gained[place]) - fair).abs() <= 6.0 * fair.sqrt() + 1.0);
            }
        }
    }

    #[test]
    fn weights_are_met() {
        let roster = Roster::new(&[3, 1], Duration::ZERO);
        let selector = IpHash::new(&roster);
        let light = clients().filter(|key| selector.pick(*key, &roster, Bound::default()) == Some(1)).count();
        assert!((2_300..=2_700).contains(&light), "{light} of 10000");
    }
}
