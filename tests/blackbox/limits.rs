//! How much there may be at one backend, over all workers: requests, tunnels, flows, connections.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::queue::{occupy, stand_in_line, wait_over};
use crate::support::datagram::{DatagramBackend, DatagramClient};
use crate::support::kernel;
use crate::support::wire::Wire;
use crate::support::{Acceptor, Backend, Client, Configured, Gate, Holding, PATIENCE, eventually, mistakes};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A listener with these keys, and a cluster of one backend with those.
fn text(listener: &str, cluster: &str, backend: &str) -> String {
    format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\n{listener}\n[[cluster]]\ncircuit = {{ failures = 0 }}\n{cluster}\n\
         backend = \"{backend}\"\n"
    )
}

/// Every batch needs all places there are, wherever its clients are: none is lost, and none is there twice.
#[test]
fn ten_at_a_time_over_all_workers_and_everybody_is_served() {
    let gate = Arc::new(Gate::new(10));
    let guarded = Arc::clone(&gate);
    let backend = Backend::scripted(move |connection| {
        while connection.request().is_some() {
            if !guarded.pass() {
                return;
            }
            connection.say(OK);
        }
    });
    let keys = "max_requests = 10\nqueue_timeout = \"1m\"";
    let ringway = Configured::start(2, &text("", keys, &backend.place));
    let address = ringway.address();
    let clients: Vec<_> =
        (0..100).map(|_| thread::spawn(move || Client::connect(address).get("/").status)).collect();
    let statuses: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    assert_eq!((statuses, gate.most()), (vec![200; 100], 10));
    let stats = wait_over(&ringway);
    assert_eq!(stats.counter("queue_timeout"), 0);
}

/// A connection that is open may be idle on another worker than the one that needs it.
#[test]
fn one_connection_is_enough_for_clients_of_all_workers() {
    let before: Arc<Mutex<Option<TcpStream>>> = Arc::default();
    let backend = Backend::scripted(move |connection| {
        let here = connection.stream.try_clone().unwrap();
        if let Some(before) = before.lock().unwrap().replace(here) {
            before.set_nonblocking(true).unwrap();
            let ended = before.peek(&mut [0]);
            assert!(matches!(ended, Ok(0) | Err(_)) && !would_block(&ended), "two at once: {ended:?}");
        }
        connection.answer_all(OK);
    });
    let keys = "max_connections = 1\nqueue_timeout = \"1m\"";
    let ringway = Configured::start(2, &text("", keys, &backend.place));
    let mut clients: Vec<_> = (0..12).map(|_| ringway.client()).collect();
    ringway.wait_stats("clients on both workers", |stats| {
        stats.gauge_per_worker("connections_active").iter().sum::<u64>() == 12
    });
    for _ in 0..3 {
        for client in &mut clients {
            assert_eq!(client.get("/").text(), "ok");
        }
    }
    // All at once as well.
    for client in &mut clients {
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    }
    for client in &mut clients {
        assert_eq!(client.response().text(), "ok");
    }
    let stats = ringway.stats();
    assert!(stats.backend_gauge("idle") <= 1);
    assert!(backend.connections() > 1 || stats.workers().len() == 1);
}

fn would_block(outcome: &std::io::Result<usize>) -> bool {
    outcome.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

/// One place, which comes back whatever ends the exchange that had it.
#[test]
fn whatever_ends_an_exchange_its_place_is_free() {
    let backend = Backend::scripted(|connection| {
        while let Some(request) = connection.request() {
            match request.target() {
                "/dies" => return,
                "/half" => {
                    connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nha");
                    return;
                }
                "/wrong" => return connection.say(b"HTTP/1.1 nonsense\r\n\r\n"),
                "/never" => _ = connection.wait_closed(),
                "/endless" => {
                    connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n");
                    while connection.send(&[b'x'; 10_000]).is_ok() {}
                    return;
                }
                "/socket" => {
                    connection.say(
                        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nhello",
                    );
                    _ = connection.wait_closed();
                    return;
                }
                _ => connection.say(OK),
            }
        }
    });
    let keys = "max_requests = 1\nmax_connections = 1\nqueue_timeout = \"1m\"";
    let text = format!("{}[defaults]\nresponse_timeout = \"100ms\"\n", text("", keys, &backend.place));
    let ringway = Configured::start(2, &text);
    for round in 0..3 {
        for (path, status) in [("/dies", 502), ("/wrong", 502), ("/never", 504)] {
            assert_eq!(
                (ringway.get(path).status, ringway.get("/").text().as_str()),
                (status, "ok"),
                "{round}"
            );
        }
        let mut client = ringway.client();
        client.send(b"GET /half HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        assert!(client.response_to("GET").is_err());
        assert_eq!(ringway.get("/").text(), "ok");
        for path in ["/endless", "/socket"] {
            let mut client = ringway.client();
            let upgrade = "Host: h\r\nConnection: upgrade\r\nUpgrade: x\r\n";
            client.send(format!("GET {path} HTTP/1.1\r\n{upgrade}\r\n").as_bytes()).unwrap();
            assert!(matches!(client.head().status, 200 | 101));
            kernel::reset_on_close(&client.stream);
            drop(client);
            assert_eq!(ringway.get("/").text(), "ok", "{path} {round}");
        }
    }
    wait_over(&ringway);
}

#[test]
fn a_connection_through_tcp_waits_and_is_told_when_it_was_in_vain() {
    let backend = Acceptor::new();
    let listener = "mode = \"tcp\"\ndown_text = \"full\"";
    let keys =
        |time: &str| text(listener, &format!("max_requests = 1\nqueue_timeout = \"{time}\""), &backend.place);
    let ringway = Configured::start(2, &keys("100ms"));
    let (first, first_end) = backend.tunnel(&ringway);
    let mut second = ringway.client();
    assert_eq!(second.take_to_end().unwrap(), b"full");
    assert!(backend.try_accept().is_none());
    ringway.reload(&keys("1h"));
    let mut third = ringway.client();
    third.send(b"early").unwrap();
    ringway.wait_stats("somebody who waits", |stats| stats.gauge("queued") == 1);
    drop((first, first_end));
    assert_eq!(backend.accept().take_exactly(5).unwrap(), b"early");
    // One that breaks while it waits is gone at once.
    let fourth = ringway.client();
    ringway.wait_stats("somebody who waits", |stats| stats.gauge("queued") == 1);
    kernel::reset_on_close(&fourth.stream);
    drop(fourth);
    let stats = ringway.wait_stats("nobody who waits", |stats| stats.gauge("queued") == 0);
    assert_eq!((stats.counter("queue_left"), stats.counter("queue_timeout")), (1, 1));
}

#[test]
fn a_flow_too_many_is_dropped_and_counted() {
    let backend = DatagramBackend::echoing();
    let text = text("mode = \"udp\"", "max_requests = 1", &backend.address.to_string());
    let ringway = Configured::start(2, &text);
    let mut first = DatagramClient::new(ringway.address());
    assert_eq!(first.ask(b"one"), b"one");
    let second = DatagramClient::new(ringway.address());
    second.send(b"two");
    ringway.wait_stats("a datagram too many", |stats| stats.counter("udp_full") == 1);
    assert_eq!(first.ask(b"three"), b"three");
    assert!(backend.arrivals().iter().all(|(_, bytes)| bytes != b"two"));
}

/// What is in progress stays; nothing new comes until there is room by the new limit.
#[test]
fn a_reload_changes_the_limit_under_way() {
    let holding = Holding::start();
    let keys = |limit: &str| text("", &format!("{limit}\nqueue_timeout = \"1h\""), &holding.backend.place);
    let ringway = Configured::start(2, &keys("max_requests = 1"));
    let mut clients: Vec<_> = (0..5).map(|_| ringway.client()).collect();
    for client in &mut clients {
        client.send(b"GET /held HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    }
    let wait_queued = |count| {
        ringway.wait_stats("so many who wait", |stats| stats.gauge("queued") == count);
    };
    let asked = |count: usize| (0..count).for_each(|_| holding.asked.recv_timeout(PATIENCE).unwrap());
    asked(1);
    wait_queued(4);
    ringway.reload(&keys("max_requests = 3"));
    asked(2);
    wait_queued(2);
    ringway.reload(&keys("max_requests = 1"));
    for left in [2, 1] {
        holding.release.send(()).unwrap();
        ringway.wait_stats("one who is through", |stats| stats.gauge("exchanges_active") == 2 + left);
    }
    assert!(holding.asked.try_recv().is_err(), "one is in progress, which is all there may be");
    wait_queued(2);
    holding.release.send(()).unwrap();
    asked(1);
    wait_queued(1);
    // Without a limit nobody waits, and one that appears counts those who are there.
    ringway.reload(&keys(""));
    asked(1);
    wait_queued(0);
    ringway.reload(&keys("max_requests = 2"));
    let mut late = ringway.client();
    late.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    wait_queued(1);
    (0..2).for_each(|_| holding.release.send(()).unwrap());
    assert_eq!(late.response().text(), "done");
    assert!(clients.iter_mut().all(|client| client.response().text() == "done"));
    wait_over(&ringway);
}

fn lower_the_limit(workers: usize) {
    let backend = Backend::well_behaved("ok");
    let keys =
        |limit: u32| text("", &format!("max_connections = {limit}\nqueue_timeout = \"1h\""), &backend.place);
    let ringway = Configured::start(workers, &keys(8));
    let (address, over) = (ringway.address(), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..12)
        .map(|_| {
            let over = Arc::clone(&over);
            thread::spawn(move || {
                let mut client = Client::connect(address);
                while !over.load(Relaxed) {
                    assert_eq!(client.get("/").status, 200);
                }
            })
        })
        .collect();
    ringway.wait_stats("many connections", |_| backend.connections() - backend.closed() > 4);
    ringway.reload(&keys(2));
    ringway.wait_stats("few connections", |_| backend.connections() - backend.closed() <= 2);
    over.store(true, Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
    wait_over(&ringway);
}

/// Connections that are open are reused no longer until there are as few as there may be, also when nobody else wants them.
#[test]
fn a_limit_on_connections_that_is_lowered_holds_under_load() {
    lower_the_limit(1);
    lower_the_limit(2);
}

/// What is still in progress at a backend that has left counts when it is back.
#[test]
fn a_backend_that_leaves_and_comes_back_has_the_limit_it_had() {
    let (holding, other) = (Holding::start(), Backend::well_behaved("other"));
    let keys = |place: &str| text("", "max_requests = 1\nqueue_timeout = \"1h\"", place);
    let ringway = Configured::start(2, &keys(&holding.backend.place));
    let mut first = occupy(&ringway, &holding);
    ringway.reload(&keys(&other.place));
    assert_eq!(ringway.get("/").text(), "other");
    ringway.reload(&keys(&holding.backend.place));
    let mut second = stand_in_line(&ringway, 1, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    holding.release.send(()).unwrap();
    assert_eq!((first.response().text().as_str(), second.response().text().as_str()), ("done", "done"));
}

#[test]
fn limits_are_checked() {
    let said = mistakes(&text(
        "",
        "max_requests = 10000001\nmax_connections = -1\nqueue_max = 65537\nqueue_timeout = \"2h\"\nattempts = 17\n\
         retry_budget = 1601\nretry_pause = \"0s\"\nretry_min_per_second = 1000001\nretry_idempotent = 1",
        "127.0.0.1:1",
    ));
    for key in [
        "max_requests",
        "max_connections",
        "queue_max",
        "queue_timeout",
        "attempts",
        "retry_budget",
        "retry_pause",
        "retry_min_per_second",
        "retry_idempotent",
    ] {
        assert!(said.contains(key), "nothing of {key}: {said}");
    }
}

#[test]
fn each_backend_has_its_own_limit_in_place_of_the_clusters() {
    let (wide, narrow) = (Acceptor::new(), Acceptor::new());
    let list = format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\nmode = \"tcp\"\n[[cluster]]\nmax_requests = 1\nbalance = \"first\"\n\
         backend = [\"{}\", {{ address = \"{}\", max_requests = 3 }}]\n",
        narrow.place, wide.place
    );
    let ringway = Configured::start(2, &list);
    let clients: Vec<_> = (0..4).map(|_| ringway.client()).collect();
    let ends: Vec<Wire> = (0..3).map(|_| wide.accept()).chain([narrow.accept()]).collect();
    let _fifth = ringway.client();
    ringway.wait_stats("one who waits", |stats| stats.gauge("queued") == 1);
    assert!(wide.try_accept().is_none() && narrow.try_accept().is_none());
    assert_eq!((clients.len(), ends.len()), (4, 4));
}

/// A trial of an ejected backend holds a place too; broken off, it leaves both, and the next one finds them.
#[test]
fn a_trial_that_is_broken_off_leaves_its_place_and_the_trial() {
    let backend = Backend::scripted(|connection| {
        while let Some(request) = connection.request() {
            match request.target() {
                "/dies" => return,
                "/never" => _ = connection.wait_closed(),
                _ => connection.say(OK),
            }
        }
    });
    let keys = "max_requests = 1\nmax_connections = 1\nqueue_timeout = \"1m\"";
    let circuit = "circuit = { failures = 1, open = \"100ms\" }";
    let text = text("", keys, &backend.place).replace("circuit = { failures = 0 }", circuit);
    let ringway = Configured::start(2, &text);
    for _ in 0..3 {
        // A worker hears a little later that it is up.
        eventually("a death", || (ringway.get("/dies").status == 502).then_some(()));
        eventually("a trial", || {
            let known = backend.heads();
            let mut client = ringway.client();
            client.send(b"GET /never HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
            client.set_patience(Duration::from_millis(100));
            let refused = client.response_to("GET").is_ok();
            kernel::reset_on_close(&client.stream);
            (!refused && backend.heads() > known).then_some(())
        });
        eventually("service", || (ringway.get("/").status == 200).then_some(()));
    }
    wait_over(&ringway);
}

/// A panic ends the flows of a listener on its worker; each of them held a place.
#[test]
fn a_panic_leaves_no_place_taken() {
    if !cfg!(debug_assertions) {
        return;
    }
    let backend = DatagramBackend::echoing();
    let text = text("mode = \"udp\"", "max_requests = 1", &backend.address.to_string());
    let ringway = Configured::start_changed(1, &text, |command| {
        command.env("RINGWAY_TEST_PANIC", "1");
    });
    let mut client = DatagramClient::new(ringway.address());
    for panics in 1..=3 {
        assert_eq!(client.ask_patiently(b"one"), b"one");
        client.send(b"__ringway_panic");
        ringway.wait_stats("a panic", |stats| stats.counter("connection_panics") == panics);
    }
}
