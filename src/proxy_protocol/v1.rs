//! Version 1: one line of text, `PROXY TCP4 192.0.2.1 192.0.2.2 56324 443`.
//!
//! Strict: one space between, numbers without leading zeros, both addresses in the family that is announced, CRLF at
//! the end. Only behind `UNKNOWN` may stand what wants to, but for a lone CR or LF, which others might take for the
//! end of the line.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use super::{Addresses, Ends, Header, Invalid, Parsed};

/// How a line begins.
pub(super) const SIGNATURE: &[u8] = b"PROXY ";

/// Longest line with its CRLF, in bytes.
const LINE_BYTES_MAX: usize = 107;

const UNKNOWN: &[u8] = b"UNKNOWN";
const TCP4: &[u8] = b"TCP4";
const TCP6: &[u8] = b"TCP6";

/// Source and destination, behind which come their ports.
const ADDRESS_COUNT: usize = 2;

/// One of these makes a whole address of every beginning of one.
const ADDRESS_ENDINGS: &[&str] = &["", "0", ".0", "0.0", ".0.0", "0.0.0", ".0.0.0", "0.0.0.0", ":", "::"];

/// Reads a header that begins with [`SIGNATURE`], as far as it goes.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, Invalid> {
    // The carriage return is not the last byte of the line.
    let window = bytes.get(..LINE_BYTES_MAX - 1).unwrap_or(bytes);
    let end = memchr::memchr2(b'\r', b'\n', window);
    let text = window.get(SIGNATURE.len()..end.unwrap_or(window.len())).unwrap_or_default();
    let Some(end) = end else {
        return if !begins_header(text) {
            Err(Invalid::Line)
        } else if window.len() == LINE_BYTES_MAX - 1 {
            Err(Invalid::LineTooLong)
        } else {
            Ok(Parsed::Incomplete)
        };
    };
    let header = header(text).ok_or(Invalid::Line)?;
    match bytes.get(end..) {
        Some([b'\r']) => Ok(Parsed::Incomplete),
        Some([b'\r', b'\n', ..]) => Ok(Parsed::Complete { header, length: end + 2 }),
        _ => Err(Invalid::Line),
    }
}

/// Appends a header.
pub(super) fn write(ends: Option<Ends>, out: &mut Vec<u8>) {
    let line = match ends {
        None => "PROXY UNKNOWN\r\n".to_owned(),
        Some(ends) => {
            let (protocol, source, destination) = match ends.addresses() {
                Addresses::V4(source, destination) => ("TCP4", source.to_string(), destination.to_string()),
                Addresses::V6(source, destination) => ("TCP6", hexadecimal(source), hexadecimal(destination)),
            };
            let (sport, dport) = (ends.source.port(), ends.destination.port());
            format!("PROXY {protocol} {source} {destination} {sport} {dport}\r\n")
        }
    };
    out.extend_from_slice(line.as_bytes());
}

/// The specification knows no dots in IPv6 addresses, although mapped ones are often sent (and read by us) with them.
fn hexadecimal(ip: Ipv6Addr) -> String {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] => format!("::ffff:{high:x}:{low:x}"),
        _ => ip.to_string(),
    }
}

/// What a whole line says; `text` is all between [`SIGNATURE`] and CRLF.
fn header(text: &[u8]) -> Option<Header> {
    match split_protocol(text) {
        (UNKNOWN, _) => Some(Header::Local),
        (TCP4, Some(fields)) => ends::<Ipv4Addr>(fields).map(Header::Inet),
        (TCP6, Some(fields)) => ends::<Ipv6Addr>(fields).map(Header::Inet),
        _ => None,
    }
}

/// Whether a whole line can begin like this.
fn begins_header(text: &[u8]) -> bool {
    match split_protocol(text) {
        (protocol, None) => [UNKNOWN, TCP4, TCP6].iter().any(|known| known.starts_with(protocol)),
        (UNKNOWN, Some(_)) => true,
        (TCP4, Some(fields)) => begins_ends::<Ipv4Addr>(fields),
        (TCP6, Some(fields)) => begins_ends::<Ipv6Addr>(fields),
        _ => false,
    }
}

/// What stands before and behind the first space.
fn split_protocol(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut parts = text.splitn(2, |byte| *byte == b' ');
    (parts.next().unwrap_or_default(), parts.next())
}

fn ends<A: FromStr + Into<IpAddr>>(fields: &[u8]) -> Option<Ends> {
    let mut fields = str::from_utf8(fields).ok()?.split(' ');
    let (source, destination): (A, A) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let (sport, dport) = (port(fields.next()?)?, port(fields.next()?)?);
    let ends = Ends {
        source: SocketAddr::new(source.into(), sport),
        destination: SocketAddr::new(destination.into(), dport),
    };
    fields.next().is_none().then_some(ends)
}

fn begins_ends<A: FromStr>(fields: &[u8]) -> bool {
    let Ok(fields) = str::from_utf8(fields) else { return false };
    let mut fields = fields.split(' ');
    // The others have their space behind them: they are whole.
    let last = fields.next_back().unwrap_or_default();
    let mut count = 0;
    for field in fields {
        let valid = if count < ADDRESS_COUNT { field.parse::<A>().is_ok() } else { port(field).is_some() };
        if !valid {
            return false;
        }
        count += 1;
    }
    if count < ADDRESS_COUNT {
        ADDRESS_ENDINGS.iter().any(|ending| format!("{last}{ending}").parse::<A>().is_ok())
    } else {
        count < 2 * ADDRESS_COUNT && (last.is_empty() || port(last).is_some())
    }
}

/// Digits only, and no zero in front of others.
fn port(text: &str) -> Option<u16> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    canonical.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(header: Header, length: usize) -> Result<Parsed, Invalid> {
        Ok(Parsed::Complete { header, length })
    }

    fn inet(source: &str, destination: &str) -> Header {
        Header::Inet(Ends { source: source.parse().unwrap(), destination: destination.parse().unwrap() })
    }

    #[test]
    fn lines_of_both_families_are_understood() {
        for (line, header) in [
            ("PROXY TCP4 192.0.2.1 198.51.100.2 56324 443", inet("192.0.2.1:56324", "198.51.100.2:443")),
            ("PROXY TCP4 0.0.0.0 255.255.255.255 0 65535", inet("0.0.0.0:0", "255.255.255.255:65535")),
            ("PROXY TCP6 2001:db8::1 ::1 1 2", inet("[2001:db8::1]:1", "[::1]:2")),
            ("PROXY TCP6 2001:DB8:0:0::00ab ::0 9 10", inet("[2001:db8::ab]:9", "[::]:10")),
            ("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:c000:0202 1 2", {
                inet("[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.2]:2")
            }),
            ("PROXY UNKNOWN", Header::Local),
            ("PROXY UNKNOWN ", Header::Local),
            ("PROXY UNKNOWN ::1 ::2 1 2", Header::Local),
            ("PROXY UNKNOWN  what\tever\0 65536", Header::Local),
        ] {
            let bytes = format!("{line}\r\nGET / HTTP/1.1\r\n\r\n");
            assert_eq!(parse(bytes.as_bytes()), complete(header, line.len() + 2), "{line}");
        }
        assert_eq!(parse(b"PROXY UNKNOWN \xff\xfe\r\n"), complete(Header::Local, 18));
    }

    #[test]
    fn the_longest_lines_are_understood_and_longer_ones_are_not() {
        let full = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        let (v6, unknown) = (
            format!("PROXY TCP6 {full} {full} 65535 65535\r\n"),
            format!("PROXY UNKNOWN {full} {full} 65535 65535\r\n"),
        );
        let ends = inet(&format!("[{full}]:65535"), &format!("[{full}]:65535"));
        assert_eq!(parse(v6.as_bytes()), complete(ends, 104));
        assert_eq!(unknown.len(), LINE_BYTES_MAX);
        assert_eq!(parse(unknown.as_bytes()), complete(Header::Local, LINE_BYTES_MAX));
        assert_eq!(parse(unknown.replace('\r', "x\r").as_bytes()), Err(Invalid::LineTooLong));
        // As soon as there is no room left for CRLF.
        let endless = format!("PROXY UNKNOWN {}", "a".repeat(200));
        assert_eq!(parse(&endless.as_bytes()[..105]), Ok(Parsed::Incomplete));
        assert_eq!(parse(&endless.as_bytes()[..106]), Err(Invalid::LineTooLong));
        assert_eq!(parse(endless.as_bytes()), Err(Invalid::LineTooLong));
    }

    #[test]
    fn the_first_wrong_byte_is_refused() {
        // In each line it is the last one.
        for line in [
            "PROXY  ",
            "PROXY t",
            "PROXY TCP5",
            "PROXY TCP4\r",
            "PROXY TCP44",
            "PROXY UNKNOWNS",
            "PROXY UNKNOWN \n",
            "PROXY UNKNOWN \r ",
            "PROXY UNKNOWN\r\r",
            "PROXY \r",
            "PROXY TCP4  ",
            "PROXY TCP4 \r",
            "PROXY TCP4 a",
            "PROXY TCP4 :",
            "PROXY TCP4 256",
            "PROXY TCP4 01",
            "PROXY TCP4 1.2.3.04",
            "PROXY TCP4 1..",
            "PROXY TCP4 1.2.3 ",
            "PROXY TCP4 1.2.3.4.",
            "PROXY TCP4 1.2.3.4\t",
            "PROXY TCP4 1.2.3.4\r",
            "PROXY TCP4 1.2.3.4  ",
            "PROXY TCP4 1.2.3.4 :",
            "PROXY TCP4 1.2.3.4 1.2.3.4\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 +",
            "PROXY TCP4 1.2.3.4 1.2.3.4  ",
            "PROXY TCP4 1.2.3.4 1.2.3.4 00",
            "PROXY TCP4 1.2.3.4 1.2.3.4 65536",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1\r",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 \r",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 a",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 01",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 99999",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 ",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rx",
            "PROXY TCP6 g",
            "PROXY TCP6 1.",
            "PROXY TCP6 [",
            "PROXY TCP6 :1",
            "PROXY TCP6 :::",
            "PROXY TCP6 1::2::",
            "PROXY TCP6 12345",
            "PROXY TCP6 fe80::1%",
            "PROXY TCP6 1:2:3:4:5:6:7:8:",
            "PROXY TCP6 1:2:3:4:5:6:7:8 1:2:3:4:5:6:7 ",
            "PROXY TCP6 ::1.2.3.4.",
            "PROXY TCP6 ::1 1.",
        ] {
            let before = &line[..line.len() - 1];
            assert_eq!(parse(before.as_bytes()), Ok(Parsed::Incomplete), "{before:?}");
            assert_eq!(parse(line.as_bytes()), Err(Invalid::Line), "{line:?}");
            let whole = format!("{line}1.2.3.4 1.2.3.4 1 2\r\n");
            assert_eq!(parse(whole.as_bytes()), Err(Invalid::Line), "{whole:?}");
        }
        assert_eq!(parse(b"PROXY TCP4 \xff"), Err(Invalid::Line));
    }

    #[test]
    fn whole_lines_are_refused_as_well() {
        for line in [
            "PROXY TCP4 ::1 ::1 1 2",
            "PROXY TCP4 1.2.3.4 ::1 1 2",
            "PROXY TCP6 1.2.3.4 1.2.3.4 1 2",
            "PROXY TCP6 ::1 1.2.3.4 1 2",
            "PROXY TCP6 [::1] [::1] 1 2",
            "PROXY TCP4 1.2.3.4 1.2.3.4 +1 2",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 -2",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 ",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 ",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3",
            "PROXY tcp4 1.2.3.4 1.2.3.4 1 2",
            "PROXY UDP4 1.2.3.4 1.2.3.4 1 2",
            "PROXY unknown",
        ] {
            assert_eq!(parse(format!("{line}\r\n").as_bytes()), Err(Invalid::Line), "{line:?}");
        }
        assert_eq!(parse(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 \xd9\xa1\r\n"), Err(Invalid::Line));
    }

    #[test]
    fn every_beginning_of_an_address_has_an_ending() {
        for address in [
            "::",
            "::1:2:3:4:5:6:7",
            "1:2:3:4:5:6:7::",
            "1:2:3:4:5:6:7:8",
            "1:2:3:4:5:6:25.250.0.1",
            "a::b:1.2.3.4",
        ] {
            let line = format!("PROXY TCP6 {address} {address}");
            for end in 0..=line.len() {
                assert_eq!(parse(&line.as_bytes()[..end]), Ok(Parsed::Incomplete), "{}", &line[..end]);
            }
        }
    }

    #[test]
    fn the_header_is_written_as_specified() {
        for (source, destination, expected) in [
            ("192.0.2.1:56324", "198.51.100.2:443", "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n"),
            ("0.0.0.0:0", "255.255.255.255:65535", "PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n"),
            ("[2001:DB8::1]:1", "[fe80::1%7]:2", "PROXY TCP6 2001:db8::1 fe80::1 1 2\r\n"),
            ("[::1]:1", "192.0.2.1:2", "PROXY TCP6 ::1 ::ffff:c000:201 1 2\r\n"),
        ] {
            let ends = Ends { source: source.parse().unwrap(), destination: destination.parse().unwrap() };
            let mut out = Vec::new();
            write(Some(ends), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
        let mut out = Vec::new();
        write(None, &mut out);
        assert_eq!(out, b"PROXY UNKNOWN\r\n");
    }
}
