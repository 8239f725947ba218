//! Where a body ends: the three framings of RFC 9112 section 6.3 and the endless one of a tunnel.
//!
//! Pure: bytes in, bytes out, in place. No sockets, no clock.

use super::chunked::{Chunked, Emit};
use crate::{fault::Kind, stats::names::Refusal};

/// What is wrong with a body; what was passed on of it must never look complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// It breaks its own framing.
    Malformed,
    /// It is larger than it may be.
    TooLarge,
}

impl Wrong {
    /// What a client's failure of this kind is called.
    pub fn kind(self) -> Kind {
        match self {
            Wrong::Malformed => Kind::Malformed,
            Wrong::TooLarge => Kind::TooLarge,
        }
    }

    /// Why a request with such a body is refused.
    pub fn refusal(self) -> Refusal {
        match self {
            Wrong::Malformed => Refusal::InvalidBody,
            Wrong::TooLarge => Refusal::BodyTooLarge,
        }
    }
}

/// The framing of one body and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Nothing more belongs to it.
    Done,
    /// This many bytes are left (`Content-Length`), at least one.
    Length(u64),
    /// Chunked transfer coding.
    Chunked(Chunked),
    /// Everything up to the end of the stream.
    UntilEnd,
}

/// Positions inside a slice: everything before `write` is finished output, everything from `read` on is raw
/// input. Output never overtakes input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// End of the output.
    pub write: usize,
    /// Start of the input.
    pub read: usize,
}

impl Body {
    /// A body of exactly `length` bytes.
    pub fn with_length(length: u64) -> Self {
        if length == 0 { Body::Done } else { Body::Length(length) }
    }

    /// A chunked body, passed on chunked or bare.
    pub fn chunked(emit: Emit) -> Self {
        Body::Chunked(Chunked::new(emit))
    }

    /// Sets how many bytes of content it may have. Chunks, whose sum nobody has told, are counted as they come.
    pub fn limit(&mut self, bytes: u64) -> Result<(), Wrong> {
        match self {
            Body::Length(length) if *length > bytes => return Err(Wrong::TooLarge),
            Body::Chunked(chunked) => chunked.limit(bytes),
            Body::Done | Body::Length(_) | Body::UntilEnd => {}
        }
        Ok(())
    }

    /// True when the last byte has been seen.
    pub fn is_done(&self) -> bool {
        matches!(self, Body::Done)
    }

    /// Turns raw input into output, in place, as far as it goes. Input behind the end of the body stays.
    pub fn advance(&mut self, bytes: &mut [u8], mut at: Cursor) -> Result<Cursor, Wrong> {
        match self {
            Body::Done => {}
            Body::UntilEnd => {
                let count = bytes.len().saturating_sub(at.read);
                at = pass(bytes, at, count);
            }
            Body::Length(left) => {
                let count =
                    bytes.len().saturating_sub(at.read).min(usize::try_from(*left).unwrap_or(usize::MAX));
                at = pass(bytes, at, count);
                self.passed(count as u64);
            }
            Body::Chunked(chunked) => {
                at = chunked.advance(bytes, at)?;
                if chunked.is_done() {
                    *self = Body::Done;
                }
            }
        }
        Ok(at)
    }

    /// True when the receiver can tell a cut body from a whole one without looking at how its stream ends.
    pub fn is_delimited(&self) -> bool {
        match self {
            Body::Length(_) => true,
            Body::Chunked(chunked) => chunked.is_delimited(),
            Body::Done | Body::UntilEnd => false,
        }
    }

    /// How many of the next raw bytes may pass untouched and unseen.
    pub fn opaque(&self) -> u64 {
        match self {
            Body::Done => 0,
            Body::Length(left) => *left,
            Body::Chunked(chunked) => chunked.opaque(),
            Body::UntilEnd => u64::MAX,
        }
    }

    /// Takes note of `count` bytes (at most [`Self::opaque`]) that passed unseen.
    pub fn passed(&mut self, count: u64) {
        match self {
            Body::Length(left) if *left <= count => *self = Body::Done,
            Body::Length(left) => *left -= count,
            Body::Chunked(chunked) => chunked.passed(count),
            Body::Done | Body::UntilEnd => {}
        }
    }

    /// The source has ended: true when that is a proper end for this framing.
    #[must_use]
    pub fn end(&mut self) -> bool {
        if matches!(self, Body::UntilEnd) {
            *self = Body::Done;
        }
        self.is_done()
    }
}

/// Moves `count` raw bytes to the output.
pub(super) fn pass(bytes: &mut [u8], at: Cursor, count: usize) -> Cursor {
    if at.write != at.read {
        bytes.copy_within(at.read..at.read + count, at.write);
    }
    Cursor { write: at.write + count, read: at.read + count }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(mut body: Body, input: &[u8]) -> (Body, Vec<u8>, usize) {
        let mut bytes = input.to_vec();
        let at = body.advance(&mut bytes, Cursor { write: 0, read: 0 }).unwrap();
        let left = bytes.len() - at.read;
        bytes.truncate(at.write);
        (body, bytes, left)
    }

    #[test]
    fn a_length_ends_where_it_says() {
        assert_eq!(run(Body::with_length(3), b"abcdef"), (Body::Done, b"abc".to_vec(), 3));
        assert_eq!(run(Body::with_length(9), b"abc"), (Body::Length(6), b"abc".to_vec(), 0));
        assert_eq!(Body::with_length(0), Body::Done);
    }

    #[test]
    fn only_an_open_ended_body_may_end_with_its_stream() {
        assert!(Body::UntilEnd.end());
        assert!(!Body::with_length(1).end());
        assert!(!Body::chunked(Emit::Chunks).end());
        assert!(Body::Done.end());
    }
}
