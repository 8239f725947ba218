//! A rate limit over all workers: a bucket for each client, in one bounded table.
//!
//! One table serves all workers, because the kernel spreads one client's connections over them. It is a set-associative
//! cache of plain atomic words: no locks, nothing allocated after it was made, eight bytes for each client. A word carries
//! its whole meaning (who, and when its bucket is full again), so taking from a bucket is one compare-and-exchange.
//!
//! Its size is a bound. A client has eight places; a newcomer gets the one whose bucket has been full for the longest
//! time, which nobody can tell from a fresh one. Only when all eight are in use a client loses count of what it has
//! taken. A client is known by 24 bits of a keyed hash beside its set: of two million new clients one shares its bucket.
//! Two workers that see a client for the first time in the same instant may give it two buckets, of which one is forgotten.

use std::{
    hash::BuildHasher,
    net::IpAddr,
    sync::atomic::{
        AtomicU64,
        Ordering::{AcqRel, Relaxed},
    },
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{
    gcra::{MOMENT_BITS, Moment, Nanos, Pace},
    subject,
};
use crate::config::plan::admission::{RateKey, RateLimit};

/// Places of a client.
const WAYS: usize = 8;

const MOMENT_MASK: u64 = (1 << MOMENT_BITS) - 1;

/// Attempts to write among others that write to the same place. Each failure is another admission.
const ATTEMPTS: usize = 256;

/// One cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Set([AtomicU64; WAYS]);

/// The buckets of one limit.
#[derive(Debug)]
pub struct Rates {
    limit: RateLimit,
    pace: Pace,
    sets: Box<[Set]>,
    seed: u64,
}

/// Whose bucket it is: a keyed hash, which means something to one table only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder(u64);

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It may go on.
    Yes,
    /// It may go on, and another one has lost count of what it has taken, for want of room.
    Evicting,
    /// Not before this time has passed.
    NotFor(Duration),
}

/// The clock, to the nanosecond: a tick of the coarse one would be too long for many a second.
pub fn now() -> Nanos {
    let time = clock_gettime(ClockId::Monotonic);
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

impl Rates {
    /// Full buckets for at least this many clients.
    pub fn new(limit: RateLimit, clients: usize) -> Self {
        let clients = if limit.key == RateKey::All { 1 } else { clients };
        let sets = clients.div_ceil(WAYS).next_power_of_two();
        Rates {
            pace: Pace::new(&limit),
            limit,
            sets: (0..sets).map(|_| Set::default()).collect(),
            // Unpredictable, so that nobody can choose addresses that drive out others.
            seed: std::hash::RandomState::new().hash_one(sets),
        }
    }

    /// The limit it was made for.
    pub fn limit(&self) -> &RateLimit {
        &self.limit
    }

    /// Everybody together.
    pub fn everybody(&self) -> Holder {
        Holder(0)
    }

    /// A client, all addresses of an IPv6 network of 64 bits together.
    pub fn client(&self, client: IpAddr) -> Holder {
        Holder(xxh3_64_with_seed(&subject(client), self.seed))
    }

    /// Whoever says these words; never taken for a client's address.
    pub fn value(&self, words: &[u8]) -> Holder {
        Holder(xxh3_64_with_seed(words, !self.seed))
    }

    /// Takes one admission from somebody's bucket.
    pub fn take(&self, holder: Holder, now: Nanos) -> Taken {
        let now = self.pace.moment(now);
        let tag = holder.0 >> MOMENT_BITS;
        let Some(set) = self.sets.get(holder.0 as usize & (self.sets.len() - 1)) else { return Taken::Yes };
        for _ in 0..ATTEMPTS {
            let Some(Found { place, word, full_at, evicts }) = self.find(set, tag, now) else { break };
            let full_at = match self.pace.take(full_at, now) {
                Ok(full_at) => full_at,
                Err(wait) => return Taken::NotFor(wait),
            };
            let fresh = tag << MOMENT_BITS | full_at;
            if place.compare_exchange(word, fresh, AcqRel, Relaxed).is_ok() {
                return if evicts { Taken::Evicting } else { Taken::Yes };
            }
        }
        // So many were faster that this one is not what the limit is there for.
        Taken::Yes
    }

    /// A holder's bucket, else the one that has been full for the longest time, else the one that is full soonest.
    fn find<'s>(&self, set: &'s Set, tag: u64, now: Moment) -> Option<Found<'s>> {
        let mut best: Option<(u64, Found<'s>)> = None;
        for place in &set.0 {
            let word = place.load(Relaxed);
            let full_at = word & MOMENT_MASK;
            if word >> MOMENT_BITS == tag {
                return Some(Found { place, word, full_at, evicts: false });
            }
            let lacks = self.pace.lacks(full_at, now);
            let worth =
                if lacks == 0 { MOMENT_MASK - self.pace.full_for(full_at, now) } else { MOMENT_MASK + lacks };
            if best.as_ref().is_none_or(|(least, _)| worth < *least) {
                best = Some((worth, Found { place, word, full_at: now, evicts: lacks > 0 }));
            }
        }
        best.map(|(_, found)| found)
    }
}

/// A place to write to, with the bucket of whom it is for.
struct Found<'s> {
    place: &'s AtomicU64,
    word: u64,
    full_at: Moment,
    /// Somebody else's bucket, which is not full, is there.
    evicts: bool,
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::atomic::AtomicUsize, thread};

    use proptest::prelude::*;

    use super::*;
    use crate::config::plan::admission::Rate;

    const SECOND: Nanos = 1_000_000_000;

    fn limit(count: u32, burst: u32, key: RateKey) -> RateLimit {
        RateLimit { rate: Rate { count, per: Duration::from_secs(1) }, burst, key }
    }

    fn client(number: u32) -> IpAddr {
        IpAddr::from((0x0a00_0000 + number).to_be_bytes())
    }

    #[test]
    fn clients_do_not_share_and_networks_of_64_bits_do() {
        let rates = Rates::new(limit(1, 2, RateKey::ClientAddress), 1024);
        let take = |address: &str| rates.take(rates.client(address.parse().unwrap()), 0);
        assert_eq!((take("10.0.0.1"), take("10.0.0.1")), (Taken::Yes, Taken::Yes));
        assert_eq!(take("10.0.0.1"), Taken::NotFor(Duration::from_secs(1)));
        assert_eq!(take("::ffff:10.0.0.1"), Taken::NotFor(Duration::from_secs(1)));
        assert_eq!(take("10.0.0.2"), Taken::Yes);
        assert_eq!((take("2001:db8::1"), take("2001:db8::ffff:1")), (Taken::Yes, Taken::Yes));
        assert!(matches!(take("2001:db8::2"), Taken::NotFor(_)));
        assert_eq!(take("2001:db8:0:1::2"), Taken::Yes);
        assert_eq!(rates.take(rates.value(b"10.0.0.1"), 0), Taken::Yes);
    }

    #[test]
    fn who_has_been_full_for_longest_makes_room() {
        let rates = Rates::new(limit(1, 4, RateKey::ClientAddress), WAYS);
        for number in 0..WAYS as u32 {
            assert_eq!(
                rates.take(rates.client(client(number)), u64::from(number) * SECOND / 100),
                Taken::Yes
            );
        }
        // Nobody is full yet: the first one is soonest.
        assert_eq!(rates.take(rates.client(client(100)), SECOND / 2), Taken::Evicting);
        // Now everybody is, so nobody loses anything.
        assert_eq!(rates.take(rates.client(client(101)), 10 * SECOND), Taken::Yes);
        assert_eq!(rates.sets.len(), 1);
    }

    /// Workers that take at once give no more, and hardly less, than one would.
    #[test]
    fn four_threads_together_keep_to_the_limit() {
        let rates = &Rates::new(limit(10_000, 100, RateKey::ClientAddress), 256);
        let (clock, admitted) = (&AtomicU64::new(SECOND), &[const { AtomicUsize::new(0) }; 5]);
        // Half a second in steps of a microsecond, so each of the five is offered ten times its rate.
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(move || {
                    loop {
                        let now = clock.fetch_add(1000, Relaxed);
                        if now >= SECOND + SECOND / 2 {
                            return;
                        }
                        let number = (now / 1000 % 5) as usize;
                        if rates.take(rates.client(client(number as u32)), now) == Taken::Yes {
                            admitted[number].fetch_add(1, Relaxed);
                        }
                    }
                });
            }
        });
        for admitted in admitted {
            let admitted = admitted.load(Relaxed);
            assert!((4845..=5355).contains(&admitted), "{admitted} of 5100");
        }
    }

    #[test]
    fn one_bucket_for_all_is_exact_under_contention() {
        let rates = &Rates::new(limit(1, 50_000, RateKey::All), 1 << 20);
        assert_eq!(rates.sets.len(), 1);
        let admitted = &AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(move || {
                    for _ in 0..20_000 {
                        if rates.take(rates.everybody(), 5) == Taken::Yes {
                            admitted.fetch_add(1, Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(admitted.load(Relaxed), 50_000);
    }

    proptest! {
        /// With no more clients than places, every client has a bucket of its own.
        #[test]
        fn it_is_a_map_of_buckets(
            count in 1u32..1000,
            burst in 1u32..10,
            steps in prop::collection::vec((0u32..8, 0u64..20_000_000), 1..300),
        ) {
            let rates = Rates::new(limit(count, burst, RateKey::ClientAddress), WAYS);
            let tag = |number| rates.client(client(number)).0 >> MOMENT_BITS;
            prop_assume!(!(0..8).any(|a| (0..a).any(|b| tag(a) == tag(b))));
            let mut model: HashMap<u32, Moment> = HashMap::new();
            let mut now = 0;
            for (number, later) in steps {
                now += later;
                let moment = rates.pace.moment(now);
                let bucket = model.entry(number).or_insert(moment);
                let expected = match rates.pace.take(*bucket, moment) {
                    Ok(next) => {
                        *bucket = next;
                        Taken::Yes
                    }
                    Err(wait) => Taken::NotFor(wait),
                };
                prop_assert_eq!(rates.take(rates.client(client(number)), now), expected);
            }
        }
    }
}
