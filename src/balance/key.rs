//! Keys: what a request is recognised by (a client address, a header, a cookie, a path, a query parameter) as a
//! number.
//!
//! Pure, and without a seed: every worker, every instance and every version gives the same bytes the same key.

use std::net::IpAddr;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::algorithm::Algorithm;

/// The key of these bytes. A ring hashes as libketama does, so that caches keep their keys; all others use XXH3.
pub fn of(algorithm: Algorithm, bytes: &[u8]) -> u64 {
    match algorithm {
        Algorithm::Ring => u64::from(ketama(bytes)),
        _ => xxh3_64(bytes),
    }
}

/// The key of a client: of its address alone, since the port changes with every connection. An IPv4 address is the
/// same client when it comes through an IPv6 socket.
pub fn of_client(algorithm: Algorithm, address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => of(algorithm, &address.octets()),
        IpAddr::V6(address) => of(algorithm, &address.octets()),
    }
}

/// libketama's hash of a key: the first four bytes of its MD5, the lowest first.
pub(super) fn ketama(bytes: &[u8]) -> u32 {
    let [a, b, c, d, ..] = md5::compute(bytes).0;
    u32::from_le_bytes([a, b, c, d])
}

/// A second and a third hash of a name that have nothing to do with the first.
pub(super) fn seeded(bytes: &[u8], seed: u64) -> u64 {
    xxh3_64_with_seed(bytes, seed)
}

/// Another key from a key, for a second choice that has nothing to do with the first.
pub(super) fn next(key: u64) -> u64 {
    let mut mixed = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_the_published_hashes() {
        // XXH3's own test vector of the empty input, MD5's of "" and of "abc".
        assert_eq!(of(Algorithm::Maglev, b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(of(Algorithm::Ring, b""), u64::from(u32::from_le_bytes([0xd4, 0x1d, 0x8c, 0xd9])));
        assert_eq!(of(Algorithm::Ring, b"abc"), u64::from(u32::from_le_bytes([0x90, 0x01, 0x50, 0x98])));
    }

    #[test]
    fn a_client_is_its_address_and_nothing_else() {
        for algorithm in [Algorithm::IpHash, Algorithm::Ring] {
            let key = |text: &str| of_client(algorithm, text.parse().unwrap());
            assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
            assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
            assert_ne!(key("2001:db8::1"), key("2001:db8::2"));
        }
    }
}
