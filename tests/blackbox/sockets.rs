//! What every socket of the balancer is set to, looked at from outside by descriptors of our own.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::sockopt;

use crate::support::datagram::{DatagramBackend, DatagramClient, udp_options};
use crate::support::wire::Wire;
use crate::support::{Acceptor, Client, Directory, Ringway, eventually, kernel};

/// The balancer's ends of a connection through it, with whom they lead to; none where nobody may look at them.
fn both_ends(ringway: &Ringway, client: &Client, backend: &Wire) -> Vec<(OwnedFd, &'static str)> {
    let streams = [(&client.stream, "client"), (&backend.stream, "backend")];
    let ends = streams.map(|(stream, side)| {
        let ends: Option<Vec<_>> =
            ringway.workers().into_iter().map(|worker| kernel::other_end(worker, stream)).collect();
        Some((ends?.into_iter().flatten().next().unwrap(), side))
    });
    if ends.iter().any(Option::is_none) {
        eprintln!("nobody may look at the sockets of another process here");
    }
    ends.into_iter().flatten().collect()
}

/// A tunnel in TCP mode, and a connection in HTTP mode with a request that is being answered.
fn connections() -> [(Ringway, Client, Wire); 2] {
    let tcp = Acceptor::new();
    let tunnels = Ringway::options().tcp().backend(&tcp.place).start();
    let (client, backend) = tcp.tunnel(&tunnels);
    let http = Acceptor::new();
    let requests = Ringway::options().backend(&http.place).start();
    let mut asking = requests.client();
    asking.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut answering = http.accept();
    answering.take_head().unwrap();
    [(tunnels, client, backend), (requests, asking, answering)]
}

#[test]
fn small_messages_wait_for_nothing_on_both_sides() {
    for (ringway, client, backend) in connections() {
        for (socket, side) in &both_ends(&ringway, &client, &backend) {
            assert!(sockopt::tcp_nodelay(socket).unwrap(), "TCP_NODELAY, {side}");
        }
    }
}

/// A peer that acknowledges nothing is given up, and one that is silent is asked whether it is there.
#[test]
fn both_peers_of_a_silent_tunnel_are_given_up_when_they_acknowledge_nothing() {
    let [(ringway, client, backend), _] = connections();
    for (socket, side) in &both_ends(&ringway, &client, &backend) {
        let given_up = || Some(sockopt::tcp_user_timeout(socket).unwrap()).filter(|time| *time != 0);
        assert_eq!(eventually("TCP_USER_TIMEOUT", given_up), 900_000, "{side}");
        assert!(sockopt::socket_keepalive(socket).unwrap(), "{side}");
        let times = (sockopt::tcp_keepidle(socket).unwrap(), sockopt::tcp_keepintvl(socket).unwrap());
        assert_eq!(times, (Duration::from_secs(60), Duration::from_secs(60)), "{side}");
    }
}

/// No program that it might start one day would have them (`open(2)`, O_CLOEXEC).
#[test]
fn no_socket_outlives_the_program() {
    let check = |ringway: &Ringway, least: usize| {
        let sockets = ringway.sockets();
        let left: Vec<_> = sockets.iter().filter(|(_, is_closed)| !is_closed).collect();
        assert!(sockets.len() >= least && left.is_empty(), "{left:?} of {sockets:?}");
    };
    for (ringway, ..) in connections() {
        // A listener, and both ends of what goes through.
        check(&ringway, 3);
    }
    let directory = Directory::new();
    let acceptor = Acceptor::at(&directory.socket("backend"));
    let options = Ringway::options().tcp().listen(&directory.socket("listener")).backend(&acceptor.place);
    let over_unix = options.arg("--admin").arg("127.0.0.1:0").start();
    let _tunnel = acceptor.tunnel(&over_unix);
    check(&over_unix, 4);
    let backend = DatagramBackend::echoing();
    let datagrams = udp_options(&[backend.address]).start();
    assert_eq!(DatagramClient::new(datagrams.address()).ask(b"x"), b"x");
    check(&datagrams, 2);
}
