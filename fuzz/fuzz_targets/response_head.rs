//! Response heads: `response::rewrite` checks one and writes it for the client.
//!
//! Whatever is accepted is accepted once more as it was forwarded, with the framing and the end of the connection
//! that were announced, and the second time nothing changes.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use ringway::{
    config::plan::HeaderPolicy,
    date::DateCache,
    http::{
        edit::Edits,
        request::{self, Method, Origin, Request},
        response::{self, Reader, Response},
        scan::Scan,
    },
    limits::{HEAD_BYTES_MAX, HEADERS_MAX},
    relay::body::Body,
};

/// Most lines that rewriting adds.
const ADDED_LINES_MAX: usize = 6;

/// The requests whose answer a head may be.
static REQUESTS: LazyLock<Vec<Request>> = LazyLock::new(|| {
    let heads = [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    ];
    heads.map(request).into()
});

fn request(head: &str) -> Request {
    let found = Scan::default().advance(head.as_bytes()).expect("no fault").expect("a whole head");
    let policy = HeaderPolicy::default();
    let origin =
        Origin { client: "192.0.2.7", local: "127.0.0.1:3030", policy, routes: None, body_max: None };
    request::rewrite(head.as_bytes(), found, origin, &mut Vec::new()).expect("a valid request")
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(Some(found)) = Scan::default().advance(bytes) else { return };
    let date = DateCache::default();
    for request in REQUESTS.iter() {
        for (keep_alive, via) in [(true, false), (false, true)] {
            let reader =
                Reader { request, keep_alive, via, date: &date, edits: Edits::default(), added: b"" };
            let mut out = Vec::new();
            if let Ok(response) = response::rewrite(bytes, found, &reader, &mut out) {
                check_forwarded(bytes.len(), &response, &reader, &out);
            }
        }
    }
});

fn check_forwarded(length: usize, response: &Response, reader: &Reader<'_>, out: &[u8]) {
    check_lines(response, reader.request, out);
    if length > HEAD_BYTES_MAX / 2 || out.split(|byte| *byte == b'\n').count() > HEADERS_MAX - ADDED_LINES_MAX
    {
        // It grows on its way: the next hop may find it too large.
        return;
    }
    let found = Scan::default().advance(out).expect("no fault in what was forwarded").expect("a whole head");
    assert_eq!((found.start, found.end), (0, out.len()), "exactly one head is forwarded");
    let mut again = Vec::new();
    let second = response::rewrite(out, found, reader, &mut again).expect("what was forwarded is accepted");
    assert_eq!((second.status, second.keep_alive), (response.status, response.keep_alive), "{}", text(out));
    if reader.request.http10 && matches!(response.body, Body::Chunked(_)) {
        assert_eq!(
            second.body,
            Body::UntilEnd,
            "without its chunks only the end of the connection delimits it"
        );
    } else {
        assert_eq!(second.body, response.body, "{}", text(out));
    }
    if response.status >= 200 && !reader.request.http10 {
        assert_eq!(second.reusable, response.keep_alive, "the client reads what we mean: {}", text(out));
    }
    if !reader.via {
        assert_eq!(text(&again), text(out), "rewriting twice changes nothing more");
    }
}

fn check_lines(response: &Response, request: &Request, out: &[u8]) {
    let head = out.strip_suffix(b"\r\n\r\n").expect("ends with an empty line");
    let names = String::from_utf8_lossy(head)
        .split("\r\n")
        .skip(1)
        .map(|line| line.split_once(':').expect("a colon in each field line").0.to_ascii_lowercase())
        .collect::<Vec<_>>();
    let count = |name: &str| names.iter().filter(|known| *known == name).count();
    let framing = (count("content-length"), count("transfer-encoding"));
    assert!(framing.0 + framing.1 <= 1, "{}", text(out));
    match response.body {
        Body::Chunked(_) => assert_eq!(framing, (0, usize::from(!request.http10)), "{}", text(out)),
        Body::Length(_) => assert_eq!(framing, (1, 0), "{}", text(out)),
        Body::UntilEnd => assert_eq!(framing, (0, 0), "{}", text(out)),
        Body::Done => {}
    }
    if response.status < 200 || response.status == 204 {
        assert_eq!(framing, (0, 0), "{}", text(out));
    }
    assert!(count("connection") <= 1, "{}", text(out));
    assert!(response.status < 200 || count("date") > 0, "{}", text(out));
    for name in ["te", "trailer", "keep-alive", "proxy-connection", "http2-settings"] {
        assert_eq!(count(name), 0, "{}", text(out));
    }
    let undelimited = matches!(response.body, Body::UntilEnd)
        || (request.http10 && !response.body.is_done() && framing.0 == 0);
    assert!(!(undelimited && response.keep_alive), "{}", text(out));
    assert!(request.method != Method::Head || response.body.is_done());
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
