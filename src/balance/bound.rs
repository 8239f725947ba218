//! Bounded load: no backend may have more than a factor of its fair share in flight, whatever the keys say.
//!
//! Pure. The fair share is counted over those that may be picked, by weight, with the new request included. So
//! somebody always has room: when everyone had a factor of at least 1 of the share, there would be more in flight
//! than there is.

use super::roster::Roster;

/// The bound of a cluster, if it has one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bound {
    /// The factor in hundredths.
    percent: Option<u32>,
}

impl Bound {
    /// A bound by this factor: 1.25 allows a quarter more than the fair share. Below 1 is 1.
    pub fn new(factor: f64) -> Self {
        Bound { percent: Some((factor * 100.0).round().clamp(100.0, 1e9) as u32) }
    }

    /// True when there is a bound at all.
    pub fn is_set(self) -> bool {
        self.percent.is_some()
    }

    /// True when one more request does not lift this one above the bound, rounded up to a whole request.
    pub fn has_room(self, place: usize, roster: &Roster) -> bool {
        let Some(percent) = self.percent else { return true };
        let together = u128::from(roster.usable_in_flight() + 1);
        let allowed = u128::from(percent) * together * u128::from(roster.weight(place));
        u128::from(roster.in_flight(place)) * 100 * u128::from(roster.usable_weight()) < allowed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn somebody_always_has_room_and_nobody_exceeds_the_bound(
            weights in prop::collection::vec(1u32..9, 1..9),
            factor in prop::sample::select(vec![1.0, 1.05, 1.25, 2.0]),
            choices in prop::collection::vec(any::<prop::sample::Index>(), 0..200),
        ) {
            let mut roster = Roster::new(&weights, Duration::ZERO);
            let bound = Bound::new(factor);
            let sum: u32 = weights.iter().sum();
            for (sent, choice) in choices.iter().enumerate() {
                let open: Vec<_> = (0..weights.len()).filter(|place| bound.has_room(*place, &roster)).collect();
                prop_assert!(!open.is_empty());
                let place = open[choice.index(open.len())];
                roster.set_in_flight(place, roster.in_flight(place) + 1);
                let fair = (sent + 1) as f64 * f64::from(weights[place]) / f64::from(sum);
                prop_assert!(f64::from(roster.in_flight(place)) <= (factor * fair - 1e-9).ceil());
            }
        }
    }
}
