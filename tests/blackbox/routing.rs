//! Routes: which cluster gets a request, by path, host, method, header and share, and what happens where none does.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use crate::support::{Backend, Client, Configured, Response, Ringway, refusing_address};

/// A listener without a cluster of its own, and a cluster of one backend for each name.
fn clusters(backends: &[(&str, &Backend)]) -> String {
    let cluster = |(name, backend): &(&str, &Backend)| {
        format!("[[cluster]]\nname = \"{name}\"\nbackend = \"{}\"\n", backend.place)
    };
    LISTENER.to_owned() + &backends.iter().map(cluster).collect::<String>()
}

/// As [`clusters`], with backends that answer with their names.
fn services<const COUNT: usize>(names: [&'static str; COUNT]) -> ([Backend; COUNT], String) {
    let backends = names.map(Backend::well_behaved);
    let text = clusters(&names.into_iter().zip(&backends).collect::<Vec<_>>());
    (backends, text)
}

const LISTENER: &str = "[[listener]]\nbind = \"127.0.0.1:0\"\n";

/// A route with these conditions.
fn route(conditions: &str, cluster: &str) -> String {
    format!("[[route]]\n{conditions}\ncluster = \"{cluster}\"\n")
}

/// The body of a 200, or the status.
fn outcome(response: &Response) -> String {
    if response.status == 200 { response.text() } else { response.status.to_string() }
}

#[test]
fn four_services_are_told_apart_by_path() {
    let names = ["images", "video", "users", "orders"];
    let (backends, mut text) = services(names);
    for (path, name) in ["/images", "/video", "/api/users", "/api/orders"].iter().zip(names) {
        text += &route(&format!("path_prefix = \"{path}\""), name);
    }
    let ringway = Configured::start(2, &text);
    for _ in 0..8 {
        // One connection for all of them: a 404 does not end it.
        let mut client = ringway.client();
        for (path, wanted) in [
            ("/images", "images"),
            ("/images/", "images"),
            ("/images?size=1", "images"),
            ("/images/a/b.png", "images"),
            ("/%69mages/a", "images"),
            ("/imagesx", "404"),
            ("/Images", "404"),
            ("//images", "404"),
            ("/video/1?t=/images", "video"),
            ("/api/users/7", "users"),
            ("/api/orders", "orders"),
            ("/api/usersx/7", "404"),
            ("/api", "404"),
            ("/apis/users", "404"),
            ("/", "404"),
        ] {
            assert_eq!(outcome(&client.get(path)), wanted, "{path}");
        }
    }
    let seen: Vec<_> = backends[0].requests().iter().map(|request| request.target().to_owned()).collect();
    assert_eq!(
        &seen[..5],
        ["/images", "/images/", "/images?size=1", "/images/a/b.png", "/%69mages/a"],
        "a target is forwarded as it came"
    );
}

#[test]
fn the_longest_path_wins_whatever_the_order() {
    let (_backends, clusters) = services(["root", "api", "v2", "exact", "regex"]);
    let routes = [
        route("path_prefix = \"/\"", "root"),
        route("path_regex = \"[.]php$\"", "regex"),
        route("path_prefix = \"/api\"", "api"),
        route("path_prefix = \"/api/v2\"", "v2"),
        route("path = \"/api/v2/x\"", "exact"),
    ];
    let forwards: String = routes.iter().map(String::as_str).collect();
    let backwards: String = routes.iter().rev().map(String::as_str).collect();
    for routes in [forwards, backwards] {
        let ringway = Configured::start(1, &(clusters.clone() + &routes));
        let mut client = ringway.client();
        for (path, wanted) in [
            ("/", "root"),
            ("/apis", "root"),
            ("/api", "api"),
            ("/api/v20", "api"),
            ("/api/v2", "v2"),
            ("/api/v2/", "v2"),
            ("/api/v2/x", "exact"),
            ("/api/v2/x?y", "exact"),
            ("/api/v2/x/", "v2"),
            // A prefix that fits goes before an expression, here even the one for everything.
            ("/a.php", "root"),
        ] {
            assert_eq!(outcome(&client.get(path)), wanted, "{path}");
        }
    }
}

#[test]
fn an_expression_takes_what_no_path_and_no_prefix_does() {
    let (_backends, clusters) = services(["images", "old", "users", "exact"]);
    let text = clusters
        + &route("path_regex = \"[.](png|jpe?g)$\"", "images")
        + &route("path_regex = '^/v[0-9]+/users(/\\d+)?$'", "users")
        + &route("path_regex = \"^/v1/\"", "old")
        + &route("path = \"/logo.png\"", "exact");
    let ringway = Configured::start(2, &text);
    let mut client = ringway.client();
    for (path, wanted) in [
        ("/a/b.png", "images"),
        ("/b.jpg?size=1", "images"),
        ("/b.png/c", "404"),
        ("/c?d=b.png", "404"),
        ("/logo.png", "exact"),
        ("/v2/users/17", "users"),
        ("/v1/orders", "old"),
        // Of two that fit, the first that was written.
        ("/v1/users", "users"),
        ("/v1/x.png", "images"),
        ("/x/v1/", "404"),
    ] {
        assert_eq!(outcome(&client.get(path)), wanted, "{path}");
    }
}

#[test]
fn hosts_are_exact_then_wildcard_then_any() {
    let ([exact, below, _any], clusters) = services(["exact", "below", "any"]);
    let text = clusters
        + &route("path_prefix = \"/\"", "any")
        + &route("host = \"*.shop.test\"", "below")
        + &route("host = [\"a.shop.test\", \"Other.Test\"]", "exact");
    let ringway = Configured::start(2, &text);
    let mut client = ringway.client();
    for (host, wanted) in [
        ("a.shop.test", "exact"),
        ("A.Shop.TEST:8080", "exact"),
        ("a.shop.test.", "exact"),
        ("other.test", "exact"),
        ("b.shop.test", "below"),
        ("x.a.shop.test:1", "below"),
        ("shop.test", "any"),
        ("xshop.test", "any"),
        ("a.shop.test.evil", "any"),
        ("127.0.0.1", "any"),
        ("[::1]:80", "any"),
        ("", "any"),
    ] {
        assert_eq!(outcome(&client.ask("GET /", &format!("Host: {host}\r\n"))), wanted, "{host}");
    }
    // The target's host counts, and is what the backend is told (RFC 9112 section 3.2.2).
    let absolute = client.ask("GET http://B.shop.test/x", "Host: b.shop.test\r\n");
    assert_eq!(outcome(&absolute), "below");
    let before = exact.heads();
    let mismatched = client.ask("GET http://b.shop.test/x", "Host: a.shop.test\r\n");
    assert!(matches!(outcome(&mismatched).as_str(), "below" | "400"), "{mismatched:?}");
    assert_eq!(exact.heads(), before, "the field has won over the target");
    if mismatched.status == 200 {
        assert_eq!(below.last().head.value("host").as_deref(), Some("b.shop.test"));
    }
}

#[test]
fn methods_and_headers_are_conditions() {
    let (_backends, clusters) = services(["any", "write", "canary", "both"]);
    let text = clusters
        + &route("path_prefix = \"/\"", "any")
        + &route("path_prefix = \"/\"\nmethod = [\"POST\", \"PUT\"]", "write")
        + &route("path_prefix = \"/\"\nheader = { x-canary = \"1\" }", "canary")
        + &route("path_prefix = \"/\"\nheader = { x-canary = \"1\", x-user = true }", "both");
    let ringway = Configured::start(1, &text);
    let mut client = ringway.client();
    for (method, fields, wanted) in [
        ("GET", "", "any"),
        ("POST", "", "write"),
        ("PUT", "X-Canary: 1\r\n", "write"),
        ("DELETE", "", "any"),
        ("GET", "X-CANARY: 1\r\n", "canary"),
        ("GET", "X-Canary: 0\r\nX-Canary: 1\r\n", "canary"),
        ("GET", "X-Canary: 10\r\n", "any"),
        ("GET", "X-Canary: 1\r\nX-User: me\r\n", "both"),
        ("GET", "X-User: me\r\n", "any"),
    ] {
        let fields = format!("Host: a\r\nContent-Length: 0\r\n{fields}");
        assert_eq!(outcome(&client.ask(&format!("{method} /"), &fields)), wanted, "{method} {fields}");
    }
}

#[test]
fn shares_are_met_exactly() {
    let ([_stable, _canary, none], clusters) = services(["stable", "canary", "none"]);
    let shares = |old: u16, new: u16| {
        let split = format!(
            "split = [{{ cluster = \"stable\", weight = {old} }}, {{ cluster = \"canary\", weight = {new} }}, {{ cluster = \"none\", weight = 0 }}]"
        );
        clusters.clone() + "[[route]]\npath_prefix = \"/\"\n" + &split
    };
    let ringway = Configured::start(1, &shares(90, 10));
    let mut client = ringway.client();
    let mut count = |wanted: &str| (0..100).filter(|_| client.get("/").text() == wanted).count();
    assert_eq!(count("canary"), 10);
    assert_eq!(count("stable"), 90);
    ringway.reload(&shares(0, 100));
    assert_eq!(count("canary"), 100);
    ringway.reload(&shares(1, 0));
    assert_eq!(count("stable"), 100);
    assert_eq!(none.heads(), 0);
}

#[test]
fn every_listener_has_its_own_routes() {
    let (_backends, clusters) = services(["a", "b", "both"]);
    let listener = |rest: &str| format!("[[listener]]\nbind = \"127.0.0.1:0\"\n{rest}\n");
    let text = listener("name = \"one\"")
        + &listener("name = \"two\"\ncluster = \"both\"")
        + clusters.strip_prefix(LISTENER).unwrap()
        + &route("path_prefix = \"/x\"\nlistener = \"one\"", "a")
        + &route("path_prefix = \"/x\"\nlistener = \"two\"", "b")
        + &route("path_prefix = \"/all\"", "both")
        + &route("path_prefix = \"/named\"\nlistener = [\"one\", \"two\"]", "both")
        + &route("path = \"/only\"\nlistener = \"one\"", "a");
    let ringway = Configured::start(2, &text);
    let (mut one, mut two) = (Client::connect(ringway.addresses[0]), Client::connect(ringway.addresses[1]));
    for (path, first, second) in [
        ("/x", "a", "b"),
        ("/all/1", "both", "both"),
        ("/named", "both", "both"),
        ("/only", "a", "both"),
        ("/", "404", "both"),
    ] {
        assert_eq!(outcome(&one.get(path)), first, "{path}");
        assert_eq!(outcome(&two.get(path)), second, "{path}");
    }
}

#[test]
fn without_a_route_it_is_404_and_the_connection_goes_on() {
    let backend = Backend::echoing();
    let text = clusters(&[("a", &backend)]) + &route("path_prefix = \"/a\"", "a");
    let ringway = Configured::start(1, &text);
    let mut client = ringway.client();
    for _ in 0..3 {
        let refused = client.get("/b");
        assert_eq!((refused.status, refused.says_close()), (404, false));
        assert_eq!(
            client.post("/b", b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").status,
            404,
            "a body is no request"
        );
        assert_eq!(client.ask("HEAD /b", "Host: a\r\n").status, 404);
        assert_eq!(client.post("/a", b"hello").text(), "hello");
    }
    assert_eq!(backend.heads(), 3);
    drop(client);
    ringway.wait_quiet();
}

#[test]
fn dot_segments_are_refused_where_there_are_routes() {
    let ([backend], clusters) = services(["a"]);
    let text = clusters + &route("path_prefix = \"/\"", "a");
    let ringway = Configured::start(1, &text);
    let disguises = [
        "/..",
        "/.",
        "/api/../admin",
        "/api/%2e%2E/admin",
        "/api/..%2fadmin",
        "/api/..\\admin",
        "/api/..;x/admin",
    ];
    for path in disguises {
        let mut client = ringway.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(client.last_response().unwrap().status, 400, "{path}");
    }
    assert_eq!(backend.heads(), 0);
    for path in ["/...", "/.well-known/x", "/a.b", "/a?x=/../b", "/%252e%252e/"] {
        assert_eq!(ringway.get(path).text(), "a", "{path}");
    }
    let ringway = Ringway::in_front_of(&[&backend]);
    assert_eq!(ringway.get("/api/../admin").text(), "a");
    assert_eq!(backend.last().target(), "/api/../admin");
}

#[test]
fn pipelined_requests_of_different_routes_are_answered_in_order() {
    let (a, b) = (Backend::well_behaved("a"), Backend::echoing());
    let text = clusters(&[("a", &a), ("b", &b)])
        + &route("path_prefix = \"/a\"", "a")
        + &route("path_prefix = \"/b\"", "b")
        + "[[route]]\npath = \"/ping\"\nrespond = { body = \"pong\" }\n"
        + "[[route]]\npath = \"/old\"\nredirect = { path = \"/new\" }\n";
    let ringway = Configured::start(2, &text);
    let round = concat!(
        "GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /ping HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
        "POST /old HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nGET ",
        "GET /none HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /b/chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    );
    let mut client = ringway.client();
    client.send(round.repeat(10).as_bytes()).unwrap();
    for _ in 0..10 {
        let answers = [(); 6].map(|()| outcome(&client.response()));
        assert_eq!(answers, ["a", "pong", "body", "302", "404", "hi"]);
    }
}

/// Promise 39. Hastened, the response timeout is 300 ms; what a route asks for itself is not.
#[test]
fn a_route_has_its_own_response_timeout() {
    if !cfg!(debug_assertions) {
        return;
    }
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let poll = Backend::scripted(move |connection| {
        while connection.request().is_some() {
            if released.lock().unwrap().recv().is_err() {
                return;
            }
            connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnews");
        }
    });
    let silent = Backend::scripted(|connection| {
        connection.request();
        connection.wait_closed();
    });
    let text = clusters(&[("poll", &poll), ("silent", &silent)])
        + &route("path_prefix = \"/poll\"\nresponse_timeout = \"0s\"", "poll")
        + &route("path_prefix = \"/short\"\nresponse_timeout = \"20ms\"", "silent")
        + &route("path_prefix = \"/usual\"", "silent");
    let ringway = Configured::start_hastened(1, &text, 100);
    let mut waiting = ringway.client();
    waiting.send(b"GET /poll HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    poll.wait_requests(1);
    let mut client = ringway.client();
    for _ in 0..3 {
        // Asked later, given up earlier; together longer than an idle client may be silent.
        assert_eq!(client.get("/usual").status, 504);
    }
    assert!(!waiting.has_input(), "a route that waits for ever has given up");
    release.send(()).unwrap();
    assert_eq!(waiting.response().text(), "news");

    // Without haste: the usual time is 30 s, longer than this test's patience.
    let ringway = Configured::start(1, &text);
    let mut client = ringway.client();
    for _ in 0..3 {
        assert_eq!(client.get("/short").status, 504);
    }
    assert_eq!(poll.heads(), 1);
}

#[test]
fn a_retry_stays_in_the_cluster() {
    let (_held, refusing) = refusing_address();
    let (a, b) = (Backend::well_behaved("a"), Backend::well_behaved("b"));
    let text = format!(
        "{LISTENER}cluster = \"b\"\n[[cluster]]\nname = \"a\"\nbackend = [\"{refusing}\", \"{}\"]\n[[cluster]]\nname = \"b\"\nbackend = \"{}\"\n[[cluster]]\nname = \"down\"\nbackend = \"{refusing}\"\n",
        a.place, b.place
    ) + &route("path_prefix = \"/a\"", "a")
        + &route("path_prefix = \"/down\"", "down");
    let ringway = Configured::start(2, &text);
    for _ in 0..10 {
        assert_eq!(ringway.get("/a").text(), "a");
        assert_eq!(ringway.client().post("/a", b"body").text(), "a");
        assert_eq!(ringway.get("/down").status, 503);
    }
    assert!(ringway.stats().counter("retries_connect") > 0);
    assert_eq!(b.heads(), 0);
    assert_eq!(ringway.get("/").text(), "b");
}

#[test]
fn ten_thousand_routes_work() {
    let (_backends, mut text) = services(["even", "odd"]);
    for number in 0..10_000 {
        let cluster = ["even", "odd"][number % 2];
        text += &route(&format!("host = \"h{}.test\"\npath_prefix = \"/p{number}\"", number / 100), cluster);
    }
    let ringway = Configured::start(2, &text);
    let mut client = ringway.client();
    for number in (0..10_000).step_by(97) {
        let host = |number: usize| format!("Host: h{}.test\r\n", number / 100);
        let wanted = ["even", "odd"][number % 2];
        let line = format!("GET /p{number}/x");
        assert_eq!(outcome(&client.ask(&line, &host(number))), wanted, "{number}");
        assert_eq!(outcome(&client.ask(&line, &host(number + 100))), "404", "{number}");
    }
}
