//! The chunked coding: `Body::advance` checks a body and writes it again in place.
//!
//! * However the input is cut, and whether chunk data is looked at or passes unseen, the result is the same.
//! * The output decodes to the same content, ends where the input ended, and written again stays as it is.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway::relay::{
    body::{Body, Cursor, Malformed},
    chunked::Emit,
};

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
        (Err(Malformed), Err(Malformed)) => return,
        (chunks, content) => panic!("{chunks:?} as chunks, {content:?} as content"),
    };
    assert_eq!((chunks.rest, chunks.done), (content.rest, content.done));
    let expected = Decoded { out: content.out, rest: 0, done: chunks.done };
    assert_eq!(decode(Emit::Content, &chunks.out, usize::MAX, false), Ok(expected));
    let again = decode(Emit::Chunks, &chunks.out, usize::MAX, false).map(|again| again.out);
    assert_eq!(again, Ok(chunks.out), "written twice it stays the same");
});

/// Feeds `input` in pieces through one buffer, as the relay does. With `unseen`, chunk data goes past the decoder
/// as in a splice.
fn decode(emit: Emit, input: &[u8], piece: usize, unseen: bool) -> Result<Decoded, Malformed> {
    let mut body = Body::chunked(emit);
    let (mut out, mut raw) = (Vec::new(), Vec::new());
    for piece in input.chunks(piece.min(input.len()).max(1)) {
        raw.extend_from_slice(piece);
        loop {
            let opaque = raw.len().min(usize::try_from(body.opaque()).unwrap_or(usize::MAX));
            if unseen && opaque > 0 {
                out.extend(raw.drain(..opaque));
                body.passed(opaque as u64);
            }
            // Only framing, so that the next data can pass unseen too.
            let shown = if unseen { framing_length(&raw) } else { raw.len() };
            let at = body.advance(&mut raw[..shown], Cursor { write: 0, read: 0 })?;
            assert!(at.write <= at.read && at.read <= shown, "output never overtakes input");
            out.extend_from_slice(&raw[..at.write]);
            raw.drain(..at.read);
            if !unseen || at.read == 0 || body.is_done() {
                break;
            }
        }
        if unseen && !body.is_done() {
            // Nothing of what is left may be waiting only because it was not shown.
            let at = body.advance(&mut raw, Cursor { write: 0, read: 0 })?;
            out.extend_from_slice(&raw[..at.write]);
            raw.drain(..at.read);
        }
    }
    Ok(Decoded { out, rest: raw.len(), done: body.is_done() })
}

/// Bytes up to and with the first line that is not empty.
fn framing_length(raw: &[u8]) -> usize {
    let skipped = if raw.starts_with(b"\r\n") { 2 } else { 0 };
    let line = raw[skipped..].iter().position(|byte| *byte == b'\n');
    line.map_or(raw.len(), |end| skipped + end + 1)
}
