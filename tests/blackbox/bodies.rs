//! Bodies of every size and framing arrive whole and unchanged, however the bytes are cut.

use std::thread;

use crate::support::{Backend, Client, Ringway, Seed, digest};

const SIZES: &[usize] = &[0, 1, 2, 1_000, 16_383, 16_384, 65_535, 65_536, 65_537, 300_000];
const LARGE: usize = 5 * 1024 * 1024 + 3;

/// A POST of `body`: with a length, or in chunks of random sizes.
fn post(seed: &mut Seed, target: &str, body: &[u8], chunked: bool) -> Vec<u8> {
    let head = format!("POST {target} HTTP/1.1\r\nHost: a\r\n");
    if chunked {
        let coded = seed.chunks(body, 30_000);
        [head.as_bytes(), b"Transfer-Encoding: chunked\r\n\r\n", &coded, b"\r\n"].concat()
    } else {
        [head.as_bytes(), format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
    }
}

/// Sends a body of `size` there and back on `client`, and compares.
fn there_and_back(client: &mut Client, seed: &mut Seed, size: usize, longest: usize, chunked: (bool, bool)) {
    let body = seed.bytes(size);
    let target = if chunked.1 { "/chunked" } else { "/plain" };
    let request = post(seed, target, &body, chunked.0);
    client.send_cut(seed, &request, longest.min(request.len()));
    let response = client.response();
    let case = format!("{size} bytes, chunked there and back {chunked:?}, writes up to {longest}");
    assert_eq!((response.status, response.body.len()), (200, size), "{case}");
    assert_eq!(digest(&response.body), digest(&body), "{case}");
    assert_eq!(response.head.has("transfer-encoding"), chunked.1, "{case}");
}

const FRAMINGS: [(bool, bool); 4] = [(false, false), (true, false), (false, true), (true, true)];

#[test]
fn bodies_of_many_sizes_pass_both_ways() {
    let backend = Backend::echoing();
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut seed = Seed::new(41);
    let mut client = ringway.client();
    for &size in SIZES {
        for framing in FRAMINGS {
            there_and_back(&mut client, &mut seed, size, usize::MAX, framing);
        }
    }
}

#[test]
fn bodies_pass_whatever_the_cuts() {
    let backend = Backend::echoing();
    let ringway = Ringway::in_front_of(&[&backend]);
    for round in 0..40 {
        let mut seed = Seed::new(4_200 + round);
        let mut client = ringway.client();
        let (size, longest) = (seed.between(0, 4_000), seed.between(1, 40));
        for framing in FRAMINGS {
            there_and_back(&mut client, &mut seed, size, longest, framing);
        }
    }
}

#[test]
fn large_bodies_pass_both_ways() {
    let backend = Backend::echoing();
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut seed = Seed::new(43);
    let mut client = ringway.client();
    for framing in FRAMINGS {
        there_and_back(&mut client, &mut seed, LARGE, 200_000, framing);
    }
}

#[test]
fn large_bodies_side_by_side_do_not_mix() {
    let backend = Backend::echoing();
    let ringway = Ringway::options().backends(&[&backend]).cores(2).start();
    thread::scope(|scope| {
        for number in 0..8 {
            let mut client = ringway.client();
            scope.spawn(move || {
                let mut seed = Seed::new(4_400 + number);
                for framing in FRAMINGS {
                    there_and_back(&mut client, &mut seed, 700_000, 100_000, framing);
                }
            });
        }
    });
}

/// A backend that sends while it reads: the relay must not wait for one direction to end before it moves the other.
#[test]
fn both_directions_flow_at_once() {
    let backend = Backend::scripted(|connection| {
        let head = connection.request_head().unwrap();
        let length = head.length().unwrap().unwrap();
        connection.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").as_bytes());
        let mut left = length;
        while left > 0 {
            let piece = connection.take_some().unwrap();
            connection.say(&piece);
            left -= piece.len();
        }
    });
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    let body = Seed::new(45).bytes(LARGE);
    let mut writer = client.stream.try_clone().unwrap();
    let request = post(&mut Seed::new(0), "/", &body, false);
    let writing = thread::spawn(move || std::io::Write::write_all(&mut writer, &request));
    let response = client.response();
    writing.join().unwrap().unwrap();
    assert_eq!(digest(&response.body), digest(&body));
}

#[test]
fn chunk_extensions_and_trailers() {
    let backend = Backend::echoing();
    let ringway = Ringway::in_front_of(&[&backend]);
    let coded = concat!(
        "POST /chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n",
        "5;name=value\r\nhello\r\n1 ; a = \"b;\\\"c\" ;d\r\n \r\n0005\r\nworld\r\n000;last\r\nX-Sum: 1234\r\nX-More: a b\r\n\r\n",
    );
    for longest in [coded.len(), 1, 9] {
        let mut client = ringway.client();
        client.send_cut(&mut Seed::new(46), coded.as_bytes(), longest);
        let response = client.response();
        let trailers = [("X-Sum".to_owned(), "1234".to_owned()), ("X-More".to_owned(), "a b".to_owned())];
        assert_eq!(response.text(), "hello world");
        assert_eq!(backend.last().whole().trailers, trailers, "towards the backend");
        assert_eq!(response.trailers, trailers, "towards the client");
        assert_eq!(client.get("/next").status, 200);
    }
}

/// Trailers that need more room than a small buffer has, behind a head that needed little.
#[test]
fn long_trailers_arrive_whole() {
    let backend = Backend::echoing();
    let ringway = Ringway::in_front_of(&[&backend]);
    let trailers = [("X-Short".to_owned(), "1".to_owned()), ("X-Long".to_owned(), "t".repeat(12_000))];
    let lines: String = trailers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = "POST /chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let request = format!("{head}2\r\nok\r\n0\r\n{lines}\r\n");
    for longest in [request.len(), 1_000, 40] {
        let mut client = ringway.client();
        client.send_cut(&mut Seed::new(48), request.as_bytes(), longest);
        let response = client.response();
        assert_eq!((response.status, response.text().as_str()), (200, "ok"));
        assert_eq!(backend.last().whole().trailers, trailers, "towards the backend");
        assert_eq!(response.trailers, trailers, "towards the client");
    }
}

/// Fields that frame or route have no business in a trailer section; whoever merges them would be misled.
#[test]
fn framing_fields_in_trailers_are_never_forwarded() {
    let forbidden =
        ["Content-Length: 5", "Transfer-Encoding: chunked", "Host: evil.test", "Connection: close"];
    for line in forbidden {
        let backend = Backend::echoing();
        let ringway = Ringway::in_front_of(&[&backend]);
        let mut client = ringway.client();
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n";
        client.send(format!("{head}X-Fine: 1\r\n{line}\r\n\r\n").as_bytes()).unwrap();
        let status = client.response().status;
        assert!([200, 400].contains(&status), "{line}: {status}");
        for request in backend.requests() {
            if let Ok(body) = request.body {
                assert_eq!(body.trailers, [("X-Fine".to_owned(), "1".to_owned())], "{line}");
            }
        }
        let answer = format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Fine: 1\r\n{line}\r\n\r\n"
        );
        let backend = Backend::answering_once(answer.as_bytes());
        let ringway = Ringway::in_front_of(&[&backend]);
        let mut client = ringway.client();
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        if let Ok(response) = client.response_to("GET") {
            assert!(
                response.status == 502 || response.trailers == [("X-Fine".to_owned(), "1".to_owned())],
                "{line}"
            );
        }
    }
}

#[test]
fn a_close_delimited_response_ends_with_its_connection() {
    for size in [0, 1, 70_000, LARGE] {
        let body = Seed::new(47).bytes(size);
        let backend = Backend::answering_once(&[b"HTTP/1.1 200 OK\r\n\r\n", body.as_slice()].concat());
        let ringway = Ringway::in_front_of(&[&backend]);
        let response = ringway.get("/");
        assert_eq!((response.body.len(), digest(&response.body)), (size, digest(&body)));
        let mut old = ringway.client();
        old.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n").unwrap();
        let response = old.response();
        assert!(!response.head.has("transfer-encoding"), "{:?}", response.head);
        assert_eq!((response.body.len(), digest(&response.body)), (size, digest(&body)));
    }
}

#[test]
fn a_client_of_http_1_0_never_gets_chunks() {
    let backend = Backend::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x\r\ndefg\r\n0\r\nX-T: y\r\n\r\n",
    );
    let ringway = Ringway::in_front_of(&[&backend]);
    for connection in ["close", "keep-alive"] {
        let mut client = ringway.client();
        client
            .send(format!("GET / HTTP/1.0\r\nHost: a\r\nConnection: {connection}\r\n\r\n").as_bytes())
            .unwrap();
        let response = client.response();
        assert!(!response.head.has("transfer-encoding"), "{:?}", response.head);
        assert_eq!(response.text(), "abcdefg");
        assert!(!response.head.lists("connection", "keep-alive") || response.head.has("content-length"));
    }
}

#[test]
fn responses_without_a_body_leave_the_connection_usable() {
    let cases = [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\nETag: \"x\"\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\n\r\n"),
        ("POST", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ];
    for (method, answer) in cases {
        let backend = Backend::scripted(move |connection| {
            while let Some(request) = connection.request() {
                let next = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext".as_slice();
                connection.say(if request.target() == "/next" { next } else { answer.as_bytes() });
            }
        });
        let ringway = Ringway::in_front_of(&[&backend]);
        let mut client = ringway.client();
        client
            .send(format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").as_bytes())
            .unwrap();
        let response = client.response_to(method).unwrap();
        assert!(answer.starts_with(&response.head.first_line), "{answer}");
        assert_eq!(response.body, b"");
        let announced = |name: &str| answer.to_lowercase().contains(name);
        assert_eq!(
            response.head.has("content-length"),
            announced("content-length"),
            "{answer}: {:?}",
            response.head
        );
        let next = client.get("/next");
        assert_eq!(next.text(), "next", "after {method} {answer:?}");
    }
}
