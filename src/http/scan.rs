//! Finds the end of a head while it arrives, looking at every byte once.
//!
//! Lines must end with CRLF. What it lets through is one complete head and nothing else.

use crate::limits::{HEAD_BYTES_MAX, REQUEST_LINE_BYTES_MAX};

/// How far the search for the end of a head has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scan {
    /// Bytes looked at.
    seen: usize,
    /// Start of the current line.
    line: usize,
    /// Empty lines in front of the start line (RFC 9112 section 2.2).
    skipped: usize,
    /// Length of the start line with its CRLF, once known.
    start_line: usize,
}

/// A complete head inside a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Where its start line begins (behind empty lines that do not count).
    pub start: usize,
    /// Where its header fields begin.
    pub fields: usize,
    /// Where the body begins.
    pub end: usize,
}

/// What makes it impossible to find a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanError {
    /// A line feed without a carriage return.
    BareLineFeed,
    /// No end of the start line within [`REQUEST_LINE_BYTES_MAX`].
    StartLineTooLong,
    /// No end of the head within [`HEAD_BYTES_MAX`].
    TooLarge,
}

impl Scan {
    /// Looks at what has arrived; `bytes` is everything from the first byte of the message on.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<Option<Found>, ScanError> {
        while let Some(offset) = bytes.get(self.seen..).and_then(|rest| memchr::memchr(b'\n', rest)) {
            let end = self.seen + offset;
            if end == self.line || bytes.get(end - 1) != Some(&b'\r') {
                return Err(ScanError::BareLineFeed);
            }
            let empty = end - 1 == self.line;
            (self.seen, self.line) = (end + 1, end + 1);
            if self.start_line > 0 && empty {
                let found =
                    Found { start: self.skipped, fields: self.skipped + self.start_line, end: self.seen };
                return if self.seen > HEAD_BYTES_MAX { Err(ScanError::TooLarge) } else { Ok(Some(found)) };
            }
            if self.start_line == 0 {
                self.start_line_ended(empty)?;
            }
        }
        self.seen = bytes.len();
        self.still_within_limits()
    }

    fn start_line_ended(&mut self, empty: bool) -> Result<(), ScanError> {
        if empty {
            self.skipped = self.line;
            return if self.skipped > 16 { Err(ScanError::StartLineTooLong) } else { Ok(()) };
        }
        self.start_line = self.line - self.skipped;
        if self.start_line > REQUEST_LINE_BYTES_MAX { Err(ScanError::StartLineTooLong) } else { Ok(()) }
    }

    fn still_within_limits(&self) -> Result<Option<Found>, ScanError> {
        let length = self.seen - self.skipped;
        if self.start_line == 0 && length > REQUEST_LINE_BYTES_MAX {
            return Err(ScanError::StartLineTooLong);
        }
        if self.seen >= HEAD_BYTES_MAX { Err(ScanError::TooLarge) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(bytes: &[u8]) -> Result<Option<Found>, ScanError> {
        Scan::default().advance(bytes)
    }

    #[test]
    fn finds_the_end_and_skips_empty_lines_in_front() {
        assert_eq!(
            whole(b"GET / HTTP/1.1\r\nA: b\r\n\r\nrest"),
            Ok(Some(Found { start: 0, fields: 16, end: 24 }))
        );
        assert_eq!(whole(b"\r\nGET / HTTP/1.1\r\n\r\n"), Ok(Some(Found { start: 2, fields: 18, end: 20 })));
        assert_eq!(whole(b"GET / HTTP/1.1\r\nA: b\r\n"), Ok(None));
    }

    #[test]
    fn refuses_bare_line_feeds_and_endless_heads() {
        assert_eq!(whole(b"GET / HTTP/1.1\n"), Err(ScanError::BareLineFeed));
        assert_eq!(whole(b"\n"), Err(ScanError::BareLineFeed));
        assert_eq!(whole(b"GET / HTTP/1.1\r\n\n"), Err(ScanError::BareLineFeed));
        assert_eq!(whole(&[b'a'; REQUEST_LINE_BYTES_MAX + 1]), Err(ScanError::StartLineTooLong));
        assert_eq!(whole(&b"\r\n".repeat(9)), Err(ScanError::StartLineTooLong));
        let mut head = b"GET / HTTP/1.1\r\n".to_vec();
        head.resize(HEAD_BYTES_MAX, b'a');
        assert_eq!(whole(&head), Err(ScanError::TooLarge));
    }

    proptest! {
        #[test]
        fn splits_never_change_the_result(
            bytes in prop::collection::vec(prop_oneof![4 => Just(b'\r'), 4 => Just(b'\n'), 6 => any::<u8>()], 0..60),
            pieces in prop::collection::vec(1usize..8, 0..40),
        ) {
            let expected = whole(&bytes);
            let (mut scan, mut end, mut got) = (Scan::default(), 0, Ok(None));
            for size in pieces.into_iter().chain([usize::MAX]) {
                end += size.min(bytes.len() - end);
                got = scan.advance(&bytes[..end]);
                if got != Ok(None) {
                    break;
                }
            }
            prop_assert_eq!(got, expected);
        }
    }
}
