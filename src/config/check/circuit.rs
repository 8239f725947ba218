//! A cluster's circuit breaker.

use std::{ops::RangeInclusive, time::Duration};

use super::Findings;
use crate::{
    config::{file::Circuit, plan::cluster::CircuitPlan},
    health::outlier,
};

const WINDOW: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
const OPEN: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
const INTERVAL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// Reads the table of a cluster with so many backends, or its defaults if there is none.
pub(super) fn read(findings: &mut Findings<'_>, table: Option<&Circuit>, backends: usize) -> CircuitPlan {
    let default = CircuitPlan::for_backends(backends);
    let Some(table) = table else { return default };
    let open_max = findings.duration(&table.open_max, default.open_max, &OPEN);
    let plan = CircuitPlan {
        failures: table.failures.number(default.failures),
        window: findings.duration(&table.window, default.window, &WINDOW),
        open: findings.duration(&table.open, default.open.min(open_max), &OPEN),
        open_max,
        count_5xx: table.count_5xx.get().copied().unwrap_or(default.count_5xx),
        outlier: outlier::Rules {
            ratio: table.outlier_ratio.get().map(|ratio| ratio.0),
            requests_min: table.outlier_requests.number(default.outlier.requests_min),
            ejected_max_percent: table.outlier_max.number(default.outlier.ejected_max_percent),
        },
        outlier_interval: findings.duration(&table.outlier_interval, default.outlier_interval, &INTERVAL),
        panic_threshold_percent: table.panic_threshold.number(default.panic_threshold_percent),
    };
    if let Some(at) = table.open.given().filter(|_| plan.open > plan.open_max) {
        findings
            .mistake(&at.place, "`open` is longer than `open_max`: make it shorter, or the other one longer");
    }
    plan
}
