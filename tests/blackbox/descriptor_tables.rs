//! Each worker has descriptors of its own: what the others lack is nothing to it, and what passes between them arrives.

use std::collections::HashSet;
use std::fs;

use rustix::process::Signal;

use crate::support::configured::Configured;
use crate::support::kernel::{forbid, limit_descriptors};
use crate::support::stats::Stats;
use crate::support::{Backend, Client, Ringway, eventually};

/// The sockets that a thread of the binary has open.
fn sockets(ringway: &Ringway, thread: i32) -> HashSet<String> {
    let entries = fs::read_dir(format!("/proc/{}/task/{thread}/fd", ringway.id())).unwrap();
    let links = entries.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    links.map(|link| link.to_string_lossy().into_owned()).filter(|link| link.starts_with("socket:")).collect()
}

#[test]
fn no_thread_holds_a_connection_of_another() {
    let backend = Backend::well_behaved("a");
    let ringway = Ringway::options().backends(&[&backend]).cores(2).start();
    let mut clients: Vec<_> = (0..50).map(|_| ringway.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").text(), "a");
    }
    let tables: Vec<_> = ringway.workers().into_iter().map(|worker| sockets(&ringway, worker)).collect();
    let main = sockets(&ringway, ringway.id().cast_signed());
    for (worker, table) in tables.iter().enumerate() {
        let others = tables.iter().enumerate().filter(|(other, _)| *other != worker).map(|(_, table)| table);
        for shared in others.chain([&main]).map(|other| table.intersection(other).count()) {
            // The ways to all threads are everybody's.
            assert!(
                shared < 12,
                "{shared} of {} sockets of worker {worker} are another thread's",
                table.len()
            );
        }
    }
    let connections: usize = tables.iter().map(HashSet::len).sum();
    assert!(connections > 50, "{connections} sockets");
}

/// A listener of two addresses, or of one.
fn listener(backend: &Backend, binds: &str) -> String {
    let place = &backend.place;
    format!(
        "[[listener]]\nname = \"web\"\nbind = {binds}\n[[cluster]]\nname = \"c\"\n[[cluster.backend]]\naddress = \"http://{place}\"\n"
    )
}

const ONE: &str = "\"127.0.0.1:0\"";
const TWO: &str = "[\"127.0.0.1:0\", \"127.0.0.2:0\"]";

/// Where a filter forbids it, everything works in one table as well.
#[test]
fn one_table_for_all_will_do() {
    let backend = Backend::well_behaved("a");
    for errno in [libc::EPERM, libc::ENOSYS] {
        let change = |command: &mut std::process::Command| forbid(command, libc::SYS_close_range, errno);
        let ringway = Configured::start_changed(2, &listener(&backend, ONE), change);
        ringway.reload(&listener(&backend, TWO));
        let second = ringway.listener("web-2");
        // Its workers are told to listen when all of them have heard of it.
        eventually("the second listener", || Client::try_connect(second).ok());
        let mut clients: Vec<_> = [ringway.address(), second]
            .into_iter()
            .flat_map(|place| (0..8).map(move |_| Client::connect(place)))
            .collect();
        for client in &mut clients {
            assert_eq!(client.get("/").text(), "a");
        }
        let all = |stats: &Stats| stats.gauge("connections_active") == 16;
        let spread = ringway.wait_stats("all connections", all).gauge_per_worker("connections_active");
        assert!(spread.iter().all(|count| *count <= 10), "{spread:?}");
    }
}

/// A socket that is handed to a worker without room for it waits; it is neither lost nor forgotten.
#[test]
fn a_listener_that_comes_when_descriptors_are_used_up_is_opened_later() {
    let backend = Backend::well_behaved("a");
    let limit = |command: &mut std::process::Command| limit_descriptors(command, 64);
    let ringway = Configured::start_changed(1, &listener(&backend, ONE), limit);
    let crowd: Vec<_> = (0..100).map(|_| Client::connect(ringway.address())).collect();
    ringway.wait_stats("want of descriptors", |stats| stats.counter("accept_errors_descriptors") > 0);
    ringway.reload(&listener(&backend, TWO));
    let second = ringway.listener("web-2");
    assert!(Client::try_connect(second).is_err(), "there was room for it");
    drop(crowd);
    let served = || {
        let mut client = Client::try_connect(second).ok()?;
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").ok()?;
        client.response_to("GET").ok().filter(|response| response.status == 200).map(drop)
    };
    eventually("the second listener", served);
}

/// A handler writes to a descriptor of the main thread's, so no other thread may run it.
#[test]
fn signals_to_a_worker_are_signals_to_the_process() {
    let backend = Backend::well_behaved("a");
    let ringway = Ringway::options().backends(&[&backend]).cores(2).json().start();
    for worker in ringway.workers() {
        let status = fs::read_to_string(format!("/proc/{}/task/{worker}/status", ringway.id())).unwrap();
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
        let blocked = u64::from_str_radix(blocked.trim(), 16).unwrap();
        for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::USR1, Signal::USR2, Signal::QUIT] {
            assert!(blocked & 1 << (signal.as_raw() - 1) != 0, "{signal:?} is taken by a worker");
        }
    }
    // Whoever signals the process is heard.
    assert_eq!(ringway.stats().counter("connection_panics"), 0);
}
