//! Affinity: which backend a client address was last sent to, for as long as a time limit since then.
//!
//! One table serves all workers, because the kernel spreads one client's connections over them: a table for each worker
//! would pin a client to as many backends. It is a set-associative cache of plain atomic words: no locks, nothing
//! allocated after it was made, eight bytes for each client, and a look-up touches one cache line. A word carries its whole
//! meaning, so no order among words matters, and a lost race only means that one of two pins of the same moment stays.
//!
//! Its size is a bound. A client has eight places; when others have taken them all since, the one unused for the longest
//! time is forgotten. With room for twice the clients that are there at a time this happens to about two in a hundred.
//! A client is known by 20 bits of a keyed hash beside its set: one new client in about 130 000 is taken for another one
//! and inherits its backend, which does no harm.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::io::alarm::{self, Millis};

/// Places of a client.
const WAYS: usize = 8;
const STAMP_BITS: u32 = 28;
const STAMP_MASK: u64 = (1 << STAMP_BITS) - 1;
const BACKEND_BITS: u32 = 16;
const BACKENDS_MAX: usize = (1 << BACKEND_BITS) - 1;
/// The time limit is kept to a part in so many.
const TICKS: Millis = 1024;
/// Attempts to write among others that write to the same place.
const ATTEMPTS: usize = 4;

const _: () = assert!(STAMP_MASK > 1000 * TICKS);

/// One cache line. A word is 0, or 20 bits of the client's hash, 16 of its backend (from 1), 28 of the last use.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Set([AtomicU64; WAYS]);

/// The clients of one cluster.
#[derive(Debug)]
pub struct Affinity {
    sets: Box<[Set]>,
    seed: u64,
    /// Unit of the stamps.
    tick: Millis,
    /// The time limit in ticks.
    limit: u64,
}

/// A word taken apart.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Pin {
    tag: u64,
    backend: usize,
    stamp: u64,
}

impl Pin {
    fn from_word(word: u64) -> Option<Self> {
        let backend = (word >> STAMP_BITS) as usize & BACKENDS_MAX;
        let (tag, stamp) = (word >> (STAMP_BITS + BACKEND_BITS), word & STAMP_MASK);
        Some(Pin { tag, backend: backend.checked_sub(1)?, stamp })
    }

    fn word(self) -> u64 {
        let backend = self.backend as u64 + 1;
        self.tag << (STAMP_BITS + BACKEND_BITS) | backend << STAMP_BITS | self.stamp
    }
}

impl Affinity {
    /// A table for at least this many clients, each remembered for `limit` after its last use. The seed is to be
    /// unpredictable, so that nobody can choose addresses that drive out others.
    pub fn new(clients: usize, limit: Duration, seed: u64) -> Self {
        let limit = alarm::millis(limit);
        let tick = (limit / TICKS).max(1);
        let sets = clients.div_ceil(WAYS).next_power_of_two();
        Affinity {
            sets: (0..sets).map(|_| Set::default()).collect(),
            seed,
            tick,
            limit: limit.div_ceil(tick),
        }
    }

    /// The backend this client is pinned to; counts as a use.
    pub fn find(&self, client: IpAddr, now: Millis) -> Option<usize> {
        let (set, tag) = self.place(client)?;
        let now = self.stamp(now);
        for place in &set.0 {
            let word = place.load(Relaxed);
            let Some(pin) = Pin::from_word(word).filter(|pin| pin.tag == tag) else { continue };
            let age = self.age(pin, now)?;
            if age > 0 {
                // If somebody else was faster, it has been used or pinned anew.
                let _ = place.compare_exchange(word, Pin { stamp: now, ..pin }.word(), Relaxed, Relaxed);
            }
            return Some(pin.backend);
        }
        None
    }

    /// Pins a client to a backend, anew if it was pinned.
    pub fn pin(&self, client: IpAddr, backend: usize, now: Millis) {
        let Some((set, tag)) = self.place(client).filter(|_| backend < BACKENDS_MAX) else { return };
        let pin = Pin { tag, backend, stamp: self.stamp(now) };
        for _ in 0..ATTEMPTS {
            let Some((place, word)) = self.best(set, pin) else { return };
            if place.compare_exchange(word, pin.word(), Relaxed, Relaxed).is_ok() {
                return;
            }
        }
    }

    /// Where a pin goes: to the client's own place, else to an empty or expired one, else to the one unused for longest.
    fn best<'s>(&self, set: &'s Set, pin: Pin) -> Option<(&'s AtomicU64, u64)> {
        let cost = |word: u64| match Pin::from_word(word) {
            Some(other) if other.tag == pin.tag => 0,
            Some(other) => self.age(other, pin.stamp).map_or(1, |age| STAMP_MASK - age),
            None => 1,
        };
        let places = set.0.iter().map(|place| (place, place.load(Relaxed)));
        places.min_by_key(|(_, word)| cost(*word))
    }

    /// How many clients are remembered. Looks at all of them.
    pub fn clients(&self, now: Millis) -> usize {
        let now = self.stamp(now);
        self.pins().filter(|(_, _, pin)| self.age(*pin, now).is_some()).count()
    }

    /// The same clients for other backends: `moved` has the new index of each old one that is still there.
    pub fn moved(&self, moved: &[Option<usize>]) -> Affinity {
        let sets: Box<[Set]> = self.sets.iter().map(|_| Set::default()).collect();
        for (set, way, pin) in self.pins() {
            let place = sets.get(set).and_then(|set| set.0.get(way));
            let backend = moved.get(pin.backend).copied().flatten().filter(|backend| *backend < BACKENDS_MAX);
            if let (Some(place), Some(backend)) = (place, backend) {
                place.store(Pin { backend, ..pin }.word(), Relaxed);
            }
        }
        Affinity { sets, ..*self }
    }

    /// Everything there is, with its place.
    fn pins(&self) -> impl Iterator<Item = (usize, usize, Pin)> {
        self.sets.iter().enumerate().flat_map(|(index, set)| {
            let pin = move |(way, place): (usize, &AtomicU64)| {
                Some((index, way, Pin::from_word(place.load(Relaxed))?))
            };
            set.0.iter().enumerate().filter_map(pin)
        })
    }

    /// A client's set, and what it is known by there.
    fn place(&self, client: IpAddr) -> Option<(&Set, u64)> {
        let octets = match client {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        let hash = xxh3_64_with_seed(&octets, self.seed);
        let set = self.sets.get(hash as usize & (self.sets.len() - 1))?;
        Some((set, hash >> (STAMP_BITS + BACKEND_BITS)))
    }

    fn stamp(&self, now: Millis) -> u64 {
        (now / self.tick) & STAMP_MASK
    }

    /// Ticks since a pin was used; `None` when that is too long ago. Another worker's clock may be a little ahead.
    fn age(&self, pin: Pin, now: u64) -> Option<u64> {
        let age = now.wrapping_sub(pin.stamp) & STAMP_MASK;
        let ahead = STAMP_MASK + 1 - age;
        if age <= self.limit { Some(age) } else { (ahead <= self.limit).then_some(0) }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, net::Ipv6Addr, thread};

    use proptest::prelude::*;

    use super::*;

    fn client(number: u32) -> IpAddr {
        IpAddr::from((0x0a00_0000 + number).to_be_bytes())
    }

    const THREE_HOURS: Duration = Duration::from_secs(3 * 3600);

    #[test]
    fn a_pin_lasts_for_the_limit_after_its_last_use() {
        let table = Affinity::new(1000, THREE_HOURS, 1);
        let (hour, start) = (3_600_000, 77_777);
        table.pin(client(1), 5, start);
        assert_eq!(table.find(client(2), start), None);
        assert_eq!(table.find(client(1), start + 2 * hour), Some(5));
        assert_eq!(table.find(client(1), start + 5 * hour), Some(5), "it was used in between");
        assert_eq!(table.clients(start + 8 * hour), 1);
        assert_eq!(table.find(client(1), start + 8 * hour + hour / 10), None);
        assert_eq!(table.clients(start + 8 * hour + hour / 10), 0);
    }

    #[test]
    fn a_moved_client_is_pinned_anew() {
        let table = Affinity::new(8, THREE_HOURS, 1);
        table.pin(client(1), 5, 0);
        table.pin(client(1), 6, 0);
        assert_eq!((table.find(client(1), 0), table.clients(0)), (Some(6), 1));
        table.pin(client(2), usize::MAX, 0);
        assert_eq!(table.find(client(2), 0), None);
    }

    #[test]
    fn a_mapped_address_is_the_same_client() {
        let table = Affinity::new(8, THREE_HOURS, 1);
        table.pin("192.0.2.1".parse().unwrap(), 5, 0);
        assert_eq!(table.find("::ffff:192.0.2.1".parse().unwrap(), 0), Some(5));
        assert_eq!(table.find(IpAddr::V6(Ipv6Addr::LOCALHOST), 0), None);
    }

    #[test]
    fn a_reload_moves_the_pins_with_their_backends() {
        let table = Affinity::new(1000, THREE_HOURS, 1);
        (0..100).for_each(|number| table.pin(client(number), number as usize % 3, 9));
        let moved = table.moved(&[Some(2), None, Some(0)]);
        for number in 0..100 {
            let wanted = [Some(2), None, Some(0)][number as usize % 3];
            assert_eq!(moved.find(client(number), 9), wanted);
        }
    }

    #[test]
    fn the_clock_of_another_worker_may_be_ahead_and_stamps_wrap() {
        let table = Affinity::new(8, Duration::from_millis(100), 1);
        table.pin(client(1), 5, 1_000);
        assert_eq!(table.find(client(1), 998), Some(5));
        assert_eq!(table.find(client(1), 1_101), None);
        table.pin(client(1), 6, STAMP_MASK - 1);
        assert_eq!(table.find(client(1), STAMP_MASK + 50), Some(6));
        assert_eq!(table.find(client(1), STAMP_MASK + 151), None);
    }

    #[test]
    fn nearly_all_clients_of_a_half_full_table_are_remembered() {
        let table = Affinity::new(16_384, THREE_HOURS, 3);
        (0..8192).for_each(|number| table.pin(client(number), 1, u64::from(number)));
        let found = (0..8192).filter(|number| table.find(client(*number), 9000).is_some()).count();
        assert!(found > 8192 * 97 / 100, "{found}");
        assert!(table.clients(9000) <= 16_384);
    }

    #[test]
    fn workers_that_write_at_once_never_see_another_clients_backend() {
        let table = &Affinity::new(64, THREE_HOURS, 4);
        let tags = |number| table.place(client(number)).map(|(set, tag)| (std::ptr::from_ref(set), tag));
        assert!((0..200).all(|a| (0..a).all(|b| tags(a) != tags(b))), "no two are alike");
        thread::scope(|scope| {
            for worker in 0..4u32 {
                scope.spawn(move || {
                    for step in 0..20_000u32 {
                        let number = step.wrapping_mul(worker * 2 + 7) % 200;
                        let found = table.find(client(number), u64::from(step));
                        assert!(found.is_none_or(|backend| backend == number as usize));
                        table.pin(client(number), number as usize, u64::from(step));
                    }
                });
            }
        });
    }

    proptest! {
        /// With no more clients than places nobody is driven out, so this is a map with a time limit.
        #[test]
        fn it_is_a_map_with_a_time_limit(
            steps in prop::collection::vec((0u32..8, prop::option::of(0usize..BACKENDS_MAX), 0u64..60), 0..200),
            limit in 1u64..100,
            seed in any::<u64>(),
            start in any::<u32>(),
        ) {
            let table = Affinity::new(1, Duration::from_millis(limit), seed);
            let alike = (0..8).any(|a| (0..a).any(|b| table.place(client(a)).unwrap().1 == table.place(client(b)).unwrap().1));
            prop_assume!(!alike);
            let mut model: HashMap<u32, (usize, u64)> = HashMap::new();
            let mut now = u64::from(start);
            for (number, backend, later) in steps {
                now += later;
                if let Some(backend) = backend {
                    table.pin(client(number), backend, now);
                    model.insert(number, (backend, now));
                } else {
                    let wanted = model.get_mut(&number).filter(|(_, used)| now - *used <= limit);
                    let wanted = wanted.map(|entry| { entry.1 = now; entry.0 });
                    prop_assert_eq!(table.find(client(number), now), wanted);
                }
            }
        }

        /// In one set the client unused for longest makes room.
        #[test]
        fn the_least_recently_used_of_a_set_is_forgotten(
            steps in prop::collection::vec((0u32..20, any::<bool>()), 0..200),
        ) {
            let table = Affinity::new(WAYS, Duration::from_millis(1000), 5);
            let mut model: Vec<u32> = Vec::new();
            for (now, (number, pin)) in steps.into_iter().enumerate() {
                let known = model.iter().position(|other| *other == number);
                if pin {
                    table.pin(client(number), number as usize, now as u64);
                } else {
                    prop_assert_eq!(table.find(client(number), now as u64), known.map(|_| number as usize));
                }
                if let Some(place) = known {
                    model.remove(place);
                } else if pin && model.len() == WAYS {
                    model.remove(0);
                }
                if pin || known.is_some() {
                    model.push(number);
                }
            }
        }

        #[test]
        fn the_limit_is_kept_to_a_small_part(limit in 1u64..100_000_000, start in any::<u32>(), later in 0u64..200_000_000) {
            let table = Affinity::new(1, Duration::from_millis(limit), 0);
            table.pin(client(0), 3, u64::from(start));
            let found = table.find(client(0), u64::from(start) + later).is_some();
            if later <= limit {
                prop_assert!(found);
            } else if later > limit + 2 * (limit / TICKS).max(1) {
                prop_assert!(!found);
            }
        }
    }
}
