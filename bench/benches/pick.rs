//! What it costs to pick a backend: each algorithm, from 10 to 10 000 backends, with all of them up and with 99 % dead.
//!
//! One iteration is one request as a selector sees it: a pick, and the end of an earlier request. Two requests per
//! living backend are in flight, and every key is another one.
#![allow(clippy::unwrap_used, reason = "this is a benchmark: it stops at the first surprise")]

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use divan::{Bencher, black_box};
use ringway::balance::{
    algorithm::Algorithm,
    key,
    layout::{Layout, Member, Spec},
    roster::Fitness,
    selector::{Request, Selector},
};

/// Shows what is allocated: nothing, by a pick.
#[global_allocator]
static ALLOCATOR: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

/// What a selector is made of and put through.
#[derive(Debug, Clone, Copy)]
struct Case {
    algorithm: Algorithm,
    backends: usize,
    dead: bool,
    /// All different, instead of all the same.
    weighted: bool,
    bounded: bool,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.algorithm.name())?;
        write!(f, "{}", if self.weighted { " weighted" } else { "" })?;
        write!(f, "{}", if self.bounded { " bounded" } else { "" })?;
        write!(f, " {:>5}{}", self.backends, if self.dead { " 99 % dead" } else { "" })
    }
}

/// Every algorithm in every size.
fn cases() -> Vec<Case> {
    let all = Algorithm::ALL.map(|algorithm| (algorithm, false, false)).into_iter();
    let special = [
        (Algorithm::RoundRobin, true, false),
        (Algorithm::LeastConnections, true, false),
        (Algorithm::Random, true, false),
        (Algorithm::Ring, false, true),
        (Algorithm::Maglev, false, true),
    ];
    let variants = all.chain(special);
    let sizes = [10, 100, 1_000, 10_000].map(|backends| [(backends, false), (backends, true)]);
    let cases = variants.flat_map(|(algorithm, weighted, bounded)| {
        sizes.into_iter().flatten().map(move |(backends, dead)| Case {
            algorithm,
            backends,
            dead,
            weighted,
            bounded,
        })
    });
    cases.collect()
}

fn layout(case: &Case) -> Layout {
    let members = (0..case.backends).map(|index| Member {
        name: Arc::from(format!("10.{}.{}.{}:8080", index >> 16, index >> 8 & 255, index & 255)),
        weight: if case.weighted { index as u16 + 1 } else { 1 },
        backup: false,
    });
    let spec = Spec::new(case.algorithm, members.collect());
    Layout::new(&Spec { bounded_load: case.bounded.then_some(1.25), ..spec })
}

fn selector(case: &Case) -> Selector {
    let mut selector = Selector::new(Arc::new(layout(case)), 1, 0);
    for index in (0..case.backends).filter(|index| case.dead && index % 100 != 7) {
        selector.set_fitness(index, Fitness::Ailing, 0);
    }
    selector
}

#[divan::bench(args = cases())]
fn pick(bencher: Bencher<'_, '_>, case: &Case) {
    let mut selector = selector(case);
    let mut key = 0u64;
    let mut pick = |selector: &mut Selector| {
        key = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
        // A ring looks at the lower half only.
        selector.pick(Request { key: key ^ key >> 32, tried: &[], now: 1 })
    };
    let living = if case.dead { case.backends.div_ceil(100) } else { case.backends };
    let mut running: VecDeque<usize> = VecDeque::with_capacity(2 * living + 1);
    running.extend((0..2 * living).map(|_| pick(&mut selector).unwrap()));
    for index in &running {
        selector.responded(*index, Duration::from_millis(*index as u64 % 5 + 1), 1);
    }
    bencher.bench_local(|| {
        let index = pick(&mut selector).unwrap();
        running.push_back(black_box(index));
        if let Some(ended) = running.pop_front() {
            selector.finished(ended);
        }
    });
}

/// The other costs of an algorithm, at a thousand backends.
#[divan::bench(args = Algorithm::ALL)]
fn down_and_up_again(bencher: Bencher<'_, '_>, algorithm: Algorithm) {
    let case = Case { algorithm, backends: 1_000, dead: false, weighted: false, bounded: false };
    let mut selector = selector(&case);
    bencher.bench_local(|| {
        selector.set_fitness(black_box(500), Fitness::Ailing, 0);
        selector.set_fitness(black_box(500), Fitness::Fit, 0);
    });
}

/// A retry: two backends are hidden from the pick and shown again.
#[divan::bench(args = Algorithm::ALL)]
fn pick_besides_two(bencher: Bencher<'_, '_>, algorithm: Algorithm) {
    let case = Case { algorithm, backends: 1_000, dead: false, weighted: false, bounded: false };
    let mut selector = selector(&case);
    let mut key = 0u64;
    bencher.bench_local(|| {
        key = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let index = selector.pick(Request { key: key ^ key >> 32, tried: &[1, 2], now: 1 }).unwrap();
        selector.finished(black_box(index));
    });
}

/// A key of 24 bytes, before the pick: MD5 for a ring, XXH3 for the others.
#[divan::bench(args = [Algorithm::Ring, Algorithm::Maglev])]
fn hash(bencher: Bencher<'_, '_>, algorithm: Algorithm) {
    bencher.bench(|| key::of(algorithm, black_box(b"/images/7f3a91c2/big.jpg")));
}

/// Tables, off the workers.
#[divan::bench(args = [(Algorithm::Ring, 10), (Algorithm::Ring, 1_000), (Algorithm::Maglev, 10), (Algorithm::Maglev, 1_000)], sample_count = 5)]
fn build(bencher: Bencher<'_, '_>, (algorithm, backends): (Algorithm, usize)) {
    let case = Case { algorithm, backends, dead: false, weighted: false, bounded: false };
    bencher.bench(|| layout(&case));
}
