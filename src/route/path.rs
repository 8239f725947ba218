//! Paths: what is equivalent in them, what makes them ambiguous, and their parts.
//!
//! Works on bytes as they stand in a request's target; nothing is resolved or merged.

use crate::limits::REQUEST_LINE_BYTES_MAX;

/// Room for the comparable form of any path.
pub const PATH_BYTES_MAX: usize = REQUEST_LINE_BYTES_MAX;

/// Takes the query, with its question mark, off a target.
pub fn split_query(target: &[u8]) -> (&[u8], &[u8]) {
    target.split_at(memchr::memchr(b'?', target).unwrap_or(target.len()))
}

/// A path with its escapes in the one form of RFC 3986 section 6.2.2: unreserved characters stand for themselves, the
/// digits of what stays escaped are in upper case. Slashes neither come nor go. A path that finds no room in `buffer`
/// stays as it is.
pub fn canonical<'b>(path: &'b [u8], buffer: &'b mut [u8]) -> &'b [u8] {
    let Some(room) = buffer.get_mut(..path.len()) else { return path };
    let mut length = 0;
    let mut put = |byte: u8| {
        if let Some(place) = room.get_mut(length) {
            *place = byte;
            length += 1;
        }
    };
    let mut rest = path;
    while let [byte, behind @ ..] = rest {
        rest = behind;
        match (byte, behind) {
            (b'%', [high, low, further @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest = further;
                let byte = hex(*high) << 4 | hex(*low);
                if is_unreserved(byte) {
                    put(byte);
                } else {
                    put(b'%');
                    put(high.to_ascii_uppercase());
                    put(low.to_ascii_uppercase());
                }
            }
            _ => put(*byte),
        }
    }
    buffer.get(..length).unwrap_or(path)
}

fn hex(digit: u8) -> u8 {
    (digit as char).to_digit(16).unwrap_or(0) as u8
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// True when some receiver could take a segment for `.` or `..`: plain or escaped, between slashes or backslashes
/// that are plain or escaped, with or without parameters behind a semicolon.
pub fn has_dot_segment(path: &[u8]) -> bool {
    if memchr::memchr2(b'.', b'%', path).is_none() {
        return false;
    }
    let (mut dots, mut only_dots, mut rest) = (0, true, path);
    loop {
        let (byte, behind) = match rest {
            [b'%', high, low, behind @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex(*high) << 4 | hex(*low), behind)
            }
            [byte, behind @ ..] => (*byte, behind),
            [] => return only_dots && (1..=2).contains(&dots),
        };
        match byte {
            b'/' | b'\\' if only_dots && (1..=2).contains(&dots) => return true,
            b'/' | b'\\' => (dots, only_dots) = (0, true),
            // What follows are parameters; the name ends here.
            b';' if only_dots && (1..=2).contains(&dots) => return true,
            b'.' => dots += 1,
            _ => only_dots = false,
        }
        rest = behind;
    }
}

/// How many segments a written path has: none in `/`, one in `/api`, two in `/api/`.
pub fn segments(path: &[u8]) -> usize {
    if path == b"/" { 0 } else { memchr::memchr_iter(b'/', path).count() }
}

/// What is left of a path behind its first segments: empty, or with a slash at its front.
pub fn below(path: &[u8], segments: usize) -> &[u8] {
    let mut rest = path;
    for _ in 0..segments {
        let end = rest.get(1..).and_then(|behind| memchr::memchr(b'/', behind));
        rest = end.and_then(|end| rest.get(end + 1..)).unwrap_or_default();
    }
    rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn equal_form(path: &[u8]) -> Vec<u8> {
        canonical(path, &mut vec![0; path.len()]).to_vec()
    }

    #[test]
    fn unreserved_escapes_are_characters_and_others_stay() {
        for (path, wanted) in [
            ("/%61p%69", "/api"),
            ("/%7euser", "/~user"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%2Fb%3b", "/a%2Fb%3B"),
            ("/%", "/%"),
            ("/%4", "/%4"),
            ("/%zz", "/%zz"),
            ("/%2561", "/%2561"),
            ("/A//b;c", "/A//b;c"),
        ] {
            assert_eq!(equal_form(path.as_bytes()), wanted.as_bytes(), "{path}");
        }
        assert_eq!(canonical(b"/%61", &mut [0; 3]), b"/%61", "no room");
    }

    #[test]
    fn dot_segments_are_seen_in_every_disguise() {
        for path in [
            "/.",
            "/..",
            "/../",
            "/api/../admin",
            "/api/./x",
            "/api/%2e%2E/admin",
            "/api/.%2e",
            "/api/..%2fadmin",
            "/api%2F..%2fadmin",
            "/api/..\\admin",
            "/api%5c..%5Cadmin",
            "/api/..;/admin",
            "/api/..;a=b/admin",
            "/api/..%3bx/admin",
            "/%2e",
        ] {
            assert!(has_dot_segment(path.as_bytes()), "{path}");
        }
        for path in [
            "/",
            "*",
            "",
            "/a.b/c..d/..e",
            "/...",
            "/.well-known/x",
            "/a;..",
            "/a;b/c",
            "/%252e%252e/",
            "/a%2fb",
            "//",
            "/a./b",
            "/;./x",
        ] {
            assert!(!has_dot_segment(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn segments_and_what_is_below_them() {
        for (path, count) in [("/", 0), ("/api", 1), ("/api/", 2), ("/api/v1", 2), ("/a//b", 3)] {
            assert_eq!(segments(path.as_bytes()), count, "{path}");
        }
        for (path, count, wanted) in [
            ("/api/x", 0, "/api/x"),
            ("/api/x", 1, "/x"),
            ("/api", 1, ""),
            ("/api/", 1, "/"),
            ("/api//x", 1, "//x"),
            ("/api", 5, ""),
            ("", 1, ""),
            ("*", 1, ""),
        ] {
            assert_eq!(below(path.as_bytes(), count), wanted.as_bytes(), "{path}");
        }
        assert_eq!(split_query(b"/a?b?c"), (&b"/a"[..], &b"?b?c"[..]));
        assert_eq!(split_query(b"/a"), (&b"/a"[..], &b""[..]));
    }

    proptest! {
        #[test]
        fn the_comparable_form_is_stable_and_keeps_slashes(path in "/([a-c./]|%(61|2e|2F|2f|7E|25)){0,12}") {
            let once = equal_form(path.as_bytes());
            prop_assert!(once.len() <= path.len());
            let slashes = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'/').count();
            prop_assert_eq!(slashes(&once), slashes(path.as_bytes()));
            prop_assert_eq!(has_dot_segment(&once), has_dot_segment(path.as_bytes()));
            prop_assert_eq!(equal_form(&once), once);
        }

        #[test]
        fn arbitrary_bytes_never_panic(path in prop::collection::vec(any::<u8>(), 0..40), count in 0usize..9) {
            equal_form(&path);
            has_dot_segment(&path);
            below(&path, count);
            split_query(&path);
        }
    }
}
