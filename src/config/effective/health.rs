//! Health checks, written back in the words of the file.

use super::{
    field_value,
    write::{Tree, table, text, texts},
};
use crate::config::{
    plan::health::{HealthPlan, HttpProbe, Probe, Start, Step},
    script,
};

/// The table `[cluster.health]`.
pub(super) fn table_of(health: &HealthPlan) -> Tree {
    let HealthPlan {
        probe,
        address,
        port,
        interval,
        fast_interval,
        timeout,
        rise,
        fall,
        jitter_percent,
        start,
    } = health;
    let start = match start {
        Start::Up => "up",
        Start::Down => "down",
    };
    let mut entries = entries([
        ("probe", Some(text(probe.kind().name()))),
        ("interval", Some((*interval).into())),
        ("fast_interval", Some((*fast_interval).into())),
        ("timeout", Some((*timeout).into())),
        ("rise", Some(Tree::Integer((*rise).into()))),
        ("fall", Some(Tree::Integer((*fall).into()))),
        ("jitter", Some(Tree::Integer((*jitter_percent).into()))),
        ("start", Some(text(start))),
        ("address", address.map(text)),
        ("port", port.map(Tree::from)),
    ]);
    entries.extend(match probe {
        Probe::Tcp => Vec::new(),
        Probe::Http(probe) => http(probe),
        Probe::Script(steps) => vec![("step".to_owned(), Tree::Tables(steps.iter().map(step).collect()))],
    });
    Tree::Table(entries)
}

fn entries<const N: usize>(keys: [(&str, Option<Tree>); N]) -> Vec<(String, Tree)> {
    match table(keys) {
        Tree::Table(entries) => entries,
        _ => Vec::new(),
    }
}

fn http(probe: &HttpProbe) -> Vec<(String, Tree)> {
    let HttpProbe { method, path, host, headers, statuses, body } = probe;
    let range = |(first, last): &(u16, u16)| match first == last {
        true => Tree::from(*first),
        false => Tree::Text(format!("{first}-{last}")),
    };
    let header = |(name, value): &(_, std::sync::Arc<str>)| {
        (format!("{name}"), field_value(&format!("{name}"), value))
    };
    entries([
        ("method", Some(text(method))),
        ("path", Some(text(path))),
        ("host", host.as_ref().map(text)),
        ("expect_status", Some(Tree::List(statuses.iter().map(range).collect()))),
        ("expect_body", body.as_ref().map(text)),
        ("header", (!headers.is_empty()).then(|| Tree::Table(headers.iter().map(header).collect()))),
    ])
}

fn step(step: &Step) -> Tree {
    match step {
        Step::Send(bytes) => table([("send", Some(text(script::encode(bytes))))]),
        Step::Expect(any) => table([("expect", Some(texts(any.iter().map(|bytes| script::encode(bytes)))))]),
    }
}
