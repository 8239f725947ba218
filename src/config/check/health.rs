//! Health checks: ranges, what belongs to which kind of probe, and the bytes of scripts.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use super::{Findings, edits, requests};
use crate::{
    addr::{BackendAddress, Target},
    config::{
        file::{Health, ScriptStep},
        mistake::{Place, quoted},
        plan::health::{HealthPlan, HttpProbe, Kind, Probe, Step},
        read::{At, Key},
        script,
    },
    limits::PROBE_BODY_BYTES_MAX,
    syntax,
};

const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(24 * 3600);
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(600);
const USUAL: Duration = Duration::from_secs(2);
/// A fast interval that nobody chose is not shorter.
const FAST_MIN: Duration = Duration::from_millis(100);
/// Most steps of a script.
const STEPS_MAX: usize = 64;

/// Reads the table.
pub(super) fn health(findings: &mut Findings<'_>, At { value: table, .. }: &At<Health>) -> HealthPlan {
    let kind = kind(table);
    check_kind(findings, table, kind);
    let interval = findings.duration(&table.interval, USUAL, &INTERVAL);
    let fast = (interval / 4).max(FAST_MIN).min(interval);
    let fast_interval = findings.duration(&table.fast_interval, fast, &(*INTERVAL.start()..=interval));
    HealthPlan {
        probe: match kind {
            Kind::Tcp => Probe::Tcp,
            Kind::Http => Probe::Http(http(findings, table)),
            Kind::Script => Probe::Script(steps(findings, table)),
        },
        address: table.address.get().copied(),
        port: Some(table.port.number(0)).filter(|port| *port != 0),
        interval,
        fast_interval,
        timeout: findings.duration(&table.timeout, USUAL, &TIMEOUT),
        rise: table.rise.number(2),
        fall: table.fall.number(3),
        jitter_percent: table.jitter.number(10),
        start: table.start.get().copied().unwrap_or_default(),
    }
}

/// A UNIX socket has no port, so there another one needs an address too.
pub(super) fn fits(findings: &mut Findings<'_>, key: &Key<Health>, addresses: &[BackendAddress]) {
    let Some(table) = key.get() else { return };
    let unix = addresses.iter().find(|address| matches!(address.target, Target::Unix(_)));
    let half = [
        ("port", table.port.place(), &table.address.is_absent(), "address"),
        ("address", table.address.place(), &table.port.is_absent(), "port"),
    ];
    for (key, place, alone, other) in half {
        if let (Some(place), true, Some(unix)) = (place, alone, unix) {
            findings.mistake(place, format!("backend `{unix}` is a UNIX socket, for which `{key}` alone is not enough: write `{other}` too, or leave it out"));
        }
    }
}

fn kind(table: &Health) -> Kind {
    let guessed = match (table.path.is_absent(), table.step.is_absent()) {
        (false, _) => Kind::Http,
        (true, false) => Kind::Script,
        (true, true) => Kind::Tcp,
    };
    table.probe.get().copied().unwrap_or(guessed)
}

/// A key that would mean nothing is a mistake.
fn check_kind(findings: &mut Findings<'_>, table: &Health, kind: Kind) {
    if matches!(table.probe, Key::Wrong) {
        return;
    }
    let keys = [
        ("method", table.method.place(), Kind::Http),
        ("path", table.path.place(), Kind::Http),
        ("host", table.host.place(), Kind::Http),
        ("header", table.header.place(), Kind::Http),
        ("expect_status", table.expect_status.place(), Kind::Http),
        ("expect_body", table.expect_body.place(), Kind::Http),
        ("step", table.step.place(), Kind::Script),
    ];
    for (key, place, right) in keys {
        if let Some(place) = place.filter(|_| right != kind) {
            let (kind, right) = (kind.name(), right.name());
            findings.mistake(place, format!(
                "`{key}` belongs to `probe = \"{right}\"`, and this is a {kind} probe: leave it out, or write that"
            ));
        }
    }
}

fn http(findings: &mut Findings<'_>, table: &Health) -> HttpProbe {
    let method = table.method.given().map_or("GET", |at| &at.value);
    if let Some(at) = table.method.given()
        && (!syntax::is_token(at.value.as_bytes()) || at.value == "CONNECT")
    {
        let given = quoted(&at.value);
        findings.mistake(
            &at.place,
            format!("{given} is no method to probe with: write one such as `GET` or `HEAD`"),
        );
    }
    if let Some(at) = table.method.given() {
        requests::upper_case(findings, at);
    }
    if let Some(at) = table.path.given()
        && !is_path(&at.value)
    {
        findings.mistake(
            &at.place,
            format!("{} is no path: write one such as `/health`, without blanks and `#`", quoted(&at.value)),
        );
    }
    let statuses: Option<Vec<_>> =
        table.expect_status.get().map(|list| list.values().map(|range| (range.0, range.1)).collect());
    if let Some(at) = table.expect_body.given() {
        let bodiless =
            |(first, last): &(u16, u16)| (*first..=*last).all(|status| matches!(status, 204 | 304));
        within_reach(findings, at, at.value.len());
        if at.value.is_empty() {
            findings.mistake(
                &at.place,
                "every body has an empty text: leave it out, or write what is looked for",
            );
        } else if method == "HEAD" {
            findings.mistake(&at.place, "an answer to HEAD has no body: leave it out, or probe with `GET`");
        } else if statuses.as_ref().is_some_and(|all| all.iter().all(bodiless)) {
            findings.mistake(
                &at.place,
                "an answer with status 204 or 304 has no body, and `expect_status` takes no other: leave it out, or expect `200` too",
            );
        }
    }
    HttpProbe {
        method: method.into(),
        path: table.path.get().map_or("/", String::as_str).into(),
        host: table.host.given().and_then(|at| edits::host(findings, at)).map(Into::into),
        headers: headers(findings, table),
        statuses: statuses.unwrap_or_else(|| vec![(200, 399)]),
        body: table.expect_body.get().map(|body| body.as_str().into()),
    }
}

fn is_path(path: &str) -> bool {
    // The second is what the request is made with.
    matches!(syntax::target(path.as_bytes()), Ok(syntax::Target::Origin(_)))
        && path.parse::<axum::http::uri::PathAndQuery>().is_ok()
}

fn headers(findings: &mut Findings<'_>, table: &Health) -> Vec<(Arc<str>, Arc<str>)> {
    let mut headers = Vec::new();
    for (field, text) in table.header.get().map_or(&[][..], |map| &map.0) {
        if field.value.eq_ignore_ascii_case("host") {
            findings.mistake(&field.place, "the Host field has a key of its own: write `host`");
            continue;
        }
        let text = At { place: field.place.clone(), value: text.clone() };
        if let (Some(_), Some(value)) =
            (edits::name(findings, edits::Head::Response, field), edits::value(findings, &text))
        {
            headers.push((field.value.as_str().into(), value.into()));
        }
    }
    headers
}

fn steps(findings: &mut Findings<'_>, table: &Health) -> Vec<Step> {
    let place = findings.place(table.place.as_ref());
    let steps = super::tables(&table.step);
    if steps.is_empty() && !matches!(table.step, Key::Wrong) {
        findings.mistake(
            &place,
            "the script has no step: write some, such as `step = [{ send = \"PING\\r\\n\" }, { expect = \"+PONG\" }]`",
        );
    }
    findings.count(&place, "steps", steps.len(), STEPS_MAX);
    steps.iter().filter_map(|step| read_step(findings, step, &place)).collect()
}

fn read_step(findings: &mut Findings<'_>, step: &ScriptStep, whole: &Place) -> Option<Step> {
    match (step.send.given(), step.expect.given()) {
        (Some(at), None) => bytes(findings, at).map(Step::Send),
        (None, Some(list)) => {
            let texts: Vec<_> = list.value.0.iter().map(|at| expected(findings, at)).collect();
            texts.into_iter().collect::<Option<_>>().map(Step::Expect)
        }
        (None, None) if !(step.send.is_absent() && step.expect.is_absent()) => None,
        _ => {
            let place = step.place.as_ref().unwrap_or(whole);
            findings.mistake(place, "write exactly one of `send` and `expect` in each step");
            None
        }
    }
}

/// What is expected must come within what is read.
fn expected(findings: &mut Findings<'_>, at: &At<String>) -> Option<Arc<[u8]>> {
    let bytes = bytes(findings, at)?;
    within_reach(findings, at, bytes.len());
    Some(bytes)
}

fn within_reach(findings: &mut Findings<'_>, at: &At<String>, length: usize) {
    if length > PROBE_BODY_BYTES_MAX {
        findings.mistake(&at.place, format!(
            "the text has {length} bytes, and a probe looks through {PROBE_BODY_BYTES_MAX} of an answer: write a shorter one"
        ));
    }
}

fn bytes(findings: &mut Findings<'_>, at: &At<String>) -> Option<Arc<[u8]>> {
    // TOML makes the character U+00FF of `\xff` in double quotes, which are two bytes.
    if let Some(odd) = at.value.chars().find(|character| ('\u{80}'..='\u{ff}').contains(character)) {
        let (one, two) = (script::encode(&[odd as u32 as u8]), script::encode(odd.to_string().as_bytes()));
        findings.mistake(
            &at.place,
            format!("`{odd}` could be the byte `{one}` or the bytes `{two}`: write in single quotes which"),
        );
        return None;
    }
    match script::decode(&at.value) {
        Ok(bytes) if bytes.is_empty() => {
            findings.mistake(&at.place, "the text is empty: write at least one byte");
            None
        }
        Ok(bytes) => Some(bytes.into()),
        Err(escape) => {
            findings.mistake(
                &at.place,
                format!(
                    "`{escape}` is no escape: there are `\\r`, `\\n`, `\\t`, `\\\\` and `\\xNN` with two hexadecimal digits, best in single quotes"
                ),
            );
            None
        }
    }
}
