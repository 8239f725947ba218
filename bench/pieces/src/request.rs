//! Request heads: found in a buffer, checked, and written again for the backend.

use std::{hint::black_box, sync::Arc};

use ringway::{
    config::plan::{
        HeaderPolicy,
        route::{Action, FixedAnswer},
    },
    http::{
        request::{self, Origin},
        scan::Scan,
    },
    route::{Routes, table::Table},
};

use crate::{
    heads,
    piece::{Piece, Work},
    plan,
};

/// Makes work of a head.
type Kind = fn(Vec<u8>) -> Work;

fn samples() -> [(&'static str, String); 3] {
    [("curl", heads::CURL.to_owned()), ("browser", heads::browser()), ("40 fields", heads::forty_fields())]
}

/// Each for the three sizes of heads: the search for the end, the checks alone, and checks with rewriting.
pub fn pieces() -> Vec<Piece> {
    let kinds: [(&str, Kind); 3] = [("scan", scan), ("check", check), ("rewrite", rewrite)];
    let all = kinds.into_iter().flat_map(|(kind, make)| {
        samples().into_iter().map(move |(name, head)| {
            Piece::new(format!("request {kind} {name}"), move || make(head.clone().into_bytes()))
        })
    });
    all.collect()
}

fn scan(head: Vec<u8>) -> Work {
    Box::new(move || {
        black_box(Scan::default().advance(black_box(&head)).unwrap().unwrap());
    })
}

/// A route answers these itself, so that nothing is written.
fn check(head: Vec<u8>) -> Work {
    let answer = FixedAnswer { status: 200, content_type: "text/plain".into(), body: Arc::default() };
    let plan = plan::with_routes(plan::plan(1, 1), vec![plan::route("/", Action::Respond(answer))]);
    let table = Table::build(&plan, 0);
    let mut out = Vec::with_capacity(4096);
    Box::new(move || {
        let routes = Routes { table: &table, plans: &plan.routes };
        pass(&head, Some(routes), &mut out);
    })
}

fn rewrite(head: Vec<u8>) -> Work {
    let mut out = Vec::with_capacity(4096);
    Box::new(move || pass(&head, None, &mut out))
}

/// What an exchange does with a head that has arrived.
fn pass(head: &[u8], routes: Option<Routes<'_>>, out: &mut Vec<u8>) {
    let head = black_box(head);
    let found = Scan::default().advance(head).unwrap().unwrap();
    out.clear();
    let origin =
        Origin { client: "192.0.2.7", local: "", policy: HeaderPolicy::default(), routes, body_max: None };
    black_box(request::rewrite(head, found, origin, out).unwrap());
    black_box(out.as_slice());
}
