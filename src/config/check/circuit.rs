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
pub(super) fn read(
    findings: &mut Findings<'_>,
    table: Option<&Circuit>,
    backends: usize,
    has_probes: bool,
) -> CircuitPlan {
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
    idle_outliers(findings, table, &plan, backends);
    idle_ejection(findings, table, &plan, has_probes);
    plan
}

/// Keys of a comparison that is not made. What is only written as it would be in any case was not asked for.
fn idle_outliers(findings: &mut Findings<'_>, table: &Circuit, plan: &CircuitPlan, backends: usize) {
    let usual = CircuitPlan::default();
    if let Some(place) = table.outlier_ratio.place().filter(|_| backends == 1) {
        findings.warning(place, "`outlier_ratio` does nothing in a cluster of one backend, which is compared with nobody: add another one, or leave it out");
    }
    if plan.outlier.ratio.is_some() {
        return;
    }
    let keys = [
        ("outlier_interval", table.outlier_interval.place(), plan.outlier_interval != usual.outlier_interval),
        (
            "outlier_requests",
            table.outlier_requests.place(),
            plan.outlier.requests_min != usual.outlier.requests_min,
        ),
        (
            "outlier_max",
            table.outlier_max.place(),
            plan.outlier.ejected_max_percent != usual.outlier.ejected_max_percent,
        ),
    ];
    for (key, place, _) in keys.into_iter().filter(|(.., asked)| *asked) {
        if let Some(place) = place {
            findings.warning(
                place,
                format!("`{key}` does nothing while nobody is compared: add `outlier_ratio`, such as 0.8"),
            );
        }
    }
}

/// Keys of an ejection that never happens.
fn idle_ejection(findings: &mut Findings<'_>, table: &Circuit, plan: &CircuitPlan, has_probes: bool) {
    let usual = CircuitPlan::default();
    let (counts, compares) = (plan.failures > 0, plan.outlier.ratio.is_some());
    let counting = "`failures = 3` (in a cluster of one backend they are 0 unless written)";
    let ejecting = format!("{counting} or `outlier_ratio`");
    let probing = format!("{ejecting}, or `[cluster.health]`");
    let never = !counts && !compares;
    let keys = [
        ("window", table.window.place(), plan.window != usual.window && !counts, counting),
        ("count_5xx", table.count_5xx.place(), plan.count_5xx && !counts, counting),
        ("open", table.open.place(), plan.open != usual.open && never, &ejecting),
        ("open_max", table.open_max.place(), plan.open_max != usual.open_max && never, &ejecting),
        (
            "panic_threshold",
            table.panic_threshold.place(),
            plan.panic_threshold_percent > 0 && never && !has_probes,
            &probing,
        ),
    ];
    for (key, place, _, right) in keys.into_iter().filter(|(_, _, idle, _)| *idle) {
        if let Some(place) = place {
            findings.warning(
                place,
                format!("`{key}` does nothing here, as nothing takes a backend out that way: add {right}"),
            );
        }
    }
}
