//! Limits, queues and retries of clusters.

use std::{ops::RangeInclusive, time::Duration};

use super::{Findings, clusters::ClusterDraft, routes::RouteDraft};
use crate::config::{
    file::{Backend, Cluster},
    meaning::forwards_to,
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
    if let Some(place) = cluster.attempts.place().or(cluster.retry_budget.place())
        && retries.attempts > 1
        && retries.budget_percent == 0
        && retries.per_second_min == 0
    {
        findings.warning(
            place,
            "no retry is ever allowed, unless a backend has just begun to refuse: `retry_budget` and `retry_min_per_second` are both 0",
        );
    }
    idle_retries(findings, cluster, &retries);
    retries
}

/// Keys of retries that are never made. What is only written as it would be in any case was not asked for.
fn idle_retries(findings: &mut Findings<'_>, cluster: &Cluster, retries: &Retries) {
    let usual = Retries::default();
    if retries.attempts > 1 {
        return;
    }
    let keys = [
        ("retry_pause", cluster.retry_pause.place(), retries.pause != usual.pause),
        ("retry_budget", cluster.retry_budget.place(), retries.budget_percent != usual.budget_percent),
        (
            "retry_min_per_second",
            cluster.retry_min_per_second.place(),
            retries.per_second_min != usual.per_second_min,
        ),
        ("retry_idempotent", cluster.retry_idempotent.place(), retries.idempotent),
        ("retry_response_timeout", cluster.retry_response_timeout.place(), retries.late),
        ("retry_idempotency_key", cluster.retry_idempotency_key.place(), retries.idempotency_key),
    ];
    for (key, place, _) in keys.into_iter().filter(|(.., asked)| *asked) {
        if let Some(place) = place {
            findings.warning(
                place,
                format!("`{key}` does nothing with `attempts = 1`: allow 2 or more, or leave it out"),
            );
        }
    }
}

/// Keys of a cluster that something may wait for.
pub(super) struct Waits {
    /// What may wait is of use at all.
    pub(super) is_limited: bool,
    /// Where a queue, a pause or attempts were asked for.
    places: [Option<Place>; 3],
    queue: Option<Place>,
    /// Where late responses were made a reason to try again.
    late: Option<Place>,
}

impl Waits {
    /// Where a cluster speaks of waiting. A queue is of use where something is limited.
    pub(super) fn of(findings: &mut Findings<'_>, cluster: &Cluster, is_limited: bool) -> Self {
        let queue = cluster.queue_timeout.place().cloned();
        // What is only written as it would be in any case was not asked for.
        let max = cluster.queue_max.place().filter(|_| cluster.queue_max.number(QUEUE_USUAL) != QUEUE_USUAL);
        let time = cluster.queue_timeout.given().filter(|at| at.value != QUEUE_TIMEOUT).map(|at| &at.place);
        if let Some(place) = max.or(time).filter(|_| !is_limited) {
            findings.warning(
                place,
                "nobody ever waits here: give the cluster or a backend `max_requests` or `max_connections`",
            );
        } else if let Some(place) = time.filter(|_| cluster.queue_max.number(QUEUE_USUAL) == 0) {
            findings.warning(
                place,
                "`queue_timeout` does nothing with `queue_max = 0`, which lets nobody wait: let some wait, or leave it out",
            );
        }
        let place = |key: Option<&Place>| key.cloned();
        let places = [place(cluster.attempts.place()), place(cluster.retry_pause.place()), queue.clone()];
        let late = cluster.retry_response_timeout.given().filter(|at| at.value).map(|at| at.place.clone());
        Waits { is_limited, places, queue, late }
    }
}

/// A client may wait in line and then for every attempt in turn; that should be less than what it may wait for the
/// response. And who stands in line should not have to leave because a connection is waited for in vain.
pub(super) fn compare(
    findings: &mut Findings<'_>,
    (clusters, routes): (&[ClusterDraft], &[RouteDraft]),
    timeouts: &Timeouts,
    (connect, response): (&Key<Duration>, &Key<Duration>),
) {
    for (index, ClusterDraft { plan, waits, .. }) in clusters.iter().enumerate() {
        never_late(findings, waits, timeouts, index, routes);
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

/// Where every response is waited for for ever, none is late.
fn never_late(
    findings: &mut Findings<'_>,
    waits: &Waits,
    timeouts: &Timeouts,
    cluster: usize,
    routes: &[RouteDraft],
) {
    let limits = |route: &RouteDraft| {
        route.plan.response_timeout.is_some_and(|limit| !limit.is_zero()) && forwards_to(&route.plan, cluster)
    };
    if let Some(place) = waits.late.as_ref().filter(|_| timeouts.response.is_zero())
        && !routes.iter().any(limits)
    {
        findings.warning(place, "`retry_response_timeout` does nothing while `response_timeout` is `0s` and no response is ever late: give `[defaults]` or the route one");
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
    let pauses = retries.pause.saturating_mul(count.saturating_sub(1));
    let attempts = timeouts.connect.saturating_mul(count).saturating_add(pauses);
    let queue = if is_limited { queue } else { Duration::ZERO };
    let connecting = attempts.saturating_add(queue);
    // Several late responses take longer than one in any case, which was asked for.
    if timeouts.response.is_zero() || connecting <= timeouts.response {
        return;
    }
    let late = if retries.late { timeouts.response.saturating_mul(count) } else { Duration::ZERO };
    let (all, connect) =
        (format_duration(connecting.saturating_add(late)), format_duration(timeouts.connect));
    let (pause, response) = (format_duration(retries.pause), format_duration(timeouts.response));
    let mut waits = String::new();
    if count > 1 {
        waits += &format!(", a `retry_pause` of `{pause}` between them");
    }
    if is_limited {
        waits += &format!(", a `queue_timeout` of `{}`", format_duration(queue));
    }
    if retries.late {
        waits += &format!(" and, with `retry_response_timeout`, {count} late responses");
    }
    findings.warning(place, format!(
        "{count} attempts with a `connect_timeout` of `{connect}`{waits} take up to `{all}`, longer than the \
         `response_timeout` of `{response}`: a shorter connect_timeout moves on to the next backend sooner"
    ));
}
