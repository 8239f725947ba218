//! Bodies that break their framing: never passed on as if they were whole, in either direction.

use std::sync::{Mutex, mpsc};

use crate::support::client::is_cut;
use crate::support::{Backend, Client, Failure, PATIENCE, Ringway, Seed, eventually};

/// What may follow a first good chunk and is wrong.
fn malformed_chunks() -> Vec<(&'static str, Vec<u8>)> {
    let cases: &[(&str, &[u8])] = &[
        ("letters", b"xyz\r\n\r\n0\r\n\r\n"),
        ("negative size", b"-1\r\nhello\r\n0\r\n\r\n"),
        ("size with plus", b"+5\r\nhello\r\n0\r\n\r\n"),
        ("size with 0x", b"0x5\r\nhello\r\n0\r\n\r\n"),
        ("size behind a space", b" 5\r\nhello\r\n0\r\n\r\n"),
        ("size with an underscore", b"0_5\r\nhello\r\n0\r\n\r\n"),
        ("no size", b"\r\nhello\r\n0\r\n\r\n"),
        ("extension without a size", b";x=y\r\nhello\r\n0\r\n\r\n"),
        ("two sizes", b"5 5\r\nhello\r\n0\r\n\r\n"),
        ("size with LF only", b"5\nhello\r\n0\r\n\r\n"),
        ("size with CR only", b"5\rhello\r\n0\r\n\r\n"),
        ("size with CR CR LF", b"5\r\r\nhello\r\n0\r\n\r\n"),
        ("data without CRLF", b"5\r\nhello0\r\n\r\n"),
        ("data with LF only", b"5\r\nhello\n0\r\n\r\n"),
        ("data longer than its size", b"5\r\nhello world\r\n0\r\n\r\n"),
        ("data shorter than its size", b"5\r\nhell\r\n0\r\n\r\n"),
        ("size 2^64", b"10000000000000000\r\nhello\r\n0\r\n\r\n"),
        ("size 2^64 + 5", b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("size of 17 F", b"FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n"),
        ("NUL in an extension", b"5;x=\0\r\nhello\r\n0\r\n\r\n"),
        ("LF in an extension", b"5;x\ny\r\nhello\r\n0\r\n\r\n"),
        ("CR in an extension", b"5;x\ry\r\nhello\r\n0\r\n\r\n"),
        ("last chunk with LF only", b"0\n\r\n"),
        ("end with LF only", b"0\r\n\n"),
        ("trailer with LF only", b"0\r\nX: y\n\r\n"),
        ("trailer folded", b"0\r\nX: y\r\n z\r\n\r\n"),
        ("trailer folded at once", b"0\r\n x\r\n\r\n"),
        ("trailer with space before the colon", b"0\r\nX : y\r\n\r\n"),
        ("trailer without a colon", b"0\r\nnothing\r\n\r\n"),
        ("trailer with NUL", b"0\r\nX: \0\r\n\r\n"),
        ("a request as trailer", b"0\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ];
    let mut all: Vec<_> = cases.iter().map(|(name, bytes)| (*name, bytes.to_vec())).collect();
    let long = |count| vec![b'x'; count];
    all.push((
        "extension of 200 KiB",
        [b"5;".as_slice(), &long(200 * 1024), b"\r\nhello\r\n0\r\n\r\n"].concat(),
    ));
    all.push((
        "size of 200 KiB of zeroes",
        [vec![b'0'; 200 * 1024].as_slice(), b"5\r\nhello\r\n0\r\n\r\n"].concat(),
    ));
    all.push(("trailer of 200 KiB", [b"0\r\nX: ".as_slice(), &long(200 * 1024), b"\r\n\r\n"].concat()));
    all.push(("10 000 trailers", [b"0\r\n".as_slice(), &b"X: y\r\n".repeat(10_000), b"\r\n"].concat()));
    all
}

const CHUNKED_POST: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

/// The answer to a request that went wrong: a status, and the connection closed.
fn refusal(client: &mut Client) -> Result<u16, Failure> {
    client.last_response().map(|response| response.status)
}

#[test]
fn malformed_chunks_of_a_request_are_refused_and_never_completed() {
    let backend = Backend::scripted(|connection| {
        if connection.request().is_some() {
            connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole");
        }
    });
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut wrong = Vec::new();
    for (name, bytes) in malformed_chunks() {
        for (first, longest) in
            [("5\r\nhello\r\n", usize::MAX), ("", usize::MAX), ("5\r\nhello\r\n", 1), ("5\r\nhello\r\n", 5)]
        {
            let request = [CHUNKED_POST, first.as_bytes(), &bytes].concat();
            let mut client = ringway.client();
            client.send_cut(
                &mut Seed::new(51),
                &request,
                longest.clamp(1 + request.len() / 2_000, request.len()),
            );
            match refusal(&mut client) {
                Ok(400 | 413 | 431) => {}
                other => wrong.push(format!("{name} (after {first:?}, writes up to {longest}): {other:?}")),
            }
        }
    }
    eventually("the backend's connections end", || (backend.closed() == backend.connections()).then_some(()));
    let completed: Vec<_> = backend.requests().into_iter().filter(|request| request.body.is_ok()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(completed.is_empty(), "passed on as whole: {completed:?}");
}

#[test]
fn malformed_chunks_of_a_response_are_never_shown_as_complete() {
    let mut wrong = Vec::new();
    for (name, bytes) in malformed_chunks() {
        for first in ["5\r\nhello\r\n", ""] {
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            let backend = Backend::answering_once(&[head, first.as_bytes(), &bytes].concat());
            let ringway = Ringway::in_front_of(&[&backend]);
            let mut client = ringway.client();
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            match client.response_to("GET") {
                Ok(response) if response.status == 502 => {}
                Err(failure) if is_cut(&failure) => {}
                other => wrong.push(format!("{name} (after {first:?}): {other:?}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a backend may do in the middle of a body.
#[derive(Clone, Copy, Debug)]
enum End {
    Fin,
    Reset,
}

#[test]
fn a_response_body_that_ends_early_is_never_shown_as_complete() {
    let part = Seed::new(52).bytes(700_000);
    let heads = [
        ("length", "Content-Length: 4000000\r\n\r\n", ""),
        ("length, small", "Content-Length: 700001\r\n\r\n", ""),
        ("chunked, inside a chunk", "Transfer-Encoding: chunked\r\n\r\n", "f00000\r\n"),
        ("chunked, between chunks", "Transfer-Encoding: chunked\r\n\r\n", "0"),
    ];
    for (name, head, size) in heads {
        for end in [End::Fin, End::Reset] {
            for count in [0, 1, 10_000, part.len()] {
                let body = if size == "0" {
                    chunk(&part[..count])
                } else {
                    [size.as_bytes(), &part[..count]].concat()
                };
                let answer = [b"HTTP/1.1 200 OK\r\n", head.as_bytes(), &body].concat();
                let backend = Backend::scripted(move |connection| {
                    if connection.request().is_some() {
                        connection.say(&answer);
                        if matches!(end, End::Reset) {
                            connection.reset();
                        }
                    }
                });
                let ringway = Ringway::in_front_of(&[&backend]);
                let mut client = ringway.client();
                client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
                match client.response_to("GET") {
                    Err(Failure::Nothing(_)) => {}
                    Err(Failure::Short { part: got, .. }) => {
                        let whole_head = got.starts_with(b"HTTP/");
                        assert!(
                            whole_head || part.starts_with(&got),
                            "{name}, {end:?} after {count}: other bytes"
                        );
                    }
                    Ok(response) if response.status == 502 => {}
                    other => panic!("{name}, {end:?} after {count}: {other:?}"),
                }
            }
        }
    }
}

/// `bytes` as one chunk; nothing when there are none.
fn chunk(bytes: &[u8]) -> Vec<u8> {
    if bytes.is_empty() {
        return Vec::new();
    }
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// Without a length only a clean end means whole; after a reset nobody knows.
#[test]
fn a_close_delimited_response_that_is_reset_is_not_shown_as_complete() {
    let (seen, wait_seen) = mpsc::channel();
    let wait_seen = Mutex::new(wait_seen);
    let backend = Backend::scripted(move |connection| {
        if connection.request().is_some() {
            connection.say(b"HTTP/1.1 200 OK\r\n\r\npart");
            // Not before the client has it: the reset must come in the middle of the body.
            wait_seen.lock().unwrap().recv_timeout(PATIENCE).unwrap();
            connection.reset();
        }
    });
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let head = client.head().head;
    if head.has("transfer-encoding") {
        assert_eq!(client.take_exactly(9).unwrap(), b"4\r\npart\r\n");
    } else {
        assert_eq!(client.take_exactly(4).unwrap(), b"part");
    }
    seen.send(()).unwrap();
    let end = client.body(&head);
    assert!(end.is_err(), "shown as complete: {end:?}");
}

#[test]
fn a_request_body_that_ends_early_is_never_completed() {
    let backend = Backend::echoing();
    let ringway = Ringway::in_front_of(&[&backend]);
    let requests: &[&[u8]] = &[
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5",
    ];
    for request in requests {
        let mut client = ringway.client();
        client.send(request).unwrap();
        client.finish();
        match client.response_to("GET") {
            Ok(response) => assert_eq!(response.status, 400, "{}", request.escape_ascii()),
            Err(failure) => assert!(is_cut(&failure), "{}: {failure:?}", request.escape_ascii()),
        }
    }
    eventually("the backend's connections end", || (backend.closed() == backend.connections()).then_some(()));
    for request in backend.requests() {
        assert!(request.body.is_err(), "passed on as whole: {request:?}");
    }
}
