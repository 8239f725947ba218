//! Who uses which cluster, and whether that goes together.

use super::{Findings, clusters::ClusterDraft, listeners::ListenerDraft, routes::RouteDraft};
use crate::{
    addr::{Scheme, Target},
    config::{
        meaning,
        plan::{Mode, cluster::Sticky},
    },
};

/// Compares clusters with the modes of the listeners that use them.
pub(super) fn check(
    findings: &mut Findings<'_>,
    clusters: &[ClusterDraft],
    listeners: &[ListenerDraft],
    routes: &[RouteDraft],
) {
    // A wrong reference would make innocent clusters look unused.
    let clean = findings.mistakes.is_empty();
    for (index, cluster) in clusters.iter().enumerate() {
        let listeners = listeners.iter().map(|listener| &listener.plan);
        let modes = meaning::modes_of_cluster(index, listeners, routes.iter().map(|route| &route.plan));
        if modes.is_empty() && clean {
            let name = &cluster.plan.name;
            findings
                .warning(&cluster.place, format!("cluster `{name}` is not used by any listener or route"));
        }
        idle(findings, cluster, &modes);
        for mode in modes {
            fits(findings, cluster, mode);
        }
    }
    cookies(findings, clusters);
}

/// Keys that nobody who uses the cluster looks at.
fn idle(findings: &mut Findings<'_>, cluster: &ClusterDraft, modes: &[Mode]) {
    for (key, place) in cluster.of_modes.iter().filter(|(key, _)| !meaning::means_something(key, modes)) {
        let names: Vec<_> = modes.iter().map(|mode| format!("`{}`", mode.name())).collect();
        let right: Vec<_> = meaning::modes_of_key(key).iter().map(|mode| mode.name()).collect();
        let (names, right) = (names.join(" or "), right.join(" and "));
        findings.mistake(place, format!(
            "`{key}` means nothing with mode {names}, and no other listener uses this cluster: leave it out, it is for {right}"
        ));
    }
}

fn fits(findings: &mut Findings<'_>, cluster: &ClusterDraft, mode: Mode) {
    let (right, name) = match mode {
        Mode::Http => (Scheme::Http, mode.name()),
        Mode::Tcp => (Scheme::Tcp, mode.name()),
        Mode::Udp => (Scheme::Udp, mode.name()),
    };
    for (address, place) in cluster.addresses.iter().zip(&cluster.backend_places) {
        if address.scheme.is_some_and(|scheme| scheme != right) {
            let authority = address.authority();
            findings.mistake(place, format!("`{address}` does not fit a listener with mode `{name}`: write `{name}://{authority}` or `{authority}`"));
        }
        if mode == Mode::Udp && matches!(address.target, Target::Unix(_)) {
            findings.mistake(
                place,
                format!("`{address}` is a UNIX stream socket, which does not go with mode `udp`"),
            );
        }
    }
    if let Some(place) = cluster.send_proxy.as_ref().filter(|_| mode == Mode::Udp) {
        findings.mistake(place, "`send_proxy` does not go with mode `udp`: leave it out");
    }
    if let (Some(place), Some(health)) = (&cluster.health, &cluster.plan.health)
        && mode == Mode::Udp
        && health.port.is_none()
    {
        findings.warning(place, format!(
            "the backends take datagrams, and a {} probe is made over TCP to the same port: write the `port` where they answer it",
            health.probe.kind().name()
        ));
    }
    if mode != Mode::Http {
        for (place, why) in &cluster.http_only {
            findings.mistake(place, format!("{why}, and a listener with mode `{name}` uses this cluster"));
        }
    }
}

/// Two clusters behind one host would overwrite each other's cookie.
fn cookies(findings: &mut Findings<'_>, clusters: &[ClusterDraft]) {
    let cookie = |cluster: &ClusterDraft| match &cluster.plan.sticky {
        Some(Sticky::Cookie(cookie)) => {
            Some((cookie.name.clone(), cookie.domain.clone(), cookie.path.clone()))
        }
        _ => None,
    };
    for (index, cluster) in clusters.iter().enumerate() {
        let Some(own) = cookie(cluster) else { continue };
        let same = clusters.iter().take(index).find(|other| cookie(other).as_ref() == Some(&own));
        if let Some(other) = same {
            let name = &other.plan.name;
            findings.warning(&cluster.place, format!(
                "cluster `{name}` has the same sticky cookie `{}`: a client of both loses its backend again and again, choose another name or path",
                own.0
            ));
        }
    }
}
