//! Active health checks as the defaults have them: when probes come, seen from the backends.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::deadline::within;
use crate::support::{Backend, Configured, eventually, kernel};

/// One TCP listener in front of these backends, which are probed like this, with the jitter of the defaults.
fn probed(places: &[String], health: &str) -> String {
    format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\n[[cluster]]\nname = \"web\"\nbackend = {places:?}\n\
         [cluster.health]\n{health}\n"
    )
}

/// When each of many backends was probed. They are one socket, and told apart by their addresses.
fn instants(backends: usize, interval: Duration, rounds: usize) -> Vec<Vec<Instant>> {
    let listener = kernel::listen_everywhere();
    let port = listener.local_addr().unwrap().port();
    let places: Vec<_> = (1..=backends).map(|index| format!("127.2.0.{index}:{port}")).collect();
    let health = format!("probe = \"tcp\"\ninterval = \"{}ms\"\ntimeout = \"10s\"", interval.as_millis());
    let _ringway = Configured::start(1, &probed(&places, &health));
    let mut seen: HashMap<IpAddr, Vec<Instant>> = HashMap::new();
    let all = within(interval * u32::try_from(rounds).unwrap() * 3, || {
        while let Ok((probe, _)) = listener.accept() {
            seen.entry(probe.local_addr().unwrap().ip()).or_default().push(Instant::now());
        }
        (seen.len() == backends && seen.values().all(|times| times.len() >= rounds)).then_some(())
    });
    assert!(all.is_some(), "{} backends were probed", seen.len());
    seen.into_values().collect()
}

/// From one probe of a backend to its next one, without the first, which is part of an interval.
fn gaps(times: &[Instant]) -> Vec<Duration> {
    times.windows(2).skip(1).map(|pair| pair[1] - pair[0]).collect()
}

/// A busy machine only adds to what is different from gap to gap, so it cannot fail this; without jitter a machine that
/// is not busy does.
#[test]
fn no_two_gaps_between_the_probes_of_a_backend_are_the_same() {
    let interval = Duration::from_millis(400);
    let all: Vec<_> = instants(20, interval, 8).iter().flat_map(|times| gaps(times)).collect();
    let mean = all.iter().sum::<Duration>() / u32::try_from(all.len()).unwrap();
    // A tenth more or less, evenly spread, is 23 ms from the mean on average squared; timers are good for 1 ms.
    let squares: f64 = all.iter().map(|gap| (gap.as_secs_f64() - mean.as_secs_f64()).powi(2)).sum();
    let deviation = Duration::from_secs_f64((squares / all.len() as f64).sqrt());
    assert!(deviation > interval / 25, "{deviation:?} around {mean:?}");
    // Late is the machine's, but early would be ours.
    assert!(mean > interval * 97 / 100, "{mean:?}");
}

/// Backends that were in step at first do not stay so: where they stand in the interval changes for each of them.
#[test]
fn probes_of_several_backends_do_not_stay_in_step() {
    let interval = Duration::from_millis(200);
    let all = instants(16, interval, 20);
    // From the second probe of each to its last: how far it has come, in intervals. Jitter adds up like steps of a walk.
    let came = |of: &Vec<Instant>| (of[19] - of[1]).as_secs_f64() / interval.as_secs_f64();
    let all: Vec<_> = all.iter().map(came).collect();
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    let squares: f64 = all.iter().map(|came| (came - mean).powi(2)).sum();
    let deviation = (squares / all.len() as f64).sqrt();
    // 18 steps of 6 % are a quarter of an interval.
    assert!(deviation > 0.08, "{deviation} around {mean}: {all:?}");
}

/// Answers take longer than the interval, and there are several backends to be probed at the same time.
#[test]
fn there_is_never_more_than_one_probe_at_a_time_for_each_of_several_backends() {
    let most: Vec<_> = (0..6).map(|_| Arc::new(AtomicUsize::new(0))).collect();
    let all_at_once = Arc::new(AtomicUsize::new(0));
    let all_now = Arc::new(AtomicUsize::new(0));
    let slow = |most: &Arc<AtomicUsize>| {
        let (now, most) = (AtomicUsize::new(0), Arc::clone(most));
        let (all_now, all_most) = (Arc::clone(&all_now), Arc::clone(&all_at_once));
        Backend::scripted(move |connection| {
            if connection.request().is_some() {
                most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                all_most.fetch_max(all_now.fetch_add(1, SeqCst) + 1, SeqCst);
                // Work that takes its time.
                thread::park_timeout(Duration::from_millis(30));
                now.fetch_sub(1, SeqCst);
                all_now.fetch_sub(1, SeqCst);
                connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            }
        })
    };
    let backends: Vec<_> = most.iter().map(slow).collect();
    let places: Vec<_> = backends.iter().map(|backend| backend.place.clone()).collect();
    let ringway =
        Configured::start(2, &probed(&places, "path = \"/\"\ninterval = \"10ms\"\ntimeout = \"10s\""));
    eventually("twenty probes of each", || {
        backends.iter().all(|backend| backend.heads() >= 20).then_some(())
    });
    assert!(most.iter().all(|most| most.load(SeqCst) == 1), "{most:?}");
    assert!(all_at_once.load(SeqCst) > 1, "they wait for each other");
    assert!(ringway.lines().iter().all(|line| !line.contains("backend is down")));
}
