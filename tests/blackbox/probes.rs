//! Active health checks: when backends are probed, what turns them, and that nothing else does.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::deadline::within;
use crate::support::wire::Closing;
use crate::support::{Acceptor, Backend, Client, Configured, PATIENCE, eventually, kernel, refusing_address};

/// One listener in this mode in front of these backends, which are probed like this.
pub(crate) fn probed(mode: &str, backends: &[&str], health: &str) -> String {
    format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\nmode = \"{mode}\"\n[[cluster]]\nname = \"web\"\nbackend = {backends:?}\n\
         [cluster.health]\njitter = 0\n{health}\n"
    )
}

/// What has been said about turns of a backend, in order: its new state, and why it is down.
pub(crate) fn turns(ringway: &Configured, backend: &str) -> Vec<(String, String)> {
    let turn = |line: String| {
        let line: Value = serde_json::from_str(&line).ok()?;
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let is_turn = text("message").starts_with("backend is ") && text("backend") == backend;
        is_turn.then(|| (text("state"), text("reason")))
    };
    ringway.lines().into_iter().filter_map(turn).collect()
}

/// Waits until a backend has turned this often: its last turn.
pub(crate) fn wait_turns(ringway: &Configured, backend: &str, count: usize) -> (String, String) {
    let turned = || turns(ringway, backend).get(count - 1).cloned();
    let turn = eventually(&format!("turn {count} of backend {backend}"), turned);
    assert_eq!(turns(ringway, backend).len(), count, "{:?}", turns(ringway, backend));
    turn
}

/// A backend that answers each probe when and how the test says.
struct Puppet {
    backend: Backend,
    answers: Sender<&'static str>,
}

impl Puppet {
    fn new() -> Self {
        let (answers, waiting) = channel::<&str>();
        let waiting = Mutex::new(waiting);
        let backend = Backend::scripted(move |connection| {
            if connection.request().is_some()
                && let Ok(status) = waiting.lock().unwrap().recv_timeout(PATIENCE)
            {
                connection.say(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok").as_bytes());
            }
        });
        Self { backend, answers }
    }

    /// Gives these answers, and returns when the next probe waits: then all that follows from them has happened.
    fn answer(&self, statuses: &[&'static str]) {
        for status in statuses {
            let asked = self.backend.heads();
            self.answers.send(status).unwrap();
            eventually("the next probe", || (self.backend.heads() > asked).then_some(()));
        }
    }
}

const GOOD: &str = "200 OK";
const BAD: &str = "503 Unavailable";
/// Rounds of a few milliseconds, and all the time a busy machine needs.
const QUICK: &str = "interval = \"20ms\"\nfast_interval = \"10ms\"\ntimeout = \"10s\"";

#[test]
fn a_backend_turns_after_exactly_fall_and_rise_probes() {
    let puppet = Puppet::new();
    let place = &*puppet.backend.place;
    let ringway = Configured::start(1, &probed("http", &[place], &format!("path = \"/health\"\n{QUICK}")));
    eventually("the first probe", || (puppet.backend.heads() == 1).then_some(()));
    puppet.answer(&[GOOD, GOOD, BAD, BAD]);
    assert_eq!(turns(&ringway, place), [], "two failures are not three");
    puppet.answer(&[GOOD, BAD, BAD, GOOD]);
    assert_eq!(turns(&ringway, place), [], "they were not in a row");
    puppet.answer(&[BAD, BAD, BAD]);
    assert_eq!(wait_turns(&ringway, place, 1), ("down".to_owned(), "status 503".to_owned()));
    puppet.answer(&[BAD, GOOD, BAD, GOOD]);
    assert_eq!(turns(&ringway, place).len(), 1, "one success is not two");
    puppet.answer(&[GOOD]);
    assert_eq!(wait_turns(&ringway, place, 2).0, "up");
    puppet.answer(&[GOOD, GOOD]);
    assert_eq!(turns(&ringway, place).len(), 2);
    let asked = puppet.backend.last();
    assert_eq!((asked.method(), asked.target()), ("GET", "/health"));
    assert_eq!(asked.head.value("host").as_deref(), Some(place));
    assert_eq!(asked.head.value("connection").as_deref(), Some("close"));
}

#[test]
fn a_flapping_backend_stays_what_it_is() {
    let puppet = Puppet::new();
    let place = &*puppet.backend.place;
    let ringway = Configured::start(1, &probed("http", &[place], &format!("path = \"/\"\n{QUICK}")));
    eventually("the first probe", || (puppet.backend.heads() == 1).then_some(()));
    puppet.answer(&[GOOD, BAD].repeat(10));
    assert_eq!(turns(&ringway, place), []);
    puppet.answer(&[BAD, BAD, BAD]);
    wait_turns(&ringway, place, 1);
    puppet.answer(&[GOOD, BAD].repeat(10));
    assert_eq!(turns(&ringway, place).len(), 1);
}

#[test]
fn the_first_probe_decides_alone() {
    let (_socket, refusing) = refusing_address();
    let (good, refusing) = (Puppet::new(), refusing.to_string());
    let place = &*good.backend.place;
    for start in ["up", "down"] {
        let health = format!(
            "path = \"/\"\nstart = \"{start}\"\ninterval = \"1h\"\nfast_interval = \"1h\"\ntimeout = \"10s\""
        );
        let ringway = Configured::start(1, &probed("http", &[place, &refusing], &health));
        let announced = |line: &str| line.contains(&format!("\"state\":\"{start}\"")) && line.contains(place);
        ringway.wait_line("the announced state", announced);
        good.answers.send(GOOD).unwrap();
        let refused = |of: &Value| of["state"] == "down" && of["last"] == "connection refused";
        wait_probes(&ringway, &refusing, refused);
        let done = |of: &Value| of["probes"] == 1 && of["last"] == "ok" && of["state"] == "up";
        wait_probes(&ringway, place, done);
        // Whoever is what it was taken for is not worth a line.
        let (good, bad) = if start == "up" { (vec![], vec!["down"]) } else { (vec!["up"], vec![]) };
        let states = |place: &str| turns(&ringway, place).into_iter().map(|turn| turn.0).collect::<Vec<_>>();
        eventually("the lines of those that have turned", || (states(place) == good).then_some(()));
        eventually("the lines of those that have turned", || (states(&refusing) == bad).then_some(()));
    }
}

/// Waits until the statistics of a backend's probes are as wanted.
pub(crate) fn wait_probes(ringway: &Configured, backend: &str, wanted: impl Fn(&Value) -> bool) {
    let of = |stats: &crate::support::stats::Stats| {
        stats.probes().iter().find(|of| of["backend"] == backend).is_some_and(&wanted)
    };
    ringway.wait_stats(&format!("the probes of {backend} as wanted"), of);
}

#[test]
fn a_tcp_probe_says_nothing_and_leaves_nothing() {
    let acceptor = Acceptor::new();
    let ringway = Configured::start(1, &probed("tcp", &[&acceptor.place], "interval = \"10ms\""));
    for _ in 0..10 {
        // Whoever does not look at its connections is rid of them all the same.
        assert_eq!(acceptor.accept().closing(), Closing::Reset);
    }
    wait_probes(&ringway, &acceptor.place, |of| {
        of["probes"].as_u64() >= Some(10) && of["probes_failed"] == 0
    });
    assert_eq!(turns(&ringway, &acceptor.place), []);
}

#[test]
fn there_is_never_more_than_one_probe_at_a_time() {
    let acceptor = Acceptor::new();
    let timeout = Duration::from_millis(60);
    let health = "path = \"/\"\ninterval = \"10ms\"\ntimeout = \"60ms\"";
    let ringway = Configured::start(2, &probed("http", &[&acceptor.place], health));
    let mut held = vec![acceptor.accept()];
    let begun = Instant::now();
    while held.len() < 8 {
        held.push(acceptor.accept());
        let least = timeout * u32::try_from(held.len() - 2).unwrap();
        assert!(begun.elapsed() >= least, "{} probes within {:?}", held.len(), begun.elapsed());
    }
    assert_eq!(wait_turns(&ringway, &acceptor.place, 1).1, "timed out after 60ms, waiting for the response");
    for mut probe in held {
        assert_eq!(probe.wait_closed(), Closing::Reset);
    }
}

/// Nobody hears two probes in step with others: a thousand backends on one socket, by their addresses.
#[test]
fn a_thousand_backends_are_probed_one_after_the_other() {
    const BACKENDS: usize = 1_000;
    const SLICES: usize = 20;
    let listener = kernel::listen_everywhere();
    let port = listener.local_addr().unwrap().port();
    let places: Vec<_> =
        (0..BACKENDS).map(|index| format!("127.1.{}.{}:{port}", index / 250, index % 250 + 1)).collect();
    let places: Vec<_> = places.iter().map(String::as_str).collect();
    let ringway = Configured::start(1, &probed("tcp", &places, "interval = \"1s\"\ntimeout = \"10s\""));
    let mut seen: HashMap<IpAddr, usize> = HashMap::new();
    let mut slices = [0usize; SLICES];
    let (mut begun, mut last) = (Instant::now(), Instant::now());
    let spread = within(PATIENCE * 2, || {
        while let Ok((probe, _)) = listener.accept() {
            *seen.entry(probe.local_addr().unwrap().ip()).or_default() += 1;
            let slice = begun.elapsed().as_millis() as usize / 50;
            if let Some(slice) = slices.get_mut(slice) {
                *slice += 1;
            }
        }
        // A second in which this test did not run says nothing.
        let stalled = last.elapsed() > Duration::from_millis(40);
        last = Instant::now();
        if begun.elapsed() < Duration::from_secs(1) && !stalled {
            return None;
        }
        let twice = seen.len() == BACKENDS && seen.values().all(|count| *count >= 3);
        let (least, most) = (*slices.iter().min().unwrap(), *slices.iter().max().unwrap());
        (begun, slices) = (Instant::now(), [0; SLICES]);
        (twice && !stalled && least > 0 && most < BACKENDS / 5).then_some(())
    });
    assert!(spread.is_some(), "never spread over a second: {} backends, {slices:?}", seen.len());
    assert!(ringway.lines().iter().all(|line| !line.contains("backend is down")));
    assert!(ringway.descriptors() < 200, "{} descriptors", ringway.descriptors());
}

#[test]
fn a_reload_leaves_the_probes_of_others_alone() {
    let (changed, gone, kept) = (Puppet::new(), Acceptor::new(), Puppet::new());
    let cluster = |name: &str, place: &str, health: &str| {
        format!("[[cluster]]\nname = \"{name}\"\nbackend = \"{place}\"\n{health}\n")
    };
    let file = |health: &str, gone_health: &str| {
        let listener = "[[listener]]\nbind = \"127.0.0.1:0\"\ncluster = \"a\"\n[[route]]\nhost = \"x\"\nsplit = [{ cluster = \"b\" }, { cluster = \"c\" }]\n";
        let quick = format!("[cluster.health]\njitter = 0\npath = \"/\"\n{QUICK}\n");
        [
            listener.to_owned(),
            cluster("a", &changed.backend.place, &format!("{quick}{health}")),
            cluster("b", &gone.place, gone_health),
            cluster("c", &kept.backend.place, &quick),
        ]
        .concat()
    };
    let ringway = Configured::start(1, &file("", "health = { interval = \"10ms\" }"));
    for puppet in [&changed, &kept] {
        eventually("the first probe", || (puppet.backend.heads() == 1).then_some(()));
        puppet.answer(&[GOOD, BAD, BAD]);
    }
    assert_eq!(gone.accept().closing(), Closing::Reset);
    ringway.reload(&file("fall = 5", ""));
    // Whom nothing has changed for goes on counting; the other begins anew, and its first probe decides.
    kept.answer(&[BAD]);
    assert_eq!(wait_turns(&ringway, &kept.backend.place, 1).0, "down");
    assert_eq!(turns(&ringway, &changed.backend.place), []);
    // The first of these goes to the probe that the reload ended.
    changed.answers.send(BAD).unwrap();
    changed.answers.send(BAD).unwrap();
    assert_eq!(wait_turns(&ringway, &changed.backend.place, 1).0, "down");
    // Who is not probed any more hears nothing more but what was under way.
    while gone.try_accept().is_some() {}
    kept.answer(&[BAD; 5]);
    assert!(gone.try_accept().is_none(), "a backend without health checks was probed");
    let stats = ringway.stats();
    let names: Vec<_> = stats.probes().iter().map(|of| of["cluster"].clone()).collect();
    assert_eq!(names, ["a", "c"]);
}

#[test]
fn statistics_and_metrics_show_what_probes_found() {
    let (_socket, refusing) = refusing_address();
    let (good, refusing) = (Backend::well_behaved("a"), refusing.to_string());
    let health = "path = \"/\"\ninterval = \"20ms\"\ntimeout = \"10s\"";
    let ringway = Configured::start(2, &probed("http", &[&good.place, &refusing], health));
    wait_probes(&ringway, &good.place, |of| of["probes"].as_u64() > Some(3) && of["probes_failed"] == 0);
    wait_probes(&ringway, &refusing, |of| {
        of["state"] == "down" && of["last"] == "connection refused" && of["probes"] == of["probes_failed"]
    });
    let admin = ringway.admin();
    let json: Value = serde_json::from_slice(&Client::connect(admin).get("/stats").body).unwrap();
    assert_eq!(json["stats"]["probes"][1]["backend"], *refusing);
    let metrics = Client::connect(admin).get("/metrics").text();
    for line in [
        format!("ringway_backend_probed_up{{cluster=\"web\",backend=\"{}\"}} 1", good.place),
        format!("ringway_backend_probed_up{{cluster=\"web\",backend=\"{refusing}\"}} 0"),
    ] {
        assert!(metrics.lines().any(|found| found == line), "no {line} in {metrics}");
    }
    assert!(metrics.contains(&format!(
        "ringway_backend_probes_failed_total{{cluster=\"web\",backend=\"{refusing}\"}} "
    )));
}

/// What only this host lacks is not held against anybody.
#[test]
fn without_descriptors_nobody_is_taken_out() {
    let good = Backend::well_behaved("a");
    let health = "path = \"/\"\ninterval = \"20ms\"\ntimeout = \"10s\"";
    let limit = |command: &mut std::process::Command| kernel::limit_descriptors(command, 64);
    let ringway = Configured::start_changed(1, &probed("http", &[&good.place], health), limit);
    wait_probes(&ringway, &good.place, |of| of["probes"].as_u64() > Some(3));
    // Connections that wait for a request take what descriptors their worker may have. Those of others are left alone.
    let clients: Vec<_> = (0..100).map(|_| Client::connect(ringway.address())).collect();
    eventually("the descriptors to be used up", || (ringway.most_descriptors() >= 60).then_some(()));
    let before = ringway.stats().probes()[0]["probes"].as_u64().unwrap();
    wait_probes(&ringway, &good.place, |of| of["probes"].as_u64() > Some(before + 3) && of["last"] == "ok");
    let allowed = ringway.allow_descriptors(3);
    ringway.wait_line("the complaint", |line| line.contains("cannot probe"));
    wait_probes(&ringway, &good.place, |of| {
        of["last"].as_str().is_some_and(|last| last.starts_with("not probed: "))
    });
    drop(clients);
    ringway.allow_descriptors(allowed);
    wait_probes(&ringway, &good.place, |of| {
        of["last"] == "ok" && of["probes_failed"] == 0 && of["state"] == "up"
    });
    assert_eq!(turns(&ringway, &good.place), []);
}

/// A page for probes that says no, and work that would be done.
#[test]
fn a_backend_that_is_down_gets_no_work_until_nobody_probes_it() {
    let ill = Backend::scripted(|connection| {
        while let Some(request) = connection.request() {
            let (status, body) = if request.target() == "/health" { (503, "no") } else { (200, "il") };
            connection.say(format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\n{body}").as_bytes());
        }
    });
    let well = Backend::well_behaved("we");
    let text = probed("http", &[&ill.place, &well.place], &format!("path = \"/health\"\n{QUICK}"));
    let ringway = Configured::start(2, &text);
    wait_turns(&ringway, &ill.place, 1);
    let answers = || (0..20).map(|_| ringway.get("/").text()).collect::<Vec<_>>();
    let only_well = || answers().iter().all(|answer| answer == "we").then_some(());
    eventually("every worker to know", only_well);
    assert_eq!(answers(), ["we"; 20]);
    let (unprobed, _) = text.split_once("[cluster.health]").unwrap();
    ringway.reload(unprobed);
    eventually("work for both", || answers().iter().any(|answer| answer == "il").then_some(()));
    assert_eq!(wait_turns(&ringway, &ill.place, 2).0, "up");
}
