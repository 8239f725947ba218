//! Backends that answer badly: the client gets a 502 of our own, and nothing of what they sent.

use crate::support::{Backend, Ringway};

/// Response heads that must not be believed.
fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let cases: &[(&str, &[u8])] = &[
        ("nothing at all", b""),
        ("an empty line", b"\r\n"),
        ("garbage", b"garbage\r\n\r\n"),
        ("another protocol", b"SSH-2.0-OpenSSH_9.2\r\n"),
        ("binary", b"\x16\x03\x01\x00\x05\x00\xff\x00\xff\r\n\r\n"),
        ("half a status line", b"HTTP/1."),
        ("half a head", b"HTTP/1.1 200 OK\r\nContent-Le"),
        ("a head without its end", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"),
        ("body at once", b"<html>hello</html>"),
        ("status of 2 digits", b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"),
        ("status of 4 digits", b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n"),
        ("status in letters", b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n"),
        ("status with sign", b"HTTP/1.1 +20 OK\r\nContent-Length: 0\r\n\r\n"),
        ("status below 100", b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n"),
        ("no status", b"HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
        ("two spaces before the status", b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("HTTP/2.0", b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("HTTP/0.9", b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("HTTP/1.10", b"HTTP/1.10 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("lower case", b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("ICY", b"ICY 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("NUL in the reason", b"HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n"),
        ("CR in the reason", b"HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n"),
        ("LF only", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
        ("LF in a value", b"HTTP/1.1 200 OK\r\nX: a\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n"),
        ("CR in a value", b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 0\r\n\r\n"),
        ("NUL in a value", b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n"),
        ("control byte in a value", b"HTTP/1.1 200 OK\r\nX: a\x01b\r\nContent-Length: 0\r\n\r\n"),
        ("DEL in a value", b"HTTP/1.1 200 OK\r\nX: a\x7fb\r\nContent-Length: 0\r\n\r\n"),
        ("no field name", b"HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 0\r\n\r\n"),
        ("no colon", b"HTTP/1.1 200 OK\r\nnothing\r\nContent-Length: 0\r\n\r\n"),
        ("space in a name", b"HTTP/1.1 200 OK\r\nX Y: a\r\nContent-Length: 0\r\n\r\n"),
        (
            "length and coding",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("two lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
        ("two lengths in a list", b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello!"),
        ("negative length", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"),
        ("length with plus", b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello"),
        ("length in letters", b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello"),
        ("empty length", b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nhello"),
        ("length 2^64", b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\nhello"),
        ("unknown coding", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello"),
        ("chunked not last", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
        ("chunked twice", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
        ("chunked in HTTP/1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        (
            "a switch that nobody asked for",
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        ),
    ];
    let mut all: Vec<_> = cases.iter().map(|(name, bytes)| (*name, bytes.to_vec())).collect();
    let large = format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "a".repeat(100 * 1024));
    all.push(("a value of 100 KiB", large.into_bytes()));
    let endless = [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &vec![b'a'; 1 << 20]].concat();
    all.push(("a head that does not end", endless));
    let many = (0..300).map(|number| format!("X-{number}: y\r\n")).collect::<String>();
    all.push(("300 fields", format!("HTTP/1.1 200 OK\r\n{many}Content-Length: 0\r\n\r\n").into_bytes()));
    all
}

#[test]
fn malformed_heads_become_502() {
    let mut wrong = Vec::new();
    for (name, bytes) in malformed() {
        let backend = Backend::answering_once(&bytes);
        let ringway = Ringway::in_front_of(&[&backend]);
        for method in ["GET", "POST"] {
            let mut client = ringway.client();
            client
                .send(format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").as_bytes())
                .unwrap();
            match client.response_to(method) {
                Ok(response) if response.status == 502 => {}
                other => wrong.push(format!("{method}, {name}: {other:?}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A proxy may mend these two, or refuse them; it may not pass them on.
#[test]
fn folded_fields_and_spaces_before_the_colon_are_mended_or_refused() {
    for line in ["X: a\r\n b", "X : a"] {
        let answer = format!("HTTP/1.1 200 OK\r\n{line}\r\nContent-Length: 0\r\n\r\n");
        let backend = Backend::answering_once(answer.as_bytes());
        let ringway = Ringway::in_front_of(&[&backend]);
        // The client is strict: it panics on both when they are passed on.
        let response = ringway.get("/");
        assert!([200, 502].contains(&response.status), "{line:?}: {response:?}");
    }
}

#[test]
fn a_malformed_answer_does_not_harm_the_neighbours() {
    let backend = Backend::scripted(|connection| {
        while let Some(request) = connection.request() {
            let bad = request.target() == "/bad";
            connection.say(if bad {
                b"HTTP/1.1 20 OK\r\n\r\n"
            } else {
                b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"
            });
        }
    });
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    for _ in 0..5 {
        assert_eq!(client.get("/good").status, 200);
        assert_eq!(ringway.get("/bad").status, 502);
    }
}

/// What a backend sends beyond its answer belongs to nobody.
#[test]
fn bytes_behind_a_response_are_dropped_with_their_connection() {
    let surplus: &[&[u8]] = &[
        b"x",
        b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ];
    let answers: &[&[u8]] = &[
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\n\r\n",
    ];
    for answer in answers {
        for surplus in surplus {
            let bytes = [*answer, *surplus].concat();
            let backend = Backend::answering(std::str::from_utf8(&bytes).unwrap());
            let ringway = Ringway::in_front_of(&[&backend]);
            let mut client = ringway.client();
            for turn in 1..=3 {
                let response = client.get("/");
                let bodyless = [204, 304].contains(&response.status);
                assert_eq!(response.text(), if bodyless { "" } else { "good" }, "{}", bytes.escape_ascii());
                assert_eq!(
                    backend.connections(),
                    turn,
                    "a poisoned connection was used again: {}",
                    bytes.escape_ascii()
                );
            }
            assert!(!client.has_input(), "the surplus was passed on: {}", bytes.escape_ascii());
        }
    }
}

/// A large body takes another way through the relay, and the next request may be there already: the surplus must
/// neither slip through nor be taken for the next answer.
#[test]
fn bytes_behind_a_large_response_are_dropped_with_their_connection() {
    let body = "x".repeat(1_000_000);
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let backend =
        Backend::answering(&format!("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{body}{evil}"));
    let ringway = Ringway::in_front_of(&[&backend]);
    for sent_ahead in [false, true] {
        let mut client = ringway.client();
        let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        if sent_ahead {
            client.send(&request.repeat(10)).unwrap();
        }
        for turn in 0..10 {
            if !sent_ahead {
                client.send(request).unwrap();
            }
            let response = client.response();
            let case = format!("turn {turn}, sent ahead: {sent_ahead}");
            assert_eq!((response.status, response.body.len()), (200, body.len()), "{case}");
            assert!(response.body.iter().all(|&byte| byte == b'x'), "{case}");
        }
    }
    assert_eq!(backend.connections(), 20, "a poisoned connection was used again");
}
