//! First: the first backend of the list that can take the request. The others stay idle, and can be switched off.
//!
//! Pure.

use super::roster::Roster;

/// Picks the first usable one.
pub fn pick(roster: &Roster) -> Option<usize> {
    roster.usable().next(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::balance::roster::Fitness;

    #[test]
    fn the_next_one_gets_what_the_first_cannot_take() {
        let mut roster = Roster::new(&[1, 1, 1], Duration::ZERO);
        assert_eq!(pick(&roster), Some(0));
        roster.set_full(0, true);
        assert_eq!(pick(&roster), Some(1));
        roster.set_fitness(1, Fitness::Ailing);
        assert_eq!(pick(&roster), Some(2));
        roster.set_fitness(2, Fitness::Out);
        assert_eq!(pick(&roster), None);
        roster.set_full(0, false);
        assert_eq!(pick(&roster), Some(0));
    }
}
