//! Random: anyone, by weight. Also the draw that `p2c` makes twice.
//!
//! Pure: the numbers come from the selector's own generator, which is seeded by an argument.

use super::{roster::Roster, shares::Shares};

/// How many may let their turn pass, while warming up, before one has to take it.
const PASSES_MAX: usize = 64;

/// Draws by weight among those that may be picked.
#[derive(Debug, Clone)]
pub struct Draw {
    shares: Shares,
    generator: fastrand::Rng,
}

impl Draw {
    /// Draws among the usable ones of this roster.
    pub fn new(roster: &Roster, seed: u64) -> Self {
        let generator = fastrand::Rng::with_seed(super::key::next(seed));
        let mut draw = Draw { shares: Shares::new(roster.count()), generator };
        (0..roster.count()).for_each(|place| draw.toggled(place, roster));
        draw
    }

    /// One may be picked from now on, or no longer.
    pub fn toggled(&mut self, place: usize, roster: &Roster) {
        let weight = if roster.is_usable(place) { roster.weight(place) } else { 0 };
        self.shares.set(place, u64::from(weight));
    }

    /// Draws one.
    pub fn pick(&mut self, roster: &mut Roster) -> Option<usize> {
        Self::until_taken(roster, || self.shares.of(self.generator.u64(..)))
    }

    /// Draws one, but not `other`.
    pub fn pick_besides(&mut self, other: usize, roster: &mut Roster) -> Option<usize> {
        Self::until_taken(roster, || self.shares.of_others(self.generator.u64(..), other))
    }

    fn until_taken(roster: &mut Roster, mut draw: impl FnMut() -> Option<usize>) -> Option<usize> {
        let mut place = draw()?;
        for _ in 0..PASSES_MAX {
            if roster.warmup.takes_turn(place) {
                break;
            }
            place = draw()?;
        }
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::balance::roster::Fitness;

    fn counts(draw: &mut Draw, roster: &mut Roster, picks: usize) -> Vec<usize> {
        let mut counts = vec![0; roster.count()];
        for _ in 0..picks {
            counts[draw.pick(roster).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn weights_are_met_and_a_missing_share_is_spread() {
        let mut roster = Roster::new(&[3, 1, 4], Duration::ZERO);
        let mut draw = Draw::new(&roster, 1);
        let before = counts(&mut draw, &mut roster, 80_000);
        assert!(
            before.iter().zip([30_000usize, 10_000, 40_000]).all(|(a, b)| a.abs_diff(b) < 1_000),
            "{before:?}"
        );
        roster.set_fitness(2, Fitness::Ailing);
        draw.toggled(2, &roster);
        let after = counts(&mut draw, &mut roster, 80_000);
        assert_eq!(after[2], 0);
        assert!(after[0].abs_diff(60_000) < 1_000, "{after:?}");
    }

    #[test]
    fn one_that_warms_up_takes_part_of_its_share() {
        let mut roster = Roster::new(&[1, 1], Duration::from_secs(10));
        roster.warmup.start(0, 0);
        assert_eq!(roster.warmup.advance(0, 5_000), Some(0));
        let mut draw = Draw::new(&roster, 1);
        let counts = counts(&mut draw, &mut roster, 30_000);
        assert!(counts[0].abs_diff(10_000) < 600, "half a share of one and a half: {counts:?}");
    }

    #[test]
    fn the_same_seed_draws_the_same_and_another_one_does_not() {
        let mut roster = Roster::new(&[1; 50], Duration::ZERO);
        let mut picks = |seed| -> Vec<_> {
            let mut draw = Draw::new(&roster, seed);
            (0..20).map(|_| draw.pick(&mut roster)).collect()
        };
        assert_eq!(picks(1), picks(1));
        assert_ne!(picks(1), picks(2));
    }
}
