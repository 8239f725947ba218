//! The chunked coding: `Body::advance` checks a body and writes it again in place.
//!
//! * However the input is cut, and whether chunk data is looked at or passes unseen, the result is the same.
//! * It never has more content than it may have.
//! * The output decodes to the same content, ends where the input ended, and written again stays as it is.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway::relay::{
    body::{Body, Cursor, Wrong},
    chunked::Emit,
};

/// Bytes of content that a body may have.
const CONTENT_MAX: u64 = 300;

/// What became of an input.
#[derive(Debug, PartialEq, Eq)]
struct Decoded {
    out: Vec<u8>,
    /// Bytes not used: an incomplete line, or what stands behind the body.
    rest: usize,
    done: bool,
}

fuzz_target!(|bytes: &[u8]| {
    let chunks = decode(Emit::Chunks, bytes, usize::MAX, false);
    let content = decode(Emit::Content, bytes, usize::MAX, false);
    for (piece, unseen) in
        [(1, false), (1, true), (2, true), (3, false), (7, false), (64, true), (usize::MAX, true)]
    {
        assert_eq!(
            decode(Emit::Chunks, bytes, piece, unseen),
            chunks,
            "in pieces of {piece}, unseen: {unseen}"
        );
        assert_eq!(
            decode(Emit::Content, bytes, piece, unseen),
            content,
            "in pieces of {piece}, unseen: {unseen}"
        );
    }
    let (chunks, content) = match (chunks, content) {
        (Ok(chunks), Ok(content)) => (chunks, content),
        (Err(chunks), Err(content)) if chunks == content => return,
        (chunks, content) => panic!("{chunks:?} as chunks, {content:?} as content"),
    };
    assert_eq!((chunks.rest, chunks.done), (content.rest, content.done));
    assert!(content.out.len() as u64 <= CONTENT_MAX, "no more than it may have");
    let expected = Decoded { out: content.out, rest: 0, done: chunks.done };
    assert_eq!(decode(Emit::Content, &chunks.out, usize::MAX, false), Ok(expected));
    let again = decode(Emit::Chunks, &chunks.out, usize::MAX, false).map(|again| again.out);
    assert_eq!(again, Ok(chunks.out), "written twice it stays the same");
});

/// Feeds `input` in pieces through one buffer, as the relay does. With `unseen`, chunk data at the front of a piece
/// goes past the decoder, as in a splice.
fn decode(emit: Emit, input: &[u8], piece: usize, unseen: bool) -> Result<Decoded, Wrong> {
    let mut body = Body::chunked(emit);
    body.limit(CONTENT_MAX)?;
    let (mut out, mut raw) = (Vec::new(), Vec::new());
    for piece in input.chunks(piece.min(input.len()).max(1)) {
        let opaque = if unseen { usize::try_from(body.opaque()).unwrap_or(usize::MAX) } else { 0 };
        let (data, framing) = piece.split_at(opaque.min(piece.len()));
        assert!(data.is_empty() || raw.is_empty(), "no data is held back");
        out.extend_from_slice(data);
        body.passed(data.len() as u64);
        raw.extend_from_slice(framing);
        let at = body.advance(&mut raw, Cursor { write: 0, read: 0 })?;
        assert!(at.write <= at.read && at.read <= raw.len(), "output never overtakes input");
        out.extend_from_slice(&raw[..at.write]);
        raw.drain(..at.read);
    }
    Ok(Decoded { out, rest: raw.len(), done: body.is_done() })
}
