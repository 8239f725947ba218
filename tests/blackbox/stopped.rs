//! The process stands still for seconds, as in a stopped container or on a suspended host, while clients and backends go
//! on. What it finds afterwards looks late and is nobody's fault.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::deadline::within;
use crate::support::stats::{Stats, backends};
use crate::support::{Backend, Configured, Load, Work};

/// Longer than what a probe or a connect may take.
const STILL: Duration = Duration::from_secs(2);
const CLIENTS: usize = 24;
const DEADLINE: &str = "500ms";
const INTERVAL: Duration = Duration::from_millis(200);

fn probes(stats: &Stats, name: &str) -> Vec<u64> {
    stats.probes().iter().map(|of| of[name].as_u64().unwrap()).collect()
}

/// Takes so long for each request that most clients have one in flight at any moment.
fn thoughtful() -> Backend {
    Backend::scripted(|connection| {
        while let Some(request) = connection.request() {
            if request.target() == "/" {
                thread::park_timeout(Duration::from_millis(10));
            }
            connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    })
}

/// Stands still once, under load: what was under way, answers as well as results of probes, has come long before it goes
/// on.
fn stand_still(mode: &str, response_timeout: &str) {
    let all = [(); 3].map(|()| thoughtful());
    let places = all.each_ref().map(|backend| &*backend.place);
    let text = format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\nmode = \"{mode}\"\n[defaults]\nresponse_timeout = \"{response_timeout}\"\n\
         connect_timeout = \"{DEADLINE}\"\n[[cluster]]\nbackend = {places:?}\n[cluster.health]\npath = \"/health\"\n\
         interval = \"{}ms\"\ntimeout = \"{DEADLINE}\"\n",
        INTERVAL.as_millis()
    );
    let ringway = Configured::start(2, &text);
    let load = Load::start(ringway.address(), &[(Work::Get, 6), (Work::GetOnce, CLIENTS - 6)]);
    load.wait_more(300);
    let before = ringway.stats();
    ringway.pause();
    let stopped = Instant::now();
    // It is the time that counts here.
    assert!(within(STILL, || None::<()>).is_none());
    let still = stopped.elapsed();
    ringway.resume();
    let resumed = Instant::now();
    load.wait_more(300);
    while resumed.elapsed() < Duration::from_secs(1) {
        load.wait_more(1);
    }
    let after = ringway.stats();
    // No more probes than the time in which it ran had room for, and those that were due when it went on.
    let ran = stopped.elapsed() - still;
    let most = (ran.as_secs_f64() / (INTERVAL.as_secs_f64() * 0.9)) as u64 + 3;
    for (after, before) in probes(&after, "probes").iter().zip(probes(&before, "probes")) {
        assert!((2..=most).contains(&(after - before)), "{after} probes, {before} before, {most} at most");
    }
    let failed = [&before, &after].map(|stats| probes(stats, "probes_failed"));
    load.stop().check_flawless(600);
    let told: Vec<_> = ringway.lines().into_iter().filter(|line| line.contains("backend is ")).collect();
    assert!(told.is_empty(), "{told:#?}");
    let shown: Vec<_> = backends(after.total()).iter().map(|backend| backend["state"].clone()).collect();
    assert_eq!(shown, ["up", "up", "up"]);
    // One probe of each may have been under way.
    assert!(failed[1].iter().zip(&failed[0]).all(|(after, before)| after - before <= 1), "{failed:?}");
    ringway.wait_quiet();
}

#[test]
fn a_process_that_stood_still_goes_on_and_blames_nobody_for_it() {
    stand_still("http", "30s");
}

#[test]
fn a_process_that_stood_still_in_tcp_mode_goes_on_and_blames_nobody_for_it() {
    stand_still("tcp", "30s");
}

/// The answers are there when it goes on, and their deadlines are over.
#[test]
fn what_came_in_time_is_no_timeout_however_late_it_is_looked_at() {
    stand_still("http", DEADLINE);
}
