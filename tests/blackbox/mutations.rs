//! Random damage to good messages: whatever comes of it, no backend sees a malformed byte, and nothing is left behind.

use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::{Backend, Failure, Ringway, Seed};

const REQUESTS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n",
    b"POST /x?y HTTP/1.1\r\nHost: a:80\r\nContent-Length: 11\r\nX: y\r\n\r\nhello world",
    b"PUT / HTTP/1.1\r\nHost: [::1]:80\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
    b"GET http://a.test:80/p HTTP/1.1\r\nHost: b\r\nConnection: x, keep-alive\r\nX: y\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 3\r\n\r\n",
    b"POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
];

const RESPONSES: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.0 404 Not Found\r\nConnection: keep-alive\r\n\r\nuntil the end",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nbytes",
];

/// Bytes that mean something to a parser.
const SHARP: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"0",
    b"-",
    b"+",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"#",
    b"/",
    b"@",
    b"Content-Length: 0\r\n",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Host: c\r\n",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"ffffffffffffffff",
    b"Expect: 100-continue\r\n",
    b"HTTP/1.1 ",
];

/// One to four random changes.
fn damaged(seed: &mut Seed, good: &[u8]) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..seed.between(1, 4) {
        let at = seed.between(0, bytes.len().saturating_sub(1));
        match seed.between(0, 5) {
            0 if !bytes.is_empty() => bytes[at] = seed.next() as u8,
            1 if !bytes.is_empty() => drop(bytes.remove(at)),
            2 => bytes.truncate(at),
            3 => {
                let end = (at + seed.between(1, 20)).min(bytes.len());
                let copied = bytes[at.min(end)..end].to_vec();
                bytes.splice(at..at, copied);
            }
            _ => drop(bytes.splice(at..at, SHARP[seed.between(0, SHARP.len() - 1)].iter().copied())),
        }
    }
    bytes
}

#[test]
fn damaged_requests_never_reach_a_backend_as_damaged() {
    let backend = Backend::well_behaved("a");
    let mut ringway = Ringway::counted_in_front_of(&[&backend]);
    for number in 0..1_500 {
        let mut seed = Seed::new(9_000_000 + number);
        let good = REQUESTS[seed.between(0, REQUESTS.len() - 1)];
        let bytes = damaged(&mut seed, good);
        let mut client = ringway.client();
        let longest = if number.is_multiple_of(3) { 7 } else { usize::MAX };
        client.send_cut(&mut seed, &bytes, longest);
        // It may wait for more, and shall have no more.
        let _unwanted = client.stream.shutdown(Shutdown::Write);
        client.wait_closed();
        assert!(ringway.ended().is_none(), "seed {number} ended it: {}", bytes.escape_ascii());
    }
    // The backend parses by the strictest rules, and keeps what it could not.
    backend.check();
    let stats = ringway.wait_quiet();
    assert_eq!(stats.counter("connection_panics"), 0);
    assert_eq!(ringway.get("/").text(), "a");
}

#[test]
fn damaged_responses_never_reach_a_client_as_damaged() {
    let counter = AtomicU64::new(0);
    let backend = Backend::scripted(move |connection| {
        if connection.request().is_some() {
            let number = counter.fetch_add(1, Ordering::SeqCst);
            let mut seed = Seed::new(9_500_000 + number);
            let good = RESPONSES[seed.between(0, RESPONSES.len() - 1)];
            let bytes = damaged(&mut seed, good);
            for piece in seed.pieces(&bytes, if number.is_multiple_of(3) { 7 } else { bytes.len().max(1) }) {
                connection.say(piece);
            }
        }
    });
    let mut ringway = Ringway::counted_in_front_of(&[&backend]);
    for number in 0..1_500 {
        let mut client = ringway.client();
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").unwrap();
        // Whole or cut, but never malformed, and never left waiting.
        loop {
            match client.response_to("POST") {
                Ok(response) if response.status >= 200 => break,
                Ok(interim) => assert_ne!(interim.status, 101, "request {number}: nobody asked for a switch"),
                Err(Failure::Malformed(what)) => panic!("request {number}: {what}"),
                Err(Failure::TimedOut { .. }) => panic!("request {number} was left waiting"),
                Err(_cut) => break,
            }
        }
        assert!(ringway.ended().is_none(), "request {number} ended it");
    }
    assert_eq!(ringway.wait_quiet().counter("connection_panics"), 0);
}
