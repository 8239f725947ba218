//! Request heads: `Scan` finds the end of one, `request::rewrite` checks it and writes it for the backend.
//!
//! * Scanning byte by byte finds the same head as scanning at once.
//! * What is forwarded is accepted once more, with the same framing, and the second time nothing changes.
//! * A reader that knows nothing but lines and colons finds one Host, one framing and no field of the client's hop.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway::{
    config::plan::HeaderPolicy,
    http::{
        request::{self, Method, Origin, Request},
        scan::{Found, Scan, ScanError},
    },
    limits::{HEAD_BYTES_MAX, HEADERS_MAX, REQUEST_LINE_BYTES_MAX},
    relay::body::Body,
    stats::names::Refusal,
};

/// Most lines that rewriting adds.
const ADDED_LINES_MAX: usize = 8;

const POLICIES: [HeaderPolicy; 3] = [
    HeaderPolicy { via: false, trust_forwarded: false },
    HeaderPolicy { via: true, trust_forwarded: false },
    HeaderPolicy { via: true, trust_forwarded: true },
];

fuzz_target!(|bytes: &[u8]| {
    let whole = Scan::default().advance(bytes);
    check_split(bytes, whole);
    let Ok(Some(found)) = whole else { return };
    for policy in POLICIES {
        let mut out = Vec::new();
        match rewrite(bytes, found, policy, &mut out) {
            Ok(request) => check_forwarded(bytes.len(), &request, policy, &out),
            Err(why) => assert!((400..=599).contains(&why.status()), "{why:?} has no status"),
        }
    }
});

fn rewrite(bytes: &[u8], found: Found, policy: HeaderPolicy, out: &mut Vec<u8>) -> Result<Request, Refusal> {
    let origin =
        Origin { client: "192.0.2.7", local: "127.0.0.1:3030", policy, routes: None, body_max: None };
    request::rewrite(bytes, found, origin, out)
}

fn check_split(bytes: &[u8], whole: Result<Option<Found>, ScanError>) {
    let (mut scan, mut split) = (Scan::default(), Ok(None));
    for end in 1..=bytes.len() {
        split = scan.advance(&bytes[..end]);
        if split != Ok(None) {
            break;
        }
    }
    if bytes.len() <= REQUEST_LINE_BYTES_MAX {
        assert_eq!(split, whole);
    } else {
        // Of two faults in an oversized head the one noticed first depends on how it arrives.
        assert_eq!(split.map_err(drop), whole.map_err(drop));
    }
}

fn check_forwarded(length: usize, request: &Request, policy: HeaderPolicy, out: &[u8]) {
    check_lines(request, out);
    if length > HEAD_BYTES_MAX / 2 || out.split(|byte| *byte == b'\n').count() > HEADERS_MAX - ADDED_LINES_MAX
    {
        // It grows on its way: the next hop may find it too large.
        return;
    }
    let found = Scan::default().advance(out).expect("no fault in what was forwarded").expect("a whole head");
    assert_eq!((found.start, found.end), (0, out.len()), "exactly one head is forwarded");
    let mut again = Vec::new();
    let second = rewrite(out, found, policy, &mut again).expect("what was forwarded is accepted");
    assert_eq!(
        (second.method, &second.body, second.upgrade, second.http10, second.keep_alive),
        (request.method, &request.body, request.upgrade, false, true)
    );
    let counts_down = matches!(request.method, Method::Options | Method::Trace);
    if !policy.via && !policy.trust_forwarded && !counts_down {
        assert_eq!(text(&again), text(out), "rewriting twice changes nothing more");
    }
}

fn check_lines(request: &Request, out: &[u8]) {
    let head = out.strip_suffix(b"\r\n\r\n").expect("ends with an empty line");
    let names = String::from_utf8_lossy(head)
        .split("\r\n")
        .skip(1)
        .map(|line| line.split_once(':').expect("a colon in each field line").0.to_ascii_lowercase())
        .collect::<Vec<_>>();
    let count = |name: &str| names.iter().filter(|known| *known == name).count();
    assert_eq!(count("host"), 1, "{}", text(out));
    let framing = (count("content-length"), count("transfer-encoding"));
    match request.body {
        Body::Chunked(_) => assert_eq!(framing, (0, 1), "{}", text(out)),
        Body::Length(_) => assert_eq!(framing, (1, 0), "{}", text(out)),
        Body::Done => assert!(framing.0 <= 1 && framing.1 == 0, "{}", text(out)),
        Body::UntilEnd => panic!("a request never ends with its connection"),
    }
    for name in ["te", "trailer", "keep-alive", "proxy-connection", "http2-settings"] {
        assert_eq!(count(name), 0, "{}", text(out));
    }
    let switching = usize::from(request.upgrade);
    assert!(count("connection") == switching && count("upgrade") >= switching, "{}", text(out));
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
