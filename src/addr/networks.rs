//! A set of networks, such as those whose word about a client's address is taken.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;

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

    /// Comma-separated addresses and networks, or `all`.
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let mut networks = Vec::new();
        for item in text.split(',').map(str::trim) {
            if item.eq_ignore_ascii_case("all") {
                networks.extend(["0.0.0.0/0", "::/0"].iter().filter_map(|all| all.parse::<IpNet>().ok()));
                continue;
            }
            let network = item.parse().or_else(|_| item.parse::<IpAddr>().map(IpNet::from));
            networks.push(network.map_err(|_| NetworkError { item: item.to_owned() })?);
        }
        Ok(Networks(networks))
    }
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
    fn what_is_no_network_is_named() {
        for (text, item) in [("10.0.0.0/33", "10.0.0.0/33"), ("10.0.0.1,lan", "lan"), ("", ""), ("::1,", "")]
        {
            let message = text.parse::<Networks>().unwrap_err().to_string();
            assert!(message.contains(&format!("`{item}`")), "{text}: {message}");
        }
    }
}
