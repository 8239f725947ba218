//! UDP mode: every datagram arrives whole, at one backend for each flow, and the answers find their way back.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};

use crate::support::datagram::{DatagramBackend, DatagramClient, udp_options};
use crate::support::kernel::{allowed_cores, cut_datagrams};
use crate::support::ringway::Options;
use crate::support::stats::Stats;
use crate::support::{PATIENCE, Ringway, Seed, digest};

/// The largest datagram of IPv4.
const LARGEST: usize = 65_507;

/// One worker in front of these backends, listening on addresses of the caller's choice.
fn listening(listen: &str, backends: &[&DatagramBackend]) -> Ringway {
    let backends: Vec<_> = backends.iter().map(|backend| format!("udp://{}", backend.address)).collect();
    let mut command = Options::bare();
    command.args(["--mode", "udp", "--cores", &allowed_cores()[0].to_string(), "--log-format", "json"]);
    command.args(["--listen", listen, "--backends", &backends.join(",")]);
    Ringway::spawn(command)
}

/// The statistics once this many datagrams were sent to clients, which are counted a moment after they have left.
fn stats_after(ringway: &Ringway, datagrams: u64) -> Stats {
    ringway.wait_stats("all datagrams", |stats| stats.counter("udp_client_sent") >= datagrams)
}

/// Which backend has answered, by the name in front of the colon.
fn name(answer: &[u8]) -> String {
    String::from_utf8_lossy(answer.split(|byte| *byte == b':').next().unwrap()).into_owned()
}

#[test]
fn datagrams_of_every_size_come_back_as_they_were() {
    let backend = DatagramBackend::echoing();
    let ringway = udp_options(&[backend.address]).start();
    let mut client = DatagramClient::new(ringway.address());
    let mut seed = Seed::new(1);
    let (mut sizes, mut bytes) = (0, 0);
    // Every size a link can carry in one piece, and then some of each kind.
    for size in (0..=9000).chain((9001..LARGEST).step_by(61)).chain(LARGEST - 20..=LARGEST) {
        let sent = seed.bytes(size);
        let came = client.ask(&sent);
        assert_eq!((came.len(), digest(&came)), (size, digest(&sent)), "of {size} bytes");
        (sizes, bytes) = (sizes + 1, bytes + size as u64);
    }
    let stats = stats_after(&ringway, sizes);
    for name in ["udp_client_received", "udp_upstream_sent", "udp_upstream_received", "udp_client_sent"] {
        assert_eq!(stats.counter(name), sizes, "{name}");
    }
    for name in
        ["client_received_bytes", "upstream_sent_bytes", "upstream_received_bytes", "client_sent_bytes"]
    {
        assert_eq!(stats.counter(name), bytes, "{name}");
    }
    assert_eq!((stats.counter("udp_sessions_opened"), stats.gauge("udp_sessions_active")), (1, 1));
    assert_eq!(stats.backend_gauge("active"), 1);
}

#[test]
fn an_empty_datagram_opens_a_flow_like_any_other() {
    let backend = DatagramBackend::echoing();
    let ringway = udp_options(&[backend.address]).start();
    let mut client = DatagramClient::new(ringway.address());
    assert_eq!(client.ask(b""), b"");
    assert_eq!(client.ask(b"x"), b"x");
}

#[test]
fn flows_take_turns_over_the_backends_and_each_keeps_its_own() {
    let backends = ["a", "b", "c"].map(DatagramBackend::named);
    let ringway = udp_options(&backends.each_ref().map(|backend| backend.address)).start();
    let mut clients: Vec<_> = (0..12).map(|_| DatagramClient::new(ringway.address())).collect();
    let homes: Vec<_> = clients.iter_mut().map(|client| name(&client.ask(b"hello"))).collect();
    let mut counts = BTreeMap::<_, usize>::new();
    homes.iter().for_each(|home| *counts.entry(home.as_str()).or_default() += 1);
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [4, 4, 4], "{homes:?}");
    let mut seed = Seed::new(3);
    for turn in 0..2000 {
        let number = seed.between(0, clients.len() - 1);
        let said = format!("{turn} of {number}");
        let answer = clients[number].ask(said.as_bytes());
        assert_eq!(String::from_utf8_lossy(&answer), format!("{}:{said}", homes[number]));
    }
    for (number, client) in clients.iter().enumerate() {
        let backend = backends.iter().find(|backend| {
            backend.arrivals().iter().any(|(_, bytes)| bytes.ends_with(format!(" of {number}").as_bytes()))
        });
        let arrivals = backend.unwrap().arrivals();
        let ports: std::collections::HashSet<_> = arrivals
            .iter()
            .filter(|(_, bytes)| bytes.ends_with(format!(" of {number}").as_bytes()))
            .map(|(from, _)| from.port())
            .collect();
        assert_eq!(ports.len(), 1, "the flow of {:?} changed its port", client.socket);
    }
}

#[test]
fn answers_come_from_the_address_that_was_asked() {
    let backend = DatagramBackend::echoing();
    let ringway = listening("0.0.0.0:0", &[&backend]);
    let port = ringway.address().port();
    // One client port speaks to several addresses, so the local address must be a part of what makes a flow.
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    for round in 0..3 {
        for host in [5, 1, 77] {
            let asked = SocketAddr::from(([127, 0, 0, host], port));
            let said = format!("{round} to {host}");
            client.send_to(said.as_bytes(), asked).unwrap();
            let mut room = [0; 100];
            let (length, from) = client.recv_from(&mut room).unwrap();
            assert_eq!((from, &room[..length]), (asked, said.as_bytes()));
        }
    }
    assert_eq!(ringway.stats().gauge("udp_sessions_active"), 3);
}

#[test]
fn ipv6_works_on_both_sides() {
    if UdpSocket::bind("[::1]:0").is_err() {
        eprintln!("this machine has no IPv6");
        return;
    }
    for (listen, backend) in [("[::1]:0", "[::1]:0"), ("[::]:0", "127.0.0.1:0"), ("127.0.0.1:0", "[::1]:0")] {
        let backend = DatagramBackend::echoing_at(backend);
        let ringway = listening(listen, &[&backend]);
        let mut address = ringway.address();
        if address.ip().is_unspecified() {
            address.set_ip("::1".parse().unwrap());
        }
        let mut client = DatagramClient::new(address);
        let mut seed = Seed::new(5);
        for size in [0, 1, 1232, 9000, LARGEST] {
            let bytes = seed.bytes(size);
            assert!(client.ask(&bytes) == bytes, "{size} bytes by {listen}");
        }
    }
}

/// A query for the address of a name (RFC 1035, section 4).
fn query(id: u16, name: &str) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

#[test]
fn dns_works() {
    // The answer repeats the question and gives an address made of the name's length.
    let servers = [1, 2].map(|server| {
        DatagramBackend::scripted("127.0.0.1:0", move |socket, from, query| {
            let mut answer = query.to_vec();
            answer[2..4].copy_from_slice(&[0x81, 0x80]);
            answer[6..8].copy_from_slice(&[0, 1]);
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, server, query[12]]);
            socket.send_to(&answer, from).unwrap();
        })
    });
    let ringway = udp_options(&servers.each_ref().map(|server| server.address)).start();
    let (mut servers, mut ports) = (Vec::new(), Vec::new());
    for id in 0..100 {
        // A resolver takes a fresh port for each query.
        let mut client = DatagramClient::new(ringway.address());
        let asked = query(id, ["www.example.org", "a.b.test"][usize::from(id % 2)]);
        let answer = client.ask(&asked);
        assert_eq!(answer[..2], id.to_be_bytes());
        assert_eq!(answer[12..asked.len()], asked[12..]);
        let [.., 10, 0, server, length] = answer[..] else { panic!("no address in {answer:?}") };
        assert_eq!(length, asked[12]);
        servers.push(server);
        // While its flow lives, nobody else may get its port.
        ports.push(client);
    }
    assert!(servers.chunks(2).all(|pair| pair[0] != pair[1]), "not in turn: {servers:?}");
}

/// What a client sent as number `number`: recognisable, of pseudo-random size and content.
fn numbered(client: usize, number: u32) -> Vec<u8> {
    let mut seed = Seed::new((client as u64) << 32 | u64::from(number));
    let size = if number.is_multiple_of(50) { seed.between(8, 20_000) } else { seed.between(8, 1500) };
    let mut bytes = seed.bytes(size);
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    bytes[4..8].copy_from_slice(&u32::try_from(client).unwrap().to_le_bytes());
    bytes
}

#[test]
fn twenty_thousand_datagrams_of_several_clients_all_come_back() {
    const EACH: u32 = 2500;
    /// In flight per client; few enough for the queues of backends and clients.
    const WINDOW: u32 = 4;
    let backends = [(); 3].map(|()| DatagramBackend::echoing());
    let addresses = backends.each_ref().map(|backend| backend.address);
    let ringway = udp_options(&addresses).cores(2).start();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let mut client = DatagramClient::new(ringway.address());
            scope.spawn(move || {
                let (mut sent, mut came) = (0, 0);
                let mut missing: std::collections::HashSet<u32> = (0..EACH).collect();
                while came < EACH {
                    while sent < EACH && sent - came < WINDOW {
                        client.send(&numbered(number, sent));
                        sent += 1;
                    }
                    let answer = client.receive();
                    let which = u32::from_le_bytes(*answer.first_chunk().unwrap());
                    assert!(missing.remove(&which), "{which} came twice");
                    assert!(
                        answer == numbered(number, which),
                        "client {number}: {which} is not what was sent"
                    );
                    came += 1;
                }
            });
        }
    });
    let stats = stats_after(&ringway, u64::from(8 * EACH));
    assert_eq!(stats.counter("udp_client_sent"), u64::from(8 * EACH));
    assert_eq!((stats.counter("udp_sessions_opened"), stats.gauge("udp_sessions_active")), (8, 8));
    for name in ["udp_dropped", "udp_oversized", "udp_truncated", "udp_refused", "udp_unreachable"] {
        assert_eq!(stats.counter(name), 0, "{name}");
    }
}

/// A sender of bulk hands the kernel many datagrams at once, which arrive together and must leave as they were.
#[test]
fn datagrams_sent_together_stay_apart() {
    let backend = DatagramBackend::echoing();
    let ringway = udp_options(&[backend.address]).start();
    let mut seed = Seed::new(11);
    let mut client = DatagramClient::new(ringway.address());
    let mut total = 0;
    for (size, count, rest) in
        [(1200, 20, 7), (1200, 40, 0), (1, 30, 0), (100, 1, 99), (30_000, 2, 1), (500, 63, 250)]
    {
        cut_datagrams(&client.socket, size);
        let bytes = seed.bytes(usize::from(size) * count + rest);
        client.send(&bytes);
        for sent in bytes.chunks(usize::from(size)) {
            assert!(client.receive() == *sent, "{count} times {size} and {rest}");
            total += 1;
        }
    }
    let stats = stats_after(&ringway, total);
    for name in ["udp_client_received", "udp_upstream_sent", "udp_upstream_received", "udp_client_sent"] {
        assert_eq!(stats.counter(name), total, "{name}");
    }
}

#[test]
fn answers_sent_together_stay_apart() {
    let bytes = Seed::new(13).bytes(1300 * 30 + 55);
    let answer = bytes.clone();
    let backend = DatagramBackend::scripted("127.0.0.1:0", move |socket, from, _| {
        cut_datagrams(socket, 1300);
        socket.send_to(&answer, from).unwrap();
    });
    let ringway = udp_options(&[backend.address]).start();
    let mut clients = [(); 3].map(|()| DatagramClient::new(ringway.address()));
    for _ in 0..5 {
        for client in &mut clients {
            client.send(b"more");
            for expected in bytes.chunks(1300) {
                assert!(client.receive() == *expected);
            }
        }
    }
}

#[test]
fn two_workers_never_share_a_flow() {
    if allowed_cores().len() < 2 {
        eprintln!("there is only one core, and so no second worker");
        return;
    }
    let backends = ["a", "b"].map(DatagramBackend::named);
    let addresses = backends.each_ref().map(|backend| backend.address);
    let ringway = udp_options(&addresses).cores(2).start();
    let mut clients: Vec<_> = (0..40).map(|_| DatagramClient::new(ringway.address())).collect();
    let homes: Vec<_> = clients.iter_mut().map(|client| name(&client.ask(b"x"))).collect();
    for _ in 0..10 {
        for (client, home) in clients.iter_mut().zip(&homes) {
            assert_eq!(&name(&client.ask(b"y")), home);
        }
    }
    let stats = ringway.stats();
    let sessions = stats.gauge_per_worker("udp_sessions_active");
    assert!(sessions.iter().sum::<u64>() == 40 && sessions.iter().all(|count| *count > 0), "{sessions:?}");
    assert_eq!(stats.counter("udp_sessions_opened"), 40);
}

#[test]
fn the_start_names_the_mode() {
    let backend = DatagramBackend::echoing();
    let ringway = udp_options(&[backend.address]).start();
    let lines = ringway.lines();
    assert!(lines.iter().any(|line| line.contains("listening on") && line.contains("\"udp\"")), "{lines:#?}");
}
