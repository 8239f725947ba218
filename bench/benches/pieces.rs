//! What single functions cost: heads, framing, statistics, limits, a whole exchange without its system calls.
//!
//!     cargo bench -p ringway-bench --bench pieces
//!     cargo bench -p ringway-bench --bench pieces -- request
//!
//! The pieces are those whose instructions `bench/instructions` counts. Selectors and routes are in `pick` and `route`.

use divan::Bencher;
use ringway_pieces::{budget, figures, framing, lane, piece::Piece, rates, request, response};

/// Shows what is allocated: nothing, but by rendering.
#[global_allocator]
static ALLOCATOR: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

fn run(bencher: Bencher<'_, '_>, piece: &Piece) {
    bencher.bench_local(piece.work());
}

#[divan::bench(args = request::pieces())]
fn requests(bencher: Bencher<'_, '_>, piece: &Piece) {
    run(bencher, piece);
}

#[divan::bench(args = response::pieces())]
fn responses(bencher: Bencher<'_, '_>, piece: &Piece) {
    run(bencher, piece);
}

#[divan::bench(args = framing::pieces())]
fn bodies(bencher: Bencher<'_, '_>, piece: &Piece) {
    run(bencher, piece);
}

#[divan::bench(args = figures::pieces())]
fn statistics(bencher: Bencher<'_, '_>, piece: &Piece) {
    run(bencher, piece);
}

#[divan::bench(args = rates::pieces().into_iter().chain(budget::pieces()))]
fn limits(bencher: Bencher<'_, '_>, piece: &Piece) {
    run(bencher, piece);
}

#[divan::bench(args = lane::pieces())]
fn exchanges(bencher: Bencher<'_, '_>, piece: &Piece) {
    run(bencher, piece);
}
