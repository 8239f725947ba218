//! Who may come in, and how many connections of one client there may be: in every mode, over all workers.

use std::net::{IpAddr, Ipv4Addr};

use crate::support::configured::mistakes;
use crate::support::datagram::{DatagramBackend, DatagramClient};
use crate::support::introduction::v1;
use crate::support::kernel::reset_on_close;
use crate::support::stats::Stats;
use crate::support::wire::Closing;
use crate::support::{Backend, Client, Configured, Directory, Failure, eventually};

const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));

/// A listener with these keys, its cluster, and these routes.
fn text(listener: &str, backend: &str, routes: &str) -> String {
    format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\ncluster = \"all\"\n{listener}\n\
         [[cluster]]\nname = \"all\"\nbackend = \"{backend}\"\n{routes}\n"
    )
}

/// Names itself in every protocol over a stream; never answers `/never`, never ends `/endless`.
fn backend() -> Backend {
    Backend::scripted(|connection| {
        while let Some(request) = connection.request() {
            match request.target() {
                "/never" => _ = connection.wait_closed(),
                "/endless" => {
                    connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n");
                    while connection.send(&[b'x'; 10_000]).is_ok() {}
                }
                "/socket" => {
                    connection.say(
                        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nhello",
                    );
                    _ = connection.wait_closed();
                }
                _ => {
                    connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na");
                    continue;
                }
            }
            return;
        }
    })
}

/// True when a client from there is served, false when it is reset at once.
fn is_served(ringway: &Configured, source: IpAddr) -> bool {
    let mut client = ringway.client_from(source);
    // A reset is told once: to the request that could not be sent, or to who waits for an answer.
    let sent = client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    match client.response_to("GET") {
        Ok(response) => {
            assert_eq!(response.status, 200);
            true
        }
        Err(failure) => {
            let reset = sent.is_err() || matches!(failure, Failure::Nothing(Closing::Reset));
            assert!(reset, "{failure:?}");
            false
        }
    }
}

#[test]
fn networks_are_let_in_or_reset() {
    let backend = backend();
    for mode in ["http", "tcp"] {
        let start = |keys: &str| {
            Configured::start(2, &text(&format!("mode = \"{mode}\"\n{keys}"), &backend.place, ""))
        };
        for (keys, served) in [
            ("allow = \"127.0.0.2\"", [true, false]),
            ("deny = \"127.0.0.2/32\"", [false, true]),
            ("allow = [\"127.0.0.0/8\", \"10.0.0.0/8\"]\ndeny = \"127.0.0.2/31\"", [false, false]),
            ("allow = \"10.0.0.0/8\"", [false, false]),
            ("deny = \"::/0\"", [true, true]),
        ] {
            let ringway = start(keys);
            assert_eq!([SOURCE, OTHER].map(|source| is_served(&ringway, source)), served, "{mode} {keys}");
            let stats = ringway.wait_quiet();
            let denied = served.iter().filter(|served| !**served).count() as u64;
            assert_eq!(
                (stats.counter("connections_denied"), stats.counter("connections_accepted")),
                (denied, 2)
            );
        }
        let silent = start("deny = \"all\"").client_from(SOURCE).closing();
        assert_eq!(silent, Closing::Reset, "nobody waits for the client to speak first");
    }
}

#[test]
fn datagrams_of_other_networks_are_dropped() {
    let backend = DatagramBackend::echoing();
    let text = text("mode = \"udp\"\ndeny = \"127.0.0.0/8\"", &backend.address.to_string(), "");
    let ringway = Configured::start(2, &text);
    let mut client = DatagramClient::new(ringway.address());
    client.send(b"one");
    client.send(b"two");
    let stats = ringway.wait_stats("both", |stats| stats.counter("udp_denied") == 2);
    assert_eq!(stats.counter("udp_sessions_opened"), 0);
    ringway.reload(&text.replace("deny = \"127.0.0.0/8\"", "allow = \"127.0.0.1\""));
    assert_eq!(client.ask_patiently(b"three"), b"three");
    assert!(backend.arrivals().iter().all(|(_, bytes)| bytes == b"three"));
}

/// The proxy itself may come in, whatever its address: whom it speaks for may not.
#[test]
fn behind_a_proxy_its_clients_are_asked() {
    let backend = backend();
    for mode in ["http", "tcp"] {
        let keys = format!(
            "mode = \"{mode}\"\naccept_proxy = \"127.0.0.1\"\nallow = \"10.0.0.0/8\"\ndeny = \"10.0.0.66\""
        );
        let ringway = Configured::start(2, &text(&keys, &backend.place, ""));
        for (source, served) in [("10.0.0.1:5", true), ("10.0.0.66:5", false), ("11.0.0.1:5", false)] {
            let mut client = ringway.client();
            client.send(&v1(source, "10.9.9.9:80")).unwrap();
            if served {
                assert_eq!(client.get("/").status, 200, "{mode} {source}");
            } else {
                assert_eq!(client.closing(), Closing::Reset, "{mode} {source}");
            }
        }
        // Nobody speaks for the others.
        assert_eq!(ringway.client_from(OTHER).closing(), Closing::Reset);
        assert_eq!(ringway.wait_quiet().counter("connections_denied"), 3);
    }
}

#[test]
fn a_route_answers_403_and_the_connection_goes_on() {
    let backend = backend();
    let routes = "[[route]]\npath_prefix = \"/admin\"\ncluster = \"all\"\nallow = \"127.0.0.2\"\n\
                  [[route]]\npath_prefix = \"/away\"\nredirect = { path = \"/\" }\ndeny = \"127.0.0.2\"\n";
    let ringway = Configured::start(1, &text("", &backend.place, routes));
    let statuses = |source| {
        let mut client = ringway.client_from(source);
        let answers = ["/admin/x", "/away", "/", "/administration"].map(|path| client.get(path));
        assert!(answers.iter().all(|answer| !answer.says_close()));
        answers.map(|answer| answer.status)
    };
    assert_eq!(statuses(SOURCE), [200, 403, 200, 200]);
    assert_eq!(statuses(OTHER), [403, 302, 200, 200]);
    let stats = ringway.stats();
    assert_eq!((stats.counter("requests_denied"), stats.counter("fault_no_route")), (2, 0));
    let mut client = ringway.client_from(OTHER);
    client.send(b"POST /admin HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n").unwrap();
    let refused = client.response();
    assert_eq!((refused.status, refused.says_close(), refused.head.has("retry-after")), (403, true, false));
}

/// What a client that has been served once may be doing when it disappears.
const PHASES: &[&[u8]] = &[
    b"",
    b"GET /so",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /socket HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nhello",
    b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
];

/// A connection that has been served once. Those before it may still be on their way out.
fn admitted(ringway: &Configured) -> Client {
    eventually("a place for another connection", || {
        let mut client = ringway.client_from(SOURCE);
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").ok()?;
        client.response_to("GET").ok().map(|_| client)
    })
}

/// Takes up the limit in every phase, and disappears from all of them.
fn come_and_go(ringway: &Configured, reset: bool) {
    let mut held = vec![ringway.client_from(SOURCE)];
    for phase in PHASES {
        let mut client = admitted(ringway);
        client.send(phase).unwrap();
        if phase.starts_with(b"GET /endless") || phase.starts_with(b"GET /socket") {
            client.take_some().unwrap();
        }
        held.push(client);
    }
    held.iter().filter(|_| reset).for_each(|client| reset_on_close(&client.stream));
}

/// Whichever way connections end, they do not count any more then, and nobody counts less than it has.
#[test]
fn a_client_has_so_many_connections_whatever_becomes_of_them() {
    let backend = backend();
    let most = PHASES.len() + 1;
    for mode in ["http", "tcp"] {
        let keys = format!("mode = \"{mode}\"\nmax_connections_per_client = {most}");
        let ringway = Configured::start(2, &text(&keys, &backend.place, ""));
        for reset in [true, false] {
            come_and_go(&ringway, reset);
        }
        let before = ringway.wait_quiet();
        assert_eq!(before.counter("client_table_full"), 0);
        let mut all: Vec<_> = (0..most).map(|_| ringway.client_from(SOURCE)).collect();
        all.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200, "{mode}"));
        for _ in 0..3 {
            assert!(!is_served(&ringway, SOURCE), "one more than it may have");
        }
        assert!(is_served(&ringway, OTHER), "somebody else");
        let refused = |stats: &Stats| stats.counter("connections_over_client_limit");
        let after = ringway.wait_stats("three refusals", |stats| refused(stats) == refused(&before) + 3);
        let shares = after.gauge_per_worker("connections_active");
        assert!(shares.iter().all(|share| *share > 0), "one worker has them all: {shares:?}");
        drop(all.pop());
        eventually("a place", || is_served(&ringway, SOURCE).then_some(()));
    }
}

#[test]
fn behind_a_proxy_its_clients_are_counted_and_not_the_proxy() {
    let backend = backend();
    for mode in ["http", "tcp"] {
        let keys = format!("mode = \"{mode}\"\naccept_proxy = \"all\"\nmax_connections_per_client = 2");
        let ringway = Configured::start(2, &text(&keys, &backend.place, ""));
        let connect = |source: &str| {
            let mut client = ringway.client();
            client.send(&v1(source, "10.9.9.9:80")).unwrap();
            client
        };
        let mut served: Vec<_> =
            ["10.0.0.1:1", "10.0.0.1:2", "10.0.0.2:1", "10.0.0.2:2", "10.0.0.3:1"].map(connect).into();
        served.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200));
        assert_eq!(connect("10.0.0.1:3").closing(), Closing::Reset, "{mode}");
        drop(served.remove(0));
        eventually("a place", || {
            let mut client = connect("10.0.0.1:4");
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").ok()?;
            client.response_to("GET").ok()
        });
        // One that never says who it is counts for nobody.
        drop((ringway.client(), served));
        ringway.wait_quiet();
    }
}

#[test]
fn a_client_has_so_many_flows_of_datagrams() {
    let backend = DatagramBackend::echoing();
    let text = text("mode = \"udp\"\nmax_connections_per_client = 4", &backend.address.to_string(), "")
        + "[defaults]\nudp_idle_timeout = \"1s\"\n";
    let ringway = Configured::start(2, &text);
    let mut flows: Vec<_> = (0..4).map(|_| DatagramClient::new(ringway.address())).collect();
    flows.iter_mut().for_each(|flow| assert_eq!(flow.ask(b"mine"), b"mine"));
    let mut another = DatagramClient::new(ringway.address());
    another.send(b"too many");
    ringway.wait_stats("its end", |stats| stats.counter("udp_over_client_limit") == 1);
    // A flow that has been forgotten does not count.
    assert_eq!(another.ask_patiently(b"later"), b"later");
    ringway.wait_stats("silence", |stats| stats.gauge("udp_sessions_active") == 0);
    flows.iter_mut().for_each(|flow| assert_eq!(flow.ask(b"again"), b"again"));
}

#[test]
fn clients_of_unix_sockets_have_no_address_to_go_by() {
    let (backend, directory) = (backend(), Directory::new());
    let place = directory.socket("listener");
    let keys = "deny = \"all\"\nmax_connections_per_client = 1\nrate_limit = \"1/h\"";
    let text =
        text(keys, &backend.place, "").replace("\"127.0.0.1:0\"", &format!("[\"127.0.0.1:0\", \"{place}\"]"));
    let ringway = Configured::start(2, &text);
    let mut clients: Vec<_> = (0..5).map(|_| Client::connect_to(&place)).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200));
    assert_eq!(ringway.client().closing(), Closing::Reset);
}

#[test]
fn a_reload_counts_on_and_lets_those_stay_who_are_there() {
    let backend = backend();
    let of = |keys: &str| text(keys, &backend.place, "");
    let ringway = Configured::start(2, &of("max_connections_per_client = 3"));
    let mut held: Vec<_> = (0..3).map(|_| ringway.client_from(SOURCE)).collect();
    held.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200));
    ringway.reload(&of("max_connections_per_client = 4"));
    held.push(ringway.client_from(SOURCE));
    held.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200));
    assert!(!is_served(&ringway, SOURCE));
    ringway.reload(&of("max_connections_per_client = 4\ndeny = \"127.0.0.2\""));
    held.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200));
    held.pop();
    assert!(!is_served(&ringway, SOURCE) && is_served(&ringway, OTHER));
    ringway.reload(&of(""));
    assert!((0..9).all(|_| is_served(&ringway, SOURCE)));
}

#[test]
fn wrong_values_are_refused_by_the_check() {
    for (keys, told) in [
        ("allow = \"10.0.0.0/33\"", "listener.allow: `10.0.0.0/33` is not a network"),
        ("max_connections_per_client = 0", "listener.max_connections_per_client: `0` is out of range"),
        ("rate_limit = \"10\"", "listener.rate_limit: the text `10` does not fit here"),
        ("rate_burst = 5", "listener.rate_burst: `rate_burst` belongs to a `rate_limit`"),
    ] {
        let stderr = mistakes(&text(keys, "127.0.0.1:1", ""));
        assert!(stderr.contains(told), "{stderr}");
    }
}
