//! A tournament: the smallest of many keys, known at once and kept in logarithmic time.
//!
//! Pure. A match between two is replayed only when one of them changes; a tie goes to the lower place.

use super::steps::step;

/// The key of someone who does not take part.
pub const ABSENT: u128 = u128::MAX;

/// Keys and who leads among them.
#[derive(Debug, Clone)]
pub struct Tournament {
    keys: Box<[u128]>,
    /// A binary tree, root at 1: who wins below each node. The leaves, from `leaves` on, are the players.
    winners: Box<[u32]>,
    leaves: usize,
}

impl Tournament {
    /// As many places, all absent.
    pub fn new(count: usize) -> Self {
        let leaves = count.next_power_of_two();
        let mut winners = vec![0; 2 * leaves].into_boxed_slice();
        for (place, winner) in winners.iter_mut().skip(leaves).enumerate() {
            *winner = place as u32;
        }
        let mut tournament = Tournament { keys: vec![ABSENT; count].into(), winners, leaves };
        for node in (1..leaves).rev() {
            tournament.play(node);
        }
        tournament
    }

    /// Sets one key.
    pub fn set(&mut self, place: usize, key: u128) {
        let Some(slot) = self.keys.get_mut(place) else { return };
        *slot = key;
        let mut node = (self.leaves + place) >> 1;
        while node > 0 {
            let before = self.winners.get(node).copied();
            let after = self.play(node);
            if before == after && after != Some(place as u32) {
                return;
            }
            node >>= 1;
        }
    }

    /// One's key.
    pub fn key(&self, place: usize) -> u128 {
        self.keys.get(place).copied().unwrap_or(ABSENT)
    }

    /// Who has the smallest key, unless all are absent.
    pub fn winner(&self) -> Option<usize> {
        let winner = self.winners.get(1).map(|winner| *winner as usize)?;
        (self.key(winner) != ABSENT).then_some(winner)
    }

    /// Decides the match at `node` anew.
    fn play(&mut self, node: usize) -> Option<u32> {
        step();
        let left = self.winners.get(2 * node).copied()?;
        let right = self.winners.get(2 * node + 1).copied()?;
        let winner = if self.key(right as usize) < self.key(left as usize) { right } else { left };
        *self.winners.get_mut(node)? = winner;
        Some(winner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nobody_wins_among_the_absent() {
        for count in [0, 1, 2, 5] {
            assert_eq!(Tournament::new(count).winner(), None);
        }
    }

    proptest! {
        #[test]
        fn the_smallest_key_wins(count in 1usize..70, steps in prop::collection::vec((0usize..70, prop::option::of(0u128..20)), 1..200)) {
            let mut tournament = Tournament::new(count);
            let mut model = vec![ABSENT; count];
            for (place, key) in steps {
                model[place % count] = key.unwrap_or(ABSENT);
                tournament.set(place % count, key.unwrap_or(ABSENT));
                let smallest = model.iter().min().copied().unwrap();
                let expected = model.iter().position(|key| *key == smallest).filter(|_| smallest != ABSENT);
                prop_assert_eq!(tournament.winner(), expected);
            }
        }
    }
}
