//! TCP mode: turns between connections, what a client is told when nobody is there, and what is counted.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::thread;

use crate::support::kernel::{full_listener, reset_on_close};
use crate::support::ringway::Options;
use crate::support::wire::Closing;
use crate::support::{Acceptor, Backend, Ringway, eventually, refusing_address};

/// A backend that says one line to everybody.
fn announcing(line: &str) -> Backend {
    let line = line.as_bytes().to_vec();
    Backend::scripted(move |connection| connection.say(&line))
}

/// What a connection is told to its end by a balancer of which nothing is asked.
fn told(ringway: &Ringway) -> String {
    String::from_utf8(ringway.client().take_to_end().unwrap()).unwrap()
}

fn tcp() -> Options {
    Ringway::options().tcp().json()
}

/// What `nc` would see: promise 32.
#[test]
fn with_one_backend_of_four_dead_nobody_sees_an_error() {
    let backends = ["alive a\n", "alive b\n", "alive c\n"].map(announcing);
    let (_socket, dead) = refusing_address();
    let [a, b, c] = &backends;
    let ringway = tcp().backends(&[a]).backend(dead).backends(&[b, c]).start();
    let heard: Vec<String> = thread::scope(|scope| {
        let crowd = || (0..60).map(|_| told(&ringway)).collect::<Vec<_>>();
        let crowds: Vec<_> = (0..4).map(|_| scope.spawn(crowd)).collect();
        crowds.into_iter().flat_map(|crowd| crowd.join().unwrap()).collect()
    });
    let mut counts = BTreeMap::<_, usize>::new();
    for line in &heard {
        *counts.entry(line.as_str()).or_default() += 1;
    }
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), ["alive a\n", "alive b\n", "alive c\n"]);
    assert!(counts.values().all(|count| count.abs_diff(80) <= 3), "uneven: {counts:?}");
    let stats = ringway.wait_quiet();
    assert_eq!((stats.counter("tunnels"), stats.counter("tunnels_refused")), (240, 0));
    assert!(stats.counter("retries_connect") >= 1);
    assert_eq!(stats.counter_per_backend("connects").iter().sum::<u64>(), 240);
}

#[test]
fn when_all_are_dead_the_client_is_told_and_the_connection_ends() {
    let dead = [refusing_address(), refusing_address()];
    let ringway = tcp().backend(dead[0].1).backend(dead[1].1).start();
    assert_eq!(told(&ringway), "Server is down\n");
    // Whatever it has to say itself, it hears that, and not a reset.
    for words in [&b"hello\r\n"[..], &[b'x'; 300_000]] {
        let mut client = ringway.client();
        let mut speaking = client.stream.try_clone().unwrap();
        let words = words.to_vec();
        let speaker = thread::spawn(move || speaking.write_all(&words));
        assert_eq!(client.take_to_end().unwrap(), b"Server is down\n");
        let _all_or_not = speaker.join().unwrap();
    }
    let stats = ringway.wait_quiet();
    assert_eq!((stats.counter("tunnels"), stats.counter("tunnels_refused")), (0, 3));
    assert_eq!(stats.counter("fault_no_backend"), 3);
    assert_eq!(stats.counter("client_sent_bytes"), 3 * "Server is down\n".len() as u64);
}

#[test]
fn what_it_says_then_is_the_operators_choice() {
    let (_socket, dead) = refusing_address();
    for (text, heard) in [("Gone fishing", "Gone fishing\n"), ("", "")] {
        let ringway = tcp().backend(dead).arg("--down-text").arg(text).start();
        assert_eq!(told(&ringway), heard);
        assert_eq!(ringway.wait_quiet().counter("tunnels_refused"), 1);
    }
}

#[test]
fn backends_that_come_back_are_used_again() {
    let (socket, address) = refusing_address();
    let ringway = tcp().backend(address).start();
    assert_eq!(told(&ringway), "Server is down\n");
    let _backend = Backend::on_socket(socket, |connection| connection.say(b"back\n"));
    assert_eq!(told(&ringway), "back\n", "who is alone is not ejected");
}

/// True when the kernel asks after the other end of this connection while it is silent (`proc_net_tcp(5)`: timer 2).
fn is_asked_after(wire: &TcpStream) -> bool {
    let ends =
        [wire.peer_addr().unwrap(), wire.local_addr().unwrap()].map(|end| format!(":{:04X}", end.port()));
    let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
    let mut columns = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    columns.any(|columns| {
        [columns[1], columns[2]].iter().zip(&ends).all(|(column, end)| column.ends_with(end))
            && columns[5].starts_with("02:")
    })
}

#[test]
fn the_kernel_looks_after_both_peers_of_a_tunnel_that_falls_silent() {
    let acceptor = Acceptor::new();
    let ringway = tcp().backend(&acceptor.place).start();
    let (client, backend) = acceptor.tunnel(&ringway);
    for wire in [&client.stream, &backend.stream] {
        eventually("the kernel to ask after it", || is_asked_after(wire).then_some(()));
    }
}

#[test]
fn connections_take_turns() {
    let backends = ["a", "b", "c"].map(announcing);
    let ringway = Ringway::tcp_in_front_of(&backends.each_ref());
    let heard: Vec<String> = (0..30).map(|_| told(&ringway)).collect();
    for round in heard.chunks(3) {
        assert_eq!(round, &heard[..3], "not in turn: {heard:?}");
    }
    assert_eq!(backends.each_ref().map(Backend::connections), [10; 3]);
}

#[test]
fn a_connection_stays_with_its_backend() {
    let naming = |id: &'static str| {
        Backend::scripted(move |connection| {
            let name = format!("{id}{}", connection.number);
            while connection.take_exactly(1).is_ok() {
                connection.say(name.as_bytes());
            }
        })
    };
    let backends = ["a", "b", "c"].map(naming);
    let ringway = Ringway::tcp_in_front_of(&backends.each_ref());
    let mut clients: Vec<_> = (0..6).map(|_| ringway.client()).collect();
    let mut rounds = (0..20).map(|_| {
        let ask = |client: &mut crate::support::Client| {
            client.send(b"?").unwrap();
            client.take_exactly(2).unwrap()
        };
        clients.iter_mut().map(ask).collect::<Vec<_>>()
    });
    let first = rounds.next().unwrap();
    assert!(rounds.all(|round| round == first), "{first:?}");
    assert_eq!(backends.each_ref().map(Backend::connections), [2; 3]);
}

/// A handshake without an answer costs one connect time-out, and then another backend is found.
#[test]
fn a_backend_that_does_not_shake_hands_is_passed_over() {
    if !cfg!(debug_assertions) {
        return;
    }
    let hanging = full_listener();
    let alive = announcing("alive\n");
    let ringway = tcp().hastened(10).backend(hanging.address).backends(&[&alive]).start();
    for _ in 0..8 {
        assert_eq!(told(&ringway), "alive\n");
    }
    let stats = ringway.wait_quiet();
    // Set aside after the first time, for longer than the rest takes.
    let timeouts = stats.counter("fault_upstream_connect_timeout");
    assert!((1..=2).contains(&timeouts), "{timeouts}");
    assert_eq!(stats.counter("retries_connect"), timeouts);
    assert_eq!(stats.counter_per_backend("connect_failures"), [timeouts, 0]);
    assert_eq!((stats.counter("tunnels"), stats.counter("tunnels_refused")), (8, 0));
}

#[test]
fn three_backends_are_tried_and_no_more() {
    let dead: Vec<_> = (0..5).map(|_| refusing_address()).collect();
    let ringway = dead.iter().fold(tcp(), |options, (_, address)| options.backend(address)).start();
    assert_eq!(told(&ringway), "Server is down\n");
    let stats = ringway.wait_quiet();
    assert_eq!(stats.counter_per_backend("connect_failures").iter().sum::<u64>(), 3);
    assert_eq!(stats.counter_per_backend("picks").iter().sum::<u64>(), 3);
    assert_eq!(stats.counter("fault_upstream_connect"), 3);
    // The third attempt was the last one: it moved nowhere.
    assert_eq!(stats.counter("retries_connect"), 2);
}

/// Promises 3 and 26: what is open is counted, whatever ends it.
#[test]
fn open_connections_are_counted_per_backend_until_they_end_in_whatever_way() {
    let (a, b) = (Acceptor::new(), Acceptor::new());
    let ringway = tcp().backend(&a.place).backend(&b.place).start();
    for ending in
        ["both FIN", "client closes", "client resets", "backend closes", "backend resets", "unread bytes"]
    {
        let mut open = Vec::new();
        for _ in 0..3 {
            for _ in 0..2 {
                let client = ringway.client();
                let backend = eventually("a backend", || a.try_accept().or_else(|| b.try_accept()));
                open.push((client, backend));
            }
        }
        let three = |stats: &crate::support::stats::Stats| stats.gauge_per_backend("active") == [3, 3];
        let stats = ringway.wait_stats("three connections each", three);
        assert_eq!((stats.gauge("tunnels_active"), stats.gauge("connections_active")), (6, 6));
        for (mut client, mut backend) in open {
            match ending {
                "both FIN" => {
                    client.finish();
                    assert_eq!(backend.closing(), Closing::Fin);
                    backend.finish();
                    assert_eq!(client.closing(), Closing::Fin);
                }
                "client closes" => {
                    drop(client);
                    assert_eq!(backend.closing(), Closing::Fin);
                }
                "client resets" => reset_on_close(&client.stream),
                "backend closes" => {
                    drop(backend);
                    assert_eq!(client.closing(), Closing::Fin);
                }
                "backend resets" => reset_on_close(&backend.stream),
                // A close with bytes unread is a reset.
                _ => {
                    backend.send(b"unread").unwrap();
                    eventually("the bytes", || client.has_input().then_some(()));
                }
            }
        }
        let stats = ringway.wait_quiet();
        assert_eq!(stats.gauge_per_backend("active"), [0, 0], "{ending}");
        assert_eq!(stats.counter("connection_panics"), 0, "{ending}");
    }
    assert_eq!(ringway.wait_quiet().counter("tunnels"), 36);
}

#[test]
fn a_server_may_speak_first() {
    let backend = Backend::scripted(|connection| {
        connection.say(b"220 ready\r\n");
        while let Ok(line) = connection.take_exactly(6) {
            connection.say(if line == b"QUIT\r\n" { b"221 bye\r\n" } else { b"250 fine\r\n" });
            if line == b"QUIT\r\n" {
                return;
            }
        }
    });
    let ringway = Ringway::tcp_in_front_of(&[&backend]);
    let mut client = ringway.client();
    assert_eq!(client.take_exactly(11).unwrap(), b"220 ready\r\n");
    client.send(b"HELO\r\n").unwrap();
    assert_eq!(client.take_exactly(10).unwrap(), b"250 fine\r\n");
    client.send(b"QUIT\r\n").unwrap();
    assert_eq!(client.take_to_end().unwrap(), b"221 bye\r\n");
}

/// Promise 1: a byte a time stays a byte a time. Each has arrived before the next is sent.
#[test]
fn single_bytes_arrive_one_by_one() {
    let acceptor = Acceptor::new();
    let ringway = tcp().backend(&acceptor.place).start();
    let (mut client, mut backend) = acceptor.tunnel(&ringway);
    for byte in 0..=255u8 {
        client.send(&[byte]).unwrap();
        assert_eq!(backend.take_exactly(1).unwrap(), [byte]);
        backend.send(&[!byte]).unwrap();
        assert_eq!(client.take_exactly(1).unwrap(), [!byte]);
    }
    for byte in 0..=255u8 {
        client.send(&[byte]).unwrap();
        assert_eq!(backend.take_exactly(1).unwrap(), [byte]);
    }
}

/// Promise 40, the second half: nothing in TCP mode looks at the upgrade, so it works.
#[test]
fn a_websocket_works_without_being_understood() {
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let backend = Backend::scripted(|connection| {
        if let Some(request) = connection.request() {
            assert_eq!(request.head.value("x-forwarded-for"), None);
            connection.say(&[&switch[..], b"\x81\x05hello"].concat());
            while let Ok(frame) = connection.take_some() {
                connection.say(&frame);
            }
        }
    });
    let ringway = Ringway::tcp_in_front_of(&[&backend]);
    let mut client = ringway.client();
    client
        .send(b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .unwrap();
    assert_eq!(client.head().status, 101);
    assert_eq!(client.take_exactly(7).unwrap(), b"\x81\x05hello");
    for frame in [&b"\x81\x85\0\0\0\0again"[..], b"\x89\x80\0\0\0\0", &[0x82; 5000]] {
        client.send(frame).unwrap();
        assert_eq!(client.take_exactly(frame.len()).unwrap(), frame);
    }
    client.finish();
    assert_eq!(client.closing(), Closing::Fin);
    assert_eq!(backend.heads(), 1);
}
