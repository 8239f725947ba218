//! Clients and backends that disappear in the middle: the other side learns it at once, and nothing is left behind.

use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::support::kernel::{reset_now, reset_on_close};
use crate::support::{Backend, Client, PATIENCE, Ringway, eventually};

/// What one client may do before it disappears.
const PHASES: &[(&str, &[u8])] = &[
    ("before the first byte", b""),
    ("in the request line", b"GET /so"),
    ("in the head", b"GET / HTTP/1.1\r\nHost: a\r\nX-Half"),
    ("in a body of known length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nhello"),
    ("in a chunk", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhello"),
    ("between chunks", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
    ("while it waits for the answer", b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("in the answer", b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("in a chunked answer", b"GET /chunks HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("after the answer", b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("after a refusal", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
];

/// Never answers `/never`, never ends `/endless` and `/chunks`; each connection ends only when the balancer ends it.
fn tireless() -> Backend {
    Backend::scripted(|connection| {
        while let Some(request) = connection.request() {
            let (head, piece) = match request.target() {
                "/never" => {
                    connection.wait_closed();
                    return;
                }
                "/endless" => ("Content-Length: 1000000000000", vec![b'x'; 100_000]),
                "/chunks" => (
                    "Transfer-Encoding: chunked",
                    [b"2710\r\n".as_slice(), &[b'x'; 10_000], b"\r\n"].concat(),
                ),
                _ => ("Content-Length: 2", b"ok".to_vec()),
            };
            connection.say(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n").as_bytes());
            if piece.len() == 2 {
                connection.say(&piece);
                continue;
            }
            while connection.send(&piece).is_ok() {}
            return;
        }
    })
}

/// Plays one phase and disappears, politely or with a reset.
fn disappear(ringway: &Ringway, bytes: &[u8], reset: bool) {
    let mut client = ringway.client();
    client.send(bytes).unwrap();
    let text = String::from_utf8_lossy(bytes);
    if ["/endless", "/chunks", "/plain", "a b"].iter().any(|word| text.contains(word)) {
        client.take_some().unwrap();
    }
    if reset {
        reset_on_close(&client.stream);
    }
}

#[test]
fn nothing_is_left_behind_by_clients_that_disappear() {
    let backend = tireless();
    let ringway = Ringway::counted_in_front_of(&[&backend]);
    let round = |count: usize| {
        for (_, bytes) in PHASES {
            for turn in 0..count {
                disappear(&ringway, bytes, turn % 2 == 1);
            }
        }
        ringway.wait_quiet()
    };
    // The first round fills pools that stay.
    let idle = round(4).backend_gauge("idle");
    let (descriptors, threads) = (ringway.descriptors(), ringway.threads());
    let resident = ringway.resident_bytes();
    let idle_then = round(10).backend_gauge("idle");
    assert_eq!(ringway.threads(), threads);
    let allowed = descriptors + usize::try_from(idle_then.saturating_sub(idle)).unwrap() + 8;
    eventually("descriptors are given back", || (ringway.descriptors() <= allowed).then_some(()));
    let growth = ringway.resident_bytes().saturating_sub(resident);
    assert!(growth < 4 << 20, "{growth} bytes more after {} aborts", PHASES.len() * 10);
    assert_eq!(ringway.get("/plain").text(), "ok");
}

#[test]
fn every_phase_by_itself_is_forgotten() {
    for reset in [false, true] {
        let backend = tireless();
        let ringway = Ringway::counted_in_front_of(&[&backend]);
        for (name, bytes) in PHASES {
            disappear(&ringway, bytes, reset);
            let stats = ringway.wait_quiet();
            assert_eq!(stats.counter("connection_panics"), 0, "{name}");
        }
        assert_eq!(ringway.get("/plain").text(), "ok");
    }
}

/// A request that was sent ahead must not hide that its sender is gone.
#[test]
fn a_client_that_disappears_with_requests_sent_ahead_is_forgotten() {
    let ahead = b"GET /never HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n";
    for reset in [true, false] {
        let backend = tireless();
        let ringway = Ringway::counted_in_front_of(&[&backend]);
        disappear(&ringway, ahead, reset);
        ringway.wait_quiet();
    }
}

/// Waits for `count` signals.
fn wait(signals: &Receiver<()>, count: usize) {
    for _ in 0..count {
        signals.recv_timeout(PATIENCE).unwrap();
    }
}

/// The abort of a client aborts the work at the backend, well before any time-out.
#[test]
fn the_backend_learns_that_the_client_is_gone() {
    let (asked, wait_asked) = channel();
    let (gone, wait_gone) = channel();
    let channels = Arc::new(Mutex::new((asked, gone)));
    let backend = Backend::scripted(move |connection| {
        let Some(head) = connection.request_head() else { return };
        let (asked, gone) = channels.lock().unwrap().clone();
        asked.send(()).unwrap();
        if !head.has("content-length") {
            connection.wait_closed();
        } else {
            let body = connection.request_body(&head);
            assert!(body.is_err(), "the body was completed");
        }
        gone.send(()).unwrap();
    });
    let ringway = Ringway::in_front_of(&[&backend]);
    let requests =
        ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhello"];
    for request in requests {
        for reset in [false, true] {
            let mut client = ringway.client();
            client.send(request.as_bytes()).unwrap();
            wait(&wait_asked, 1);
            if reset {
                reset_on_close(&client.stream);
            }
            drop(client);
            wait(&wait_gone, 1);
        }
    }
}

/// A client that only ended its own direction still reads: an answer that comes soon must reach it.
#[test]
fn a_client_that_ended_its_direction_gets_the_answer_that_comes_soon() {
    let backend = Backend::well_behaved("soon");
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    client.finish();
    assert_eq!(client.response().text(), "soon");
    client.closing();
}

#[test]
fn nothing_is_left_behind_by_backends_that_disappear() {
    let endings: &[&[u8]] = &[
        b"",
        b"HTT",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart",
        b"HTTP/1.1 200 OK\r\n\r\npart",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"garbage\r\n\r\n",
    ];
    for reset in [false, true] {
        for ending in endings {
            let backend = Backend::scripted(move |connection| {
                connection.request();
                connection.say(ending);
                if reset {
                    connection.reset();
                }
            });
            let ringway = Ringway::counted_in_front_of(&[&backend]);
            for _ in 0..5 {
                let mut client = ringway.client();
                client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
                let _cut_or_refused = client.response_to("GET");
            }
            let stats = ringway.wait_quiet();
            assert_eq!(stats.counter("connection_panics"), 0, "{}", ending.escape_ascii());
        }
    }
}

/// A response that ends with its connection has no end when that is reset, even if the upload is told first.
#[test]
fn a_reset_is_no_end_of_a_response_without_a_length() {
    let backend = Backend::scripted(|connection| {
        if connection.request_head().is_some() {
            connection.take_exactly(1 << 20).unwrap();
            connection.say(b"HTTP/1.1 200 OK\r\n\r\nhalf of it");
            reset_now(&connection.stream);
        }
    });
    let ringway = Ringway::counted_in_front_of(&[&backend]);
    for turn in 0..30 {
        let mut client = ringway.client();
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n").unwrap();
        let mut uploading = client.stream.try_clone().unwrap();
        let upload = thread::spawn(move || {
            let piece = vec![b'x'; 100_000];
            loop {
                if let Err(error) = uploading.write_all(&piece) {
                    return error.kind();
                }
            }
        });
        let response = client.response_to("GET");
        let whole = response.as_ref().is_ok_and(|response| response.status == 200);
        // Whoever asks first is told of the reset, the reader or the writer.
        let _unblocked = client.stream.shutdown(Shutdown::Both);
        let told = upload.join().unwrap() == ErrorKind::ConnectionReset;
        assert!(told || !whole, "turn {turn}: {response:?}");
    }
}

/// Many idle connections that end at once do not disturb a busy one.
#[test]
fn a_crowd_that_leaves_is_not_noticed_by_those_who_stay() {
    let backend = Backend::well_behaved("a");
    let ringway = Ringway::counted_in_front_of(&[&backend]);
    let mut staying = ringway.client();
    assert_eq!(staying.get("/").status, 200);
    for _ in 0..3 {
        let crowd: Vec<Client> = (0..200).map(|_| ringway.client()).collect();
        assert_eq!(staying.get("/").status, 200);
        drop(crowd);
        for _ in 0..20 {
            assert_eq!(staying.get("/").status, 200);
        }
    }
    drop(staying);
    ringway.wait_quiet();
}
