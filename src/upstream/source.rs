//! The local addresses that connections to a cluster are made from: in turns, since each one has its own ports.

use std::{cell::Cell, net::IpAddr, sync::Arc};

use crate::addr::Endpoint;

/// A worker's turns over the configured addresses.
pub struct Sources {
    addresses: Arc<[IpAddr]>,
    next: Cell<usize>,
}

impl Sources {
    /// `addresses` may be empty: then the kernel chooses.
    pub fn new(addresses: Arc<[IpAddr]>, offset: usize) -> Self {
        Sources { addresses, next: Cell::new(offset) }
    }

    /// What to try, in order, for a connection to `endpoint`: every address of its family, the next in turn first;
    /// `None` leaves it to the kernel, which is right where no address is configured or none fits.
    pub fn toward(&self, endpoint: &Endpoint) -> impl Iterator<Item = Option<IpAddr>> + '_ {
        let family = endpoint.inet().map(|address| address.is_ipv4());
        let fitting = move || self.addresses.iter().filter(move |ip| Some(ip.is_ipv4()) == family);
        let count = fitting().count();
        let first = self.next.get();
        if count > 0 {
            self.next.set(first.wrapping_add(1));
        }
        let turns = fitting().copied().map(Some).cycle().skip(first % count.max(1)).take(count);
        turns.chain((count == 0).then_some(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(sources: &Sources, endpoint: &str) -> Vec<String> {
        let endpoint: crate::addr::ListenAddress = endpoint.parse().unwrap();
        let show = |ip: Option<IpAddr>| ip.map_or_else(|| "kernel".to_owned(), |ip| ip.to_string());
        sources.toward(&endpoint.0).map(show).collect()
    }

    #[test]
    fn addresses_of_the_family_take_turns() {
        let addresses = ["10.0.0.1", "::1", "10.0.0.2"].map(|ip| ip.parse().unwrap());
        let sources = Sources::new(addresses.into(), 0);
        assert_eq!(tried(&sources, "10.9.9.9:1"), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(tried(&sources, "10.9.9.9:1"), ["10.0.0.2", "10.0.0.1"]);
        assert_eq!(tried(&sources, "[::2]:1"), ["::1"]);
        assert_eq!(tried(&sources, "unix:/a"), ["kernel"]);
    }

    #[test]
    fn without_a_fitting_address_the_kernel_chooses() {
        let none = Sources::new([].into(), 7);
        assert_eq!(tried(&none, "10.9.9.9:1"), ["kernel"]);
        let other = Sources::new(["::1".parse().unwrap()].into(), usize::MAX);
        assert_eq!(tried(&other, "10.9.9.9:1"), ["kernel"]);
    }
}
