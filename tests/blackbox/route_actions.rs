//! What a route does besides choosing a cluster: redirects, answers of its own, and changes on the way.

use crate::support::{Backend, Client, Configured, Head, Response, mistakes};

const LISTENER: &str = "[[listener]]\nbind = \"127.0.0.1:0\"\n";

/// One worker with one backend and these routes; `cluster = "a"` is it.
fn start(backend: &Backend, routes: &str) -> Configured {
    Configured::start(1, &text(&backend.place, routes))
}

fn text(place: &str, routes: &str) -> String {
    format!("{LISTENER}[[cluster]]\nname = \"a\"\nbackend = \"{place}\"\n{routes}\n")
}

fn head_of(client: &mut Client, path: &str) -> Response {
    client.ask(&format!("HEAD {path}"), "Host: ringway.test\r\n")
}

fn location(response: &Response) -> (u16, String) {
    (response.status, response.head.value("location").unwrap_or_default())
}

#[test]
fn a_redirect_names_the_place_and_keeps_the_query() {
    let backend = Backend::well_behaved("a");
    let ringway = start(
        &backend,
        r#"
        [[route]]
        path_prefix = "/store"
        redirect = { status = 301, prefix = "/shop" }
        [[route]]
        path_prefix = "/old"
        redirect = { status = 308, path = "/new" }
        [[route]]
        path_prefix = "/tls"
        redirect = { scheme = "https" }
        [[route]]
        path_prefix = "/away"
        redirect = { status = 307, host = "other.test:81" }
        set_response_header = { cache-control = "no-store" }
        "#,
    );
    let mut client = ringway.client();
    for (path, status, place) in [
        ("/store", 301, "http://ringway.test/shop"),
        ("/store/a/b?x=1&y", 301, "http://ringway.test/shop/a/b?x=1&y"),
        ("/old/whatever?x=1", 308, "http://ringway.test/new?x=1"),
        ("/tls/x?y=z", 302, "https://ringway.test/tls/x?y=z"),
        ("/away//x?y", 307, "http://other.test:81/away//x?y"),
    ] {
        let response = client.get(path);
        assert_eq!(location(&response), (status, place.to_owned()), "{path}");
        assert!(!response.says_close());
        let without = head_of(&mut client, path);
        assert_eq!(location(&without), (status, place.to_owned()), "HEAD {path}");
        assert_eq!(location(&client.post(path, b"GET /store HTTP/1.1\r\n\r\n")).0, status, "POST {path}");
    }
    assert_eq!(client.get("/away").head.value("cache-control").as_deref(), Some("no-store"));
    let place = location(&client.ask("GET /tls", "Host: Ringway.test:8080\r\n")).1.to_lowercase();
    assert_eq!(place, "https://ringway.test/tls", "another scheme has another port");
    assert_eq!(backend.heads(), 0);
    drop(client);
    ringway.wait_quiet();
}

/// The answer does not wait for the body; who sends it nevertheless is heard to the end, and can read the answer.
#[test]
fn a_redirected_body_does_no_harm() {
    let backend = Backend::well_behaved("a");
    let ringway =
        start(&backend, "[[route]]\npath_prefix = \"/\"\nredirect = { status = 307, path = \"/x\" }");
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n";
    let mut client = ringway.client();
    client.send(format!("{head}\r\n").as_bytes()).unwrap();
    let response = client.response();
    assert_eq!(location(&response), (307, "http://a/x".to_owned()));
    assert!(response.says_close(), "what comes next cannot be told from a body that was not read");
    client.send_pieces(&[b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", &[b'x'; 150_000]]);
    assert_eq!(client.take_to_end().unwrap_or_default(), b"", "the body was answered");

    let mut client = ringway.client();
    client.send(format!("{head}Expect: 100-continue\r\n\r\n").as_bytes()).unwrap();
    let response = client.response();
    assert_eq!((response.status, response.says_close()), (307, true));
    ringway.wait_quiet();
}

#[test]
fn fixed_answers_are_as_written() {
    let backend = Backend::well_behaved("a");
    let ringway = start(
        &backend,
        r#"
        [[route]]
        path = "/ping"
        respond = { body = "pong\n" }
        [[route]]
        path_prefix = "/admin"
        respond = { status = 403, body = "<p>no</p>", content_type = "text/html" }
        set_response_header = { x-why = "closed" }
        remove_response_header = "date"
        [[route]]
        path = "/nothing"
        respond = { status = 204 }
        [[route]]
        path = "/odd"
        respond = { status = 599, body = "odd" }
        "#,
    );
    let mut client = ringway.client();
    for _ in 0..3 {
        let pong = client.get("/ping");
        assert_eq!((pong.status, pong.text().as_str()), (200, "pong\n"));
        assert_eq!(pong.head.value("content-type").as_deref(), Some("text/plain; charset=utf-8"));
        assert!(pong.head.has("date"));
        let without = head_of(&mut client, "/ping");
        assert_eq!((without.status, without.head.length().unwrap()), (200, Some(5)));
        let closed = client.get("/admin/x?y");
        assert_eq!((closed.status, closed.text().as_str()), (403, "<p>no</p>"));
        assert_eq!(closed.head.value("content-type").as_deref(), Some("text/html"));
        assert_eq!(closed.head.value("x-why").as_deref(), Some("closed"));
        assert!(!closed.head.has("date"));
        let nothing = client.get("/nothing");
        assert_eq!(nothing.status, 204);
        assert!(!nothing.head.has("content-length") && !nothing.head.has("transfer-encoding"));
        assert_eq!(client.post("/ping", b"body").text(), "pong\n");
        assert_eq!(client.get("/odd").status, 599);
    }
    assert_eq!(backend.heads(), 0);
}

#[test]
fn prefixes_are_stripped_and_replaced_for_the_backend() {
    let backend = Backend::well_behaved("a");
    let ringway = start(
        &backend,
        r#"
        [[route]]
        path_prefix = "/static"
        strip_prefix = true
        cluster = "a"
        [[route]]
        path_prefix = "/api/v1"
        replace_prefix = "/v2/x"
        cluster = "a"
        "#,
    );
    let mut client = ringway.client();
    for (path, wanted) in [
        ("/static", "/"),
        ("/static/", "/"),
        ("/static?x", "/?x"),
        ("/static/a/b.css?x=/static", "/a/b.css?x=/static"),
        ("/st%61tic/%61", "/%61"),
        ("/static//evil.test/x", "/evil.test/x"),
        ("/api/v1", "/v2/x"),
        ("/api/v1/users/7?y", "/v2/x/users/7?y"),
        ("/api/v1//z", "/v2/x//z"),
    ] {
        assert_eq!(client.get(path).text(), "a");
        assert_eq!(backend.last().target(), wanted, "{path}");
    }
    assert_eq!(client.get("/statics").status, 404);
    assert_eq!(client.ask("GET http://h.test/static/a", "Host: h.test\r\n").status, 200);
    let last = backend.last();
    assert_eq!((last.target(), last.head.value("host").as_deref()), ("/a", Some("h.test")));
}

#[test]
fn fields_are_set_added_and_removed_in_both_directions() {
    let backend = Backend::answering(
        "HTTP/1.1 200 OK\r\nServer: secret\r\nX-Set: theirs\r\nX-Set: again\r\nX-Add: theirs\r\nContent-Length: 1\r\n\r\na",
    );
    let ringway = start(
        &backend,
        r#"
        [[route]]
        path_prefix = "/edited"
        cluster = "a"
        set_request_header = { x-set = "ours", x-forwarded-proto = "https" }
        add_request_header = { x-add = "ours" }
        remove_request_header = ["x-gone", "X-Forwarded-For"]
        set_response_header = { x-set = "ours" }
        add_response_header = { x-add = "ours" }
        remove_response_header = "server"
        [[route]]
        path_prefix = "/"
        cluster = "a"
        "#,
    );
    let mut client = ringway.client();
    let fields =
        "Host: outer.test\r\nX-Set: mine\r\nx-set: twice\r\nX-ADD: mine\r\nX-Gone: 1\r\nX-Gone-Not: 1\r\n";
    let mut ask = |path: &str| client.ask(&format!("GET {path}"), fields);
    for _ in 0..2 {
        let answer = ask("/edited").head;
        assert_eq!(answer.values("x-set"), ["ours"]);
        assert_eq!(answer.values("x-add"), ["theirs", "ours"]);
        assert!(!answer.has("server"));
        let asked = backend.last().head;
        assert_eq!(asked.values("x-set"), ["ours"]);
        assert_eq!(asked.values("x-add"), ["mine", "ours"]);
        assert_eq!(asked.values("host"), ["outer.test"]);
        assert_eq!(asked.values("x-forwarded-proto"), ["https"]);
        assert_eq!(asked.values("x-forwarded-host"), ["outer.test"]);
        assert!(!asked.has("x-gone") && asked.has("x-gone-not") && !asked.has("x-forwarded-for"));
        // The other route of the same connection changes nothing.
        let answer = ask("/").head;
        assert_eq!((answer.values("x-set").len(), answer.has("server")), (2, true));
        let asked = backend.last().head;
        assert_eq!(asked.values("host"), ["outer.test"]);
        assert!(asked.has("x-gone") && asked.has("x-forwarded-for"));
    }
}

/// Exactly one goes out, whatever the request looked like; what was asked for can be read beside it.
#[test]
fn a_route_can_say_whom_a_request_is_for() {
    let backend = Backend::well_behaved("a");
    let ringway = start(
        &backend,
        r#"
        [[route]]
        path_prefix = "/inner"
        cluster = "a"
        set_request_header = { host = " inner.test:81 " }
        [[route]]
        path_prefix = "/"
        cluster = "a"
        "#,
    );
    for (line, fields, asked) in [
        ("GET /inner HTTP/1.1", "Host: outer.test\r\n", "outer.test"),
        ("GET /inner HTTP/1.1", "HOST:outer.test:8080\r\nX-A: 1\r\n", "outer.test:8080"),
        ("GET /inner HTTP/1.1", "X-Forwarded-Host: theirs\r\nhost: outer.test\r\n", "outer.test"),
        ("GET http://outer.test/inner HTTP/1.1", "Host: outer.test\r\n", "outer.test"),
        ("GET /inner HTTP/1.0", "", &ringway.address().to_string()),
        ("GET /inner HTTP/1.1", "Host: outer.test\r\nConnection: host\r\n", "outer.test"),
    ] {
        let mut client = ringway.client();
        client.send(format!("{line}\r\n{fields}\r\n").as_bytes()).unwrap();
        assert_eq!(client.response().status, 200, "{line} {fields}");
        let head = backend.last().head;
        assert_eq!(head.values("host"), ["inner.test:81"], "{line} {fields}");
        assert_eq!(head.values("x-forwarded-host"), [asked], "{line} {fields}");
    }
    let mut client = ringway.client();
    for (path, host) in [("/inner", "inner.test:81"), ("/", "ringway.test"), ("/inner", "inner.test:81")] {
        assert_eq!(client.get(path).status, 200);
        assert_eq!(backend.last().head.values("host"), [host]);
    }
    // Two are a mistake as ever.
    assert_eq!(client.ask("GET /inner", "Host: a\r\nHost: a\r\n").status, 400);
}

#[test]
fn what_frames_a_message_cannot_be_edited() {
    let names = [
        "Content-Length",
        "transfer-encoding",
        "Connection",
        "Keep-Alive",
        "TE",
        "Trailer",
        "Upgrade",
        "Proxy-Connection",
        "Expect",
        "Max-Forwards",
    ];
    for name in names {
        for edit in [
            format!("set_request_header = {{ {name} = \"1\" }}"),
            format!("add_response_header = {{ {name} = \"1\" }}"),
            format!("remove_request_header = \"{name}\""),
        ] {
            let said = mistakes(&text("10.0.0.1:1", &format!("[[route]]\ncluster = \"a\"\n{edit}")));
            let key = format!("route.{}", edit.split(' ').next().unwrap());
            assert!(said.contains(&key) && said.contains(&name.to_lowercase()), "{said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }
    for edit in [
        "set_response_header = { host = \"a\" }",
        "add_request_header = { host = \"a\" }",
        "remove_request_header = \"Host\"",
        "set_request_header = { x = \"a\\r\\nY: b\" }",
        "set_request_header = { \"x y\" = \"a\" }",
    ] {
        mistakes(&text("10.0.0.1:1", &format!("[[route]]\ncluster = \"a\"\n{edit}")));
    }
}

#[test]
fn an_upgrade_goes_through_a_route_that_edits() {
    let backend = Backend::scripted(|connection| {
        if connection.request().is_some() {
            connection.say(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\nServer: s\r\n\r\nhello");
            while let Ok(bytes) = connection.take_some() {
                connection.say(&bytes);
            }
        }
    });
    let ringway = start(
        &backend,
        "[[route]]\npath_prefix = \"/ws\"\nstrip_prefix = true\ncluster = \"a\"\nset_response_header = { x-ours = \"1\" }\nremove_response_header = \"server\"",
    );
    let mut client = ringway.client();
    let response = client.ask("GET /ws/chat", "Host: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n");
    let head: &Head = &response.head;
    assert_eq!(response.status, 101);
    assert!(head.lists("connection", "upgrade") && head.lists("upgrade", "echo"), "{head:?}");
    assert_eq!((head.value("x-ours").as_deref(), head.has("server")), (Some("1"), false));
    assert_eq!(client.take_exactly(5).unwrap(), b"hello");
    for word in [&b"one"[..], b"GET / HTTP/1.1\r\n\r\n", b"\0\xff"] {
        client.send(word).unwrap();
        assert_eq!(client.take_exactly(word.len()).unwrap(), word);
    }
    assert_eq!(backend.last().target(), "/chat");
    drop(client);
    ringway.wait_quiet();
}
