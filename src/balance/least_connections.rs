//! Least connections: whoever would have the least in flight for its weight with one more; equals take turns.
//!
//! Pure. A tournament over the loads knows the winner at once; every request that begins or ends replays the matches
//! of one backend. A backend that warms up counts as if it weighed less, so it is asked while others are busier.

use super::{roster::Roster, tournament::ABSENT, tournament::Tournament};

/// Keeps loads exact: no two different ones of 16-bit weights in hundredths come closer than 2⁻³⁹.
const LOAD_SHIFT: u32 = 39;
/// More in flight than this counts as this.
const IN_FLIGHT_MAX: u32 = (1 << (64 - LOAD_SHIFT)) - 2;

/// The loads of a tier.
#[derive(Debug, Clone)]
pub struct LeastConnections {
    loads: Tournament,
    turns: Turns,
}

impl LeastConnections {
    /// The loads of this roster; `offset` says who is first among equals.
    pub fn new(roster: &Roster, offset: usize) -> Self {
        let mut selector = LeastConnections {
            loads: Tournament::new(roster.count()),
            turns: Turns::new(roster.count(), offset),
        };
        (0..roster.count()).for_each(|place| selector.refresh(place, roster));
        selector
    }

    /// One's load has changed, or whether it may be picked.
    pub fn refresh(&mut self, place: usize, roster: &Roster) {
        let in_flight = roster.in_flight(place).min(IN_FLIGHT_MAX);
        let load = ((u64::from(in_flight) + 1) << LOAD_SHIFT).checked_div(roster.warm_weight(place));
        let load = load.filter(|_| roster.is_usable(place));
        self.loads.set(place, load.map_or(ABSENT, |load| self.turns.key(load, place)));
    }

    /// Picks the one with the least load. It must be refreshed afterwards.
    pub fn pick(&mut self) -> Option<usize> {
        let place = self.loads.winner()?;
        self.turns.take(place);
        Some(place)
    }
}

/// Who had a turn when, so that equals take turns.
#[derive(Debug, Clone)]
pub(super) struct Turns {
    last: Box<[u64]>,
    count: u64,
}

impl Turns {
    /// As if the first `offset` places had just had their turn.
    pub(super) fn new(count: usize, offset: usize) -> Self {
        let offset = offset % count.max(1);
        let last = |place| ((place + count - offset) % count) as u64;
        Turns { last: (0..count).map(last).collect(), count: count as u64 }
    }

    /// One has its turn.
    pub(super) fn take(&mut self, place: usize) {
        if let Some(last) = self.last.get_mut(place) {
            *last = self.count;
        }
        self.count += 1;
    }

    /// A key that orders by score, and equals by turns.
    pub(super) fn key(&self, score: u64, place: usize) -> u128 {
        u128::from(score) << 64 | u128::from(self.last.get(place).copied().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn pick(selector: &mut LeastConnections, roster: &mut Roster) -> Option<usize> {
        let place = selector.pick()?;
        roster.set_in_flight(place, roster.in_flight(place) + 1);
        selector.refresh(place, roster);
        Some(place)
    }

    fn finish(selector: &mut LeastConnections, roster: &mut Roster, place: usize) {
        roster.set_in_flight(place, roster.in_flight(place).saturating_sub(1));
        selector.refresh(place, roster);
    }

    #[test]
    fn five_held_on_one_send_the_next_five_to_the_other() {
        let mut roster = Roster::new(&[1, 1], Duration::ZERO);
        roster.set_in_flight(0, 5);
        let mut selector = LeastConnections::new(&roster, 0);
        let picks: Vec<_> = (0..5).map(|_| pick(&mut selector, &mut roster)).collect();
        assert_eq!(picks, [Some(1); 5]);
    }

    #[test]
    fn equals_take_turns_from_the_offset_on() {
        let mut roster = Roster::new(&[1; 4], Duration::ZERO);
        let mut selector = LeastConnections::new(&roster, 6);
        let mut picks = Vec::new();
        for _ in 0..8 {
            let place = pick(&mut selector, &mut roster).unwrap();
            finish(&mut selector, &mut roster, place);
            picks.push(place);
        }
        assert_eq!(picks, [2, 3, 0, 1, 2, 3, 0, 1]);
    }

    #[test]
    fn held_connections_go_by_weight() {
        let mut roster = Roster::new(&[3, 1], Duration::ZERO);
        let mut selector = LeastConnections::new(&roster, 0);
        (0..400).for_each(|_| _ = pick(&mut selector, &mut roster));
        assert_eq!([roster.in_flight(0), roster.in_flight(1)], [300, 100]);
    }

    #[test]
    fn one_that_warms_up_gets_work_when_the_others_are_busier() {
        let mut roster = Roster::new(&[1, 1], Duration::from_secs(1));
        roster.warmup.start(0, 0);
        let mut selector = LeastConnections::new(&roster, 0);
        (0..110).for_each(|_| _ = pick(&mut selector, &mut roster));
        assert_eq!([roster.in_flight(0), roster.in_flight(1)], [10, 100]);
    }

    proptest! {
        #[test]
        fn a_busier_one_is_never_picked(
            weights in prop::collection::vec(1u32..=65_535, 1..12),
            steps in prop::collection::vec((0u32..4, any::<prop::sample::Index>()), 1..300),
        ) {
            let mut roster = Roster::new(&weights, Duration::ZERO);
            let mut selector = LeastConnections::new(&roster, 0);
            let count = weights.len();
            for (what, index) in steps {
                let place = index.index(count);
                match what {
                    0 => finish(&mut selector, &mut roster, place),
                    1 => {
                        roster.set_full(place, roster.is_usable(place));
                        selector.refresh(place, &roster);
                    }
                    _ => {}
                }
                let load = |place: usize, roster: &Roster| (u64::from(roster.in_flight(place)) + 1, u64::from(weights[place]));
                let before = roster.clone();
                let Some(place) = pick(&mut selector, &mut roster) else {
                    prop_assert_eq!(before.usable_count(), 0);
                    continue;
                };
                prop_assert!(before.is_usable(place));
                let (a, b) = load(place, &before);
                for other in (0..count).filter(|other| before.is_usable(*other)) {
                    let (c, d) = load(other, &before);
                    prop_assert!(a * d <= c * b, "{} rather than {}", place, other);
                }
            }
        }
    }
}
