//! What a backend receives of a request: every end-to-end byte, nothing hop-by-hop, and what a proxy owes to say.

use crate::support::backend::Request;
use crate::support::{Backend, Configured, Ringway, Seed};

/// Sends a request head (and body) and returns what the backend was sent.
fn forward(request: &str) -> Request {
    let backend = Backend::well_behaved("a");
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    client.send(request.as_bytes()).unwrap();
    let response = client.response();
    assert_eq!(response.status, 200, "{response:?}");
    let mut requests = backend.requests();
    assert_eq!(requests.len(), 1);
    requests.remove(0)
}

/// The field lines without those that a proxy sets.
fn end_to_end_lines(request: &Request) -> Vec<String> {
    let set_by_proxy = |line: &String| {
        let line = line.to_lowercase();
        ["x-forwarded-for:", "x-forwarded-proto:", "x-forwarded-host:", "via:", "connection:"]
            .iter()
            .any(|name| line.starts_with(name))
    };
    let lines = request.head.lines().into_iter().map(|line| line.escape_ascii().to_string());
    lines.filter(|line| !set_by_proxy(line)).collect()
}

#[test]
fn end_to_end_fields_arrive_byte_for_byte_and_in_order() {
    let lines = [
        "Host: Ringway.Test:8080",
        "accept: */*",
        "X-CaSe-Of-NaMeS: KePt",
        "Cookie: a=1; b=\"two\"",
        "X-Repeated: 1",
        "Cookie: c=3",
        "X-Spaces: a   b\tc",
        "X-Empty:",
        "X-Repeated: 2, 3",
        "X-Bytes: gr\u{fc}n \u{20ac}",
        "User-Agent: \"(a; b) \\ c",
        "Authorization: Basic YTpi",
        "Cache-Control: no-cache",
        "If-None-Match: W/\"x\"",
        "Range: bytes=0-",
        "Content-Type: text/plain",
        "Content-Length: 2",
        "X-Last: !#$%&'*+-.^_`|~",
    ];
    let request =
        forward(&format!("POST /Path/%2e%2E/x?q=%20&r=a+b HTTP/1.1\r\n{}\r\n\r\nok", lines.join("\r\n")));
    assert_eq!(request.head.first_line, "POST /Path/%2e%2E/x?q=%20&r=a+b HTTP/1.1");
    let expected: Vec<_> = lines.iter().map(|line| line.as_bytes().escape_ascii().to_string()).collect();
    assert_eq!(end_to_end_lines(&request), expected);
    assert_eq!(request.whole().bytes, b"ok");
}

#[test]
fn random_fields_arrive_byte_for_byte_and_in_order() {
    let mut seed = Seed::new(21);
    let backend = Backend::well_behaved("a");
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    for _ in 0..30 {
        let mut lines = vec!["Host: a".to_owned()];
        for number in 0..seed.between(0, 90) {
            let length = seed.between(1, 200);
            // Visible bytes only at the ends, so that no trimming rule comes into it.
            let value: String = seed.bytes(length).iter().map(|byte| char::from(b'!' + byte % 94)).collect();
            lines.push(format!("X-{:x}-{number}: {value}", seed.next() % 4096));
        }
        let request = format!("GET / HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n"));
        client.send_cut(&mut seed, request.as_bytes(), 900);
        assert_eq!(client.response().status, 200);
        let expected: Vec<_> = lines.iter().map(|line| line.as_bytes().escape_ascii().to_string()).collect();
        assert_eq!(end_to_end_lines(&backend.last()), expected);
    }
}

#[test]
fn hop_by_hop_fields_are_removed() {
    let request = forward(concat!(
        "GET / HTTP/1.1\r\nHost: a\r\nX-First: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n",
        "TE: trailers\r\nTrailer: X-Sum\r\nUpgrade: something/1\r\nHTTP2-Settings: AAMAAABk\r\nX-Last: 2\r\n\r\n",
    ));
    for name in ["keep-alive", "proxy-connection", "te", "trailer", "upgrade", "http2-settings"] {
        assert!(!request.head.has(name), "{name} was forwarded: {:?}", request.head);
    }
    assert_eq!(end_to_end_lines(&request), ["Host: a", "X-First: 1", "X-Last: 2"]);
}

#[test]
fn fields_nominated_by_connection_are_removed() {
    let request = forward(concat!(
        "GET / HTTP/1.1\r\nHost: a\r\nX-One: 1\r\nConnection: x-one, keep-alive ,X-TWO\r\nX-Two: 2\r\nX-Kept: 3\r\n",
        "X-Three: 3\r\nConnection: X-Three\r\nx-one: again\r\nX-One-More: 4\r\n\r\n",
    ));
    assert_eq!(end_to_end_lines(&request), ["Host: a", "X-Kept: 3", "X-One-More: 4"]);
    for name in ["x-one", "x-two", "x-three"] {
        assert!(!request.head.lists("connection", name), "{:?}", request.head);
    }
}

/// Nominating a field that carries the framing, the target or our own words must not take it away from the backend.
#[test]
fn connection_cannot_nominate_what_the_message_depends_on() {
    let backend = Backend::well_behaved("a");
    let ringway = Ringway::in_front_of(&[&backend]);
    let nominations =
        ["Host", "Content-Length", "X-Forwarded-For", "Via", "X-Forwarded-Proto", "X-Forwarded-Host"];
    for name in nominations {
        let mut client = ringway.client();
        let head =
            format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: {name}\r\n\r\nhello");
        client.send(head.as_bytes()).unwrap();
        let status = client.response().status;
        if status == 400 {
            continue;
        }
        assert_eq!(status, 200, "{name}");
        let request = backend.last();
        assert_eq!(request.whole().bytes, b"hello", "{name}");
        for field in ["host", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "via"] {
            assert!(request.head.has(field), "no {field} with Connection: {name}");
        }
    }
}

#[test]
fn the_client_is_named_and_cannot_name_itself() {
    let request = forward(concat!(
        "GET / HTTP/1.1\r\nHost: ringway.test:81\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n",
        "x-forwarded-for: 7.7.7.7\r\nX-Forwarded-Host: evil.test\r\nX-FORWARDED-HOST: worse.test\r\n\r\n",
    ));
    let value = |name| request.head.value(name);
    assert_eq!(value("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(value("x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(value("x-forwarded-host").as_deref(), Some("ringway.test:81"));
    assert_eq!(value("host").as_deref(), Some("ringway.test:81"));
}

#[test]
fn via_is_added_behind_the_ones_before() {
    assert_eq!(forward("GET / HTTP/1.1\r\nHost: a\r\n\r\n").head.list("via"), "1.1 ringway");
    let request =
        forward("GET / HTTP/1.1\r\nHost: a\r\nVia: 1.0 fred, 1.1 (a, b)\r\nX: y\r\nVia: 1.1 joe\r\n\r\n");
    assert_eq!(request.head.list("via"), "1.0 fred, 1.1 (a, b), 1.1 joe, 1.1 ringway");
}

#[test]
fn an_absolute_target_becomes_a_path_and_its_authority_the_host() {
    let cases = [
        ("GET http://b.test:81/p?q=1", "GET /p?q=1", "b.test:81"),
        ("GET http://b.test/", "GET /", "b.test"),
        ("GET http://b.test", "GET /", "b.test"),
        ("GET http://b.test?q=1", "GET /?q=1", "b.test"),
        ("GET HTTP://B.test/", "GET /", "B.test"),
        ("GET http://[::1]:80/x", "GET /x", "[::1]:80"),
        ("OPTIONS http://b.test", "OPTIONS *", "b.test"),
        ("OPTIONS http://b.test/", "OPTIONS /", "b.test"),
    ];
    for (line, forwarded, host) in cases {
        let request = forward(&format!("{line} HTTP/1.1\r\nAccept: a\r\nHost: other.test\r\nX: y\r\n\r\n"));
        assert_eq!(request.head.first_line, format!("{forwarded} HTTP/1.1"), "{line}");
        assert_eq!(request.head.value("host").as_deref(), Some(host), "{line}");
        assert_eq!(request.head.value("x-forwarded-host").as_deref(), Some(host), "{line}");
    }
}

#[test]
fn options_for_the_server_as_a_whole_keeps_its_asterisk() {
    assert_eq!(forward("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").head.first_line, "OPTIONS * HTTP/1.1");
}

#[test]
fn max_forwards_0_ends_here() {
    let backend = Backend::well_behaved("a");
    let ringway = Ringway::in_front_of(&[&backend]);
    for (method, statuses) in [("OPTIONS", &[200, 204][..]), ("TRACE", &[200, 405, 501][..])] {
        for target in ["/", "*"].iter().take(if method == "OPTIONS" { 2 } else { 1 }) {
            let fields = "Host: a\r\nCookie: secret\r\nMax-Forwards: 0\r\n";
            let response = ringway.client().ask(&format!("{method} {target}"), fields);
            assert!(statuses.contains(&response.status), "{method} {target}: {response:?}");
            assert!(!response.text().contains("secret"), "TRACE must not show credentials");
        }
    }
    assert_eq!(backend.heads(), 0);
}

#[test]
fn max_forwards_is_counted_down_for_options_and_trace_only() {
    let with = |method: &str, count: &str| {
        let request = forward(&format!("{method} / HTTP/1.1\r\nHost: a\r\nMax-Forwards: {count}\r\n\r\n"));
        request.head.value("max-forwards").unwrap()
    };
    assert_eq!(with("OPTIONS", "5"), "4");
    assert_eq!(with("OPTIONS", "10"), "9");
    assert_eq!(with("TRACE", "1"), "0");
    assert_eq!(with("GET", "5"), "5");
    assert_eq!(with("GET", "0"), "0");
}

#[test]
fn the_version_sent_is_our_own() {
    for version in ["1.0", "1.1", "1.2"] {
        let request = forward(&format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n"));
        assert_eq!(request.head.first_line, "GET / HTTP/1.1");
        assert_eq!(request.head.value("host").as_deref(), Some("a"));
    }
}

/// HTTP/1.0 may leave Host out; what we send is HTTP/1.1, which may not.
#[test]
fn a_request_of_http_1_0_without_host_gets_one() {
    let request = forward("GET / HTTP/1.0\r\n\r\n");
    assert!(request.head.value("host").is_some(), "{:?}", request.head);
}

#[test]
fn odd_methods_keep_their_bytes() {
    for method in ["get", "PROPFIND", "M-SEARCH", "X!#$%&'*+-.^_`|~9"] {
        let request = forward(&format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(request.method(), method);
    }
}

#[test]
fn a_get_without_a_body_gets_no_framing_field() {
    let request = forward("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(
        !request.head.has("content-length") && !request.head.has("transfer-encoding"),
        "{:?}",
        request.head
    );
}

#[test]
fn a_post_of_nothing_keeps_its_length() {
    let request = forward("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(request.head.value("content-length").as_deref(), Some("0"));
}

/// What a backend is sent by an instance with these lines among its defaults.
fn forward_with(defaults: &str, request: &str) -> Request {
    let backend = Backend::well_behaved("a");
    let text = format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\n[defaults]\n{defaults}\n[[cluster]]\nbackend = {:?}\n",
        backend.place
    );
    let ringway = Configured::start(1, &text);
    let mut client = ringway.client();
    client.send(request.as_bytes()).unwrap();
    assert_eq!(client.response().status, 200);
    backend.last()
}

#[test]
fn what_a_trusted_client_says_of_others_is_kept_and_added_to() {
    let said = "GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 203.0.113.9, 198.51.100.2\r\n\
                X-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.test\r\n\r\n";
    let fields = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"];
    let told = |request: &Request| fields.map(|name| request.head.list(name));
    let trusted = forward_with("trust_forwarded = true", said);
    assert_eq!(told(&trusted), ["203.0.113.9, 198.51.100.2, 127.0.0.1", "https", "shop.test"]);
    for defaults in ["trust_forwarded = false", ""] {
        assert_eq!(told(&forward_with(defaults, said)), ["127.0.0.1", "http", "a.test"], "{defaults:?}");
    }
    // Who says nothing is named all the same.
    let silent = forward_with("trust_forwarded = true", "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(told(&silent), ["127.0.0.1", "http", "a.test"]);
}

#[test]
fn via_can_be_left_out() {
    let with = |defaults| forward_with(defaults, "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.0 first\r\n\r\n");
    assert_eq!(with("via = false").head.list("via"), "1.0 first");
    for defaults in ["via = true", ""] {
        assert_eq!(with(defaults).head.list("via"), "1.0 first, 1.1 ringway", "{defaults:?}");
    }
    let silent = forward_with("via = false", "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(!silent.head.has("via"));
}
