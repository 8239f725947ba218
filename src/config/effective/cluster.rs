//! Clusters, their backends and what belongs to them, in the words of the file.

use super::{
    health,
    write::{Tree, table, text, texts},
};
use crate::{
    addr::BackendAddress,
    config::plan::{
        BackendPlan, ClusterPlan,
        cluster::{CircuitPlan, Duty, HashKey, OnDown, Retries, SameSite, Sticky, StickyCookie},
    },
};

/// The table `[[cluster]]`.
pub(super) fn table_of(cluster: &ClusterPlan, addresses: &[BackendAddress], key_given: bool) -> Tree {
    let ClusterPlan {
        name,
        algorithm,
        hash_key,
        bounded_load_percent,
        slow_start,
        sticky,
        health,
        queue_max,
        queue_timeout,
        retries,
        backends,
        send_proxy,
        sources,
        circuit,
        on_down,
    } = cluster;
    let on_down = match on_down {
        OnDown::Auto => "auto",
        OnDown::Keep => "keep",
        OnDown::Close => "close",
    };
    let Retries { attempts, pause, budget_percent, per_second_min, idempotent, late, idempotency_key } =
        retries;
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).into();
    let backends = backends.iter().zip(addresses).map(|(backend, address)| backend_table(backend, address));
    table([
        ("name", Some(text(name))),
        ("balance", Some(text(algorithm.name()))),
        ("hash_key", algorithm.is_keyed().then(|| hash_key_value(hash_key))),
        ("bounded_load", bounded_load_percent.map(|percent| Tree::Float(f64::from(percent) / 100.0))),
        ("slow_start", Some((*slow_start).into())),
        ("send_proxy", send_proxy.map(|version| text(version.name()))),
        ("source", (!sources.is_empty()).then(|| texts(sources.iter()))),
        ("sticky", sticky.as_ref().map(|sticky| sticky_table(sticky, key_given))),
        ("on_down", Some(text(on_down))),
        ("circuit", Some(circuit_table(circuit))),
        ("health", health.as_deref().map(health::table_of)),
        ("queue_max", Some(number(*queue_max))),
        ("queue_timeout", Some((*queue_timeout).into())),
        ("attempts", Some(number(*attempts))),
        ("retry_pause", Some((*pause).into())),
        ("retry_budget", Some((*budget_percent).into())),
        ("retry_min_per_second", Some((*per_second_min).into())),
        ("retry_idempotent", Some((*idempotent).into())),
        ("retry_response_timeout", Some((*late).into())),
        ("retry_idempotency_key", Some((*idempotency_key).into())),
        ("backend", Some(Tree::Tables(backends.collect()))),
    ])
}

fn hash_key_value(hash_key: &HashKey) -> Tree {
    match hash_key {
        HashKey::ClientAddress => text("client-address"),
        HashKey::Path => text("path"),
        HashKey::Header(name) => table([("header", Some(text(name)))]),
        HashKey::Cookie(name) => table([("cookie", Some(text(name)))]),
        HashKey::Query(name) => table([("query", Some(text(name)))]),
    }
}

fn backend_table(backend: &BackendPlan, address: &BackendAddress) -> Tree {
    let BackendPlan { name, endpoints: _, weight, backup, duty, max_requests, max_connections } = backend;
    let state = match duty {
        Duty::Ready => "ready",
        Duty::Drain => "drain",
        Duty::Maint => "maint",
    };
    let address = BackendAddress { weight: BackendAddress::DEFAULT_WEIGHT, ..address.clone() };
    table([
        ("address", Some(text(address))),
        ("name", Some(text(name))),
        ("weight", Some((*weight).into())),
        ("backup", Some((*backup).into())),
        ("state", Some(text(state))),
        ("max_requests", Some((*max_requests).into())),
        ("max_connections", Some((*max_connections).into())),
    ])
}

fn circuit_table(circuit: &CircuitPlan) -> Tree {
    let CircuitPlan {
        failures,
        window,
        open,
        open_max,
        count_5xx,
        outlier,
        outlier_interval,
        panic_threshold_percent,
    } = circuit;
    table([
        ("failures", Some((*failures).into())),
        ("window", Some((*window).into())),
        ("open", Some((*open).into())),
        ("open_max", Some((*open_max).into())),
        ("count_5xx", Some((*count_5xx).into())),
        ("outlier_ratio", outlier.ratio.map(Tree::Float)),
        ("outlier_interval", Some((*outlier_interval).into())),
        ("outlier_requests", Some(outlier.requests_min.into())),
        ("outlier_max", Some(outlier.ejected_max_percent.into())),
        ("panic_threshold", Some((*panic_threshold_percent).into())),
    ])
}

fn sticky_table(sticky: &Sticky, key_given: bool) -> Tree {
    let cookie = match sticky {
        Sticky::ClientAddress(kept) => return table([("client_address", Some((*kept).into()))]),
        Sticky::Cookie(cookie) => cookie,
    };
    let StickyCookie { name, key: _, domain, path, max_age, secure, http_only, same_site } = cookie;
    let same_site = match same_site {
        SameSite::Strict => "strict",
        SameSite::Lax => "lax",
        SameSite::None => "none",
    };
    table([
        ("cookie", Some(text(name))),
        ("key", key_given.then(|| Tree::Note("key is set, and is not shown".to_owned()))),
        ("domain", domain.as_ref().map(text)),
        ("path", Some(text(path))),
        ("max_age", max_age.map(Tree::from)),
        ("secure", Some((*secure).into())),
        ("http_only", Some((*http_only).into())),
        ("same_site", Some(text(same_site))),
    ])
}
