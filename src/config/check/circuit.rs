//! A cluster's circuit breaker.

use std::{ops::RangeInclusive, time::Duration};

use super::Findings;
use crate::{
    config::{file::Circuit, plan::cluster::CircuitPlan, read::Key},
    health::outlier,
};

const WINDOW: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
const OPEN: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
const INTERVAL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
const RATIO: RangeInclusive<f64> = 0.01..=1.0;
const FAILURES: RangeInclusive<u16> = 0..=10_000;
const PERCENT: RangeInclusive<u16> = 0..=100;
const REQUESTS: RangeInclusive<u16> = 1..=u16::MAX;

/// Reads the table of a cluster with so many backends, or its defaults if there is none.
pub(super) fn read(findings: &mut Findings<'_>, table: Option<&Circuit>, backends: usize) -> CircuitPlan {
    let default = CircuitPlan::for_backends(backends);
    let Some(table) = table else { return default };
    let plan = CircuitPlan {
        failures: number(findings, &table.failures, default.failures, &FAILURES),
        window: findings.duration(&table.window, default.window, &WINDOW),
        open: findings.duration(&table.open, default.open, &OPEN),
        open_max: findings.duration(&table.open_max, default.open_max, &OPEN),
        count_5xx: table.count_5xx.get().copied().unwrap_or(default.count_5xx),
        outlier: outlier::Rules {
            ratio: ratio(findings, &table.outlier_ratio),
            requests_min: number(findings, &table.outlier_requests, default.outlier.requests_min, &REQUESTS),
            ejected_max_percent: number(
                findings,
                &table.outlier_max,
                default.outlier.ejected_max_percent,
                &PERCENT,
            ),
        },
        outlier_interval: findings.duration(&table.outlier_interval, default.outlier_interval, &INTERVAL),
        panic_threshold_percent: number(
            findings,
            &table.panic_threshold,
            default.panic_threshold_percent,
            &PERCENT,
        ),
    };
    if let Some(at) = table.open.given().filter(|_| plan.open > plan.open_max) {
        findings
            .mistake(&at.place, "`open` is longer than `open_max`: make it shorter, or the other one longer");
    }
    plan
}

fn number(findings: &mut Findings<'_>, key: &Key<u16>, default: u16, range: &RangeInclusive<u16>) -> u16 {
    let Some(at) = key.given() else { return default };
    if !range.contains(&at.value) {
        let (low, high) = (range.start(), range.end());
        findings.mistake(
            &at.place,
            format!("`{}` is out of range: write a number from {low} to {high}", at.value),
        );
        return default;
    }
    at.value
}

fn ratio(findings: &mut Findings<'_>, key: &Key<f64>) -> Option<f64> {
    let at = key.given()?;
    if !RATIO.contains(&at.value) {
        let (low, high) = (RATIO.start(), RATIO.end());
        findings.mistake(
            &at.place,
            format!("`{}` is out of range: write a number from {low} to {high}, such as 0.8", at.value),
        );
        return None;
    }
    Some(at.value)
}
