//! The PROXY protocol in TCP mode: what comes in is believed from those who may say it, and goes out exactly.

use std::time::{Duration, Instant};

use crate::support::introduction::{V2_SIGNATURE, v1, v2, v2_raw, v2_with};
use crate::support::ringway::Options;
use crate::support::{Acceptor, Client, Directory, Ringway, eventually, kernel};

const SOURCE4: &str = "192.0.2.7:56324";
const TARGET4: &str = "198.51.100.1:443";
const SOURCE6: &str = "[2001:db8::7]:56324";
const TARGET6: &str = "[2001:db8::1]:443";

fn tcp(acceptor: &Acceptor) -> Options {
    Ringway::options().tcp().json().backend(&acceptor.place)
}

/// The header of a connection as it really is, in version 1 or 2.
fn of_the_socket(version: &str, client: &Client) -> Vec<u8> {
    let [source, target] =
        [client.stream.local_addr(), client.stream.peer_addr()].map(|end| end.unwrap().to_string());
    if version == "v1" { v1(&source, &target) } else { v2(&source, &target) }
}

/// In version 1 and in version 2.
type Told = [Vec<u8>; 2];

/// What a client says of itself, and what the backend must hear of it; nothing stands for the socket's own ends.
fn introductions() -> Vec<(Vec<u8>, Option<Told>)> {
    let unix = v2_raw(1, 0x31, &[b'u'; 216]);
    let nobody = [b"PROXY UNKNOWN\r\n".to_vec(), v2_raw(0, 0, b"")];
    let inet4 = Some([v1(SOURCE4, TARGET4), v2(SOURCE4, TARGET4)]);
    let inet6 = Some([v1(SOURCE6, TARGET6), v2(SOURCE6, TARGET6)]);
    vec![
        (v1(SOURCE4, TARGET4), inet4.clone()),
        (v1(SOURCE6, TARGET6), inet6.clone()),
        (v2(SOURCE4, TARGET4), inet4.clone()),
        (v2(SOURCE6, TARGET6), inet6),
        // Additions are read and not passed on: a name (2), a unique id (5).
        (v2_with(SOURCE4, TARGET4, b"\x02\0\x04name\x05\0\x02id"), inet4),
        (unix, Some(nobody)),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
        (v2_raw(0, 0, b""), None),
        (v2_raw(0, 0x11, &[9; 12]), None),
        (v2_raw(1, 0, b""), None),
    ]
}

#[test]
fn the_claimed_client_is_told_to_the_backend_exactly() {
    for (place, version) in ["v1", "v2"].into_iter().enumerate() {
        let acceptor = Acceptor::new();
        let options = tcp(&acceptor).arg("--accept-proxy").arg("127.0.0.0/8");
        let ringway = options.arg("--send-proxy").arg(version).start();
        for (header, told) in introductions() {
            let mut client = ringway.client();
            // What follows at once belongs to the connection.
            client.send(&[&header[..], b"hello"].concat()).unwrap();
            let told = told.map_or_else(|| of_the_socket(version, &client), |told| told[place].clone());
            let mut backend = acceptor.accept();
            let expected = [&told[..], b"hello"].concat();
            let heard = backend.take_exactly(expected.len()).unwrap();
            assert_eq!(heard.escape_ascii().to_string(), expected.escape_ascii().to_string());
            backend.send(b"welcome").unwrap();
            assert_eq!(client.take_exactly(7).unwrap(), b"welcome");
            client.finish();
            assert_eq!(backend.take_to_end().unwrap(), b"");
        }
        let stats = ringway.stats();
        assert_eq!(stats.counter("proxy_headers"), introductions().len() as u64);
        assert_eq!(stats.counter("proxy_headers_invalid"), 0);
    }
}

#[test]
fn without_a_header_in_front_the_socket_is_the_client() {
    for version in ["v1", "v2"] {
        let acceptor = Acceptor::new();
        let ringway = tcp(&acceptor).arg("--send-proxy").arg(version).start();
        let mut client = ringway.client_from([127, 0, 0, 9].into());
        let told = of_the_socket(version, &client);
        // A server that speaks first hears the header before anybody has said a word.
        let mut backend = acceptor.accept();
        assert_eq!(backend.take_exactly(told.len()).unwrap(), told);
        backend.send(b"220\r\n").unwrap();
        assert_eq!(client.take_exactly(5).unwrap(), b"220\r\n");
        client.send(b"QUIT").unwrap();
        assert_eq!(backend.take_exactly(4).unwrap(), b"QUIT");
    }
}

/// However it is cut, also right at its end, a header is the same and no byte behind it is lost.
#[test]
fn a_header_may_come_in_pieces() {
    let acceptor = Acceptor::new();
    let options = tcp(&acceptor).arg("--accept-proxy").arg("127.0.0.0/8");
    let ringway = options.arg("--send-proxy").arg("v1").start();
    let told = v1(SOURCE4, TARGET4);
    let headers = [told.clone(), v2_with(SOURCE4, TARGET4, b"\x02\0\x04name")];
    for header in headers {
        let words = [&header[..], b"hello"].concat();
        for cut in 1..words.len() {
            let mut client = ringway.client();
            let before = ringway.stats().counter("client_received_bytes");
            client.send(&words[..cut]).unwrap();
            let received = before + cut as u64;
            ringway.wait_stats("the first piece", |stats| stats.counter("client_received_bytes") == received);
            client.send(&words[cut..]).unwrap();
            let mut backend = acceptor.accept();
            assert_eq!(
                backend.take_exactly(told.len() + 5).unwrap(),
                [&told[..], b"hello"].concat(),
                "cut at {cut}"
            );
        }
        let mut client = ringway.client();
        for byte in &words {
            client.send(&[*byte]).unwrap();
        }
        assert_eq!(acceptor.accept().take_exactly(told.len() + 5).unwrap(), [&told[..], b"hello"].concat());
    }
    assert_eq!(ringway.stats().counter("proxy_headers_invalid"), 0);
}

#[test]
fn much_may_follow_a_header_at_once() {
    let acceptor = Acceptor::new();
    let ringway = tcp(&acceptor).arg("--accept-proxy").arg("all").start();
    let mut client = ringway.client();
    let words = crate::support::Seed::new(12).bytes(200_000);
    client.send(&[v2(SOURCE4, TARGET4), words.clone()].concat()).unwrap();
    assert_eq!(acceptor.accept().take_exactly(words.len()).unwrap(), words);
}

/// What is no header, each refused at the first byte that says so.
fn nonsense() -> Vec<Vec<u8>> {
    let mut wrong_version = v2(SOURCE4, TARGET4);
    wrong_version[12] = 0x31;
    let mut too_long = v2_raw(1, 0x11, &[0; 12]);
    too_long[14..16].copy_from_slice(&60_000u16.to_be_bytes());
    vec![
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"\r\n\r\nx".to_vec(),
        b"PROXY TCP4 192.0.2.7 198.51.100.1 99999 443\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1 443\n".to_vec(),
        b"PROXY TCP4 2001:db8::7 2001:db8::1 1 443\r\n".to_vec(),
        b"PROXY TCP4  192.0.2.7 198.51.100.1 1 443\r\n".to_vec(),
        b"PROXY UDP4 192.0.2.7 198.51.100.1 1 443\r\n".to_vec(),
        [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat(),
        wrong_version,
        too_long,
        v2_raw(2, 0x11, &[0; 12]),
        v2_raw(1, 0x41, &[0; 12]),
        v2_raw(1, 0x11, &[0; 11]),
        v2_with(SOURCE4, TARGET4, b"\x03\0\x04sums"),
        v2_with(SOURCE4, TARGET4, b"\x02\0\x09name"),
        v2_raw(1, 0x11, &[0; 5000]),
    ]
}

#[test]
fn what_is_no_header_closes_its_connection_and_no_other() {
    let acceptor = Acceptor::new();
    let ringway = tcp(&acceptor).arg("--accept-proxy").arg("127.0.0.1").start();
    let mut good = ringway.client();
    good.send(&v1(SOURCE4, TARGET4)).unwrap();
    let mut backend = acceptor.accept();
    for bytes in nonsense() {
        let mut client = ringway.client();
        let _refused_half_way = client.send(&bytes);
        client.closing();
        good.send(b"ping").unwrap();
        assert_eq!(backend.take_exactly(4).unwrap(), b"ping");
    }
    // Half a header and then the end, or nothing at all.
    for bytes in [&b""[..], b"PROXY TCP4 192.0", &V2_SIGNATURE[..]] {
        let mut client = ringway.client();
        client.send(bytes).unwrap();
        client.finish();
        client.closing();
    }
    let stats = ringway.stats();
    assert_eq!(stats.counter("proxy_headers_invalid"), nonsense().len() as u64 + 3);
    assert_eq!((stats.counter("proxy_headers"), stats.counter("tunnels")), (1, 1));
    assert_eq!(stats.counter_per_backend("picks"), [1]);
    drop((good, backend));
    ringway.wait_quiet();
}

#[test]
fn a_header_that_does_not_come_in_time_closes_the_connection() {
    if !cfg!(debug_assertions) {
        return;
    }
    let acceptor = Acceptor::new();
    // Ten seconds become 100 ms.
    let ringway = tcp(&acceptor).hastened(100).arg("--accept-proxy").arg("127.0.0.0/8").start();
    for begun in [&b""[..], b"PROXY TCP4 192.0.2.7", V2_SIGNATURE] {
        let mut client = ringway.client();
        client.send(begun).unwrap();
        client.closing();
    }
    // Nor do drops of it save the connection.
    let mut drips = ringway.client();
    drips.send(b"PROXY UNKNOWN ").unwrap();
    drips.set_patience(Duration::from_millis(20));
    let begun = Instant::now();
    let mut sent = 0;
    while drips.send(b"x").is_ok() && !matches!(drips.take_some(), Err(crate::support::Failure::Short { .. }))
    {
        sent += 1;
        assert!(begun.elapsed() < Duration::from_secs(2), "the deadline moved on with every byte: {sent}");
    }
    let stats = ringway.wait_quiet();
    assert_eq!((stats.counter("proxy_headers_timeout"), stats.counter("proxy_headers_invalid")), (4, 0));
    assert_eq!(stats.counter("tunnels"), 0);
}

/// Somebody who may not speak for others is served, and whatever it says is its own business.
#[test]
fn a_header_from_outside_the_trusted_networks_is_just_bytes() {
    let acceptor = Acceptor::new();
    let options = tcp(&acceptor).arg("--accept-proxy").arg("10.0.0.0/8,127.0.0.9");
    let ringway = options.arg("--send-proxy").arg("v2").start();
    for claim in [v1(SOURCE4, TARGET4), v2(SOURCE4, TARGET4), b"no claim at all".to_vec()] {
        let mut client = ringway.client();
        client.send(&claim).unwrap();
        let told = [of_the_socket("v2", &client), claim].concat();
        assert_eq!(acceptor.accept().take_exactly(told.len()).unwrap(), told);
    }
    let mut trusted = ringway.client_from([127, 0, 0, 9].into());
    trusted.send(&v1(SOURCE4, TARGET4)).unwrap();
    assert_eq!(acceptor.accept().take_exactly(28).unwrap(), v2(SOURCE4, TARGET4));
    assert_eq!(ringway.stats().counter("proxy_headers"), 1);
}

/// Behind a UNIX socket there is no address to trust: whoever may open it may speak for others.
#[test]
fn a_unix_socket_accepts_headers_once_anybody_may_send_them() {
    let (acceptor, directory) = (Acceptor::new(), Directory::new());
    let options = tcp(&acceptor).listen(&directory.socket("listener")).arg("--send-proxy").arg("v1");
    let ringway = options.arg("--accept-proxy").arg("127.0.0.1").start();
    let mut client = ringway.client();
    client.send(&[v2(SOURCE6, TARGET6), b"hello".to_vec()].concat()).unwrap();
    let told = [v1(SOURCE6, TARGET6), b"hello".to_vec()].concat();
    assert_eq!(acceptor.accept().take_exactly(told.len()).unwrap(), told);
    let mut local = ringway.client();
    local.send(&[v2_raw(0, 0, b""), b"hello".to_vec()].concat()).unwrap();
    let told = b"PROXY UNKNOWN\r\nhello";
    assert_eq!(acceptor.accept().take_exactly(told.len()).unwrap(), told);
}

#[test]
fn a_backend_that_dies_on_the_header_is_no_panic() {
    let acceptor = Acceptor::new();
    let ringway = tcp(&acceptor).arg("--send-proxy").arg("v2").start();
    for _ in 0..20 {
        let mut client = ringway.client();
        // A backend that dies early enough was none at all: it is tried again, and then the client is told so.
        eventually("the end of the connection", || {
            acceptor.try_accept().iter().for_each(|backend| kernel::reset_now(&backend.stream));
            client.has_input().then_some(())
        });
        client.wait_closed();
    }
    assert_eq!(ringway.wait_quiet().counter("connection_panics"), 0);
}
