//! Persistence: what keeps a client's connection, what ends it, and the order of answers on it.

use std::io::Write;
use std::thread;

use crate::support::wire::Closing;
use crate::support::{Backend, Ringway, Seed, digest};

/// Answers each request with its own request line and body.
fn telling() -> Backend {
    Backend::scripted(|connection| {
        while let Some(request) = connection.request() {
            let body = request.whole();
            let said = format!("{} {}", request.head.first_line, String::from_utf8_lossy(&body.bytes));
            connection
                .say(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{said}", said.len()).as_bytes());
        }
    })
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let backend = telling();
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut seed = Seed::new(31);
    for longest in [usize::MAX, 1, 60, 300] {
        let mut requests = Vec::new();
        let mut expected = Vec::new();
        for number in 0..12 {
            match number % 3 {
                0 => {
                    requests.extend(format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n").bytes());
                    expected.push(format!("GET /{number} HTTP/1.1 "));
                }
                1 => {
                    let body = "x".repeat(number * 7);
                    let head = format!(
                        "POST /{number} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
                        body.len()
                    );
                    requests.extend(format!("{head}{body}").bytes());
                    expected.push(format!("POST /{number} HTTP/1.1 {body}"));
                }
                _ => {
                    let head =
                        format!("PUT /{number} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
                    requests.extend(format!("{head}3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n").bytes());
                    expected.push(format!("PUT /{number} HTTP/1.1 abcde"));
                }
            }
        }
        let mut client = ringway.client();
        client.send_cut(&mut seed, &requests, longest.min(requests.len()));
        for expected in expected {
            assert_eq!(client.response().text(), expected);
        }
        assert!(!client.has_input(), "more than was asked for");
    }
}

#[test]
fn the_bytes_behind_a_body_are_the_next_request() {
    let backend = telling();
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    let first = "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbodyGET /2 HT";
    client.send(first.as_bytes()).unwrap();
    assert_eq!(client.response().text(), "POST /1 HTTP/1.1 body");
    client.send(b"TP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(client.response().text(), "GET /2 HTTP/1.1 ");
}

#[test]
fn a_client_that_ended_its_direction_still_gets_its_answers() {
    let backend = telling();
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    client.send(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    client.finish();
    assert_eq!(client.response().text(), "GET /1 HTTP/1.1 ");
    assert_eq!(client.response().text(), "GET /2 HTTP/1.1 ");
    assert_eq!(client.closing(), Closing::Fin);
}

/// A large body takes another way through the relay than a small one; what follows it must not get lost there.
#[test]
fn the_bytes_behind_a_large_body_are_the_next_request() {
    let backend = Backend::echoing();
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut seed = Seed::new(32);
    for chunked in [false, true] {
        let body = seed.bytes(1_000_000);
        let framing = if chunked { "Transfer-Encoding: chunked" } else { "Content-Length: 1000000" };
        let coded =
            if chunked { [seed.chunks(&body, 200_000), b"\r\n".to_vec()].concat() } else { body.clone() };
        let one = [format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n").as_bytes(), &coded].concat();
        let mut client = ringway.client();
        let mut writer = client.stream.try_clone().unwrap();
        let sending = thread::spawn(move || writer.write_all(&one.repeat(3)));
        for turn in 0..3 {
            assert_eq!(digest(&client.response().body), digest(&body), "turn {turn}, chunked: {chunked}");
        }
        sending.join().unwrap().unwrap();
        assert_eq!(client.get("/").status, 200);
    }
}

#[test]
fn connection_close_is_answered_and_done() {
    let backend = telling();
    let ringway = Ringway::in_front_of(&[&backend]);
    for value in ["close", "Close", "x, close", "close, keep-alive"] {
        let mut client = ringway.client();
        let request = format!(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: {value}\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n"
        );
        client.send(request.as_bytes()).unwrap();
        assert_eq!(client.last_response().unwrap().status, 200, "{value}");
    }
    assert!(
        backend.requests().iter().all(|request| request.target() == "/"),
        "a request behind the last was served"
    );
}

#[test]
fn http_1_0_closes_unless_it_asked_to_go_on() {
    let backend = telling();
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    client.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(client.response().status, 200);
    assert_eq!(client.closing(), Closing::Fin);

    let mut client = ringway.client();
    for turn in 0..3 {
        client.send(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").unwrap();
        let response = client.response();
        assert_eq!(response.status, 200, "turn {turn}");
        assert!(response.head.lists("connection", "keep-alive"), "turn {turn}: {:?}", response.head);
    }
}

#[test]
fn a_connection_of_http_1_1_goes_on_by_default() {
    let backend = telling();
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    for turn in 0..50 {
        let response = client.get(&format!("/{turn}"));
        assert!(!response.says_close(), "{:?}", response.head);
        assert_eq!(response.text(), format!("GET /{turn} HTTP/1.1 "));
    }
}
