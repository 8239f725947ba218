//! Response heads: found, checked, and written again for the client.

use std::hint::black_box;

use ringway::{
    config::plan::HeaderPolicy,
    date::DateCache,
    http::{
        edit::Edits,
        request::{self, Origin, Request},
        response::{self, Reader},
        scan::Scan,
    },
};

use crate::{
    heads,
    piece::{Piece, Work},
};

/// Whole answers to the request that `curl` makes.
pub fn pieces() -> Vec<Piece> {
    let samples =
        [("small", heads::SMALL_ANSWER), ("usual", heads::USUAL_ANSWER), ("chunked", heads::CHUNKED_ANSWER)];
    samples.map(|(name, head)| Piece::new(format!("response rewrite {name}"), move || rewrite(head))).into()
}

/// What the answers are for.
pub fn asked() -> Request {
    let head = heads::CURL.as_bytes();
    let found = Scan::default().advance(head).unwrap().unwrap();
    let origin = Origin {
        client: "192.0.2.7",
        local: "",
        policy: HeaderPolicy::default(),
        routes: None,
        body_max: None,
    };
    request::rewrite(head, found, origin, &mut Vec::new()).unwrap()
}

fn rewrite(head: &'static str) -> Work {
    let (request, date, mut out) = (asked(), DateCache::default(), Vec::with_capacity(4096));
    Box::new(move || {
        let head = black_box(head.as_bytes());
        let found = Scan::default().advance(head).unwrap().unwrap();
        out.clear();
        let edits = Edits::default();
        let reader =
            Reader { request: &request, keep_alive: true, via: true, date: &date, edits, added: b"" };
        black_box(response::rewrite(head, found, &reader, &mut out).unwrap());
        black_box(out.as_slice());
    })
}
