//! UDP mode and the health of backends: who is out loses its flows, and who is back is found out without an answer.

use std::net::{SocketAddr, UdpSocket};

use crate::support::datagram::{DatagramBackend, DatagramClient};
use crate::support::stats::backends;
use crate::support::{Configured, eventually};

/// A UDP listener and two backends, the first with a state of its own.
fn cluster(backends: [&DatagramBackend; 2], state: &str, more: &str) -> String {
    let [first, second] = backends.map(|backend| backend.address);
    format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\nmode = \"udp\"\n[[cluster]]\n{more}\nbackend = [{{ address = \"{first}\", \
         state = \"{state}\" }}, \"{second}\"]\n"
    )
}

fn state(ringway: &Configured) -> String {
    backends(ringway.stats().total())[0]["state"].as_str().unwrap().to_owned()
}

/// A socket that refuses everybody until it is told to receive, and its address, which is never anybody else's meanwhile.
fn deaf() -> (UdpSocket, SocketAddr) {
    // Only a port that was asked for stays bound to a socket that changes its mind.
    let socket = eventually("a port of its own", || {
        let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        UdpSocket::bind(free).ok()
    });
    socket.connect("127.0.0.1:9").unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Collectors of logs and metrics never answer.
#[test]
fn a_backend_that_never_answers_comes_back_after_it_was_ejected() {
    let (collector, dead) = deaf();
    let alive = DatagramBackend::silent();
    let circuit = "failures = 1, open = \"100ms\", open_max = \"100ms\"";
    let text = format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\nmode = \"udp\"\n[[cluster]]\ncircuit = {{ {circuit} }}\n\
         backend = [\"{dead}\", \"{}\"]\n",
        alive.address
    );
    let ringway = Configured::start(2, &text);
    let say = || DatagramClient::new(ringway.address()).send(b"one way");
    eventually("its ejection", || {
        say();
        (state(&ringway) != "up").then_some(())
    });
    rustix::net::connect_unspec(&collector).unwrap();
    eventually("its return", || {
        say();
        (state(&ringway) == "up").then_some(())
    });
    while collector.recv(&mut [0; 16]).is_ok() {}
    eventually("its share", || {
        say();
        collector.recv(&mut [0; 16]).ok()
    });
}

/// Promise 23.
#[test]
fn flows_leave_a_backend_that_goes_out_unless_they_are_to_stay() {
    for (on_down, moves) in [
        ("", true),
        ("on_down = \"auto\"", true),
        ("on_down = \"close\"", true),
        ("on_down = \"keep\"", false),
    ] {
        let (a, b) = (DatagramBackend::named("a"), DatagramBackend::named("b"));
        let ringway = Configured::start(1, &cluster([&a, &b], "ready", on_down));
        let mut clients: Vec<_> = (0..8).map(|_| DatagramClient::new(ringway.address())).collect();
        let homes: Vec<_> = clients.iter_mut().map(|client| client.ask(b"x")).collect();
        assert_eq!(homes.iter().filter(|home| *home == b"a:x").count(), 4);
        ringway.reload(&cluster([&a, &b], "maint", on_down));
        let after: Vec<_> = clients.iter_mut().map(|client| client.ask(b"x")).collect();
        match moves {
            true => assert!(after.iter().all(|home| home == b"b:x"), "{on_down}: {after:?}"),
            false => assert_eq!(after, homes),
        }
        let moved = ringway.stats().counter("udp_sessions_moved");
        assert_eq!(moved, if moves { 4 } else { 0 }, "{on_down}");
        ringway.reload(&cluster([&a, &b], "drain", on_down));
        let last: Vec<_> = clients.iter_mut().map(|client| client.ask(b"x")).collect();
        assert_eq!(last, after, "{on_down}: nobody is sent away from one that drains");
    }
}

/// What never asks again hears nothing more of it either.
#[test]
fn a_flow_that_only_listens_is_cut_off_where_work_is_closed() {
    let (talking, talks) = std::sync::mpsc::channel::<(std::net::UdpSocket, std::net::SocketAddr)>();
    let a = DatagramBackend::scripted("127.0.0.1:0", move |socket, from, _| {
        let _gone = talking.send((socket.try_clone().unwrap(), from));
    });
    let b = DatagramBackend::silent();
    let close = "on_down = \"close\"";
    let ringway = Configured::start(1, &cluster([&a, &b], "ready", close));
    let mut clients = [(); 2].map(|()| DatagramClient::new(ringway.address()));
    clients.iter().for_each(|client| client.send(b"hello"));
    let (socket, from) = talks.recv_timeout(crate::support::PATIENCE).unwrap();
    socket.send_to(b"news", from).unwrap();
    let heard = |client: &mut DatagramClient| {
        client.socket.set_read_timeout(Some(crate::support::PATIENCE / 100)).unwrap();
        client.try_receive().is_ok()
    };
    eventually("the news", || clients.iter_mut().any(heard).then_some(()));
    ringway.reload(&cluster([&a, &b], "maint", close));
    socket.send_to(b"news", from).unwrap();
    ringway.wait_stats("the end of its flow", |stats| stats.counter("udp_sessions_moved") == 1);
}
