//! Rewritten targets: another prefix for the backend, another place for the client.
//!
//! What is written never begins with two slashes (or what a browser takes for them) unless the client's path did and
//! nothing was taken from it: behind a lost prefix, `//host` would be read as a host.

use super::{host, path};
use crate::config::plan::route::{PathMatch, Redirect, RedirectPath};

/// How many segments at the front of a path its route has matched.
fn matched(by: &PathMatch) -> usize {
    match by {
        PathMatch::Prefix(path) | PathMatch::Exact(path) => path::segments(path.as_bytes()),
        PathMatch::Any | PathMatch::Regex(_) => 0,
    }
}

/// Path and query of a target; no path at all is the root's (RFC 9112 section 3.2.1).
fn split(target: &[u8]) -> (&[u8], &[u8]) {
    match path::split_query(target) {
        (b"", query) => (b"/", query),
        parts => parts,
    }
}

/// Writes a target (path and query) with `prefix` in place of what the route has matched. `*` stays.
pub fn write_target(out: &mut Vec<u8>, target: &[u8], by: &PathMatch, prefix: &str) {
    let (path, query) = split(target);
    if path.starts_with(b"/") {
        write_path(out, path, by, prefix);
    } else {
        out.extend_from_slice(path);
    }
    out.extend_from_slice(query);
}

fn write_path(out: &mut Vec<u8>, path: &[u8], by: &PathMatch, prefix: &str) {
    let prefix = prefix.trim_end_matches('/');
    let below = path::below(path, matched(by));
    if prefix.is_empty() {
        write_with_one_slash(out, below);
    } else {
        out.extend_from_slice(prefix.as_bytes());
        out.extend_from_slice(below);
    }
}

fn write_with_one_slash(out: &mut Vec<u8>, path: &[u8]) {
    let slashes = path.iter().take_while(|byte| matches!(byte, b'/' | b'\\')).count();
    out.push(b'/');
    out.extend_from_slice(path.get(slashes..).unwrap_or_default());
}

/// What a client has asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// `http` or `https`.
    pub scheme: &'a str,
    /// With its port, if it has one; empty when there is none.
    pub host: &'a [u8],
    /// Path and query.
    pub target: &'a [u8],
}

impl<'a> Asked<'a> {
    /// The path, without the query.
    pub fn path(&self) -> &'a [u8] {
        split(self.target).0
    }
}

/// Writes the `Location` of a redirect: always with scheme and host, so that nothing in the path can be taken for
/// them; without any host to name, a path with one slash at its front. Another scheme has its own port: the client's
/// is not kept with it.
pub fn write_location(out: &mut Vec<u8>, redirect: &Redirect, by: &PathMatch, asked: Asked<'_>) {
    let scheme = redirect.scheme.as_deref().unwrap_or(asked.scheme);
    let host = match &redirect.host {
        Some(host) => host.as_bytes(),
        None if scheme == asked.scheme => asked.host,
        None => host::without_port(asked.host),
    };
    let (path, query) = split(asked.target);
    let start = out.len();
    if !host.is_empty() {
        [scheme.as_bytes(), b"://", host].iter().for_each(|part| out.extend_from_slice(part));
    }
    let behind_host = out.len();
    match &redirect.path {
        Some(RedirectPath::Whole(whole)) => out.extend_from_slice(whole.as_bytes()),
        Some(RedirectPath::Prefix(prefix)) if path.starts_with(b"/") => write_path(out, path, by, prefix),
        _ if path.starts_with(b"/") => out.extend_from_slice(path),
        _ => out.push(b'/'),
    }
    if behind_host == start {
        let path = out.split_off(start);
        write_with_one_slash(out, &path);
    }
    match query {
        [b'?', behind @ ..] if out.get(behind_host..).is_some_and(|path| path.contains(&b'?')) => {
            out.push(b'&');
            out.extend_from_slice(behind);
        }
        query => out.extend_from_slice(query),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix(path: &str) -> PathMatch {
        PathMatch::Prefix(path.into())
    }

    fn target(target: &str, by: &PathMatch, replacement: &str) -> String {
        let mut out = Vec::new();
        write_target(&mut out, target.as_bytes(), by, replacement);
        String::from_utf8(out).unwrap()
    }

    fn location(redirect: &Redirect, by: &PathMatch, scheme: &str, host: &str, target: &str) -> String {
        let mut out = b"x".to_vec();
        write_location(
            &mut out,
            redirect,
            by,
            Asked { scheme, host: host.as_bytes(), target: target.as_bytes() },
        );
        String::from_utf8(out.split_off(1)).unwrap()
    }

    fn redirect(scheme: Option<&str>, host: Option<&str>, path: Option<RedirectPath>) -> Redirect {
        Redirect { status: 308, scheme: scheme.map(Into::into), host: host.map(Into::into), path }
    }

    #[test]
    fn prefixes_are_stripped_and_replaced() {
        for (asked, by, replacement, wanted) in [
            ("/api/x?y", "/api", "", "/x?y"),
            ("/api", "/api", "", "/"),
            ("/api?y", "/api", "", "/?y"),
            ("/api/", "/api", "", "/"),
            ("/api/x?y", "/api", "/v2", "/v2/x?y"),
            ("/api", "/api", "/v2", "/v2"),
            ("/api?y", "/api", "/v2", "/v2?y"),
            ("/api/", "/api", "/v2/", "/v2/"),
            ("/a/b/c", "/a/b", "/v2/x", "/v2/x/c"),
            ("/x", "/", "/v2", "/v2/x"),
            ("/", "/", "/v2", "/v2/"),
            ("/%61pi/%61", "/api", "/v2", "/v2/%61"),
            ("/api//evil.example/x", "/api", "", "/evil.example/x"),
            ("/api/\\evil.example/x", "/api", "", "/evil.example/x"),
            ("/api//x", "/api", "/v2", "/v2//x"),
            ("*", "/", "/v2", "*"),
            ("?y", "/", "/v2", "/v2/?y"),
            ("", "/", "", "/"),
        ] {
            assert_eq!(target(asked, &prefix(by), replacement), wanted, "{asked} by {by}");
        }
        assert_eq!(target("/a?b", &PathMatch::Exact("/a".into()), "/c"), "/c?b");
        assert_eq!(target("/a/?b", &PathMatch::Exact("/a/".into()), "/c"), "/c?b");
        assert_eq!(target("/a?b", &PathMatch::Any, "/c"), "/c/a?b");
    }

    #[test]
    fn a_location_keeps_what_is_not_changed() {
        let any = PathMatch::Any;
        let https = redirect(Some("https"), None, None);
        assert_eq!(location(&https, &any, "http", "a.example", "/x?y"), "https://a.example/x?y");
        assert_eq!(location(&https, &any, "http", "a.example:8080", "/x"), "https://a.example/x");
        assert_eq!(location(&https, &any, "http", "[::1]:8080", "/x"), "https://[::1]/x");
        let host = redirect(None, Some("b.example:81"), None);
        assert_eq!(location(&host, &any, "http", "a.example:80", "/?y"), "http://b.example:81/?y");
        let whole = redirect(None, None, Some(RedirectPath::Whole("/new".into())));
        assert_eq!(location(&whole, &any, "https", "a:8080", "/x?y=1"), "https://a:8080/new?y=1");
        let with_query = redirect(None, None, Some(RedirectPath::Whole("/new?a".into())));
        assert_eq!(location(&with_query, &any, "http", "a", "/x?y=1"), "http://a/new?a&y=1");
        let moved = redirect(None, None, Some(RedirectPath::Prefix("/v2".into())));
        assert_eq!(location(&moved, &prefix("/v1"), "http", "a", "/v1/x?y"), "http://a/v2/x?y");
        assert_eq!(location(&moved, &prefix("/v1"), "http", "a", "*"), "http://a/");
    }

    #[test]
    fn no_path_becomes_a_host() {
        let same = redirect(None, None, None);
        assert_eq!(
            location(&same, &PathMatch::Any, "http", "a", "//evil.example/x"),
            "http://a//evil.example/x"
        );
        for path in ["//evil.example/x", "/\\evil.example/x", "///\\/evil.example/x"] {
            assert_eq!(location(&same, &PathMatch::Any, "http", "", path), "/evil.example/x");
        }
        let stripped = redirect(None, None, Some(RedirectPath::Prefix("".into())));
        assert_eq!(location(&stripped, &prefix("/a"), "http", "", "/a//evil.example"), "/evil.example");
    }

    proptest! {
        #[test]
        fn a_rewritten_target_is_the_new_prefix_and_what_was_below(
            old in "(/[a-c]{1,2}){1,3}",
            new in prop_oneof![Just(String::new()), "(/[a-c]{1,2}){1,2}"],
            below in "(/[a-c%.;]{0,3}){0,3}",
            query in prop_oneof![Just(String::new()), "\\?[a-c/?]{0,4}"],
        ) {
            let out = target(&format!("{old}{below}{query}"), &prefix(&old), &new);
            prop_assert!(out.starts_with('/') && out.ends_with(&query));
            if new.is_empty() {
                prop_assert!(!out.starts_with("//"));
                let kept = out.strip_suffix(&query).unwrap();
                prop_assert_eq!(kept.trim_start_matches('/'), below.trim_start_matches('/'));
            } else {
                prop_assert_eq!(&out, &format!("{new}{below}{query}"));
                // And back again.
                prop_assert_eq!(target(&out, &prefix(&new), &old), format!("{old}{below}{query}"));
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..40), host in prop::collection::vec(any::<u8>(), 0..9)) {
            let mut out = Vec::new();
            write_target(&mut out, &bytes, &prefix("/a"), "");
            let moved = redirect(Some("https"), None, Some(RedirectPath::Prefix("/b".into())));
            write_location(&mut out, &moved, &prefix("/a"), Asked { scheme: "http", host: &host, target: &bytes });
        }
    }
}
