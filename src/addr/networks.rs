//! A set of networks, such as those whose word about a client's address is taken.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::{IpNet, Ipv4Net};

/// Networks as an operator listed them; the empty set contains nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// True when no network was listed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first and the last address of each.
    pub fn ranges(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> {
        self.0.iter().map(|network| (network.network(), network.broadcast()))
    }

    /// True when every address of `others` is in one of these.
    pub fn cover(&self, others: &Networks) -> bool {
        let own = IpNet::aggregate(&self.0);
        others.0.iter().all(|other| own.iter().any(|network| network.contains(other)))
    }

    /// True when one of them contains `address`; IPv4 clients of an IPv6 socket count as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// An item that is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{item}` is not a network: write an address such as `10.0.0.1`, a network such as `10.0.0.0/8`, or `all`"
)]
pub struct NetworkError {
    item: String,
}

impl FromStr for Networks {
    type Err = NetworkError;

    /// Comma-separated addresses and networks, or `all`. An IPv6 network holds no IPv4 clients, however large it is; one
    /// that is written with IPv4 addresses in it is the IPv4 network.
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let mut networks = Vec::new();
        for item in text.split(',').map(str::trim) {
            if item.eq_ignore_ascii_case("all") {
                networks.extend(["0.0.0.0/0", "::/0"].iter().filter_map(|all| all.parse::<IpNet>().ok()));
                continue;
            }
            let network = item.parse().or_else(|_| item.parse::<IpAddr>().map(IpNet::from));
            let network = network.ok().and_then(canonical);
            networks.push(network.ok_or_else(|| NetworkError { item: item.to_owned() })?);
        }
        Ok(Networks(networks))
    }
}

/// How many bits stand in front of an IPv4 address in an IPv6 address.
const MAPPED_BITS: u8 = 96;

/// As it is compared: IPv4 addresses that are written as IPv6 ones count as IPv4. `None` when they are in it and its length
/// was meant for IPv4, such as `::ffff:10.0.0.0/8`: taken at its word it would be a network of quite other addresses.
fn canonical(network: IpNet) -> Option<IpNet> {
    let IpNet::V6(six) = network else { return Some(network) };
    let Some(four) = six.addr().to_ipv4_mapped() else { return Some(network) };
    let length = six.prefix_len().checked_sub(MAPPED_BITS)?;
    Ipv4Net::new(four, length).ok().map(IpNet::V4)
}

impl fmt::Display for Networks {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, network) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(out, "{comma}{network}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_networks_and_everybody_are_understood() {
        let networks: Networks = "10.0.0.0/8, 192.168.1.7,fd00::/8".parse().unwrap();
        for (address, inside) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("192.168.1.7", true),
            ("192.168.1.8", false),
            ("fd12::1", true),
            ("fe80::1", false),
            ("::ffff:10.1.2.3", true),
        ] {
            assert_eq!(networks.contains(address.parse().unwrap()), inside, "{address}");
        }
        assert_eq!(networks.to_string(), "10.0.0.0/8,192.168.1.7/32,fd00::/8");
        let all: Networks = "all".parse().unwrap();
        assert!(all.contains("8.8.8.8".parse().unwrap()) && all.contains("::1".parse().unwrap()));
        assert!(!Networks::default().contains("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn halves_cover_the_whole() {
        let covers = |own: &str, others: &str| {
            own.parse::<Networks>().unwrap().cover(&others.parse::<Networks>().unwrap())
        };
        assert!(covers("10.0.0.0/9,10.128.0.0/9", "10.0.0.0/8"));
        assert!(covers("all", "10.0.0.1,::1"));
        assert!(!covers("10.0.0.0/9", "10.0.0.0/8"));
        assert!(!covers("10.0.0.0/8", "10.0.0.1,::1"));
    }

    #[test]
    fn ipv4_networks_in_the_clothes_of_ipv6_are_ipv4_networks() {
        for (text, inside, outside) in [
            ("::ffff:127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("::ffff:127.0.0.0/104", "127.255.0.1", "128.0.0.1"),
            ("::ffff:10.1.2.3/128", "10.1.2.3", "10.1.2.4"),
            ("::ffff:0:0/96", "8.8.8.8", "::1"),
            ("::ffff:7f00:0/104", "::ffff:127.0.0.9", "::127.0.0.9"),
            // All of IPv6 is not all of IPv4.
            ("::/0", "::1", "127.0.0.1"),
            ("::/64", "::7", "::ffff:127.0.0.1"),
        ] {
            let networks: Networks = text.parse().unwrap();
            let contains = |address: &str| networks.contains(address.parse().unwrap());
            assert!(contains(inside) && !contains(outside), "{text}");
        }
        let shown: Networks = "::ffff:127.0.0.0/104".parse().unwrap();
        assert_eq!(shown.to_string(), "127.0.0.0/8");
        assert_eq!(shown.ranges().next(), "127.0.0.0/8".parse::<Networks>().unwrap().ranges().next());
    }

    #[test]
    fn what_is_no_network_is_named() {
        for (text, item) in [
            ("10.0.0.0/33", "10.0.0.0/33"),
            ("10.0.0.1,lan", "lan"),
            ("", ""),
            ("::1,", ""),
            ("::1,::ffff:10.0.0.0/8", "::ffff:10.0.0.0/8"),
        ] {
            let message = text.parse::<Networks>().unwrap_err().to_string();
            assert!(message.contains(&format!("`{item}`")), "{text}: {message}");
        }
    }
}
