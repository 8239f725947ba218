//! Whose turn it is where room is scarce, on one worker and between workers, and what waiting must not do to anybody.

use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;

use crate::queue::{occupy, one, stand_in_line, text, wait_over};
use crate::support::deadline::eventually;
use crate::support::{Acceptor, Backend, Client, Configured, Holding, kernel, refusing_address};

const DIE: &[u8] = b"GET /die HTTP/1.1\r\nHost: h\r\n\r\n";

/// Dies of one request, and answers all others.
fn frail() -> Backend {
    Backend::scripted(|connection| {
        while let Some(request) = connection.request() {
            if request.target() == "/die" {
                return;
            }
            connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfrail");
        }
    })
}

/// The first of two backends is full for as long as the test likes, and whoever asks the second one for its death waits for it.
fn full_and_frail(keys: &str) -> (Holding, Backend, Configured) {
    let (holding, frail) = (Holding::start(), frail());
    let keys = format!("{keys}\nbalance = \"first\"\ncircuit = {{ failures = 0 }}");
    let backends = format!("\"{}\", \"{}\"", holding.backend.place, frail.place);
    let ringway = Configured::start(1, &text(&keys, &backends));
    (holding, frail, ringway)
}

#[test]
fn who_waits_for_another_backend_does_not_stand_in_the_way() {
    let (holding, _frail, ringway) = full_and_frail("queue_timeout = \"1h\"");
    let mut first = occupy(&ringway, &holding);
    let mut second = stand_in_line(&ringway, 1, DIE);
    for _ in 0..3 {
        assert_eq!(ringway.get("/").text(), "frail");
    }
    assert_eq!(ringway.stats().gauge("queued"), 1);
    holding.release.send(()).unwrap();
    assert_eq!((first.response().text().as_str(), second.response().text().as_str()), ("done", "done"));
    wait_over(&ringway);
}

/// Which backends were tried is forgotten when a reload puts others into their places.
#[test]
fn who_waits_through_a_reload_may_go_to_the_backend_in_the_place_of_a_tried_one() {
    let (holding, _frail, ringway) = full_and_frail("queue_timeout = \"1h\"");
    let mut first = occupy(&ringway, &holding);
    let mut second = stand_in_line(&ringway, 1, DIE);
    let other = Backend::well_behaved("other");
    let backends = format!("\"{}\", \"{}\"", holding.backend.place, other.place);
    ringway.reload(&text("queue_timeout = \"1h\"\nbalance = \"first\"", &backends));
    assert_eq!(second.response().text(), "other");
    holding.release.send(()).unwrap();
    assert_eq!(first.response().text(), "done");
    wait_over(&ringway);
}

/// 503 says that nothing was done, which is not known once a backend has had the request.
#[test]
fn who_was_sent_to_a_backend_and_waits_in_vain_is_told_of_that() {
    let (holding, _frail, ringway) = full_and_frail("queue_timeout = \"100ms\"");
    let _first = occupy(&ringway, &holding);
    let answer = ringway.get("/die");
    assert_eq!((answer.status, answer.head.value("retry-after")), (502, None));
}

#[test]
fn a_worker_without_a_connection_has_its_turn() {
    let backend = Backend::well_behaved("ok");
    let text = format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\n[[cluster]]\nmax_connections = 1\nqueue_timeout = \"1h\"\n\
         backend = [\"{}\"]\n",
        backend.place
    );
    let ringway = Configured::start(2, &text);
    let (address, over) = (ringway.address(), Arc::new(AtomicBool::new(false)));
    let served: Arc<[AtomicUsize]> = (0..24).map(|_| AtomicUsize::new(0)).collect();
    let clients: Vec<_> = (0..24)
        .map(|place| {
            let (served, over) = (Arc::clone(&served), Arc::clone(&over));
            thread::spawn(move || {
                let mut client = Client::connect(address);
                while !over.load(Relaxed) {
                    assert_eq!(client.get("/").status, 200);
                    served[place].fetch_add(1, Relaxed);
                }
            })
        })
        .collect();
    eventually("a few turns for everybody", || {
        served.iter().all(|count| count.load(Relaxed) >= 3).then_some(())
    });
    over.store(true, Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
    wait_over(&ringway);
}

#[test]
fn a_client_that_only_listens_waits_as_others_do() {
    let holding = Holding::start();
    let ringway = Configured::start(2, &one("queue_timeout = \"1h\"", &holding));
    let mut first = occupy(&ringway, &holding);
    let mut second = stand_in_line(&ringway, 1, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    second.stream.shutdown(Shutdown::Write).unwrap();
    holding.release.send(()).unwrap();
    assert_eq!((first.response().status, second.response().status), (200, 200));
}

/// However long the pauses are that the operator wants.
#[test]
fn who_leaves_in_the_pause_before_another_attempt_is_gone_at_once() {
    let (_socket, refusing) = refusing_address();
    let text = format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\n[[cluster]]\nattempts = 16\nretry_pause = \"10s\"\n\
         backend = [\"{refusing}\"]\n"
    );
    let ringway = Configured::start(1, &text);
    let mut client = ringway.client();
    client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    ringway.wait_stats("the pause", |stats| stats.counter("retries_paused") == 1);
    kernel::reset_on_close(&client.stream);
    drop(client);
    ringway.wait_stats("its end", |stats| {
        stats.gauge("exchanges_active") == 0 && stats.gauge("connections_active") == 0
    });
}

/// The backend has nothing more to do with a client that is only told of its end.
#[test]
fn a_tunnel_whose_backend_has_gone_holds_no_place() {
    let backend = Acceptor::new();
    let text = format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\nmode = \"tcp\"\ndown_text = \"full\"\n[[cluster]]\nmax_requests = 1\n\
         backend = [\"{}\"]\n",
        backend.place
    );
    let ringway = Configured::start(1, &text);
    let (mut first, end) = backend.tunnel(&ringway);
    drop(end);
    // Its end is known; that it listens no more is learned by speaking to it.
    assert_eq!(first.take_to_end().unwrap(), b"");
    first.send(b"one").unwrap();
    eventually("a tunnel that has ended", || {
        let _ = first.send(b"more");
        (ringway.stats().gauge("tunnels_active") == 0).then_some(())
    });
    let mut second = ringway.client();
    second.send(b"hello").unwrap();
    assert_eq!(backend.accept().take_exactly(5).unwrap(), b"hello");
}

/// On both workers some wait, and what becomes free on one of them is told to the other.
#[test]
fn those_who_wait_in_front_of_a_cluster_that_has_left_are_served() {
    let (holding, other) = (Holding::start(), Backend::well_behaved("other"));
    let text = |name: &str, place: &str| {
        format!(
            "[[listener]]\nbind = \"127.0.0.1:0\"\n[[cluster]]\nname = \"{name}\"\nmax_requests = 1\n\
             queue_timeout = \"1h\"\nbackend = [\"{place}\"]\n"
        )
    };
    let ringway = Configured::start(2, &text("old", &holding.backend.place));
    let mut first = occupy(&ringway, &holding);
    let mut waiting: Vec<_> =
        (1..=8).map(|count| stand_in_line(&ringway, count, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")).collect();
    ringway.reload(&text("new", &other.place));
    assert_eq!(ringway.get("/").text(), "other");
    holding.release.send(()).unwrap();
    assert_eq!(first.response().status, 200);
    assert!(waiting.iter_mut().all(|client| client.response().text() == "done"));
    wait_over(&ringway);
}
