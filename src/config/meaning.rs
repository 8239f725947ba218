//! Which keys of a cluster mean something to which listeners.
//!
//! Pure. The checks refuse what means nothing, and the effective configuration leaves it out.

use super::plan::{ListenerPlan, Mode, RoutePlan, route::Action};

/// The modes in which a key of `[[cluster]]`, or of its circuit, is looked at.
pub(super) fn modes_of_key(key: &str) -> &'static [Mode] {
    match key {
        // TCP and UDP know no responses, and successes of outliers are statuses.
        "retry_idempotent"
        | "retry_response_timeout"
        | "retry_idempotency_key"
        | "count_5xx"
        | "outlier_ratio"
        | "outlier_interval"
        | "outlier_requests"
        | "outlier_max" => &[Mode::Http],
        // A datagram neither waits nor is tried again.
        "attempts"
        | "retry_pause"
        | "retry_budget"
        | "retry_min_per_second"
        | "queue_max"
        | "queue_timeout" => &[Mode::Http, Mode::Tcp],
        _ => &[Mode::Http, Mode::Tcp, Mode::Udp],
    }
}

/// True unless a cluster is used, and only in modes that do not look at this key.
pub(super) fn means_something(key: &str, used_in: &[Mode]) -> bool {
    used_in.is_empty() || modes_of_key(key).iter().any(|mode| used_in.contains(mode))
}

/// In which modes a cluster is used, each once.
pub(super) fn modes_of_cluster<'p>(
    cluster: usize,
    listeners: impl IntoIterator<Item = &'p ListenerPlan>,
    routes: impl IntoIterator<Item = &'p RoutePlan>,
) -> Vec<Mode> {
    let mut modes = Vec::new();
    let direct = listeners.into_iter().filter(|listener| listener.cluster == Some(cluster));
    for mode in direct.map(|listener| listener.mode) {
        if !modes.contains(&mode) {
            modes.push(mode);
        }
    }
    if !modes.contains(&Mode::Http) && routes.into_iter().any(|route| forwards_to(route, cluster)) {
        modes.push(Mode::Http);
    }
    modes
}

/// True when a route's requests may go to this cluster.
pub(super) fn forwards_to(route: &RoutePlan, cluster: usize) -> bool {
    match &route.action {
        Action::Forward(shares) => shares.iter().any(|share| share.cluster == cluster),
        Action::Redirect(_) | Action::Respond(_) => false,
    }
}
