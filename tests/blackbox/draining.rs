//! The orderly end on two workers, of which one still has work: idle, new and waiting connections.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::deadline::within;
use crate::support::kernel::allowed_cores;
use crate::support::ringway::Options;
use crate::support::wire::Closing;
use crate::support::{Acceptor, Backend, Client, Holding, PATIENCE, Ringway, eventually};

/// What happens without waiting for anything; far below the shutdown time-out of 25 s.
const PROMPTLY: Duration = Duration::from_secs(2);

/// A kept connection that has been served, and the worker it is on.
fn placed(ringway: &Ringway) -> (usize, Client) {
    let before = ringway.stats().gauge_per_worker("connections_active");
    let mut client = ringway.client();
    assert_eq!(client.get("/").status, 200);
    let after = ringway.stats().gauge_per_worker("connections_active");
    let worker = (0..after.len()).find(|&worker| after[worker] > before[worker]);
    (worker.unwrap_or_else(|| panic!("neither worker has it: {before:?}, {after:?}")), client)
}

/// Kept connections on both workers, at least two on each, and a request held on `worker`.
fn with_one_held(ringway: &Ringway, holding: &Holding, worker: usize) -> (Client, Vec<Client>) {
    let mut on = [Vec::new(), Vec::new()];
    while on.iter().any(|clients| clients.len() < 3) {
        let (worker, client) = placed(ringway);
        on[worker].push(client);
        assert!(on[0].len() + on[1].len() < 40, "all connections are on one worker");
    }
    let mut held = on[worker].pop().unwrap();
    held.send(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    holding.asked.recv_timeout(PATIENCE).unwrap();
    (held, on.into_iter().flatten().collect())
}

/// Whether a connection is refused; one that is neither refused nor made in time counts as made.
fn is_refused(ringway: &Ringway) -> bool {
    let attempt = TcpStream::connect_timeout(&ringway.address(), PROMPTLY);
    attempt.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// Lets the held request go, and sees the process end.
fn let_go(mut ringway: Ringway, holding: &Holding, mut held: Client) {
    assert!(ringway.ended().is_none(), "it did not wait for the held request");
    holding.release.send(()).unwrap();
    let response = held.last_response().unwrap();
    assert_eq!((response.status, response.text().as_str()), (200, "done"));
    // Else it would wait a moment for what the client may still be sending.
    drop(held);
    assert_eq!(ringway.wait_exit(PATIENCE), Some(0));
}

/// Orders the end of two workers of which one, each in its turn, has a held request; looks at what is idle on both, and
/// lets the request go.
fn while_one_works(look: impl Fn(&Ringway, &mut [Client])) {
    if allowed_cores().len() < 2 {
        eprintln!("there is only one core, and so no second worker");
        return;
    }
    for worker in [0, 1] {
        let holding = Holding::start();
        let ringway = Ringway::options().backends(&[&holding.backend]).cores(2).json().start();
        let (held, mut idle) = with_one_held(&ringway, &holding, worker);
        ringway.signal(libc::SIGTERM);
        look(&ringway, &mut idle);
        let_go(ringway, &holding, held);
    }
}

#[test]
fn idle_connections_of_both_workers_are_closed_while_one_works() {
    while_one_works(|_, idle| {
        for client in idle {
            client.set_patience(PROMPTLY);
            assert_eq!(client.closing(), Closing::Fin);
        }
    });
}

#[test]
fn every_new_connection_is_refused_while_one_worker_still_works() {
    while_one_works(|ringway, _| {
        let refused = within(PROMPTLY, || is_refused(ringway).then_some(()));
        assert!(refused.is_some(), "new connections are still taken");
        assert!((0..20).all(|_| is_refused(ringway)), "and then one was not refused");
    });
}

/// Whoever was shaken hands with before the end began is served: many more than are accepted in one go.
#[test]
fn what_waits_in_the_accept_queue_when_the_end_begins_is_answered() {
    for cores in [1, 2] {
        let backend = Backend::well_behaved("complete");
        let mut ringway = Ringway::options().backends(&[&backend]).cores(cores).start();
        assert_eq!(ringway.get("/").status, 200);
        ringway.pause();
        let mut clients: Vec<_> = (0..400).map(|_| ringway.client()).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            // All of them at once would be too many for a backend's own queue; the others need none.
            let line =
                if number % 8 == 0 { "GET / HTTP/1.1" } else { "OPTIONS * HTTP/1.1\r\nMax-Forwards: 0" };
            client.send(format!("{line}\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
        }
        ringway.signal(libc::SIGTERM);
        ringway.resume();
        let answers = clients.iter_mut().map(|client| client.response_to("GET"));
        let missing: Vec<_> = answers
            .enumerate()
            .filter(|(number, answer)| {
                let expected = if number % 8 == 0 { "complete" } else { "" };
                !answer.as_ref().is_ok_and(|answer| answer.status == 200 && answer.text() == expected)
            })
            .collect();
        assert!(missing.is_empty(), "{cores} workers, {} unanswered: {missing:?}", missing.len());
        drop(clients);
        assert_eq!(ringway.wait_exit(PATIENCE), Some(0));
    }
}

/// In TCP mode a connection is what runs: it goes on to its own end, and no other one begins.
#[test]
fn tunnels_go_on_to_their_own_end() {
    let acceptor = Acceptor::new();
    let mut ringway = Ringway::options().tcp().backend(&acceptor.place).json().start();
    let mut tunnels: Vec<_> = (0..3).map(|_| acceptor.tunnel(&ringway)).collect();
    ringway.signal(libc::SIGTERM);
    // Those that come before the order arrives are tunnels like any other.
    let mut early = 0;
    let refused = within(PROMPTLY, || {
        let Ok(mut client) = Client::try_connect(ringway.address()) else { return Some(()) };
        early += 1;
        // One that comes in the very moment when listening ends is reset, at the latest when it says something.
        let _reset = client.send(b"?");
        let served = || acceptor.try_accept().map(drop).or_else(|| client.has_input().then_some(()));
        eventually("service or a refusal", served);
        None
    });
    assert!(refused.is_some(), "new connections are still taken");
    while let Some((mut client, mut backend)) = tunnels.pop() {
        assert!(ringway.ended().is_none(), "it did not wait for its tunnels");
        client.send(b"still ").unwrap();
        assert_eq!(backend.take_exactly(6).unwrap(), b"still ");
        backend.send(b"here").unwrap();
        backend.finish();
        assert_eq!(client.take_to_end().unwrap(), b"here");
        client.finish();
        assert_eq!(backend.take_to_end().unwrap(), b"");
    }
    // Then nothing is waited for.
    assert_eq!(ringway.wait_exit(PROMPTLY), Some(0));
    let line = ringway.wait_line("the farewell", |line| line.contains("\"stopped\""));
    let finished = |count: i32| line.contains(&format!("\"finished\":{count},"));
    // Some of the early ones may have ended before the order.
    assert!((3..=3 + early).any(finished) && line.contains("\"cut\":0"), "{line}");
}

/// Opens tunnels, one of them half-closed and one blocked, and ends them all by `end`; the peers see no clean end.
fn cut_tunnels(options: Options, end: impl Fn(&Ringway)) {
    let acceptor = Acceptor::new();
    let mut ringway = options.tcp().backend(&acceptor.place).json().start();
    let mut tunnels: Vec<_> = (0..2).map(|_| acceptor.tunnel(&ringway)).collect();
    let (mut client, mut blocked) = (tunnels[0].0.stream.try_clone().unwrap(), acceptor.tunnel(&ringway));
    client.write_all(b"words").unwrap();
    blocked.0.stream.set_nonblocking(true).unwrap();
    eventually("a full way", || blocked.0.stream.write_all(&[b'x'; 1 << 20]).err());
    blocked.0.stream.set_nonblocking(false).unwrap();
    assert_eq!(tunnels[0].1.take_exactly(5).unwrap(), b"words");
    end(&ringway);
    assert_eq!(ringway.wait_exit(PROMPTLY), Some(0));
    let line = ringway.wait_line("the farewell", |line| line.contains("\"stopped\""));
    assert!(line.contains("\"finished\":0") && line.contains("\"cut\":3"), "{line}");
    tunnels.push(blocked);
    for (mut client, mut backend) in tunnels {
        assert_eq!((client.wait_closed(), backend.wait_closed()), (Closing::Reset, Closing::Reset));
    }
}

#[test]
fn tunnels_that_do_not_end_in_time_are_cut() {
    if cfg!(debug_assertions) {
        // 25 s become 250 ms.
        cut_tunnels(Ringway::options().hastened(100), |ringway| ringway.signal(libc::SIGTERM));
    }
}

#[test]
fn a_second_signal_cuts_tunnels_at_once() {
    cut_tunnels(Ringway::options(), |ringway| {
        ringway.signal(libc::SIGTERM);
        ringway.wait_line("the first one to be understood", |line| line.contains("\"stopping"));
        ringway.signal(libc::SIGTERM);
    });
}
