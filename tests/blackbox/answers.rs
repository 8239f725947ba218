//! Which answer each failure gets, and what must not be cut.

use std::io::Write;
use std::net::Shutdown;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::ringway::Options;
use crate::support::wire::Failure;
use crate::support::{Backend, Client, PATIENCE, Ringway, eventually, refusing_address};

/// Divides every deadline: response 300 ms and body 3 s at 100.
fn hastened(factor: u32) -> Options {
    Ringway::options().json().env("RINGWAY_TEST_HASTE", &factor.to_string())
}

/// Releases cannot be hastened, so there is nothing to see in them.
const ABLE: bool = cfg!(debug_assertions);

/// What keeps a script from going on until the test drops its end.
fn gate() -> (Sender<()>, Arc<Mutex<Receiver<()>>>) {
    let (open, gate) = channel();
    (open, Arc::new(Mutex::new(gate)))
}

fn wait(gate: &Mutex<Receiver<()>>) {
    let _opened = gate.lock().unwrap().recv();
}

/// The answer's status, after checking that nothing but a head came before the end.
fn bodiless(client: &mut Client, request: &str) -> u16 {
    client.send(request.as_bytes()).unwrap();
    let response = client.head();
    assert!(response.says_close(), "{:?}", response.head);
    assert_eq!(client.take_to_end().unwrap().escape_ascii().to_string(), "", "behind {request:?}");
    response.status
}

#[test]
fn a_refused_head_request_gets_no_content() {
    let backend = Backend::well_behaved("a");
    let ringway = Ringway::in_front_of(&[&backend]);
    let large = "x".repeat(70_000);
    let many = "X: y\r\n".repeat(200);
    let requests = [
        ("HEAD / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("HEAD / HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(), 400),
        ("HEAD / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(), 400),
        ("\r\nHEAD / HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(), 400),
        ("HEAD / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n".to_owned(), 400),
        ("HEAD / HTTP/1.1\nHost: a\r\n\r\n".to_owned(), 400),
        ("HEAD / HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(), 505),
        (format!("HEAD /{large} HTTP/1.1\r\nHost: a\r\n\r\n"), 414),
        (format!("HEAD / HTTP/1.1\r\nHost: a\r\nX: {large}\r\n\r\n"), 431),
        (format!("HEAD / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), 431),
    ];
    for (request, status) in requests {
        assert_eq!(bodiless(&mut ringway.client(), &request), status, "{request:.60?}");
    }
    assert_eq!(backend.heads(), 0);
    // A method that only begins alike is no HEAD.
    let mut client = ringway.client();
    client.send(b"HEADER / HTTP/1.1\r\nHost: a b\r\n\r\n").unwrap();
    let response = client.last_response().unwrap();
    assert_eq!(response.status, 400);
    assert!(!response.body.is_empty());
}

/// Whichever of the two comes first, the request may have been delivered, so "unavailable" would be wrong.
#[test]
fn a_get_that_died_at_one_backend_and_is_refused_by_the_other_is_a_502() {
    for dying_first in [true, false] {
        let dying = Backend::scripted(|connection| {
            connection.request();
        });
        let (_socket, refusing) = refusing_address();
        let options = Ringway::options();
        let ringway = if dying_first {
            options.backends(&[&dying]).backend(refusing).start()
        } else {
            options.backend(refusing).backends(&[&dying]).start()
        };
        assert_eq!(ringway.get("/").status, 502, "the dying one first: {dying_first}");
        assert_eq!(dying.requests().len(), 1);
    }
}

/// It was delivered on the kept connection; that the backend then refuses to be asked again does not undo that.
#[test]
fn a_get_that_died_on_a_kept_connection_and_is_then_refused_is_a_502() {
    let backend = Backend::scripted(|connection| {
        connection.request();
        connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na");
        connection.request();
    });
    let address = backend.address;
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    assert_eq!(client.get("/").text(), "a");
    // It stops listening; the connection it has stays.
    drop(backend);
    eventually("the backend to refuse", || Client::try_connect(address).err());
    assert_eq!(client.get("/").status, 502);
}

#[test]
fn interim_responses_without_end_are_a_502() {
    const INTERIM: &[u8] = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n";
    // In one segment as many as fit, and one by one; and to a client that must not see them.
    for (at_once, version) in [(200, "1.1"), (1, "1.1"), (200, "1.0")] {
        let backend = Backend::scripted(move |connection| {
            connection.request();
            let begun = Instant::now();
            while begun.elapsed() < PATIENCE && connection.send(&INTERIM.repeat(at_once)).is_ok() {}
        });
        let ringway = Ringway::in_front_of(&[&backend]);
        let mut client = ringway.client();
        let begun = Instant::now();
        client.send(format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
        let mut interim = 0;
        let last = loop {
            let response = client.response();
            if response.status >= 200 {
                break response;
            }
            interim += 1;
            assert!(interim <= 100, "{at_once} at once: it goes on for ever");
        };
        assert_eq!(last.status, 502, "{at_once} at once");
        assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
        assert!(version == "1.1" || interim == 0);
    }
}

#[test]
fn a_few_interim_responses_in_a_row_are_fine() {
    let interim = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(10);
    let backend = Backend::answering(&format!("{interim}HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"));
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    // The count begins anew with each exchange.
    for _ in 0..12 {
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        for _ in 0..10 {
            assert_eq!(client.response().status, 103);
        }
        assert_eq!(client.response().text(), "a");
    }
}

/// A head of exactly `size` bytes.
fn head_of(size: usize) -> Vec<u8> {
    let begin = b"GET /large HTTP/1.1\r\nHost: a\r\nX: ".to_vec();
    let padding = size - begin.len() - 4;
    [begin, vec![b'x'; padding], b"\r\n\r\n".to_vec()].concat()
}

#[test]
fn an_empty_line_counts_for_the_largest_head() {
    let backend = Backend::well_behaved("a");
    let ringway = Ringway::in_front_of(&[&backend]);
    let largest = head_of(64 * 1024);
    let with_line = [b"\r\n".to_vec(), largest.clone()].concat();
    for longest in [usize::MAX, 30_000, 64 * 1024] {
        let pieces: Vec<_> = with_line.chunks(longest.min(with_line.len())).collect();
        let mut client = ringway.client();
        client.send_pieces(&pieces);
        assert_eq!(client.last_response().unwrap().status, 431, "in pieces of {longest}");
    }
    assert_eq!(backend.heads(), 0);
    assert_eq!(ringway.get("/").text(), "a");
    // Neither end of a head may depend on how it was cut.
    for (head, status) in [(head_of(64 * 1024 + 1), 431), (head_of(60_000), 200)] {
        for longest in [usize::MAX, 10_000] {
            let pieces: Vec<_> = head.chunks(longest.min(head.len())).collect();
            let mut client = ringway.client();
            client.send_pieces(&pieces);
            assert_eq!(client.response().status, status, "{} bytes in pieces of {longest}", head.len());
        }
    }
}

#[test]
fn an_expectation_that_a_silent_backend_leaves_open_is_its_fault() {
    if !ABLE {
        return;
    }
    let backend = Backend::scripted(|connection| {
        if connection.request_head().is_some() {
            connection.wait_closed();
        }
    });
    let ringway = hastened(100).backends(&[&backend]).start();
    let mut client = ringway.client();
    let begun = Instant::now();
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n").unwrap();
    let response = client.last_response().unwrap();
    assert_eq!(response.status, 504);
    assert!(begun.elapsed() < Duration::from_millis(2900), "that was the time for a body");
    drop(client);
    let stats = ringway.wait_quiet();
    let faults = (stats.counter("fault_upstream_timeout"), stats.counter("fault_client_timeout"));
    assert_eq!(faults, (1, 0));
}

/// After its 100 it is the client's turn.
#[test]
fn a_client_that_was_told_to_continue_and_does_not_is_at_fault() {
    if !ABLE {
        return;
    }
    let backend = Backend::scripted(|connection| {
        if connection.request_head().is_some() {
            connection.say(b"HTTP/1.1 100 Continue\r\n\r\n");
            connection.wait_closed();
        }
    });
    let ringway = hastened(300).backends(&[&backend]).start();
    let mut client = ringway.client();
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n").unwrap();
    assert_eq!(client.response().status, 100);
    assert_eq!(client.last_response().unwrap().status, 408);
}

#[test]
fn an_upload_that_the_backend_stops_reading_is_its_fault() {
    if !ABLE {
        return;
    }
    for chunked in [false, true] {
        let (open, gate) = gate();
        let backend = Backend::scripted(move |connection| {
            connection.request_head();
            wait(&gate);
        });
        let ringway = hastened(300).backends(&[&backend]).start();
        let mut client = ringway.client();
        let framing = if chunked { "Transfer-Encoding: chunked" } else { "Content-Length: 50000000" };
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n");
        let mut writer = client.stream.try_clone().unwrap();
        let writing = thread::spawn(move || {
            let piece = [&b"10000\r\n"[..], &[b'x'; 0x10000], b"\r\n"].concat();
            let mut sent = writer.write_all(head.as_bytes());
            // Twelve megabytes, and the end does not come.
            for _ in 0..200 {
                sent = sent.and_then(|()| writer.write_all(if chunked { &piece } else { &piece[..0x10000] }));
            }
        });
        let response = client.response();
        assert_eq!(response.status, 504, "chunked: {chunked}");
        assert!(response.says_close());
        drop(client.stream.shutdown(Shutdown::Both));
        writing.join().unwrap();
        let stats = ringway.wait_quiet();
        let faults = (stats.counter("fault_upstream_timeout"), stats.counter("fault_client_timeout"));
        assert_eq!(faults, (1, 0), "chunked: {chunked}");
        drop(open);
    }
}

const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";

/// All that arrives until the end, however it ends.
fn everything(client: &mut Client) -> Vec<u8> {
    match client.take_to_end() {
        Ok(bytes) | Err(Failure::Short { part: bytes, .. }) => bytes,
        Err(failure) => panic!("the tunnel did not end: {failure:?}"),
    }
}

/// With bytes of the client unread, which makes the backend's close a reset.
#[test]
fn the_last_words_of_a_tunnel_arrive_though_the_backend_stops_listening() {
    // They fit into one window: what has not left the backend when it resets, the kernel throws away.
    let words: Vec<u8> = (0..30_000).map(|at| b'a' + u8::try_from(at % 23).unwrap()).collect();
    let said = words.clone();
    let backend = Backend::scripted(move |connection| {
        if connection.request().is_some() {
            connection.say(SWITCH);
            // The client is under way.
            connection.take_exactly(100_000).unwrap();
            connection.say(&said);
        }
    });
    let ringway = Ringway::in_front_of(&[&backend]);
    for round in 0..20 {
        let mut client = ringway.client();
        client.send(UPGRADE).unwrap();
        assert_eq!(client.response().status, 101);
        let mut writer = client.stream.try_clone().unwrap();
        let writing = thread::spawn(move || while writer.write_all(&[b'u'; 10_000]).is_ok() {});
        let heard = everything(&mut client);
        assert_eq!(heard.len(), words.len(), "round {round}");
        assert!(heard == words, "round {round}");
        drop(client.stream.shutdown(Shutdown::Both));
        writing.join().unwrap();
    }
}

/// The client is slow: the backend has left, and the tunnel is over, before it reads.
#[test]
fn the_last_words_of_a_tunnel_wait_for_a_slow_client() {
    let words: Vec<u8> = (0..600_000).map(|at| b'a' + u8::try_from(at % 23).unwrap()).collect();
    let said = words.clone();
    let (leave, gate) = gate();
    let backend = Backend::scripted(move |connection| {
        if connection.request().is_some() {
            connection.say(&[SWITCH, &said].concat());
            connection.finish();
            wait(&gate);
            connection.reset();
        }
    });
    let ringway = Ringway::counted_in_front_of(&[&backend]);
    let mut client = ringway.client();
    client.send(UPGRADE).unwrap();
    let all = (SWITCH.len() + words.len()) as u64;
    ringway.wait_stats("all of the words", |stats| stats.counter("upstream_received_bytes") == all);
    drop(leave);
    eventually("the backend's end", || (backend.closed() == 1).then_some(()));
    // Nobody takes this any more.
    client.send(b"still here").unwrap();
    ringway.wait_stats("the end of the tunnel", |stats| stats.gauge("tunnels_active") == 0);
    assert_eq!(client.response().status, 101);
    let heard = everything(&mut client);
    assert_eq!(heard.len(), words.len());
    assert!(heard == words);
}

/// Another exchange that runs into the response's deadline is the clock: no time is measured here.
#[test]
fn a_stream_that_pauses_after_its_late_upload_is_not_cut() {
    if !ABLE {
        return;
    }
    for chunked in [false, true] {
        let (open, gate) = gate();
        let (uploaded, wait_uploaded) = channel();
        let uploaded = Mutex::new(uploaded);
        let backend = Backend::scripted(move |connection| {
            let Some(head) = connection.request_head() else { return };
            if head.first_line.starts_with("GET /hang ") {
                connection.wait_closed();
                return;
            }
            // The response begins before the request has ended.
            let framing = if chunked { "Transfer-Encoding: chunked" } else { "Content-Length: 10" };
            let first = if chunked { "5\r\nfirst\r\n" } else { "first" };
            connection.say(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{first}").as_bytes());
            let body = connection.request_body(&head);
            connection.keep(head, body);
            uploaded.lock().unwrap().send(()).unwrap();
            wait(&gate);
            connection.say(if chunked { b"5\r\nlater\r\n0\r\n\r\n" } else { b"later" });
        });
        let ringway = hastened(100).backends(&[&backend]).start();
        let mut client = ringway.client();
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello").unwrap();
        let head = client.head().head;
        client.send(b"world").unwrap();
        wait_uploaded.recv_timeout(PATIENCE).unwrap();
        for _ in 0..2 {
            assert_eq!(ringway.get("/hang").status, 504);
        }
        drop(open);
        assert_eq!(client.body(&head).unwrap().bytes, b"firstlater", "chunked: {chunked}");
        assert_eq!(backend.last().whole().bytes, b"helloworld");
    }
}

/// What nobody reads any more makes the close a reset, and the answer has to have left before.
#[test]
fn a_last_answer_arrives_though_its_client_has_said_more_meanwhile() {
    let ((asked_here, asked), (said_here, said), (go_on, gate)) = (channel(), channel(), gate());
    let backend = Backend::scripted(move |connection| {
        if connection.request().is_some() {
            asked_here.send(()).unwrap();
            wait(&gate);
            connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole");
            said_here.send(()).unwrap();
        }
    });
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    asked.recv_timeout(PATIENCE).unwrap();
    // It finds both at once when it goes on.
    ringway.pause();
    client.send(b"\r\n").unwrap();
    go_on.send(()).unwrap();
    said.recv_timeout(PATIENCE).unwrap();
    ringway.resume();
    assert_eq!(client.response().text(), "whole");
}
