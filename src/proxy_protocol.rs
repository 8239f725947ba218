//! The PROXY protocol (HAProxy's `proxy-protocol.txt`): what a proxy in front of us says about its client, and
//! what we say about ours to a backend. Reads and writes version 1 (a line of text) and version 2 (binary).
//!
//! Owns the bytes of the header only: it knows no socket and no clock. Whoever calls [`parse`] has been told by the
//! configuration that this sender may speak for others and must do so: a header is never guessed, because anybody
//! could send one. Nothing of what follows the header is looked at.

mod v1;
mod v2;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Version to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

impl Version {
    /// The name on the command line and in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Version::V1 => "v1",
            Version::V2 => "v2",
        }
    }
}

/// The two ends of a connection as the client made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The client.
    pub source: SocketAddr,
    /// What it connected to.
    pub destination: SocketAddr,
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// Nothing: the ends of the connection it came on are all there is to know. This is a connection of the
    /// sender's own (LOCAL of version 2) or one it knows no addresses of (UNKNOWN of version 1, UNSPEC of version 2).
    Local,
    /// TCP or UDP over IPv4 or IPv6. It is how the client came to the sender, not how the sender came to us, so
    /// UDP is as good as TCP. IPv4 addresses mapped to IPv6 are left as they are.
    Inet(Ends),
    /// A UNIX socket: the client was on the sender's machine. To be treated as [`Header::Local`] if that makes no
    /// difference.
    Unix,
}

/// How far a header has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// So far it is right, but there must be more.
    Incomplete,
    /// All of it is there.
    Complete {
        /// What it says.
        header: Header,
        /// Its bytes, at most [`PROXY_HEADER_BYTES_MAX`](crate::limits::PROXY_HEADER_BYTES_MAX); what the client
        /// has sent begins behind them.
        length: usize,
    },
}

/// Why bytes are no header. The connection they came on is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalid {
    /// They begin like neither version: probably not a proxy's.
    Absent,
    /// Version 1: the line does not follow the grammar.
    Line,
    /// Version 1: no end of the line within 107 bytes.
    LineTooLong,
    /// Version 2: a version other than 2 behind the signature.
    Version,
    /// Version 2: neither LOCAL nor PROXY.
    Command,
    /// Version 2: an address family that is not assigned.
    Family,
    /// Version 2: a transport protocol that is not assigned.
    Transport,
    /// Version 2: longer than [`PROXY_HEADER_BYTES_MAX`](crate::limits::PROXY_HEADER_BYTES_MAX).
    TooLarge,
    /// Version 2: no room for the addresses of its family.
    Addresses,
    /// Version 2: a type-length-value that does not fit into the header, or a checksum that is none.
    Tlv,
    /// Version 2: the checksum is wrong.
    Checksum,
}

/// Reads a header; `bytes` is everything received so far from the first byte of the connection on. A line of version 1
/// and the 16 fixed bytes of version 2 are refused as soon as no valid header can begin like this, what follows those
/// 16 bytes when all of it is there. The result does not depend on how the bytes arrived.
pub fn parse(bytes: &[u8]) -> Result<Parsed, Invalid> {
    let begins = |signature: &[u8]| bytes.iter().zip(signature).all(|(byte, expected)| byte == expected);
    if begins(v1::SIGNATURE) {
        v1::parse(bytes)
    } else if begins(v2::SIGNATURE) {
        v2::parse(bytes)
    } else {
        Err(Invalid::Absent)
    }
}

/// Appends the header of a connection with these ends. Without them it is the one that tells the receiver to use
/// the ends of the connection it comes on: UNKNOWN (some receivers refuse it; for a probe the ends of the probe's
/// own connection are better) or LOCAL (which nobody may refuse). It has to be sent before anything else.
///
/// Both ends are written in one family: in IPv4 if both are IPv4, mapped or not, otherwise in IPv6. Scopes and flow
/// labels have no place in a header.
pub fn write(version: Version, ends: Option<Ends>, out: &mut Vec<u8>) {
    match version {
        Version::V1 => v1::write(ends, out),
        Version::V2 => v2::write(ends, out),
    }
}

/// Source and destination in one family.
enum Addresses {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

impl Ends {
    fn addresses(self) -> Addresses {
        match (self.source.ip().to_canonical(), self.destination.ip().to_canonical()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Addresses::V4(source, destination),
            (source, destination) => Addresses::V6(mapped(source), mapped(destination)),
        }
    }
}

fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::Index};

    use super::*;
    use crate::limits::PROXY_HEADER_BYTES_MAX;

    fn ends(source: &str, destination: &str) -> Ends {
        Ends { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    fn written(version: Version, ends: Option<Ends>) -> Vec<u8> {
        let mut out = b"before".to_vec();
        write(version, ends, &mut out);
        out.split_off(6)
    }

    fn complete(header: Header, length: usize) -> Result<Parsed, Invalid> {
        Ok(Parsed::Complete { header, length })
    }

    /// The ends as they arrive: in one family.
    fn unified(ends: Ends) -> Ends {
        let pair = (ends.source.ip().to_canonical(), ends.destination.ip().to_canonical());
        let to = |ip| if pair.0.is_ipv4() && pair.1.is_ipv4() { ip } else { IpAddr::V6(mapped(ip)) };
        Ends {
            source: SocketAddr::new(to(pair.0), ends.source.port()),
            destination: SocketAddr::new(to(pair.1), ends.destination.port()),
        }
    }

    #[test]
    fn what_begins_like_no_version_is_refused_at_its_first_wrong_byte() {
        assert_eq!(parse(b""), Ok(Parsed::Incomplete));
        for signature in [&b"PROXY "[..], b"\r\n\r\n\0\r\nQUIT\n"] {
            for end in 1..=signature.len() {
                assert_eq!(parse(&signature[..end]), Ok(Parsed::Incomplete), "{end}");
                let mut wrong = signature[..end].to_vec();
                wrong[end - 1] ^= 0x20;
                assert_eq!(parse(&wrong), Err(Invalid::Absent), "{end}");
            }
        }
        for other in [&b"GET / HTTP/1.1\r\n"[..], b"\x16\x03\x01", b"PRI * HTTP/2.0\r\n", b"\0"] {
            assert_eq!(parse(other), Err(Invalid::Absent));
        }
    }

    #[test]
    fn the_version_is_the_one_that_is_asked_for() {
        for ends in [None, Some(ends("10.0.0.1:1", "10.0.0.2:2"))] {
            assert!(written(Version::V1, ends).starts_with(b"PROXY "));
            assert!(written(Version::V2, ends).starts_with(b"\r\n\r\n"));
        }
    }

    #[test]
    fn ends_of_two_families_are_written_in_one() {
        for (source, destination, expected) in [
            ("10.0.0.1:1", "[2001:db8::1]:2", ends("[::ffff:10.0.0.1]:1", "[2001:db8::1]:2")),
            ("[2001:db8::1]:1", "10.0.0.1:2", ends("[2001:db8::1]:1", "[::ffff:10.0.0.1]:2")),
            ("[2001:db8::1]:1", "[::ffff:10.0.0.1]:2", ends("[2001:db8::1]:1", "[::ffff:10.0.0.1]:2")),
            ("[::ffff:10.0.0.1]:1", "[::ffff:10.0.0.2]:2", ends("10.0.0.1:1", "10.0.0.2:2")),
            ("[::ffff:10.0.0.1]:1", "10.0.0.2:2", ends("10.0.0.1:1", "10.0.0.2:2")),
            // Compatible, not mapped.
            ("[::10.0.0.1]:1", "10.0.0.2:2", ends("[::10.0.0.1]:1", "[::ffff:10.0.0.2]:2")),
        ] {
            let ends = ends(source, destination);
            for version in [Version::V1, Version::V2] {
                let bytes = written(version, Some(ends));
                assert_eq!(parse(&bytes), complete(Header::Inet(expected), bytes.len()), "{ends:?}");
            }
        }
    }

    fn any_ip() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<Ipv4Addr>().prop_map(IpAddr::V4),
            any::<Ipv4Addr>().prop_map(|ip| IpAddr::V6(ip.to_ipv6_mapped())),
            any::<Ipv6Addr>().prop_map(IpAddr::V6),
            // Many zeros, so that they are written in short.
            any::<[u16; 8]>().prop_map(|segments| segments.map(|s| if s % 3 == 0 { s } else { 0 }).into()),
        ]
    }

    fn any_ends() -> impl Strategy<Value = Ends> {
        (any_ip(), any::<u16>(), any_ip(), any::<u16>()).prop_map(|(source, sport, destination, dport)| {
            Ends { source: SocketAddr::new(source, sport), destination: SocketAddr::new(destination, dport) }
        })
    }

    fn any_version() -> impl Strategy<Value = Version> {
        prop_oneof![Just(Version::V1), Just(Version::V2)]
    }

    /// A valid header with what it says: one of ours, or one that only others write.
    fn any_header() -> impl Strategy<Value = (Vec<u8>, Header)> {
        let inet = |ends: Option<Ends>| ends.map_or(Header::Local, |ends| Header::Inet(unified(ends)));
        prop_oneof![
            (any_version(), prop::option::weighted(0.9, any_ends()))
                .prop_map(move |(version, ends)| (written(version, ends), inet(ends))),
            "PROXY UNKNOWN( [ -~]{0,91})?\r\n".prop_map(|line| (line.into_bytes(), Header::Local)),
            (any_ends(), prop::collection::vec(any::<u8>(), 0..300)).prop_map(move |(ends, value)| {
                (v2::with_checksum(written(Version::V2, Some(ends)), &value), inet(Some(ends)))
            }),
        ]
    }

    /// The first result that is final when the bytes arrive one by one.
    fn parse_in_bytes(bytes: &[u8]) -> Result<Parsed, Invalid> {
        let results = (0..=bytes.len()).map(|end| parse(&bytes[..end]));
        let mut decided = results.skip_while(|result| *result == Ok(Parsed::Incomplete));
        decided.next().unwrap_or(Ok(Parsed::Incomplete))
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(ends in any_ends(), version in any_version(), rest in "(PROXY |.){0,9}") {
            let mut bytes = written(version, Some(ends));
            let length = bytes.len();
            bytes.extend_from_slice(rest.as_bytes());
            prop_assert_eq!(parse(&bytes), complete(Header::Inet(unified(ends)), length));
            // One that has been read is written as it was.
            prop_assert_eq!(&written(version, Some(unified(ends)))[..], &bytes[..length]);
        }

        #[test]
        fn every_beginning_is_incomplete_and_what_follows_does_not_matter(
            (mut bytes, header) in any_header(),
            rest in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let length = bytes.len();
            for end in 0..length {
                prop_assert_eq!(parse(&bytes[..end]), Ok(Parsed::Incomplete), "{} of {}", end, length);
            }
            prop_assert_eq!(parse(&bytes), complete(header, length));
            bytes.extend(rest);
            prop_assert_eq!(parse(&bytes), complete(header, length));
        }

        #[test]
        fn a_changed_header_never_panics_and_splits_agree(
            (mut bytes, _) in any_header(),
            changes in prop::collection::vec((any::<Index>(), prop_oneof![Just(b' '), Just(b'0'), Just(b'\r'), any::<u8>()]), 1..4),
            rest in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            for (index, byte) in changes {
                let index = index.index(bytes.len());
                bytes[index] = byte;
            }
            bytes.extend(rest);
            let whole = parse(&bytes);
            prop_assert_eq!(parse_in_bytes(&bytes), whole);
            if let Ok(Parsed::Complete { length, .. }) = whole {
                prop_assert!(length <= bytes.len() && length <= PROXY_HEADER_BYTES_MAX);
            }
        }

        #[test]
        fn random_bytes_never_panic_and_splits_agree(
            signature in prop_oneof![Just(&b""[..]), Just(v1::SIGNATURE), Just(v2::SIGNATURE), Just(&b"PROXY TCP4 "[..]), Just(&b"PROXY TCP6 "[..])],
            bytes in prop::collection::vec(prop_oneof![Just(b' '), Just(b':'), Just(b'\r'), Just(b'\n'), b'0'..=b'9', any::<u8>()], 0..300),
        ) {
            let bytes = [signature, &bytes].concat();
            prop_assert_eq!(parse_in_bytes(&bytes), parse(&bytes));
        }
    }
}
