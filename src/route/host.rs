//! Hosts as the table compares them: in lower case, without their port and without a dot at their end.

/// Longest host that is looked up, in bytes; DNS allows 253. A longer one only has the routes for every host.
pub(super) const HOST_BYTES_MAX: usize = 255;

/// A host in its comparable form; `None` when it is empty or too long to be anybody's.
pub(super) fn canonical<'b>(host: &[u8], buffer: &'b mut [u8; HOST_BYTES_MAX]) -> Option<&'b [u8]> {
    let host = without_port(host);
    let host = host.strip_suffix(b".").unwrap_or(host);
    let lower = buffer.get_mut(..host.len()).filter(|lower| !lower.is_empty())?;
    lower.copy_from_slice(host);
    lower.make_ascii_lowercase();
    Some(lower)
}

/// What stands in front of `:port`; the colons of an IPv6 literal stand in its brackets.
pub(super) fn without_port(host: &[u8]) -> &[u8] {
    let port = memchr::memrchr(b':', host).filter(|colon| {
        let behind = host.get(colon + 1..).unwrap_or_default();
        behind.iter().all(u8::is_ascii_digit)
    });
    let bracketed = host.first() == Some(&b'[');
    match port {
        Some(colon) if !bracketed || host.get(colon.wrapping_sub(1)) == Some(&b']') => {
            host.get(..colon).unwrap_or_default()
        }
        _ => host,
    }
}

/// The parts of a host that begin with a dot, behind at least one other character: the longest first, none with more
/// than `labels_max` dots.
pub(super) fn suffixes(host: &[u8], labels_max: usize) -> impl Iterator<Item = &[u8]> {
    let mut start = host.len();
    for _ in 0..labels_max {
        match memchr::memrchr(b'.', host.get(..start).unwrap_or_default()) {
            Some(dot) if dot > 0 => start = dot,
            _ => break,
        }
    }
    let candidates = host.get(start..).unwrap_or_default();
    memchr::memchr_iter(b'.', candidates).filter_map(|dot| candidates.get(dot..))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lower(host: &str) -> Option<String> {
        let mut buffer = [0; HOST_BYTES_MAX];
        canonical(host.as_bytes(), &mut buffer).map(|host| String::from_utf8(host.to_vec()).unwrap())
    }

    #[test]
    fn ports_dots_and_case_do_not_count() {
        for (host, wanted) in [
            ("Example.COM", "example.com"),
            ("example.com.", "example.com"),
            ("example.com:8080", "example.com"),
            ("example.com.:", "example.com"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("[2001:DB8::1]", "[2001:db8::1]"),
            ("10.0.0.1:1", "10.0.0.1"),
        ] {
            assert_eq!(lower(host).as_deref(), Some(wanted), "{host}");
        }
        assert_eq!((lower(""), lower("."), lower(":80")), (None, None, None));
        assert_eq!(lower(&"a".repeat(HOST_BYTES_MAX)), Some("a".repeat(HOST_BYTES_MAX)));
        assert_eq!(lower(&"a".repeat(HOST_BYTES_MAX + 1)), None);
    }

    #[test]
    fn suffixes_come_longest_first_and_are_bounded() {
        let list = |host: &'static str, max| {
            suffixes(host.as_bytes(), max).map(|s| std::str::from_utf8(s).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(list("a.b.example.com", 9), [".b.example.com", ".example.com", ".com"]);
        assert_eq!(list("a.b.example.com", 2), [".example.com", ".com"]);
        assert_eq!(list("a.b.example.com", 0), Vec::<&str>::new());
        assert_eq!(list(".com", 9), Vec::<&str>::new());
        assert_eq!(list("localhost", 9), Vec::<&str>::new());
        assert_eq!(list("a..com", 9), ["..com", ".com"]);
    }
}
