//! Interim responses and answers that come early: 100, 103, and final ones while the upload still runs.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use crate::support::kernel::reset_on_close;
use crate::support::{Acceptor, Backend, PATIENCE, Ringway, Seed};

const EXPECTING: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";

#[test]
fn a_client_that_expects_100_gets_the_one_of_the_backend() {
    let backend = Backend::scripted(|connection| {
        while let Some(head) = connection.request_head() {
            assert!(head.lists("expect", "100-continue"), "{head:?}");
            assert!(!connection.has_input(), "the body came before it was asked for");
            connection.say(b"HTTP/1.1 100 Continue\r\nX-Interim: 1\r\n\r\n");
            let body = connection.request_body(&head);
            connection.keep(head, body);
            connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone");
        }
    });
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    for _ in 0..2 {
        client.send(EXPECTING).unwrap();
        assert_eq!(client.response().status, 100);
        client.send(b"hello").unwrap();
        assert_eq!(client.response().text(), "done");
        assert_eq!(backend.last().whole().bytes, b"hello");
    }
}

#[test]
fn an_expectation_refused_never_needs_the_body() {
    let backend = Backend::scripted(|connection| {
        if connection.request_head().is_some() {
            connection
                .say(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
            connection.wait_closed();
        }
    });
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    client.send(EXPECTING).unwrap();
    let response = client.response();
    assert_eq!((response.status, response.text().as_str()), (417, "no"));
    // The client never sends the body, so this connection can only be used again if it says so and means it.
    if response.says_close() {
        client.closing();
    }
    assert_eq!(ringway.get("/").status, 417);
}

#[test]
fn a_client_that_does_not_wait_for_its_100_is_served() {
    let backend = Backend::well_behaved("a");
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    for _ in 0..2 {
        client.send(&[EXPECTING, b"hello"].concat()).unwrap();
        let mut response = client.response();
        if response.status == 100 {
            response = client.response();
        }
        assert_eq!((response.status, response.text().as_str()), (200, "a"));
        assert_eq!(backend.last().whole().bytes, b"hello");
    }
}

#[test]
fn early_hints_are_forwarded_before_the_answer() {
    let backend = Backend::answering(concat!(
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </b.css>; rel=preload\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
    ));
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    for _ in 0..2 {
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        for link in ["</a.css>; rel=preload", "</b.css>; rel=preload"] {
            let hints = client.response();
            assert_eq!((hints.status, hints.head.value("link").as_deref()), (103, Some(link)));
            assert!(!hints.head.has("x-hop") && !hints.head.has("content-length"), "{:?}", hints.head);
        }
        assert_eq!(client.response().text(), "a");
    }
    assert_eq!(backend.connections(), 1, "interim responses do not spoil the connection");
}

#[test]
fn early_hints_arrive_while_the_answer_is_still_being_made() {
    let (release, released) = channel();
    let backend = Backend::scripted({
        let released = Mutex::new(released);
        move |connection| {
            connection.request();
            connection.say(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
            wait(&released);
            connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(client.response().status, 103);
    release.send(()).unwrap();
    assert_eq!(client.response().status, 200);
}

fn wait(signal: &Mutex<Receiver<()>>) {
    signal.lock().unwrap().recv_timeout(PATIENCE).unwrap();
}

#[test]
fn a_client_of_http_1_0_gets_no_interim_responses() {
    let backend = Backend::answering(concat!(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
    ));
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    client
        .send(b"POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nok")
        .unwrap();
    let response = client.response();
    assert_eq!((response.status, response.text().as_str()), (200, "a"));
}

#[test]
fn interim_responses_without_end_are_not_followed_for_ever() {
    let backend = Backend::scripted(|connection| {
        connection.request();
        for _ in 0..100_000 {
            if connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").is_err() {
                return;
            }
        }
        connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    let ringway = Ringway::in_front_of(&[&backend]);
    let before = ringway.resident_bytes();
    let mut client = ringway.client();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    // Forwarding them all is as good as giving up; growing or hanging is not.
    while let Ok(response) = client.response_to("GET") {
        if response.status != 103 {
            assert!([200, 502].contains(&response.status), "{response:?}");
            break;
        }
    }
    assert!(ringway.resident_bytes().saturating_sub(before) < 8 << 20);
    let mut other = ringway.client();
    other.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(other.response().status, 103);
}

/// The backend has its answer before the upload has ended, and reads no more: the client must get the answer now.
#[test]
fn an_early_answer_arrives_while_the_upload_runs() {
    let backend = Backend::scripted(|connection| {
        if connection.request_head().is_some() {
            connection.say(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
            connection.finish();
            // It stops reading; only the balancer's close ends this.
            connection.wait_closed();
        }
    });
    for framing in ["Content-Length: 50000000", "Transfer-Encoding: chunked"] {
        let ringway = Ringway::in_front_of(&[&backend]);
        let mut client = ringway.client();
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n4\r\nabcd\r\n");
        client.send(head.as_bytes()).unwrap();
        let response = client.response();
        assert_eq!((response.status, response.text().as_str()), (403, "no"), "{framing}");
        // The body will not be whole, so nothing else can come on this connection.
        client.finish();
        client.wait_closed();
    }
}

#[test]
fn an_early_answer_arrives_even_when_the_client_is_busy_writing() {
    let backend = Backend::scripted(|connection| {
        if connection.request_head().is_some() {
            connection
                .say(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
            connection.finish();
            connection.wait_closed();
        }
    });
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    let mut writer = client.stream.try_clone().unwrap();
    let writing = thread::spawn(move || {
        let body = Seed::new(61).bytes(64 * 1024);
        std::io::Write::write_all(
            &mut writer,
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500000000\r\n\r\n",
        )
        .unwrap();
        // Until the balancer wants no more of it.
        while std::io::Write::write_all(&mut writer, &body).is_ok() {}
    });
    let response = client.response();
    assert_eq!((response.status, response.text().as_str()), (413, "no"));
    client.wait_closed();
    writing.join().unwrap();
}

/// Answering early is no reason to cut an upload that the backend goes on reading.
#[test]
fn an_upload_goes_on_behind_an_early_answer() {
    let backend = Backend::scripted(|connection| {
        while let Some(head) = connection.request_head() {
            connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly");
            let body = connection.request_body(&head);
            connection.keep(head, body);
        }
    });
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello").unwrap();
    let response = client.response();
    assert_eq!(response.text(), "early");
    if !response.says_close() {
        client.send(b"world").unwrap();
        assert_eq!(backend.wait_requests(1)[0].whole().bytes, b"helloworld");
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(client.response().text(), "early");
    }
}

/// Who refuses an upload answers and does not read the rest, which makes the close a reset. What needs no end of the stream to
/// be whole is whole.
#[test]
fn an_answer_without_content_arrives_though_the_upload_is_reset() {
    const EMPTY: &str = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    const BARE: &str = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n";
    let part = Seed::new(62).bytes(10_000);
    for (version, answer, status, content) in [
        ("1.1", EMPTY, 413, ""),
        ("1.1", BARE, 204, ""),
        ("1.0", EMPTY, 413, ""),
        ("1.0", CHUNKED, 200, "no"),
    ] {
        let acceptor = Acceptor::new();
        let ringway = Ringway::options().cores(1).backend(&acceptor.place).json().start();
        let mut client = ringway.client();
        let head = format!("POST / HTTP/{version}\r\nHost: a\r\nContent-Length: 200000\r\n\r\n");
        client.send(head.as_bytes()).unwrap();
        client.send(&part).unwrap();
        let mut backend = acceptor.accept();
        backend.take_head().unwrap();
        ringway.pause();
        backend.send(answer.as_bytes()).unwrap();
        reset_on_close(&backend.stream);
        drop(backend);
        client.send(&part).unwrap();
        ringway.resume();
        let response = client.last_response().unwrap();
        assert_eq!((response.status, response.text().as_str()), (status, content), "{version} {answer}");
        assert_eq!(ringway.wait_quiet().counter("fault_upstream_reset"), 0, "{answer}");
    }
}
