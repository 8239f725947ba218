//! The algorithms by name: ours, and those other proxies use for the same thing.
//!
//! Pure. The command line, the configuration, the logs and the metrics take their names from here.

/// How a cluster chooses among its backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Algorithm {
    /// Everyone in turn, heavy ones more often, their turns spread out.
    #[default]
    RoundRobin,
    /// Whoever has the least in flight for its weight.
    LeastConnections,
    /// Whoever has the least decayed time to first byte, times what it has in flight.
    LeastResponseTime,
    /// Anyone, by weight.
    Random,
    /// Two at random, the one with less in flight.
    PowerOfTwo,
    /// By a hash of the key, in proportion to the weights.
    IpHash,
    /// Consistent hashing on a ring of points, as libketama does it.
    Ring,
    /// Consistent hashing by a Maglev table.
    Maglev,
    /// The first that can take it.
    First,
}

impl Algorithm {
    /// All of them, in the order the documentation lists them.
    pub const ALL: [Algorithm; 9] = [
        Algorithm::RoundRobin,
        Algorithm::LeastConnections,
        Algorithm::LeastResponseTime,
        Algorithm::Random,
        Algorithm::PowerOfTwo,
        Algorithm::IpHash,
        Algorithm::Ring,
        Algorithm::Maglev,
        Algorithm::First,
    ];

    /// The name used on the command line, in logs and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::RoundRobin => "round-robin",
            Algorithm::LeastConnections => "least-connections",
            Algorithm::LeastResponseTime => "least-response-time",
            Algorithm::Random => "random",
            Algorithm::PowerOfTwo => "p2c",
            Algorithm::IpHash => "ip-hash",
            Algorithm::Ring => "ring",
            Algorithm::Maglev => "maglev",
            Algorithm::First => "first",
        }
    }

    /// What HAProxy, nginx, Envoy and others call it.
    pub const fn aliases(self) -> &'static [&'static str] {
        match self {
            Algorithm::RoundRobin => &["roundrobin", "static-rr", "rr", "wrr"],
            Algorithm::LeastConnections => &["leastconn", "least-conn", "least-request", "lc"],
            Algorithm::LeastResponseTime => &["least-time", "peak-ewma", "ewma"],
            Algorithm::Random => &["rand"],
            Algorithm::PowerOfTwo => &["power-of-two", "power-of-two-choices", "random-2", "random-two"],
            Algorithm::IpHash => &["iphash", "source", "source-hash"],
            Algorithm::Ring => &["ring-hash", "hash", "uri", "ketama", "consistent-hash", "consistent"],
            Algorithm::Maglev => &["maglev-hash"],
            Algorithm::First => &["first-available"],
        }
    }

    /// The algorithm of that name or alias; case does not matter, nor whether words are joined by `-` or `_`.
    pub fn from_name(name: &str) -> Option<Algorithm> {
        let matches = |own: &&str| same_name(own, name);
        Self::ALL
            .into_iter()
            .find(|algorithm| matches(&algorithm.name()) || algorithm.aliases().iter().any(matches))
    }

    /// Every name, for an error message.
    pub fn names() -> String {
        Self::ALL.map(Algorithm::name).join(", ")
    }

    /// True when it needs a key: the same one goes to the same backend.
    pub const fn is_keyed(self) -> bool {
        matches!(self, Algorithm::IpHash | Algorithm::Ring | Algorithm::Maglev)
    }
}

fn same_name(own: &str, name: &str) -> bool {
    let fold = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    own.bytes().eq(name.bytes().map(fold))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_name_and_alias_leads_to_one_algorithm() {
        let mut seen = HashSet::new();
        for algorithm in Algorithm::ALL {
            for name in algorithm.aliases().iter().copied().chain([algorithm.name()]) {
                assert!(seen.insert(name), "{name} stands for two");
                assert_eq!(Algorithm::from_name(name), Some(algorithm));
                let shouted = name.to_uppercase().replace('-', "_");
                assert_eq!(Algorithm::from_name(&shouted), Some(algorithm));
            }
        }
        assert_eq!(Algorithm::from_name("round robin"), None);
        assert_eq!(Algorithm::from_name(""), None);
    }

    #[test]
    fn names_of_other_proxies_are_known() {
        for (name, expected) in [
            ("roundrobin", Algorithm::RoundRobin),
            ("static-rr", Algorithm::RoundRobin),
            ("ROUND_ROBIN", Algorithm::RoundRobin),
            ("leastconn", Algorithm::LeastConnections),
            ("least_conn", Algorithm::LeastConnections),
            ("LEAST_REQUEST", Algorithm::LeastConnections),
            ("least_time", Algorithm::LeastResponseTime),
            ("RANDOM", Algorithm::Random),
            ("source", Algorithm::IpHash),
            ("ip_hash", Algorithm::IpHash),
            ("uri", Algorithm::Ring),
            ("hash", Algorithm::Ring),
            ("RING_HASH", Algorithm::Ring),
            ("MAGLEV", Algorithm::Maglev),
            ("first", Algorithm::First),
        ] {
            assert_eq!(Algorithm::from_name(name), Some(expected), "{name}");
        }
    }

    #[test]
    fn the_list_of_names_has_all() {
        assert_eq!(
            Algorithm::names(),
            "round-robin, least-connections, least-response-time, random, p2c, ip-hash, ring, maglev, first"
        );
    }
}
