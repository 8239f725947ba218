//! A backend that goes down or is to be emptied: what becomes of what it was doing (promises 22 and 23), and how one that
//! is well again comes back by live traffic (promise 20).

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use crate::probes::wait_turns;
use crate::support::stats::backends;
use crate::support::wire::{Closing, Wire};
use crate::support::{Acceptor, Backend, Client, Configured, Holding, PATIENCE, eventually, kernel};

/// The first one goes down, the second one stays.
fn text(mode: &str, on_down: &str, first: &str, second: &str, rest: &str) -> String {
    format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\nmode = \"{mode}\"\n[[cluster]]\nbalance = \"first\"\n\
         on_down = \"{on_down}\"\nbackend = [{{ address = \"{first}\", name = \"bad\" }}, \"{second}\"]\n{rest}"
    )
}

/// A page for probes on all addresses of this host: well, until it is told that what stands at 127.0.0.1 is ill.
fn page() -> (Arc<AtomicBool>, Backend) {
    let ill = Arc::new(AtomicBool::new(false));
    let is_ill = Arc::clone(&ill);
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let page = Backend::on_socket(listener.into(), move |connection| {
        while let Some(request) = connection.request() {
            let of_first = request.head.value("host").is_some_and(|host| host.starts_with("127.0.0.1:"));
            let status = if of_first && is_ill.load(SeqCst) { "503 No" } else { "200 OK" };
            connection.say(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes());
        }
    });
    (ill, page)
}

/// What probes that are sent to this page look like.
fn checks(page: &Backend) -> String {
    let port = page.address.port();
    format!(
        "circuit = {{ failures = 0 }}\n[cluster.health]\npath = \"/\"\nport = {port}\ninterval = \"20ms\"\n\
         timeout = \"10s\"\nrise = 1\nfall = 1\n"
    )
}

/// Both ends are reset.
fn assert_cut(client: Client, mut end: Wire) {
    let mut client = Wire::new(client.into_stream());
    assert_eq!((client.wait_closed(), end.wait_closed()), (Closing::Reset, Closing::Reset));
}

/// Both ends can say and hear.
fn assert_alive(client: &mut Client, end: &mut Wire) {
    client.send(b"still here").unwrap();
    assert_eq!(end.take_exactly(10).unwrap(), b"still here");
    end.send(b"so am I").unwrap();
    assert_eq!(client.take_exactly(7).unwrap(), b"so am I");
}

/// A tunnel to one whose probes fail then. The page is kept for the other one's.
fn tunnel_to_one_that_is_down(on_down: &str) -> (Client, Wire, Configured, Backend) {
    let (bad, good, (ill, page)) = (Acceptor::new(), Acceptor::at("127.0.0.2:0"), page());
    let ringway = Configured::start(2, &text("tcp", on_down, &bad.place, &good.place, &checks(&page)));
    let (mut client, mut end) = bad.tunnel(&ringway);
    assert_alive(&mut client, &mut end);
    ill.store(true, SeqCst);
    assert_eq!(wait_turns(&ringway, "bad", 1).0, "down");
    (client, end, ringway, page)
}

#[test]
fn a_connection_is_cut_when_probes_find_its_backend_down_and_the_operator_wants_it() {
    let (client, end, ringway, _page) = tunnel_to_one_that_is_down("close");
    assert_cut(client, end);
    ringway.wait_quiet();
}

#[test]
fn a_connection_goes_on_when_probes_find_its_backend_down() {
    let (mut client, mut end, ringway, _page) = tunnel_to_one_that_is_down("keep");
    assert_alive(&mut client, &mut end);
    ringway.wait_stats("this tunnel alone", |stats| stats.gauge("tunnels_active") == 1);
}

/// A tunnel to one that refuses the next client then, and is ejected for it.
fn tunnel_to_one_that_is_ejected(on_down: &str) -> (Client, Wire, Configured) {
    let (port, address) = kernel::shared_port();
    let (bad, good) = (OwnedFd::from(kernel::listen_at_shared(address)), Acceptor::new());
    let circuit = "circuit = { failures = 1, open = \"1h\", open_max = \"1h\" }\n";
    let ringway = Configured::start(2, &text("tcp", on_down, &address.to_string(), &good.place, circuit));
    let mut client = ringway.client();
    let mut end = Wire::new(eventually("the connection at its backend", || kernel::accept(&bad).ok()));
    assert_alive(&mut client, &mut end);
    // To close it is not enough: a process that another test is just starting may have it, too.
    kernel::stop_listening(&bad);
    let (mut second, mut other_end) = good.tunnel(&ringway);
    assert_eq!(wait_turns(&ringway, "bad", 1).0, "ejected");
    assert_alive(&mut second, &mut other_end);
    drop((port, bad));
    (client, end, ringway)
}

#[test]
fn a_connection_is_cut_when_its_backend_is_ejected_and_the_operator_wants_it() {
    let (client, end, ringway) = tunnel_to_one_that_is_ejected("close");
    assert_cut(client, end);
    ringway.wait_quiet();
}

#[test]
fn a_connection_goes_on_when_its_backend_is_ejected() {
    let (mut client, mut end, ringway) = tunnel_to_one_that_is_ejected("keep");
    assert_alive(&mut client, &mut end);
    ringway.wait_stats("this tunnel alone", |stats| stats.gauge("tunnels_active") == 1);
}

/// A request in progress at one whose probes fail then.
fn request_at_one_that_is_down(on_down: &str) -> (Client, Holding, [Backend; 2], Configured) {
    let (holding, good, (ill, page)) =
        (Holding::start(), Backend::well_behaved_at("127.0.0.2:0", "good"), page());
    let file = text("http", on_down, &holding.backend.place, &good.place, &checks(&page));
    let ringway = Configured::start(2, &file);
    let mut client = ringway.client();
    client.send(b"GET /held HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    holding.asked.recv_timeout(PATIENCE).unwrap();
    ill.store(true, SeqCst);
    assert_eq!(wait_turns(&ringway, "bad", 1).0, "down");
    (client, holding, [good, page], ringway)
}

#[test]
fn a_request_goes_to_another_backend_when_its_own_is_found_down_and_its_connections_are_cut() {
    let (mut client, holding, [good, _page], _ringway) = request_at_one_that_is_down("close");
    assert_eq!(client.response().text(), "good");
    assert_eq!((holding.backend.heads(), good.heads()), (1, 1));
}

#[test]
fn a_request_ends_at_its_backend_when_that_is_found_down() {
    let (mut client, holding, [good, _page], ringway) = request_at_one_that_is_down("keep");
    eventually("every worker to know", || (0..10).all(|_| ringway.get("/").text() == "good").then_some(()));
    let asked = good.heads();
    holding.release.send(()).unwrap();
    assert_eq!(client.response().text(), "done");
    assert_eq!((holding.backend.requests().last().unwrap().target(), good.heads()), ("/held", asked));
}

/// Promise 22, as an operator does it, without stickiness.
#[test]
fn long_requests_end_at_a_backend_that_drains_and_new_ones_go_elsewhere() {
    let (holding, other) = (Holding::start(), Backend::well_behaved("other"));
    let file = |state: &str| {
        format!(
            "[[listener]]\nbind = \"127.0.0.1:0\"\n[[cluster]]\nbackend = [{{ address = \"{}\", name = \"a\", \
             state = \"{state}\" }}, \"{}\"]\n",
            holding.backend.place, other.place
        )
    };
    let ringway = Configured::start(2, &file("ready"));
    let mut clients = Vec::new();
    // Some on each worker.
    while clients.len() < 8 {
        let mut client = ringway.client();
        client.send(b"GET /held HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        let is_held = eventually("a backend that is asked", || {
            holding.asked.try_recv().ok().map(|()| true).or(client.has_input().then_some(false))
        });
        if is_held {
            clients.push(client);
        } else {
            assert_eq!(client.response().text(), "other");
        }
    }
    let heads = holding.backend.heads();
    ringway.reload(&file("drain"));
    let shown = ringway.stats();
    assert_eq!(backends(shown.total())[0]["state"], "drain");
    assert_eq!(shown.gauge_per_backend("active"), [8, 0]);
    (0..20).for_each(|_| assert_eq!(ringway.get("/").text(), "other"));
    (0..8).for_each(|_| holding.release.send(()).unwrap());
    for client in &mut clients {
        assert_eq!(client.response().text(), "done");
        assert_eq!(client.get("/").text(), "other", "the next one on this connection is new work");
    }
    assert_eq!(holding.backend.heads(), heads, "it was given new work");
    ringway.reload(&file("ready"));
    eventually("work for it again", || (ringway.get("/").text() == "done").then_some(()));
    drop(clients);
    ringway.wait_quiet();
}

/// Promise 20: its probes find nothing wrong and come once an hour, so it is a live request that brings it back.
#[test]
fn who_was_ejected_is_readmitted_by_a_live_request_and_does_not_wait_for_a_probe() {
    let well = Arc::new(AtomicBool::new(false));
    let is_well = Arc::clone(&well);
    let bad = Backend::scripted(move |connection| {
        while let Some(request) = connection.request() {
            if request.target() != "/health" && !is_well.load(SeqCst) {
                return;
            }
            connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad");
        }
    });
    let good = Backend::well_behaved("good");
    let rules = "circuit = { failures = 2, open = \"100ms\", open_max = \"200ms\" }\n[cluster.health]\n\
                 path = \"/health\"\ninterval = \"1h\"\nfast_interval = \"1h\"\ntimeout = \"10s\"\n";
    let file = text("http", "keep", &bad.place, &good.place, rules).replace("balance = \"first\"\n", "");
    let ringway = Configured::start(2, &file);
    eventually("both first probes", || {
        ringway.stats().probes().iter().all(|of| of["probes"] == 1).then_some(())
    });
    let state = || backends(ringway.stats().total())[0]["state"].as_str().unwrap().to_owned();
    eventually("its ejection", || {
        assert_eq!(ringway.get("/").text(), "good");
        (state() == "ejected").then_some(())
    });
    // Trials go on and fail.
    let asked = bad.heads();
    eventually("trials that fail", || {
        assert_eq!(ringway.get("/").text(), "good");
        (bad.heads() >= asked + 3).then_some(())
    });
    assert_eq!(wait_turns(&ringway, "bad", 1).0, "ejected");
    well.store(true, SeqCst);
    eventually("its readmission", || {
        assert_eq!(ringway.get("/").status, 200);
        (state() == "up").then_some(())
    });
    assert_eq!(wait_turns(&ringway, "bad", 2), ("up".to_owned(), "a trial has succeeded".to_owned()));
    let stats = ringway.stats();
    assert!(stats.probes().iter().all(|of| of["probes"] == 1), "{:?}", stats.probes());
}
