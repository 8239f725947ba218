//! Passive health: what live traffic shows of a backend takes it out for all workers, and one trial brings it back.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use serde_json::Value;

use crate::support::ringway::message;
use crate::support::stats::backends;
use crate::support::wire::{Closing, Failure, Wire};
use crate::support::{Acceptor, Backend, Client, Configured, Holding, Ringway, eventually, refusing_address};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad";

/// Two backends, the first with a name of its own, and the circuit's rules.
fn cluster(first: &str, second: &str, circuit: &str) -> String {
    format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\n[defaults]\nresponse_timeout = \"200ms\"\n[[cluster]]\n\
         circuit = {{ {circuit} }}\nbackend = [{{ address = \"{first}\", name = \"bad\" }}, \"{second}\"]\n"
    )
}

/// A switch between dying on every request and answering.
#[derive(Clone, Default)]
struct Cured(Arc<AtomicBool>);

impl Cured {
    fn set(&self, cured: bool) {
        self.0.store(cured, Ordering::SeqCst);
    }

    /// Dies after reading a request until it is cured.
    fn backend(&self) -> Backend {
        let cured = Arc::clone(&self.0);
        Backend::scripted(move |connection| {
            while connection.request().is_some() {
                if !cured.load(Ordering::SeqCst) {
                    return;
                }
                connection.say(OK);
            }
        })
    }
}

fn state(ringway: &Ringway, backend: usize) -> String {
    let stats = ringway.stats();
    backends(stats.total())[backend]["state"].as_str().unwrap().to_owned()
}

fn wait_state(ringway: &Ringway, backend: usize, wanted: &str) {
    eventually(&format!("state {wanted}"), || (state(ringway, backend) == wanted).then_some(()));
}

/// Waits until every worker has heard that only the good one is to be asked.
fn wait_only_good(ringway: &Ringway) {
    eventually("only the good one", || (0..10).all(|_| ringway.get("/").text() == "good").then_some(()));
}

/// The lines that tell of a change of the backend that is called bad.
fn changes(ringway: &Ringway) -> Vec<String> {
    let of_bad = |line: &&String| {
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        line["fields"]["backend"] == "bad" || line["backend"] == "bad"
    };
    let lines = ringway.lines();
    let told = lines.iter().filter(of_bad).map(|line| message(line));
    told.filter(|line| line.starts_with("backend is ")).collect()
}

#[test]
fn what_fails_three_times_with_one_worker_is_avoided_by_all() {
    let (bad, good) = (Cured::default().backend(), Backend::well_behaved("good"));
    let text = cluster(&bad.place, &good.place, "failures = 3, open = \"1h\", open_max = \"1h\"");
    let ringway = Configured::start(2, &text);
    let mut client = ringway.client();
    while state(&ringway, 0) != "ejected" {
        assert_eq!(client.get("/").status, 200, "the other one answers for it");
    }
    // A worker tells in batches, so a few more may have come to it.
    wait_only_good(&ringway);
    let asked = bad.connections();
    assert!((3..100).contains(&asked), "{asked}");
    for _ in 0..40 {
        assert_eq!(ringway.get("/").text(), "good", "whatever worker it comes to");
    }
    assert_eq!(bad.connections(), asked, "nothing is sent while the circuit is open");
    assert_eq!(changes(&ringway), ["backend is ejected"]);
    let total = ringway.stats();
    let reason = backends(total.total())[0]["reason"].as_str().unwrap().to_owned();
    assert!(reason.ends_with(" broken connections in a row"), "{reason}");
}

/// Clients that ask one after the other until the test is over.
struct Clients {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Clients {
    fn start(ringway: &Ringway, count: usize) -> Self {
        let (address, over) = (ringway.address(), Arc::new(AtomicBool::new(false)));
        let ask = || {
            let over = Arc::clone(&over);
            thread::spawn(move || {
                let mut answers = Vec::new();
                while !over.load(Ordering::SeqCst) {
                    let answer = Client::connect(address).get("/");
                    answers.push(format!("{} {}", answer.status, answer.text()));
                }
                answers
            })
        };
        let threads = (0..count).map(|_| ask()).collect();
        Clients { over, threads }
    }

    /// All that they were told.
    fn stop(self) -> Vec<String> {
        self.over.store(true, Ordering::SeqCst);
        self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    }
}

#[test]
fn one_trial_at_a_time_and_its_success_readmits() {
    let (cured, asked) = (Cured::default(), Arc::new(AtomicUsize::new(0)));
    let (release, released) = channel::<()>();
    let (is_cured, counted, released) = (cured.clone(), Arc::clone(&asked), Mutex::new(released));
    let backend = Backend::scripted(move |connection| {
        while connection.request().is_some() {
            if !is_cured.0.load(Ordering::SeqCst) {
                return;
            }
            // The first is the trial and waits.
            if counted.fetch_add(1, Ordering::SeqCst) == 0 {
                let _over = released.lock().unwrap().recv();
            }
            connection.say(OK);
        }
    });
    let good = Backend::well_behaved("good");
    let text = cluster(&backend.place, &good.place, "failures = 1, open = \"2s\"");
    let ringway = Configured::start(2, &text.replace("200ms", "30s"));
    while state(&ringway, 0) != "ejected" {
        assert_eq!(ringway.get("/").status, 200);
    }
    wait_only_good(&ringway);
    cured.set(true);
    let clients = Clients::start(&ringway, 6);
    eventually("a trial", || (asked.load(Ordering::SeqCst) > 0).then_some(()));
    for _ in 0..40 {
        assert_eq!(ringway.get("/").text(), "good");
    }
    assert_eq!((asked.load(Ordering::SeqCst), state(&ringway, 0).as_str()), (1, "trial"));
    release.send(()).unwrap();
    wait_state(&ringway, 0, "up");
    eventually("requests at the one that is back", || (asked.load(Ordering::SeqCst) > 10).then_some(()));
    let answers = clients.stop();
    assert!(answers.iter().all(|answer| answer.starts_with("200 ")), "{answers:?}");
    assert_eq!(changes(&ringway), ["backend is ejected", "backend is up"]);
}

#[test]
fn an_unused_trial_goes_on_to_the_next_worker_and_a_failed_one_waits_longer() {
    let cured = Cured::default();
    let (bad, good) = (cured.backend(), Backend::well_behaved("good"));
    let text = cluster(&bad.place, &good.place, "failures = 1, open = \"100ms\", open_max = \"400ms\"");
    let ringway = Configured::start(2, &text);
    // One connection stays with one worker; the other one has nothing to try with.
    let mut client = ringway.client();
    let mut ask = |wanted: usize| {
        eventually("trials", || {
            assert_eq!(client.get("/").status, 200);
            (bad.connections() >= wanted).then_some(())
        });
    };
    ask(4);
    cured.set(true);
    ask(5);
    eventually("readmission", || (client.get("/").text() == "bad").then_some(()));
    wait_state(&ringway, 0, "up");
    assert_eq!(changes(&ringway), ["backend is ejected", "backend is up"]);
}

#[test]
fn a_backend_that_accepts_and_never_answers_is_out_after_a_few_timeouts() {
    let zombie = Backend::scripted(|connection| while connection.request().is_some() {});
    let good = Backend::well_behaved("good");
    let text = cluster(&zombie.place, &good.place, "open = \"1h\", open_max = \"1h\"");
    let ringway = Configured::start(2, &text);
    let mut timeouts = 0;
    while state(&ringway, 0) != "ejected" {
        let answer = ringway.get("/");
        timeouts += usize::from(answer.status == 504);
        assert!(matches!(answer.status, 200 | 504), "{answer:?}");
    }
    // A worker tells in batches, so one or two more may come to it.
    assert!((3..6).contains(&timeouts), "{timeouts}");
    wait_only_good(&ringway);
    for _ in 0..20 {
        assert_eq!(ringway.get("/").text(), "good");
    }
    let reason = backends(ringway.stats().total())[0]["reason"].as_str().unwrap().to_owned();
    assert!(reason.ends_with(" timeouts in a row"), "{reason}");
}

#[test]
fn when_all_are_ejected_the_answer_is_503_at_once_and_the_first_that_is_back_serves() {
    let (held, refusing) = refusing_address();
    let (other_held, other) = refusing_address();
    let text = cluster(&refusing.to_string(), &other.to_string(), "failures = 1, open = \"100ms\"");
    let ringway = Configured::start(2, &text);
    assert_eq!(ringway.get("/").status, 503);
    wait_state(&ringway, 0, "ejected");
    wait_state(&ringway, 1, "ejected");
    drop((held, other_held));
    let back = Backend::well_behaved_at(&other.to_string(), "back");
    eventually("service", || (ringway.get("/").status == 200).then_some(()));
    wait_state(&ringway, 1, "up");
    eventually("service by all workers", || (0..10).all(|_| ringway.get("/").text() == "back").then_some(()));
    assert!(back.connections() > 0);
}

#[test]
fn a_status_of_5xx_counts_only_when_it_is_to() {
    let failing = Backend::answering("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
    let good = Backend::well_behaved("good");
    let text = cluster(&failing.place, &good.place, "open = \"1h\", open_max = \"1h\"");
    let ringway = Configured::start(1, &text);
    let failed = (0..20).filter(|_| ringway.get("/").status == 500).count();
    assert_eq!(failed, 10);
    assert_eq!(state(&ringway, 0), "up");
    ringway.reload(&text.replace("open = ", "count_5xx = true, open = "));
    eventually("ejection", || {
        ringway.get("/");
        (state(&ringway, 0) == "ejected").then_some(())
    });
    assert_eq!(backends(ringway.stats().total())[0]["reason"], "3 responses with status 5xx in a row");
}

#[test]
fn who_fails_more_often_than_the_others_is_ejected() {
    let turn = AtomicUsize::new(0);
    let flaky = Backend::scripted(move |connection| {
        while connection.request().is_some() {
            match turn.fetch_add(1, Ordering::SeqCst) % 2 {
                0 => connection.say(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"),
                _ => connection.say(OK),
            }
        }
    });
    let good = Backend::well_behaved("good");
    let rules = "outlier_ratio = 0.8, outlier_interval = \"1s\", outlier_requests = 10, open = \"1h\", open_max = \"1h\"";
    let ringway = Configured::start(2, &cluster(&flaky.place, &good.place, rules));
    eventually("ejection", || {
        ringway.get("/");
        (state(&ringway, 0) == "ejected").then_some(())
    });
    assert_eq!(backends(ringway.stats().total())[0]["reason"], "fails more often than the others");
}

#[test]
fn when_too_few_are_healthy_all_are_asked() {
    let (bad, good) = (Cured::default().backend(), Backend::well_behaved("good"));
    let text = cluster(
        &bad.place,
        &good.place,
        "failures = 1, open = \"1h\", open_max = \"1h\", panic_threshold = 80",
    );
    let ringway = Configured::start(1, &text);
    for _ in 0..20 {
        assert_eq!(ringway.get("/").text(), "good");
    }
    assert_eq!(state(&ringway, 0), "ejected");
    assert!(bad.connections() >= 10, "{}", bad.connections());
}

#[test]
fn a_draining_backend_keeps_pinned_clients_and_one_in_maintenance_nobody() {
    let (first, second) = (Backend::well_behaved("first"), Backend::well_behaved("second"));
    let text = |state: &str| {
        let text = cluster(&first.place, &second.place, "");
        let sticky = format!("sticky = {{ cookie = \"pin\", key = \"{}\" }}\ncircuit", "ab".repeat(32));
        text.replace("circuit", &sticky).replace("name = \"bad\"", &format!("state = \"{state}\""))
    };
    let ringway = Configured::start(2, &text("ready"));
    let pin = loop {
        let answer = ringway.get("/");
        if answer.text() == "first" {
            let cookie = answer.head.value("set-cookie").unwrap();
            break cookie.split(';').next().unwrap().to_owned();
        }
    };
    let pinned = || {
        let mut client = ringway.client();
        client.send_pieces(&[format!("GET / HTTP/1.1\r\nHost: h\r\nCookie: {pin}\r\n\r\n").as_bytes()]);
        client.response()
    };
    ringway.reload(&text("drain"));
    assert_eq!((state(&ringway, 0).as_str(), pinned().text().as_str()), ("drain", "first"));
    for _ in 0..10 {
        assert_eq!(ringway.get("/").text(), "second");
    }
    ringway.reload(&text("maint"));
    assert_eq!((state(&ringway, 0).as_str(), pinned().text().as_str()), ("maint", "second"));
    ringway.reload(&text("ready"));
    assert_eq!(pinned().text(), "first");
}

#[test]
fn tcp_and_udp_backends_that_refuse_are_ejected_too() {
    for mode in ["tcp", "udp"] {
        let (_held, refusing) = refusing_address();
        let text =
            cluster(&refusing.to_string(), "127.0.0.1:9", "failures = 1, open = \"1h\", open_max = \"1h\"");
        let text = text.replace("[defaults]", &format!("mode = \"{mode}\"\n[defaults]"));
        let ringway = Configured::start(2, &text);
        eventually("ejection", || {
            match mode {
                "tcp" => drop(Client::connect(ringway.address())),
                _ => {
                    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                    socket.send_to(b"x", ringway.address()).unwrap();
                }
            }
            (state(&ringway, 0) == "ejected").then_some(())
        });
    }
}

/// A tunnel to the one that is called bad, or to the other one, and what becomes of both when the first goes down.
fn with_tunnels(on_down: &str, check: impl Fn(Client, Client, Wire, &Configured)) {
    let (bad, good) = (Acceptor::new(), Acceptor::new());
    let text = cluster(&bad.place, &good.place, "").replace("[defaults]", "mode = \"tcp\"\n[defaults]");
    let text = text.replace("circuit", &format!("balance = \"first\"\non_down = \"{on_down}\"\ncircuit"));
    let ringway = Configured::start(1, &text);
    let (to_bad, bad_end) = bad.tunnel(&ringway);
    let drained = text.replace("name = \"bad\"", "name = \"bad\", state = \"drain\"");
    ringway.reload(&drained);
    let (to_good, _good_end) = good.tunnel(&ringway);
    ringway.reload(&text.replace("name = \"bad\"", "name = \"bad\", state = \"maint\""));
    check(to_bad, to_good, bad_end, &ringway);
}

#[test]
fn the_connections_of_a_backend_that_goes_down_are_reset_when_the_operator_wants_it() {
    with_tunnels("close", |bad, good, mut bad_end, ringway| {
        for end in [&mut Wire::new(bad.into_stream()), &mut bad_end] {
            let ended = end.take_some();
            assert!(matches!(ended, Err(Failure::Short { closing: Closing::Reset, .. })), "{ended:?}");
        }
        ringway.wait_stats("the other tunnel alone", |stats| stats.gauge("tunnels_active") == 1);
        drop(good);
    });
}

#[test]
fn the_connections_of_a_backend_that_goes_down_go_on_unless_the_operator_says_otherwise() {
    with_tunnels("keep", |bad, _good, mut bad_end, _ringway| {
        let mut bad = Wire::new(bad.into_stream());
        bad.send(b"still here").unwrap();
        assert_eq!(bad_end.take_exactly(10).unwrap(), b"still here");
        bad_end.send(b"so am I").unwrap();
        assert_eq!(bad.take_exactly(7).unwrap(), b"so am I");
    });
}

#[test]
fn a_request_that_waits_at_a_backend_that_goes_down_is_answered_by_another_one() {
    let holding = Holding::start();
    let good = Backend::well_behaved("good");
    let text = cluster(&holding.backend.place, &good.place, "").replace("200ms", "30s");
    let text = text.replace("circuit", "balance = \"first\"\non_down = \"close\"\ncircuit");
    let ringway = Configured::start(1, &text);
    let mut client = ringway.client();
    client.send_pieces(&[b"GET /held HTTP/1.1\r\nHost: h\r\n\r\n"]);
    holding.asked.recv().unwrap();
    ringway.reload(&text.replace("name = \"bad\"", "name = \"bad\", state = \"maint\""));
    assert_eq!(client.response().text(), "good");
}
