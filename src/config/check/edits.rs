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

/// Fields that frame a message, belong to one hop or say whom it is for. Ringway writes them.
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

/// Reads what is set (first) and added (second), and what is removed.
pub(super) fn edits(
    findings: &mut Findings<'_>,
    [set, add]: [&Key<Map<String>>; 2],
    remove: &Key<List<String>>,
) -> FieldEdits {
    let mut edits = FieldEdits::default();
    for at in remove.get().map_or(&[][..], |list| &list.0) {
        edits.remove.extend(name(findings, at));
    }
    for (key, replaces) in [(set, true), (add, false)] {
        for (field, text) in key.get().map_or(&[][..], |map| &map.0) {
            let text = At { place: field.place.clone(), value: text.clone() };
            let (Some(lower), Some(value)) = (name(findings, field), value(findings, &text)) else {
                continue;
            };
            if replaces && !edits.remove.contains(&lower) {
                edits.remove.push(lower);
            }
            edits.write.push((field.value.as_str().into(), value.into()));
        }
    }
    edits
}

/// The name in lower case, if it may be changed.
fn name(findings: &mut Findings<'_>, at: &At<String>) -> Option<Arc<str>> {
    let lower = at.value.to_ascii_lowercase();
    if !syntax::is_token(lower.as_bytes()) {
        findings.mistake(&at.place, format!("{} is no name of a header field", quoted(&at.value)));
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
