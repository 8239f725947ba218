//! The retry budget: what each request costs, and what a retry that is within it costs.

use std::hint::black_box;

use ringway::cluster::budget::Budget;

use crate::piece::Piece;

/// A worker's part of it.
pub fn pieces() -> Vec<Piece> {
    vec![
        Piece::new("budget request", || {
            let (mut budget, mut turn) = (Budget::default(), 0u64);
            Box::new(move || {
                turn += 1;
                // A hundred requests in a millisecond.
                budget.request(black_box(1_000_000 + turn / 100));
            })
        }),
        Piece::new("budget request and retry", || {
            let (mut budget, mut turn) = (Budget::default(), 0u64);
            Box::new(move || {
                turn += 1;
                let now = black_box(1_000_000 + turn / 100);
                budget.request(now);
                black_box(budget.retry(20, now));
            })
        }),
    ]
}
