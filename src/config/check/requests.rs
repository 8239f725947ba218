//! What a route asks of a request: host, path, method, header fields.

use std::sync::Arc;

use regex::bytes::Regex;

use super::{Findings, edits};
use crate::{
    config::{
        file::{FieldValue, Route},
        mistake::{Place, quoted},
        plan::route::{HeaderMatch, HostMatch, PathMatch},
        read::{At, Key, List, Map},
    },
    syntax,
};

/// Methods that are often written in lower case by mistake.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// Reads the hosts.
pub(super) fn hosts(findings: &mut Findings<'_>, key: &Key<List<String>>) -> Vec<HostMatch> {
    let all = key.get().map_or(&[][..], |list| &list.0);
    let mut hosts = Vec::new();
    for at in all {
        match host(&at.value) {
            Ok(host) if hosts.contains(&host) => {
                findings.mistake(&at.place, format!("{} is named twice: remove one", quoted(&at.value)));
            }
            Ok(host) => hosts.push(host),
            Err(message) => findings.mistake(&at.place, message),
        }
    }
    hosts
}

fn host(text: &str) -> Result<HostMatch, String> {
    let shown = quoted(text);
    let lower = text.to_ascii_lowercase();
    if lower == "*" {
        return Err("every host fits when `host` is left out".to_owned());
    }
    if !lower.is_ascii() {
        return Err(format!(
            "{shown} has letters beyond ASCII: write the name as it stands in requests, such as `xn--…`"
        ));
    }
    let (name, suffix) = match lower.strip_prefix('*') {
        Some(rest) => (rest.strip_prefix('.').unwrap_or_default(), Some(rest)),
        None => (lower.as_str(), None),
    };
    let port = name.rsplit_once(':').filter(|(_, port)| !port.contains(']'));
    if let Some((without, _)) = port.filter(|(without, _)| !without.contains(':') || without.ends_with(']')) {
        return Err(format!("{shown} has a port, and hosts are compared without: write `{without}`"));
    }
    if name.is_empty() || name.contains('*') || !syntax::is_host(name.as_bytes()) {
        return Err(format!(
            "{shown} is no host: write one such as `example.com`, or `*.example.com` for all names below it"
        ));
    }
    Ok(match suffix {
        Some(suffix) => HostMatch::Suffix(suffix.into()),
        None => HostMatch::Exact(name.into()),
    })
}

/// Reads the path.
pub(super) fn path(findings: &mut Findings<'_>, route: &Route, place: &Place) -> PathMatch {
    let given = [&route.path, &route.path_prefix, &route.path_regex];
    if given.iter().filter(|key| !key.is_absent()).count() > 1 {
        findings.mistake(
            place,
            "write one of `path`, `path_prefix` and `path_regex`: a path cannot be all of them",
        );
        return PathMatch::Any;
    }
    if let Some(at) = route.path.given() {
        return PathMatch::Exact(plain_path(findings, at).into());
    }
    if let Some(at) = route.path_prefix.given() {
        let path = plain_path(findings, at);
        let bare = path.strip_suffix('/').filter(|bare| !bare.is_empty()).unwrap_or(path);
        return PathMatch::Prefix(bare.into());
    }
    let Some(at) = route.path_regex.given() else { return PathMatch::Any };
    match Regex::new(&at.value) {
        Ok(regex) => PathMatch::Regex(regex),
        Err(error) => {
            let error = error.to_string();
            let cause = error.lines().last().unwrap_or_default().trim_start_matches("error: ").trim();
            findings.mistake(&at.place, format!("{} is no regular expression: {cause}", quoted(&at.value)));
            PathMatch::Any
        }
    }
}

/// A path as it may stand in a request, without a query.
pub(super) fn plain_path<'a>(findings: &mut Findings<'_>, at: &'a At<String>) -> &'a str {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#');
    if !at.value.starts_with('/') || !at.value.bytes().all(plain) {
        let shown = quoted(&at.value);
        findings.mistake(
            &at.place,
            format!(
                "{shown} is no path: write one that begins with `/`, without a query, other signs as `%20`"
            ),
        );
    }
    &at.value
}

/// Reads the methods.
pub(super) fn methods(findings: &mut Findings<'_>, key: &Key<List<String>>) -> Vec<Arc<str>> {
    let all = key.get().map_or(&[][..], |list| &list.0);
    let mut methods: Vec<Arc<str>> = Vec::new();
    for at in all {
        if !syntax::is_token(at.value.as_bytes()) {
            findings
                .mistake(&at.place, format!("{} is no method: write one such as `GET`", quoted(&at.value)));
        } else if upper_case(findings, at) && !methods.iter().any(|known| **known == *at.value) {
            methods.push(at.value.as_str().into());
        }
    }
    methods
}

/// False after a mistake: a known method is not written as methods are.
pub(super) fn upper_case(findings: &mut Findings<'_>, at: &At<String>) -> bool {
    let upper = at.value.to_ascii_uppercase();
    let is_slip = upper != at.value && METHODS.contains(&upper.as_str());
    if is_slip {
        findings.mistake(
            &at.place,
            format!("`{}` would never fit, methods have upper case: write `{upper}`", at.value),
        );
    }
    !is_slip
}

/// Reads the header fields.
pub(super) fn headers(findings: &mut Findings<'_>, key: &Key<Map<FieldValue>>) -> Vec<HeaderMatch> {
    let all = key.get().map_or(&[][..], |map| &map.0);
    let mut headers: Vec<HeaderMatch> = Vec::new();
    for (name, value) in all {
        let lower = name.value.to_ascii_lowercase();
        if !syntax::is_token(lower.as_bytes()) {
            findings.mistake(&name.place, edits::no_field(&name.value));
            continue;
        }
        if headers.iter().any(|known| *known.name == *lower) {
            findings.mistake(
                &name.place,
                format!("field {} is named twice: names differ in more than case", quoted(&lower)),
            );
            continue;
        }
        let value = match value {
            FieldValue::Present => None,
            FieldValue::Exactly(text)
                if text.bytes().all(|byte| byte == b'\t' || byte >= b' ' && byte != 0x7f) =>
            {
                Some(text.trim().as_bytes().into())
            }
            FieldValue::Exactly(_) => {
                findings.mistake(
                    &name.place,
                    "a field's value has no control characters, so this would never fit",
                );
                continue;
            }
        };
        headers.push(HeaderMatch { name: lower.into(), value });
    }
    headers
}
