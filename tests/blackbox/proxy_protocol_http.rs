//! The PROXY protocol in HTTP mode: the claimed client is the one that counts, and its connections serve nobody else.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::introduction::{v1, v2, v2_raw};
use crate::support::ringway::Options;
use crate::support::{Acceptor, Backend, Configured, Connection, Directory, Ringway, eventually};

const CLAIM: &str = "192.0.2.7:56324";
const TARGET: &str = "198.51.100.1:443";
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n";

/// Answers with what it was told of the client.
fn telling() -> Backend {
    Backend::scripted(tell)
}

fn tell(connection: &mut Connection) {
    while let Some(request) = connection.request() {
        let told = request.head.value("x-forwarded-for").unwrap_or_else(|| "nobody".to_owned());
        connection.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{told}", told.len()).as_bytes());
    }
}

/// A backend that is introduced to each connection's client first: the addresses it was given, per connection, and
/// everything a [`telling`] one does.
fn introduced() -> (Backend, Arc<Mutex<Vec<Vec<u8>>>>) {
    let met = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&met);
    let backend = Backend::scripted(move |connection| {
        if let Ok(header) = connection.take_exactly(28) {
            list.lock().unwrap().push(header);
            tell(connection);
        }
    });
    (backend, met)
}

fn http(backend: &Backend) -> Options {
    Ringway::options().backends(&[backend]).json()
}

#[test]
fn the_claimed_client_is_named_to_the_backend() {
    let backend = telling();
    let ringway = http(&backend).arg("--accept-proxy").arg("127.0.0.0/8").start();
    let claims = [
        (v1(CLAIM, TARGET), "192.0.2.7"),
        (v2(CLAIM, TARGET), "192.0.2.7"),
        (v2("[2001:db8::7]:1", "[2001:db8::1]:2"), "2001:db8::7"),
        (v1("[::ffff:192.0.2.9]:1", "[::ffff:192.0.2.1]:2"), "192.0.2.9"),
        (v2_raw(0, 0, b""), "127.0.0.1"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (v2_raw(1, 0x31, &[b'u'; 216]), "nobody"),
    ];
    for (header, name) in claims {
        for pieces in [vec![[&header[..], GET].concat()], vec![header.clone(), GET.to_vec()]] {
            let mut client = ringway.client();
            for piece in pieces {
                client.send(&piece).unwrap();
            }
            assert_eq!(client.response().text(), name);
            // It counts for the whole connection, and comes once.
            client.send(GET).unwrap();
            assert_eq!(client.response().text(), name);
        }
    }
    assert_eq!(ringway.stats().counter("proxy_headers"), 14);
}

#[test]
fn requests_sent_ahead_may_follow_a_header() {
    let backend = telling();
    let ringway = http(&backend).arg("--accept-proxy").arg("all").start();
    let mut client = ringway.client();
    client.send(&[&v2(CLAIM, TARGET)[..], GET, GET, GET].concat()).unwrap();
    for _ in 0..3 {
        assert_eq!(client.response().text(), "192.0.2.7");
    }
}

#[test]
fn a_header_from_outside_the_trusted_networks_is_a_malformed_request() {
    let backend = telling();
    let ringway = http(&backend).arg("--accept-proxy").arg("10.0.0.0/8").start();
    for header in [v1(CLAIM, TARGET), v2(CLAIM, TARGET)] {
        let mut client = ringway.client();
        client.send(&[&header[..], GET].concat()).unwrap();
        assert_eq!(client.last_response().unwrap().status, 400);
    }
    let mut client = ringway.client();
    client.send(GET).unwrap();
    assert_eq!(client.response().text(), "127.0.0.1");
    let stats = ringway.stats();
    assert_eq!((stats.counter("proxy_headers"), stats.counter("proxy_headers_invalid")), (0, 0));
    assert_eq!(backend.heads(), 1);
}

#[test]
fn without_its_header_a_trusted_proxy_is_not_served() {
    let backend = telling();
    let ringway = http(&backend).arg("--accept-proxy").arg("127.0.0.1").start();
    let mut client = ringway.client();
    client.send(GET).unwrap();
    client.closing();
    // An address nearby is not trusted, and so needs none.
    let mut other = ringway.client_from([127, 0, 0, 9].into());
    other.send(GET).unwrap();
    assert_eq!(other.response().text(), "127.0.0.9");
    assert_eq!(ringway.stats().counter("proxy_headers_invalid"), 1);
    assert_eq!(backend.heads(), 1);
}

/// A connection that speaks for somebody is used again for them, never for anybody else, and ends when they leave.
#[test]
fn an_introduced_connection_serves_its_client_alone() {
    let (backend, met) = introduced();
    let ringway = http(&backend).arg("--send-proxy").arg("v2").start();
    let mut clients: Vec<_> = [8, 9, 9].map(|last| ringway.client_from([127, 0, 0, last].into())).into();
    let ends: Vec<_> = clients.iter().map(|client| client.stream.local_addr().unwrap().to_string()).collect();
    for _ in 0..5 {
        for client in &mut clients {
            client.send(GET).unwrap();
            let name = client.stream.local_addr().unwrap().ip().to_string();
            assert_eq!(client.response().text(), name);
        }
    }
    let target = ringway.address().to_string();
    let expected: Vec<_> = ends.iter().map(|end| v2(end, &target)).collect();
    assert_eq!(*met.lock().unwrap(), expected, "one connection for each");
    let own: Vec<_> = backend.requests().iter().map(|request| request.connection).collect();
    assert_eq!(own, [0, 1, 2].repeat(5));
    ringway.wait_stats("one idle connection for each", |stats| stats.backend_gauge("idle") == 3);
    drop(clients.remove(0));
    eventually("the end of its connection", || (backend.closed() == 1).then_some(()));
    ringway.wait_stats("two left", |stats| stats.backend_gauge("idle") == 2);
    clients[1].send(GET).unwrap();
    assert_eq!(clients[1].response().text(), "127.0.0.9");
    drop(clients);
    eventually("the end of all", || (backend.closed() == 3).then_some(()));
    assert_eq!(ringway.wait_quiet().backend_gauge("idle"), 0);
    assert_eq!(backend.connections(), 3);
}

/// Idle connections of others make room, the one that has rested longest first.
#[test]
fn an_introduced_connection_makes_room_for_another_client() {
    let (backend, met) = introduced();
    let text = format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\n[[cluster]]\nsend_proxy = \"v2\"\n\
         backend = {{ address = \"{}\", max_connections = 2 }}\n",
        backend.place
    );
    let ringway = Configured::start(1, &text);
    let mut clients = [1, 2, 3].map(|last| ringway.client_from([127, 0, 0, last].into()));
    // The third one displaces the first, that one the second, and so on.
    for number in [0, 1, 2, 0, 1, 2] {
        clients[number].send(GET).unwrap();
        assert_eq!(clients[number].response().text(), format!("127.0.0.{}", number + 1));
        let before = Instant::now();
        // The coarse clock tells one from the next.
        eventually("another moment", || (before.elapsed() > Duration::from_millis(20)).then_some(()));
    }
    assert_eq!((met.lock().unwrap().len(), backend.connections()), (6, 6));
    let stats = ringway.wait_stats("two of them", |stats| stats.backend_gauge("idle") == 2);
    assert_eq!(stats.counter("queue_waits"), 0);
    drop(clients);
    ringway.wait_stats("none", |stats| stats.backend_gauge("idle") == 0);
    eventually("the end of all", || (backend.closed() == 6).then_some(()));
}

#[test]
fn a_claimed_client_is_introduced_further() {
    let (backend, met) = introduced();
    let options = http(&backend).arg("--accept-proxy").arg("all");
    let ringway = options.arg("--send-proxy").arg("v2").start();
    for claim in [CLAIM, "203.0.113.5:99"] {
        let mut client = ringway.client();
        for header in [v1(claim, TARGET), Vec::new()] {
            client.send(&[&header[..], GET].concat()).unwrap();
            assert_eq!(client.response().text(), claim.split(':').next().unwrap());
        }
    }
    assert_eq!(*met.lock().unwrap(), [v2(CLAIM, TARGET), v2("203.0.113.5:99", TARGET)]);
}

/// Clients of a UNIX socket have no address, so their connections speak for nobody and may be shared.
#[test]
fn those_without_an_address_share_what_speaks_for_nobody() {
    let acceptor = Acceptor::new();
    let directory = Directory::new();
    let options = Ringway::options().json().backend(&acceptor.place).listen(&directory.socket("listener"));
    let ringway = options.arg("--send-proxy").arg("v2").start();
    let mut backend = None;
    for _ in 0..2 {
        let mut client = ringway.client();
        client.send(GET).unwrap();
        let fresh = backend.is_none();
        let wire = backend.get_or_insert_with(|| acceptor.accept());
        if fresh {
            assert_eq!(wire.take_exactly(16).unwrap(), v2_raw(0, 0, b""));
        }
        let head = wire.take_head().unwrap();
        assert_eq!(head.value("x-forwarded-for"), None);
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        assert_eq!(client.response().text(), "ok");
    }
    assert!(acceptor.try_accept().is_none());
}

/// Promise 33: one in front that sees connections, one behind that sees requests, and the backend sees the client.
#[test]
fn behind_a_balancer_of_connections_the_client_keeps_its_address() {
    let backend = telling();
    for version in ["v1", "v2"] {
        let behind = http(&backend).arg("--accept-proxy").arg("127.0.0.1").start();
        let options = Ringway::options().tcp().json().backend(behind.address());
        let front = options.arg("--send-proxy").arg(version).start();
        for last in [7, 9, 250] {
            let mut client = front.client_from([127, 0, 0, last].into());
            for _ in 0..3 {
                client.send(GET).unwrap();
                assert_eq!(client.response().text(), format!("127.0.0.{last}"));
            }
        }
        assert_eq!(behind.stats().counter("proxy_headers"), 3);
    }
}
