//! Changes of header fields that a route asks for, applied while a head is written again.
//!
//! Fields that frame a message or belong to one hop cannot be edited, whatever the configuration says: they are ours.

use super::field::{Known, known, write};
use crate::config::plan::route::FieldEdits;

/// The changes of one head; usually none, which costs one look per field.
#[derive(Debug, Clone, Copy, Default)]
pub struct Edits<'a>(Option<&'a FieldEdits>);

impl<'a> Edits<'a> {
    /// These changes.
    pub fn new(edits: &'a FieldEdits) -> Self {
        Edits(Some(edits).filter(|edits| !edits.is_empty()))
    }

    /// True when a received field goes no further, and one of our own is not added either.
    pub fn removes(self, name: &[u8]) -> bool {
        let Some(edits) = self.0 else { return false };
        is_editable(name) && edits.remove.iter().any(|removed| name.eq_ignore_ascii_case(removed.as_bytes()))
    }

    /// The host that takes the place of the request's.
    pub fn host(self) -> Option<&'a [u8]> {
        let mut written = self.0?.write.iter();
        let (_, value) = written.find(|(name, _)| known(name.as_bytes()) == Known::Host)?;
        Some(value.as_bytes())
    }

    /// Writes the fields that are set or added.
    pub fn write(self, out: &mut Vec<u8>) {
        let written = self.0.map(|edits| edits.write.as_slice()).unwrap_or_default();
        for (name, value) in written.iter().filter(|(name, _)| is_editable(name.as_bytes())) {
            write(out, &[name.as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
        }
    }
}

/// True for fields that an operator may remove, set and add freely. `Host` is not among them, but may be set in a
/// request.
pub fn is_editable(name: &[u8]) -> bool {
    match known(name) {
        Known::Date
        | Known::ForwardedFor
        | Known::ForwardedProto
        | Known::ForwardedHost
        | Known::IdempotencyKey
        | Known::Other => true,
        Known::Host
        | Known::ContentLength
        | Known::TransferEncoding
        | Known::Connection
        | Known::Upgrade
        | Known::Expect
        | Known::MaxForwards
        | Known::Hop => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_stays_ours() {
        let edits = FieldEdits {
            remove: ["x-a", "content-length", "connection", "host"].map(Into::into).into(),
            write: [("X-B", "1"), ("Transfer-Encoding", "chunked"), ("TE", "x"), ("Host", "b")]
                .map(|(name, value)| (name.into(), value.into()))
                .into(),
        };
        let edits = Edits::new(&edits);
        let removed =
            ["X-A", "Content-Length", "Connection", "Host", "X-C"].map(|n| edits.removes(n.as_bytes()));
        assert_eq!(removed, [true, false, false, false, false]);
        let mut out = Vec::new();
        edits.write(&mut out);
        assert_eq!(out, b"X-B: 1\r\n");
        assert_eq!(edits.host(), Some(&b"b"[..]));
    }

    #[test]
    fn no_changes_are_none() {
        let none = FieldEdits::default();
        assert!(Edits::new(&none).0.is_none() && !Edits::default().removes(b"a"));
        assert_eq!(Edits::default().host(), None);
    }
}
