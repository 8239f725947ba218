//! Tables of routes, and requests that ask for another one each time, in an order that no cache foresees.

use std::hint::black_box;

use httparse::Header;
use ringway::{
    config::plan::route::{Action, HeaderMatch, HostMatch, PathMatch, RoutePlan},
    route::table::{Question, Table},
};

use crate::{
    piece::{Piece, Work},
    plan,
};

/// Questions that are asked in turns.
const QUESTIONS: usize = 16_384;

/// A route by its number, and who asks for it: host and path.
type Kind = (&'static str, fn(usize) -> RoutePlan, fn(usize) -> (String, String));

const KINDS: [Kind; 5] = [
    ("host", by_host, |number| (host(number), "/images/2026/logo.png".into())),
    ("host with escapes", by_host, |number| (host(number), "/search/%7Euser%20name".into())),
    ("wildcard and prefix", by_wildcard_and_prefix, |number| {
        (format!("www.zone-{}.example.com", number % 100), format!("/app/{number}/index.html"))
    }),
    ("prefix", by_prefix, |number| {
        ("www.example.com:8080".into(), format!("/api/v1/service-{number}/items/17"))
    }),
    ("path and header", by_path_and_header, |number| {
        ("www.example.com".into(), format!("/api/v1/service-{number}/items"))
    }),
];

/// Every kind of route, so many of them in a table.
pub fn pieces(counts: &[usize]) -> Vec<Piece> {
    let all = KINDS.into_iter().flat_map(|(name, make, asked)| {
        let piece = move |count: &usize| {
            let count = *count;
            Piece::new(format!("route {name} {count}"), move || ask(count, make, asked))
        };
        counts.iter().map(piece)
    });
    all.collect()
}

fn route(host: Option<HostMatch>, path: PathMatch) -> RoutePlan {
    let hosts = host.into_iter().collect();
    RoutePlan { hosts, ..RoutePlan::new(path, Action::Forward(Vec::new())) }
}

fn host(number: usize) -> String {
    format!("shop-{number}.customers.example.com")
}

fn by_host(number: usize) -> RoutePlan {
    route(Some(HostMatch::Exact(host(number).into())), PathMatch::Prefix("/".into()))
}

fn by_prefix(number: usize) -> RoutePlan {
    route(None, PathMatch::Prefix(format!("/api/v1/service-{number}").into()))
}

fn by_wildcard_and_prefix(number: usize) -> RoutePlan {
    let suffix = HostMatch::Suffix(format!(".zone-{}.example.com", number % 100).into());
    route(Some(suffix), PathMatch::Prefix(format!("/app/{number}").into()))
}

fn by_path_and_header(number: usize) -> RoutePlan {
    let mut route = route(None, PathMatch::Exact(format!("/api/v1/service-{number}/items").into()));
    route.headers = vec![HeaderMatch { name: "x-canary".into(), value: Some(b"1".as_slice().into()) }];
    route
}

/// The fields of every request.
fn fields() -> [Header<'static>; 6] {
    let header = |name, value: &'static str| Header { name, value: value.as_bytes() };
    [
        header("Host", "a"),
        header("User-Agent", "Mozilla/5.0 (X11; Linux x86_64)"),
        header("Accept", "*/*"),
        header("Accept-Encoding", "gzip, br"),
        header("Cookie", "session=0123456789abcdef"),
        header("X-Canary", "1"),
    ]
}

fn ask(count: usize, make: fn(usize) -> RoutePlan, asked: fn(usize) -> (String, String)) -> Work {
    let plan = plan::with_routes(plan::plan(1, 1), (0..count).map(make).collect());
    let table = Table::build(&plan, 0);
    let scattered = |step: usize| (step.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % count;
    let numbers = (0..QUESTIONS).map(scattered);
    let questions: Vec<_> = numbers.map(|number| (number, asked(number))).collect();
    let fields = fields();
    let question = move |(host, path): &(String, String)| {
        let fields: &[Header<'_>] = &fields;
        table.find(&Question { host: host.as_bytes(), path: path.as_bytes(), method: b"GET", fields })
    };
    assert!(questions.iter().all(|(number, asked)| question(asked) == Some(*number)));
    let mut turn = 0;
    Box::new(move || {
        turn = (turn + 1) % QUESTIONS;
        black_box(question(black_box(&questions[turn].1)));
    })
}
