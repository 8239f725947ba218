//! The effective configuration: a plan written back in the words of the file, with every default that means something.
//!
//! As TOML it can be loaded again and means the same; as JSON the admin shows it. Secrets are left out of both.

mod admission;
mod cluster;
mod health;
mod write;

use self::write::{Tree, size, table, text, texts};
pub(super) use self::write::{to_json, to_toml};
use super::{
    Checked, cores, meaning,
    plan::{
        HeaderPolicy, ListenerPlan, Mode, Plan, RoutePlan, Timeouts,
        route::{Action, FieldEdits, HostMatch, PathMatch, RedirectPath},
    },
};
use crate::control::log::LogFormat;

/// The whole configuration.
///
/// The structures are taken apart whole, so that the compiler asks for whatever is added to them.
pub(super) fn tree(checked: &Checked) -> Tree {
    let Checked { draft, addresses, keys_given, all_cores, log_format, warnings: _ } = checked;
    let Plan { listeners, routes, clusters, cores, admin, timeouts, headers } = draft;
    let cores = if *all_cores { "all".to_owned() } else { cores::ranges(cores) };
    let format = match log_format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    let own = clusters.iter().zip(addresses).zip(keys_given).enumerate();
    let clusters = own
        .map(|(index, ((cluster, addresses), given))| {
            let modes = meaning::modes_of_cluster(index, listeners, routes);
            cluster::table_of(cluster, addresses, *given)
                .without(&|key| !meaning::means_something(key, &modes))
        })
        .collect();
    table([
        (
            "runtime",
            Some(table([("cores", Some(text(cores))), ("shutdown_timeout", Some(timeouts.shutdown.into()))])),
        ),
        ("log", Some(table([("format", Some(text(format)))]))),
        ("admin", admin.map(|address| table([("bind", Some(text(address)))]))),
        ("defaults", Some(defaults(timeouts, headers))),
        (
            "listener",
            Some(Tree::Tables(listeners.iter().map(|listener| listener_table(draft, listener)).collect())),
        ),
        (
            "route",
            Some(Tree::Tables(
                (0..).zip(routes).map(|(index, route)| route_table(draft, index, route)).collect(),
            )),
        ),
        ("cluster", Some(Tree::Tables(clusters))),
    ])
}

fn defaults(timeouts: &Timeouts, headers: &HeaderPolicy) -> Tree {
    let Timeouts {
        head,
        client_idle,
        upstream_idle,
        connect,
        response,
        body_idle,
        tunnel_idle,
        last_words: _,
        udp_idle,
        shutdown: _,
    } = *timeouts;
    let HeaderPolicy { via, trust_forwarded } = *headers;
    table([
        ("connect_timeout", Some(connect.into())),
        ("head_timeout", Some(head.into())),
        ("client_idle_timeout", Some(client_idle.into())),
        ("upstream_idle_timeout", Some(upstream_idle.into())),
        ("response_timeout", Some(response.into())),
        ("body_idle_timeout", Some(body_idle.into())),
        ("tunnel_idle_timeout", Some(tunnel_idle.into())),
        ("udp_idle_timeout", Some(udp_idle.into())),
        ("via", Some(via.into())),
        ("trust_forwarded", Some(trust_forwarded.into())),
    ])
}

fn listener_table(plan: &Plan, listener: &ListenerPlan) -> Tree {
    let ListenerPlan {
        name,
        endpoint,
        socket_mode,
        mode,
        cluster,
        routes: _,
        proxy_from,
        defer_accept,
        down_text,
        admission,
        request_body_max,
    } = listener;
    let cluster = cluster.and_then(|cluster| plan.clusters.get(cluster));
    table([
        ("name", Some(text(name))),
        ("bind", Some(text(endpoint))),
        ("mode", Some(text(mode.name()))),
        ("cluster", cluster.map(|cluster| text(&cluster.name))),
        ("accept_proxy", (!proxy_from.is_empty()).then(|| text(proxy_from))),
        ("socket_mode", endpoint.inet().is_none().then(|| Tree::Text(format!("{socket_mode:o}")))),
        ("defer_accept", (*mode != Mode::Udp && endpoint.inet().is_some()).then(|| (*defer_accept).into())),
        ("down_text", (*mode == Mode::Tcp).then(|| text(down_text))),
        ("request_body_max", (*mode == Mode::Http).then(|| size(*request_body_max))),
    ])
    .and(self::admission::keys(admission))
}

fn route_table(plan: &Plan, index: usize, route: &RoutePlan) -> Tree {
    let RoutePlan {
        name,
        hosts,
        path,
        methods,
        headers,
        action,
        rewrite,
        response_timeout,
        request_body_max,
        admission,
    } = route;
    let listeners = plan.listeners.iter().filter(|listener| listener.routes.contains(&index));
    let host = |host: &HostMatch| match host {
        HostMatch::Exact(host) => text(host),
        HostMatch::Suffix(suffix) => Tree::Text(format!("*{suffix}")),
    };
    let header = |header: &super::plan::route::HeaderMatch| {
        let value = header.value.as_ref().map(|value| text(String::from_utf8_lossy(value)));
        (header.name.to_string(), value.unwrap_or(Tree::Boolean(true)))
    };
    let (path_key, path) = match path {
        PathMatch::Any => ("path", None),
        PathMatch::Exact(path) => ("path", Some(text(path))),
        PathMatch::Prefix(path) => ("path_prefix", Some(text(path))),
        PathMatch::Regex(regex) => ("path_regex", Some(text(regex))),
    };
    let (action_key, action) = action_value(plan, action);
    let strip = rewrite.prefix.as_ref().is_some_and(|prefix| prefix.is_empty());
    let [set_request, add_request, remove_request] = edit_values(&rewrite.request);
    let [set_response, add_response, remove_response] = edit_values(&rewrite.response);
    table([
        ("name", Some(text(name))),
        ("listener", Some(texts(listeners.map(|listener| &listener.name)))),
        ("host", (!hosts.is_empty()).then(|| Tree::List(hosts.iter().map(host).collect()))),
        (path_key, path),
        ("method", (!methods.is_empty()).then(|| texts(methods))),
        ("response_timeout", response_timeout.map(Tree::from)),
        ("request_body_max", request_body_max.map(size)),
        ("strip_prefix", strip.then_some(Tree::Boolean(true))),
        ("replace_prefix", rewrite.prefix.as_ref().filter(|_| !strip).map(text)),
        ("remove_request_header", remove_request),
        ("remove_response_header", remove_response),
        (action_key, Some(action)),
        ("header", (!headers.is_empty()).then(|| Tree::Table(headers.iter().map(header).collect()))),
        ("set_request_header", set_request),
        ("add_request_header", add_request),
        ("set_response_header", set_response),
        ("add_response_header", add_response),
    ])
    .and(self::admission::keys(admission))
}

fn action_value(plan: &Plan, action: &Action) -> (&'static str, Tree) {
    let cluster = |index: usize| plan.clusters.get(index).map(|cluster| text(&cluster.name));
    match action {
        Action::Forward(shares) => {
            if let [share] = shares.as_slice()
                && share.weight == 1
                && let Some(name) = cluster(share.cluster)
            {
                return ("cluster", name);
            }
            let share = |share: &super::plan::route::Share| {
                table([("cluster", cluster(share.cluster)), ("weight", Some(share.weight.into()))])
            };
            ("split", Tree::Tables(shares.iter().map(share).collect()))
        }
        Action::Redirect(redirect) => {
            let (path, prefix) = match &redirect.path {
                Some(RedirectPath::Whole(path)) => (Some(text(path)), None),
                // `/` is what an empty one came from.
                Some(RedirectPath::Prefix(prefix)) if prefix.is_empty() => (None, Some(text("/"))),
                Some(RedirectPath::Prefix(prefix)) => (None, Some(text(prefix))),
                None => (None, None),
            };
            let keys = [
                ("status", Some(redirect.status.into())),
                ("scheme", redirect.scheme.as_ref().map(text)),
                ("host", redirect.host.as_ref().map(text)),
                ("path", path),
                ("prefix", prefix),
            ];
            ("redirect", table(keys))
        }
        Action::Respond(answer) => {
            let keys = [
                ("status", Some(answer.status.into())),
                ("body", Some(text(String::from_utf8_lossy(&answer.body)))),
                ("content_type", Some(text(&answer.content_type))),
            ];
            ("respond", table(keys))
        }
    }
}

/// Credentials are not for everybody who may look at `/config`.
fn field_value(name: &str, value: &str) -> Tree {
    let name = name.to_ascii_lowercase();
    let secret =
        ["auth", "cookie", "key", "secret", "token", "password"].iter().any(|part| name.contains(part));
    if secret { Tree::Secret(value.to_owned()) } else { text(value) }
}

/// What is set, what is added and what is removed only.
fn edit_values(edits: &FieldEdits) -> [Option<Tree>; 3] {
    let is_removed = |name: &str| edits.remove.iter().any(|removed| removed.eq_ignore_ascii_case(name));
    let is_written = |name: &str| edits.write.iter().any(|(written, _)| written.eq_ignore_ascii_case(name));
    let written = |set: bool| {
        let fitting = edits.write.iter().filter(|(name, _)| is_removed(name) == set);
        let fields: Vec<_> =
            fitting.map(|(name, value)| (name.to_string(), field_value(name, value))).collect();
        (!fields.is_empty()).then_some(Tree::Table(fields))
    };
    let removed: Vec<_> = edits.remove.iter().filter(|name| !is_written(name)).collect();
    [written(true), written(false), (!removed.is_empty()).then(|| texts(removed))]
}
