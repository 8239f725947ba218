//! Tests of the request head, beside the code they test.

use proptest::prelude::*;

use super::*;
use crate::{
    config::plan::{
        Plan,
        route::{FieldEdits, FixedAnswer, PathMatch, Redirect, Rewrite, RoutePlan},
    },
    http::scan::Scan,
    route::table::Table,
};

fn rewrite_with(head: &[u8], policy: HeaderPolicy) -> Result<(Request, String), Refusal> {
    let found = Scan::default().advance(head).expect("scan").expect("complete");
    let mut out = Vec::new();
    let origin =
        Origin { client: "192.0.2.7", local: "127.0.0.1:3030", policy, routes: None, body_max: None };
    let request = rewrite(head, found, origin, &mut out)?;
    Ok((request, String::from_utf8(out).unwrap()))
}

fn rewritten(head: &str) -> Result<(Request, String), Refusal> {
    rewrite_with(head.as_bytes(), HeaderPolicy { via: false, trust_forwarded: false })
}

const ADDED: &str = "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n";

#[test]
fn end_to_end_fields_are_copied_byte_for_byte_in_order() {
    let (request, out) =
        rewritten("GET /p?q HTTP/1.1\r\nHost: a\r\nx-B:  c \r\nCookie: d; e\r\nX-b: 2\r\n\r\n").unwrap();
    assert_eq!(
        out,
        format!("GET /p?q HTTP/1.1\r\nHost: a\r\nx-B:  c \r\nCookie: d; e\r\nX-b: 2\r\n{ADDED}\r\n")
    );
    assert!(request.keep_alive && request.body.is_done() && request.method == Method::Get);
}

#[test]
fn fields_of_this_hop_go_no_further() {
    let (request, out) = rewritten(
        "GET / HTTP/1.1\r\nTE: trailers\r\nHost: a\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTrailer: T\r\n\
         Proxy-Connection: keep-alive\r\nHTTP2-Settings: x\r\nUpgrade: websocket\r\nX-Forwarded-For: 1.1.1.1\r\nX-Keep: 1\r\n\r\n",
    )
    .unwrap();
    assert_eq!(out, format!("GET / HTTP/1.1\r\nHost: a\r\nX-Keep: 1\r\n{ADDED}\r\n"));
    assert!(!request.keep_alive && !request.upgrade);
}

#[test]
fn forwarded_fields_of_a_trusted_peer_are_kept_and_extended() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-For: 2.2.2.2\r\n\r\n";
    let (_, out) = rewrite_with(head, HeaderPolicy { via: true, trust_forwarded: true }).unwrap();
    assert_eq!(
        out,
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2, 192.0.2.7\r\n\
         X-Forwarded-Host: a\r\nVia: 1.1 ringway\r\n\r\n"
    );
}

#[test]
fn the_authority_of_an_absolute_target_wins_over_host() {
    let (_, out) = rewritten("GET http://a/p HTTP/1.1\r\nX: 1\r\nHost: other\r\nY: 2\r\n\r\n").unwrap();
    assert_eq!(out, format!("GET /p HTTP/1.1\r\nX: 1\r\nHost: a\r\nY: 2\r\n{ADDED}\r\n"));
    let (_, out) = rewritten("OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(out.starts_with("OPTIONS * HTTP/1.1\r\nHost: a\r\n"));
    let (_, out) = rewritten("GET http://a?q HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(out.starts_with("GET /?q HTTP/1.1\r\n"));
}

#[test]
fn http10_gets_a_host_and_loses_what_it_cannot_mean() {
    let (request, out) =
        rewritten("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n").unwrap();
    assert!(request.http10 && !request.keep_alive && request.body == Body::Length(3));
    assert!(out.starts_with("POST / HTTP/1.1\r\nContent-Length: 3\r\nHost: 127.0.0.1:3030\r\n"), "{out}");
    assert!(!out.contains("Expect"));
    assert!(rewritten("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").unwrap().0.keep_alive);
    let (_, out) = rewrite_with(b"GET / HTTP/1.0\r\n\r\n", HeaderPolicy::default()).unwrap();
    assert!(out.contains("Via: 1.0 ringway\r\n"));
}

#[test]
fn framing_is_normalised() {
    let (request, out) =
        rewritten("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\nContent-Length: 5\r\n\r\n").unwrap();
    assert_eq!(request.body, Body::Length(5));
    assert_eq!(out.matches("Content-Length").count(), 1);
    assert!(out.contains("Content-Length: 5\r\n"));
    let (request, out) =
        rewritten("POST / HTTP/1.1\r\nTransfer-Encoding: CHUNKED\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(request.body, Body::chunked(Emit::Chunks));
    assert!(out.ends_with("Transfer-Encoding: chunked\r\n\r\n"));
}

#[test]
fn upgrades_are_offered_on_and_h2c_is_not() {
    let (request, out) =
        rewritten("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n").unwrap();
    assert!(request.upgrade);
    assert!(out.contains("Upgrade: websocket\r\n") && out.ends_with("Connection: upgrade\r\n\r\n"));
    let (request, out) =
        rewritten("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n")
            .unwrap();
    assert!(!request.upgrade && !out.to_lowercase().contains("upgrade"));
}

#[test]
fn max_forwards_counts_down_for_options_and_trace_only() {
    let (request, out) = rewritten("OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 3\r\n\r\n").unwrap();
    assert!(out.contains("Max-Forwards: 2\r\n") && !request.last_hop);
    assert!(rewritten("TRACE / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n").unwrap().0.last_hop);
    let (request, out) = rewritten("GET / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n").unwrap();
    assert!(out.contains("Max-Forwards: 0\r\n") && !request.last_hop);
}

#[test]
fn each_fault_has_its_refusal() {
    let cases = [
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::InvalidRequestLine),
        ("GET /\r\nHost: a\r\n\r\n", Refusal::InvalidRequestLine),
        ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::InvalidMethod),
        ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::InvalidTarget),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::InvalidTarget),
        ("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::Userinfo),
        ("GET / HTTP/1.1x\r\nHost: a\r\n\r\n", Refusal::InvalidVersion),
        ("GET / http/1.1\r\nHost: a\r\n\r\n", Refusal::InvalidVersion),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Refusal::UnsupportedVersion),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Refusal::InvalidHeader),
        ("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", Refusal::InvalidHeader),
        ("GET / HTTP/1.1\r\n\r\n", Refusal::MissingHost),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Refusal::RepeatedHost),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Refusal::InvalidHost),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            Refusal::InvalidContentLength,
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", Refusal::InvalidContentLength),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            Refusal::LengthWithTransferEncoding,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            Refusal::UnknownTransferCoding,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            Refusal::UnknownTransferCoding,
        ),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Refusal::TransferEncodingInHttp10),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::ConnectMethod),
        ("TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", Refusal::TraceWithBody),
        ("OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: x\r\n\r\n", Refusal::InvalidMaxForwards),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: a b\r\n\r\n", Refusal::InvalidConnectionField),
    ];
    for (head, refusal) in cases {
        assert_eq!(rewritten(head).map(|r| r.1), Err(refusal), "{head:?}");
    }
    assert!(rewritten("GET / HTTP/1.9\r\nHost: a\r\n\r\n").is_ok());
}

fn routed(routes: Vec<RoutePlan>, head: &str) -> Result<(Request, String), Refusal> {
    let mut plan = Plan::for_tests(&["127.0.0.1:1"]);
    plan.listeners[0].routes = (0..routes.len()).collect();
    plan.routes = routes;
    let table = Table::build(&plan, 0);
    let found = Scan::default().advance(head.as_bytes()).expect("scan").expect("complete");
    let mut out = Vec::new();
    let policy = HeaderPolicy { via: false, trust_forwarded: true };
    let routes = Some(Routes { table: &table, plans: &plan.routes });
    let request = rewrite(
        head.as_bytes(),
        found,
        Origin { client: "192.0.2.7", local: "l:1", policy, routes, body_max: None },
        &mut out,
    )?;
    Ok((request, String::from_utf8(out).unwrap()))
}

fn route(path: &str, action: Action, rewrite: Rewrite) -> RoutePlan {
    RoutePlan { rewrite, ..RoutePlan::new(PathMatch::Prefix(path.into()), action) }
}

#[test]
fn the_route_changes_prefix_and_fields() {
    let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
    let rewrite = Rewrite {
        prefix: Some("/v2".into()),
        request: FieldEdits {
            remove: ["x-a", "x-forwarded-for", "x-b", "content-length", "host"].map(Into::into).into(),
            write: pairs(&[("X-B", "set"), ("Host", "inner"), ("Connection", "x")]),
        },
        response: FieldEdits::default(),
    };
    let routes = || {
        vec![
            route("/", Action::Forward(Vec::new()), Rewrite::default()),
            route("/api", Action::Forward(Vec::new()), rewrite.clone()),
        ]
    };
    let (request, out) = routed(
        routes(),
        "POST /api/x?y HTTP/1.1\r\nX-A: 1\r\nHost: a\r\nx-b: 2\r\nX-C: 3\r\nContent-Length: 4\r\nx-a: 5\r\n\r\n",
    )
    .unwrap();
    assert_eq!(request.route, Some(1));
    assert_eq!(
        out,
        "POST /v2/x?y HTTP/1.1\r\nHost: inner\r\nX-C: 3\r\nContent-Length: 4\r\nX-Forwarded-Proto: http\r\n\
         X-Forwarded-Host: a\r\nX-B: set\r\n\r\n"
    );
    let (request, out) = routed(routes(), "GET http://b?q HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(request.route, Some(0));
    assert!(out.starts_with("GET /?q HTTP/1.1\r\nHost: b\r\n"), "{out}");
    let (request, out) = routed(routes(), "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(request.route.is_none() && out.starts_with("OPTIONS * HTTP/1.1\r\n"));
}

#[test]
fn a_redirect_gives_its_location_and_an_answer_nothing() {
    let https = Redirect { status: 308, scheme: Some("https".into()), host: None, path: None };
    let fixed = FixedAnswer { status: 403, content_type: "text/plain".into(), body: [].into() };
    let routes = vec![
        route("/", Action::Redirect(https), Rewrite::default()),
        route("/no", Action::Respond(fixed), Rewrite::default()),
    ];
    let (request, out) = routed(routes.clone(), "GET /a?b HTTP/1.1\r\nHost: a:80\r\n\r\n").unwrap();
    assert_eq!((request.route, out.as_str()), (Some(0), "https://a/a?b"));
    let (request, out) = routed(routes, "GET /no/x HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!((request.route, out.as_str()), (Some(1), ""));
}

#[test]
fn dot_segments_are_refused_where_there_are_routes() {
    let head = "GET /a/%2e./b HTTP/1.1\r\nHost: a\r\n\r\n";
    let routes = vec![route("/", Action::Forward(Vec::new()), Rewrite::default())];
    assert_eq!(routed(routes, head).map(|r| r.1), Err(Refusal::DotSegment));
    assert!(routed(Vec::new(), head).unwrap().1.starts_with("GET /a/%2e./b HTTP/1.1\r\n"));
    assert!(rewritten(head).is_ok());
}

proptest! {
    /// Whatever is accepted is unambiguous when read again, and a second pass changes nothing that matters.
    #[test]
    fn what_is_forwarded_is_accepted_again_with_the_same_meaning(
        lines in prop::collection::vec(prop_oneof![
            "(Content-Length|content-length): [0-9]{1,3}",
            Just("Transfer-Encoding: chunked".to_owned()),
            "Connection: (close|keep-alive|x-a)",
            "X-A: [ -~]{0,10}",
            "[A-Za-z]{1,3} ?: [ -~]{0,5}",
            "[ -~]{0,12}",
        ], 0..6),
    ) {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{}\r\n", lines.iter().map(|l| format!("{l}\r\n")).collect::<String>());
        if Scan::default().advance(head.as_bytes()).ok().flatten().is_some_and(|found| found.end == head.len())
            && let Ok((request, out)) = rewritten(&head)
        {
            let (again, _) = rewritten(&out).unwrap();
            prop_assert_eq!(request.body, again.body);
            let lower = out.to_lowercase();
            prop_assert!(!(lower.contains("\r\ncontent-length:") && lower.contains("\r\ntransfer-encoding:")));
            prop_assert!(lower.matches("\r\ncontent-length:").count() <= 1);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(head in prop::collection::vec(any::<u8>(), 0..100)) {
        let mut bytes = head;
        bytes.extend_from_slice(b"\r\n\r\n");
        if let Ok(Some(found)) = Scan::default().advance(&bytes) {
            let origin = Origin { client: "c", local: "l", policy: HeaderPolicy::default(), routes: None, body_max: None };
            let _ = rewrite(&bytes, found, origin, &mut Vec::new());
        }
    }
}
