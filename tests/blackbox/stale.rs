//! Idle upstream connections that end, or are soiled, right after a response that came in pieces.

use std::fs;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

use crate::support::{Backend, Client, Connection, PATIENCE, Ringway, eventually};

const TURNS: usize = 8;

/// How the body comes: the head that announces it, and its bytes.
const FRAMINGS: [(&[u8], &[u8]); 2] = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", b"body"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n", b"0\r\n\r\n"),
];

/// The first request of each connection is answered in two segments, the second of them when the client has seen
/// the first; then comes `after`. A second request is answered with its target.
fn in_two(
    framing: (&'static [u8], &'static [u8]),
    after: impl Fn(&mut Connection) + Send + Sync + 'static,
) -> (Backend, Sender<()>) {
    let (seen, wait_seen) = channel();
    let wait_seen = Mutex::new(wait_seen);
    let backend = Backend::scripted(move |connection| {
        if connection.request().is_none() {
            return;
        }
        connection.say(framing.0);
        wait_seen.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        connection.say(framing.1);
        after(connection);
    });
    (backend, seen)
}

/// Reads an answer whose second part comes only once its first part is here.
fn read_in_two(client: &mut Client, seen: &Sender<()>, turn: usize) {
    let response = client.head();
    assert_eq!(response.status, 200, "turn {turn}: {response:?}");
    seen.send(()).unwrap();
    assert_eq!(client.body(&response.head).unwrap().bytes, b"body", "turn {turn}");
}

/// Waits until the balancer's kernel has acknowledged everything the backend has sent, its ends included: under load
/// they can arrive later than what another thread sends after them.
fn settle(backend: &Backend, ringway: &Ringway) {
    let port = format!(":{:04X}", backend.address.port());
    let unacknowledged = |line: &&str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields[1].ends_with(&port) && fields[3] != "0A" && !fields[4].starts_with("00000000:")
    };
    eventually("the backend's last bytes to arrive", || {
        let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
        (!sockets.lines().skip(1).any(|line| unacknowledged(&line))).then_some(())
    });
    // Once it has dealt with a later signal, it can have dealt with them.
    ringway.stats();
}

fn post(target: &str) -> Vec<u8> {
    format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\ndata").into_bytes()
}

#[test]
fn a_post_after_an_unannounced_close_behind_a_late_body_gets_a_new_connection() {
    for framing in FRAMINGS {
        let (backend, seen) = in_two(framing, |_| {});
        let ringway = Ringway::counted_in_front_of(&[&backend]);
        let mut client = ringway.client();
        for turn in 1..=TURNS {
            client.send(&post(&format!("/{turn}"))).unwrap();
            read_in_two(&mut client, &seen, turn);
            eventually("the backend's close", || (backend.closed() == turn).then_some(()));
            settle(&backend, &ringway);
        }
        let targets: Vec<_> = backend.requests().iter().map(|request| request.target().to_owned()).collect();
        let once: Vec<_> = (1..=TURNS).map(|turn| format!("/{turn}")).collect();
        assert_eq!(targets, once, "each was delivered once");
        assert_eq!(backend.connections(), TURNS);
    }
}

#[test]
fn bytes_that_follow_late_are_not_the_next_answer() {
    for framing in FRAMINGS {
        let (read, wait_read) = channel::<()>();
        let (soiled_here, soiled) = channel();
        let stage = Mutex::new((wait_read, soiled_here));
        let (backend, seen) = in_two(framing, move |connection| {
            {
                let (wait_read, soiled_here) = &*stage.lock().unwrap();
                wait_read.recv_timeout(PATIENCE).unwrap();
                connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nsurplus");
                soiled_here.send(()).unwrap();
            }
            while connection.request().is_some() {
                connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsoiled");
            }
        });
        let ringway = Ringway::counted_in_front_of(&[&backend]);
        let mut client = ringway.client();
        for turn in 1..=TURNS {
            client.send(&post(&format!("/{turn}"))).unwrap();
            read_in_two(&mut client, &seen, turn);
            read.send(()).unwrap();
            soiled.recv_timeout(PATIENCE).unwrap();
            settle(&backend, &ringway);
        }
        let requests = backend.requests();
        assert_eq!(requests.len(), TURNS, "each was delivered once");
        assert_eq!(backend.connections(), TURNS, "a soiled connection is not used again");
        assert!(!client.has_input(), "more than was asked for");
    }
}
