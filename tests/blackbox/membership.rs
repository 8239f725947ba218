//! Backends, listeners and shares that change while the binary runs: SIGHUP, and who notices.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::support::ringway::message;
use crate::support::{Backend, Client, Configured, Holding, eventually};

/// A listener by name, on a free port.
pub(crate) fn listener(name: &str, mode: &str, cluster: &str) -> String {
    format!(
        "[[listener]]\nname = \"{name}\"\nbind = \"127.0.0.1:0\"\nmode = \"{mode}\"\ncluster = \"{cluster}\"\n"
    )
}

/// A cluster by name, with its backends and their weights.
pub(crate) fn cluster(name: &str, backends: &[(&str, u32)]) -> String {
    let mut text = format!("[[cluster]]\nname = \"{name}\"\n");
    for (place, weight) in backends {
        write!(text, "[[cluster.backend]]\naddress = \"{place}\"\nweight = {weight}\n").unwrap();
    }
    text
}

/// One listener and one cluster.
pub(crate) fn simple(mode: &str, backends: &[(&str, u32)]) -> String {
    listener("front", mode, "pool") + &cluster("pool", backends)
}

/// Says its name for each byte it hears.
pub(crate) fn naming(id: &'static str) -> Backend {
    Backend::scripted(move |connection| {
        while connection.take_exactly(1).is_ok() {
            connection.say(id.as_bytes());
        }
    })
}

pub(crate) fn name_of(client: &mut Client) -> String {
    client.send(b"?").unwrap();
    String::from_utf8(client.take_exactly(1).unwrap()).unwrap()
}

/// A client that has sent a request which its backend holds.
fn held(ringway: &Configured, holding: &Holding) -> Client {
    let mut client = Client::connect(ringway.listener("front"));
    client.send(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    eventually("the request at its backend", || holding.asked.try_recv().ok());
    client
}

/// Promise 11.
#[test]
fn live_connections_stay_where_they_are_when_backends_come_and_go() {
    let [a, b, c] = ["a", "b", "c"].map(naming);
    let (a, b, c) = (a.place.as_str(), b.place.as_str(), c.place.as_str());
    let ringway = Configured::start(2, &simple("tcp", &[(a, 1), (b, 1)]));
    let mut clients: Vec<_> = (0..100).map(|_| ringway.client()).collect();
    let before: Vec<_> = clients.iter_mut().map(name_of).collect();
    assert!(before.iter().any(|name| name == "a") && before.iter().any(|name| name == "b"));
    for (backends, newcomers) in [
        (&[(a, 1), (b, 1), (c, 1)][..], "abc"),
        (&[(c, 1), (b, 1)][..], "bc"),
        (&[(c, 7)][..], "c"),
        (&[(a, 1), (b, 1)][..], "ab"),
    ] {
        ringway.reload(&simple("tcp", backends));
        let after: Vec<_> = clients.iter_mut().map(name_of).collect();
        assert_eq!(after, before, "connections in progress were moved");
        let mut new: Vec<_> = (0..30).map(|_| name_of(&mut ringway.client())).collect();
        new.sort();
        new.dedup();
        assert_eq!(new.concat(), newcomers);
    }
    drop(clients);
    ringway.wait_quiet();
}

/// Promises 11 and 22: a request in progress ends at a backend that is no member any more, or that drains.
#[test]
fn requests_in_progress_finish_at_a_backend_that_leaves_or_drains() {
    let (holding, other) = (Holding::start(), Backend::well_behaved("other"));
    let (first, second) = (holding.backend.place.as_str(), other.place.as_str());
    for after in [&[(second, 1)][..], &[(first, 0), (second, 1)]] {
        let ringway = Configured::start(2, &simple("http", &[(first, 1)]));
        let mut clients: Vec<_> = (0..10).map(|_| held(&ringway, &holding)).collect();
        let heads = holding.backend.heads();
        ringway.reload(&simple("http", after));
        let mut client = ringway.client();
        for _ in 0..20 {
            assert_eq!(client.get("/").text(), "other");
            assert_eq!(ringway.get("/").text(), "other");
        }
        for client in &mut clients {
            holding.release.send(()).unwrap();
            let _any = client;
        }
        for client in &mut clients {
            let response = client.response();
            assert_eq!((response.status, response.text().as_str()), (200, "done"));
            // The connection goes on, and its next request is new work.
            assert_eq!(client.get("/").text(), "other");
        }
        assert_eq!(holding.backend.heads(), heads, "it was given new work");
        drop((clients, client));
        ringway.wait_quiet();
    }
}

/// What a load has seen since `phase` was last changed.
#[derive(Default)]
struct Load {
    phase: AtomicUsize,
    over: AtomicBool,
    /// Per phase in which the request was sent, who answered.
    heard: Mutex<BTreeMap<(usize, String), usize>>,
}

impl Load {
    /// Asks on kept connections and on fresh ones until it is over; every answer must be a good one.
    fn run(&self, ringway: &Configured, fresh: bool) {
        let stop = Stop(self);
        let mut client = ringway.client();
        while !self.over.load(Ordering::SeqCst) {
            let phase = self.phase.load(Ordering::SeqCst);
            let response = client.get("/");
            assert_eq!(response.status, 200, "in phase {phase}: {}", response.text());
            *self.heard.lock().unwrap().entry((phase, response.text())).or_default() += 1;
            if fresh || response.says_close() {
                client = ringway.client();
            }
        }
        // Only a failure ends all of it.
        std::mem::forget(stop);
    }

    /// How many each of them answered in a phase of its own with at least `count` requests.
    fn phase(&self, count: usize, names: [&str; 2]) -> [usize; 2] {
        let phase = self.phase.fetch_add(1, Ordering::SeqCst) + 1;
        eventually("the requests of a phase", || {
            assert!(!self.over.load(Ordering::SeqCst), "a client has failed");
            let heard = self.heard.lock().unwrap();
            let answers = names.map(|name| heard.get(&(phase, name.to_owned())).copied().unwrap_or(0));
            (answers.iter().sum::<usize>() >= count).then_some(answers)
        })
    }
}

/// Ends the load of a test that fails, too.
struct Stop<'a>(&'a Load);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::SeqCst);
    }
}

/// Promise 35: all, then a few, then nothing of the old, and nobody sees an error.
fn shift(file: impl Fn(u32, u32) -> String) {
    let ringway = Configured::start(2, &file(100, 0));
    let load = Load::default();
    thread::scope(|scope| {
        for client in 0..4 {
            let (load, ringway) = (&load, &ringway);
            scope.spawn(move || load.run(ringway, client == 0));
        }
        let stop = Stop(&load);
        let names = ["blue", "green"];
        assert_eq!(load.phase(500, names)[1], 0);
        ringway.reload(&file(90, 10));
        let [blue, green] = load.phase(1_500, names);
        let share = green as f64 / (blue + green) as f64;
        assert!((0.07..0.13).contains(&share), "{share} instead of a tenth");
        ringway.reload(&file(0, 100));
        assert_eq!(load.phase(500, names)[0], 0);
        ringway.reload(&file(100, 0));
        assert_eq!(load.phase(500, names)[1], 0);
        drop(stop);
    });
    let stats = ringway.wait_quiet();
    assert_eq!(stats.counter("connection_panics"), 0);
}

#[test]
fn weights_of_backends_shift_the_load_without_an_error() {
    let [blue, green] = ["blue", "green"].map(Backend::well_behaved);
    shift(|old, new| simple("http", &[(&blue.place, old), (&green.place, new)]));
}

#[test]
fn weights_of_clusters_shift_the_load_without_an_error() {
    let [blue, green] = ["blue", "green"].map(Backend::well_behaved);
    shift(|old, new| {
        let route = format!(
            "[[route]]\npath_prefix = \"/\"\nsplit = [{{ cluster = \"blue\", weight = {old} }}, {{ cluster = \"green\", weight = {new} }}]\n"
        );
        listener("front", "http", "blue")
            + &route
            + &cluster("blue", &[(&blue.place, 1)])
            + &cluster("green", &[(&green.place, 1)])
    });
}

#[test]
fn a_listener_is_added_and_another_one_removed() {
    let holding = Holding::start();
    let pool = cluster("pool", &[(&holding.backend.place, 1)]);
    let front = listener("front", "http", "pool");
    let ringway = Configured::start(2, &format!("{front}{pool}"));
    let old = ringway.listener("front");
    let mut client = held(&ringway, &holding);
    let idle = ringway.get("/");
    assert_eq!(idle.text(), "done");
    let back = listener("back", "http", "pool");
    ringway.reload(&format!("{back}{pool}"));
    let new = ringway.listener("back");
    assert_ne!(new, old);
    for _ in 0..10 {
        assert_eq!(Client::connect(new).get("/").text(), "done");
    }
    ringway.wait_refuses();
    for _ in 0..10 {
        assert!(Client::try_connect(old).is_err(), "the removed listener goes on listening");
    }
    holding.release.send(()).unwrap();
    assert_eq!(client.response().text(), "done");
    drop(client);
    assert_eq!(Client::connect(new).get("/").text(), "done");
    ringway.wait_quiet();

    // Both again; the one that stayed is where it was.
    ringway.reload(&format!("{front}{back}{pool}"));
    assert_eq!(ringway.listener("back"), new);
    assert_eq!(Client::connect(ringway.listener("front")).get("/").text(), "done");
}

#[test]
fn a_file_with_a_mistake_changes_nothing_and_is_reported() {
    let (a, b) = (Backend::well_behaved("a"), Backend::well_behaved("b"));
    let good = simple("http", &[(&a.place, 1)]);
    let ringway = Configured::start(2, &good);
    let mut client = ringway.client();
    assert_eq!(client.get("/").text(), "a");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = taken.local_addr().unwrap().to_string();
    let to_b = simple("http", &[(&b.place, 1)]);
    let cases = [
        (format!("{to_b}weigth = 3\n"), "`weight`"),
        (
            to_b.replace("\"pool\"\nmode", "\"nobody\"\nmode").replace("mode = \"http\"", "mode = \"htpp\""),
            "listener.mode",
        ),
        ("[[listener\n".to_owned(), ":1: "),
        (String::new(), "listener"),
        (listener("more", "http", "pool").replace("127.0.0.1:0", &place) + &to_b, &place),
    ];
    let (config, descriptors) = (ringway.config(), ringway.descriptors());
    for (text, word) in cases {
        let said = ringway.reload_in_vain(&text);
        assert!(said.iter().any(|line| line.contains(word)), "nothing about {word}: {said:#?}");
        assert_eq!(ringway.config(), config, "{word}");
        assert_eq!(client.get("/").text(), "a", "{word}");
        assert_eq!(ringway.get("/").text(), "a", "{word}");
    }
    assert_eq!(b.connections(), 0);
    // Each worker may have come to an idle connection to its backend meanwhile.
    eventually("the descriptors from before", || (ringway.descriptors() <= descriptors + 2).then_some(()));
    // It is not stuck: a good file is taken.
    ringway.reload(&to_b);
    assert_eq!(client.get("/").text(), "b");
}

/// The second order comes when the first file was read and the workers have not all answered.
#[test]
fn a_reload_that_is_asked_for_during_another_one_follows_it() {
    let [a, b] = ["a", "b"].map(Backend::well_behaved);
    let [to_a, to_b] = [&a, &b].map(|backend| simple("http", &[(&backend.place, 1)]));
    let ringway = Configured::start(2, &to_a);
    for _ in 0..20 {
        let known = ringway.signal_with(&to_b);
        ringway.wait_line_after(known, "listener of the first file", |line| {
            message(line).starts_with("listening on ")
        });
        ringway.signal_with(&to_a);
        let lines = || ringway.lines().into_iter().skip(known);
        let reloads = || lines().filter(|line| message(line) == "reloaded").count();
        eventually("both reloads", || (reloads() == 2).then_some(()));
        assert_eq!(ringway.get("/").text(), "a");
    }
}

#[test]
fn who_stays_keeps_its_numbers_and_its_connections() {
    let [a, b, c] = ["a", "b", "c"].map(Backend::well_behaved);
    let (first, second, third) = (a.place.as_str(), b.place.as_str(), c.place.as_str());
    let ringway = Configured::start(1, &simple("http", &[(first, 1), (second, 1)]));
    let mut client = ringway.client();
    (0..40).for_each(|_| assert_eq!(client.get("/").status, 200));
    let before = ringway.stats();
    assert_eq!(before.counter_per_backend("picks"), [20, 20]);
    ringway.reload(&simple("http", &[(third, 1), (second, 3)]));
    let after = ringway.stats();
    assert_eq!(after.counter_per_backend("picks"), [0, 20]);
    assert_eq!(after.counter("requests"), before.counter("requests"));
    (0..40).for_each(|_| assert_eq!(client.get("/").status, 200));
    let stats = ringway.stats();
    assert_eq!(stats.counter_per_backend("picks"), [10, 50]);
    assert_eq!(stats.counter_per_backend("responses_2xx"), [10, 50]);
    // It went on with the connection it had.
    assert_eq!(b.connections(), 1);
    // The idle one of the backend that left was closed.
    eventually("the end of its idle connection", || (a.closed() == a.connections()).then_some(()));
}

#[test]
fn many_reloads_under_load_lose_no_request_and_no_descriptor() {
    let [a, b, c] = ["a", "b", "c"].map(Backend::well_behaved);
    let (first, second, third) = (a.place.as_str(), b.place.as_str(), c.place.as_str());
    let extra = listener("extra", "http", "pool");
    let files = [
        simple("http", &[(first, 1), (second, 1)]),
        simple("http", &[(second, 2), (third, 1)]) + &cluster("spare", &[(first, 1)]),
        extra.clone() + &simple("http", &[(third, 1), (first, 5)]),
    ];
    // A cluster that nobody uses may be a warning; it is no mistake.
    let ringway = Configured::start(2, &files[0]);
    ringway.reload(&files[0]);
    drop(ringway.get("/"));
    ringway.wait_quiet();
    let descriptors = ringway.descriptors();
    let load = Load::default();
    thread::scope(|scope| {
        for client in 0..3 {
            let (load, ringway) = (&load, &ringway);
            scope.spawn(move || load.run(ringway, client == 0));
        }
        let stop = Stop(&load);
        for round in 0..51 {
            ringway.reload(&files[(round + 1) % 3]);
            load.phase(
                20,
                ["a", "b"].map(|name| {
                    if round % 3 == 0 {
                        ["b", "c"][usize::from(name == "b")]
                    } else if round % 3 == 1 {
                        ["a", "c"][usize::from(name == "b")]
                    } else {
                        name
                    }
                }),
            );
        }
        drop(stop);
    });
    ringway.wait_quiet();
    // Two idle connections to backends per worker and client may be there now that were not there before.
    eventually("the descriptors from before", || {
        let idle = ringway.stats().backend_gauge("idle") as usize;
        (ringway.descriptors() <= descriptors + idle).then_some(())
    });
    assert_eq!(ringway.stats().counter("connection_panics"), 0);
    let config = ringway.config();
    assert_eq!(config["in_use"]["listeners"].as_object().unwrap().len(), 1);
}

#[test]
fn the_admin_shows_what_is_in_force() {
    let (a, b) = (Backend::well_behaved("a"), Backend::well_behaved("b"));
    let ringway = Configured::start(1, &simple("http", &[(&a.place, 1)]));
    let backends = || {
        let config = ringway.config();
        let pool = config["in_use"]["backends"]["pool"].as_object().unwrap();
        let mut names: Vec<_> = pool.keys().cloned().collect();
        names.sort();
        (names, config.to_string())
    };
    assert_eq!(backends().0, [a.place.as_str()]);
    ringway.reload(&simple("http", &[(&b.place, 77)]));
    let (names, all) = backends();
    assert_eq!(names, [b.place.as_str()]);
    assert!(all.contains("77") && !all.contains(&a.place), "{all}");
}
