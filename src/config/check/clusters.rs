//! Clusters and their backends.

use std::{collections::HashSet, ops::RangeInclusive, time::Duration};

use super::{
    Findings, Names, circuit, health,
    limits::{self, Bounds, Waits},
    sticky, tables,
};
use crate::{
    addr::BackendAddress,
    config::{
        file::{Backend, BoundedLoad, Circuit, Cluster, File, HashKeyItem, HashKeyTable, StickyItem},
        mistake::Place,
        plan::{
            Algorithm, BackendPlan, ClusterPlan,
            cluster::{Duty, HashKey},
        },
        read::{At, Key},
    },
    limits::{BACKENDS_MAX, CLUSTERS_MAX},
    syntax,
};

/// Name of the only cluster if it was given none.
const NAME: &str = "default";
const SLOW_START: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);

/// A cluster and where it was written.
pub(super) struct ClusterDraft {
    pub(super) plan: ClusterPlan,
    /// Its backends as they were named, in order.
    pub(super) addresses: Vec<BackendAddress>,
    /// Where each was named.
    pub(super) backend_places: Vec<Place>,
    /// Its table.
    pub(super) place: Place,
    /// What only HTTP can give it, and where that was asked for.
    pub(super) http_only: Vec<(Place, String)>,
    /// Keys that not every mode looks at, and where they were written.
    pub(super) of_modes: Vec<(&'static str, Place)>,
    /// Where probes were asked for.
    pub(super) health: Option<Place>,
    /// Where a PROXY header was asked for.
    pub(super) send_proxy: Option<Place>,
    /// The operator gave the key of its cookie.
    pub(super) key_given: bool,
    /// What its requests may wait for.
    pub(super) waits: Waits,
}

/// Reads every cluster.
pub(super) fn clusters(findings: &mut Findings<'_>, file: &File) -> Vec<ClusterDraft> {
    let all = tables(&file.cluster);
    let whole = findings.whole.clone();
    if all.is_empty() && !matches!(file.cluster, Key::Wrong) {
        findings.mistake(
            &whole,
            "there is no cluster: write `[[cluster]]` with a line such as `backend = [\"10.0.0.1:8080\"]`",
        );
    }
    findings.count(&whole, "clusters", all.len(), CLUSTERS_MAX);
    let mut names = Names::default();
    for cluster in all {
        if let Some(name) = cluster.name.given() {
            names.claim(findings, "cluster", name);
        } else if cluster.name.is_absent() && all.len() > 1 {
            let place = findings.place(cluster.place.as_ref());
            findings.mistake(&place, "`name` is missing: with several clusters each needs one");
        }
    }
    let drafts: Vec<_> = all.iter().map(|cluster| read(findings, cluster)).collect();
    let backends = drafts.iter().map(|cluster| cluster.plan.backends.len()).sum();
    findings.count(&whole, "backends", backends, BACKENDS_MAX);
    drafts
}

fn read(findings: &mut Findings<'_>, cluster: &Cluster) -> ClusterDraft {
    let place = findings.place(cluster.place.as_ref());
    let algorithm = cluster.balance.get().map(|balance| balance.0);
    let mut http_only = Vec::new();
    let hash_key = hash_key(findings, &cluster.hash_key, &mut http_only);
    let bounded_load_percent = cluster.bounded_load.get().copied().map(bounded_load);
    check_balance(findings, cluster);
    let sticky = cluster.sticky.given().and_then(|at| sticky::sticky(findings, at, &mut http_only));
    let key_given = cluster.sticky.get().is_some_and(StickyItem::has_key);
    let health = cluster.health.given().map(|table| health::health(findings, table).into());
    let (backends, addresses, backend_places) = backends(findings, cluster, &place);
    health::fits(findings, &cluster.health, &addresses);
    let is_limited = backends.iter().any(|backend| backend.max_requests > 0 || backend.max_connections > 0);
    let circuit = circuit::read(findings, cluster.circuit.get(), backends.len(), health.is_some());
    let (queue_max, queue_timeout) = limits::queue(findings, cluster);
    let sources = cluster.source.get().map(|list| list.values().copied().collect()).unwrap_or_default();
    ClusterDraft {
        plan: ClusterPlan {
            name: cluster.name.get().map_or(NAME, |name| name.0.as_str()).into(),
            algorithm: algorithm.unwrap_or_default(),
            hash_key,
            bounded_load_percent,
            slow_start: findings.duration(&cluster.slow_start, Duration::ZERO, &SLOW_START),
            sticky,
            health,
            queue_max,
            queue_timeout,
            retries: limits::retries(findings, cluster),
            backends,
            send_proxy: cluster.send_proxy.get().copied(),
            sources,
            circuit,
            on_down: cluster.on_down.get().copied().unwrap_or_default(),
        },
        addresses,
        backend_places,
        place,
        http_only,
        of_modes: of_modes(cluster),
        health: cluster.health.place().cloned(),
        send_proxy: cluster.send_proxy.place().cloned(),
        key_given,
        waits: Waits::of(findings, cluster, is_limited),
    }
}

type Backends = (Vec<BackendPlan>, Vec<BackendAddress>, Vec<Place>);

fn backends(findings: &mut Findings<'_>, cluster: &Cluster, place: &Place) -> Backends {
    let items = cluster.backend.get().map_or(&[][..], |list| &list.0);
    if cluster.backend.is_absent() {
        findings.mistake(
            place,
            "the cluster has no backend: write a line such as `backend = [\"10.0.0.1:8080\"]`",
        );
    }
    let bounds = Bounds::of_cluster(cluster);
    let mut names = Names::default();
    for name in items.iter().filter_map(|item| item.value.0.name.given()) {
        names.claim(findings, "backend", name);
    }
    let (mut plans, mut addresses, mut places) = (Vec::new(), Vec::new(), Vec::new());
    let mut targets = HashSet::new();
    for At { place, value } in items {
        let Some((plan, address)) = backend(findings, &mut names, bounds, &value.0, place) else { continue };
        if !targets.insert(address.identity()) {
            let authority = address.authority();
            findings.mistake(place, format!("backend `{authority}` is named twice: name it once, with a `weight` of 2 for a larger share"));
            continue;
        }
        plans.push(plan);
        addresses.push(address);
        places.push(place.clone());
    }
    check_weights(findings, &plans, cluster.backend.place().unwrap_or(place));
    (plans, addresses, places)
}

fn backend(
    findings: &mut Findings<'_>,
    names: &mut Names,
    bounds: Bounds,
    table: &Backend,
    place: &Place,
) -> Option<(BackendPlan, BackendAddress)> {
    if table.address.is_absent() {
        findings.mistake(place, "`address` is missing: write one such as `address = \"10.0.0.1:8080\"`");
    }
    let at = table.address.given()?;
    let mut address = at.value.clone();
    if let Some(weight) = table.weight.given() {
        if address.weight != BackendAddress::DEFAULT_WEIGHT {
            findings.mistake(&weight.place, "the weight stands in `address` too: write it once");
        }
        address.weight = weight.value;
    }
    let name = match table.name.get() {
        Some(name) => name.0.clone(),
        None => names.invent(&address.authority(), place),
    };
    let (max_requests, max_connections) = bounds.of_backend(table);
    let plan = BackendPlan {
        name: name.into(),
        endpoints: address.literal().into_iter().collect(),
        weight: address.weight,
        backup: table.backup.get().copied().unwrap_or(false),
        duty: table.state.get().copied().unwrap_or_default(),
        max_requests,
        max_connections,
    };
    Some((plan, address))
}

fn check_weights(findings: &mut Findings<'_>, backends: &[BackendPlan], place: &Place) {
    if backends.is_empty() {
        return;
    }
    if backends.iter().all(|backend| backend.weight == 0) {
        findings.mistake(place, "every backend has the weight 0, so nobody would be served: give one of them a weight of 1 or more");
    } else if !backends.iter().any(|backend| backend.weight > 0 && backend.duty == Duty::Ready) {
        findings.warning(place, "no backend takes new work: each is in `drain` or `maint` or has the weight 0, so newcomers are turned away until one is `ready`");
    } else if backends.iter().all(|backend| backend.backup) {
        findings.warning(place, "every backend is a backup: they are used as if none were");
    }
}

/// In percent of the average.
fn bounded_load(load: BoundedLoad) -> u32 {
    // At most a thousand.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the reader knows the range")]
    let percent = (load.0 * 100.0).round() as u32;
    percent
}

/// Keys that only hashing looks at, and one that only sharing does.
fn check_balance(findings: &mut Findings<'_>, cluster: &Cluster) {
    let balance = cluster.balance.get().map_or_else(Algorithm::default, |balance| balance.0);
    if matches!(cluster.balance, Key::Wrong) {
        return;
    }
    let hashed = "`ring`, `maglev` or `ip-hash`";
    let shared = "`round-robin`, `random`, `p2c`, `least-connections` or `least-response-time`";
    // A key's backend is given, and so is the first one: nobody has a share to grow into.
    let grows = !balance.is_keyed() && balance != Algorithm::First;
    let slow = cluster.slow_start.given().filter(|at| !grows && !at.value.is_zero());
    let unused = [
        ("hash_key", cluster.hash_key.place().filter(|_| !balance.is_keyed()), hashed),
        ("bounded_load", cluster.bounded_load.place().filter(|_| !balance.is_keyed()), hashed),
        ("slow_start", slow.map(|at| &at.place), shared),
    ];
    for (key, place, right) in unused {
        if let Some(place) = place {
            let name = balance.name();
            findings.mistake(
                place,
                format!(
                    "`{key}` means nothing with `balance = \"{name}\"`: leave it out, or balance with {right}"
                ),
            );
        }
    }
}

/// Keys that not every mode looks at.
fn of_modes(cluster: &Cluster) -> Vec<(&'static str, Place)> {
    let circuit = |place: fn(&Circuit) -> Option<&Place>| cluster.circuit.get().and_then(place);
    let keys = [
        ("queue_max", cluster.queue_max.place()),
        ("queue_timeout", cluster.queue_timeout.place()),
        ("attempts", cluster.attempts.place()),
        ("retry_pause", cluster.retry_pause.place()),
        ("retry_budget", cluster.retry_budget.place()),
        ("retry_min_per_second", cluster.retry_min_per_second.place()),
        ("retry_idempotent", cluster.retry_idempotent.place()),
        ("retry_response_timeout", cluster.retry_response_timeout.place()),
        ("retry_idempotency_key", cluster.retry_idempotency_key.place()),
        ("count_5xx", circuit(|table| table.count_5xx.place())),
        ("outlier_ratio", circuit(|table| table.outlier_ratio.place())),
        ("outlier_interval", circuit(|table| table.outlier_interval.place())),
        ("outlier_requests", circuit(|table| table.outlier_requests.place())),
        ("outlier_max", circuit(|table| table.outlier_max.place())),
    ];
    keys.into_iter().filter_map(|(key, place)| Some((key, place?.clone()))).collect()
}

fn hash_key(
    findings: &mut Findings<'_>,
    key: &Key<HashKeyItem>,
    http_only: &mut Vec<(Place, String)>,
) -> HashKey {
    let Some(At { place, value }) = key.given() else { return HashKey::default() };
    let hash_key = match value {
        HashKeyItem::ClientAddress => return HashKey::ClientAddress,
        HashKeyItem::Path => HashKey::Path,
        HashKeyItem::OfRequest(table) => match of_request(findings, table, place) {
            Some(hash_key) => hash_key,
            None => return HashKey::default(),
        },
    };
    http_only.push((place.clone(), "this `hash_key` is a part of HTTP requests".to_owned()));
    hash_key
}

fn of_request(findings: &mut Findings<'_>, table: &HashKeyTable, place: &Place) -> Option<HashKey> {
    let given: Vec<_> =
        [&table.header, &table.cookie, &table.query].into_iter().filter_map(Key::given).collect();
    let wrong = [&table.header, &table.cookie, &table.query].into_iter().any(|key| matches!(key, Key::Wrong));
    let [at] = given.as_slice() else {
        if !wrong {
            findings.mistake(place, "write exactly one of `header`, `cookie` and `query`");
        }
        return None;
    };
    let is_query = table.query.get().is_some();
    if at.value.is_empty() || !is_query && !syntax::is_token(at.value.as_bytes()) {
        findings.mistake(
            &at.place,
            "this is no name: write letters, digits and signs such as `-`, without blanks",
        );
        return None;
    }
    Some(match (table.header.get(), table.cookie.get()) {
        (Some(name), _) => HashKey::Header(name.to_ascii_lowercase().into()),
        (_, Some(name)) => HashKey::Cookie(name.as_str().into()),
        _ => HashKey::Query(at.value.as_str().into()),
    })
}
