//! Where bodies end: by their length, by their chunks, behind their trailers.

use std::hint::black_box;

use ringway::relay::{
    body::{Body, Cursor},
    chunked::Emit,
};

use crate::piece::{Piece, Work};

/// Content of each body.
const CONTENT: usize = 16 * 1024;

/// Bodies that lie in one buffer as a whole.
pub fn pieces() -> Vec<Piece> {
    let chunked = |content: Emit| move || Body::chunked(content);
    vec![
        Piece::new("framing length 16k", || {
            read(vec![b'x'; CONTENT], || Body::with_length(CONTENT as u64), false)
        }),
        Piece::new("framing 4 chunks of 4k", move || read(wire(4096, "", ""), chunked(Emit::Chunks), false)),
        Piece::new("framing 256 chunks of 64", move || read(wire(64, "", ""), chunked(Emit::Chunks), false)),
        // What is written differs from what was read, so the body is copied anew for each turn.
        Piece::new("framing chunks with extensions and trailers", move || {
            let trailers = "Server-Timing: db;dur=53\r\nX-Checksum: 0123456789abcdef\r\n";
            read(wire(1024, ";name=value", trailers), chunked(Emit::Chunks), true)
        }),
        Piece::new("framing chunks to content", move || {
            read(wire(1024, "", ""), chunked(Emit::Content), true)
        }),
    ]
}

/// A chunked body.
fn wire(chunk: usize, extension: &str, trailers: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for _ in 0..CONTENT / chunk {
        wire.extend(format!("{chunk:x}{extension}\r\n{}\r\n", "x".repeat(chunk)).into_bytes());
    }
    wire.extend(format!("0\r\n{trailers}\r\n").into_bytes());
    wire
}

fn read(wire: Vec<u8>, body: impl Fn() -> Body + 'static, changes: bool) -> Work {
    let mut bytes = wire.clone();
    Box::new(move || {
        if changes {
            bytes.copy_from_slice(&wire);
        }
        let mut body = body();
        black_box(body.advance(black_box(&mut bytes), Cursor { write: 0, read: 0 }).unwrap());
        assert!(body.is_done());
    })
}
