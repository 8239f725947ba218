//! Every refusal and every fault of the wire has a counter of its own, and it alone counts it.

use std::collections::BTreeSet;

use crate::support::stats::{Stats, entries};
use crate::support::{Backend, Configured, Ringway, eventually};

const CHUNKED: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
const BAD_CHUNK: &[u8] = b"xyz\r\n";

/// What is refused, with its counter and its status.
fn refusals() -> Vec<(&'static str, u16, Vec<u8>)> {
    let get = |lines: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n").into_bytes();
    let post = |lines: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n").into_bytes();
    let whole = |head: &str| format!("{head}\r\n\r\n").into_bytes();
    vec![
        ("bare_line_feed", 400, b"GET / HTTP/1.1\nHost: a\r\n\r\n".to_vec()),
        ("bare_line_feed", 400, b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n".to_vec()),
        ("invalid_request_line", 400, whole("nonsense\r\nHost: a")),
        ("invalid_method", 400, whole("G(T / HTTP/1.1\r\nHost: a")),
        ("invalid_target", 400, whole("GET a HTTP/1.1\r\nHost: a")),
        ("dot_segment", 400, whole("GET /a/../b HTTP/1.1\r\nHost: a")),
        ("userinfo", 400, whole("GET http://me@a/ HTTP/1.1\r\nHost: a")),
        ("invalid_version", 400, whole("GET / HTTP/1.x\r\nHost: a")),
        ("unsupported_version", 505, whole("GET / HTTP/2.0\r\nHost: a")),
        ("invalid_header", 400, get("X : y")),
        ("invalid_header", 400, get("X: y\r\n z")),
        ("invalid_header", 400, get("X: a\rb")),
        ("invalid_header", 400, get("X: a\0b")),
        ("missing_host", 400, whole("GET / HTTP/1.1")),
        ("repeated_host", 400, get("Host: a")),
        ("invalid_host", 400, whole("GET / HTTP/1.1\r\nHost: a/b")),
        ("invalid_content_length", 400, post("Content-Length: +1")),
        ("invalid_content_length", 400, post("Content-Length: 1\r\nContent-Length: 2")),
        ("length_with_transfer_encoding", 400, post("Content-Length: 1\r\nTransfer-Encoding: chunked")),
        ("unknown_transfer_coding", 400, post("Transfer-Encoding: gzip")),
        ("transfer_encoding_in_http10", 400, whole("POST / HTTP/1.0\r\nTransfer-Encoding: chunked")),
        ("connect_method", 405, whole("CONNECT a:80 HTTP/1.1\r\nHost: a:80")),
        ("trace_with_body", 400, whole("TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 1")),
        ("invalid_max_forwards", 400, whole("OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: x")),
        ("invalid_connection_field", 400, get("Connection: a b")),
        ("request_line_too_long", 414, whole(&format!("GET /{} HTTP/1.1\r\nHost: a", "x".repeat(20_000)))),
        ("head_too_large", 431, get(&format!("X: {}", "x".repeat(70_000)))),
        ("too_many_headers", 431, get(&["X: y"; 100].join("\r\n"))),
        ("invalid_body", 400, [CHUNKED, BAD_CHUNK].concat()),
        ("body_too_large", 413, post("Content-Length: 1001")),
        ("body_too_large", 413, [CHUNKED, b"3e9\r\n"].concat()),
    ]
}

fn refused(stats: &Stats) -> Vec<(String, u64)> {
    entries(stats.total(), "refusals")
}

#[test]
fn every_refusal_is_counted_under_its_own_name_and_no_other() {
    let backend = Backend::scripted(|connection| while connection.request().is_some() {});
    let text = format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\nrequest_body_max = \"1000B\"\n[[cluster]]\nname = \"a\"\nbackend = {:?}\n\
         [[route]]\npath_prefix = \"/\"\ncluster = \"a\"\n",
        backend.place
    );
    let ringway = Configured::start(1, &text);
    let mut expected = refused(&ringway.stats());
    assert!(expected.iter().all(|(_, count)| *count == 0), "{expected:?}");
    for (name, status, bytes) in refusals() {
        let mut client = ringway.client();
        client.send_pieces(&[&bytes]);
        let answer = client.last_response().unwrap_or_else(|failure| panic!("{name}: {failure:?}"));
        assert_eq!(answer.status, status, "{name}");
        expected.iter_mut().find(|entry| entry.0 == name).unwrap_or_else(|| panic!("no counter {name}")).1 +=
            1;
        assert_eq!(
            refused(&ringway.stats()),
            expected,
            "{name}: {}",
            bytes[..bytes.len().min(80)].escape_ascii()
        );
    }
    let never: BTreeSet<_> = expected.into_iter().filter(|entry| entry.1 == 0).map(|entry| entry.0).collect();
    assert_eq!(never, BTreeSet::from(["head_timeout".to_owned()]), "refusals without a case");
}

/// However it comes: with its head, behind it, or behind a good part.
#[test]
fn a_malformed_body_is_counted_once_as_a_refusal_and_once_as_a_fault() {
    let backend = Backend::scripted(|connection| while connection.request().is_some() {});
    let ringway = Ringway::counted_in_front_of(&[&backend]);
    let mut forwarded = 0;
    for (number, pieces) in [vec![[CHUNKED, BAD_CHUNK].concat()], vec![CHUNKED.to_vec(), BAD_CHUNK.to_vec()]]
        .into_iter()
        .chain([vec![[CHUNKED, b"5\r\nhello\r\n"].concat(), BAD_CHUNK.to_vec()]])
        .enumerate()
    {
        let mut client = ringway.client();
        client.send(&pieces[0]).unwrap();
        for later in &pieces[1..] {
            forwarded += 1;
            eventually("the head at the backend", || (backend.heads() == forwarded).then_some(()));
            client.send(later).unwrap();
        }
        assert_eq!(client.last_response().unwrap().status, 400);
        let stats = ringway.wait_quiet();
        let counts = (stats.refused("invalid_body"), stats.counter("fault_client_malformed"));
        assert_eq!(counts, (number as u64 + 1, number as u64 + 1));
        assert_eq!((stats.counter("fault_client_aborted"), stats.counter("fault_upstream_reset")), (0, 0));
    }
}

#[test]
fn a_head_that_does_not_come_in_time_is_counted_as_such() {
    if !cfg!(debug_assertions) {
        return;
    }
    let backend = Backend::well_behaved("a");
    let ringway = Ringway::options().backends(&[&backend]).json().hastened(100).start();
    let mut client = ringway.client();
    client.send(b"GET / HTTP/1.1\r\nHost").unwrap();
    assert_eq!(client.last_response().unwrap().status, 408);
    assert_eq!(ringway.stats().refused("head_timeout"), 1);
}

/// How a backend's misbehaviour is counted: in all, and at the backend.
fn misbehaved(answer: &[u8], ask: impl Fn(&Ringway)) -> Stats {
    let backend = Backend::answering_once(answer);
    let ringway = Ringway::counted_in_front_of(&[&backend]);
    ask(&ringway);
    eventually("the end of its connections", || (backend.closed() == backend.connections()).then_some(()));
    ringway.wait_quiet()
}

#[test]
fn a_malformed_answer_is_counted_in_all_and_at_its_backend() {
    let fail = |ringway: &Ringway| {
        let mut client = ringway.client();
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").unwrap();
        match client.response_to("POST") {
            Ok(response) => assert_eq!(response.status, 502),
            Err(failure) => assert!(crate::support::client::is_cut(&failure), "{failure:?}"),
        }
    };
    for answer in [
        &b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\nb\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n",
    ] {
        let stats = misbehaved(answer, fail);
        let counts = (stats.counter("fault_upstream_malformed"), stats.counter_per_backend("malformed"));
        assert_eq!(counts, (1, vec![1]), "{}", answer.escape_ascii());
        assert_eq!((stats.counter("fault_upstream_reset"), stats.counter("upstream_poisoned")), (0, 0));
    }
    let well = misbehaved(b"HTTP/1.1 204 No Content\r\n\r\n", succeed);
    assert_eq!((well.counter("fault_upstream_malformed"), well.counter("upstream_poisoned")), (0, 0));
}

fn succeed(ringway: &Ringway) {
    assert_eq!(ringway.client().post("/", b"").status / 100, 2);
}

#[test]
fn bytes_behind_a_response_are_counted_once_for_each_connection_they_spoil() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngoodx"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\nx",
    ] {
        let stats = misbehaved(answer, |ringway| (0..3).for_each(|_| succeed(ringway)));
        let counts = (stats.counter("upstream_poisoned"), stats.counter("fault_upstream_malformed"));
        assert_eq!(counts, (3, 0), "{}", answer.escape_ascii());
        assert_eq!((stats.backend_gauge("idle"), stats.counter_per_backend("reuses")), (0, vec![0]));
    }
}
