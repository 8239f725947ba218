//! What it costs to pick a backend: each algorithm, from 1 to 10 000 backends, with all of them up and with 99 % dead.
//!
//! One iteration is one request as a selector sees it: a pick, and the end of an earlier request. Two requests per
//! living backend are in flight, and every key is another one.
#![allow(clippy::unwrap_used, reason = "this is a benchmark: it stops at the first surprise")]

use divan::{Bencher, black_box};
use ringway::balance::{algorithm::Algorithm, key, roster::Fitness, selector::Request};
use ringway_pieces::pick::Case;

/// Shows what is allocated: nothing, by a pick.
#[global_allocator]
static ALLOCATOR: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
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
    let sizes =
        [10, 100, 1_000, 10_000].into_iter().flat_map(|backends| [(backends, false), (backends, true)]);
    // Of one, none can be dead.
    let sizes: Vec<_> = [(1, false)].into_iter().chain(sizes).collect();
    let cases = variants.flat_map(|(algorithm, weighted, bounded)| {
        sizes.clone().into_iter().map(move |(backends, dead)| Case {
            algorithm,
            backends,
            dead,
            weighted,
            bounded,
        })
    });
    cases.collect()
}

#[divan::bench(args = cases())]
fn pick(bencher: Bencher<'_, '_>, case: &Case) {
    bencher.bench_local(case.work());
}

/// The other costs of an algorithm, at a thousand backends.
#[divan::bench(args = Algorithm::ALL)]
fn down_and_up_again(bencher: Bencher<'_, '_>, algorithm: Algorithm) {
    let case = Case { algorithm, backends: 1_000, dead: false, weighted: false, bounded: false };
    let mut selector = case.selector();
    bencher.bench_local(|| {
        selector.set_fitness(black_box(500), Fitness::Ailing, 0);
        selector.set_fitness(black_box(500), Fitness::Fit, 0);
    });
}

/// A retry: two backends are hidden from the pick and shown again.
#[divan::bench(args = Algorithm::ALL)]
fn pick_besides_two(bencher: Bencher<'_, '_>, algorithm: Algorithm) {
    let case = Case { algorithm, backends: 1_000, dead: false, weighted: false, bounded: false };
    let mut selector = case.selector();
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
    bencher.bench(|| case.layout());
}
