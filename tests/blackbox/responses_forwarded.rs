//! What a client receives of a response: every end-to-end byte, nothing hop-by-hop, and what a proxy owes to say.

use crate::support::{Backend, Response, Ringway};

/// What the client gets when the backend answers a GET with these bytes.
fn answer(bytes: &str) -> Response {
    let backend = Backend::answering_once(bytes.as_bytes());
    let ringway = Ringway::in_front_of(&[&backend]);
    ringway.get("/")
}

fn end_to_end_lines(response: &Response) -> Vec<String> {
    let set_by_proxy = |line: &String| {
        let line = line.to_lowercase();
        ["via:", "connection:", "date:"].iter().any(|name| line.starts_with(name))
    };
    let lines = response.head.lines().into_iter().map(|line| line.escape_ascii().to_string());
    lines.filter(|line| !set_by_proxy(line)).collect()
}

#[test]
fn end_to_end_fields_arrive_byte_for_byte_and_in_order() {
    let lines = [
        "SerVer: Some/1.0 (thing)",
        "Set-Cookie: a=1; Path=/",
        "X-Empty:",
        "Set-Cookie: b=2; Expires=Wed, 09 Jun 2027 10:18:14 GMT",
        "ETag: W/\"a, b\"",
        "Cache-Control: no-store",
        "Content-Type: text/plain; charset=\"utf-8\"",
        "X-Bytes: gr\u{fc}n",
        "Content-Length: 2",
        "Location: http://a/b#c",
        "WWW-Authenticate: Basic realm=\"x\"",
        "Proxy-Authenticate-Not: x",
    ];
    let response = answer(&format!("HTTP/1.1 200 Fine by me\r\n{}\r\n\r\nok", lines.join("\r\n")));
    assert_eq!(response.head.first_line, "HTTP/1.1 200 Fine by me");
    let expected: Vec<_> = lines.iter().map(|line| line.as_bytes().escape_ascii().to_string()).collect();
    assert_eq!(end_to_end_lines(&response), expected);
    assert_eq!(response.text(), "ok");
}

#[test]
fn hop_by_hop_fields_are_removed() {
    let response = answer(concat!(
        "HTTP/1.1 200 OK\r\nX-First: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\n",
        "Trailer: X-Sum\r\nUpgrade: something/1\r\nHTTP2-Settings: AAMAAABk\r\nContent-Length: 0\r\nX-Last: 2\r\n\r\n",
    ));
    assert_eq!(end_to_end_lines(&response), ["X-First: 1", "Content-Length: 0", "X-Last: 2"]);
}

#[test]
fn fields_nominated_by_connection_are_removed() {
    let response = answer(concat!(
        "HTTP/1.1 200 OK\r\nX-Hop: 1\r\nConnection: x-hop, keep-alive\r\nX-Kept: 2\r\nContent-Length: 2\r\n",
        "Connection: Content-Length ,X-OTHER\r\nx-other: 3\r\nX-Hop: 4\r\nX-Hopper: 5\r\n\r\nok",
    ));
    // Nominating the length must not leave a message without framing.
    assert_eq!(response.text(), "ok");
    let lines: Vec<_> =
        end_to_end_lines(&response).into_iter().filter(|line| !line.starts_with("Content-Length")).collect();
    assert_eq!(lines, ["X-Kept: 2", "X-Hopper: 5"]);
    assert!(!response.head.lists("connection", "x-hop"));
}

/// The backend's wish to close is its own; the client's connection goes on.
#[test]
fn connection_close_of_the_backend_is_not_passed_on() {
    let backend =
        Backend::answering_once(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na");
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    for turn in 0..3 {
        let response = client.get("/");
        assert_eq!((response.status, response.says_close()), (200, false), "turn {turn}: {response:?}");
    }
    assert_eq!(backend.connections(), 3);
}

#[test]
fn via_is_added_behind_the_ones_before() {
    assert_eq!(answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").head.list("via"), "1.1 ringway");
    let response = answer("HTTP/1.1 200 OK\r\nVia: 1.1 fred\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(response.head.list("via"), "1.1 fred, 1.1 ringway");
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn is_date(value: &str) -> bool {
    let shape: String = value
        .chars()
        .map(|c| {
            if c.is_ascii_digit() {
                '0'
            } else if c.is_alphabetic() {
                'a'
            } else {
                c
            }
        })
        .collect();
    shape == "aaa, 00 aaa 0000 00:00:00 aaa" && value.ends_with(" GMT")
}

#[test]
fn date_is_added_when_absent_and_kept_when_present() {
    let added = answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").head.value("date").expect("a Date");
    assert!(is_date(&added), "{added:?}");
    let old = "Sun, 06 Nov 1994 08:49:37 GMT";
    let kept = answer(&format!("HTTP/1.1 200 OK\r\nDate: {old}\r\nContent-Length: 0\r\n\r\n"));
    assert_eq!(kept.head.value("date").as_deref(), Some(old));
}

#[test]
fn answers_of_our_own_are_dated_and_framed() {
    let (_socket, dead) = crate::support::refusing_address();
    let ringway = Ringway::options().backend(dead).start();
    let response = ringway.get("/");
    assert_eq!(response.status, 503);
    assert!(is_date(&response.head.value("date").expect("a Date")), "{:?}", response.head);
    assert_eq!(response.head.length(), Ok(Some(response.body.len())));
}

#[test]
fn the_version_sent_is_our_own() {
    for version in ["1.0", "1.1", "1.2"] {
        let response = answer(&format!("HTTP/{version} 404 Not here\r\nContent-Length: 2\r\n\r\nno"));
        assert_eq!(response.head.first_line, "HTTP/1.1 404 Not here");
        assert_eq!(response.text(), "no");
    }
}

#[test]
fn statuses_and_reasons_pass_unchanged() {
    let lines = [
        "200 ",
        "201 Created",
        "299 Odd",
        "301 Moved",
        "401 \u{fc}",
        "418 I'm a teapot",
        "500 Oh",
        "503 Busy",
        "599 x",
    ];
    for line in lines {
        let response = answer(&format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n"));
        assert_eq!(response.head.first_line, format!("HTTP/1.1 {line}"));
    }
}
