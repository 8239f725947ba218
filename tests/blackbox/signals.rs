//! Signals: an orderly end, a sudden end, statistics, and the ones that must not end anything.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::support::kernel::allowed_cores;
use crate::support::stats::{backends, entries};
use crate::support::wire::Closing;
use crate::support::{Backend, Client, Configured, Holding, PATIENCE, Ringway};

/// Well below the shutdown time-out of 25 s.
const SOON: Duration = Duration::from_secs(10);

impl Holding {
    /// A client whose request has arrived at the backend and is held there.
    fn hold(&self, ringway: &Ringway) -> Client {
        let mut client = ringway.client();
        client.send(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        self.asked.recv_timeout(PATIENCE).unwrap();
        client
    }
}

#[test]
fn term_int_and_quit_finish_what_is_running() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT] {
        let holding = Holding::start();
        let mut ringway = Ringway::in_front_of(&[&holding.backend]);
        let mut idle = ringway.client();
        assert_eq!(idle.get("/").status, 200);
        let mut unused = ringway.client();
        let mut running = holding.hold(&ringway);
        ringway.signal(signal);
        ringway.wait_refuses();
        assert_eq!(idle.closing(), Closing::Fin, "signal {signal}: idle connections are closed");
        unused.wait_closed();
        assert!(ringway.ended().is_none(), "signal {signal}: it waits for the running request");
        holding.release.send(()).unwrap();
        let response = running.last_response().unwrap();
        assert_eq!((response.status, response.text().as_str()), (200, "done"), "signal {signal}");
        assert_eq!(ringway.wait_exit(SOON), Some(0), "signal {signal}");
    }
}

#[test]
fn without_work_the_end_comes_at_once() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT] {
        let backend = Backend::well_behaved("a");
        let mut ringway = Ringway::options().backends(&[&backend]).cores(2).start();
        let mut idle = ringway.client();
        assert_eq!(idle.get("/").status, 200);
        ringway.signal(signal);
        assert_eq!(ringway.wait_exit(SOON), Some(0), "signal {signal}");
        idle.closing();
    }
}

#[test]
fn the_end_is_reported_with_how_many_were_finished_and_cut() {
    let holding = Holding::start();
    let mut ringway = Ringway::in_front_of(&[&holding.backend]);
    let mut running = holding.hold(&ringway);
    ringway.signal(libc::SIGTERM);
    ringway.wait_refuses();
    holding.release.send(()).unwrap();
    assert_eq!(running.response().status, 200);
    assert_eq!(ringway.wait_exit(SOON), Some(0));
    // The probes that waited for the refusal may have been finished as well.
    let counts =
        |line: &str| line.contains("finished=") && !line.contains("finished=0") && line.contains("cut=0");
    ringway.wait_line("the count of what was finished (at least 1) and cut (0)", counts);
}

#[test]
fn a_second_signal_cuts_at_once() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let holding = Holding::start();
        let mut ringway = Ringway::in_front_of(&[&holding.backend]);
        let mut running = holding.hold(&ringway);
        ringway.signal(signal);
        ringway.wait_refuses();
        ringway.signal(signal);
        assert_eq!(ringway.wait_exit(SOON), Some(0), "signal {signal}");
        assert!(
            running.response_to("GET").is_err(),
            "signal {signal}: the held request cannot have an answer"
        );
    }
}

/// The twin whose time is limited shows when that time is over.
#[test]
fn quit_waits_for_what_is_running_however_long_it_takes() {
    let (patient, limited) = (Holding::start(), Holding::start());
    let start = |holding: &Holding| {
        let text = format!(
            "[[listener]]\nbind = \"127.0.0.1:0\"\n[[cluster]]\nbackend = {:?}\n\
             [runtime]\nshutdown_timeout = \"500ms\"\n",
            holding.backend.place
        );
        Configured::start(1, &text)
    };
    let [mut quits, mut ends] = [&patient, &limited].map(start);
    let (mut waits, mut is_cut) = (patient.hold(&quits), limited.hold(&ends));
    quits.signal(libc::SIGQUIT);
    quits.wait_line("the order to stop", |line| line.contains("stopping"));
    ends.signal(libc::SIGTERM);
    assert_eq!(ends.wait_exit(SOON), Some(0));
    assert!(is_cut.response_to("GET").is_err(), "the held request cannot have an answer");
    ends.wait_line("the count of what was cut", |line| line.contains("\"cut\":1"));
    assert!(quits.ended().is_none(), "QUIT has a limit, too");
    patient.release.send(()).unwrap();
    let response = waits.last_response().unwrap();
    assert_eq!((response.status, response.text().as_str()), (200, "done"));
    assert_eq!(quits.wait_exit(SOON), Some(0));
    quits.wait_line("the count of what was cut", |line| line.contains("\"cut\":0"));
}

/// A response in the middle of its body is finished as well, and the connection ends behind it.
#[test]
fn term_finishes_a_body_that_is_under_way() {
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let backend = Backend::scripted(move |connection| {
        if connection.request().is_some() {
            connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst");
            released.lock().unwrap().recv_timeout(PATIENCE).unwrap();
            connection.say(b"later");
        }
    });
    let mut ringway = Ringway::in_front_of(&[&backend]);
    let mut client = ringway.client();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    client.head();
    assert_eq!(client.take_exactly(5).unwrap(), b"first");
    ringway.signal(libc::SIGTERM);
    ringway.wait_refuses();
    release.send(()).unwrap();
    assert_eq!(client.take_to_end().unwrap(), b"later");
    assert_eq!(ringway.wait_exit(SOON), Some(0));
}

#[test]
fn hup_usr2_and_pipe_do_not_end_it() {
    for signal in [libc::SIGHUP, libc::SIGUSR2, libc::SIGPIPE] {
        let backend = Backend::well_behaved("a");
        let mut ringway = Ringway::counted_in_front_of(&[&backend]);
        let mut client = ringway.client();
        assert_eq!(client.get("/").status, 200);
        ringway.signal(signal);
        // Once it has answered a later signal, it has dealt with this one.
        ringway.stats();
        assert_eq!(ringway.ended(), None, "signal {signal}");
        assert_eq!(client.get("/").status, 200, "signal {signal}");
        assert_eq!(ringway.get("/").status, 200, "signal {signal}");
    }
}

#[test]
fn usr1_tells_every_worker_and_the_total_as_text() {
    let backend = Backend::well_behaved("a");
    let ringway = Ringway::options().backends(&[&backend]).cores(2).start();
    for _ in 0..3 {
        assert_eq!(ringway.get("/").status, 200);
    }
    let before = ringway.lines().len();
    ringway.signal(libc::SIGUSR1);
    let address = backend.address.to_string();
    for word in ["worker 0", "total", "requests", "connections", address.as_str()] {
        ringway.wait_line(word, |line| line.to_lowercase().contains(word));
    }
    let said = ringway.lines().split_off(before).join("\n").to_lowercase();
    if allowed_cores().len() > 1 {
        assert!(said.contains("worker 1"), "{said}");
    }
}

#[test]
fn usr1_tells_sums_that_are_right_as_json() {
    let (a, b) = (Backend::well_behaved("a"), Backend::well_behaved("b"));
    let ringway = Ringway::options().backends(&[&a, &b]).cores(2).json().start();
    let mut held: Vec<_> = (0..7).map(|_| ringway.client()).collect();
    for client in &mut held {
        assert_eq!(client.get("/").status, 200);
    }
    let stats = ringway.wait_stats("7 connections", |stats| stats.gauge("connections_active") == 7);
    for group in ["counters", "gauges"] {
        for (name, total) in entries(stats.total(), group) {
            // Peaks and quantiles are no sums; all plain counters and the gauges of what is there now are.
            let of_now =
                ["connections_active", "exchanges_active", "buffers_in_use", "pipes_in_use", "upstream_idle"];
            if group == "counters" || of_now.contains(&name.as_str()) {
                let sum: u64 = stats
                    .workers()
                    .iter()
                    .flat_map(|worker| entries(worker, group))
                    .filter(|entry| entry.0 == name)
                    .map(|entry| entry.1)
                    .sum();
                assert_eq!(total, sum, "{name}");
            }
        }
    }
    for (number, worker) in stats.workers().iter().enumerate() {
        assert_eq!(worker["worker"].as_u64(), Some(number as u64));
        assert_eq!(backends(worker).len(), 2);
    }
    let named: Vec<_> = backends(stats.total())
        .iter()
        .map(|backend| (&backend["cluster"], backend["backend"].as_str()))
        .collect();
    for backend in [&a, &b] {
        let address = backend.address.to_string();
        assert!(
            named.iter().any(|(cluster, name)| *cluster == "default" && *name == Some(&address)),
            "{named:?}"
        );
    }
    drop(held);
    ringway.wait_quiet();
}

/// A request that is being served is counted as active at its backend, and only as long.
#[test]
fn what_is_active_is_counted() {
    let holding = Holding::start();
    let ringway = Ringway::counted_in_front_of(&[&holding.backend]);
    let mut held: Vec<_> = (0..7).map(|_| holding.hold(&ringway)).collect();
    let stats = ringway.stats();
    assert_eq!((stats.backend_gauge("active"), stats.gauge("exchanges_active")), (7, 7));
    for _ in 0..7 {
        holding.release.send(()).unwrap();
    }
    for client in &mut held {
        assert_eq!(client.response().status, 200);
    }
    ringway.wait_stats("nothing active", |stats| {
        stats.backend_gauge("active") == 0 && stats.gauge("exchanges_active") == 0
    });
}
