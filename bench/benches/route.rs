//! What it costs to find a request's route, by the number of routes.
//!
//!     cargo bench -p ringway-bench --bench route
//!
//! Each look-up asks for another route than the one before, in an order that no cache foresees.

use std::{ffi::OsString, hint::black_box, net::SocketAddr};

use divan::Bencher;
use httparse::Header;
use ringway::{
    cli,
    config::{
        self, Environment,
        plan::{
            Plan,
            route::{Action, HeaderMatch, HostMatch, PathMatch, RoutePlan},
        },
    },
    route::table::{Question, Table},
};

const COUNTS: [usize; 3] = [1, 100, 10_000];
/// Questions that are asked in turns.
const QUESTIONS: usize = 16_384;

fn main() {
    divan::main();
}

fn plan(routes: Vec<RoutePlan>) -> Plan {
    let flags = ["ringway", "--backends=127.0.0.1:1", "--cores=0"].map(OsString::from);
    let Ok(cli::Command::Run(source)) = cli::parse(flags.into_iter()) else { panic!("the flags are right") };
    let Ok(environment) = Environment::of_process() else { panic!("there are cores") };
    let Ok(checked) = config::load(&source, &environment) else { panic!("the flags are right") };
    let mut plan = checked.into_plan(vec![vec![SocketAddr::from(([127, 0, 0, 1], 1)).into()]]);
    plan.listeners[0].routes = (0..routes.len()).collect();
    plan.routes = routes;
    plan
}

fn route(host: Option<HostMatch>, path: PathMatch) -> RoutePlan {
    let hosts = host.into_iter().collect();
    RoutePlan { hosts, ..RoutePlan::new(path, Action::Forward(Vec::new())) }
}

fn host(number: usize) -> String {
    format!("shop-{number}.customers.example.com")
}

/// Asks for the routes of one table, as `(host, path)` by their numbers.
fn ask(
    bencher: Bencher<'_, '_>,
    count: usize,
    make: fn(usize) -> RoutePlan,
    asked: fn(usize) -> (String, String),
) {
    let table = Table::build(&plan((0..count).map(make).collect()), 0);
    let scattered = |step: usize| (step.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % count;
    let questions: Vec<_> = (0..QUESTIONS).map(scattered).map(|number| (number, asked(number))).collect();
    let header = |name, value: &'static str| Header { name, value: value.as_bytes() };
    let fields = [
        header("Host", "a"),
        header("User-Agent", "Mozilla/5.0 (X11; Linux x86_64)"),
        header("Accept", "*/*"),
        header("Accept-Encoding", "gzip, br"),
        header("Cookie", "session=0123456789abcdef"),
        header("X-Canary", "1"),
    ];
    let question = |(host, path): &(String, String)| {
        let fields: &[Header<'_>] = &fields;
        table.find(&Question { host: host.as_bytes(), path: path.as_bytes(), method: b"GET", fields })
    };
    assert!(questions.iter().all(|(number, asked)| question(asked) == Some(*number)));
    let mut turn = 0;
    bencher.bench_local(|| {
        turn = (turn + 1) % QUESTIONS;
        question(black_box(&questions[turn].1))
    });
}

#[divan::bench(args = COUNTS)]
fn by_host(bencher: Bencher<'_, '_>, count: usize) {
    let make = |number| route(Some(HostMatch::Exact(host(number).into())), PathMatch::Prefix("/".into()));
    ask(bencher, count, make, |number| (host(number), "/images/2026/logo.png".into()));
}

#[divan::bench(args = COUNTS)]
fn by_prefix(bencher: Bencher<'_, '_>, count: usize) {
    let make = |number| route(None, PathMatch::Prefix(format!("/api/v1/service-{number}").into()));
    ask(bencher, count, make, |number| {
        ("www.example.com:8080".into(), format!("/api/v1/service-{number}/items/17"))
    });
}

#[divan::bench(args = COUNTS)]
fn by_wildcard_and_prefix(bencher: Bencher<'_, '_>, count: usize) {
    let make = |number| {
        let suffix = HostMatch::Suffix(format!(".zone-{}.example.com", number % 100).into());
        route(Some(suffix), PathMatch::Prefix(format!("/app/{number}").into()))
    };
    ask(bencher, count, make, |number| {
        (format!("www.zone-{}.example.com", number % 100), format!("/app/{number}/index.html"))
    });
}

#[divan::bench(args = COUNTS)]
fn by_exact_path_and_header(bencher: Bencher<'_, '_>, count: usize) {
    let make = |number| {
        let mut route = route(None, PathMatch::Exact(format!("/api/v1/service-{number}/items").into()));
        route.headers = vec![HeaderMatch { name: "x-canary".into(), value: Some(b"1".as_slice().into()) }];
        route
    };
    ask(bencher, count, make, |number| ("www.example.com".into(), format!("/api/v1/service-{number}/items")));
}

#[divan::bench(args = COUNTS)]
fn by_host_with_escapes(bencher: Bencher<'_, '_>, count: usize) {
    let make = |number| route(Some(HostMatch::Exact(host(number).into())), PathMatch::Prefix("/".into()));
    ask(bencher, count, make, |number| (host(number), "/search/%7Euser%20name".into()));
}
