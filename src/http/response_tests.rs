//! Tests of the response head, beside the code they test.

use proptest::prelude::*;

use super::*;
use crate::{config::plan::route::FieldEdits, http::scan::Scan};

fn get() -> Request {
    Request {
        method: Method::Get,
        http10: false,
        keep_alive: true,
        body: Body::Done,
        upgrade: false,
        expects_continue: false,
        last_hop: false,
        has_idempotency_key: false,
        route: None,
    }
}

fn rewrite_for(request: &Request, head: &[u8]) -> Result<(Response, String), Malformed> {
    let found = Scan::default().advance(head).expect("scan").expect("complete");
    let date = DateCache::default();
    let reader =
        Reader { request, keep_alive: true, via: false, date: &date, edits: Edits::default(), added: b"" };
    let mut out = Vec::new();
    let response = rewrite(head, found, &reader, &mut out)?;
    Ok((response, String::from_utf8_lossy(&out).into_owned()))
}

fn rewritten(head: &str) -> Result<(Response, String), Malformed> {
    rewrite_for(&get(), head.as_bytes())
}

#[test]
fn end_to_end_fields_are_copied_and_those_of_the_hop_are_not() {
    let (response, out) = rewritten(
        "HTTP/1.1 200 Fine\r\nserver:  x \r\nDate: now\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\n\
         Trailer: T\r\nContent-Length: 3\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n",
    )
    .unwrap();
    assert_eq!(
        out,
        "HTTP/1.1 200 Fine\r\nserver:  x \r\nDate: now\r\nContent-Length: 3\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n"
    );
    assert_eq!(response, Response { status: 200, body: Body::Length(3), reusable: true, keep_alive: true });
}

#[test]
fn a_missing_date_is_added_and_our_own_version_is_written() {
    let (response, out) = rewritten("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    assert!(out.starts_with("HTTP/1.1 200 OK\r\n") && out.contains("\r\nDate: "));
    assert!(!response.reusable && response.keep_alive);
    assert!(
        rewritten("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n")
            .unwrap()
            .0
            .reusable
    );
}

#[test]
fn framing_follows_request_and_status() {
    let head_request = Request { method: Method::Head, ..get() };
    let (response, out) =
        rewrite_for(&head_request, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n").unwrap();
    assert!(response.body.is_done() && out.contains("Content-Length: 9"));
    let (response, out) = rewritten("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n").unwrap();
    assert!(response.body.is_done() && out.contains("Content-Length: 9"));
    let (response, out) = rewritten("HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n").unwrap();
    assert!(response.body.is_done() && !out.contains("Content-Length"));
    let (response, out) = rewritten("HTTP/1.1 200 OK\r\n\r\n").unwrap();
    assert!(response.body == Body::UntilEnd && !response.keep_alive && !response.reusable);
    assert!(out.contains("Connection: close\r\n"));
    let (response, out) = rewritten("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    assert_eq!(response.body, Body::chunked(Emit::Chunks));
    assert!(out.ends_with("Transfer-Encoding: chunked\r\n\r\n"));
}

#[test]
fn an_http10_client_never_sees_chunks_or_silent_keep_alive() {
    let old = Request { http10: true, ..get() };
    let (response, out) =
        rewrite_for(&old, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    assert_eq!(response.body, Body::chunked(Emit::Content));
    assert!(!response.keep_alive && response.reusable);
    assert!(out.contains("Connection: close\r\n") && !out.contains("Transfer-Encoding"));
    let (_, out) = rewrite_for(&old, b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n").unwrap();
    assert!(out.contains("Connection: keep-alive\r\n"));
}

#[test]
fn interim_and_switching_responses() {
    let (response, out) =
        rewritten("HTTP/1.1 103 Early Hints\r\nLink: a\r\nContent-Length: 5\r\n\r\n").unwrap();
    assert!(response.is_interim());
    assert_eq!(out, "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n");
    let offer = Request { upgrade: true, ..get() };
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let (response, out) = rewrite_for(&offer, switch).unwrap();
    assert!(response.status == 101 && !response.is_interim());
    assert!(out.contains("Upgrade: websocket\r\n") && out.contains("Connection: upgrade\r\n"));
    assert_eq!(rewrite_for(&get(), switch), Err(Malformed));
    assert_eq!(rewrite_for(&offer, b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), Err(Malformed));
}

#[test]
fn what_could_be_read_in_two_ways_is_malformed() {
    for head in [
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 099 X\r\n\r\n",
        "HTTP/1.1 600 X\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "http/1.1 200 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "HTTP/1.1 200 O\x01K\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        assert_eq!(rewritten(head), Err(Malformed), "{head:?}");
    }
    assert!(rewritten("HTTP/1.1 200\r\n\r\n").unwrap().1.starts_with("HTTP/1.1 200 \r\n"));
}

#[test]
fn final_responses_are_edited_and_interim_ones_are_not() {
    let edits = FieldEdits {
        remove: vec!["server".into(), "content-length".into(), "date".into()],
        write: vec![("Server".into(), "ringway".into()), ("Transfer-Encoding".into(), "gzip".into())],
    };
    let (request, date) = (get(), DateCache::default());
    let added = b"Set-Cookie: a=b\r\n";
    let reader = Reader {
        request: &request,
        keep_alive: true,
        via: false,
        date: &date,
        edits: Edits::new(&edits),
        added,
    };
    let written = |head: &str| {
        let found = Scan::default().advance(head.as_bytes()).expect("scan").expect("complete");
        let mut out = Vec::new();
        rewrite(head.as_bytes(), found, &reader, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    assert_eq!(
        written(
            "HTTP/1.1 200 OK\r\nServer: x\r\nDate: now\r\nX: 1\r\nContent-Length: 2\r\nserver: y\r\n\r\n"
        ),
        "HTTP/1.1 200 OK\r\nX: 1\r\nContent-Length: 2\r\nServer: ringway\r\nSet-Cookie: a=b\r\n\r\n"
    );
    let hints = "HTTP/1.1 103 Early Hints\r\nServer: x\r\n\r\n";
    assert_eq!(written(hints), hints);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(head in prop::collection::vec(any::<u8>(), 0..100)) {
        let mut bytes = b"HTTP/1.1 200 OK\r\n".to_vec();
        bytes.extend(head);
        bytes.extend_from_slice(b"\r\n\r\n");
        if let Ok(Some(found)) = Scan::default().advance(&bytes) {
            let date = DateCache::default();
            let request = get();
            let reader = Reader { request: &request, keep_alive: true, via: true, date: &date, edits: Edits::default(), added: b"" };
            let _ = rewrite(&bytes, found, &reader, &mut Vec::new());
        }
    }
}
