//! Runs exchanges on one thread and on two, to show what the second one costs the first: nothing.
//!
//! `lanes time TURNS [shared]` prints nanoseconds per exchange of one lane alone and of two at once, each pinned to a core of
//! its own. `lanes apart TURNS [shared]` runs one lane after the other between marks, for those who look at every access to
//! memory; `lanes count TURNS [alone]` runs two at once, or only one, inside [`measured`], for those who count instructions.
//! `shared` adds one counter that both write: what is looked for, to see that it would be found.

use std::{
    env,
    process::ExitCode,
    sync::{
        Barrier,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::Instant,
};

use ringway_pieces::lane::{Ground, Lane};

/// The program's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LANES: usize = 2;
/// Timings of each kind, of which the best counts: a disturbed one only ever adds.
const ROUNDS: usize = 5;

/// A cache line, so that nothing else is on it.
#[repr(align(128))]
struct Line(AtomicU64);

/// What workers never have.
static SHARED: Line = Line(AtomicU64::new(0));
/// Written before and after each lane's turns.
static MARK: Line = Line(AtomicU64::new(0));
/// How often a lane writes the shared counter in one exchange, as a program with global statistics would.
const SHARED_WRITES: usize = 8;

/// Callgrind knows it by this name.
#[inline(never)]
fn measured(lane: &Lane, turns: usize, shared: bool) {
    for _ in 0..turns {
        lane.exchange();
        if shared {
            (0..SHARED_WRITES).for_each(|_| {
                SHARED.0.fetch_add(1, Relaxed);
            });
        }
    }
}

/// The cores this process may use, one for each lane; the last one again when there are fewer.
fn cores() -> [usize; LANES] {
    let allowed = rustix::thread::sched_getaffinity(None).unwrap_or_else(|_| rustix::thread::CpuSet::new());
    let mut found = (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
    let first = found.next().unwrap_or(0);
    [first, found.next().unwrap_or(first)]
}

fn pin(worker: usize) {
    let mut cpus = rustix::thread::CpuSet::new();
    cpus.set(cores()[worker]);
    // Not pinned is slower, not wrong.
    let _ = rustix::thread::sched_setaffinity(None, &cpus);
}

/// The least nanoseconds per exchange, of any lane, of several rounds with so many lanes at once.
fn time(lanes: usize, turns: usize, shared: bool) -> f64 {
    let (ground, start) = (Ground::new(LANES, true), Barrier::new(lanes));
    let round = |lane: &Lane| {
        start.wait();
        let begun = Instant::now();
        measured(lane, turns, shared);
        begun.elapsed().as_nanos() as f64 / turns as f64
    };
    let run = |worker| {
        pin(worker);
        let lane = Lane::new(&ground, worker);
        measured(&lane, turns / 10, shared);
        (0..ROUNDS).map(|_| round(&lane)).collect::<Vec<_>>()
    };
    let times: Vec<Vec<f64>> = thread::scope(|scope| {
        let lanes: Vec<_> = (0..lanes).map(|worker| scope.spawn(move || run(worker))).collect();
        lanes.into_iter().filter_map(|lane| lane.join().ok()).collect()
    });
    // The slower lane of a round is what the round took.
    let slowest = |round| times.iter().map(|lane: &Vec<f64>| lane[round]).fold(0.0, f64::max);
    (0..ROUNDS).map(slowest).fold(f64::INFINITY, f64::min)
}

/// So many lanes at once, outside and inside [`measured`].
fn count(lanes: usize, turns: usize) {
    let (ground, start) = (Ground::new(LANES, true), Barrier::new(lanes));
    thread::scope(|scope| {
        for worker in 0..lanes {
            let (ground, start) = (&ground, &start);
            scope.spawn(move || {
                let lane = Lane::new(ground, worker);
                (0..turns / 10).for_each(|_| lane.exchange());
                start.wait();
                measured(&lane, turns, false);
            });
        }
    });
}

/// One lane after the other, each twice. Who is not in turn sleeps, and nothing is freed before the end.
fn apart(turns: usize, shared: bool) {
    println!("mark {:p}", &MARK);
    println!("shared {:p}", &SHARED);
    let ground = Ground::new(LANES, true);
    thread::scope(|scope| {
        let (said, hear) = mpsc::channel();
        let mut orders = Vec::new();
        for worker in 0..LANES {
            let (ground, said, (order, ordered)) = (&ground, said.clone(), mpsc::channel::<()>());
            orders.push(order);
            scope.spawn(move || {
                let lane = Lane::new(ground, worker);
                while ordered.recv().is_ok() {
                    // Long enough for whoever gave the order to have gone to sleep.
                    (0..100).for_each(|_| lane.exchange());
                    MARK.0.store(worker as u64 + 1, Relaxed);
                    measured(&lane, turns, shared);
                    MARK.0.store(0, Relaxed);
                    let _ = said.send(());
                }
            });
        }
        for worker in [0, 1, 0, 1] {
            let _ = orders[worker].send(());
            let _ = hear.recv();
        }
    });
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (kind, turns, extra) = match words[..] {
        [kind, turns] => (kind, turns.parse(), ""),
        [kind, turns, extra] => (kind, turns.parse(), extra),
        _ => ("", Ok(0), ""),
    };
    let shared = extra == "shared";
    match (kind, turns) {
        ("time", Ok(turns)) => {
            let [one, two] = [1, 2].map(|lanes| time(lanes, turns, shared));
            println!("one {one:.1} two {two:.1} ratio {:.3}", two / one);
        }
        ("count", Ok(turns)) => count(if extra == "alone" { 1 } else { LANES }, turns),
        ("apart", Ok(turns)) => apart(turns, shared),
        _ => {
            eprintln!("usage: lanes time|apart TURNS [shared], or lanes count TURNS [alone]");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
