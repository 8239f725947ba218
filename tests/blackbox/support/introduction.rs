//! PROXY protocol headers, written by hand: what a proxy in front says, and what a backend must see.

use std::net::{IpAddr, SocketAddr};

pub(crate) const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Version 1 of a connection from `source` to `destination`.
pub(crate) fn v1(source: &str, destination: &str) -> Vec<u8> {
    let (source, destination): (SocketAddr, SocketAddr) =
        (source.parse().unwrap(), destination.parse().unwrap());
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
}

/// Version 2 with this command, family and protocol, and what follows.
pub(crate) fn v2_raw(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&V2_SIGNATURE[..], &[0x20 | command, family], &length, rest].concat()
}

/// Version 2 of a connection from `source` to `destination`, with additions behind the addresses.
pub(crate) fn v2_with(source: &str, destination: &str, additions: &[u8]) -> Vec<u8> {
    let ends: [SocketAddr; 2] = [source, destination].map(|end| end.parse().unwrap());
    let mut rest = Vec::new();
    for end in ends {
        match end.ip() {
            IpAddr::V4(ip) => rest.extend(ip.octets()),
            IpAddr::V6(ip) => rest.extend(ip.octets()),
        }
    }
    rest.extend(ends.iter().flat_map(|end| end.port().to_be_bytes()));
    rest.extend(additions);
    v2_raw(1, if ends[0].is_ipv4() { 0x11 } else { 0x21 }, &rest)
}

pub(crate) fn v2(source: &str, destination: &str) -> Vec<u8> {
    v2_with(source, destination, b"")
}
