//! Routes that no request can reach, because an earlier one takes all of theirs.

use std::{collections::HashMap, sync::Arc};

use super::{Findings, routes::RouteDraft};
use crate::config::plan::route::{HostMatch, PathMatch, RoutePlan};

/// What has to be the same for one route to stand in for another, apart from methods.
type Condition = (Option<HostMatch>, (u8, String), Vec<(Arc<str>, Option<Arc<[u8]>>)>);

/// Only routes that ask for the same are compared: which of two different ones goes first is not decided here.
pub(super) fn check(findings: &mut Findings<'_>, routes: &[RouteDraft]) {
    let mut seen: HashMap<Condition, Vec<usize>> = HashMap::new();
    for (index, route) in routes.iter().enumerate() {
        if route.broken {
            continue;
        }
        let mut covering = None;
        let mut open = false;
        for condition in conditions(&route.plan) {
            let earlier = seen.entry(condition).or_default();
            let cover = earlier
                .iter()
                .copied()
                .find(|earlier| routes.get(*earlier).is_some_and(|earlier| covers(earlier, route)));
            open |= cover.is_none();
            covering = covering.or(cover);
            earlier.push(index);
        }
        if let Some(earlier) = covering.filter(|_| !open).and_then(|earlier| routes.get(earlier)) {
            let (name, place) = (&earlier.plan.name, earlier.place.brief());
            findings.mistake(&route.place, format!("the route is never reached: route `{name}` ({place}) takes the same requests, remove one of them"));
        }
    }
}

/// One for each host.
fn conditions(route: &RoutePlan) -> Vec<Condition> {
    let path = match &route.path {
        PathMatch::Any => (0, "/".to_owned()),
        // Every path begins with a slash.
        PathMatch::Prefix(path) if &**path == "/" => (0, "/".to_owned()),
        PathMatch::Prefix(path) => (1, path.to_string()),
        PathMatch::Exact(path) => (2, path.to_string()),
        PathMatch::Regex(regex) => (3, regex.as_str().to_owned()),
    };
    let mut headers: Vec<_> =
        route.headers.iter().map(|header| (header.name.clone(), header.value.clone())).collect();
    headers.sort();
    let condition = |host: Option<HostMatch>| (host, path.clone(), headers.clone());
    match route.hosts.as_slice() {
        [] => vec![condition(None)],
        hosts => hosts.iter().cloned().map(Some).map(condition).collect(),
    }
}

fn covers(earlier: &RouteDraft, later: &RouteDraft) -> bool {
    let methods = |route: &RouteDraft| route.plan.methods.clone();
    let (broad, narrow) = (methods(earlier), methods(later));
    let same_methods = if broad.is_empty() {
        narrow.is_empty()
    } else {
        !narrow.is_empty() && narrow.iter().all(|method| broad.contains(method))
    };
    same_methods && later.listeners.iter().all(|listener| earlier.listeners.contains(listener))
}
