//! Changes of header fields.

use std::sync::Arc;

use super::Findings;
use crate::{
    config::{
        mistake::quoted,
        plan::route::FieldEdits,
        read::{At, Key, List, Map},
    },
    syntax,
};

/// Fields that frame a message, belong to one hop or say whom it is for. Ringway writes them; only a request's `host`
/// can be chosen.
const OURS: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "max-forwards",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Whose fields are changed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    /// The only one that says whom it is for, which may be set.
    Request,
    /// Goes back where the request came from.
    Response,
}

/// Reads what is set (first) and added (second), and what is removed.
pub(super) fn edits(
    findings: &mut Findings<'_>,
    head: Head,
    [set, add]: [&Key<Map<String>>; 2],
    remove: &Key<List<String>>,
) -> FieldEdits {
    let mut edits = FieldEdits::default();
    for at in remove.get().map_or(&[][..], |list| &list.0) {
        edits.remove.extend(name(findings, head, at));
    }
    let before = edits.remove.len();
    for (field, text) in set.get().map_or(&[][..], |map| &map.0) {
        let text = At { place: field.place.clone(), value: text.clone() };
        let is_host = head == Head::Request && field.value.eq_ignore_ascii_case("host");
        let (lower, value) = match is_host {
            true => (Some("host".into()), host(findings, &text)),
            false => (name(findings, head, field), value(findings, &text)),
        };
        let (Some(lower), Some(value)) = (lower, value) else { continue };
        if edits.remove.get(before..).is_some_and(|set| set.contains(&lower)) {
            findings.mistake(&field.place, format!("field {} is set twice: leave one out", quoted(&lower)));
            continue;
        }
        edits.remove.push(lower);
        edits.write.push((field.value.as_str().into(), value.into()));
    }
    for (field, text) in add.get().map_or(&[][..], |map| &map.0) {
        let text = At { place: field.place.clone(), value: text.clone() };
        if let (Some(_), Some(value)) = (name(findings, head, field), value(findings, &text)) {
            edits.write.push((field.value.as_str().into(), value.into()));
        }
    }
    edits
}

/// What is told of a name that no field can have.
pub(super) fn no_field(name: &str) -> String {
    format!(
        "{} is no name of a header field: write letters, digits and signs such as `-`, without blanks",
        quoted(name)
    )
}

/// The name in lower case, if it may be removed and added.
pub(super) fn name(findings: &mut Findings<'_>, head: Head, at: &At<String>) -> Option<Arc<str>> {
    let lower = at.value.to_ascii_lowercase();
    if !syntax::is_token(lower.as_bytes()) {
        findings.mistake(&at.place, no_field(&at.value));
        return None;
    }
    if lower == "host" && head == Head::Request {
        findings.mistake(
            &at.place,
            "a request has exactly one field `host`, which can only be set: use `set_request_header`",
        );
        return None;
    }
    if OURS.contains(&lower.as_str()) {
        findings.mistake(
            &at.place,
            format!(
                "field `{lower}` says how or to whom a message is sent, which cannot be changed: leave it out"
            ),
        );
        return None;
    }
    Some(lower.into())
}

/// Whom a request is for: a host, with or without a port.
pub(super) fn host<'a>(findings: &mut Findings<'_>, at: &'a At<String>) -> Option<&'a str> {
    let host = at.value.trim_matches([' ', '\t']);
    if host.is_empty() || !syntax::is_host(host.as_bytes()) {
        findings.mistake(
            &at.place,
            format!(
                "{} is no host: write one such as `example.com` or `example.com:8443`",
                quoted(&at.value)
            ),
        );
        return None;
    }
    Some(host)
}

/// A value that can be written, without blanks around it.
pub(super) fn value<'a>(findings: &mut Findings<'_>, at: &'a At<String>) -> Option<&'a str> {
    let plain = |byte: u8| byte == b'\t' || byte >= b' ' && byte != 0x7f;
    if !at.value.bytes().all(plain) {
        findings.mistake(
            &at.place,
            "the value has control characters, which no header field can carry: remove them",
        );
        return None;
    }
    Some(at.value.trim_matches([' ', '\t']))
}
