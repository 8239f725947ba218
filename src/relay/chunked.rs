//! The chunked transfer coding (RFC 9112 section 7.1), checked strictly and written again in place.
//!
//! Chunk boundaries are kept; extensions and leading zeros are dropped, and so are trailer fields that must not
//! stand in a trailer. Nothing malformed is ever passed on: output is at most as long as the input it stands
//! for, so it fits in front of it.

use super::body::{Cursor, Wrong, pass};
use crate::{
    limits::{CHUNK_LINE_BYTES_MAX, TRAILER_BYTES_MAX},
    syntax,
};

/// How the body goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emit {
    /// Chunked again.
    Chunks,
    /// The content alone, for a receiver that does not know chunks (HTTP/1.0).
    Content,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    SizeLine,
    Data,
    DataEnd,
    Trailer,
    Done,
}

/// A decoder that writes what it has checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunked {
    emit: Emit,
    state: State,
    /// Bytes left of the current chunk's data.
    left: u64,
    /// Bytes of data that may follow in further chunks.
    room: u64,
    /// Bytes of the trailer section so far.
    trailer: u32,
}

impl Chunked {
    /// At the first chunk.
    pub fn new(emit: Emit) -> Self {
        Chunked { emit, state: State::SizeLine, left: 0, room: u64::MAX, trailer: 0 }
    }

    /// Sets how many bytes of data all chunks may have together.
    pub fn limit(&mut self, bytes: u64) {
        self.room = bytes;
    }

    /// True behind the empty line that ends the trailer section.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// True when the receiver sees the chunks.
    pub fn is_delimited(&self) -> bool {
        self.emit == Emit::Chunks
    }

    /// Bytes left of the current chunk's data.
    pub fn opaque(&self) -> u64 {
        if self.state == State::Data { self.left } else { 0 }
    }

    /// Takes note of data that passed unseen.
    pub fn passed(&mut self, count: u64) {
        self.left = self.left.saturating_sub(count);
        if self.state == State::Data && self.left == 0 {
            self.state = State::DataEnd;
        }
    }

    /// See [`super::body::Body::advance`].
    pub fn advance(&mut self, bytes: &mut [u8], mut at: Cursor) -> Result<Cursor, Wrong> {
        loop {
            let before = at.read;
            at = match self.state {
                State::SizeLine => self.size_line(bytes, at)?,
                State::Data => self.data(bytes, at),
                State::DataEnd => self.data_end(bytes, at)?,
                State::Trailer => self.trailer_line(bytes, at)?,
                State::Done => return Ok(at),
            };
            if at.read == before {
                return Ok(at);
            }
        }
    }

    fn size_line(&mut self, bytes: &mut [u8], at: Cursor) -> Result<Cursor, Wrong> {
        let Some(length) = line(bytes, at.read, CHUNK_LINE_BYTES_MAX)? else {
            // A first byte that is no digit need not wait for its line to end.
            return match bytes.get(at.read) {
                Some(byte) if !byte.is_ascii_hexdigit() => Err(Wrong::Malformed),
                _ => Ok(at),
            };
        };
        let size =
            bytes.get(at.read..at.read + length).and_then(syntax::chunk_size).ok_or(Wrong::Malformed)?;
        self.room = self.room.checked_sub(size).ok_or(Wrong::TooLarge)?;
        self.left = size;
        self.state = if size == 0 { State::Trailer } else { State::Data };
        let write = match self.emit {
            Emit::Content => at.write,
            Emit::Chunks => at.write + write_size(bytes.get_mut(at.write..).unwrap_or_default(), size),
        };
        Ok(Cursor { write, read: at.read + length + 2 })
    }

    fn data(&mut self, bytes: &mut [u8], at: Cursor) -> Cursor {
        let there = bytes.len().saturating_sub(at.read);
        let count = there.min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let at = pass(bytes, at, count);
        self.passed(count as u64);
        at
    }

    fn data_end(&mut self, bytes: &mut [u8], at: Cursor) -> Result<Cursor, Wrong> {
        match bytes.get(at.read..) {
            Some([b'\r', b'\n', ..]) => {}
            Some([] | [b'\r']) | None => return Ok(at),
            Some(_) => return Err(Wrong::Malformed),
        }
        self.state = State::SizeLine;
        Ok(self.keep(bytes, at, 2))
    }

    fn trailer_line(&mut self, bytes: &mut [u8], at: Cursor) -> Result<Cursor, Wrong> {
        let room = TRAILER_BYTES_MAX.saturating_sub(self.trailer as usize);
        let Some(length) = line(bytes, at.read, room)? else { return Ok(at) };
        self.trailer += length as u32 + 2;
        let text = bytes.get(at.read..at.read + length).unwrap_or_default();
        if text.is_empty() {
            self.state = State::Done;
            return Ok(self.keep(bytes, at, 2));
        }
        let (name, _value) = syntax::field_line(text).ok_or(Wrong::Malformed)?;
        if syntax::forbidden_in_trailer(name) {
            return Ok(Cursor { write: at.write, read: at.read + length + 2 });
        }
        Ok(self.keep(bytes, at, length + 2))
    }

    /// Passes `count` bytes of framing on, or swallows them when only content is wanted.
    fn keep(&self, bytes: &mut [u8], at: Cursor, count: usize) -> Cursor {
        match self.emit {
            Emit::Chunks => pass(bytes, at, count),
            Emit::Content => Cursor { write: at.write, read: at.read + count },
        }
    }
}

/// Length of the line at `from` without its CRLF; `None` while it is incomplete.
fn line(bytes: &[u8], from: usize, max: usize) -> Result<Option<usize>, Wrong> {
    let rest = bytes.get(from..).unwrap_or_default();
    match memchr::memchr(b'\n', rest) {
        Some(end) if end > max => Err(Wrong::Malformed),
        Some(end) if end > 0 && rest.get(end - 1) == Some(&b'\r') => Ok(Some(end - 1)),
        Some(_) => Err(Wrong::Malformed),
        None if rest.len() > max => Err(Wrong::Malformed),
        None => Ok(None),
    }
}

/// Writes `size` in hexadecimal with CRLF; never longer than the line it was read from.
fn write_size(to: &mut [u8], size: u64) -> usize {
    let digits = (64 - size.leading_zeros()).div_ceil(4).max(1) as usize;
    for (index, byte) in to.iter_mut().take(digits).enumerate() {
        let nibble = (size >> (4 * (digits - 1 - index))) & 0xf;
        *byte = char::from_digit(nibble as u32, 16).map_or(b'0', |digit| digit as u8);
    }
    if let Some(end) = to.get_mut(digits..digits + 2) {
        end.copy_from_slice(b"\r\n");
    }
    digits + 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds `input` in the given pieces through one buffer, as the relay does.
    fn decode(emit: Emit, input: &[u8], pieces: &[usize]) -> Result<(Vec<u8>, usize, bool), Wrong> {
        let mut chunked = Chunked::new(emit);
        let (mut out, mut raw, mut fed) = (Vec::new(), Vec::new(), 0);
        for size in pieces.iter().copied().chain([usize::MAX]) {
            let end = fed + size.min(input.len() - fed);
            raw.extend_from_slice(&input[fed..end]);
            fed = end;
            let at = chunked.advance(&mut raw, Cursor { write: 0, read: 0 })?;
            assert!(at.write <= at.read);
            out.extend_from_slice(&raw[..at.write]);
            raw.drain(..at.read);
        }
        Ok((out, raw.len(), chunked.is_done()))
    }

    #[test]
    fn chunks_are_normalised_and_the_next_message_is_left_alone() {
        let input =
            b"005;a=b;c=\"d;\\\"\"\r\nhello\r\n0A\r\n0123456789\r\n0\r\nX-Sum: 1\r\nHost: evil\r\n\r\nGET /";
        let expected = b"5\r\nhello\r\na\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n".to_vec();
        assert_eq!(decode(Emit::Chunks, input, &[]), Ok((expected, 5, true)));
        assert_eq!(decode(Emit::Content, input, &[]), Ok((b"hello0123456789".to_vec(), 5, true)));
    }

    #[test]
    fn malformed_framing_is_refused_wherever_it_stands() {
        let cases: &[&[u8]] = &[
            b"\r\n",
            b"g\r\n",
            b"-1\r\n",
            b"+5\r\nhello\r\n",
            b"0x5\r\nhello\r\n",
            b"5\nhello\r\n",
            b" 5\r\nhello\r\n",
            b"5 \r\nhello\r\n",
            b"5;\r\nhello\r\n",
            b"5;a=\r\nhello\r\n",
            b"5;a=\"\r\nhello\r\n",
            b"5;a\x00\r\n",
            b"5\r\nhelloX\r\n",
            b"5\r\nhello\n",
            b"5\r\nhello\rX",
            b"10000000000000000\r\n",
            b"ffffffffffffffff\r\n",
            b"0\r\nbad\r\n\r\n",
            b"0\r\nA : b\r\n\r\n",
            b"0\r\n folded\r\n\r\n",
            b"0\r\nA: b\nC: d\r\n\r\n",
            b"0\r\n\n",
            b"0\r\nA: b\x00\r\n\r\n",
            b"5;a=b\rc\r\nhello\r\n",
        ];
        for case in cases {
            assert_eq!(
                decode(Emit::Chunks, case, &[]),
                Err(Wrong::Malformed),
                "{:?}",
                String::from_utf8_lossy(case)
            );
        }
    }

    #[test]
    fn endless_lines_and_trailers_are_cut_off() {
        assert_eq!(decode(Emit::Chunks, &[b'0'; CHUNK_LINE_BYTES_MAX + 2], &[]), Err(Wrong::Malformed));
        let mut input = b"0\r\n".to_vec();
        for _ in 0..TRAILER_BYTES_MAX {
            input.extend_from_slice(b"A: b\r\n");
        }
        assert_eq!(decode(Emit::Chunks, &input, &[]), Err(Wrong::Malformed));
    }

    #[test]
    fn chunks_that_are_too_much_together_are_refused_before_their_data() {
        let wire = b"3\r\nabc\r\n4\r\ndefg\r\n0\r\nX: y\r\n\r\n";
        for (limit, right) in [(7, true), (8, true), (u64::MAX, true), (6, false), (2, false), (0, false)] {
            let mut chunked = Chunked::new(Emit::Chunks);
            chunked.limit(limit);
            let mut bytes = wire.to_vec();
            let outcome = chunked.advance(&mut bytes, Cursor { write: 0, read: 0 });
            assert_eq!(outcome.map(|at| at.read), if right { Ok(wire.len()) } else { Err(Wrong::TooLarge) });
        }
        let mut chunked = Chunked::new(Emit::Chunks);
        chunked.limit(0);
        assert!(chunked.advance(&mut b"0\r\n\r\n".to_vec(), Cursor { write: 0, read: 0 }).is_ok());
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_result(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            extension in prop::option::of("[a-z]{1,5}(=[a-z0-9]{1,5})?"),
            trailer in prop::option::of("[A-Z][a-z]{0,6}: [ -~]{0,12}"),
            pieces in prop::collection::vec(1usize..20, 0..40),
        ) {
            let (mut wire, mut content) = (Vec::new(), Vec::new());
            for chunk in &chunks {
                let extension = extension.as_ref().map(|e| format!(";{e}")).unwrap_or_default();
                wire.extend(format!("{:x}{extension}\r\n", chunk.len()).into_bytes());
                wire.extend(chunk);
                wire.extend(b"\r\n");
                content.extend(chunk);
            }
            wire.extend(b"0\r\n");
            wire.extend(trailer.map(|t| format!("{t}\r\n")).unwrap_or_default().into_bytes());
            wire.extend(b"\r\nrest");
            let whole = decode(Emit::Chunks, &wire, &[]).unwrap();
            prop_assert_eq!(&decode(Emit::Chunks, &wire, &pieces).unwrap(), &whole);
            prop_assert_eq!(decode(Emit::Content, &wire, &pieces).unwrap(), (content.clone(), 4, true));
            // What was written decodes to the same content again.
            prop_assert_eq!(decode(Emit::Content, &whole.0, &[]).unwrap(), (content, 0, true));
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_splits_agree(
            input in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b'5'), Just(b';'), any::<u8>()], 0..80),
            pieces in prop::collection::vec(1usize..9, 0..40),
        ) {
            let whole = decode(Emit::Chunks, &input, &[]).map(|r| r.2);
            let split = decode(Emit::Chunks, &input, &pieces).map(|r| r.2);
            prop_assert_eq!(whole, split);
        }
    }
}
