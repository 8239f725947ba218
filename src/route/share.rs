//! Shares: which of a route's clusters takes the next request, by weight.
//!
//! Smooth weighted round robin, for each worker its own: 90 to 10 is nine and one in every ten requests, spread out.
//! A cluster whose backends are all down keeps its share: the operator who asked for a canary wants to see it fail.

use crate::config::plan::route::Share;

/// One worker's turns among the clusters of one route.
#[derive(Debug, Clone)]
pub struct Shares {
    turns: Box<[Turn]>,
}

#[derive(Debug, Clone)]
struct Turn {
    cluster: usize,
    weight: i64,
    credit: i64,
}

impl Shares {
    /// As after `offset` turns, a small number: a small share must not be the last one on every worker.
    pub fn new(shares: &[Share], offset: usize) -> Self {
        let turn = |share: &Share| Turn { cluster: share.cluster, weight: share.weight.into(), credit: 0 };
        let mut shares = Shares { turns: shares.iter().map(turn).collect() };
        let cycle: i64 = shares.turns.iter().map(|turn| turn.weight).sum();
        for _ in 0..offset % usize::try_from(cycle).unwrap_or(0).max(1) {
            shares.pick();
        }
        shares
    }

    /// The cluster whose turn it is; `None` when no weight is above zero.
    pub fn pick(&mut self) -> Option<usize> {
        if let [only] = &*self.turns {
            return (only.weight > 0).then_some(only.cluster);
        }
        let mut total = 0;
        let mut best: Option<&mut Turn> = None;
        for turn in self.turns.iter_mut().filter(|turn| turn.weight > 0) {
            total += turn.weight;
            turn.credit += turn.weight;
            if best.as_ref().is_none_or(|best| turn.credit > best.credit) {
                best = Some(turn);
            }
        }
        let best = best?;
        best.credit -= total;
        Some(best.cluster)
    }

    /// Gives a cluster another weight at run time. All begin their turns anew, so that nobody is owed anything under
    /// the old weights.
    pub fn set(&mut self, cluster: usize, weight: u16) {
        for turn in &mut self.turns {
            turn.credit = 0;
            if turn.cluster == cluster {
                turn.weight = weight.into();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shares(weights: &[u16], offset: usize) -> Shares {
        let share = |(cluster, weight): (usize, &u16)| Share { cluster: cluster + 10, weight: *weight };
        Shares::new(&weights.iter().enumerate().map(share).collect::<Vec<_>>(), offset)
    }

    fn counts(shares: &mut Shares, picks: usize, clusters: usize) -> Vec<usize> {
        let mut counts = vec![0; clusters];
        (0..picks).filter_map(|_| shares.pick()).for_each(|cluster| counts[cluster - 10] += 1);
        counts
    }

    #[test]
    fn a_canary_is_spread_out() {
        let mut shares = shares(&[3, 1], 0);
        let picks: Vec<_> = (0..8).filter_map(|_| shares.pick()).collect();
        assert_eq!(picks, [10, 10, 11, 10, 10, 10, 11, 10]);
    }

    #[test]
    fn weights_change_at_run_time_and_zero_drains() {
        let mut shares = shares(&[100, 0], 3);
        assert_eq!(counts(&mut shares, 50, 2), [50, 0]);
        shares.set(10, 90);
        shares.set(11, 10);
        assert_eq!(counts(&mut shares, 100, 2), [90, 10]);
        shares.set(10, 0);
        assert_eq!(counts(&mut shares, 50, 2), [0, 50]);
        shares.set(11, 0);
        assert_eq!(shares.pick(), None);
    }

    #[test]
    fn nobody_has_a_share() {
        assert_eq!(shares(&[], 5).pick(), None);
        assert_eq!(shares(&[0], 5).pick(), None);
        assert_eq!(shares(&[0, 0], 5).pick(), None);
        assert_eq!(shares(&[7], 5).pick(), Some(10));
    }

    proptest! {
        #[test]
        fn weights_are_met_exactly_over_a_cycle(weights in prop::collection::vec(0u16..12, 0..6), offset in 0usize..200) {
            let cycle: usize = weights.iter().map(|weight| usize::from(*weight)).sum();
            let wanted: Vec<_> = weights.iter().map(|weight| usize::from(*weight)).collect();
            let mut shares = shares(&weights, offset);
            for _ in 0..3 {
                prop_assert_eq!(&counts(&mut shares, cycle, weights.len()), &wanted);
            }
        }

        #[test]
        fn no_share_is_ever_far_from_its_part(weights in prop::collection::vec(0u16..100, 1..5), picks in 1usize..300) {
            let cycle: usize = weights.iter().map(|weight| usize::from(*weight)).sum();
            let counts = counts(&mut shares(&weights, 0), picks, weights.len());
            for (count, weight) in counts.iter().zip(&weights) {
                let part = picks as f64 * f64::from(*weight) / cycle.max(1) as f64;
                prop_assert!((*count as f64 - part).abs() <= weights.len() as f64, "{count} instead of {part}");
            }
        }
    }
}
