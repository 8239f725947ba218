//! Rate limits: as configured over all workers, for each client by itself, in every mode and over reloads.

use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::datagram::{DatagramBackend, DatagramClient};
use crate::support::wire::Closing;
use crate::support::{Backend, Client, Configured, PATIENCE, Response, eventually};

const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));

/// A listener with these keys, its cluster, and these routes.
fn text(listener: &str, backend: &str, routes: &str) -> String {
    format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\ncluster = \"all\"\n{listener}\n\
         [[cluster]]\nname = \"all\"\nbackend = \"{backend}\"\n{routes}\n"
    )
}

/// A route for everything below this path.
fn route(path: &str, keys: &str) -> String {
    format!("[[route]]\npath_prefix = \"{path}\"\ncluster = \"all\"\n{keys}\n")
}

/// Waits for a moment.
fn wait_until(moment: Instant) {
    while let Some(left) = moment.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        thread::park_timeout(left);
    }
}

fn retry_after(response: &Response) -> u64 {
    assert_eq!(response.status, 429, "{response:?}");
    response.head.value("retry-after").unwrap().parse().unwrap()
}

/// Asks until the answer is 429, each time on a connection of its own: how often it was not.
fn drained(ringway: &Configured, source: IpAddr, path: &str) -> usize {
    (0..).find(|_| ringway.client_from(source).get(path).status == 429).unwrap()
}

/// 10 a second are allowed and 20 a second are sent for three seconds, each on a connection of its own, so that they
/// come to both workers. The bounds are those of the time that really passed.
#[test]
fn half_of_twice_the_rate_passes_over_all_workers() {
    const PAUSE: Duration = Duration::from_millis(50);
    let backend = Backend::well_behaved("a");
    let ringway = Configured::start(2, &text("", &backend.place, &route("/", "rate_limit = \"10/s\"")));
    let begun = Instant::now();
    let (mut passed, mut late, mut last) = (Vec::new(), 0.0, begun);
    for number in 0..60 {
        wait_until(begun + PAUSE * number);
        // Whoever is silent for longer than a burst takes to come back loses a part of what would have passed.
        late += (last.elapsed().as_secs_f64() - 0.9).max(0.0);
        last = Instant::now();
        let response = ringway.client_from(SOURCE).get("/");
        match response.status {
            200 => passed.push(begun.elapsed()),
            _ => assert_eq!(retry_after(&response), 1),
        }
    }
    let spent = begun.elapsed().as_secs_f64();
    let (most, least) = (10.0 + 10.0 * spent + 1.0, 10.0 + 10.0 * (spent - late) - 2.0);
    let count = passed.len();
    assert!((count as f64) < most && count as f64 >= least.min(58.0), "{count} in {spent} s: {passed:?}");
    let stats = ringway.stats();
    assert_eq!(stats.counter("requests_rate_limited"), 60 - count as u64);
    assert_eq!((stats.counter("local_replies"), stats.counter("requests")), (60 - count as u64, 60));
    assert_eq!(backend.heads(), count, "what is refused does not reach a backend");
    for worker in stats.workers() {
        assert!(worker["counters"]["requests"].as_u64().unwrap() > 0, "one worker had them all");
    }
}

#[test]
fn clients_and_routes_do_not_share_and_connections_and_workers_do() {
    let backend = Backend::well_behaved("a");
    let routes = route("/slow", "rate_limit = \"1/h\"\nrate_burst = 25") + &route("/", "");
    let ringway = Configured::start(2, &text("", &backend.place, &routes));
    assert_eq!(drained(&ringway, SOURCE, "/slow/a"), 25);
    assert_eq!(drained(&ringway, SOURCE, "/slow/b"), 0);
    assert_eq!(ringway.client_from(SOURCE).get("/quick").status, 200);
    assert_eq!(drained(&ringway, OTHER, "/slow"), 25);
    let wait = retry_after(&ringway.client_from(OTHER).get("/slow"));
    assert!((3500..=3600).contains(&wait), "{wait} s");
}

#[test]
fn a_refused_request_costs_the_connection_only_if_it_must() {
    let backend = Backend::well_behaved("a");
    let routes = route("/slow", "rate_limit = \"1/h\"")
        + "[[route]]\npath = \"/pong\"\nrespond = { body = \"pong\" }\nrate_limit = \"1/h\"\n";
    let ringway = Configured::start(1, &text("", &backend.place, &routes));
    let mut client = ringway.client();
    assert_eq!((client.get("/slow").status, client.get("/pong").text().as_str()), (200, "pong"));
    for _ in 0..3 {
        let refused = client.get("/slow");
        assert_eq!((refused.says_close(), refused.text().as_str()), (false, "Too Many Requests\n"));
        assert!(retry_after(&refused) > 3500);
        assert!(retry_after(&client.get("/pong")) > 3500, "an answer of ours is limited too");
        assert!(retry_after(&client.post("/slow", b"whole")) > 3500);
        client.send(b"HEAD /slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(client.head().status, 429);
        assert_eq!(client.get("/").status, 200);
    }
    client.send(b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nhalf").unwrap();
    let refused = client.response();
    assert_eq!((refused.status, refused.says_close()), (429, true));
    let mut client = ringway.client();
    client
        .send(b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        .unwrap();
    let refused = client.response();
    assert_eq!((refused.status, refused.says_close()), (429, true));
    drop(client);
    ringway.wait_quiet();
}

#[test]
fn a_limit_may_be_for_all_together_or_for_each_value_of_a_field() {
    let backend = Backend::well_behaved("a");
    let routes = route("/all", "rate_limit = \"1/h\"\nrate_burst = 6\nrate_key = \"all\"")
        + &route("/key", "rate_limit = \"1/h\"\nrate_burst = 2\nrate_key = { header = \"X-Api-Key\" }");
    let ringway = Configured::start(2, &text("", &backend.place, &routes));
    for number in 0..6 {
        let source = IpAddr::from([127, 0, 1, number]);
        assert_eq!(ringway.client_from(source).get("/all").status, 200);
    }
    assert_eq!((drained(&ringway, SOURCE, "/all"), drained(&ringway, OTHER, "/all")), (0, 0));
    let ask = |source: IpAddr, key: &str| {
        let mut client = ringway.client_from(source);
        client.send(format!("GET /key HTTP/1.1\r\nHost: a\r\nx-api-KEY: {key}\r\n\r\n").as_bytes()).unwrap();
        client.response().status
    };
    assert_eq!([ask(SOURCE, "one"), ask(OTHER, "one"), ask(SOURCE, "one")], [200, 200, 429]);
    assert_eq!([ask(SOURCE, "two"), ask(OTHER, "two"), ask(OTHER, "two")], [200, 200, 429]);
    assert_eq!(drained(&ringway, SOURCE, "/key"), 2, "who has no key is counted by its address");
}

#[test]
fn a_listener_limits_all_its_requests_and_its_routes_theirs() {
    let backend = Backend::well_behaved("a");
    let routes = route("/slow", "rate_limit = \"1/h\"\nrate_burst = 2");
    let ringway =
        Configured::start(2, &text("rate_limit = \"1/h\"\nrate_burst = 8", &backend.place, &routes));
    assert_eq!(drained(&ringway, SOURCE, "/slow"), 2);
    // The third one has taken its part of the listener's rate, too.
    assert_eq!(drained(&ringway, SOURCE, "/"), 5);
    assert_eq!(ringway.stats().counter("requests_rate_limited"), 2);
    assert_eq!(ringway.stats().counter("connections_rate_limited"), 0);
}

#[test]
fn a_tcp_listener_limits_connections() {
    let backend = Backend::scripted(|connection| {
        connection.say(b"hello");
        connection.wait_closed();
    });
    let keys = "mode = \"tcp\"\nrate_limit = \"1/h\"\nrate_burst = 12";
    let ringway = Configured::start(2, &text(keys, &backend.place, ""));
    let mut open: Vec<Client> = (0..12).map(|_| ringway.client_from(SOURCE)).collect();
    for client in &mut open {
        assert_eq!(client.take_exactly(5).unwrap(), b"hello");
    }
    for _ in 0..3 {
        assert_eq!(ringway.client_from(SOURCE).closing(), Closing::Reset);
    }
    assert_eq!(ringway.client_from(OTHER).take_exactly(5).unwrap(), b"hello");
    let stats = ringway.stats();
    assert_eq!((stats.counter("connections_rate_limited"), stats.counter("tunnels")), (3, 13));
    drop(open);
    ringway.wait_quiet();
}

#[test]
fn a_udp_listener_limits_new_flows_and_lets_the_others_go_on() {
    let backend = DatagramBackend::echoing();
    let keys = "mode = \"udp\"\nrate_limit = \"1/h\"\nrate_burst = 6";
    let ringway = Configured::start(2, &text(keys, &backend.address.to_string(), ""));
    let mut flows: Vec<_> = (0..6).map(|_| DatagramClient::new(ringway.address())).collect();
    for flow in &mut flows {
        assert_eq!(flow.ask_patiently(b"first"), b"first");
    }
    let late = DatagramClient::new(ringway.address());
    late.send(b"late");
    let stats = ringway.wait_stats("the late one", |stats| stats.counter("udp_rate_limited") == 1);
    assert_eq!((stats.counter("udp_sessions_opened"), stats.gauge("udp_sessions_active")), (6, 6));
    for flow in &mut flows {
        assert_eq!(flow.ask_patiently(b"again"), b"again");
    }
    assert!(backend.arrivals().iter().all(|(_, bytes)| bytes != b"late"));
}

/// The address the PROXY header says is counted, not the proxy's own.
#[test]
fn behind_a_proxy_its_clients_are_counted() {
    let backend = Backend::well_behaved("a");
    let routes = route("/", "rate_limit = \"1/h\"");
    let ringway = Configured::start(2, &text("accept_proxy = \"127.0.0.0/8\"", &backend.place, &routes));
    let ask = |source: &str| {
        let mut client = ringway.client();
        client.send(&crate::support::introduction::v1(&format!("{source}:7"), "10.9.9.9:80")).unwrap();
        client.get("/").status
    };
    assert_eq!([ask("10.0.0.1"), ask("10.0.0.2"), ask("10.0.0.1"), ask("10.0.0.2")], [200, 200, 429, 429]);
    let network = |host: &str| {
        let mut client = ringway.client();
        client
            .send(&crate::support::introduction::v2(&format!("[2001:db8:0:{host}]:7"), "[::1]:80"))
            .unwrap();
        client.get("/").status
    };
    assert_eq!([network("1::1"), network("1::2"), network("2::1")], [200, 429, 200]);
}

#[test]
fn a_reload_keeps_what_was_taken_unless_the_limit_is_another_one() {
    let backend = Backend::well_behaved("a");
    let routes = |burst: usize| {
        let named = format!("name = \"slow\"\nrate_limit = \"1/h\"\nrate_burst = {burst}");
        text("", &backend.place, &(route("/", "name = \"rest\"") + &route("/slow", &named)))
    };
    let ringway = Configured::start(2, &routes(5));
    assert_eq!(drained(&ringway, SOURCE, "/slow"), 5);
    ringway
        .reload(&routes(5).replace("[[route]]\npath_prefix = \"/\"", "[[route]]\npath_prefix = \"/other\""));
    assert_eq!((drained(&ringway, SOURCE, "/slow"), drained(&ringway, OTHER, "/slow")), (0, 5));
    ringway.reload(&routes(7));
    assert_eq!(drained(&ringway, SOURCE, "/slow"), 7);
    ringway.reload(&text("", &backend.place, ""));
    assert_eq!((0..9).map(|_| ringway.client_from(SOURCE).get("/slow").status).max(), Some(200));
}

/// Time gives back what was taken, and `Retry-After` says when.
#[test]
fn who_waits_as_long_as_told_is_served() {
    let backend = Backend::well_behaved("a");
    let routes = route("/", "rate_limit = \"60/m\"\nrate_burst = 1");
    let ringway = Configured::start(2, &text("", &backend.place, &routes));
    assert_eq!(ringway.client_from(SOURCE).get("/").status, 200);
    for _ in 0..2 {
        let (asked, refused) = (Instant::now(), ringway.client_from(SOURCE).get("/"));
        assert_eq!(retry_after(&refused), 1);
        wait_until(asked + Duration::from_secs(1) + (Instant::now() - asked));
        assert_eq!(ringway.client_from(SOURCE).get("/").status, 200);
    }
    let begun = Instant::now();
    eventually("another one", || (ringway.client_from(SOURCE).get("/").status == 200).then_some(()));
    assert!(begun.elapsed() < PATIENCE);
}
