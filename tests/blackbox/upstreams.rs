//! Connections to backends: kept, found stale, replayed once where that is safe, and the next backend when one refuses.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{Backend, Connection, Ringway, eventually, refusing_address};

/// Without a body, so that it is right for HEAD as well.
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// Answers one request on each connection and closes it, without having said that it would.
fn closing_unannounced() -> Backend {
    Backend::answering_once(OK)
}

/// Answers `answered` requests on each connection; the next one is read and the connection dies.
fn dying_after(answered: usize, die: fn(&mut Connection)) -> Backend {
    Backend::scripted(move |connection| {
        for _ in 0..answered {
            if connection.request().is_none() {
                return;
            }
            connection.say(OK);
        }
        if connection.request().is_some() {
            die(connection);
        }
    })
}

fn quietly(_: &mut Connection) {}

fn by_reset(connection: &mut Connection) {
    connection.reset();
}

#[test]
fn one_connection_serves_request_after_request() {
    let backend = Backend::well_behaved("a");
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    for turn in 0..10 {
        let response = if turn % 2 == 0 { client.get("/") } else { client.post("/", b"body") };
        assert_eq!(response.status, 200);
    }
    for _ in 0..10 {
        assert_eq!(ringway.get("/").status, 200);
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn a_connection_that_was_closed_while_idle_is_noticed() {
    let backend = closing_unannounced();
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    for turn in 1..=6 {
        let response = if turn % 2 == 0 { client.get("/") } else { client.post("/", b"body") };
        assert_eq!(response.status, 200, "turn {turn}: {response:?}");
        // The close has reached us once the backend has made it: loopback delivers at once.
        eventually("the backend's close", || (backend.closed() == turn).then_some(()));
    }
    assert_eq!(backend.requests().len(), 6, "every request was delivered once");
}

#[test]
fn a_connection_that_was_reset_while_idle_is_noticed() {
    let backend = Backend::scripted(|connection| {
        if connection.request().is_some() {
            connection.say(OK);
            connection.reset();
        }
    });
    let ringway = Ringway::in_front_of(&[&backend]);
    for turn in 1..=4 {
        // A reset can overtake the answer; only whether the next request is served counts here.
        let mut client = ringway.client();
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let status = client.response().status;
        assert!([200, 502].contains(&status), "{status}");
        eventually("the backend's close", || (backend.closed() >= turn).then_some(()));
    }
}

#[test]
fn the_announced_close_of_a_backend_is_believed() {
    let answers = [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na",
        "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na",
    ];
    for answer in answers {
        // It goes on reading, so that a second request on the same connection would be seen.
        let backend = Backend::answering(answer);
        let ringway = Ringway::in_front_of(&[&backend]);
        let mut client = ringway.client();
        for turn in 1..=3 {
            assert_eq!(client.get("/").status, 200);
            assert_eq!(backend.connections(), turn, "used again after {answer:?}");
        }
    }
}

#[test]
fn a_get_on_a_kept_connection_that_dies_is_sent_again() {
    for die in [quietly, by_reset] {
        let backend = dying_after(1, die);
        let ringway = Ringway::in_front_of(&[&backend]);
        let mut client = ringway.client();
        assert_eq!(client.get("/1").status, 200);
        assert_eq!(client.get("/2").status, 200, "a GET can be sent again");
        let seen: Vec<_> = backend
            .requests()
            .iter()
            .map(|request| (request.connection, request.target().to_owned()))
            .collect();
        assert_eq!(seen, [(0, "/1".to_owned()), (0, "/2".to_owned()), (1, "/2".to_owned())]);
    }
}

#[test]
fn the_other_safe_methods_are_sent_again_as_well() {
    for method in ["HEAD", "OPTIONS", "TRACE"] {
        let backend = dying_after(1, quietly);
        let ringway = Ringway::in_front_of(&[&backend]);
        let mut client = ringway.client();
        for turn in 0..2 {
            client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
            let response = client.response_to(if method == "HEAD" { "HEAD" } else { "GET" }).unwrap();
            assert_eq!(response.status, 200, "{method}, turn {turn}");
        }
        assert_eq!(backend.requests().len(), 3, "{method}");
    }
}

#[test]
fn a_post_on_a_kept_connection_that_dies_is_never_sent_again() {
    for die in [quietly, by_reset] {
        for method in ["POST", "PATCH", "INVENTED"] {
            let backend = dying_after(1, die);
            let spare = Backend::well_behaved("a");
            // A second backend would be a temptation.
            let ringway = Ringway::in_front_of(&[&backend, &spare]);
            let mut client = ringway.client();
            let (mut statuses, mut delivered) = (Vec::new(), 0);
            while delivered < 2 {
                let head = format!(
                    "{method} /{} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
                    statuses.len()
                );
                client.send(head.as_bytes()).unwrap();
                statuses.push(client.response().status);
                delivered = backend.requests().len();
            }
            assert_eq!(statuses.pop(), Some(502), "{method}");
            assert!(statuses.iter().all(|status| *status == 200), "{method}: {statuses:?}");
            let mut targets: Vec<_> = backend
                .requests()
                .iter()
                .chain(&spare.requests())
                .map(|request| request.target().to_owned())
                .collect();
            let count = targets.len();
            targets.sort();
            targets.dedup();
            assert_eq!(targets.len(), count, "{method}: delivered more than once");
        }
    }
}

#[test]
fn a_fresh_connection_that_dies_is_a_502() {
    for die in [quietly, by_reset] {
        let backend = dying_after(0, die);
        let ringway = Ringway::in_front_of(&[&backend]);
        let mut client = ringway.client();
        assert_eq!(client.post("/", b"body").status, 502);
        assert_eq!(backend.requests().len(), 1, "a POST is delivered once");
        assert_eq!(ringway.get("/").status, 502);
    }
}

/// Once the answer has begun, nothing may be sent again, not even a GET.
#[test]
fn a_get_whose_answer_has_begun_is_never_sent_again() {
    let backend = Backend::scripted(|connection| {
        connection.request();
        connection.say(OK);
        connection.request();
        connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart");
    });
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    assert_eq!(client.get("/").status, 200);
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(client.response_to("GET").is_err());
    assert_eq!((backend.requests().len(), backend.connections()), (2, 1));
}

#[test]
fn a_refused_connection_moves_any_method_to_the_next_backend() {
    let (_socket, dead) = refusing_address();
    let alive = Backend::echoing();
    let ringway = Ringway::options().backend(dead).backends(&[&alive]).start();
    let body = vec![b'x'; 200_000];
    for turn in 0..6 {
        assert_eq!(ringway.get("/").status, 200, "turn {turn}");
        let response = ringway.client().post("/", &body);
        assert_eq!((response.status, response.body.len()), (200, body.len()), "turn {turn}");
    }
    assert_eq!(alive.requests().len(), 12);
}

#[test]
fn when_all_refuse_the_answer_is_503() {
    let refusing: Vec<_> = (0..4).map(|_| refusing_address()).collect();
    let ringway =
        refusing.iter().fold(Ringway::options(), |options, (_, address)| options.backend(address)).start();
    let mut client = ringway.client();
    for turn in 0..3 {
        let response = client.get("/");
        assert_eq!(response.status, 503, "turn {turn}");
        assert!(response.text().contains("Service not available"), "{:?}", response.text());
        if response.says_close() {
            client = ringway.client();
        }
    }
    assert_eq!(ringway.client().post("/", b"body").status, 503);
}

#[test]
fn a_backend_that_comes_back_is_used_again() {
    let (socket, address) = refusing_address();
    let ringway = Ringway::options().backend(address).start();
    assert_eq!(ringway.get("/").status, 503);
    let _backend = Backend::well_behaved_on(socket, "back");
    eventually("the backend to be tried again", || (ringway.get("/").text() == "back").then_some(()));
}

/// The same connection must never carry two requests at once.
#[test]
fn requests_side_by_side_get_connections_of_their_own() {
    let (together, arrived) = (8, Arc::new(AtomicUsize::new(0)));
    let backend = Backend::scripted({
        let arrived = Arc::clone(&arrived);
        move |connection| {
            while let Some(request) = connection.request() {
                arrived.fetch_add(1, Ordering::SeqCst);
                eventually("the others", || (arrived.load(Ordering::SeqCst) >= together).then_some(()));
                let said = request.target();
                connection.say(
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{said}", said.len()).as_bytes(),
                );
            }
        }
    });
    let ringway = Ringway::in_front_of(&[&backend]);
    let mut clients: Vec<_> = (0..together).map(|_| ringway.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
    }
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.response().text(), format!("/{number}"));
    }
    assert_eq!(backend.connections(), together);
}
