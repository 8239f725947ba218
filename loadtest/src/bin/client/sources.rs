//! A source address and port that nobody used before, for each new connection. Pure.
//!
//! With ports that the kernel picks, a client address has 28 000 of them. A new datagram socket would soon get one that a proxy still
//! has a session for, and be none of its new clients.

use std::net::{Ipv4Addr, SocketAddrV4};

/// 127.64.0.0 and up: loopback, but not where anybody listens.
const FIRST: u32 = 0x7f40_0000;
const ADDRESSES: u64 = 1 << 21;
const PORT_FIRST: u16 = 2_000;
const PORTS: u64 = 63_000;

pub struct Sources(u64);

impl Sources {
    /// Starts at an address that depends on `seed`, so that one run does not repeat what the run before it used.
    pub fn new(seed: u64) -> Self {
        Self(seed % ADDRESSES * PORTS)
    }
}

impl Iterator for Sources {
    type Item = SocketAddrV4;

    fn next(&mut self) -> Option<SocketAddrV4> {
        let (address, port) = (self.0 / PORTS % ADDRESSES, self.0 % PORTS);
        self.0 += 1;
        Some(SocketAddrV4::new(Ipv4Addr::from(FIRST + address as u32), PORT_FIRST + port as u16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_loopback_and_none_comes_twice() {
        for seed in [0, 7, ADDRESSES - 1, u64::MAX] {
            let mut seen = std::collections::HashSet::new();
            for source in Sources::new(seed).take(2 * PORTS as usize + 1) {
                assert!(source.ip().is_loopback() && source.port() >= PORT_FIRST);
                assert!(seen.insert(source));
            }
        }
    }
}
