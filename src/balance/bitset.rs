//! A set of small numbers that finds its next member at a cost that does not depend on how sparse it is.
//!
//! Pure. Words of 64 bits, and above them levels in which a bit says that the word below has any: three levels
//! reach 262 144 numbers.

use super::steps::step;

/// A set of the numbers below a fixed length.
#[derive(Debug, Clone)]
pub struct BitSet {
    /// The members first, then one level of summary after the other; the last one is a single word.
    levels: Vec<Box<[u64]>>,
}

impl BitSet {
    /// No number below `length`.
    pub fn new(length: usize) -> Self {
        let mut levels = Vec::new();
        let mut bits = length;
        loop {
            let words = bits.div_ceil(64).max(1);
            levels.push(vec![0; words].into_boxed_slice());
            if words == 1 {
                return BitSet { levels };
            }
            bits = words;
        }
    }

    /// Every number below `length`.
    pub fn full(length: usize) -> Self {
        let mut set = Self::new(length);
        let mut bits = length;
        for level in &mut set.levels {
            for (at, word) in level.iter_mut().enumerate() {
                let rest = bits.saturating_sub(64 * at);
                *word = if rest >= 64 { u64::MAX } else { (1 << rest) - 1 };
            }
            bits = bits.div_ceil(64);
        }
        set
    }

    /// Adds `number`; one that is too large is ignored.
    pub fn insert(&mut self, number: usize) {
        let mut at = number;
        for level in &mut self.levels {
            let Some(word) = level.get_mut(at >> 6) else { return };
            let was_empty = *word == 0;
            *word |= 1 << (at & 63);
            if !was_empty {
                return;
            }
            at >>= 6;
        }
    }

    /// Takes `number` out.
    pub fn remove(&mut self, number: usize) {
        let mut at = number;
        for level in &mut self.levels {
            let Some(word) = level.get_mut(at >> 6) else { return };
            *word &= !(1 << (at & 63));
            if *word != 0 {
                return;
            }
            at >>= 6;
        }
    }

    /// True when `number` is in it.
    pub fn contains(&self, number: usize) -> bool {
        let word = self.levels.first().and_then(|level| level.get(number >> 6));
        word.is_some_and(|word| word & (1 << (number & 63)) != 0)
    }

    /// The smallest member that is not below `from`.
    pub fn next(&self, from: usize) -> Option<usize> {
        let (mut height, mut at) = (0, from);
        loop {
            step();
            let word = self.levels.get(height)?.get(at >> 6)?;
            let rest = word & (u64::MAX << (at & 63));
            if rest != 0 {
                at = (at & !63) | rest.trailing_zeros() as usize;
                break;
            }
            at = (at >> 6) + 1;
            height += 1;
        }
        for level in self.levels.get(..height)?.iter().rev() {
            step();
            at = (at << 6) | level.get(at)?.trailing_zeros() as usize;
        }
        Some(at)
    }

    /// The smallest member that is not below `from`, or else the smallest of all.
    pub fn next_around(&self, from: usize) -> Option<usize> {
        self.next(from).or_else(|| self.next(0))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_empty_set_has_no_next() {
        for length in [0, 1, 64, 65, 5000] {
            assert_eq!(BitSet::new(length).next(0), None);
            assert_eq!(BitSet::new(length).next_around(length), None);
            assert_eq!(BitSet::full(length).next(length), None);
        }
    }

    #[test]
    fn one_member_of_a_million_is_found_from_everywhere() {
        let mut set = BitSet::new(1_000_000);
        set.insert(777_777);
        for from in [0, 1, 63, 64, 4095, 4096, 777_776, 777_777] {
            assert_eq!(set.next(from), Some(777_777));
        }
        assert_eq!(set.next(777_778), None);
        assert_eq!(set.next_around(777_778), Some(777_777));
    }

    proptest! {
        #[test]
        fn it_is_a_set(full in any::<bool>(), length in 1usize..9000, steps in prop::collection::vec((any::<bool>(), 0usize..9000), 0..200), from in 0usize..9100) {
            let (mut set, mut model) = (BitSet::new(length), BTreeSet::new());
            if full {
                (set, model) = (BitSet::full(length), (0..length).collect());
            }
            for (insert, number) in steps {
                let number = number % length;
                if insert {
                    set.insert(number);
                    model.insert(number);
                } else {
                    set.remove(number);
                    model.remove(&number);
                }
                prop_assert_eq!(set.contains(number), model.contains(&number));
            }
            prop_assert_eq!(set.next(from), model.range(from..).next().copied());
            let around = model.range(from..).next().or(model.first()).copied();
            prop_assert_eq!(set.next_around(from), around);
        }
    }
}
