//! The arithmetic of a rate limit: the generic cell rate algorithm (GCRA), which is a token bucket in one number.
//!
//! Pure: no clock, no table. A bucket is the time at which it will be full again; one whose time has come is full, however
//! long ago that was. Time is counted in parts of what one admission takes to be earned back, so that adding it is exact
//! and nothing drifts. These numbers go round: they are compared only with others that are not far.

use std::time::Duration;

use crate::config::plan::admission::RateLimit;

/// Nanoseconds of the monotonic clock.
pub type Nanos = u64;

/// Time in parts of an admission, going round at [`MOMENT_BITS`] bits.
pub type Moment = u64;

/// Bits of a moment: with 10 admissions a second it goes round in 200 years, with 1 000 in two, with a million in 19 hours.
pub const MOMENT_BITS: u32 = 40;

const MASK: u64 = (1 << MOMENT_BITS) - 1;

/// Parts of an admission. More would make an early one by a smaller fraction impossible; nobody can tell.
const PARTS: u64 = 16;

const SECOND: Nanos = 1_000_000_000;

/// How fast a bucket fills and how much it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Admissions in [`Self::per`].
    count: u64,
    per: Nanos,
    /// Parts that it holds.
    capacity: u64,
    /// A bucket may be filled up to so much later than its capacity says, because the clock of whoever has written it
    /// was ahead of ours; what is later than that is from the last time the moments went round.
    horizon: u64,
}

impl Pace {
    /// The pace of a limit.
    pub fn new(limit: &RateLimit) -> Self {
        let count = u64::from(limit.rate.count).max(1);
        let per = Nanos::try_from(limit.rate.per.as_nanos()).unwrap_or(Nanos::MAX).max(1);
        let capacity = u64::from(limit.burst.max(1)) * PARTS;
        let second = u128::from(SECOND) * u128::from(count * PARTS) / u128::from(per);
        let horizon = (capacity + u64::try_from(second).unwrap_or(MASK)).min(MASK / 2);
        Pace { count, per, capacity, horizon }
    }

    /// The moment of a clock's reading.
    pub fn moment(&self, now: Nanos) -> Moment {
        let parts = u128::from(now) * u128::from(self.count * PARTS) / u128::from(self.per);
        parts as u64 & MASK
    }

    /// What a bucket lacks at a moment, in parts; zero when it is full.
    pub fn lacks(&self, full_at: Moment, now: Moment) -> u64 {
        let ahead = full_at.wrapping_sub(now) & MASK;
        if ahead <= self.horizon { ahead } else { 0 }
    }

    /// For how many parts a bucket has been full.
    pub fn full_for(&self, full_at: Moment, now: Moment) -> u64 {
        let behind = now.wrapping_sub(full_at) & MASK;
        if self.lacks(full_at, now) == 0 { behind } else { 0 }
    }

    /// Takes one admission out of a bucket: when it will be full again, or how long to wait for the admission.
    pub fn take(&self, full_at: Moment, now: Moment) -> Result<Moment, Duration> {
        let lacks = self.lacks(full_at, now) + PARTS;
        match lacks.checked_sub(self.capacity) {
            None | Some(0) => Ok(now.wrapping_add(lacks) & MASK),
            Some(short) => Err(self.duration(short)),
        }
    }

    /// How long so many parts take, rounded up.
    fn duration(&self, parts: u64) -> Duration {
        let nanos = u128::from(parts) * u128::from(self.per);
        let nanos = nanos.div_ceil(u128::from(self.count * PARTS));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::plan::admission::{RATE_COUNT_MAX, Rate, RateKey};

    fn pace(count: u32, per: u64, burst: u32) -> Pace {
        let rate = Rate { count, per: Duration::from_secs(per) };
        Pace::new(&RateLimit { rate, burst, key: RateKey::All })
    }

    /// Every bucket's first moment.
    fn full(pace: &Pace, now: Nanos) -> Moment {
        pace.moment(now)
    }

    fn limits() -> impl Strategy<Value = (u32, u64, u32)> {
        let count = prop_oneof![1u32..20, 1..=RATE_COUNT_MAX];
        let burst = prop_oneof![1u32..5, 1u32..100, 1..=RATE_COUNT_MAX];
        (count, prop::sample::select(vec![1u64, 60, 3600]), burst)
    }

    #[test]
    fn a_burst_then_one_at_a_time() {
        let pace = pace(10, 1, 3);
        let mut bucket = full(&pace, 0);
        for _ in 0..3 {
            bucket = pace.take(bucket, pace.moment(0)).unwrap();
        }
        assert_eq!(pace.take(bucket, pace.moment(0)), Err(Duration::from_millis(100)));
        assert!(pace.take(bucket, pace.moment(99_000_000)).is_err());
        bucket = pace.take(bucket, pace.moment(100_000_000)).unwrap();
        assert!(pace.take(bucket, pace.moment(100_000_000)).is_err());
        // After a long pause it holds three again, and no more.
        let later = pace.moment(3_600_000_000_000);
        for _ in 0..3 {
            bucket = pace.take(bucket, later).unwrap();
        }
        assert!(pace.take(bucket, later).is_err());
    }

    #[test]
    fn the_wait_is_as_long_as_it_takes() {
        let pace = pace(2, 3600, 1);
        let bucket = pace.take(0, 0).unwrap();
        assert_eq!(pace.take(bucket, 0), Err(Duration::from_secs(1800)));
        assert!(pace.take(bucket, pace.moment(1_800_000_000_000)).is_ok());
    }

    #[test]
    fn moments_go_round() {
        let pace = pace(1, 1, 2);
        let late = MASK - 3;
        let bucket = pace.take(late, late).unwrap();
        assert_eq!((bucket, pace.lacks(bucket, late)), (PARTS - 4, PARTS));
        assert_eq!(pace.full_for(bucket, PARTS - 2), 2);
        // One that was left alone for half a round is full, not empty.
        assert_eq!(pace.lacks(bucket.wrapping_add(MASK / 2), bucket), 0);
    }

    proptest! {
        /// The same as counting down a bucket that is filled as time goes by.
        #[test]
        fn it_is_a_token_bucket(
            (count, per, burst) in limits(),
            start in any::<u32>(),
            pauses in prop::collection::vec(prop_oneof![0u64..1000, 0u64..2_000_000_000, 0u64..1 << 44], 1..200),
        ) {
            let pace = pace(count, per, burst);
            let mut now = u64::from(start);
            let mut bucket = full(&pace, now);
            let (holds, mut level) = (u128::from(burst) * u128::from(PARTS), u128::from(burst) * u128::from(PARTS));
            let parts = |now: Nanos| u128::from(now) * u128::from(count) * u128::from(PARTS) / u128::from(per * SECOND);
            let mut seen = parts(now);
            for pause in pauses {
                now += pause;
                level = holds.min(level + parts(now) - seen);
                seen = parts(now);
                match pace.take(bucket, pace.moment(now)) {
                    Ok(next) => {
                        prop_assert!(level >= u128::from(PARTS));
                        level -= u128::from(PARTS);
                        bucket = next;
                    }
                    Err(wait) => {
                        prop_assert!(level < u128::from(PARTS));
                        let then = now + wait.as_nanos() as u64;
                        prop_assert!(pace.take(bucket, pace.moment(then)).is_ok(), "told to wait {wait:?}");
                    }
                }
            }
        }

        /// In any window: at most what the rate gives in it, and a burst.
        #[test]
        fn no_window_has_more_than_the_rate_and_a_burst(
            (count, per, burst) in (1u32..2000, Just(1u64), 1u32..50),
            pauses in prop::collection::vec(0u64..3_000_000, 1..300),
        ) {
            let pace = pace(count, per, burst);
            let (mut now, mut bucket, mut taken) = (0, 0, Vec::new());
            for pause in pauses {
                now += pause;
                if let Ok(next) = pace.take(bucket, pace.moment(now)) {
                    bucket = next;
                    taken.push(now);
                }
            }
            for (index, first) in taken.iter().enumerate() {
                for (more, last) in taken[index..].iter().enumerate() {
                    let earned = u128::from(last - first) * u128::from(count) / u128::from(per * SECOND);
                    // A part of an admission may have been earned just before.
                    prop_assert!(more as u128 <= earned + u128::from(burst));
                }
            }
        }

        /// Whoever keeps to the rate is never refused, whatever the burst.
        #[test]
        fn who_keeps_to_the_rate_is_never_refused(
            (count, per, burst) in limits(),
            start in any::<u32>(),
            more in prop::collection::vec(0u64..3, 1..300),
        ) {
            let pace = pace(count, per, burst);
            let (mut now, mut bucket) = (u64::from(start), full(&pace, u64::from(start)));
            for more in more {
                now += (per * SECOND).div_ceil(u64::from(count)) + more;
                match pace.take(bucket, pace.moment(now)) {
                    Ok(next) => bucket = next,
                    Err(wait) => prop_assert!(false, "refused for {wait:?}"),
                }
            }
        }
    }
}
