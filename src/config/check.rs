//! From the tables of a file to a plan: references, ranges, relations.
//!
//! Pure: opens, resolves and reads nothing. What is wrong is collected with its place and its remedy, and so is what is
//! allowed but probably not meant.

mod admission;
mod circuit;
mod clusters;
mod edits;
mod health;
mod limits;
mod listeners;
mod reach;
mod requests;
mod routes;
mod sticky;
mod usage;

use std::{collections::HashMap, ops::RangeInclusive, time::Duration};

use self::{clusters::ClusterDraft, listeners::ListenerDraft, routes::RouteDraft};
use super::{
    Checked, Environment, cores,
    file::{Admin, Defaults, File, Name, Runtime},
    mistake::{self, Mistake, Place, similar},
    plan::{HeaderPolicy, Plan, Timeouts},
    read::{At, Key, Tables},
    units::format_duration,
};
use crate::{addr::Endpoint, control::log::LogFormat};

/// Most timeouts: less is a typing mistake, more is for ever.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(24 * 3600);
/// Timeouts of connections that may be silent on purpose.
const LONG_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(30 * 24 * 3600);
/// Timeouts that can be switched off.
const TIMEOUT_OR_OFF: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(24 * 3600);

/// What has been found so far.
pub(super) struct Findings<'a> {
    environment: &'a Environment<'a>,
    /// The place of what is missing altogether.
    whole: &'a Place,
    mistakes: Vec<Mistake>,
    warnings: Vec<Mistake>,
}

impl Findings<'_> {
    fn mistake(&mut self, place: &Place, message: impl Into<String>) {
        self.mistakes.push(Mistake::new(place, message));
    }

    fn warning(&mut self, place: &Place, message: impl Into<String>) {
        self.warnings.push(Mistake::new(place, message));
    }

    /// The place of a table, or of everything.
    fn place(&self, table: Option<&Place>) -> Place {
        table.unwrap_or(self.whole).clone()
    }

    /// The duration of `key` if it is in `range`, else `default`.
    fn duration(
        &mut self,
        key: &Key<Duration>,
        default: Duration,
        range: &RangeInclusive<Duration>,
    ) -> Duration {
        let Some(at) = key.given() else { return default };
        if range.contains(&at.value) {
            return at.value;
        }
        let (low, high) = (format_duration(*range.start()), format_duration(*range.end()));
        let given = format_duration(at.value);
        self.mistake(
            &at.place,
            format!("`{given}` is out of range: write a duration from `{low}` to `{high}`"),
        );
        default
    }

    /// True when there are few enough.
    fn count(&mut self, place: &Place, what: &str, count: usize, most: usize) {
        if count > most {
            self.mistake(
                place,
                format!("there are {count} {what}, which are more than the {most} that are possible"),
            );
        }
    }
}

/// Unique names.
#[derive(Default)]
struct Names(HashMap<String, Place>);

impl Names {
    /// Takes the name that was given, which must be free.
    fn claim(&mut self, findings: &mut Findings<'_>, noun: &str, at: &At<Name>) {
        let name = &at.value.0;
        match self.0.get(name) {
            Some(first) => {
                let first = first.brief();
                findings.mistake(
                    &at.place,
                    format!(
                        "there is another {noun} `{name}` ({first}): names are unique, choose another one"
                    ),
                );
            }
            None => {
                self.0.insert(name.clone(), at.place.clone());
            }
        }
    }

    /// The first free one of `base`, `base-2`, `base-3`….
    fn invent(&mut self, base: &str, place: &Place) -> String {
        let mut name = base.to_owned();
        let mut number = 1usize;
        while self.0.contains_key(&name) {
            number = number.saturating_add(1);
            name = format!("{base}-{number}");
        }
        self.0.insert(name.clone(), place.clone());
        name
    }
}

/// The tables of a list, or none.
fn tables<T>(key: &Key<Tables<T>>) -> &[T] {
    key.get().map_or(&[], |tables| &tables.0)
}

/// Looks up a name that must exist.
fn find<'n>(
    findings: &mut Findings<'_>,
    noun: &str,
    at: &At<String>,
    known: impl Iterator<Item = &'n str> + Clone,
) -> Option<usize> {
    let position = known.clone().position(|name| name == at.value);
    if position.is_none() {
        let hint = match similar(&at.value, known.clone()) {
            Some(meant) => format!(", did you mean `{meant}`?"),
            None => match known.take(10).collect::<Vec<_>>().as_slice() {
                [] => ": there is none at all".to_owned(),
                some => format!(": there are {}", some.join(", ")),
            },
        };
        findings.mistake(&at.place, format!("there is no {noun} {}{hint}", mistake::quoted(&at.value)));
    }
    position
}

/// Checks everything. `found` are the mistakes of the steps before; `whole` is the place of what is missing.
pub(super) fn check(
    file: &File,
    whole: &Place,
    environment: &Environment<'_>,
    found: Vec<Mistake>,
) -> Result<Checked, Vec<Mistake>> {
    let mut collected = Findings { environment, whole, mistakes: found, warnings: Vec::new() };
    let findings = &mut collected;
    let clusters = clusters::clusters(findings, file);
    let mut listeners = listeners::listeners(findings, file);
    let routes = routes::routes(findings, file, &clusters, &listeners);
    listeners::connect(findings, &mut listeners, &routes, &clusters);
    usage::check(findings, &clusters, &listeners, &routes);
    reach::check(findings, &routes);

    let (timeouts, headers) = defaults(findings, (&clusters, &routes), &file.defaults, &file.runtime);
    let cores = choose_cores(findings, &file.runtime);
    let admin = admin(findings, &file.admin);
    listeners::overlaps(findings, &listeners, admin.as_ref());
    let log_format = file.log.get().and_then(|log| log.format.get()).copied().unwrap_or_default();
    let admin = admin.and_then(|at| at.value.inet());
    assemble(collected, (clusters, listeners, routes), (timeouts, headers, cores, admin, log_format))
}

type Parts = (Vec<ClusterDraft>, Vec<ListenerDraft>, Vec<RouteDraft>);
type Process = (Timeouts, HeaderPolicy, Vec<usize>, Option<std::net::SocketAddr>, LogFormat);

/// Puts the parts together, if nothing is wrong with any of them.
fn assemble(
    findings: Findings<'_>,
    (clusters, listeners, routes): Parts,
    (timeouts, headers, cores, admin, log_format): Process,
) -> Result<Checked, Vec<Mistake>> {
    let Findings { environment, mut mistakes, mut warnings, .. } = findings;
    if !mistakes.is_empty() {
        mistake::arrange(&mut mistakes);
        return Err(mistakes);
    }
    mistake::arrange(&mut warnings);
    let addresses = clusters.iter().map(|cluster| cluster.addresses.clone()).collect();
    let keys_given = clusters.iter().map(|cluster| cluster.key_given).collect();
    let all_cores = cores == environment.cores;
    Ok(Checked {
        draft: Plan {
            listeners: listeners.into_iter().map(|listener| listener.plan).collect(),
            routes: routes.into_iter().map(|route| route.plan).collect(),
            clusters: clusters.into_iter().map(|cluster| cluster.plan).collect(),
            cores,
            admin,
            timeouts,
            headers,
        },
        addresses,
        keys_given,
        all_cores,
        log_format,
        warnings,
    })
}

fn defaults(
    findings: &mut Findings<'_>,
    drafts: (&[ClusterDraft], &[RouteDraft]),
    defaults: &Key<Defaults>,
    runtime: &Key<Runtime>,
) -> (Timeouts, HeaderPolicy) {
    let (nothing, usual, policy) = (Defaults::default(), Timeouts::default(), HeaderPolicy::default());
    let table = defaults.get().unwrap_or(&nothing);
    let shutdown = runtime.get().map_or(Key::Absent, |runtime| runtime.shutdown_timeout.clone());
    let timeouts = Timeouts {
        head: findings.duration(&table.head_timeout, usual.head, &TIMEOUT),
        client_idle: findings.duration(&table.client_idle_timeout, usual.client_idle, &TIMEOUT),
        upstream_idle: findings.duration(&table.upstream_idle_timeout, usual.upstream_idle, &TIMEOUT),
        connect: findings.duration(&table.connect_timeout, usual.connect, &TIMEOUT),
        response: findings.duration(&table.response_timeout, usual.response, &TIMEOUT_OR_OFF),
        body_idle: findings.duration(&table.body_idle_timeout, usual.body_idle, &TIMEOUT),
        tunnel_idle: findings.duration(&table.tunnel_idle_timeout, usual.tunnel_idle, &LONG_TIMEOUT),
        last_words: usual.last_words,
        udp_idle: findings.duration(&table.udp_idle_timeout, usual.udp_idle, &TIMEOUT),
        shutdown: findings.duration(&shutdown, usual.shutdown, &TIMEOUT_OR_OFF),
    };
    let keys = (&table.connect_timeout, &table.response_timeout);
    limits::compare(findings, drafts, &timeouts, keys);
    let headers = HeaderPolicy {
        via: table.via.get().copied().unwrap_or(policy.via),
        trust_forwarded: table.trust_forwarded.get().copied().unwrap_or(policy.trust_forwarded),
    };
    (timeouts, headers)
}

fn choose_cores(findings: &mut Findings<'_>, runtime: &Key<Runtime>) -> Vec<usize> {
    let allowed = &findings.environment.cores;
    let Some(at) = runtime.get().and_then(|runtime| runtime.cores.given()) else { return allowed.clone() };
    match cores::parse(&at.value, allowed) {
        Ok(cores) => cores,
        Err(error) => {
            findings.mistake(&at.place, error.to_string());
            Vec::new()
        }
    }
}

fn admin(findings: &mut Findings<'_>, admin: &Key<Admin>) -> Option<At<Endpoint>> {
    let Key::Given(table) = admin else { return None };
    let bind = &table.value.bind;
    if bind.is_absent() {
        findings.mistake(
            &table.place,
            "`bind` is missing: write where the admin HTTP listens, such as `bind = \"127.0.0.1:9000\"`",
        );
    }
    let at = bind.given()?;
    if at.value.0.inet().is_none() {
        let endpoint = &at.value.0;
        findings.mistake(
            &at.place,
            format!(
                "the admin HTTP needs an IP address and a port, such as `127.0.0.1:9000`, not `{endpoint}`"
            ),
        );
        return None;
    }
    Some(At { place: at.place.clone(), value: at.value.0.clone() })
}

#[cfg(test)]
mod tests;
