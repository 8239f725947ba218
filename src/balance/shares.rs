//! Shares of a whole: draws one of many in proportion to its weight, in logarithmic time.
//!
//! Pure. A Fenwick tree of partial sums. Which one a number falls to depends on the weights alone, never on the
//! order in which they were set, so every worker and every instance agrees.

use super::steps::step;

/// Weights and their sums.
#[derive(Debug, Clone)]
pub struct Shares {
    weights: Box<[u64]>,
    /// At `i`, the sum of the weights from `i - (i & -i)` up to `i - 1`.
    sums: Box<[u64]>,
    total: u64,
    /// The largest power of two that is not above the number of weights.
    stride: usize,
}

impl Shares {
    /// As many weights of zero.
    pub fn new(count: usize) -> Self {
        let stride = if count == 0 { 0 } else { 1 << count.ilog2() };
        Shares { weights: vec![0; count].into(), sums: vec![0; count + 1].into(), total: 0, stride }
    }

    /// Sets one weight.
    pub fn set(&mut self, place: usize, weight: u64) {
        let Some(old) = self.weights.get_mut(place) else { return };
        // Sums wrap on the way only: what goes below zero here comes back.
        let change = weight.wrapping_sub(*old);
        *old = weight;
        self.total = self.total.wrapping_add(change);
        let mut at = place + 1;
        while let Some(sum) = self.sums.get_mut(at) {
            *sum = sum.wrapping_add(change);
            at += at & at.wrapping_neg();
        }
    }

    /// The sum of all weights.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Whose share the number falls in, and where in it; `number` must be below [`Shares::total`].
    pub fn find(&self, number: u64) -> Option<(usize, u64)> {
        if number >= self.total {
            return None;
        }
        let (mut at, mut rest, mut stride) = (0, number, self.stride);
        while stride > 0 {
            step();
            if let Some(sum) = self.sums.get(at + stride)
                && *sum <= rest
            {
                rest -= sum;
                at += stride;
            }
            stride >>= 1;
        }
        Some((at, rest))
    }

    /// Whose share a number drawn from all 2⁶⁴ falls in.
    pub fn of(&self, drawn: u64) -> Option<usize> {
        self.find(scale(drawn, self.total)).map(|(place, _)| place)
    }

    /// As [`Shares::of`], but never `other`.
    pub fn of_others(&self, drawn: u64, other: usize) -> Option<usize> {
        let own = self.weights.get(other).copied().unwrap_or(0);
        let number = scale(drawn, self.total - own);
        let (place, _) = self.find(number)?;
        // Others that lie behind it are found by stepping over its share.
        if place < other { Some(place) } else { self.find(number + own).map(|(place, _)| place) }
    }
}

/// Maps a number drawn from all 2⁶⁴ to one below `limit`.
pub fn scale(drawn: u64, limit: u64) -> u64 {
    ((u128::from(drawn) * u128::from(limit)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shares(weights: &[u64]) -> Shares {
        let mut shares = Shares::new(weights.len());
        for (place, weight) in weights.iter().enumerate() {
            shares.set(place, *weight);
        }
        shares
    }

    #[test]
    fn nothing_to_share_falls_to_nobody() {
        assert_eq!(Shares::new(0).of(7), None);
        assert_eq!(shares(&[0, 0]).of(7), None);
        assert_eq!(shares(&[3]).of_others(7, 0), None);
    }

    proptest! {
        #[test]
        fn everyone_has_exactly_its_share(weights in prop::collection::vec(0u64..6, 1..40), changed in prop::collection::vec((0usize..40, 0u64..6), 0..20)) {
            let (mut weights, mut shares) = (weights.clone(), shares(&weights));
            for (place, weight) in changed {
                let place = place % weights.len();
                weights[place] = weight;
                shares.set(place, weight);
            }
            prop_assert_eq!(shares.total(), weights.iter().sum::<u64>());
            let mut counts = vec![0; weights.len()];
            for number in 0..shares.total() {
                let (place, within) = shares.find(number).unwrap();
                prop_assert!(within < weights[place]);
                counts[place] += 1;
            }
            prop_assert_eq!(counts, weights);
        }

        #[test]
        fn others_share_as_if_one_were_missing(weights in prop::collection::vec(0u64..6, 2..20), other in 0usize..20, drawn in any::<u64>()) {
            let other = other % weights.len();
            let mut without = weights.clone();
            without[other] = 0;
            prop_assert_eq!(shares(&weights).of_others(drawn, other), shares(&without).of(drawn));
        }
    }
}
