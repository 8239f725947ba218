//! Statistics: what a worker records, and what control makes of it for those who ask.

use std::{hint::black_box, sync::Arc};

use ringway::{
    control::metrics,
    stats::{
        histogram::Histogram,
        names::{BackendCount, Count},
        report::Report,
        view::View,
    },
};

use crate::{
    piece::{Piece, Work},
    plan,
};

/// Workers and backends of what is rendered.
const WORKERS: usize = 2;
const BACKENDS: usize = 100;

/// The worker's part, and the whole of what control does for one who asks.
pub fn pieces() -> Vec<Piece> {
    let render =
        |name, form: fn(Report) -> usize| Piece::new(format!("render {name}"), move || rendering(form));
    vec![
        Piece::new("histogram record", || {
            let (histogram, mut time) = (Histogram::default(), 1u64);
            Box::new(move || {
                time = time.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                histogram.record(black_box(time >> 40));
            })
        }),
        Piece::new("histogram quantile", || {
            let histogram = recorded();
            Box::new(move || {
                black_box(histogram.snapshot().quantile(black_box(0.99)));
            })
        }),
        render("text", |report| report.to_text().len()),
        render("json", |report| report.to_json().to_string().len()),
        render("prometheus", |report| metrics::encode(report).unwrap().len()),
    ]
}

fn recorded() -> Histogram {
    let histogram = Histogram::default();
    (0..10_000u64).for_each(|step| histogram.record(step * step % 1_000_003));
    histogram
}

fn rendering(form: fn(Report) -> usize) -> Work {
    let view = View::new(Arc::new(plan::plan(BACKENDS, WORKERS)));
    for (place, worker) in view.workers.iter().enumerate() {
        worker.stats.add(Count::Requests, 1_234_567 + place as u64);
        worker.stats.add(Count::ClientSentBytes, 12_345_678_901);
        (0..10_000u64).for_each(|step| worker.stats.total_time.record(step * step % 1_000_003));
        for backend in &worker.backends[0] {
            backend.add(BackendCount::Picks, 12_345);
            backend.add(BackendCount::SentBytes, 123_456_789);
        }
    }
    Box::new(move || {
        black_box(form(Report::collect(black_box(&view))));
    })
}
