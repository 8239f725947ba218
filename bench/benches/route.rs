//! What it costs to find a request's route, by the number of routes.
//!
//!     cargo bench -p ringway-bench --bench route
//!
//! Each look-up asks for another route than the one before, in an order that no cache foresees.

use divan::Bencher;
use ringway_pieces::{piece::Piece, routing};

fn main() {
    divan::main();
}

#[divan::bench(args = routing::pieces(&[1, 100, 10_000]))]
fn route(bencher: Bencher<'_, '_>, piece: &Piece) {
    bencher.bench_local(piece.work());
}
