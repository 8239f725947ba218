//! Version 2: 16 fixed bytes, a block of addresses, and type-length-values (TLVs).
//!
//! Of the TLVs only the checksum is understood, but all of them have to fit. Where the addresses are to be ignored
//! (LOCAL, UNSPEC) nothing else is held against the sender: what it put there may be no TLV at all.

use std::net::{IpAddr, SocketAddr};

use crc::{CRC_32_ISCSI, Crc};

use super::{Addresses, Ends, Header, Invalid, Parsed};
use crate::limits::PROXY_HEADER_BYTES_MAX;

/// How a header begins.
pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The signature, version and command, family and transport, and the length of all that follows.
const FIXED_BYTES: usize = SIGNATURE.len() + 4;

/// The command LOCAL, in version 2.
const VERSION_LOCAL: u8 = 0x20;
/// The command PROXY, in version 2.
const VERSION_PROXY: u8 = 0x21;
/// Family and transport are not specified.
const UNSPEC: u8 = 0x00;
/// TCP over IPv4.
const TCP4: u8 = 0x11;
/// TCP over IPv6.
const TCP6: u8 = 0x21;

/// The TLV that holds a checksum.
const TYPE_CRC32C: u8 = 0x03;
/// Size of a checksum.
const CRC32C_BYTES: usize = 4;

static CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Unspec,
    Inet,
    Inet6,
    Unix,
}

impl Family {
    fn new(family: u8) -> Result<Self, Invalid> {
        match family {
            0 => Ok(Family::Unspec),
            1 => Ok(Family::Inet),
            2 => Ok(Family::Inet6),
            3 => Ok(Family::Unix),
            _ => Err(Invalid::Family),
        }
    }

    /// Size of its addresses.
    fn bytes(self) -> usize {
        match self {
            Family::Unspec => 0,
            Family::Inet => 2 * (4 + 2),
            Family::Inet6 => 2 * (16 + 2),
            Family::Unix => 2 * 108,
        }
    }
}

/// What stands between the fixed bytes and the TLVs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Block {
    family: Family,
    ignored: bool,
}

impl Block {
    fn new(version_command: u8, family_transport: u8) -> Result<Self, Invalid> {
        let family = Family::new(family_transport >> 4);
        if version_command == VERSION_LOCAL {
            return Ok(Block { family: family.unwrap_or(Family::Unspec), ignored: true });
        }
        let family = family?;
        match family_transport & 0x0f {
            0 => Ok(Block { family, ignored: true }),
            // Stream and datagram.
            1 | 2 => Ok(Block { family, ignored: family == Family::Unspec }),
            _ => Err(Invalid::Transport),
        }
    }

    /// What the addresses say.
    fn header(self, addresses: &[u8]) -> Result<Header, Invalid> {
        let ends = match self.family {
            _ if self.ignored => return Ok(Header::Local),
            Family::Unspec => return Ok(Header::Local),
            Family::Unix => return Ok(Header::Unix),
            Family::Inet => ends::<4>(addresses),
            Family::Inet6 => ends::<16>(addresses),
        };
        ends.map(Header::Inet).ok_or(Invalid::Addresses)
    }
}

/// Reads a header that begins with [`SIGNATURE`], as far as it goes.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, Invalid> {
    let mut fixed = bytes.iter().skip(SIGNATURE.len()).copied();
    let Some(version_command) = fixed.next() else { return Ok(Parsed::Incomplete) };
    match version_command {
        VERSION_LOCAL | VERSION_PROXY => {}
        _ if version_command >> 4 != VERSION_PROXY >> 4 => return Err(Invalid::Version),
        _ => return Err(Invalid::Command),
    }
    let Some(family_transport) = fixed.next() else { return Ok(Parsed::Incomplete) };
    let block = Block::new(version_command, family_transport)?;
    let (Some(high), Some(low)) = (fixed.next(), fixed.next()) else { return Ok(Parsed::Incomplete) };
    let length = FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    let tlvs = FIXED_BYTES + block.family.bytes();
    if length > PROXY_HEADER_BYTES_MAX {
        return Err(Invalid::TooLarge);
    }
    if length < tlvs && !block.ignored {
        return Err(Invalid::Addresses);
    }
    let Some(bytes) = bytes.get(..length) else { return Ok(Parsed::Incomplete) };
    let header = block.header(bytes.get(FIXED_BYTES..tlvs).unwrap_or_default())?;
    match check_tlvs(bytes, tlvs) {
        Err(Invalid::Tlv) if block.ignored => {}
        result => result?,
    }
    Ok(Parsed::Complete { header, length })
}

/// Appends a header.
pub(super) fn write(ends: Option<Ends>, out: &mut Vec<u8>) {
    out.extend_from_slice(SIGNATURE);
    let Some(ends) = ends else {
        out.extend_from_slice(&[VERSION_LOCAL, UNSPEC, 0, 0]);
        return;
    };
    match ends.addresses() {
        Addresses::V4(source, destination) => {
            out.extend_from_slice(&[VERSION_PROXY, TCP4, 0, Family::Inet.bytes() as u8]);
            out.extend_from_slice(&source.octets());
            out.extend_from_slice(&destination.octets());
        }
        Addresses::V6(source, destination) => {
            out.extend_from_slice(&[VERSION_PROXY, TCP6, 0, Family::Inet6.bytes() as u8]);
            out.extend_from_slice(&source.octets());
            out.extend_from_slice(&destination.octets());
        }
    }
    out.extend_from_slice(&ends.source.port().to_be_bytes());
    out.extend_from_slice(&ends.destination.port().to_be_bytes());
}

/// Reads source, destination and their ports; an address has `N` bytes.
fn ends<const N: usize>(bytes: &[u8]) -> Option<Ends>
where
    IpAddr: From<[u8; N]>,
{
    let (source, bytes) = bytes.split_first_chunk::<N>()?;
    let (destination, bytes) = bytes.split_first_chunk::<N>()?;
    let (sport, bytes) = bytes.split_first_chunk::<2>()?;
    let (dport, _) = bytes.split_first_chunk::<2>()?;
    let end = |ip: &[u8; N], port: &[u8; 2]| SocketAddr::new(IpAddr::from(*ip), u16::from_be_bytes(*port));
    Some(Ends { source: end(source, sport), destination: end(destination, dport) })
}

/// Looks at the TLVs, which begin at `from`: they have to end where the header ends, and a checksum has to be right.
fn check_tlvs(header: &[u8], from: usize) -> Result<(), Invalid> {
    let mut rest = header.get(from..).ok_or(Invalid::Tlv)?;
    let mut checksum = None;
    while !rest.is_empty() {
        let ([kind, high, low], behind) = rest.split_first_chunk::<3>().ok_or(Invalid::Tlv)?;
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, next) = behind.split_at_checked(length).ok_or(Invalid::Tlv)?;
        if *kind == TYPE_CRC32C {
            let value: [u8; CRC32C_BYTES] = value.try_into().map_err(|_| Invalid::Tlv)?;
            // Nobody says what the place of another one counts as.
            if checksum.replace((header.len() - behind.len(), u32::from_be_bytes(value))).is_some() {
                return Err(Invalid::Tlv);
            }
        }
        rest = next;
    }
    match checksum {
        Some((at, checksum)) if crc32c_without(header, at) != checksum => Err(Invalid::Checksum),
        _ => Ok(()),
    }
}

/// The checksum of a header, whose own place in it, at `at`, counts as zeros.
fn crc32c_without(header: &[u8], at: usize) -> u32 {
    let mut digest = CRC32C.digest();
    digest.update(header.get(..at).unwrap_or_default());
    digest.update(&[0; CRC32C_BYTES]);
    digest.update(header.get(at + CRC32C_BYTES..).unwrap_or_default());
    digest.finalize()
}

/// Adds TLVs to a header: a checksum, and behind it padding.
#[cfg(test)]
pub(super) fn with_checksum(mut header: Vec<u8>, padding: &[u8]) -> Vec<u8> {
    header.extend_from_slice(&[TYPE_CRC32C, 0, 4]);
    let at = header.len();
    header.extend_from_slice(&[0, 0, 0, 0, 0x04]);
    header.extend_from_slice(&(padding.len() as u16).to_be_bytes());
    header.extend_from_slice(padding);
    let length = (header.len() - FIXED_BYTES) as u16;
    header[FIXED_BYTES - 2..FIXED_BYTES].copy_from_slice(&length.to_be_bytes());
    // Bit by bit, so that the library is not compared with itself.
    let checksum = !header.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(
            sum ^ u32::from(*byte),
            |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 },
        )
    });
    header[at..at + 4].copy_from_slice(&checksum.to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 192.0.2.1:56324 to 198.51.100.2:443.
    const IPV4: &[u8] = b"\xc0\x00\x02\x01\xc6\x33\x64\x02\xdc\x04\x01\xbb";
    /// [2001:db8::1]:1 to [::ffff:192.0.2.1]:65535.
    const IPV6: &[u8] = b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\
        \0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\x00\x02\x01\x00\x01\xff\xff";

    fn inet(source: &str, destination: &str) -> Header {
        Header::Inet(Ends { source: source.parse().unwrap(), destination: destination.parse().unwrap() })
    }

    fn ipv4() -> Header {
        inet("192.0.2.1:56324", "198.51.100.2:443")
    }

    /// A header of these two bytes, and what follows its length.
    fn bytes(version_command: u8, family_transport: u8, parts: &[&[u8]]) -> Vec<u8> {
        let body = parts.concat();
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[version_command, family_transport], &length, &body].concat()
    }

    /// What a whole header says; it is incomplete without its last byte, and what follows it does not matter.
    fn said(bytes: &[u8]) -> Result<Header, Invalid> {
        let followed = [bytes, b"\x03\0"].concat();
        match parse(&followed)? {
            Parsed::Complete { header, length } => {
                assert_eq!(parse(&bytes[..bytes.len() - 1]), Ok(Parsed::Incomplete));
                assert_eq!(length, bytes.len());
                Ok(header)
            }
            Parsed::Incomplete => panic!("it is whole"),
        }
    }

    #[test]
    fn every_family_and_transport_is_understood() {
        let ipv6 = inet("[2001:db8::1]:1", "[::ffff:192.0.2.1]:65535");
        for (family_transport, addresses, header) in [
            (0x11, IPV4, ipv4()),
            (0x12, IPV4, ipv4()),
            (0x21, IPV6, ipv6),
            (0x22, IPV6, ipv6),
            (0x31, &[b'/'; 216], Header::Unix),
            (0x32, &[0; 216], Header::Unix),
            (0x00, b"", Header::Local),
            (0x01, b"", Header::Local),
            (0x02, IPV4, Header::Local),
            (0x10, IPV4, Header::Local),
            (0x20, IPV4, Header::Local),
            (0x30, b"", Header::Local),
        ] {
            assert_eq!(
                said(&bytes(0x21, family_transport, &[addresses])),
                Ok(header),
                "{family_transport:#x}"
            );
        }
    }

    #[test]
    fn a_local_header_is_skipped_whatever_it_holds() {
        for family_transport in 0..=0xff {
            for body in [&b""[..], IPV4, IPV6, &[0xff; 216], b"\x04\0\x09", b"\x03\0\x01x"] {
                let header = bytes(0x20, family_transport, &[body]);
                assert_eq!(said(&header), Ok(Header::Local), "{family_transport:#x} {body:?}");
            }
        }
    }

    #[test]
    fn versions_and_commands_of_the_future_are_refused_at_once() {
        for version_command in 0..=0xff_u8 {
            let expected = match version_command {
                0x20 | 0x21 => Ok(Parsed::Incomplete),
                0x22..=0x2f => Err(Invalid::Command),
                _ => Err(Invalid::Version),
            };
            let begin = [SIGNATURE, &[version_command]].concat();
            assert_eq!(parse(&begin), expected, "{version_command:#x}");
        }
    }

    #[test]
    fn families_and_transports_without_meaning_are_refused_at_once() {
        for family_transport in 0..=0xff_u8 {
            let expected = match (family_transport >> 4, family_transport & 0xf) {
                (4.., _) => Err(Invalid::Family),
                (_, 3..) => Err(Invalid::Transport),
                _ => Ok(Parsed::Incomplete),
            };
            let begin = [SIGNATURE, &[0x21, family_transport]].concat();
            assert_eq!(parse(&begin), expected, "{family_transport:#x}");
        }
    }

    #[test]
    fn lengths_that_cannot_be_are_refused_at_once() {
        for (family_transport, length, expected) in [
            (0x11, 11, Err(Invalid::Addresses)),
            (0x11, 12, Ok(Parsed::Incomplete)),
            (0x12, 0, Err(Invalid::Addresses)),
            (0x21, 35, Err(Invalid::Addresses)),
            (0x21, 36, Ok(Parsed::Incomplete)),
            (0x31, 215, Err(Invalid::Addresses)),
            (0x31, 216, Ok(Parsed::Incomplete)),
            (0x11, 4080, Ok(Parsed::Incomplete)),
            (0x11, 4081, Err(Invalid::TooLarge)),
            (0x00, u16::MAX, Err(Invalid::TooLarge)),
        ] {
            let begin = [SIGNATURE, &[0x21, family_transport], &u16::to_be_bytes(length)].concat();
            assert_eq!(parse(&begin), expected, "{family_transport:#x} {length}");
            assert_eq!(parse(&begin[..15]), Ok(Parsed::Incomplete));
        }
        let largest = bytes(0x21, 0x11, &[IPV4, &[0x04, 0x0f, 0xe1], &[0; 4065]]);
        assert_eq!((largest.len(), said(&largest)), (PROXY_HEADER_BYTES_MAX, Ok(ipv4())));
    }

    #[test]
    fn values_are_skipped_if_they_fit() {
        let addresses = [(0x11, IPV4), (0x21, IPV6), (0x31, &[0; 216])];
        for (family_transport, addresses) in addresses {
            let with = |tlvs: &[u8]| said(&bytes(0x21, family_transport, &[addresses, tlvs]));
            let plain = with(b"");
            assert!(plain.is_ok());
            for fitting in
                [&b"\x01\0\x02h2"[..], b"\x04\0\0", b"\x05\0\x03abc\xee\0\x01x", b"\xff\0\0\x01\0\0"]
            {
                assert_eq!(with(fitting), plain, "{fitting:?}");
            }
            for bad in [
                &b"\x01"[..],
                b"\x01\0",
                b"\x01\0\x02h",
                b"\x01\x01\0h",
                b"\x04\0\0\x04\0\x01",
                b"\x01\0\x01h2",
            ] {
                assert_eq!(with(bad), Err(Invalid::Tlv), "{bad:?}");
            }
        }
    }

    #[test]
    fn a_checksum_has_to_be_right() {
        let padding = b"\x04\0\x03pad";
        let with = |checksum: &[u8]| bytes(0x21, 0x11, &[IPV4, b"\x03\0\x04", checksum, padding]);
        let header = with(b"\x2d\x3e\x45\x34");
        assert_eq!(said(&header), Ok(ipv4()));
        assert_eq!(with_checksum(bytes(0x21, 0x11, &[IPV4]), b"pad"), header);
        // Any bit of the ports.
        for bit in (FIXED_BYTES + 8) * 8..(FIXED_BYTES + 12) * 8 {
            let mut wrong = header.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(said(&wrong), Err(Invalid::Checksum), "{bit}");
        }
        assert_eq!(said(&with(b"\x34\x45\x3e\x2d")), Err(Invalid::Checksum));
        assert_eq!(said(&with(b"\0\0\0\0")), Err(Invalid::Checksum));
        let mut wrong = header.clone();
        wrong[header.len() - 1] ^= 1;
        assert_eq!(said(&wrong), Err(Invalid::Checksum));
    }

    #[test]
    fn a_checksum_is_four_bytes_and_there_is_one() {
        let header = bytes(0x21, 0x11, &[IPV4]);
        assert_eq!(said(&bytes(0x21, 0x11, &[IPV4, b"\x03\0\x03abc"])), Err(Invalid::Tlv));
        assert_eq!(said(&bytes(0x21, 0x11, &[IPV4, b"\x03\0\x05abcde"])), Err(Invalid::Tlv));
        let twice = with_checksum(with_checksum(header, b""), b"");
        assert_eq!(said(&twice), Err(Invalid::Tlv));
    }

    #[test]
    fn a_checksum_counts_where_the_addresses_do_not() {
        let right = bytes(0x20, 0x00, &[b"\x03\0\x04\xa9\xb8\x7e\x8f"]);
        assert_eq!(said(&right), Ok(Header::Local));
        assert_eq!(said(&bytes(0x20, 0x00, &[b"\x03\0\x04\xa9\xb8\x7e\x8e"])), Err(Invalid::Checksum));
        for (version_command, family_transport, addresses) in
            [(0x20, 0x11, IPV4), (0x21, 0x00, b""), (0x21, 0x20, IPV6)]
        {
            let mut header = with_checksum(bytes(version_command, family_transport, &[addresses]), b"pad");
            assert_eq!(said(&header), Ok(Header::Local));
            *header.last_mut().unwrap() ^= 1;
            assert_eq!(said(&header), Err(Invalid::Checksum));
        }
    }

    #[test]
    fn the_header_is_written_as_specified() {
        let Header::Inet(ends) = ipv4() else { panic!("has addresses") };
        let mixed = Ends {
            source: "[2001:db8::1]:1".parse().unwrap(),
            destination: "192.0.2.1:65535".parse().unwrap(),
        };
        for (ends, expected) in [
            (Some(ends), bytes(0x21, 0x11, &[IPV4])),
            (Some(mixed), bytes(0x21, 0x21, &[IPV6])),
            (None, bytes(0x20, 0x00, &[])),
        ] {
            let mut out = Vec::new();
            write(ends, &mut out);
            assert_eq!(out, expected);
        }
    }
}
