//! Many tunnels: idle ones cost nothing but descriptors, short ones leave nothing behind, too many do no harm.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use crate::support::kernel::{limit_descriptors, raise_descriptor_limit};
use crate::support::wire::{Closing, Wire};
use crate::support::{Acceptor, Backend, Client, Ringway, eventually};

const IDLE: usize = 2_000;
const SHORT: usize = 10_000;

/// What a process holds that could leak.
#[derive(Debug, PartialEq, Eq)]
struct Holdings {
    descriptors: usize,
    pipe_ends: usize,
    threads: usize,
}

impl Holdings {
    fn of(ringway: &Ringway) -> Self {
        Self {
            descriptors: ringway.descriptors(),
            pipe_ends: ringway.pipe_ends(),
            threads: ringway.threads(),
        }
    }
}

/// Waits until it holds what it held before.
fn wait_back_at(ringway: &Ringway, before: &Holdings) {
    ringway.wait_quiet();
    eventually(&format!("{before:?} again"), || (Holdings::of(ringway) == *before).then_some(()));
}

/// A backend that needs few threads: reads once, sends it back and closes, one connection after the other.
fn brisk() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap().to_string();
    for _ in 0..2 {
        let listener = listener.try_clone().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, mut words) = (stream.unwrap(), [0; 64]);
                let count = stream.read(&mut words).unwrap_or(0);
                let _gone = stream.write_all(&words[..count]);
            }
        });
    }
    place
}

/// One connection: some words and their echo.
fn visit(ringway: &Ringway, number: usize) {
    let mut client = TcpStream::connect(ringway.address()).unwrap();
    let (words, mut echo) = (format!("visitor {number}"), Vec::new());
    client.write_all(words.as_bytes()).unwrap();
    client.read_to_end(&mut echo).unwrap_or_else(|error| panic!("visitor {number}: {error}"));
    assert_eq!(echo, words.as_bytes());
}

#[test]
fn thousands_of_silent_tunnels_hold_no_buffer_and_no_pipe() {
    // Two ends of each tunnel are here, and everything other tests need.
    let room = usize::try_from(raise_descriptor_limit()).unwrap_or(usize::MAX) / 4;
    let count = IDLE.min(room);
    let acceptor = Acceptor::new();
    let ringway = Ringway::options().tcp().backend(&acceptor.place).json().start();
    let bulk = vec![b'b'; 300_000];
    let carry = |(client, backend): &mut (Client, Wire)| {
        client.send(&bulk).unwrap();
        backend.take_exactly(bulk.len()).unwrap();
    };
    // The pool keeps the pipe that this takes.
    carry(&mut acceptor.tunnel(&ringway));
    ringway.wait_quiet();
    let before = Holdings::of(&ringway);
    let mut tunnels: Vec<_> = (0..count).map(|_| acceptor.tunnel(&ringway)).collect();
    // Those that were busy once are as cheap as the others.
    tunnels[..count / 20].iter_mut().for_each(carry);
    for round in 0..2u32 {
        let stats = ringway.wait_stats("silence", |stats| {
            stats.gauge("tunnels_active") == count as u64 && stats.gauge("buffers_in_use") == 0
        });
        assert_eq!((stats.gauge("buffers_in_use"), stats.gauge("pipes_in_use")), (0, 0));
        let held = Holdings { descriptors: before.descriptors + 2 * count, ..before };
        assert_eq!(Holdings::of(&ringway), held);
        for (number, (client, backend)) in tunnels.iter_mut().enumerate() {
            let words = format!("{round} {number}");
            client.send(words.as_bytes()).unwrap();
            let heard = backend.take_exactly(words.len()).unwrap();
            backend.send(&heard).unwrap();
            assert_eq!(client.take_exactly(words.len()).unwrap(), words.as_bytes());
        }
    }
    drop(tunnels);
    wait_back_at(&ringway, &before);
}

/// Promise 38, and nothing leaks: ten thousand connections to one backend, none of which fails.
#[test]
fn thousands_of_short_connections_leave_nothing_behind() {
    let ringway = Ringway::options().tcp().backend(brisk()).json().start();
    visit(&ringway, 0);
    ringway.wait_quiet();
    let before = Holdings::of(&ringway);
    thread::scope(|scope| {
        for crowd in 0..4 {
            let ringway = &ringway;
            scope.spawn(move || (1..=SHORT / 4).for_each(|number| visit(ringway, crowd * SHORT + number)));
        }
    });
    wait_back_at(&ringway, &before);
    let stats = ringway.wait_quiet();
    assert_eq!(stats.counter("tunnels"), 1 + SHORT as u64);
    let failed =
        ["tunnels_refused", "retries_connect", "fault_ports_exhausted", "fault_local", "connection_panics"];
    for name in failed {
        assert_eq!(stats.counter(name), 0, "{name}");
    }
}

#[test]
fn a_silent_tunnel_is_closed_in_its_time_and_counted() {
    if !cfg!(debug_assertions) {
        return;
    }
    let acceptor = Acceptor::new();
    // An hour becomes 360 ms.
    let ringway = Ringway::options().tcp().hastened(10_000).backend(&acceptor.place).json().start();
    let mut cut = Vec::new();
    for spoken in [false, true] {
        let (mut client, mut backend) = acceptor.tunnel(&ringway);
        if spoken {
            client.send(b"hello").unwrap();
            backend.take_exactly(5).unwrap();
        }
        cut.push((client, backend));
    }
    // One that goes on talking, in one direction only, is not closed.
    let (mut talks, mut hears) = acceptor.tunnel(&ringway);
    eventually("both silent tunnels to be closed", || {
        talks.send(b".").unwrap();
        hears.take_exactly(1).unwrap();
        (ringway.stats().counter("tunnel_timeouts") == 2).then_some(())
    });
    for (mut client, mut backend) in cut {
        assert_eq!((client.closing(), backend.closing()), (Closing::Reset, Closing::Reset));
    }
    assert_eq!(ringway.stats().gauge("tunnels_active"), 1);
}

/// As in HTTP: when descriptors run out, nobody is harmed who has some, and everybody is served afterwards.
#[test]
fn it_survives_the_want_of_descriptors_and_serves_again() {
    let backend = Backend::scripted(|connection| {
        while let Ok(words) = connection.take_some() {
            connection.say(&words);
        }
    });
    let options = Ringway::options().tcp().backends(&[&backend]).json();
    let mut ringway = options.command(|command| limit_descriptors(command, 64)).start();
    let mut early = ringway.client();
    let mut echo = |words: &[u8]| {
        early.send(words).unwrap();
        assert_eq!(early.take_exactly(words.len()).unwrap(), words);
    };
    echo(b"first");
    for _ in 0..2 {
        let crowd: Vec<_> = (0..200).map(|_| ringway.client()).collect();
        eventually("the descriptors to be used up", || (ringway.most_descriptors() >= 60).then_some(()));
        // In bulk as well, though no pipe can be had.
        echo(&[b'x'; 100_000]);
        assert!(ringway.ended().is_none());
        drop(crowd);
        let served = || {
            let mut client = ringway.client();
            client.send(b"hello").ok()?;
            client.take_exactly(5).ok().filter(|heard| heard == b"hello")
        };
        eventually("service after the crowd has left", served);
    }
    drop(early);
    assert_eq!(ringway.wait_quiet().counter("connection_panics"), 0);
    assert!(ringway.ended().is_none());
}
