//! Smooth weighted round robin: every backend gets its share, and a heavy one's turns are spread out.
//!
//! Each pick raises every usable backend's credit by its weight, takes the one with the highest credit and
//! charges it the sum of the weights. A backend that is not usable neither earns nor pays, so its share is
//! spread evenly over the others instead of falling to its neighbour.

/// The credits of one cluster's backends.
#[derive(Debug, Clone)]
pub struct RoundRobin {
    backends: Vec<Credit>,
}

#[derive(Debug, Clone)]
struct Credit {
    weight: i64,
    credit: i64,
}

impl RoundRobin {
    /// All credits as after `offset` picks, so that several workers do not begin with the same backend.
    pub fn new(weights: impl Iterator<Item = u16>, offset: usize) -> Self {
        let backends: Vec<_> =
            weights.map(|weight| Credit { weight: i64::from(weight), credit: 0 }).collect();
        let mut selector = RoundRobin { backends };
        for _ in 0..offset % selector.backends.len().max(1) {
            selector.pick(|_| true);
        }
        selector
    }

    /// Picks the usable backend whose turn it is; weight 0 is never usable.
    pub fn pick(&mut self, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let mut best: Option<(usize, i64)> = None;
        let mut sum = 0;
        for (index, backend) in self.backends.iter_mut().enumerate() {
            if backend.weight > 0 && usable(index) {
                sum += backend.weight;
                backend.credit += backend.weight;
                if best.is_none_or(|(_, credit)| backend.credit > credit) {
                    best = Some((index, backend.credit));
                }
            }
        }
        let (index, _) = best?;
        if let Some(backend) = self.backends.get_mut(index) {
            backend.credit -= sum;
        }
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn three_to_one_is_spread_out() {
        let mut selector = RoundRobin::new([3, 1].into_iter(), 0);
        let picks: Vec<_> = (0..8).map(|_| selector.pick(|_| true).unwrap()).collect();
        assert_eq!(picks, [0, 0, 1, 0, 0, 0, 1, 0]);
    }

    #[test]
    fn offsets_begin_at_different_backends() {
        let first: Vec<_> =
            (0..3).map(|offset| RoundRobin::new([1; 3].into_iter(), offset).pick(|_| true)).collect();
        assert_eq!(first, [Some(0), Some(1), Some(2)]);
    }

    #[test]
    fn nobody_usable_is_nobody() {
        assert_eq!(RoundRobin::new([1, 1].into_iter(), 0).pick(|_| false), None);
        assert_eq!(RoundRobin::new([0].into_iter(), 0).pick(|_| true), None);
        assert_eq!(RoundRobin::new([].into_iter(), 7).pick(|_| true), None);
    }

    proptest! {
        #[test]
        fn weights_are_met_exactly_over_a_cycle(weights in prop::collection::vec(1u16..9, 1..7), offset in 0usize..20) {
            let mut selector = RoundRobin::new(weights.iter().copied(), offset);
            let cycle: usize = weights.iter().map(|w| usize::from(*w)).sum();
            let mut counts = vec![0u16; weights.len()];
            for _ in 0..cycle {
                counts[selector.pick(|_| true).unwrap()] += 1;
            }
            prop_assert_eq!(counts, weights);
        }

        #[test]
        fn the_share_of_an_unusable_one_is_spread_evenly(count in 2usize..8, dead in 0usize..8) {
            let dead = dead % count;
            let mut selector = RoundRobin::new(vec![1; count].into_iter(), 0);
            let mut counts = vec![0usize; count];
            for _ in 0..(count - 1) * 10 {
                counts[selector.pick(|index| index != dead).unwrap()] += 1;
            }
            let expected: Vec<_> = (0..count).map(|index| if index == dead { 0 } else { 10 }).collect();
            prop_assert_eq!(counts, expected);
        }
    }
}
