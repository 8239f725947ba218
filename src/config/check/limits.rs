//! Limits, queues and retries of clusters.

use std::{ops::RangeInclusive, time::Duration};

use super::{Findings, clusters::ClusterDraft};
use crate::config::{
    file::{Backend, Cluster},
    mistake::Place,
    plan::{
        Timeouts,
        cluster::{QUEUE_TIMEOUT, QUEUE_USUAL, Retries},
    },
    read::Key,
    units::format_duration,
};

const QUEUE_TIME: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);
const PAUSE: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(10);

/// What may be at one backend at once.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    requests: u32,
    connections: u32,
}

impl Bounds {
    /// What a cluster says for all its backends.
    pub(super) fn of_cluster(cluster: &Cluster) -> Self {
        Bounds { requests: cluster.max_requests.number(0), connections: cluster.max_connections.number(0) }
    }

    /// What holds for one of them: the most requests and the most connections.
    pub(super) fn of_backend(self, backend: &Backend) -> (u32, u32) {
        (backend.max_requests.number(self.requests), backend.max_connections.number(self.connections))
    }
}

/// How many may wait, and for how long.
pub(super) fn queue(findings: &mut Findings<'_>, cluster: &Cluster) -> (usize, Duration) {
    let timeout = findings.duration(&cluster.queue_timeout, QUEUE_TIMEOUT, &QUEUE_TIME);
    (cluster.queue_max.number(QUEUE_USUAL), timeout)
}

/// How often a request is tried.
pub(super) fn retries(findings: &mut Findings<'_>, cluster: &Cluster) -> Retries {
    let usual = Retries::default();
    let retries = Retries {
        attempts: cluster.attempts.number(usual.attempts),
        pause: findings.duration(&cluster.retry_pause, usual.pause, &PAUSE),
        budget_percent: cluster.retry_budget.number(usual.budget_percent),
        per_second_min: cluster.retry_min_per_second.number(usual.per_second_min),
        idempotent: cluster.retry_idempotent.get().copied().unwrap_or(usual.idempotent),
        late: cluster.retry_response_timeout.get().copied().unwrap_or(usual.late),
        idempotency_key: cluster.retry_idempotency_key.get().copied().unwrap_or(usual.idempotency_key),
    };
    if let Some(place) = cluster.attempts.place()
        && retries.attempts > 1
        && retries.budget_percent == 0
        && retries.per_second_min == 0
    {
        findings
            .warning(place, "no retry is ever allowed: `retry_budget` and `retry_min_per_second` are both 0");
    }
    retries
}

/// Keys of a cluster that something may wait for.
pub(super) struct Waits {
    /// What may wait is of use at all.
    pub(super) is_limited: bool,
    /// Where a queue, a pause or attempts were asked for.
    places: [Option<Place>; 3],
    queue: Option<Place>,
}

impl Waits {
    /// Where a cluster speaks of waiting. A queue is of use where something is limited.
    pub(super) fn of(findings: &mut Findings<'_>, cluster: &Cluster, is_limited: bool) -> Self {
        let queue = cluster.queue_timeout.place().cloned();
        if let Some(place) = cluster.queue_max.place().or(queue.as_ref()).filter(|_| !is_limited) {
            findings.warning(
                place,
                "nobody ever waits here: give the cluster or a backend `max_requests` or `max_connections`",
            );
        }
        let place = |key: Option<&Place>| key.cloned();
        let places = [place(cluster.attempts.place()), place(cluster.retry_pause.place()), queue.clone()];
        Waits { is_limited, places, queue }
    }
}

/// A client may wait in line and then for every attempt in turn; that should be less than what it may wait for the
/// response. And who stands in line should not have to leave because a connection is waited for in vain.
pub(super) fn compare(
    findings: &mut Findings<'_>,
    clusters: &[ClusterDraft],
    timeouts: &Timeouts,
    (connect, response): (&Key<Duration>, &Key<Duration>),
) {
    for ClusterDraft { plan, waits, .. } in clusters {
        let own = waits.places.iter().flatten().next();
        if let Some(place) = own.or(connect.place()).or(response.place()) {
            compare_all(findings, place, (plan.queue_timeout, plan.retries), waits.is_limited, timeouts);
        }
        let (queue, hanging) = (plan.queue_timeout, timeouts.connect);
        if let Some(place) = waits.queue.as_ref().or(connect.place())
            && waits.is_limited
            && hanging > queue
        {
            let (queue, hanging) = (format_duration(queue), format_duration(hanging));
            findings.warning(place, format!(
                "whoever waits for room leaves after the `queue_timeout` of `{queue}`, while a connection that is not \
                 answered holds its place for the `connect_timeout` of `{hanging}`: a connect_timeout below it \
                 frees the place in time"
            ));
        }
    }
}

fn compare_all(
    findings: &mut Findings<'_>,
    place: &Place,
    (queue, retries): (Duration, Retries),
    is_limited: bool,
    timeouts: &Timeouts,
) {
    let count = u32::try_from(retries.attempts).unwrap_or(u32::MAX);
    let attempts = timeouts.connect.saturating_mul(count);
    let queue = if is_limited { queue } else { Duration::ZERO };
    let all = attempts.saturating_add(queue);
    if timeouts.response.is_zero() || all <= timeouts.response {
        return;
    }
    let (all, connect) = (format_duration(all), format_duration(timeouts.connect));
    let response = format_duration(timeouts.response);
    let waits = match is_limited {
        true => format!(" and a `queue_timeout` of `{}`", format_duration(queue)),
        false => String::new(),
    };
    findings.warning(place, format!(
        "{count} attempts with a `connect_timeout` of `{connect}`{waits} take up to `{all}`, longer than the \
         `response_timeout` of `{response}`: a shorter connect_timeout moves on to the next backend sooner"
    ));
}
