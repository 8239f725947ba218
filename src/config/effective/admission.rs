//! What a listener or a route asks of clients, in the words of the file.

use super::write::{Tree, table, text};
use crate::config::{
    plan::admission::{AdmissionPlan, RateKey, RateLimit},
    units::format_rate,
};

/// Its keys.
pub(super) fn keys(asked: &AdmissionPlan) -> Tree {
    let AdmissionPlan { allow, deny, rate, connections_per_client } = asked;
    let RateLimit { rate, burst, key } = match rate {
        Some(limit) => limit,
        None => {
            return table([
                ("allow", (!allow.is_empty()).then(|| text(allow))),
                ("deny", (!deny.is_empty()).then(|| text(deny))),
                ("max_connections_per_client", connections_per_client.map(|max| max.get().into())),
            ]);
        }
    };
    let key = match key {
        RateKey::ClientAddress => text("client-address"),
        RateKey::All => text("all"),
        RateKey::Header(name) => table([("header", Some(text(name)))]),
    };
    let without = AdmissionPlan { rate: None, ..asked.clone() };
    keys(&without).and(table([
        ("rate_limit", Some(Tree::Text(format_rate(rate.count, rate.per)))),
        ("rate_burst", Some((*burst).into())),
        ("rate_key", Some(key)),
    ]))
}
