//! Promise 21: a backend that has come back grows into its share, and has all of it in the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::probes::wait_turns;
use crate::support::stats::backends;
use crate::support::{Backend, Configured, eventually};

/// Long enough that a machine that is busy for a moment does not hide it.
const GROWTH: Duration = Duration::from_secs(2);
/// Fewer answers than this say nothing of a share.
const ENOUGH: usize = 40;

/// A backend that dies of every request, and whose page for probes says so, until it is cured.
fn curable() -> (Arc<AtomicBool>, Backend) {
    let cured = Arc::new(AtomicBool::new(false));
    let is_cured = Arc::clone(&cured);
    let backend = Backend::scripted(move |connection| {
        while let Some(request) = connection.request() {
            match (is_cured.load(SeqCst), request.target()) {
                (true, _) => connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold"),
                (false, "/health") => {
                    connection.say(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n");
                }
                (false, _) => return,
            }
        }
    });
    (cured, backend)
}

/// Two workers in front of the one that comes back and of one that was always there.
fn in_front_of(old: &Backend, steady: &Backend, rules: &str) -> Configured {
    let text = format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\n[[cluster]]\nslow_start = \"2s\"\n\
         backend = [{{ address = \"{}\", name = \"old\" }}, \"{}\"]\n{rules}",
        old.place, steady.place
    );
    Configured::start(2, &text)
}

/// Who answered when, from the first answer of the one that is back.
struct Answers {
    begun: Instant,
    all: Vec<(Duration, bool)>,
}

impl Answers {
    /// Asks for a long time after the first answer of the one that is back; each time on a connection of its own, so
    /// both workers are asked.
    fn collect(ringway: &Configured, time: Duration) -> Self {
        let ask = || ringway.get("/").text() == "old";
        let begun = eventually("the first answer of the one that is back", || ask().then(Instant::now));
        let mut all = Vec::new();
        while begun.elapsed() < time {
            let at = begun.elapsed();
            all.push((at, ask()));
        }
        Answers { begun, all }
    }

    /// Its share of the answers between these percents of the growth; nothing if there were too few.
    fn share(&self, from: u32, to: u32) -> Option<f64> {
        let (from, to) = (GROWTH * from / 100, GROWTH * to / 100);
        let among: Vec<_> = self.all.iter().filter(|(at, _)| (from..to).contains(at)).collect();
        let its = among.iter().filter(|(_, is_its)| *is_its).count();
        (among.len() >= ENOUGH).then(|| its as f64 / among.len() as f64)
    }

    /// It had little at first, more later, and its half in the end.
    fn check_growth(&self) {
        let parts = [(0, 20), (40, 60), (75, 95), (120, 150)].map(|(from, to)| self.share(from, to));
        let [Some(first), Some(middle), Some(late), Some(warm)] = parts else {
            panic!("too few answers in {:?}: {}, {parts:?}", self.begun.elapsed(), self.all.len());
        };
        // A tenth to a fifth of its turns, then about half of them, then most of them, then all.
        assert!(first < 0.25, "{parts:?}");
        assert!((0.15..0.45).contains(&middle) && middle > first, "{parts:?}");
        assert!(late > middle && late < 0.53, "{parts:?}");
        assert!((0.45..0.55).contains(&warm), "{parts:?}");
    }
}

fn after_trial(balance: &str) {
    let (cured, old) = curable();
    let steady = Backend::well_behaved("new");
    let rules = format!("balance = \"{balance}\"\ncircuit = {{ failures = 1, open = \"500ms\" }}\n");
    let ringway = in_front_of(&old, &steady, &rules);
    eventually("its ejection", || {
        assert_eq!(ringway.get("/").status, 200);
        (backends(ringway.stats().total())[0]["state"] == "ejected").then_some(())
    });
    cured.store(true, SeqCst);
    Answers::collect(&ringway, GROWTH * 3 / 2).check_growth();
}

#[test]
fn who_is_readmitted_by_a_trial_grows_into_its_share() {
    after_trial("round-robin");
}

#[test]
fn who_is_readmitted_by_a_trial_grows_into_its_share_at_random() {
    after_trial("random");
}

#[test]
fn who_is_brought_back_by_its_probes_grows_into_its_share() {
    let (cured, old) = curable();
    let steady = Backend::well_behaved("new");
    let rules = "circuit = { failures = 0 }\n[cluster.health]\npath = \"/health\"\ninterval = \"100ms\"\n\
                 timeout = \"10s\"\nrise = 1\nfall = 1\n";
    let ringway = in_front_of(&old, &steady, rules);
    wait_turns(&ringway, "old", 1);
    let only_new = || (0..20).all(|_| ringway.get("/").text() == "new").then_some(());
    eventually("every worker to know", only_new);
    cured.store(true, SeqCst);
    Answers::collect(&ringway, GROWTH * 3 / 2).check_growth();
}

/// Otherwise a start, or a reload, would give nobody its share.
#[test]
fn who_was_always_there_has_its_share_at_once() {
    let [old, steady] = ["old", "new"].map(Backend::well_behaved);
    let ringway = in_front_of(&old, &steady, "");
    let answers = Answers::collect(&ringway, GROWTH / 2);
    let share = answers.share(0, 50).unwrap();
    assert!((0.45..0.55).contains(&share), "{share}");
}
