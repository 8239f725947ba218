//! Routes: for which listeners they are and what becomes of the requests.

use std::{sync::Arc, time::Duration};

use super::{
    Findings, Names, TIMEOUT_OR_OFF, admission, clusters::ClusterDraft, edits, find,
    listeners::ListenerDraft, requests, tables,
};
use crate::{
    config::{
        file::{File, Redirect as RedirectTable, Respond, Route, Share as ShareTable},
        mistake::Place,
        plan::{
            Mode, RoutePlan,
            route::{Action, FixedAnswer, PathMatch, Redirect, RedirectPath, Rewrite, Share},
        },
        read::{At, Key, Tables},
    },
    limits::{FIXED_BODY_BYTES_MAX, ROUTES_MAX},
};

/// A route and where it was written.
pub(super) struct RouteDraft {
    pub(super) plan: RoutePlan,
    /// The listeners it is for.
    pub(super) listeners: Vec<usize>,
    /// Its table.
    pub(super) place: Place,
    /// A part of it is wrong, so that nothing should be concluded from the rest.
    pub(super) broken: bool,
}

/// Reads every route.
pub(super) fn routes(
    findings: &mut Findings<'_>,
    file: &File,
    clusters: &[ClusterDraft],
    listeners: &[ListenerDraft],
) -> Vec<RouteDraft> {
    let all = tables(&file.route);
    let whole = findings.whole.clone();
    findings.count(&whole, "routes", all.len(), ROUTES_MAX);
    let mut names = Names::default();
    for name in all.iter().filter_map(|route| route.name.given()) {
        names.claim(findings, "route", name);
    }
    let mut drafts = Vec::new();
    for (index, route) in all.iter().enumerate() {
        let known = findings.mistakes.len();
        let place = findings.place(route.place.as_ref());
        let name = match route.name.get() {
            Some(name) => name.0.clone(),
            None => names.invent(&format!("route-{}", index.saturating_add(1)), &place),
        };
        let listeners = chosen_listeners(findings, route, &place, listeners);
        let plan = read(findings, route, name, &place, clusters);
        let broken = findings.mistakes.len() > known;
        drafts.push(RouteDraft { plan, listeners, place, broken });
    }
    drafts
}

fn chosen_listeners(
    findings: &mut Findings<'_>,
    route: &Route,
    place: &Place,
    listeners: &[ListenerDraft],
) -> Vec<usize> {
    let is_http = |listener: &ListenerDraft| listener.mode() == Mode::Http;
    let Some(names) = route.listener.get() else {
        let http = listeners.iter().enumerate().filter(|(_, listener)| is_http(listener));
        let chosen: Vec<_> = http.map(|(index, _)| index).collect();
        if chosen.is_empty() && !listeners.is_empty() && route.listener.is_absent() {
            findings.mistake(place, "the route is never reached: there is no listener with mode `http`");
        }
        return chosen;
    };
    let mut chosen = Vec::new();
    for name in &names.0 {
        if find(findings, "listener", name, listeners.iter().map(|listener| listener.group.as_str()))
            .is_none()
        {
            continue;
        }
        let group = || listeners.iter().enumerate().filter(|(_, listener)| listener.group == name.value);
        if let Some((_, listener)) = group().find(|(_, listener)| !is_http(listener)) {
            let mode = listener.mode().name();
            findings.mistake(
                &name.place,
                format!(
                    "the route is never reached: listener `{}` has mode `{mode}`, and routes are for `http`",
                    name.value
                ),
            );
            continue;
        }
        chosen.extend(
            group().map(|(index, _)| index).filter(|index| !chosen.contains(index)).collect::<Vec<_>>(),
        );
    }
    chosen
}

fn read(
    findings: &mut Findings<'_>,
    route: &Route,
    name: String,
    place: &Place,
    clusters: &[ClusterDraft],
) -> RoutePlan {
    let path = requests::path(findings, route, place);
    let action = action(findings, route, place, clusters, &path);
    let forwards = matches!(action, Some(Action::Forward(_)) | None);
    let rewrite = rewrite(findings, route, place, forwards, &path);
    if let Some(place) = route.response_timeout.place().filter(|_| !forwards) {
        findings.mistake(place, "`response_timeout` is for requests that go to a cluster: leave it out");
    }
    let response_timeout = route
        .response_timeout
        .given()
        .map(|_| findings.duration(&route.response_timeout, Duration::ZERO, &TIMEOUT_OR_OFF));
    RoutePlan {
        name: name.into(),
        hosts: requests::hosts(findings, &route.host),
        path,
        methods: requests::methods(findings, &route.method),
        headers: requests::headers(findings, &route.header),
        action: action.unwrap_or(Action::Forward(Vec::new())),
        rewrite,
        response_timeout,
        request_body_max: route.request_body_max.get().map(|size| size.limit()),
        admission: admission::of_route(findings, route),
    }
}

fn action(
    findings: &mut Findings<'_>,
    route: &Route,
    place: &Place,
    clusters: &[ClusterDraft],
    path: &PathMatch,
) -> Option<Action> {
    let known = || clusters.iter().map(|cluster| &*cluster.plan.name);
    let absent = [
        route.cluster.is_absent(),
        route.split.is_absent(),
        route.redirect.is_absent(),
        route.respond.is_absent(),
    ];
    if absent.iter().filter(|absent| !**absent).count() != 1 {
        findings.mistake(
            place,
            "write exactly one of `cluster`, `split`, `redirect` and `respond`: what becomes of the request",
        );
        return None;
    }
    if let Some(name) = route.cluster.given() {
        let cluster = find(findings, "cluster", name, known())?;
        return Some(Action::Forward(vec![Share { cluster, weight: 1 }]));
    }
    if let Some(split) = route.split.given() {
        return shares(findings, split, known());
    }
    if let Some(table) = route.redirect.given() {
        return redirect(findings, table, path).map(Action::Redirect);
    }
    let table = route.respond.given()?;
    respond(findings, &table.value).map(Action::Respond)
}

fn shares<'n>(
    findings: &mut Findings<'_>,
    At { place, value }: &At<Tables<ShareTable>>,
    known: impl Iterator<Item = &'n str> + Clone,
) -> Option<Action> {
    let mut shares = Vec::<Share>::new();
    for table in &value.0 {
        let own = findings.place(table.place.as_ref());
        if table.cluster.is_absent() {
            findings.mistake(&own, "`cluster` is missing: write `{ cluster = \"…\", weight = 1 }`");
        }
        let Some(name) = table.cluster.given() else { continue };
        let Some(cluster) = find(findings, "cluster", name, known.clone()) else { continue };
        if shares.iter().any(|share| share.cluster == cluster) {
            findings
                .mistake(&name.place, format!("cluster `{}` is named twice: add the weights up", name.value));
        }
        shares.push(Share { cluster, weight: table.weight.get().copied().unwrap_or(1) });
    }
    if shares.iter().all(|share| share.weight == 0) && shares.len() == value.0.len() {
        findings.mistake(place, "every cluster has the weight 0, so nobody would be served: give one of them a weight of 1 or more");
        return None;
    }
    Some(Action::Forward(shares))
}

fn redirect(
    findings: &mut Findings<'_>,
    At { place, value: table }: &At<RedirectTable>,
    path: &PathMatch,
) -> Option<Redirect> {
    let known = findings.mistakes.len();
    let status = table.status.get().map_or(302, |status| status.0);
    if let Some(at) = table.scheme.given().filter(|at| !matches!(at.value.as_str(), "http" | "https")) {
        findings.mistake(&at.place, "this is no scheme: write `http` or `https`");
    }
    let host = table.host.given().and_then(|at| edits::host(findings, at));
    if let (Some(at), true) = (table.prefix.given(), table.path.get().is_some()) {
        findings.mistake(&at.place, "write `path` or `prefix`, not both");
    }
    if let Some(at) = table.prefix.given().filter(|_| !matches!(path, PathMatch::Prefix(_))) {
        findings.mistake(&at.place, "`prefix` takes the place of the route's `path_prefix`, and there is none: add it, or write `path`");
    }
    if [&table.scheme, &table.host, &table.path, &table.prefix].iter().all(|key| key.is_absent()) {
        findings.mistake(place, "the redirect leads to where the client is already: write a `scheme`, a `host`, a `path` or a `prefix`");
    }
    let whole = table.path.given().map(|at| RedirectPath::Whole(requests::plain_path(findings, at).into()));
    let prefix = table.prefix.given().map(|at| {
        let path = requests::plain_path(findings, at);
        RedirectPath::Prefix(path.strip_suffix('/').unwrap_or(path).into())
    });
    let text = |key: &Key<String>| key.get().map(|text| Arc::from(text.as_str()));
    (findings.mistakes.len() == known).then(|| Redirect {
        status,
        scheme: text(&table.scheme),
        host: host.map(Arc::from),
        path: whole.or(prefix),
    })
}

fn respond(findings: &mut Findings<'_>, table: &Respond) -> Option<FixedAnswer> {
    let status: u16 = table.status.number(200);
    if let Some(at) = table.body.given() {
        if matches!(status, 204 | 205 | 304) && !at.value.is_empty() {
            findings.mistake(&at.place, format!("an answer with status {status} has no body: leave it out"));
        }
        if at.value.len() > FIXED_BODY_BYTES_MAX {
            findings.mistake(
                &at.place,
                format!(
                    "the body has {} bytes, more than the {FIXED_BODY_BYTES_MAX} that are possible",
                    at.value.len()
                ),
            );
        }
    }
    let content_type = match table.content_type.given() {
        Some(at) => edits::value(findings, at)?.into(),
        None => "text/plain; charset=utf-8".into(),
    };
    let body = table.body.get().map(|body| body.as_bytes().into()).unwrap_or_default();
    Some(FixedAnswer { status, content_type, body })
}

fn rewrite(
    findings: &mut Findings<'_>,
    route: &Route,
    place: &Place,
    forwards: bool,
    path: &PathMatch,
) -> Rewrite {
    let strips = route.strip_prefix.given().filter(|at| at.value);
    if let (Some(at), true) = (route.replace_prefix.given(), strips.is_some()) {
        findings.mistake(&at.place, "write `strip_prefix` or `replace_prefix`, not both");
    }
    for (key, at) in
        [("strip_prefix", strips.map(|at| &at.place)), ("replace_prefix", route.replace_prefix.place())]
    {
        let Some(at) = at else { continue };
        if !forwards {
            findings.mistake(at, format!("`{key}` is for requests that go to a cluster: leave it out"));
        } else if !matches!(path, PathMatch::Prefix(_)) && route.path_prefix.is_absent() {
            findings.mistake(at, format!("`{key}` needs a `path_prefix`, and there is none: add it"));
        }
    }
    let replaced = route.replace_prefix.given().map(|at| {
        let path = requests::plain_path(findings, at);
        Arc::from(path.strip_suffix('/').unwrap_or(path))
    });
    let request = edits::edits(
        findings,
        edits::Head::Request,
        [&route.set_request_header, &route.add_request_header],
        &route.remove_request_header,
    );
    if !forwards && !request.is_empty() {
        findings.mistake(
            place,
            "header fields of the request are changed for requests that go to a cluster only: leave them out",
        );
    }
    let response = edits::edits(
        findings,
        edits::Head::Response,
        [&route.set_response_header, &route.add_response_header],
        &route.remove_response_header,
    );
    Rewrite { prefix: strips.map(|_| Arc::from("")).or(replaced), request, response }
}
