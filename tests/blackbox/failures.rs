//! Backends that end, are killed, stop in the middle or flap, under constant load: what clients notice of it.
//!
//! The backends are processes. Two workers, clients that go on until told, and each scenario both with nothing but live
//! traffic to learn from and with probes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::load::Sample;
use crate::support::ringway::message;
use crate::support::stats::backends;
use crate::support::{Backend, Client, Configured, Load, Process, Work, eventually, refusing_address};

/// Probes that see what happens here while it happens.
const PROBES: &str = "[cluster.health]\npath = \"/health\"\ninterval = \"200ms\"\nfast_interval = \"50ms\"\n";
/// Nothing but live traffic.
const NO_PROBES: &str = "";
/// As many as the promise names.
const GETS: usize = 20_000;
/// GETs on connections that stay and on new ones.
const GETTERS: &[(Work, usize)] = &[(Work::Get, 12), (Work::GetOnce, 4)];
/// The interval of probes, and the pause before a trial, that recovery is measured against.
const INTERVAL: Duration = Duration::from_secs(1);

/// How soon the answer is when there is nobody to ask.
const AT_ONCE: Duration = Duration::from_millis(10);

fn processes() -> [Process; 3] {
    [Process::start(), Process::start(), Process::start()]
}

fn places(processes: &[Process]) -> Vec<String> {
    processes.iter().map(|process| process.place.clone()).collect()
}

/// Two workers in front of these.
fn in_front_of(places: &[String], rest: &str) -> Configured {
    Configured::start(2, &file(places, rest))
}

fn file(places: &[String], rest: &str) -> String {
    format!("[[listener]]\nbind = \"127.0.0.1:0\"\n[[cluster]]\nbackend = {places:?}\n{rest}")
}

/// Statistics by the admin HTTP: asked for so often, they would drown the log.
fn stats(ringway: &Configured) -> Value {
    let answer = Client::connect(ringway.admin()).get("/stats");
    serde_json::from_slice::<Value>(&answer.body).unwrap()["stats"].take()
}

/// What the statistics show of each backend.
fn states(ringway: &Configured) -> Vec<String> {
    let state = |backend: &Value| backend["state"].as_str().unwrap().to_owned();
    backends(&stats(ringway)["total"]).iter().map(state).collect()
}

/// Waits until each worker gives each backend work.
fn wait_all_at_work(ringway: &Configured) {
    eventually("all backends are up", || states(ringway).iter().all(|state| state == "up").then_some(()));
    let picks = || -> Vec<u64> {
        let stats = stats(ringway);
        let all = stats["workers"].as_array().unwrap().iter().flat_map(backends);
        all.map(|backend| backend["counters"]["picks"].as_u64().unwrap()).collect()
    };
    let before = picks();
    eventually("work for everybody", || {
        picks().iter().zip(&before).all(|(now, before)| now > before).then_some(())
    });
}

fn rolling_restart(end: fn(&mut Process), probes: &str) {
    let mut processes = processes();
    let ringway = in_front_of(&places(&processes), probes);
    let load = Load::start(ringway.address(), GETTERS);
    let mut rounds = 0;
    load.wait_more(500);
    while rounds < 2 || load.answered() < GETS {
        for process in &mut processes {
            end(process);
            // What it is to clients that it is gone, not only that it was.
            load.wait_more(200);
            process.restart();
            wait_all_at_work(&ringway);
        }
        rounds += 1;
    }
    load.stop().check_flawless(GETS);
}

#[test]
fn a_rolling_restart_with_a_graceful_end_is_not_noticed() {
    rolling_restart(Process::end, NO_PROBES);
}

#[test]
fn a_rolling_restart_with_a_graceful_end_is_not_noticed_with_probes() {
    rolling_restart(Process::end, PROBES);
}

#[test]
fn a_rolling_restart_by_killing_is_not_noticed() {
    rolling_restart(Process::kill, NO_PROBES);
}

#[test]
fn a_rolling_restart_by_killing_is_not_noticed_with_probes() {
    rolling_restart(Process::kill, PROBES);
}

/// What happened to the POSTs of one load: each was done at most once, and exactly once if its client was told so.
fn check_posts(posts: &[Sample], processes: &[Process]) {
    let mut delivered: HashMap<u64, usize> = HashMap::new();
    for (number, count) in processes.iter().flat_map(Process::delivered) {
        *delivered.entry(number).or_default() += count;
    }
    let twice: Vec<_> = delivered.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "delivered more than once: {twice:?}");
    let lost = |post: &&Sample| post.error.is_none() && !delivered.contains_key(&post.number);
    assert_eq!(posts.iter().filter(lost).count(), 0, "answered and never delivered");
}

fn killing(probes: &str) {
    const POSTERS: usize = 6;
    let mut processes = processes();
    let ringway = in_front_of(&places(&processes), probes);
    let load = Load::start(ringway.address(), &[(Work::Get, 6), (Work::GetOnce, 2), (Work::Post, POSTERS)]);
    let mut kills = Vec::new();
    for turn in 0..6 {
        load.wait_more(500);
        let begun = Instant::now();
        let killed = &mut processes[turn % 3];
        killed.kill();
        kills.push((begun, Instant::now()));
        load.wait_more(1_000);
        killed.restart();
        wait_all_at_work(&ringway);
    }
    let report = load.stop();
    processes.iter_mut().for_each(Process::end);
    report.only(false).check_flawless(5_000);
    let posts = report.only(true);
    check_posts(&posts.samples, &processes);
    for post in posts.samples.iter().filter(|post| post.error.is_some()) {
        let in_flight =
            |(begun, gone): &&(Instant, Instant)| post.begun < *gone && post.begun + post.took > *begun;
        assert!(kills.iter().any(|kill| in_flight(&kill)), "not in flight at any kill: {post:?}");
        assert_eq!(post.error.as_deref(), Some("status 502"), "{post:?}");
    }
    // A client has one in flight.
    let failed: usize = posts.errors().values().sum();
    assert!(failed <= POSTERS * kills.len(), "{failed} of {}", posts.samples.len());
}

#[test]
fn a_killed_backend_costs_no_get_and_only_the_posts_in_flight_and_none_is_done_twice() {
    killing(NO_PROBES);
}

#[test]
fn a_killed_backend_costs_no_get_and_only_the_posts_in_flight_with_probes() {
    killing(PROBES);
}

/// Time goes by while the load goes on.
fn go_on(load: &Load, begun: Instant, time: Duration) {
    while begun.elapsed() < time {
        load.wait_more(1);
    }
}

fn zombie(probes: &str) {
    let promised = (Duration::from_secs(3), Duration::from_millis(50));
    let mut processes = processes();
    // Only here: a busy machine may keep anybody waiting for half a second.
    let impatient = "[defaults]\nresponse_timeout = \"500ms\"\n";
    let ringway = Configured::start(2, &(impatient.to_owned() + &file(&places(&processes), probes)));
    let load = Load::start(ringway.address(), GETTERS);
    load.wait_more(1_000);
    // Connections are made and pages are there, so what comes now is what this machine can do.
    let warm = Instant::now();
    load.wait_more(2_000);
    let stopped = Instant::now();
    processes[1].stop();
    eventually("the zombie is out", || (states(&ringway)[1] != "up").then_some(()));
    // Trials go on all the while; each costs one request its time.
    go_on(&load, stopped, promised.0 + Duration::from_secs(1));
    load.wait_more(500);
    processes[1].go_on();
    wait_all_at_work(&ringway);
    let begun = Instant::now();
    load.wait_more(2_000);
    let recovered = (begun, Instant::now());
    let report = load.stop();
    let before = report.p99_between(warm, stopped).unwrap();
    // Where this machine is too busy for 50 ms, it was so before or is so when all is well again.
    let recovered = report.p99_between(recovered.0, recovered.1).unwrap();
    let good = promised.1.max(before.max(recovered) * 3 / 2);
    let after = report.p99_between(stopped + promised.0, stopped + promised.0 + Duration::from_secs(1));
    let told = format!("{after:?} after 3 s, {before:?} before, {recovered:?} afterwards");
    assert!(after.is_some_and(|p99| p99 < good), "p99 {told}");
    let errors = report.errors();
    assert!(errors.keys().all(|error| error == "status 504"), "{errors:?}");
    // What was sent to it before it was out, and trials.
    assert!(errors.values().sum::<usize>() <= 50, "{errors:?}");
}

#[test]
fn a_zombie_is_forgotten_within_three_seconds() {
    zombie(NO_PROBES);
}

#[test]
fn a_zombie_is_forgotten_within_three_seconds_with_probes() {
    zombie(PROBES);
}

/// All are killed, and one returns: how long it took from there to the first good answer.
fn recovery(processes: &mut [Process], ringway: &Configured, turn: usize, out: &str) -> Duration {
    processes.iter_mut().for_each(Process::kill);
    eventually("all are out", || {
        ringway.get("/");
        states(ringway).iter().all(|state| state == out).then_some(())
    });
    let mut took: Vec<_> = (0..51)
        .map(|_| {
            let mut client = ringway.client();
            let begun = Instant::now();
            let answer = client.get("/");
            assert_eq!(answer.status, 503, "{answer:?}");
            begun.elapsed()
        })
        .collect();
    took.sort();
    // A busy machine may keep any one of them waiting, but neither half of them nor one in ten for long.
    let (median, most) = (took[took.len() / 2], took[took.len() * 9 / 10]);
    assert!(median < AT_ONCE && most < 5 * AT_ONCE, "{took:?}");
    assert!(took.iter().all(|took| *took < INTERVAL), "somebody waited for somebody: {took:?}");
    let load = Load::start(ringway.address(), &[(Work::Get, 2), (Work::GetOnce, 2)]);
    processes[turn].restart();
    let back = Instant::now();
    load.wait_more(1);
    let took = back.elapsed();
    let errors = load.stop().errors();
    assert!(errors.keys().all(|error| error == "status 503"), "{errors:?}");
    for (_, process) in processes.iter_mut().enumerate().filter(|(index, _)| *index != turn) {
        process.restart();
    }
    eventually("all are up", || {
        ringway.get("/");
        states(ringway).iter().all(|state| state == "up").then_some(())
    });
    took
}

fn all_down(rest: &str, out: &str) {
    let mut processes = processes();
    let ringway = in_front_of(&places(&processes), rest);
    let mut took: Vec<_> = (0..3).map(|turn| recovery(&mut processes, &ringway, turn, out)).collect();
    took.sort();
    // The median again.
    assert!(took[1] <= INTERVAL, "{took:?}");
}

#[test]
fn when_all_are_down_the_answer_is_503_at_once_and_a_probe_ends_that() {
    all_down(
        "[cluster.health]\npath = \"/health\"\ninterval = \"1s\"\nrise = 1\nfall = 1\njitter = 0\n",
        "down",
    );
}

/// Nobody probes, so the trial of an ejected backend ends it. It is offered to one worker after the other, for a
/// quarter of a second each.
#[test]
fn when_all_are_down_the_answer_is_503_at_once_and_a_trial_ends_that() {
    all_down("circuit = { open = \"500ms\", open_max = \"500ms\" }\n", "ejected");
}

/// Half a second up and half a second gone.
fn flapping(probes: &str) {
    const FLAPS: u32 = 6;
    let mut processes = processes();
    let ringway = in_front_of(&places(&processes), probes);
    let load = Load::start(ringway.address(), GETTERS);
    load.wait_more(500);
    let (begun, half) = (Instant::now(), Duration::from_millis(500));
    for turn in 0..FLAPS {
        processes[0].kill();
        go_on(&load, begun, half * (2 * turn + 1));
        processes[0].restart();
        go_on(&load, begun, half * (2 * turn + 2));
    }
    load.stop().check_flawless(1_000);
    let turned = |line: &String| message(line).starts_with("backend is ");
    let lines: Vec<_> = ringway.lines().into_iter().filter(turned).collect();
    // Ejected, down and up again.
    assert!(lines.len() <= 3 * FLAPS as usize, "{lines:#?}");
    assert_eq!(states(&ringway)[1..], ["up", "up"]);
}

#[test]
fn a_flapping_backend_is_not_noticed() {
    flapping(NO_PROBES);
}

#[test]
fn a_flapping_backend_is_not_noticed_with_probes() {
    flapping(PROBES);
}

/// The trials of many that were ejected together fall due together: no request is used for more than one of them while
/// there are others to ask.
#[test]
fn trials_of_many_at_a_time_cost_nobody_an_answer() {
    let dead: Vec<_> = (0..8).map(|_| refusing_address()).collect();
    let good = [Backend::well_behaved("good"), Backend::well_behaved("good")];
    let dead_places = dead.iter().map(|(_socket, address)| address.to_string());
    let places: Vec<_> = dead_places.chain(good.iter().map(|good| good.place.clone())).collect();
    let circuit = "circuit = { failures = 1, open = \"100ms\", open_max = \"100ms\" }\n";
    let ringway = in_front_of(&places, circuit);
    eventually("the dead are out", || {
        ringway.get("/");
        states(&ringway)[..dead.len()].iter().all(|state| state != "up").then_some(())
    });
    let all_good = || (0..100).all(|_| ringway.get("/").status == 200).then_some(());
    eventually("both workers know", all_good);
    let load = Load::start(ringway.address(), GETTERS);
    let tried = || backends(&stats(&ringway)["total"])[0]["counters"]["picks"].as_u64().unwrap();
    let before = tried();
    eventually("many trials", || (tried() > before + 20).then_some(()));
    load.stop().check_flawless(1_000);
}
