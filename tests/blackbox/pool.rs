//! Idle connections to backends: which of them comes first, and what becomes of one that dies in its sleep.

use crate::support::kernel::reset_now;
use crate::support::wire::Wire;
use crate::support::{Acceptor, Client, Ringway};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn ask(client: &mut Client, path: &str) {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
}

/// Reads the request for `path` on this connection, where it must come.
fn asked(backend: &mut Wire, path: &str) {
    assert_eq!(backend.take_head().unwrap().first_line, format!("GET {path} HTTP/1.1"));
}

fn answer(backend: &mut Wire, client: &mut Client) {
    backend.send(OK).unwrap();
    assert_eq!(client.response().text(), "ok");
}

/// Few are kept warm rather than all of them lukewarm, and the rest can expire.
#[test]
fn the_connection_that_fell_idle_last_is_used_first() {
    let acceptor = Acceptor::new();
    let ringway = Ringway::options().backend(&acceptor.place).json().start();
    let mut clients = [(); 3].map(|()| ringway.client());
    let mut backends: Vec<Wire> = Vec::new();
    for (number, client) in clients.iter_mut().enumerate() {
        let path = format!("/{number}");
        ask(client, &path);
        backends.push(acceptor.accept());
        asked(&mut backends[number], &path);
    }
    for order in [[1, 2, 0], [2, 0, 1], [0, 1, 2], [2, 1, 0]] {
        for place in order {
            answer(&mut backends[place], &mut clients[place]);
        }
        let [last, middle, first] = order;
        // As long as one is enough, it is the same one.
        for (number, client) in clients.iter_mut().enumerate() {
            let path = format!("/{number}/alone");
            ask(client, &path);
            asked(&mut backends[first], &path);
            answer(&mut backends[first], client);
        }
        // And when more are wanted, the older ones follow in turn.
        for place in [first, middle, last] {
            let path = format!("/{place}/together");
            ask(&mut clients[place], &path);
            asked(&mut backends[place], &path);
        }
    }
    for (backend, client) in backends.iter_mut().zip(&mut clients) {
        answer(backend, client);
    }
    assert!(acceptor.try_accept().is_none(), "there were enough connections");
    assert_eq!(ringway.stats().counter_per_backend("connects"), [3]);
}

/// Not even a request that may be sent only once is lost with it.
#[test]
fn a_connection_that_is_reset_while_idle_is_noticed_before_the_next_request() {
    const ROUNDS: u64 = 30;
    let acceptor = Acceptor::new();
    let ringway = Ringway::options().backend(&acceptor.place).json().start();
    let mut client = ringway.client();
    for round in 0..ROUNDS {
        let body = format!("{round:04}");
        let request = format!("POST /{round} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n{body}");
        client.send(request.as_bytes()).unwrap();
        let mut backend = acceptor.accept();
        assert_eq!(backend.take_head().unwrap().first_line, format!("POST /{round} HTTP/1.1"));
        assert_eq!(backend.take_exactly(4).unwrap(), body.as_bytes());
        answer(&mut backend, &mut client);
        reset_now(&backend.stream);
    }
    let stats = ringway.wait_stats("the last reset", |stats| stats.counter("upstream_stale") == ROUNDS);
    assert_eq!(stats.counter_per_backend("connects"), [ROUNDS]);
    assert_eq!(
        (stats.counter_per_backend("resets"), stats.counter_per_backend("reuses")),
        (vec![0], vec![0])
    );
    assert_eq!((stats.counter("retries_replay"), stats.counter("responses_2xx")), (0, ROUNDS));
    assert_eq!(stats.backend_gauge("idle"), 0);
}
