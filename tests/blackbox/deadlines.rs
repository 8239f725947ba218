//! Every deadline passes, for the right side, with the right answer. Debug builds can be hastened.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::support::kernel::{bound_without_listening, full_listener};
use crate::support::ringway::Options;
use crate::support::wire::Closing;
use crate::support::{Backend, Ringway};

/// Divides every deadline: head 100 ms, idle 600 ms, response 300 ms, connect 10 ms, body 3 s, shutdown 250 ms.
fn hastened(factor: u32) -> Options {
    Ringway::options().json().env("RINGWAY_TEST_HASTE", &factor.to_string())
}

/// Releases cannot be hastened, so there is nothing to see in them.
const ABLE: bool = cfg!(debug_assertions);

#[test]
fn a_head_that_stops_half_way_is_answered_408() {
    if !ABLE {
        return;
    }
    let backend = Backend::well_behaved("a");
    let ringway = hastened(100).backends(&[&backend]).start();
    for begun in ["G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\n"] {
        let mut client = ringway.client();
        client.send(begun.as_bytes()).unwrap();
        let response = client.last_response().unwrap();
        assert_eq!(response.status, 408, "{begun:?}");
    }
    // The second head of a connection, too, and from its own first byte on.
    let mut client = ringway.client();
    assert_eq!(client.get("/").text(), "a");
    client.send(b"GET ").unwrap();
    assert_eq!(client.last_response().unwrap().status, 408);
    assert_eq!(ringway.stats().refused("head_timeout"), 4);
    assert_eq!(backend.heads(), 1);
}

#[test]
fn a_head_that_drips_is_not_saved_by_its_drops() {
    if !ABLE {
        return;
    }
    let backend = Backend::well_behaved("a");
    let ringway = hastened(20).backends(&[&backend]).start();
    let mut client = ringway.client();
    client.send(b"GET / HTTP/1.1\r\nX: ").unwrap();
    client.set_patience(Duration::from_millis(20));
    let begun = Instant::now();
    let answer = loop {
        if client.send(b"x").is_err() {
            break Vec::new();
        }
        if let Ok(bytes) = client.take_some() {
            break bytes;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "the deadline moved on with every byte");
    };
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408"), "{}", answer.escape_ascii());
}

#[test]
fn a_silent_client_is_closed_without_a_word() {
    if !ABLE {
        return;
    }
    let backend = Backend::well_behaved("a");
    let ringway = hastened(100).backends(&[&backend]).start();
    let mut never = ringway.client();
    assert_eq!(never.closing(), Closing::Fin);
    let mut once = ringway.client();
    assert_eq!(once.get("/").text(), "a");
    assert_eq!(once.closing(), Closing::Fin);
    assert_eq!(ringway.wait_quiet().counter("idle_timeouts"), 2);
}

#[test]
fn a_backend_that_never_answers_is_504_and_the_client_goes_on() {
    if !ABLE {
        return;
    }
    let (gone, wait_gone) = channel();
    let gone = Mutex::new(gone);
    let backend = Backend::scripted(move |connection| {
        while let Some(request) = connection.request() {
            if request.target() == "/hang" {
                connection.wait_closed();
                gone.lock().unwrap().send(()).unwrap();
                return;
            }
            connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let ringway = hastened(100).backends(&[&backend]).start();
    let mut client = ringway.client();
    assert_eq!(client.get("/hang").status, 504);
    wait_gone.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(client.get("/").text(), "ok");
    assert_eq!(client.post("/hang", b"body").status, 504);
    let stats = ringway.stats();
    assert_eq!(stats.counter("fault_upstream_timeout"), 2);
    assert_eq!(stats.counter("retries_replay"), 0, "a slow backend is not asked again");
}

#[test]
fn an_upload_that_stops_is_the_clients_fault() {
    if !ABLE {
        return;
    }
    let backend = Backend::scripted(|connection| {
        let Some(head) = connection.request_head() else { return };
        assert!(connection.request_body(&head).is_err(), "the body was completed");
    });
    let ringway = hastened(300).backends(&[&backend]).start();
    let mut client = ringway.client();
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf").unwrap();
    assert_eq!(client.last_response().unwrap().status, 408);
    assert_eq!(ringway.wait_quiet().counter("fault_client_timeout"), 1);
}

#[test]
fn a_response_body_that_stops_is_cut() {
    if !ABLE {
        return;
    }
    let backend = Backend::scripted(|connection| {
        connection.request();
        connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        connection.wait_closed();
    });
    let ringway = hastened(300).backends(&[&backend]).start();
    let mut client = ringway.client();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(client.response_to("GET").is_err());
    assert_eq!(ringway.wait_quiet().counter("fault_upstream_timeout"), 1);
}

/// A listener that is bound and not listening refuses; one whose queue is full lets the handshake hang.
#[test]
fn a_handshake_that_hangs_moves_on_to_the_next_backend() {
    if !ABLE {
        return;
    }
    let (_socket, refused) = bound_without_listening();
    let hanging = full_listener();
    let backend = Backend::well_behaved("alive");
    let ringway = hastened(10).backend(refused).backend(hanging.address).backends(&[&backend]).start();
    for _ in 0..6 {
        assert_eq!(ringway.client().post("/", b"x").text(), "alive");
    }
    let stats = ringway.stats();
    assert!(stats.counter("fault_upstream_connect_timeout") >= 1);
    assert!(stats.counter("fault_upstream_connect") >= 1);
}

#[test]
fn an_idle_upstream_connection_is_closed_in_its_time() {
    if !ABLE {
        return;
    }
    let backend = Backend::well_behaved("a");
    let ringway = hastened(100).backends(&[&backend]).start();
    assert_eq!(ringway.get("/").text(), "a");
    let stats = ringway.wait_stats("an expired connection", |stats| stats.counter("upstream_expired") == 1);
    assert_eq!(stats.backend_gauge("idle"), 0);
    assert_eq!(ringway.get("/").text(), "a");
    assert_eq!(backend.connections(), 2);
}

#[test]
fn what_does_not_end_in_time_is_cut_and_counted() {
    if !ABLE {
        return;
    }
    let (asked, wait_asked) = channel();
    let asked = Mutex::new(asked);
    let backend = Backend::scripted(move |connection| {
        connection.request();
        asked.lock().unwrap().send(()).unwrap();
        connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        connection.wait_closed();
    });
    let mut ringway = hastened(100).backends(&[&backend]).start();
    let mut client = ringway.client();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    wait_asked.recv_timeout(Duration::from_secs(10)).unwrap();
    ringway.signal(libc::SIGTERM);
    let line = ringway.wait_line("the farewell", |line| line.contains("\"stopped\""));
    assert!(line.contains("\"cut\":1") && line.contains("\"finished\":0"), "{line}");
    assert_eq!(ringway.wait_exit(Duration::from_secs(10)), Some(0));
    assert!(client.response_to("GET").is_err());
}
