//! Tunnels: only behind a 101, opaque in both directions, and each direction ends by itself.

use std::io::Write;
use std::thread;

use crate::support::kernel::reset_on_close;
use crate::support::wire::{Body, Closing};
use crate::support::{Backend, Client, Connection, Head, Ringway, Seed, digest, eventually};

const UPGRADE: &[u8] = concat!(
    "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
)
.as_bytes();

const SWITCH: &[u8] = concat!(
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
)
.as_bytes();

/// A backend that switches, says `hello` in the same packet, and then runs `tunnel`.
fn switching(tunnel: impl Fn(&mut Connection) + Send + Sync + 'static) -> Backend {
    Backend::scripted(move |connection| {
        if connection.request().is_some() {
            connection.say(&[SWITCH, b"hello"].concat());
            tunnel(connection);
        }
    })
}

fn echo(connection: &mut Connection) {
    while let Ok(bytes) = connection.take_some() {
        connection.say(&bytes);
    }
}

/// Upgrades a connection and reads the greeting; returns the head of the switch.
fn upgrade(client: &mut Client) -> Head {
    client.send(UPGRADE).unwrap();
    let response = client.response();
    assert_eq!(response.status, 101, "{response:?}");
    assert_eq!(client.take_exactly(5).unwrap(), b"hello");
    response.head
}

#[test]
fn a_switch_opens_a_tunnel_with_what_came_right_behind_it() {
    let backend = switching(echo);
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    let head = upgrade(&mut client);
    assert!(head.lists("connection", "upgrade"), "{head:?}");
    assert_eq!(head.value("upgrade").as_deref(), Some("websocket"));
    assert_eq!(head.value("sec-websocket-accept").as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    let asked = backend.last().head;
    assert!(asked.lists("connection", "upgrade"), "{asked:?}");
    assert_eq!(asked.value("upgrade").as_deref(), Some("websocket"));
    assert_eq!(asked.value("sec-websocket-key").as_deref(), Some("dGhlIHNhbXBsZSBub25jZQ=="));
    for word in [&b"one"[..], b"\0\xff\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"x"] {
        client.send(word).unwrap();
        assert_eq!(client.take_exactly(word.len()).unwrap(), word);
    }
    assert_eq!(backend.heads(), 1, "the tunnel's bytes are no requests");
}

#[test]
fn a_tunnel_carries_megabytes_both_ways_at_once() {
    let backend = switching(echo);
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    upgrade(&mut client);
    let bytes = Seed::new(81).bytes(6_000_000);
    let mut writer = client.stream.try_clone().unwrap();
    let sent = bytes.clone();
    let writing = thread::spawn(move || writer.write_all(&sent));
    let back = client.take_exactly(bytes.len()).unwrap();
    writing.join().unwrap().unwrap();
    assert_eq!(digest(&back), digest(&bytes));
}

#[test]
fn the_client_can_end_its_direction_and_go_on_reading() {
    let backend = switching(|connection| {
        let heard = connection.take_to_end().unwrap();
        connection.say(b"you said ");
        connection.say(&heard);
    });
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    upgrade(&mut client);
    client.send(b"goodbye").unwrap();
    client.finish();
    assert_eq!(client.take_to_end().unwrap(), b"you said goodbye");
}

#[test]
fn the_backend_can_end_its_direction_and_go_on_reading() {
    let backend = Backend::scripted(|connection| {
        let Some(request) = connection.request() else { return };
        connection.say(&[SWITCH, b"hello", b"that is all"].concat());
        connection.finish();
        let heard = connection.take_to_end().map(|bytes| Body { bytes, trailers: Vec::new() });
        connection.keep(request.head, heard);
    });
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    upgrade(&mut client);
    assert_eq!(client.take_to_end().unwrap(), b"that is all");
    client.send(b"still ").unwrap();
    client.send(b"here").unwrap();
    client.finish();
    assert_eq!(backend.wait_requests(2)[1].whole().bytes, b"still here");
}

#[test]
fn the_end_of_both_directions_ends_the_tunnel() {
    let backend = switching(echo);
    let ringway = Ringway::counted_in_front_of(&[&backend]);
    for _ in 0..5 {
        let mut client = ringway.client();
        upgrade(&mut client);
        client.finish();
        assert_eq!(client.closing(), Closing::Fin);
    }
    ringway.wait_quiet();
}

#[test]
fn a_reset_of_one_side_reaches_the_other() {
    let backend = switching(|connection| {
        connection.take_some().unwrap();
        connection.reset();
    });
    let ringway = Ringway::counted_in_front_of(&[&backend]);
    let mut client = ringway.client();
    upgrade(&mut client);
    client.send(b"x").unwrap();
    client.closing();
    ringway.wait_quiet();

    let backend = switching(echo);
    let ringway = Ringway::counted_in_front_of(&[&backend]);
    let mut client = ringway.client();
    upgrade(&mut client);
    reset_on_close(&client.stream);
    drop(client);
    eventually("the backend's end", || (backend.closed() == 1).then_some(()));
    ringway.wait_quiet();
}

#[test]
fn no_tunnel_without_a_switch() {
    let backend = Backend::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno");
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    for _ in 0..3 {
        client.send(UPGRADE).unwrap();
        let response = client.response();
        assert_eq!((response.status, response.text().as_str()), (200, "no"));
    }
    // What follows is read as HTTP, strictly.
    client.send(b"\x81\x05hello\r\n\r\n").unwrap();
    assert_eq!(client.last_response().unwrap().status, 400);
    assert_eq!(backend.heads(), 3);
}

#[test]
fn a_refused_upgrade_shows_the_refusal() {
    let backend = Backend::answering(
        "HTTP/1.1 426 Upgrade Required\r\nUpgrade: x/2\r\nConnection: upgrade\r\nContent-Length: 0\r\n\r\n",
    );
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    client.send(UPGRADE).unwrap();
    assert_eq!(client.response().status, 426);
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(client.response().status, 426);
}

/// HTTP/1.0 knows no Upgrade: the field must be ignored.
#[test]
fn a_client_of_http_1_0_cannot_upgrade() {
    let backend = Backend::well_behaved("a");
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    client.send(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").unwrap();
    assert_eq!(client.response().status, 200);
    assert!(!backend.last().head.has("upgrade"));
}
