//! Listeners: where they are bound, what goes with their mode, where their traffic goes.

use std::net::SocketAddr;

use super::{Findings, Names, admission, clusters::ClusterDraft, find, routes::RouteDraft, tables};
use crate::{
    addr::{Endpoint, ListenAddress},
    config::{
        file::{File, Listener},
        mistake::Place,
        plan::{DOWN_TEXT, ListenerPlan, Mode, SOCKET_MODE},
        read::At,
    },
    limits::LISTENERS_MAX,
};

/// Name of the first listener that was given none.
const NAME: &str = "default";

/// A listener and where it was written.
pub(super) struct ListenerDraft {
    pub(super) plan: ListenerPlan,
    /// The name of its table, which it may share with others.
    pub(super) group: String,
    /// Its table.
    pub(super) place: Place,
    /// Its address.
    pub(super) bind_place: Place,
    /// The cluster it names.
    cluster: Option<At<String>>,
}

impl ListenerDraft {
    pub(super) fn mode(&self) -> Mode {
        self.plan.mode
    }
}

/// Reads every listener; [`connect`] gives them their traffic.
pub(super) fn listeners(findings: &mut Findings<'_>, file: &File) -> Vec<ListenerDraft> {
    let all = tables(&file.listener);
    if all.is_empty() && !matches!(file.listener, crate::config::read::Key::Wrong) {
        let whole = findings.whole.clone();
        findings.mistake(
            &whole,
            "there is no listener: write `[[listener]]` with a line such as `bind = \":80\"`",
        );
    }
    let mut names = Names::default();
    for name in all.iter().filter_map(|listener| listener.name.given()) {
        names.claim(findings, "listener", name);
    }
    let drafts: Vec<_> = all.iter().flat_map(|listener| read(findings, &mut names, listener)).collect();
    let whole = findings.whole.clone();
    findings.count(&whole, "listeners", drafts.len(), LISTENERS_MAX);
    drafts
}

fn read(findings: &mut Findings<'_>, names: &mut Names, listener: &Listener) -> Vec<ListenerDraft> {
    let place = findings.place(listener.place.as_ref());
    let mode = listener.mode.get().copied().unwrap_or(Mode::Http);
    check_mode(findings, listener, mode);
    if listener.bind.is_absent() {
        findings.mistake(&place, "`bind` is missing: write where to listen, such as `bind = \":80\"`");
    }
    let group = match listener.name.get() {
        Some(name) => name.0.clone(),
        None => names.invent(NAME, &place),
    };
    let binds = listener.bind.get().map_or(&[][..], |list| &list.0);
    let admission = admission::of_listener(findings, listener, mode);
    let permissions = listener.socket_mode.get();
    let mut drafts = Vec::new();
    for (index, bind) in binds.iter().enumerate() {
        let name = if index == 0 { group.clone() } else { names.invent(&group, &bind.place) };
        drafts.push(ListenerDraft {
            plan: ListenerPlan {
                name: name.into(),
                endpoint: bind.value.0.clone(),
                socket_mode: permissions.filter(|_| unix(&bind)).map_or(SOCKET_MODE, |mode| mode.0),
                mode,
                cluster: None,
                routes: Vec::new(),
                proxy_from: listener.accept_proxy.get().map(|list| list.0.clone()).unwrap_or_default(),
                defer_accept: listener.defer_accept.get().copied().unwrap_or_default(),
                down_text: listener.down_text.get().map_or(DOWN_TEXT, String::as_str).into(),
                admission: admission.clone(),
                request_body_max: listener.request_body_max.get().and_then(|size| size.limit()),
            },
            group: group.clone(),
            place: place.clone(),
            bind_place: bind.place.clone(),
            cluster: listener.cluster.given().cloned(),
        });
    }
    drafts
}

pub(super) fn unix(at: &&At<ListenAddress>) -> bool {
    at.value.0.inet().is_none()
}

/// A key that would mean nothing is a mistake.
fn check_mode(findings: &mut Findings<'_>, listener: &Listener, mode: Mode) {
    let name = mode.name();
    let streams = mode != Mode::Udp;
    let binds = listener.bind.get().map_or(&[][..], |list| &list.0);
    if let Some(at) = binds.iter().find(unix).filter(|_| !streams) {
        findings.mistake(
            &at.place,
            format!(
                "`{}` is a stream socket, which does not go with mode `{name}`: write an IP address",
                at.value
            ),
        );
    }
    let wrong = [
        ("accept_proxy", listener.accept_proxy.place().filter(|_| !streams), "http or tcp"),
        ("defer_accept", listener.defer_accept.place().filter(|_| !streams), "http or tcp"),
        ("down_text", listener.down_text.place().filter(|_| mode != Mode::Tcp), "tcp"),
        ("request_body_max", listener.request_body_max.place().filter(|_| mode != Mode::Http), "http"),
    ];
    for (key, place, right) in wrong {
        if let Some(place) = place {
            findings.mistake(
                place,
                format!("`{key}` does not go with mode `{name}`: leave it out, it is for {right}"),
            );
        }
    }
    if let Some(place) = listener.defer_accept.place().filter(|_| binds.iter().any(|at| unix(&at))) {
        findings.mistake(place, "`defer_accept` is for TCP ports, not for UNIX sockets: leave it out");
    }
    if let Some(place) =
        listener.socket_mode.place().filter(|_| !binds.is_empty() && !binds.iter().any(|at| unix(&at)))
    {
        findings
            .mistake(place, "`socket_mode` is for UNIX sockets, and there is none in `bind`: leave it out");
    }
}

/// Gives each listener its routes and its cluster.
pub(super) fn connect(
    findings: &mut Findings<'_>,
    listeners: &mut [ListenerDraft],
    routes: &[RouteDraft],
    clusters: &[ClusterDraft],
) {
    for (index, listener) in listeners.iter_mut().enumerate() {
        let own = routes.iter().enumerate().filter(|(_, route)| route.listeners.contains(&index));
        listener.plan.routes = own.map(|(route, _)| route).collect();
        listener.plan.cluster = match (&listener.cluster, clusters) {
            (Some(name), _) => {
                find(findings, "cluster", name, clusters.iter().map(|cluster| &*cluster.plan.name))
            }
            (None, [_]) if listener.plan.routes.is_empty() => Some(0),
            // That there is none is said elsewhere.
            (None, []) => None,
            (None, _) if !listener.plan.routes.is_empty() => None,
            (None, _) => {
                let what = if listener.mode() == Mode::Http { " or a route" } else { "" };
                findings.mistake(&listener.place, format!(
                    "the listener leads nowhere: there are several clusters, name one with `cluster = \"…\"`{what}"
                ));
                None
            }
        };
    }
}

/// Finds addresses that are taken twice.
pub(super) fn overlaps(
    findings: &mut Findings<'_>,
    listeners: &[ListenerDraft],
    admin: Option<&At<Endpoint>>,
) {
    let of_listener = |listener: &ListenerDraft| {
        let udp = listener.mode() == Mode::Udp;
        (listener.plan.endpoint.clone(), udp, listener.bind_place.clone(), listener.plan.name.to_string())
    };
    let mut taken: Vec<_> = listeners.iter().map(of_listener).collect();
    taken.extend(admin.map(|at| (at.value.clone(), false, at.place.clone(), "admin".to_owned())));
    for (index, (endpoint, udp, place, name)) in taken.iter().enumerate() {
        let clash = taken.iter().take(index).find(|other| other.1 == *udp && overlap(&other.0, endpoint));
        let Some((other, _, other_place, other_name)) = clash else { continue };
        let brief = other_place.brief();
        let message = if name == "admin" {
            format!(
                "`{endpoint}` is taken by listener `{other_name}` ({brief}): give the admin HTTP an address of its own"
            )
        } else if other == endpoint {
            format!(
                "`{endpoint}` is bound twice, first by listener `{other_name}` ({brief}): remove one of them"
            )
        } else {
            format!(
                "`{endpoint}` overlaps with `{other}` of listener `{other_name}` ({brief}): one of them has every address, remove the other or change its port"
            )
        };
        findings.mistake(place, message);
    }
}

/// True when one connection could be for both.
fn overlap(a: &Endpoint, b: &Endpoint) -> bool {
    match (a, b) {
        (Endpoint::Inet(a), Endpoint::Inet(b)) => a.port() != 0 && a.port() == b.port() && same_host(a, b),
        (a, b) => a == b,
    }
}

/// IPv6 sockets take no IPv4 clients.
fn same_host(a: &SocketAddr, b: &SocketAddr) -> bool {
    let (a, b) = (a.ip(), b.ip());
    a == b || a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified())
}
