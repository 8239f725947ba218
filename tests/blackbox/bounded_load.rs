//! Bounded load: a key that everybody asks for goes to others, too, before its backend has more than its part.

use std::collections::BTreeSet;

use crate::algorithms::{balancing, places};
use crate::support::stats::backends;
use crate::support::{Client, Configured, Holding, eventually};

/// A quarter more than the average.
const FACTOR: f64 = 1.25;
const BACKENDS: usize = 3;

/// What a backend may have of so many: more than the average by the factor, rounded up to a whole request.
fn allowed(together: usize) -> usize {
    (FACTOR * together as f64 / BACKENDS as f64).ceil() as usize
}

/// A cluster that is balanced by the field that [`Held::add`] sends.
fn cluster(algorithm: &str, bound: &str) -> String {
    format!("balance = \"{algorithm}\"\nhash_key = {{ header = \"x-key\" }}\n{bound}")
}

fn bounded() -> String {
    format!("bounded_load = {FACTOR}")
}

/// Requests that are held at their backends.
struct Held<'a> {
    ringway: &'a Configured,
    backends: &'a [Holding],
    /// Each with the number of its backend.
    clients: Vec<(Client, usize)>,
}

impl Held<'_> {
    /// One more for this key, held where it came to.
    fn add(&mut self, key: &str) {
        let mut client = self.ringway.client();
        client.send(format!("GET /held HTTP/1.1\r\nHost: a\r\nX-Key: {key}\r\n\r\n").as_bytes()).unwrap();
        let place = eventually("the request at a backend", || {
            self.backends.iter().position(|backend| backend.asked.try_recv().is_ok())
        });
        self.clients.push((client, place));
    }

    fn counts(&self) -> [usize; BACKENDS] {
        let mut counts = [0; BACKENDS];
        self.clients.iter().for_each(|(_, place)| counts[*place] += 1);
        counts
    }

    /// Lets all of them end.
    fn release(self) {
        self.clients.iter().for_each(|(_, place)| self.backends[*place].release.send(()).unwrap());
        for (mut client, _) in self.clients {
            assert_eq!(client.response().text(), "done");
        }
    }
}

/// On one worker.
#[test]
fn nobody_has_more_than_the_factor_of_the_average_however_hot_its_key_is() {
    for algorithm in ["ip-hash", "ring", "maglev"] {
        let backends = [(); BACKENDS].map(|()| Holding::start());
        let list = places(backends.iter().map(|holding| &holding.backend));
        let free = balancing(1, &cluster(algorithm, ""), &list);
        let mut held = Held { ringway: &free, backends: &backends, clients: Vec::new() };
        (0..6).for_each(|_| held.add("hot"));
        let own = held.clients[0].1;
        assert_eq!(held.counts()[own], 6, "{algorithm}: without a bound all are for its own backend");
        held.release();

        let ringway = balancing(1, &cluster(algorithm, &bounded()), &list);
        let mut held = Held { ringway: &ringway, backends: &backends, clients: Vec::new() };
        for number in 1..=24 {
            // At first all ask for the same, then for many things.
            held.add(&if number <= 12 { "hot".to_owned() } else { number.to_string() });
            let (counts, allowed) = (held.counts(), allowed(number));
            assert!(counts.iter().all(|count| *count <= allowed), "{algorithm}: {counts:?}, not {allowed}");
            if number <= 12 {
                assert_eq!(
                    counts[own], allowed,
                    "{algorithm}: its own backend has all that it may: {counts:?}"
                );
            }
        }
        let used: BTreeSet<_> = held.clients.iter().map(|(_, place)| *place).collect();
        assert_eq!(used.len(), BACKENDS, "{algorithm}");
        held.release();
        // Nothing is in progress any more, so it is at home again.
        ringway.wait_stats("nothing in progress", |stats| stats.backend_gauge("active") == 0);
        let mut held = Held { ringway: &ringway, backends: &backends, clients: Vec::new() };
        held.add("hot");
        assert_eq!(held.clients[0].1, own, "{algorithm}");
        held.release();
    }
}

/// Each worker bounds what it has sent itself, as it knows nothing of the others'.
#[test]
fn every_worker_keeps_to_the_bound() {
    let holding = [(); BACKENDS].map(|()| Holding::start());
    let list = places(holding.iter().map(|holding| &holding.backend));
    let ringway = balancing(2, &cluster("ring", &bounded()), &list);
    let mut held = Held { ringway: &ringway, backends: &holding, clients: Vec::new() };
    for number in 1..=30 {
        held.add("hot");
        let stats = ringway.wait_stats("all of them", |stats| stats.backend_gauge("active") == number);
        for worker in stats.workers() {
            let active = backends(worker).iter().map(|backend| backend["gauges"]["active"].as_u64().unwrap());
            let active: Vec<_> = active.map(|active| usize::try_from(active).unwrap()).collect();
            let together = active.iter().sum();
            assert!(together > 0 || number < 30, "the kernel has spread them: {active:?}");
            assert_eq!(active.iter().max(), Some(&allowed(together)), "{active:?}");
        }
    }
    held.release();
}
