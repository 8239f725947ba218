//! The bytes of the answers. Pure; small answers are constants, large bodies are slices of one static block.

use std::sync::LazyLock;

pub const SMALL_BYTES: usize = 128;
pub const CHUNK_BYTES: usize = 16 * 1024;

/// One write of a large body. Larger than a socket buffer is of no use, smaller costs system calls.
const BLOCK_BYTES: usize = 1024 * 1024;

/// Body bytes that are copied behind the head, so that head and start of the body leave in one segment.
const INLINE_BYTES: usize = 32 * 1024;

/// A pattern with a period that no power of two divides: a block sent twice or out of order shows up in a comparison.
static BLOCK: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..BLOCK_BYTES).map(|at| b'a' + (at % 23) as u8).collect());

static SMALL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut answer = Vec::new();
    head(&mut answer, "200 OK", Length::Known(SMALL_BYTES), true);
    answer.extend_from_slice(&BLOCK[..SMALL_BYTES]);
    answer
});

#[derive(Clone, Copy)]
pub enum Length {
    Known(usize),
    Chunked,
    UntilClose,
}

pub fn small(out: &mut Vec<u8>, keep_alive: bool, head_only: bool) {
    if keep_alive && !head_only {
        out.extend_from_slice(&SMALL);
    } else {
        head(out, "200 OK", Length::Known(SMALL_BYTES), keep_alive);
        if !head_only {
            out.extend_from_slice(&BLOCK[..SMALL_BYTES]);
        }
    }
}

/// All of the small answer is promised, and half of it comes.
pub fn half(out: &mut Vec<u8>) {
    out.extend_from_slice(&SMALL[..SMALL.len() - SMALL_BYTES / 2]);
}

pub fn text(out: &mut Vec<u8>, status: &str, text: &str, keep_alive: bool, head_only: bool) {
    head(out, status, Length::Known(text.len()), keep_alive);
    if !head_only {
        out.extend_from_slice(text.as_bytes());
    }
}

pub fn head(out: &mut Vec<u8>, status: &str, length: Length, keep_alive: bool) {
    out.extend_from_slice(format!("HTTP/1.1 {status}\r\nContent-Type: text/plain\r\n").as_bytes());
    match length {
        Length::Known(size) => out.extend_from_slice(format!("Content-Length: {size}\r\n").as_bytes()),
        Length::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Length::UntilClose => {}
    }
    out.extend_from_slice(if keep_alive { b"\r\n" } else { b"Connection: close\r\n\r\n" });
}

/// A body of a given size, cut into the pieces to write.
pub struct Pieces {
    at: usize,
    size: usize,
}

impl Pieces {
    pub fn whole(size: usize) -> Self {
        Self { at: 0, size }
    }

    /// Appends the start of the body to `out`; the rest comes from the iterator.
    pub fn begin(out: &mut Vec<u8>, size: usize) -> Self {
        let at = size.min(INLINE_BYTES);
        out.extend_from_slice(&BLOCK[..at]);
        Self { at, size }
    }
}

impl Iterator for Pieces {
    type Item = &'static [u8];

    fn next(&mut self) -> Option<&'static [u8]> {
        let start = self.at % BLOCK_BYTES;
        let end = BLOCK_BYTES.min(start + (self.size - self.at));
        self.at += end - start;
        (end > start).then(|| &BLOCK[start..end])
    }
}

/// Appends one chunk of at most `most` of the `left` bytes, or the last chunk when nothing is left; returns what is left then.
pub fn chunk(out: &mut Vec<u8>, left: usize, most: usize) -> Option<usize> {
    let size = left.min(most);
    out.extend_from_slice(format!("{size:x}\r\n").as_bytes());
    out.extend_from_slice(&BLOCK[..size]);
    out.extend_from_slice(b"\r\n");
    (size > 0).then_some(left - size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_add_up() {
        for size in [0, 1, INLINE_BYTES, INLINE_BYTES + 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 7]
        {
            let mut whole = Vec::new();
            let pieces = Pieces::begin(&mut whole, size);
            pieces.for_each(|piece| whole.extend_from_slice(piece));
            assert_eq!(whole.len(), size);
            assert!(whole.iter().enumerate().all(|(at, byte)| *byte == BLOCK[at % BLOCK_BYTES]));
        }
    }

    #[test]
    fn chunks_add_up() {
        let (mut wire, mut left) = (Vec::new(), Some(CHUNK_BYTES + 5));
        while let Some(size) = left {
            left = chunk(&mut wire, size, CHUNK_BYTES);
        }
        let mut body = crate::body::Body::chunked();
        assert_eq!(body.take(&wire), Ok((wire.len(), CHUNK_BYTES as u64 + 5)));
        assert!(body.ended());
    }
}
