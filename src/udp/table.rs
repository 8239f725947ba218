//! A bounded table of sessions by flow, in the order of their last use.
//!
//! Pure: time is an argument. Finding, touching and forgetting take constant time, and only a new session can allocate.

use std::{collections::HashMap, hash::Hash};

use crate::io::alarm::Millis;

/// Names a session for as long as it lives; a later one at the same place has another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token {
    place: u32,
    generation: u32,
}

impl Token {
    /// As a number, for the kernel to keep.
    pub fn number(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.place)
    }

    /// From that number.
    pub fn from_number(number: u64) -> Self {
        Token { place: number as u32, generation: (number >> 32) as u32 }
    }
}

/// No place: the end of a list.
const NONE: u32 = u32::MAX;

struct Place<K, S> {
    generation: u32,
    /// Towards the stalest.
    before: u32,
    /// Towards the freshest; in a free place, the next free one.
    after: u32,
    used: Millis,
    entry: Option<(K, S)>,
}

/// Sessions of type `S` by flows of type `K`.
pub struct Table<K, S> {
    max: usize,
    places: Vec<Place<K, S>>,
    index: HashMap<K, u32>,
    stalest: u32,
    freshest: u32,
    free: u32,
}

impl<K: Copy + Eq + Hash, S> Table<K, S> {
    /// An empty table for at most `max` sessions.
    pub fn new(max: usize) -> Self {
        let (places, index) = (Vec::new(), HashMap::new());
        let mut table = Table { max, places, index, stalest: NONE, freshest: NONE, free: NONE };
        table.bound(max);
        table
    }

    /// There may be at most `max` sessions, at least one, from now on; those that are more stay until they are forgotten.
    pub fn bound(&mut self, max: usize) {
        self.max = max.clamp(1, NONE as usize);
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// True when a new session would need the place of another.
    pub fn is_full(&self) -> bool {
        self.len() >= self.max
    }

    /// The session of a flow.
    pub fn find(&self, key: &K) -> Option<Token> {
        let place = *self.index.get(key)?;
        self.places.get(place as usize).map(|found| Token { place, generation: found.generation })
    }

    /// A session, if it still lives.
    pub fn get(&self, token: Token) -> Option<&S> {
        let place =
            self.places.get(token.place as usize).filter(|place| place.generation == token.generation)?;
        place.entry.as_ref().map(|(_, session)| session)
    }

    /// As [`Self::get`], to change it.
    pub fn get_mut(&mut self, token: Token) -> Option<&mut S> {
        self.at(token)?.entry.as_mut().map(|(_, session)| session)
    }

    /// Notes that a session was used.
    pub fn touch(&mut self, token: Token, now: Millis) {
        let Some(place) = self.at(token) else { return };
        // Among those used in the same moment the order means nothing.
        if place.used != now {
            place.used = now;
            self.unlink(token.place);
            self.append(token.place);
        }
    }

    /// Adds a session for a flow that has none. A full table, or a flow that has one, gives it back.
    pub fn insert(&mut self, key: K, session: S, now: Millis) -> Result<Token, S> {
        if self.is_full() || self.index.contains_key(&key) {
            return Err(session);
        }
        let place = match self.places.get(self.free as usize) {
            Some(free) => std::mem::replace(&mut self.free, free.after),
            None => {
                let fresh = Place { generation: 0, before: NONE, after: NONE, used: 0, entry: None };
                self.places.push(fresh);
                (self.places.len() - 1) as u32
            }
        };
        let mut generation = 0;
        if let Some(taken) = self.places.get_mut(place as usize) {
            generation = taken.generation;
            (taken.used, taken.entry) = (now, Some((key, session)));
        }
        self.index.insert(key, place);
        self.append(place);
        Ok(Token { place, generation })
    }

    /// Forgets a session.
    pub fn remove(&mut self, token: Token) -> Option<S> {
        let free = self.free;
        let place = self.at(token)?;
        let (key, session) = place.entry.take()?;
        self.unlink(token.place);
        if let Some(place) = self.places.get_mut(token.place as usize) {
            place.generation = place.generation.wrapping_add(1);
            place.after = free;
        }
        self.free = token.place;
        self.index.remove(&key);
        Some(session)
    }

    /// The session that was used longest ago, and when that was.
    pub fn stalest(&self) -> Option<(Token, Millis)> {
        let found = self.places.get(self.stalest as usize)?;
        Some((Token { place: self.stalest, generation: found.generation }, found.used))
    }

    /// Forgets the session that was used longest ago.
    pub fn evict(&mut self) -> Option<S> {
        let (token, _) = self.stalest()?;
        self.remove(token)
    }

    /// Forgets one session that has not been used for `idle`; to be asked until there is none.
    pub fn expire(&mut self, idle: Millis, now: Millis) -> Option<S> {
        let (token, used) = self.stalest()?;
        if now.saturating_sub(used) < idle { None } else { self.remove(token) }
    }

    fn at(&mut self, token: Token) -> Option<&mut Place<K, S>> {
        self.places.get_mut(token.place as usize).filter(|place| place.generation == token.generation)
    }

    /// Takes a place out of the order.
    fn unlink(&mut self, place: u32) {
        let Some((before, after)) = self.places.get(place as usize).map(|place| (place.before, place.after))
        else {
            return;
        };
        match self.places.get_mut(before as usize) {
            Some(before) => before.after = after,
            None => self.stalest = after,
        }
        match self.places.get_mut(after as usize) {
            Some(after) => after.before = before,
            None => self.freshest = before,
        }
    }

    /// Makes a place the freshest.
    fn append(&mut self, place: u32) {
        let last = std::mem::replace(&mut self.freshest, place);
        if let Some(place) = self.places.get_mut(place as usize) {
            (place.before, place.after) = (last, NONE);
        }
        match self.places.get_mut(last as usize) {
            Some(last) => last.after = place,
            None => self.stalest = place,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        /// A datagram of this flow: find and touch, or evict and insert.
        Use(u8),
        Remove(u8),
        Bound(usize),
        Expire,
        Wait(Millis),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => any::<u8>().prop_map(|key| Step::Use(key % 12)),
            1 => any::<u8>().prop_map(|key| Step::Remove(key % 12)),
            1 => (1..9usize).prop_map(Step::Bound),
            2 => Just(Step::Expire),
            3 => (0..40u64).prop_map(Step::Wait),
        ]
    }

    const IDLE: Millis = 50;

    proptest! {
        #[test]
        fn it_does_what_a_simple_list_does(first in 1usize..9, steps in prop::collection::vec(step(), 0..300)) {
            let (mut max, mut table) = (first, Table::new(first));
            // Key, session and last use, stalest first; those of one moment in any order.
            let mut model: Vec<(u8, usize, Millis)> = Vec::new();
            let mut now = 0;
            let mut dead = HashSet::new();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Use(key) => match (table.find(&key), model.iter_mut().find(|entry| entry.0 == key)) {
                        (Some(token), Some(entry)) => {
                            prop_assert_eq!(table.get_mut(token), Some(&mut entry.1));
                            table.touch(token, now);
                            entry.2 = now;
                            prop_assert!(table.insert(key, number, now).is_err());
                        }
                        (None, None) => {
                            prop_assert_eq!(table.is_full(), model.len() >= max);
                            while table.is_full() {
                                prop_assert!(table.insert(key, number, now).is_err());
                                let token = table.stalest().unwrap().0;
                                let evicted = table.evict().unwrap();
                                dead.insert(token);
                                let oldest = model.iter().map(|entry| entry.2).min().unwrap();
                                let place = model.iter().position(|entry| entry.1 == evicted).unwrap();
                                prop_assert_eq!(model.remove(place).2, oldest);
                            }
                            let token = table.insert(key, number, now).unwrap();
                            prop_assert!(!dead.contains(&token));
                            prop_assert_eq!(Token::from_number(token.number()), token);
                            model.push((key, number, now));
                        }
                        (found, entry) => prop_assert!(false, "{:?} but {:?}", found, entry),
                    },
                    Step::Remove(key) => if let Some(token) = table.find(&key) {
                        let place = model.iter().position(|entry| entry.0 == key).unwrap();
                        prop_assert_eq!(table.remove(token), Some(model.remove(place).1));
                        prop_assert_eq!(table.remove(token), None);
                        dead.insert(token);
                    },
                    Step::Bound(other) => {
                        table.bound(other);
                        max = other;
                    }
                    Step::Expire => {
                        while let Some(session) = table.expire(IDLE, now) {
                            let place = model.iter().position(|entry| entry.1 == session).unwrap();
                            prop_assert!(now - model.remove(place).2 >= IDLE);
                        }
                        prop_assert!(model.iter().all(|entry| now - entry.2 < IDLE), "kept too long");
                    }
                    Step::Wait(time) => now += time,
                }
                prop_assert_eq!(table.len(), model.len());
                prop_assert!(table.places.len() <= 8, "places are used again");
                prop_assert_eq!(table.stalest().map(|of| of.1), model.iter().map(|entry| entry.2).min());
                for (key, session, _) in &mut model {
                    let token = table.find(key).unwrap();
                    prop_assert_eq!(table.get_mut(token), Some(session));
                }
                for token in &dead {
                    prop_assert!(table.get_mut(*token).is_none());
                }
            }
        }
    }
}
