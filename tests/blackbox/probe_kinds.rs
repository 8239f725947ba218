//! Active health checks: what each kind of probe says, what it takes for a good answer, and what it calls a bad one.

use crate::probes::{probed, turns, wait_probes, wait_turns};
use crate::support::introduction::{v1, v2_raw};
use crate::support::{Acceptor, Backend, Configured, Connection, Directory, eventually};

/// Rounds that a busy machine can keep to.
const QUICK: &str = "interval = \"20ms\"\ntimeout = \"10s\"\n";

/// Probes a backend with this script like this until it is down: why.
fn down(health: &str, script: impl Fn(&mut Connection) + Send + Sync + 'static) -> String {
    let backend = Backend::scripted(script);
    let ringway = Configured::start(1, &probed("tcp", &[&backend.place], &format!("{health}\n{QUICK}")));
    let (state, reason) = wait_turns(&ringway, &backend.place, 1);
    assert_eq!(state, "down");
    reason
}

/// Probes a backend with this script like this, which must be good again and again.
fn stays_up(health: &str, script: impl Fn(&mut Connection) + Send + Sync + 'static) {
    let backend = Backend::scripted(script);
    let health = format!("{health}\nstart = \"down\"\n{QUICK}");
    let ringway = Configured::start(1, &probed("tcp", &[&backend.place], &health));
    assert_eq!(wait_turns(&ringway, &backend.place, 1).0, "up");
    let connections = backend.connections();
    eventually("more probes", || (backend.connections() > connections + 3).then_some(()));
    assert_eq!(turns(&ringway, &backend.place).len(), 1);
}

/// Answers one request with these bytes.
fn page(answer: &'static str) -> impl Fn(&mut Connection) + Send + Sync + 'static {
    move |connection| {
        if connection.request().is_some() {
            connection.say(answer.as_bytes());
        }
    }
}

#[test]
fn a_page_is_good_by_its_status() {
    let teapot = || page("HTTP/1.1 418 I'm a teapot\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(down("path = \"/\"", teapot()), "status 418");
    stays_up("path = \"/\"\nexpect_status = [204, \"410-420\"]", teapot());
    stays_up("path = \"/\"", page("HTTP/1.0 302 Found\r\nLocation: /b\r\n\r\n"));
}

#[test]
fn a_page_is_good_by_its_body() {
    let page = |body: &str| {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        move |connection: &mut Connection| {
            if connection.request().is_some() {
                connection.say(answer.as_bytes());
            }
        }
    };
    let health = "path = \"/\"\nexpect_body = \"status: ok\"";
    stays_up(health, page("status: ok (3 replicas)"));
    assert_eq!(down(health, page("status: degraded")), "the body lacks `status: ok`");
}

#[test]
fn the_request_is_as_the_operator_wrote_it() {
    let backend = Backend::well_behaved("a");
    let health = "path = \"/health?deep=1\"\nmethod = \"OPTIONS\"\nhost = \"shop.example\"\nheader = { X-Probe = \"yes\", User-Agent = \"me\" }\n";
    let _ringway = Configured::start(1, &probed("http", &[&backend.place], &format!("{health}{QUICK}")));
    let asked = backend.wait_requests(1).remove(0);
    assert_eq!(asked.head.first_line, "OPTIONS /health?deep=1 HTTP/1.1");
    for (name, value) in
        [("host", "shop.example"), ("x-probe", "yes"), ("user-agent", "me"), ("connection", "close")]
    {
        assert_eq!(asked.head.values(name), [value], "{name}");
    }
}

#[test]
fn a_backend_that_keeps_silent_is_too_late() {
    let silent = |connection: &mut Connection| {
        let _head = connection.request();
        connection.wait_closed();
    };
    let backend = Backend::scripted(silent);
    let ringway = Configured::start(
        1,
        &probed("http", &[&backend.place], "path = \"/\"\ninterval = \"20ms\"\ntimeout = \"50ms\""),
    );
    assert_eq!(wait_turns(&ringway, &backend.place, 1).1, "timed out after 50ms, waiting for the response");
    let body = Backend::scripted(|connection| {
        if connection.request().is_some() {
            connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nstat");
            connection.wait_closed();
        }
    });
    let health = "path = \"/\"\nexpect_body = \"status\"\ninterval = \"20ms\"\ntimeout = \"50ms\"";
    let ringway = Configured::start(1, &probed("http", &[&body.place], health));
    assert_eq!(
        wait_turns(&ringway, &body.place, 1).1,
        "timed out after 50ms, looking for `status` in the body"
    );
}

/// Says `head` and then this piece for as long as anybody listens.
fn endless(head: &'static [u8], piece: &'static [u8]) -> impl Fn(&mut Connection) + Send + Sync + 'static {
    move |connection| {
        if connection.request().is_some() {
            let many = piece.repeat(10_000);
            let _gone = connection.send(head);
            while connection.send(&many).is_ok() {}
        }
    }
}

#[test]
fn answers_without_end_are_cut_and_named() {
    let status = b"HTTP/1.1 200 OK\r\n";
    let body = "path = \"/\"\nexpect_body = \"ok\"";
    let lacks = "the first 64 KiB of the body lack `ok`";
    assert_eq!(down(body, endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x")), lacks);
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(down(body, endless(chunked, b"1\r\nx\r\n")), lacks);
    for piece in [&b"x"[..], b"X: y\r\n"] {
        let reason = down("path = \"/\"", endless(status, piece));
        assert!(["not HTTP", "too large"].iter().any(|part| reason.contains(part)), "{reason}");
    }
    let interim = b"HTTP/1.1 103 Early Hints\r\n\r\n";
    assert_eq!(down("path = \"/\"", endless(b"", interim)), "incomplete response");
    let script = "step = [{ send = \"GET / HTTP/1.1\\r\\n\\r\\n\" }, { expect = 'ok' }]";
    assert_eq!(down(script, endless(b"", b"x")), "64 KiB without `ok`");
    // A probe that needs no body takes none.
    stays_up("path = \"/\"", endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x"));
}

#[test]
fn what_is_not_http_is_called_so() {
    for garbage in ["220 mail.example.com ESMTP\r\n", "\u{0}\u{1}\u{2}\r\n\r\n"] {
        let reason = down("path = \"/\"", page(garbage));
        assert!(reason.starts_with("not HTTP: "), "{reason}");
    }
    assert_eq!(down("path = \"/\"", |connection| drop(connection.request())), "incomplete response");
    let reset = |connection: &mut Connection| {
        let _head = connection.request();
        connection.reset();
    };
    assert_eq!(down("path = \"/\"", reset), "connection reset");
}

/// Says each line after it has heard the one before it; nothing heard is nothing waited for.
fn dialogue(
    lines: &'static [(&'static [u8], &'static [u8])],
) -> impl Fn(&mut Connection) + Send + Sync + 'static {
    move |connection| {
        for (heard, said) in lines {
            if connection.take_exactly(heard.len()).ok().as_deref() != Some(*heard) {
                return;
            }
            connection.say(said);
        }
        connection.wait_closed();
    }
}

const REDIS: &str = "step = [{ send = 'PING\\r\\n' }, { expect = '+PONG' }, { send = 'INFO\\r\\n' }, { expect = 'role:master' }]";
const SMTP: &str = "step = [{ expect = '220 ' }, { send = 'EHLO a\\r\\n' }, { expect = '250 ' }, { send = 'QUIT\\r\\n' }, { expect = '221' }]";
const MYSQL: &str = "step = [{ expect = '\\x00\\x0a' }]";
const POSTGRESQL: &str =
    "step = [{ send = '\\x00\\x00\\x00\\x08\\x04\\xd2\\x16\\x2f' }, { expect = ['S', 'N'] }]";

#[test]
fn scripts_speak_with_servers_of_all_kinds() {
    stays_up(REDIS, dialogue(&[(b"PING\r\n", b"+PONG\r\n"), (b"INFO\r\n", b"$11\r\nrole:master\r\n")]));
    stays_up(
        SMTP,
        dialogue(&[
            (b"", b"220 hello\r\n"),
            (b"EHLO a\r\n", b"250-SIZE\r\n250 OK\r\n"),
            (b"QUIT\r\n", b"221 bye\r\n"),
        ]),
    );
    stays_up(MYSQL, dialogue(&[(b"", b"\x4a\0\0\0\x0a8.4.0\0")]));
    stays_up(POSTGRESQL, dialogue(&[(b"\0\0\0\x08\x04\xd2\x16\x2f", b"N")]));
}

#[test]
fn scripts_say_what_they_missed() {
    let locked = dialogue(&[(b"PING\r\n", b"-NOAUTH Authentication required.\r\n")]);
    let backend = Backend::scripted(locked);
    let health = format!("{REDIS}\ninterval = \"20ms\"\ntimeout = \"50ms\"");
    let ringway = Configured::start(1, &probed("tcp", &[&backend.place], &health));
    let reason = "timed out after 50ms, expecting `+PONG`, having `-NOAUTH Authentication required.\\r\\n`";
    assert_eq!(wait_turns(&ringway, &backend.place, 1).1, reason);
    let refused = "closed without `\\x00\\n`, having said `H\\x00\\x00\\x00\\xffj\\x04Host is blocked`";
    assert_eq!(down(MYSQL, |mysql| mysql.say(b"H\0\0\0\xffj\x04Host is blocked")), refused);
}

#[test]
fn another_port_is_probed_in_place_of_the_backends_own() {
    let (own, other) = (Acceptor::new(), Backend::well_behaved("a"));
    let health = format!("path = \"/\"\nport = {}\nstart = \"down\"\n{QUICK}", other.address.port());
    for mode in ["http", "tcp", "udp"] {
        let ringway = Configured::start(1, &probed(mode, &[&own.place], &health));
        assert_eq!(wait_turns(&ringway, &own.place, 1).0, "up");
        assert!(own.try_accept().is_none(), "the backend's own port was probed");
    }
    let elsewhere = Backend::well_behaved_at("127.0.0.77:0", "a");
    let port = elsewhere.address.port();
    let health = format!("address = \"127.0.0.77\"\nport = {port}\nstart = \"down\"\n{QUICK}");
    let ringway = Configured::start(1, &probed("tcp", &[&own.place], &health));
    assert_eq!(wait_turns(&ringway, &own.place, 1).0, "up");
}

#[test]
fn unix_sockets_are_probed_too() {
    let directory = Directory::new();
    let place = format!("unix:{}", directory.path("a.sock").display());
    let backend = Backend::scripted_at(&place, |connection| {
        connection.answer_all(b"HTTP/1.1 204 No Content\r\n\r\n");
    });
    let gone = format!("unix:{}", directory.path("gone.sock").display());
    let health = format!("path = \"/\"\nstart = \"down\"\n{QUICK}");
    let ringway = Configured::start(1, &probed("http", &[&place, &gone], &health));
    assert_eq!(wait_turns(&ringway, &place, 1).0, "up");
    wait_probes(&ringway, &gone, |of| of["state"] == "down" && of["last"] == "no such socket");
    assert_eq!(backend.last().head.value("host").as_deref(), Some("localhost"));
}

#[test]
fn a_probe_begins_with_a_header_of_its_own_where_connections_do() {
    for version in ["v1", "v2"] {
        let acceptor = Acceptor::new();
        let cluster = format!("send_proxy = \"{version}\"\nsource = \"127.0.0.9\"\n[cluster.health]\n");
        let text = probed("tcp", &[&acceptor.place], &format!("path = \"/\"\n{QUICK}"));
        let _ringway = Configured::start(1, &text.replace("[cluster.health]\n", &cluster));
        let mut probe = acceptor.accept();
        let source = probe.stream.peer_addr().unwrap();
        assert_eq!(source.ip().to_string(), "127.0.0.9");
        let expected = match version {
            "v1" => v1(&source.to_string(), &acceptor.place),
            _ => v2_raw(0, 0, b""),
        };
        assert_eq!(probe.take_exactly(expected.len()).unwrap(), expected);
        assert_eq!(probe.take_head().unwrap().first_line, "GET / HTTP/1.1");
    }
}
