//! A census: how many connections each client has open, over all workers.
//!
//! One table serves all workers. It is a set-associative table of plain atomic words: no locks, nothing allocated after it
//! was made, eight bytes for each client. A client has eight places; who has a connection is never driven out, and when
//! others have taken all eight a newcomer is let in without being counted. A client is known by 44 bits of a keyed hash
//! beside its set, which no two share in practice.

use std::{
    hash::BuildHasher,
    net::IpAddr,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::subject;
use crate::config::plan::admission::CONNECTIONS_PER_CLIENT_MAX;

/// Places of a client.
const WAYS: usize = 8;
const COUNT_BITS: u32 = 20;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
/// Attempts to write among others that write to the same place.
const ATTEMPTS: usize = 256;

// Before it is refused, a connection may be counted for a moment above the limit, one for each worker.
const _: () = assert!((CONNECTIONS_PER_CLIENT_MAX as u64) + 10_000 < COUNT_MASK);

/// One cache line. A word is 44 bits of the client's hash and 20 of its connections; without any the place is free.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Set([AtomicU64; WAYS]);

/// The clients of one listener.
#[derive(Debug)]
pub struct Census {
    sets: Box<[Set]>,
    seed: u64,
}

/// What came of it.
#[derive(Debug)]
pub enum Entry {
    /// Counted for as long as this is kept.
    Counted(Counted),
    /// There is no room to count it.
    Uncounted,
    /// The client has as many as it may have.
    Refused,
}

/// One connection in the count.
#[derive(Debug)]
pub struct Counted {
    census: Arc<Census>,
    set: u32,
    way: u8,
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(place) = self.census.place(self.set as usize, usize::from(self.way)) {
            // A place belongs to its client for as long as it counts anything.
            place.fetch_sub(1, SeqCst);
        }
    }
}

impl Census {
    /// An empty one with room for at least this many clients.
    pub fn new(clients: usize) -> Arc<Self> {
        let sets = clients.div_ceil(WAYS).next_power_of_two().min(1 << 30);
        // Unpredictable, so that nobody can choose addresses that fill a set.
        let seed = std::hash::RandomState::new().hash_one(sets);
        Arc::new(Census { sets: (0..sets).map(|_| Set::default()).collect(), seed })
    }

    /// Counts a connection, unless its client has `max` of them.
    pub fn enter(self: &Arc<Self>, client: IpAddr, max: NonZeroU32) -> Entry {
        let hash = xxh3_64_with_seed(&subject(client), self.seed);
        let (index, tag) = (hash as usize & (self.sets.len() - 1), hash >> COUNT_BITS);
        let max = u64::from(max.get().min(CONNECTIONS_PER_CLIENT_MAX));
        let Some(set) = self.sets.get(index) else { return Entry::Uncounted };
        for _ in 0..ATTEMPTS {
            let Some((way, place, word)) = set.find(tag) else { return Entry::Uncounted };
            if set.count(tag) >= max {
                return Entry::Refused;
            }
            let count = if word >> COUNT_BITS == tag { word & COUNT_MASK } else { 0 };
            let counted = tag << COUNT_BITS | (count + 1);
            if place.compare_exchange(word, counted, SeqCst, SeqCst).is_err() {
                continue;
            }
            let counted = Counted { census: Arc::clone(self), set: index as u32, way: way as u8 };
            // Another worker may have found another place for the same client in the same instant.
            return if set.count(tag) > max { Entry::Refused } else { Entry::Counted(counted) };
        }
        Entry::Uncounted
    }

    /// How many connections are counted. Looks at all places.
    pub fn connections(&self) -> u64 {
        self.sets.iter().flat_map(|set| &set.0).map(|place| place.load(SeqCst) & COUNT_MASK).sum()
    }

    fn place(&self, set: usize, way: usize) -> Option<&AtomicU64> {
        self.sets.get(set)?.0.get(way)
    }
}

impl Set {
    /// Where a client is counted, else where there is room.
    fn find(&self, tag: u64) -> Option<(usize, &AtomicU64, u64)> {
        let places = || self.0.iter().enumerate().map(|(way, place)| (way, place, place.load(SeqCst)));
        let is_free = |word: u64| word & COUNT_MASK == 0;
        let own = places().find(|(_, _, word)| *word >> COUNT_BITS == tag && !is_free(*word));
        own.or_else(|| places().find(|(_, _, word)| is_free(*word)))
    }

    /// A client's connections, in however many places.
    fn count(&self, tag: u64) -> u64 {
        let words = self.0.iter().map(|place| place.load(SeqCst));
        words.filter(|word| word >> COUNT_BITS == tag).map(|word| word & COUNT_MASK).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::atomic::AtomicU32, thread};

    use proptest::prelude::*;

    use super::*;

    fn client(number: u32) -> IpAddr {
        IpAddr::from((0x0a00_0000 + number).to_be_bytes())
    }

    fn max(max: u32) -> NonZeroU32 {
        NonZeroU32::new(max).unwrap()
    }

    #[test]
    fn a_full_table_lets_newcomers_in_and_forgets_nobody() {
        let census = Census::new(WAYS);
        let enter = |number| census.enter(client(number), max(1));
        let kept: Vec<_> = (0..WAYS as u32).map(enter).collect();
        assert!(kept.iter().all(|entry| matches!(entry, Entry::Counted(_))));
        assert!(matches!(enter(100), Entry::Uncounted));
        assert!((0..WAYS as u32).all(|number| matches!(enter(number), Entry::Refused)));
        assert_eq!(census.connections(), WAYS as u64);
        drop(kept);
        assert_eq!(census.connections(), 0);
        assert!(matches!(enter(100), Entry::Counted(_)));
    }

    #[test]
    fn a_panic_takes_its_connection_out_of_the_count() {
        let census = Census::new(64);
        let inner = Arc::clone(&census);
        let outcome = std::panic::catch_unwind(move || {
            let _entry = inner.enter(client(1), max(1));
            assert_eq!(inner.connections(), 1);
            panic!("on purpose");
        });
        assert!(outcome.is_err());
        assert_eq!(census.connections(), 0);
    }

    /// Threads that come and go at once: nobody ever has more than the limit, and in the end nobody has any.
    #[test]
    fn workers_that_count_at_once_never_let_too_many_in() {
        const CLIENTS: usize = 6;
        let (census, open) = (&Census::new(WAYS), &[const { AtomicU32::new(0) }; CLIENTS]);
        let entered = &AtomicU32::new(0);
        thread::scope(|scope| {
            for worker in 0..4usize {
                scope.spawn(move || {
                    let mut held = Vec::new();
                    for step in 0..60_000usize {
                        let number = (worker + step) % CLIENTS;
                        match census.enter(client(number as u32), max(3)) {
                            Entry::Counted(counted) => {
                                assert!(open[number].fetch_add(1, SeqCst) < 3, "too many");
                                held.push((number, counted));
                                entered.fetch_add(1, SeqCst);
                            }
                            // Who comes twice in one instant may get two places, and then there is no room for a moment.
                            Entry::Refused | Entry::Uncounted => {}
                        }
                        if held.len() > step % 5 {
                            let (number, counted) = held.swap_remove(step % held.len());
                            open[number].fetch_sub(1, SeqCst);
                            drop(counted);
                        }
                    }
                    for (number, _counted) in held {
                        open[number].fetch_sub(1, SeqCst);
                    }
                });
            }
        });
        // A worker alone may find every place taken by others that the system has stopped in the midst.
        assert!(entered.load(SeqCst) > 1_000, "hardly anybody came in");
        assert_eq!(census.connections(), 0);
    }

    proptest! {
        #[test]
        fn it_is_a_map_of_counts(steps in prop::collection::vec((0u32..8, any::<bool>()), 0..300), limit in 1u32..5) {
            let census = Census::new(WAYS);
            let mut model: HashMap<u32, Vec<Counted>> = HashMap::new();
            for (number, comes) in steps {
                let open = model.entry(number).or_default();
                if !comes {
                    open.pop();
                    continue;
                }
                match census.enter(client(number), max(limit)) {
                    Entry::Counted(counted) => {
                        prop_assert!(open.len() < limit as usize);
                        open.push(counted);
                    }
                    Entry::Refused => prop_assert_eq!(open.len(), limit as usize),
                    Entry::Uncounted => prop_assert!(false, "there is room for all"),
                }
            }
            prop_assert_eq!(census.connections(), model.values().map(|open| open.len() as u64).sum::<u64>());
        }
    }
}
