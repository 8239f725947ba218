//! Tests of the table, beside the code they test: against a matcher that tries every route.

use std::cmp::Reverse;

use proptest::{prelude::*, sample::select};

use super::*;
use crate::config::plan::route::{Action, HostMatch, PathMatch, RoutePlan};

type Pairs = [(&'static str, &'static [u8])];

impl Fields for Pairs {
    fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.iter().filter(move |(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }
}

fn route(path: PathMatch) -> RoutePlan {
    RoutePlan::new(path, Action::Forward(Vec::new()))
}

fn plan(routes: Vec<RoutePlan>) -> Plan {
    let mut plan = Plan::for_tests(&["127.0.0.1:1"]);
    plan.listeners[0].routes = (0..routes.len()).collect();
    plan.routes = routes;
    plan
}

fn table(routes: Vec<RoutePlan>) -> Table {
    Table::build(&plan(routes), 0)
}

fn prefix(path: &str) -> PathMatch {
    PathMatch::Prefix(path.into())
}

fn exact(path: &str) -> PathMatch {
    PathMatch::Exact(path.into())
}

fn expression(text: &str) -> PathMatch {
    PathMatch::Regex(Regex::new(text).unwrap())
}

fn find(table: &Table, host: &str, path: &str) -> Option<usize> {
    let fields: &Pairs = &[];
    table.find(&Question { host: host.as_bytes(), path: path.as_bytes(), method: b"GET", fields })
}

fn on(hosts: &[&str], mut route: RoutePlan) -> RoutePlan {
    let host = |host: &&str| match host.strip_prefix('*') {
        Some(suffix) => HostMatch::Suffix(suffix.into()),
        None => HostMatch::Exact((*host).into()),
    };
    route.hosts = hosts.iter().map(host).collect();
    route
}

#[test]
fn the_longest_prefix_of_whole_segments_wins() {
    let table =
        table(["/", "/images", "/api/users", "/api", "/api/users/me"].map(|p| route(prefix(p))).into());
    for (path, wanted) in [
        ("/", 0),
        ("/imagesx", 0),
        ("/images", 1),
        ("/images/", 1),
        ("/images/a/b/c.png", 1),
        ("/api/orders", 3),
        ("/api/users", 2),
        ("/api/users/", 2),
        ("/api/users/mee", 2),
        ("/api/users/me", 4),
        ("//images", 0),
        ("/images//x", 1),
        ("/%69mages/x", 1),
        ("/images%2Fx", 0),
        ("/Images", 0),
    ] {
        assert_eq!(find(&table, "any", path), Some(wanted), "{path}");
    }
    assert_eq!((find(&table, "any", "*"), find(&table, "any", "")), (None, None));
}

#[test]
fn exact_paths_go_before_prefixes_and_these_before_expressions() {
    let table = table(vec![
        route(PathMatch::Any),
        route(expression("png$")),
        route(expression("^/a")),
        route(prefix("/a")),
        route(exact("/a")),
        route(exact("/a/")),
        route(exact("/")),
    ]);
    for (path, wanted) in [
        ("/a", 4),
        ("/a/", 5),
        ("/a/b.png", 3),
        ("/ab.png", 1),
        ("/ab", 2),
        ("/", 6),
        ("/x", 0),
        ("*", 0),
        ("/%61b", 2),
    ] {
        assert_eq!(find(&table, "", path), Some(wanted), "{path}");
    }
}

#[test]
fn hosts_go_from_exact_over_the_longest_suffix_to_any() {
    let table = table(vec![
        route(PathMatch::Any),
        on(&["*.com"], route(PathMatch::Any)),
        on(&["*.example.com"], route(PathMatch::Any)),
        on(&["www.example.com", "example.com"], route(PathMatch::Any)),
    ]);
    for (host, wanted) in [
        ("www.example.com", 3),
        ("WWW.Example.Com:80", 3),
        ("example.com.", 3),
        ("api.example.com", 2),
        ("a.b.example.com", 2),
        ("badexample.com", 1),
        ("com", 0),
        (".com", 0),
        ("", 0),
        ("example.org", 0),
    ] {
        assert_eq!(find(&table, host, "/"), Some(wanted), "{host}");
    }
}

#[test]
fn what_does_not_fit_falls_through_to_the_next_less_specific() {
    let with = |mut route: RoutePlan, method: Option<&str>, headers: &[(&str, Option<&[u8]>)]| {
        route.methods = method.into_iter().map(Into::into).collect();
        let header = |(name, value): &(&str, Option<&[u8]>)| HeaderMatch {
            name: (*name).into(),
            value: value.map(Into::into),
        };
        route.headers = headers.iter().map(header).collect();
        route
    };
    let table = table(vec![
        route(prefix("/")),
        on(&["a"], with(route(prefix("/x")), Some("POST"), &[])),
        on(&["a"], with(route(prefix("/x/y")), Some("PUT"), &[])),
        on(&["a"], with(route(prefix("/x")), None, &[("k", None)])),
        on(&["a"], with(route(prefix("/x")), None, &[("k", None), ("l", Some(b"1"))])),
    ]);
    let ask = |method: &str, fields: &Pairs| {
        table.find(&Question { host: b"a", path: b"/x/y/z", method: method.as_bytes(), fields })
    };
    assert_eq!(ask("PUT", &[]), Some(2));
    assert_eq!(ask("POST", &[("k", b"")]), Some(1));
    assert_eq!(ask("post", &[]), Some(0));
    assert_eq!(ask("GET", &[]), Some(0));
    assert_eq!(ask("GET", &[("K", b"z")]), Some(3));
    assert_eq!(ask("GET", &[("K", b"z"), ("l", b"2")]), Some(3));
    assert_eq!(ask("GET", &[("K", b"z"), ("l", b"2"), ("L", b"1")]), Some(4));
}

#[test]
fn escapes_do_not_hide_a_path_of_any_length() {
    let table = table(vec![route(PathMatch::Any), route(prefix("/%61dmin/x%2fy"))]);
    for length in [0, PATH_BYTES_USUAL, PATH_BYTES_MAX - 40] {
        let path = format!("/%61%64min/%78%2Fy/{}", "z".repeat(length));
        assert_eq!(find(&table, "", &path), Some(1), "{length}");
    }
    assert_eq!(find(&table, "", "/admin/x/y"), Some(0), "a slash is not its escape");
}

#[test]
fn a_table_without_routes_finds_nothing() {
    let empty = table(Vec::new());
    assert!(empty.is_empty() && find(&empty, "a", "/").is_none());
    assert!(Table::build(&plan(vec![route(PathMatch::Any)]), 9).is_empty());
    let mut other = plan(vec![route(PathMatch::Any), route(prefix("/a"))]);
    other.listeners[0].routes = vec![1, 7];
    let table = Table::build(&other, 0);
    assert_eq!((find(&table, "", "/a"), find(&table, "", "/b")), (Some(1), None));
}

#[test]
fn many_routes_are_all_found() {
    let routes = |number: usize| {
        on(&[&format!("h{}.example", number % 100)], route(prefix(&format!("/s{}/p{number}", number % 7))))
    };
    let table = table((0..10_000).map(routes).collect());
    for number in 0..10_000 {
        let (host, path) = (format!("h{}.example", number % 100), format!("/s{}/p{number}/x", number % 7));
        assert_eq!(find(&table, &host, &path), Some(number));
        assert_eq!(find(&table, "h.example", &path), None);
    }
}

/// The form in which a path is compared, for the few escapes of these tests.
fn plain(path: &str) -> String {
    path.replace("%61", "a").replace("%2f", "%2F")
}

/// How specific the best host of a route is for this one, less being more.
fn host_rank(route: &RoutePlan, host: &str) -> Option<(u8, Reverse<usize>)> {
    let host = host.split(':').next().unwrap().trim_end_matches('.').to_ascii_lowercase();
    let rank = |wanted: &HostMatch| match wanted {
        HostMatch::Exact(name) => (**name == *host).then_some((0, Reverse(0))),
        HostMatch::Suffix(suffix) => {
            (host.len() > suffix.len() && host.ends_with(&**suffix)).then_some((1, Reverse(suffix.len())))
        }
    };
    if route.hosts.is_empty() { Some((2, Reverse(0))) } else { route.hosts.iter().filter_map(rank).min() }
}

fn path_rank(route: &RoutePlan, index: usize, path: &str) -> Option<(u8, Reverse<usize>, usize)> {
    let path = plain(path);
    match &route.path {
        PathMatch::Any => Some((3, Reverse(0), 0)),
        PathMatch::Exact(wanted) => (plain(wanted) == path).then_some((0, Reverse(0), 0)),
        PathMatch::Regex(wanted) => wanted.is_match(path.as_bytes()).then_some((2, Reverse(0), index)),
        PathMatch::Prefix(wanted) => {
            let wanted = plain(wanted);
            let below = path.strip_prefix(wanted.trim_end_matches('/'))?;
            let fits = below.starts_with('/') || below.is_empty() && wanted != "/";
            fits.then_some((1, Reverse(wanted.trim_end_matches('/').len()), 0))
        }
    }
}

/// The written precedence, by trying every route.
fn naive(routes: &[RoutePlan], question: &Question<'_, Pairs>) -> Option<usize> {
    let text = |bytes| std::str::from_utf8(bytes).unwrap();
    let rank = |(index, route): (usize, &RoutePlan)| {
        let host = host_rank(route, text(question.host))?;
        let path = path_rank(route, index, text(question.path))?;
        let method =
            route.methods.is_empty() || route.methods.iter().any(|m| m.as_bytes() == question.method);
        let header = |wanted: &HeaderMatch| {
            let same = |(name, value): &&(&str, &[u8])| {
                name.eq_ignore_ascii_case(&wanted.name) && wanted.value.as_deref().is_none_or(|w| w == *value)
            };
            question.fields.iter().any(|field| same(&field))
        };
        let fits = method && route.headers.iter().all(header);
        fits.then_some((host, path, route.methods.is_empty(), Reverse(route.headers.len()), index))
    };
    routes.iter().enumerate().filter_map(rank).min().map(|rank| rank.4)
}

fn any_route() -> impl Strategy<Value = RoutePlan> {
    let hosts = vec!["a", "a.b", "c.a.b", "*.b", "*.a.b", "*.c.a.b"];
    let text = "(/(a|b|%61|%2f|)){1,3}";
    let path = prop_oneof![
        1 => Just(PathMatch::Any),
        3 => text.prop_map(|path| exact(&path)),
        5 => "(/(a|b|%61|%2f)){1,3}|/".prop_map(|path| prefix(&path)),
        1 => select(vec!["^/a", "b$", "/b/", "."]).prop_map(expression),
    ];
    let header =
        (select(vec!["k", "l"]), select(vec![None, Some("1"), Some("2")])).prop_map(|(name, value)| {
            HeaderMatch { name: name.into(), value: value.map(|value| value.as_bytes().into()) }
        });
    (
        prop::collection::vec(select(hosts), 0..3),
        path,
        prop::collection::vec(select(vec!["GET", "PUT", "X"]), 0..2),
        prop::collection::vec(header, 0..3),
    )
        .prop_map(|(hosts, path, methods, headers)| {
            let mut route = on(&hosts, route(path));
            route.methods = methods.into_iter().map(Into::into).collect();
            route.headers = headers;
            route
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn it_finds_what_trying_every_route_finds(
        routes in prop::collection::vec(any_route(), 0..24),
        questions in prop::collection::vec((
            select(vec!["a", "A.b", "a.b:80", "c.a.b", "d.a.b.", "x.c.a.b", "x.y.b", ".b", "b", "", "d"]),
            prop_oneof![9 => "(/(a|b|c|%61|%2F|)){1,4}", 1 => Just("*".to_owned())],
            select(vec!["GET", "PUT", "X", "Y"]),
            prop::collection::vec((select(vec!["k", "K", "l"]), select(vec![&b"1"[..], b"2", b""])), 0..3),
        ), 1..8),
    ) {
        let table = table(routes.clone());
        for (host, path, method, fields) in &questions {
            let (host, path, method) = (host.as_bytes(), path.as_bytes(), method.as_bytes());
            let question = Question { host, path, method, fields: fields.as_slice() };
            prop_assert_eq!(table.find(&question), naive(&routes, &question));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        routes in prop::collection::vec(any_route(), 0..9),
        host in prop::collection::vec(any::<u8>(), 0..300),
        path in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let fields: &Pairs = &[];
        table(routes).find(&Question { host: &host, path: &path, method: b"GET", fields });
    }
}
