//! The small grammars of HTTP: tokens, field lines, hosts, targets, chunk lines (RFC 9110, 9112, 3986).
//!
//! Pure functions over bytes; they decide, they never change anything.

/// `tchar` of RFC 9110 section 5.6.2.
pub fn is_token_byte(byte: u8) -> bool {
    const TABLE: [bool; 256] = token_table();
    TABLE.get(byte as usize).copied().unwrap_or(false)
}

const fn token_table() -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        let special = matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        );
        #[expect(clippy::indexing_slicing, reason = "evaluated at compile time")]
        if special || byte.is_ascii_alphanumeric() {
            table[byte as usize] = true;
        }
        byte += 1;
    }
    table
}

/// A non-empty token.
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| is_token_byte(*byte))
}

/// A byte that may stand in a field value: visible, blank, or beyond ASCII (RFC 9110 section 5.5).
fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Splits `name: value` (without its CRLF); `None` unless both are valid.
pub fn field_line(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', line)?;
    let (name, value) = (line.get(..colon)?, line.get(colon + 1..)?);
    (is_token(name) && value.iter().all(|byte| is_value_byte(*byte))).then(|| (name, value.trim_ascii()))
}

/// Fields that frame, route or authorise a message, or belong to one hop: never taken from, nor passed on in, a
/// trailer (RFC 9110 section 6.5.1).
pub fn forbidden_in_trailer(name: &[u8]) -> bool {
    const NAMES: [&str; 27] = [
        "age",
        "authorization",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "cookie",
        "date",
        "expect",
        "expires",
        "forwarded",
        "host",
        "http2-settings",
        "keep-alive",
        "location",
        "max-forwards",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
    ];
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
        || name.get(..12).is_some_and(|start| start.eq_ignore_ascii_case(b"x-forwarded-"))
}

/// The size in a chunk-size line (without its CRLF), with its extensions checked (RFC 9112 section 7.1.1).
pub fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let mut size: u64 = 0;
    for byte in line.get(..digits).filter(|digits| !digits.is_empty())? {
        // One spare bit, so that no sum of sizes can wrap.
        if size >> 59 != 0 {
            return None;
        }
        size = size << 4 | u64::from((*byte as char).to_digit(16)?);
    }
    chunk_extensions(line.get(digits..)?).then_some(size)
}

/// `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`
fn chunk_extensions(mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        let Some(name) = skip_blank(rest).strip_prefix(b";").map(skip_blank) else { return false };
        let Some(behind) = skip_token(name) else { return false };
        rest = behind;
        if let Some(value) = skip_blank(behind).strip_prefix(b"=").map(skip_blank) {
            match skip_token(value).or_else(|| skip_quoted(value)) {
                Some(behind) => rest = behind,
                None => return false,
            }
        }
    }
    true
}

fn skip_blank(bytes: &[u8]) -> &[u8] {
    let blank = bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    bytes.get(blank..).unwrap_or_default()
}

fn skip_token(bytes: &[u8]) -> Option<&[u8]> {
    let length = bytes.iter().take_while(|byte| is_token_byte(**byte)).count();
    (length > 0).then(|| bytes.get(length..)).flatten()
}

fn skip_quoted(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes.strip_prefix(b"\"")?;
    loop {
        match rest {
            [b'"', behind @ ..] => return Some(behind),
            [b'\\', escaped, behind @ ..] if is_value_byte(*escaped) => rest = behind,
            [byte, behind @ ..] if is_value_byte(*byte) && *byte != b'\\' => rest = behind,
            _ => return None,
        }
    }
}

/// `host [ ":" port ]` (RFC 9110 section 7.2, RFC 3986 section 3.2.2); an empty one is valid too.
pub fn is_host(bytes: &[u8]) -> bool {
    let (host, port) = match bytes.strip_prefix(b"[") {
        Some(literal) => {
            let Some(end) = memchr::memchr(b']', literal) else { return false };
            let (literal, behind) = literal.split_at(end);
            if !is_ip_literal(literal) {
                return false;
            }
            (None, behind.get(1..).unwrap_or_default())
        }
        None => {
            let end = memchr::memchr(b':', bytes).unwrap_or(bytes.len());
            let (host, behind) = bytes.split_at(end);
            (Some(host), behind)
        }
    };
    let port_ok = match port.strip_prefix(b":") {
        Some(digits) => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit) && port_in_range(digits),
        None => port.is_empty(),
    };
    // A port needs a host in front of it.
    let host_ok = host.is_none_or(|host| (port.is_empty() || !host.is_empty()) && is_reg_name(host));
    host_ok && port_ok
}

fn port_in_range(digits: &[u8]) -> bool {
    digits.iter().fold(0u32, |port, digit| port * 10 + u32::from(digit - b'0')) <= 65_535
}

fn is_ip_literal(literal: &[u8]) -> bool {
    std::str::from_utf8(literal).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
}

/// `reg-name` with correct percent-encoding; IPv4 addresses are reg-names in form. The grammar's comma is left out: it
/// tells of two Host fields that somebody has joined.
fn is_reg_name(mut host: &[u8]) -> bool {
    loop {
        host = match host {
            [] => return true,
            [b'%', a, b, rest @ ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => rest,
            [byte, rest @ ..] if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(byte) => rest,
            _ => return false,
        };
    }
}

/// A request target taken apart (RFC 9112 section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// `/path?query`
    Origin(&'a [u8]),
    /// `http://authority/path?query`: the authority, and the rest, which may be empty or begin with `?`.
    Absolute(&'a [u8], &'a [u8]),
    /// `*`, only with OPTIONS.
    Asterisk,
}

/// Why a target is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadTarget {
    /// None of the forms above.
    Form,
    /// Carries `user:password@`.
    Userinfo,
}

/// Takes a target apart. Every byte must be visible ASCII; a fragment is not part of a target.
pub fn target(bytes: &[u8]) -> Result<Target<'_>, BadTarget> {
    if !bytes.iter().all(|byte| (b'!'..=b'~').contains(byte) && *byte != b'#') {
        return Err(BadTarget::Form);
    }
    match bytes {
        [b'/', ..] => Ok(Target::Origin(bytes)),
        b"*" => Ok(Target::Asterisk),
        _ => absolute(bytes),
    }
}

fn absolute(bytes: &[u8]) -> Result<Target<'_>, BadTarget> {
    let scheme =
        bytes.get(..7).filter(|start| start.eq_ignore_ascii_case(b"http://")).ok_or(BadTarget::Form)?;
    let rest = bytes.get(scheme.len()..).unwrap_or_default();
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.contains(&b'@') {
        return Err(BadTarget::Userinfo);
    }
    if authority.is_empty() || !is_host(authority) {
        return Err(BadTarget::Form);
    }
    Ok(Target::Absolute(authority, path))
}

/// The members of a comma-separated list, without blanks and without empty ones (RFC 9110 section 5.6.1).
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// A `Content-Length` value: digits, or a list of the same digits again and again (RFC 9112 section 6.3).
pub fn content_length(value: &[u8]) -> Option<u64> {
    let mut length = None;
    for member in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
        let number = decimal(member)?;
        if length.is_some_and(|before| before != number) {
            return None;
        }
        length = Some(number);
    }
    length
}

/// Digits only, up to 2^63 - 1.
pub fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u64, digit: &u8| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
    digits.iter().try_fold(0u64, add).filter(|number| *number <= i64::MAX as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hosts() {
        for good in [
            "",
            "a",
            "example.com",
            "example.com:80",
            "127.0.0.1",
            "[::1]",
            "[::1]:8080",
            "a_b-c.d",
            "%41b",
            "a:",
        ] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            ":80", "a b", "a,b c", "a@b", "a/b", "a:b", "a:80:80", "a:99999", "[::1", "::1", "[x]", "[::1]x",
            "%4", "a\"", "ä", "a?", "a#",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn targets() {
        assert_eq!(target(b"/a?b"), Ok(Target::Origin(b"/a?b")));
        assert_eq!(target(b"*"), Ok(Target::Asterisk));
        assert_eq!(target(b"HTTP://h:1/p"), Ok(Target::Absolute(b"h:1", b"/p")));
        assert_eq!(target(b"http://h?q"), Ok(Target::Absolute(b"h", b"?q")));
        assert_eq!(target(b"http://u:p@h/"), Err(BadTarget::Userinfo));
        for bad in [
            &b""[..],
            b"a",
            b"**",
            b"http://",
            b"http:///p",
            b"ftp://h/",
            b"/a#b",
            b"/a b",
            b"/\xc3\xa4",
            b"/\x00",
            b"h:443",
        ] {
            assert_eq!(target(bad), Err(BadTarget::Form), "{:?}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn content_lengths() {
        assert_eq!(content_length(b"0"), Some(0));
        assert_eq!(content_length(b"007"), Some(7));
        assert_eq!(content_length(b"5, 5"), Some(5));
        for bad in [
            "",
            "+5",
            "-5",
            "0x5",
            "5 5",
            "5,6",
            "5,",
            ",5",
            "9223372036854775808",
            "5.0",
            "18446744073709551617",
        ] {
            assert_eq!(content_length(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn chunk_lines() {
        assert_eq!(chunk_size(b"0"), Some(0));
        assert_eq!(chunk_size(b"1aF ; a ; b=c ;d=\"e\\\"f\""), Some(0x1af));
        for bad in
            ["", ";a", "1 ", "1;", "1;=", "1;a=", "1;a=\"b", "1 a", "1;a b", "1\t", "g", "8000000000000000"]
        {
            assert_eq!(chunk_size(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn field_lines() {
        assert_eq!(field_line(b"A:  b c\t"), Some((&b"A"[..], &b"b c"[..])));
        for bad in [&b"A"[..], b": b", b"A : b", b" A: b", b"A: \x01", b"A: \x7f", b"A\xff: b"] {
            assert_eq!(field_line(bad), None);
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = (is_host(&bytes), target(&bytes), content_length(&bytes), chunk_size(&bytes), field_line(&bytes));
        }

        #[test]
        fn numbers_round_trip(number in 0u64..=i64::MAX as u64) {
            prop_assert_eq!(content_length(number.to_string().as_bytes()), Some(number));
            prop_assert_eq!(chunk_size(format!("{number:x}").as_bytes()), Some(number));
        }
    }
}
