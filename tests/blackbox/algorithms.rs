//! Who gets what: every algorithm, seen from the clients and the backends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::deadline::within;
use crate::support::stats::backends;
use crate::support::{Acceptor, Backend, Client, Configured, Holding, Ringway, eventually, refusing_address};

/// Backends that answer with their number.
pub(crate) fn numbered(count: usize) -> Vec<Backend> {
    (0..count).map(|number| Backend::well_behaved(&number.to_string())).collect()
}

pub(crate) fn places<'a>(backends: impl IntoIterator<Item = &'a Backend>) -> Vec<String> {
    backends.into_iter().map(|backend| format!("{{ address = {:?} }}", backend.place)).collect()
}

/// A file with one listener and one cluster.
pub(crate) fn file(mode: &str, cluster: &str, backends: &[String]) -> String {
    let backends = backends.join(",\n  ");
    format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\nmode = \"{mode}\"\n\n[[cluster]]\n{cluster}\nbackend = [\n  {backends}\n]\n"
    )
}

pub(crate) fn balancing(cores: usize, cluster: &str, backends: &[String]) -> Configured {
    Configured::start(cores, &file("http", cluster, backends))
}

/// Who answers `count` requests of one connection.
pub(crate) fn answers(client: &mut Client, count: usize) -> Vec<String> {
    let ask = |_| {
        let response = client.get("/");
        assert_eq!(response.status, 200, "{}", response.text());
        response.text()
    };
    (0..count).map(ask).collect()
}

pub(crate) fn tally<T: Ord>(answers: impl IntoIterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    for answer in answers {
        *counts.entry(answer).or_default() += 1;
    }
    counts
}

fn longest_run(answers: &[String]) -> usize {
    answers.chunk_by(|a, b| a == b).map(<[_]>::len).max().unwrap()
}

/// Promise 4, on one worker and for the connection of one client on two.
#[test]
fn round_robin_gives_equal_turns_and_spreads_the_share_of_a_dead_one() {
    let backends = numbered(4);
    let (_socket, dead) = refusing_address();
    let mut with_dead = places(&backends[..3]);
    with_dead.insert(1, format!("\"{dead}\""));
    for workers in [1, 2] {
        let ringway = balancing(workers, "balance = \"round-robin\"", &places(&backends));
        let heard = answers(&mut ringway.client(), 100);
        assert_eq!(tally(&heard).into_values().collect::<Vec<_>>(), [25; 4]);
        for round in heard.chunks(4) {
            assert_eq!(round, &heard[..4], "not in turn");
        }

        let ringway = balancing(workers, "", &with_dead);
        let counts: Vec<_> = tally(answers(&mut ringway.client(), 100)).into_values().collect();
        // A trial of the dead one once its time is over may cost one of the others a turn.
        let failures = ringway.stats().counter_per_backend("connect_failures")[1] as usize;
        assert!((1..=4).contains(&failures), "{failures}");
        assert_eq!((counts.len(), counts.iter().sum::<usize>()), (3, 100));
        assert!(counts.iter().all(|count| (34 - failures..=33 + failures).contains(count)), "{counts:?}");
    }
}

/// Promise 5.
#[test]
fn weights_are_kept_without_bursts() {
    let backends = numbered(2);
    let weighted: Vec<_> = backends
        .iter()
        .zip([3, 1])
        .map(|(backend, weight)| format!("{{ address = {:?}, weight = {weight} }}", backend.place))
        .collect();
    for workers in [1, 2] {
        let ringway = balancing(workers, "", &weighted);
        let heard = answers(&mut ringway.client(), 400);
        assert_eq!(tally(heard.iter().map(String::as_str)), BTreeMap::from([("0", 300), ("1", 100)]));
        assert!(longest_run(&heard) <= 3, "{heard:?}");
    }

    // By flags it is the same.
    let options = Ringway::options()
        .backend(format!("{};weight=1", backends[0].place))
        .backend(format!("{};weight=4", backends[1].place));
    let heard = answers(&mut options.start().client(), 400);
    assert_eq!(tally(heard.iter().map(String::as_str)), BTreeMap::from([("0", 80), ("1", 320)]));
    assert!(longest_run(&heard) <= 4, "{heard:?}");
}

/// Promise 6.
#[test]
fn least_connections_fills_up_who_has_few() {
    let (a, b) = (Acceptor::new(), Acceptor::new());
    let list = [format!("{:?}", a.place), format!("{:?}", b.place)];
    let ringway = Configured::start(1, &file("tcp", "balance = \"least-connections\"", &list));
    let (mut on_a, mut on_b) = (Vec::new(), Vec::new());
    let open = |on_a: &mut Vec<_>, on_b: &mut Vec<_>| {
        let client = ringway.client();
        eventually("a connection at a backend", || {
            let (at_a, at_b) = (a.try_accept(), b.try_accept());
            (at_a.is_some() || at_b.is_some()).then_some((at_a, at_b))
        })
        .map_pushed(client, on_a, on_b);
    };
    for _ in 0..10 {
        open(&mut on_a, &mut on_b);
    }
    assert_eq!((on_a.len(), on_b.len()), (5, 5));
    on_b.clear();
    ringway.wait_stats("five on the first", |stats| stats.gauge_per_backend("active") == [5, 0]);
    for _ in 0..5 {
        open(&mut on_a, &mut on_b);
    }
    assert_eq!((on_a.len(), on_b.len()), (5, 5));
}

/// Promise 6 again: each of two workers evens out its own connections.
#[test]
fn least_connections_is_even_on_every_worker() {
    let acceptors = [(); 3].map(|()| Acceptor::new());
    let list = acceptors.each_ref().map(|acceptor| format!("{:?}", acceptor.place));
    let ringway = Configured::start(2, &file("tcp", "balance = \"least-connections\"", &list));
    let _clients: Vec<_> = (0..30).map(|_| ringway.client()).collect();
    let stats = ringway.wait_stats("all tunnels", |stats| stats.gauge("tunnels_active") == 30);
    for worker in stats.workers() {
        let active = backends(worker).iter().map(|backend| backend["gauges"]["active"].as_u64().unwrap());
        let active: Vec<_> = active.collect();
        let (least, most) = (active.iter().min().unwrap(), active.iter().max().unwrap());
        assert!(*least > 0 && most - least <= 1, "{active:?}");
    }
}

/// Both ends of a tunnel go to the list of the backend it came to.
trait Placed<T> {
    fn map_pushed(self, client: Client, on_a: &mut Vec<(Client, T)>, on_b: &mut Vec<(Client, T)>);
}

impl<T> Placed<T> for (Option<T>, Option<T>) {
    fn map_pushed(self, client: Client, on_a: &mut Vec<(Client, T)>, on_b: &mut Vec<(Client, T)>) {
        match self {
            (Some(wire), None) => on_a.push((client, wire)),
            (None, Some(wire)) => on_b.push((client, wire)),
            _ => panic!("one client came to two backends"),
        }
    }
}

/// Who has a request in progress is passed over while the other has none.
#[test]
fn who_is_busy_is_passed_over_by_least_connections_and_p2c() {
    for algorithm in ["least-connections", "p2c"] {
        let (busy, idle) = (Holding::start(), Backend::well_behaved("idle"));
        let cluster = format!("balance = \"{algorithm}\"");
        let ringway = balancing(1, &cluster, &places([&busy.backend, &idle]));
        // Until it is the turn of the one that holds.
        let mut held = eventually("a request at the one that holds", || {
            let mut client = ringway.client();
            client.send(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            let kept = eventually("the request at a backend", || {
                if busy.asked.try_recv().is_ok() {
                    return Some(true);
                }
                client.has_input().then_some(false)
            });
            kept.then_some(client)
        });
        assert_eq!(tally(answers(&mut ringway.client(), 50)), BTreeMap::from([("idle".into(), 50)]));
        busy.release.send(()).unwrap();
        assert_eq!(held.response().text(), "done");
    }
}

/// Promise 7, with shorter times.
#[test]
fn least_response_time_leaves_out_the_slow_until_they_are_fast() {
    let delays = [(); 2].map(|()| Arc::new(AtomicU64::new(2)));
    delays[0].store(30, Ordering::SeqCst);
    let backends = delays.iter().enumerate().map(|(number, delay)| {
        let delay = Arc::clone(delay);
        Backend::scripted(move |connection| {
            while connection.request().is_some() {
                thread::park_timeout(Duration::from_millis(delay.load(Ordering::SeqCst)));
                connection.say(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}").as_bytes());
            }
        })
    });
    let backends: Vec<_> = backends.collect();
    let ringway = balancing(2, "balance = \"least-response-time\"", &places(&backends));
    let over = AtomicBool::new(false);
    let slow_share = |count: u64| {
        let picks = || ringway.stats().counter_per_backend("picks");
        let before = picks();
        let after = eventually("more requests", || {
            let now = picks();
            (now.iter().sum::<u64>() >= before.iter().sum::<u64>() + count).then_some(now)
        });
        let (slow, fast) = (after[0] - before[0], after[1] - before[1]);
        slow as f64 / (slow + fast) as f64
    };
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut client = ringway.client();
                while !over.load(Ordering::SeqCst) {
                    answers(&mut client, 1);
                }
            });
        }
        let stop = StopOnDrop(&over);
        slow_share(50);
        let share = slow_share(400);
        assert!(share < 0.15, "a slow one gets {share}");
        delays[0].store(2, Ordering::SeqCst);
        let recovered = within(Duration::from_secs(40), || (slow_share(100) > 0.35).then_some(()));
        assert!(recovered.is_some(), "one that is fast again does not get its share back");
        drop(stop);
    });
}

/// Ends the load of a test that fails, too.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Promise 12.
#[test]
fn instances_do_not_all_begin_with_the_same_backend() {
    let backends = numbered(8);
    let list = places(&backends);
    for algorithm in ["round-robin", "least-connections", "least-response-time", "random", "p2c"] {
        let cluster = format!("balance = \"{algorithm}\"");
        let first = |_| balancing(1, &cluster, &list).get("/").text();
        let firsts: BTreeSet<_> = (0..6).map(first).collect();
        assert!(firsts.len() > 1, "{algorithm}: every instance began with {firsts:?}");
    }
}

/// Promise 12, the other half.
#[test]
fn instances_together_are_even() {
    let backends = numbered(4);
    let text = file("http", "", &places(&backends));
    let instances = [(); 3].map(|()| Configured::start(2, &text));
    let mut counts = BTreeMap::<String, usize>::new();
    for ringway in &instances {
        for _ in 0..10 {
            for answer in answers(&mut ringway.client(), 30) {
                *counts.entry(answer).or_default() += 1;
            }
        }
    }
    assert!(counts.len() == 4 && counts.values().all(|count| count.abs_diff(225) <= 7), "{counts:?}");
}

/// Promise 36.
#[test]
fn a_backup_is_used_only_while_all_others_are_down() {
    for algorithm in
        ["round-robin", "least-connections", "ring", "maglev", "ip-hash", "first", "p2c", "random"]
    {
        let sockets = [refusing_address(), refusing_address()];
        let backup = Backend::well_behaved("backup");
        let mut list: Vec<_> =
            sockets.iter().map(|(_, dead)| format!("{{ address = \"{dead}\" }}")).collect();
        list.insert(0, format!("{{ address = {:?}, backup = true }}", backup.place));
        let ringway = balancing(2, &format!("balance = \"{algorithm}\""), &list);
        let heard = answers(&mut ringway.client(), 20);
        assert_eq!(tally(heard), BTreeMap::from([("backup".into(), 20)]), "{algorithm}");

        // One of the others is enough to leave it.
        let [(first, _), (second, _)] = sockets;
        let _first = Backend::well_behaved_on(first, "main");
        let mut client = ringway.client();
        eventually("the one that is back", || (answers(&mut client, 1) == ["main"]).then_some(()));
        assert_eq!(tally(answers(&mut client, 50)), BTreeMap::from([("main".into(), 50)]), "{algorithm}");
        let _second = Backend::well_behaved_on(second, "main");
        assert_eq!(tally(answers(&mut client, 50)), BTreeMap::from([("main".into(), 50)]), "{algorithm}");
    }
}

/// Promise 37. They are learned of once: a reload keeps what is known of who stays, so all algorithms have the same crowd.
#[test]
fn a_crowd_of_dead_ones_costs_nothing_once_it_is_known() {
    const DEAD: usize = 990;
    let alive = numbered(10);
    let (_socket, dead) = refusing_address();
    // The whole of 127.0.0.0/8 is this host, and nobody else has the port.
    let at = |number| format!("\"127.1.{}.{}:{}\"", number / 200, number % 200 + 1, dead.port());
    let mut list: Vec<_> = (0..DEAD).map(at).collect();
    for (number, place) in places(&alive).into_iter().enumerate() {
        list.insert(number * 97 + 5, place);
    }
    let text = |balance: &str| {
        // Nobody is asked again while the test runs.
        let circuit = "circuit = { failures = 1, open = \"1h\", open_max = \"1h\" }";
        file("http", &format!("balance = {balance}\n{circuit}"), &list)
    };
    let ringway = Configured::start(2, &text("\"round-robin\""));
    meet_all(&ringway, DEAD);
    for (balance, used) in [
        ("\"round-robin\"", 10),
        ("\"least-connections\"", 10),
        ("\"random\"", 10),
        ("\"p2c\"", 10),
        ("\"ip-hash\"\nhash_key = \"path\"", 10),
        ("\"ring\"\nhash_key = \"path\"", 10),
        ("\"maglev\"\nhash_key = \"path\"", 10),
        // Who asks one after the other may always hear the same one: the fastest.
        ("\"least-response-time\"", 1),
        ("\"first\"", 1),
    ] {
        ringway.reload(&text(balance));
        let failures = || ringway.stats().counter_per_backend("connect_failures").iter().sum::<u64>();
        let before = failures();
        let heard = (0..200).map(|number| ringway.get(&format!("/{number}")));
        let heard: BTreeSet<_> = heard.map(|response| (response.status, response.text())).collect();
        assert!(heard.iter().all(|(status, _)| *status == 200), "{balance}: {heard:?}");
        assert!(heard.len() >= used, "{balance}: not all of those alive were used: {heard:?}");
        assert_eq!(failures(), before, "{balance}: a dead one was asked again");
    }
}

/// Asks until that many backends are known to be dead, over many connections, since each dead one may take its time.
fn meet_all(ringway: &Configured, dead: usize) {
    let known = || {
        let stats = ringway.stats();
        backends(stats.total()).iter().filter(|backend| backend["state"] == "ejected").count()
    };
    let ask = || {
        let mut client = ringway.client();
        for _ in 0..dead / 16 {
            let response = client.get("/");
            assert!(matches!(response.status, 200 | 503), "{}", response.status);
            if response.says_close() {
                client = ringway.client();
            }
        }
    };
    eventually("all of the dead", || {
        thread::scope(|scope| (0..16).for_each(|_| drop(scope.spawn(ask))));
        (known() == dead).then_some(())
    });
}

#[test]
fn random_is_roughly_even_and_not_in_turns() {
    for algorithm in ["random", "p2c"] {
        let backends = numbered(4);
        let ringway = balancing(1, &format!("balance = \"{algorithm}\""), &places(&backends));
        let heard = answers(&mut ringway.client(), 400);
        let counts = tally(&heard);
        assert!(counts.values().all(|count| (50..=150).contains(count)), "{algorithm}: {counts:?}");
        assert_eq!(counts.len(), 4);
        assert!(heard.chunks(4).any(|round| round != &heard[..4]), "{algorithm}: in turns");
    }
}

#[test]
fn first_asks_the_first_that_lives() {
    let backends = numbered(2);
    let (socket, dead) = refusing_address();
    let mut list = places(&backends);
    list.insert(0, format!("\"{dead}\""));
    let ringway = balancing(2, "balance = \"first\"", &list);
    assert_eq!(tally(answers(&mut ringway.client(), 50)), BTreeMap::from([("0".into(), 50)]));
    let _back = Backend::well_behaved_on(socket, "back");
    let mut client = ringway.client();
    eventually("the first, which is back", || (answers(&mut client, 1) == ["back"]).then_some(()));
    assert_eq!(tally(answers(&mut client, 50)), BTreeMap::from([("back".into(), 50)]));
}
