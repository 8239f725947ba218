//! A ring of points as libketama makes it: caches behind another Ketama client keep their keys.
//!
//! Pure. The circle runs from 0 to 2³², clockwise and around. A backend of average weight has 160 points: the MD5 of
//! `name-0` to `name-39`, four points in each; its name is the `host:port` of the configuration. A key belongs to the
//! first point that is not below its hash.

use super::{circle::Holdings, key};

const DIGESTS_PER_AVERAGE: f64 = 40.0;

/// As many points share an entry of the index: with their owners they lie in one or two lines of the cache.
const POINTS_PER_BUCKET: usize = 4;

/// The points, and a quick way to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ring {
    /// Ascending; the slot of a point is its index.
    points: Box<[Point]>,
    holdings: Holdings,
    /// For the upper bits of a hash, the first point that is not below; and the number of points at the end.
    index: Box<[u32]>,
    shift: u32,
}

/// A point on the ring and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Point {
    at: u32,
    owner: u32,
}

impl Ring {
    /// The ring of these names and weights; those of weight 0 have no points. Slow: not for a worker.
    pub fn build(members: &[(&str, u32)]) -> Self {
        let weighted = || members.iter().enumerate().filter(|(_, (_, weight))| *weight > 0);
        let total: u64 = weighted().map(|(_, (_, weight))| u64::from(*weight)).sum();
        let count = weighted().count();
        let mut points: Vec<(u32, &str, u32)> = Vec::new();
        for (place, (name, weight)) in weighted() {
            for number in 0..digests(*weight, total, count) {
                let digest = md5::compute(format!("{name}-{number}")).0;
                let four = digest.chunks_exact(4).filter_map(|chunk| chunk.try_into().ok());
                points.extend(four.map(|bytes| (u32::from_le_bytes(bytes), *name, place as u32)));
            }
        }
        // Two that share a point stand in the order of their names, wherever they stand in the configuration.
        points.sort_unstable();
        let owners: Vec<u32> = points.iter().map(|(_, _, owner)| *owner).collect();
        let points = points.into_iter().map(|(at, _, owner)| Point { at, owner });
        Self::of(points.collect(), Holdings::new(&owners, members.len()))
    }

    fn of(points: Box<[Point]>, holdings: Holdings) -> Self {
        let buckets = points.len().div_ceil(POINTS_PER_BUCKET).next_power_of_two();
        let shift = 32 - buckets.ilog2();
        let first = |bucket: usize| {
            points.partition_point(|point| u64::from(point.at) < (bucket as u64) << shift) as u32
        };
        let index = (0..=buckets).map(first).collect();
        Ring { points, holdings, index, shift }
    }

    /// How many points there are.
    pub fn count(&self) -> usize {
        self.points.len()
    }

    /// The point at a slot.
    pub fn point(&self, slot: usize) -> Option<u32> {
        self.points.get(slot).map(|point| point.at)
    }

    /// Whose slot it is.
    pub fn owner(&self, slot: usize) -> Option<usize> {
        self.points.get(slot).map(|point| point.owner as usize)
    }

    /// The slots of one place.
    pub fn slots_of(&self, place: usize) -> &[u32] {
        self.holdings.of(place)
    }

    /// The slot of the first point that is not below this hash.
    pub fn enter(&self, hash: u32) -> usize {
        let bucket = (u64::from(hash) >> self.shift) as usize;
        let bound = |bucket: usize| self.index.get(bucket).map_or(0, |first| *first as usize);
        let (from, to) = (bound(bucket), bound(bucket + 1));
        let points = self.points.get(from..to).unwrap_or(&[]);
        let slot = from + points.iter().take_while(|point| point.at < hash).count();
        if slot == self.points.len() { 0 } else { slot }
    }
}

/// How many digests a weight is worth. libketama computes it with a mixture of `float` and `double`, and some numbers
/// of equal servers get 39 because of it; whoever wants its ring has to do the same. It leaves out who comes to 0;
/// here everyone has at least one.
fn digests(weight: u32, total: u64, count: usize) -> u32 {
    let part = weight as f32 / total as f32;
    let digests = (f64::from(part) * DIGESTS_PER_AVERAGE * f64::from(count as f32)) as f32;
    (digests.floor() as u32).max(1)
}

/// The hash of a key as libketama has it.
pub fn hash(key: &[u8]) -> u32 {
    key::ketama(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::balance::circle::tests::names;

    fn owner<'a>(ring: &Ring, servers: &[&'a str], key: &str) -> &'a str {
        servers[ring.owner(ring.enter(hash(key.as_bytes()))).unwrap()]
    }

    fn equal<'a>(servers: &[&'a str]) -> Vec<(&'a str, u32)> {
        servers.iter().map(|server| (*server, 1)).collect()
    }

    /// libketama's own test: its server file, a million keys, and the MD5 of everything it prints.
    #[test]
    fn a_million_keys_go_where_libketama_sends_them() {
        let servers: Vec<String> = (1..=8).map(|number| format!("10.0.1.{number}:11211")).collect();
        let weights = [600, 300, 200, 350, 1000, 800, 950, 100];
        let members: Vec<_> = servers.iter().map(String::as_str).zip(weights).collect();
        let ring = Ring::build(&members);
        let mut printed = String::from("\n");
        for number in 0..1_000_000 {
            let hash = hash(number.to_string().as_bytes());
            let slot = ring.enter(hash);
            let server = members[ring.owner(slot).unwrap()].0;
            printed.push_str(&format!("{hash} {} {server}\n", ring.point(slot).unwrap()));
        }
        assert_eq!(format!("{:x}", md5::compute(printed)), "5672b131391f5aa2b280936aec1eea74");
    }

    /// The numbers of `TestBasicCompat` in go-ketama.
    #[test]
    fn ten_equal_servers_have_the_keys_they_have_in_libketama() {
        let servers: Vec<String> = (1..=10).map(|number| format!("server{number}")).collect();
        let servers: Vec<&str> = servers.iter().map(String::as_str).collect();
        let ring = Ring::build(&equal(&servers));
        let mut counts = [0u32; 10];
        for number in 0..100_000 {
            counts[ring.owner(ring.enter(hash(format!("foo{number}").as_bytes()))).unwrap()] += 1;
        }
        assert_eq!(counts, [8699, 10885, 9980, 10237, 9099, 10997, 10365, 10380, 9896, 9462]);
    }

    /// From the test of spymemcached named `testLibKetamaCompatTwo`.
    #[test]
    fn eight_equal_servers_have_the_keys_they_have_in_spymemcached() {
        let servers: Vec<String> = (1..=8).map(|number| format!("10.0.1.{number}:11211")).collect();
        let servers: Vec<&str> = servers.iter().map(String::as_str).collect();
        let ring = Ring::build(&equal(&servers));
        for (key, number) in [
            ("137470", 2),
            ("137703", 3),
            ("137936", 1),
            ("138169", 6),
            ("138402", 8),
            ("138635", 7),
            ("138868", 2),
            ("139101", 4),
            ("139334", 7),
            ("139567", 6),
            ("139800", 1),
            ("140033", 8),
            ("140266", 7),
            ("140499", 3),
            ("141664", 5),
            ("152149", 2),
            ("160770", 5),
            ("176847", 8),
            ("198516", 8),
            ("209467", 4),
            ("212030", 8),
        ] {
            assert_eq!(owner(&ring, &servers, key), format!("10.0.1.{number}:11211"), "{key}");
        }
    }

    /// libketama's formula, compiled from C for 1 to 1 000 equal servers: these get 39 digests, all others 40.
    #[test]
    fn equal_backends_have_as_many_digests_as_in_libketama() {
        let short: Vec<u64> = (1..=1_000).filter(|count| digests(1, *count, *count as usize) == 39).collect();
        assert_eq!(short, [61, 122, 237, 244, 474, 488, 933, 948, 951, 953, 976]);
        assert_eq!(
            (1..=1_000).filter(|count| digests(1, *count, *count as usize) == 40).count(),
            1_000 - short.len()
        );
    }

    #[test]
    fn points_go_by_weight() {
        let ring = Ring::build(&[("a", 3), ("b", 1), ("c", 0)]);
        assert_eq!([0, 1, 2].map(|place| ring.slots_of(place).len()), [240, 80, 0]);
        let ring = Ring::build(&[("a", 1_000), ("b", 1)]);
        assert_eq!(ring.slots_of(1).len(), 4, "nobody is left out");
    }

    #[test]
    fn a_key_beyond_the_last_point_wraps_around() {
        let ring = Ring::build(&[("a", 1), ("b", 1)]);
        let last = ring.point(ring.count() - 1).unwrap();
        assert_eq!(ring.enter(last), ring.count() - 1);
        assert_eq!(ring.enter(last + 1), 0);
        assert_eq!(ring.enter(u32::MAX), 0);
        assert_eq!(Ring::build(&[]).enter(5), 0);
    }

    /// What libketama's 160 points each can give, exactly, by the arcs. Where points lie is as good as chance, so the shares
    /// deviate from the fair one by 1/√160, which is 8 %: the standard deviation is within ten percent, and so are four in
    /// five backends. It is not true of every one: the worst of these 400 has a fifth too much or too little. Who needs them
    /// closer together has Maglev, or a bounded load.
    #[test]
    fn equal_backends_are_balanced_within_ten_percent_on_the_whole() {
        let mut deviations = Vec::new();
        for set in 0..40 {
            let servers: Vec<String> = (0..10).map(|number| format!("10.{set}.1.{number}:80")).collect();
            let ring = Ring::build(&servers.iter().map(|name| (name.as_str(), 1)).collect::<Vec<_>>());
            let mut arcs = [0f64; 10];
            let mut before = 0;
            for slot in 0..ring.count() {
                let point = ring.point(slot).unwrap();
                arcs[ring.owner(slot).unwrap()] += f64::from(point - before);
                before = point;
            }
            arcs[ring.owner(0).unwrap()] += f64::from(u32::MAX - before);
            let fair = f64::from(u32::MAX) / 10.0;
            deviations.extend(arcs.map(|arc| arc / fair - 1.0));
        }
        let count = deviations.len() as f64;
        let standard = (deviations.iter().map(|deviation| deviation.powi(2)).sum::<f64>() / count).sqrt();
        let within = deviations.iter().filter(|deviation| deviation.abs() <= 0.1).count() as f64 / count;
        let worst = deviations.iter().fold(0f64, |worst, deviation| worst.max(deviation.abs()));
        assert!(standard < 0.1 && within >= 0.8 && worst < 0.25, "{standard}, {within}, {worst}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_index_finds_what_a_search_finds(count in 1usize..60, hashes in prop::collection::vec(any::<u32>(), 100)) {
            let names = names(count);
            let ring = Ring::build(&names.iter().map(|name| (name.as_str(), 1)).collect::<Vec<_>>());
            for hash in hashes.into_iter().chain(ring.points.iter().map(|point| point.at).take(50)) {
                let found = ring.points.partition_point(|point| point.at < hash);
                prop_assert_eq!(ring.enter(hash), found % ring.points.len());
            }
        }
    }
}
