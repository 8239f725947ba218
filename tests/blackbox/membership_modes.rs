//! A reload reaches listeners of every kind.

use crate::membership::{cluster, listener};
use crate::support::datagram::{DatagramBackend, DatagramClient};
use crate::support::{Acceptor, Backend, Client, Configured};

#[test]
fn every_kind_of_listener_follows_a_reload() {
    let web = ["a", "b"].map(Backend::well_behaved);
    let tunnels = [Acceptor::new(), Acceptor::new()];
    let names = ["a", "b"].map(DatagramBackend::named);
    let file = |which: usize| {
        let udp = names[which].address.to_string();
        listener("web", "http", "web")
            + &listener("raw", "tcp", "raw")
            + &listener("dns", "udp", "dns")
            + &cluster("web", &[(&web[which].place, 1)])
            + &cluster("raw", &[(&tunnels[which].place, 1)])
            + &cluster("dns", &[(&udp, 1)])
    };
    let ringway = Configured::start(2, &file(0));
    let [http, tcp, udp] = ["web", "raw", "dns"].map(|name| ringway.listener(name));
    let mut kept = Client::connect(http);
    assert_eq!(kept.get("/").text(), "a");
    let (mut client, mut backend) = (Client::connect(tcp), tunnels[0].accept());
    let mut flow = DatagramClient::new(udp);
    assert_eq!(flow.ask_patiently(b"one"), b"a:one");

    ringway.reload(&file(1));
    assert_eq!(["web", "raw", "dns"].map(|name| ringway.listener(name)), [http, tcp, udp]);
    assert_eq!(kept.get("/").text(), "b");
    assert_eq!(Client::connect(http).get("/").text(), "b");
    // The tunnel goes on, and a new one goes to the new backend.
    client.send(b"ping").unwrap();
    assert_eq!(backend.take_exactly(4).unwrap(), b"ping");
    backend.send(b"pong").unwrap();
    assert_eq!(client.take_exactly(4).unwrap(), b"pong");
    let (mut newer, mut other) = (Client::connect(tcp), tunnels[1].accept());
    newer.send(b"ping").unwrap();
    assert_eq!(other.take_exactly(4).unwrap(), b"ping");
    // A flow keeps its backend, and a new one does not.
    assert_eq!(flow.ask_patiently(b"two"), b"a:two");
    assert_eq!(DatagramClient::new(udp).ask_patiently(b"three"), b"b:three");
}

/// What a worker may have is shared by the listeners of the plan in force, not by those there were when each was bound.
#[test]
fn flows_make_room_for_a_listener_that_a_reload_brings() {
    const MAX: u64 = 8192;
    // Some have the port of another one that has gone.
    const ASKED: u64 = MAX / 4 * 3;
    let backend = DatagramBackend::echoing();
    let place = backend.address.to_string();
    let one = listener("dns", "udp", "dns") + &cluster("dns", &[(&place, 1)]);
    let ringway = Configured::start(1, &one);
    let ask = || assert_eq!(DatagramClient::new(ringway.listener("dns")).ask_patiently(b"x"), b"x");
    (0..ASKED).for_each(|_| ask());
    let stats = ringway.stats();
    let (known, opened) = (stats.gauge("udp_sessions_active"), stats.counter("udp_sessions_opened"));
    assert!(known > MAX / 2, "{known}");
    ringway.reload(&(listener("more", "udp", "dns") + &one));
    while ringway.stats().counter("udp_sessions_opened") == opened {
        ask();
    }
    let stats = ringway.stats();
    assert_eq!(stats.gauge("udp_sessions_active"), MAX / 2);
    assert_eq!(stats.counter("udp_sessions_evicted"), known + 1 - MAX / 2);
}
