//! Who may come in by address: networks as sorted ranges, so that a long list costs no more than a short one.
//!
//! Pure and immutable.

use std::net::IpAddr;

use crate::addr::Networks;

/// Allowed and denied networks.
#[derive(Debug, Default)]
pub struct Access {
    /// `None` allows everybody.
    allow: Option<Ranges>,
    deny: Ranges,
}

impl Access {
    /// Who is denied may not come in; with allowed networks nobody else may either.
    pub fn new(allow: &Networks, deny: &Networks) -> Self {
        Access { allow: (!allow.is_empty()).then(|| Ranges::new(allow)), deny: Ranges::new(deny) }
    }

    /// True when everybody may come in.
    pub fn is_open(&self) -> bool {
        self.allow.is_none() && self.deny.is_empty()
    }

    /// True when this client may come in.
    pub fn admits(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        !self.deny.contains(client) && self.allow.as_ref().is_none_or(|allow| allow.contains(client))
    }
}

/// Addresses as numbers, each range with its first and last, ascending and apart from each other.
#[derive(Debug, Default)]
struct Ranges {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl Ranges {
    fn new(networks: &Networks) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for range in networks.ranges() {
            match range {
                (IpAddr::V4(first), IpAddr::V4(last)) => v4.push((first.to_bits(), last.to_bits())),
                (IpAddr::V6(first), IpAddr::V6(last)) => v6.push((first.to_bits(), last.to_bits())),
                // A network is of one kind.
                _ => {}
            }
        }
        Ranges { v4: joined(v4), v6: joined(v6) }
    }

    fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => within(&self.v4, address.to_bits()),
            IpAddr::V6(address) => within(&self.v6, address.to_bits()),
        }
    }
}

/// Sorts ranges and joins those that have something in common.
fn joined<N: Ord + Copy>(mut ranges: Vec<(N, N)>) -> Box<[(N, N)]> {
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let common = next.0 <= kept.1;
        if common {
            kept.1 = kept.1.max(next.1);
        }
        common
    });
    ranges.into()
}

fn within<N: Ord + Copy>(ranges: &[(N, N)], number: N) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= number);
    after.checked_sub(1).and_then(|last| ranges.get(last)).is_some_and(|(_, last)| number <= *last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn networks(text: &str) -> Networks {
        if text.is_empty() { Networks::default() } else { text.parse().unwrap() }
    }

    #[test]
    fn deny_goes_before_allow() {
        let admits = |allow: &str, deny: &str, client: &str| {
            Access::new(&networks(allow), &networks(deny)).admits(client.parse().unwrap())
        };
        assert!(admits("", "", "10.0.0.1") && Access::new(&networks(""), &networks("")).is_open());
        assert!(admits("10.0.0.0/8", "", "10.0.0.1") && !admits("10.0.0.0/8", "", "11.0.0.1"));
        assert!(
            !admits("10.0.0.0/8", "10.0.0.1", "10.0.0.1") && admits("10.0.0.0/8", "10.0.0.1", "10.0.0.2")
        );
        assert!(!admits("", "all", "::1") && !admits("10.0.0.0/8", "", "fe80::1"));
        assert!(!admits("", "10.0.0.0/8", "::ffff:10.0.0.1") && admits("", "10.0.0.0/8", "::1"));
    }

    proptest! {
        #[test]
        fn ranges_contain_what_the_networks_contain(
            list in prop::collection::vec((prop_oneof![0u32..4, any::<u32>()], 0u8..=32, any::<bool>()), 1..30),
            asked in prop::collection::vec(prop_oneof![0u32..8, any::<u32>()], 1..30),
        ) {
            let text = |(bits, length, v6): &(u32, u8, bool)| match v6 {
                false => format!("{}/{length}", std::net::Ipv4Addr::from_bits(*bits)),
                true => format!("{}/{}", std::net::Ipv6Addr::from_bits(u128::from(*bits) << 90 | 7), length + 34),
            };
            let networks = networks(&list.iter().map(text).collect::<Vec<_>>().join(","));
            let ranges = Ranges::new(&networks);
            let near = list.iter().flat_map(|(bits, ..)| [bits.wrapping_sub(1), *bits, bits.wrapping_add(1)]);
            for bits in near.chain(asked) {
                for address in [
                    IpAddr::V4(std::net::Ipv4Addr::from_bits(bits)),
                    IpAddr::V6(std::net::Ipv6Addr::from_bits(u128::from(bits) << 90 | 7)),
                ] {
                    prop_assert_eq!(ranges.contains(address), networks.contains(address), "{}", address);
                }
            }
        }
    }
}
