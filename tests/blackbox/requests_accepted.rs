//! Requests that look odd but are right: refusing them would break clients.

use crate::support::{Backend, Ringway, Seed};

/// Sends `request` whole and cut, and checks that it is served and the connection goes on.
fn accept(cases: &[(&str, String)]) {
    let backend = Backend::well_behaved("a");
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut seed = Seed::new(11);
    for (name, request) in cases {
        for longest in [usize::MAX, 1, 7] {
            let mut client = ringway.client();
            let longest = longest.max(request.len() / 2_000);
            client.send_cut(&mut seed, request.as_bytes(), longest);
            let response = client.response();
            assert_eq!((response.status, response.text().as_str()), (200, "a"), "{name}: {response:?}");
            assert_eq!(client.get("/next").status, 200, "the connection did not go on after: {name}");
        }
    }
    let expected = cases.len() * 3 * 2;
    assert_eq!(backend.requests().len(), expected);
}

fn with_host(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

#[test]
fn an_empty_line_before_the_request_line() {
    accept(&[("one", format!("\r\n{}", with_host("a"))), ("two", format!("\r\n\r\n{}", with_host("a")))]);
}

#[test]
fn a_higher_minor_version() {
    let request = |version| format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n");
    accept(&[("1.2", request("1.2")), ("1.9", request("1.9"))]);
}

#[test]
fn hosts_of_every_kind() {
    let hosts = [
        "a",
        "a.example",
        "A.Example:8080",
        "a.example:",
        "127.0.0.1",
        "127.0.0.1:80",
        "[::1]",
        "[::1]:8080",
        "a-b.c_d~e",
    ];
    accept(&hosts.map(|host| (host, with_host(host))));
}

#[test]
fn targets_of_every_kind() {
    let targets = [
        "/",
        "//",
        "/a/../b",
        "/a;b=c",
        "/a?b=c&d",
        "/?",
        "/?/?",
        "/%20%2f",
        "/a:b@c",
        "/!$&'()*+,;=",
        "/~-._",
        "/a?http://b/",
        "http://a",
        "http://a/",
        "HTTP://A:80/b?c",
        "http://a?b",
        "http://[::1]:80/",
    ];
    accept(&targets.map(|target| (target, format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"))));
}

#[test]
fn methods_that_nobody_registered() {
    let request = |method| format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
    let methods = ["GET", "DELETE", "PATCH", "PROPFIND", "get", "M-SEARCH", "X!#$%&'*+-.^_`|~9"];
    accept(&methods.map(|method| (method, request(method))));
}

#[test]
fn fields_of_every_kind() {
    let lines = [
        "X:",
        "X:a",
        "X:  a  ",
        "X:\ta\t",
        "X: a\tb",
        "X: :",
        "X: \"a, b\"",
        "!#$%&'*+-.^_`|~9: a",
        "X: gr\u{fc}n",
        "Transfer-Encoding-X: gzip",
        "Content-Length: 0",
        "content-length:0",
        "Content-Length: 000",
    ];
    accept(&lines.map(|line| (line, format!("POST / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n"))));
}

#[test]
fn chunked_in_any_case() {
    let request = |coding: &str| {
        format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {coding}\r\n\r\n1\r\nx\r\n0\r\n\r\n")
    };
    accept(&[
        ("Chunked", request("Chunked")),
        ("CHUNKED", request("CHUNKED")),
        ("padded", request(" chunked  ")),
    ]);
}

#[test]
fn heads_just_below_the_limits() {
    let fields = (0..99).map(|number| format!("X-{number}: y\r\n")).collect::<String>();
    let wide = (0..14).map(|number| format!("X-{number}: {}\r\n", "a".repeat(4_000))).collect::<String>();
    let line = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(16_000));
    accept(&[
        ("100 fields", format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")),
        ("56 KiB", format!("GET / HTTP/1.1\r\nHost: a\r\n{wide}\r\n")),
        ("request line of 16 000 bytes", line),
    ]);
}

/// The same length twice is either refused or forwarded once; two readings are not possible.
#[test]
fn the_same_length_twice_is_not_ambiguous_for_the_backend() {
    let backend = Backend::well_behaved("a");
    let ringway = Ringway::in_front_of(&[&backend]);
    for lines in ["Content-Length: 2\r\nContent-Length: 2\r\n", "Content-Length: 2, 2\r\n"] {
        let mut client = ringway.client();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\nok").as_bytes()).unwrap();
        match client.response().status {
            400 => {}
            200 => {
                let request = backend.last();
                assert_eq!(request.head.value("content-length").as_deref(), Some("2"));
                assert_eq!(request.whole().bytes, b"ok");
            }
            other => panic!("{other}"),
        }
    }
}
