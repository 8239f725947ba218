//! How a client is kept with its backend.

use std::{ops::RangeInclusive, time::Duration};

use super::Findings;
use crate::{
    config::{
        file::{Sticky as StickyTable, StickyItem},
        mistake::Place,
        plan::cluster::{STICKY_ADDRESS_USUAL, SameSite, Sticky, StickyCookie},
        read::At,
    },
    syntax,
};

const ADDRESS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 3600);
/// Browsers forget a cookie after 400 days in any case.
const COOKIE_AGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(400 * 24 * 3600);

/// A word, or a table that says which way and for how long.
pub(super) fn sticky(
    findings: &mut Findings<'_>,
    At { place, value }: &At<StickyItem>,
    http_only: &mut Vec<(Place, String)>,
) -> Option<Sticky> {
    match value {
        StickyItem::ClientAddress => Some(Sticky::ClientAddress(STICKY_ADDRESS_USUAL)),
        StickyItem::Table(table) => of_table(findings, place, table, http_only),
    }
}

fn of_table(
    findings: &mut Findings<'_>,
    place: &Place,
    table: &StickyTable,
    http_only: &mut Vec<(Place, String)>,
) -> Option<Sticky> {
    match (table.cookie.given(), table.client_address.given()) {
        (Some(name), None) => {
            http_only.push((place.clone(), "a `cookie` needs HTTP".to_owned()));
            cookie(findings, table, name).map(Sticky::Cookie)
        }
        (None, Some(_)) => {
            let of_cookie = [
                ("key", table.key.place()),
                ("domain", table.domain.place()),
                ("path", table.path.place()),
                ("max_age", table.max_age.place()),
                ("secure", table.secure.place()),
                ("http_only", table.http_only.place()),
                ("same_site", table.same_site.place()),
            ];
            for (key, place) in of_cookie {
                if let Some(place) = place {
                    findings.mistake(place, format!("`{key}` is for a cookie, and there is none: leave it out, or write `cookie` in place of `client_address`"));
                }
            }
            let kept = findings.duration(&table.client_address, STICKY_ADDRESS_USUAL, &ADDRESS);
            Some(Sticky::ClientAddress(kept))
        }
        (None, None) if !(table.cookie.is_absent() && table.client_address.is_absent()) => None,
        _ => {
            findings.mistake(place, "write exactly one of `cookie` and `client_address`");
            None
        }
    }
}

fn cookie(findings: &mut Findings<'_>, table: &StickyTable, name: &At<String>) -> Option<StickyCookie> {
    let mut good = true;
    let mut refuse = |findings: &mut Findings<'_>, place: &Place, message: &str| {
        findings.mistake(place, message);
        good = false;
    };
    if !syntax::is_token(name.value.as_bytes()) {
        refuse(
            findings,
            &name.place,
            "this is no name of a cookie: write letters, digits and signs such as `-`, without blanks",
        );
    }
    if let Some(at) = table.domain.given()
        && (at.value.is_empty() || at.value.contains(':') || !syntax::is_host(at.value.as_bytes()))
    {
        refuse(findings, &at.place, "this is no domain: write one such as `example.com`");
    }
    let plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b';';
    if let Some(at) = table.path.given()
        && !(at.value.starts_with('/') && at.value.bytes().all(plain))
    {
        refuse(findings, &at.place, "this is no path: write one that begins with `/`, without `;`");
    }
    let secure = table.secure.get().copied().unwrap_or(false);
    if let Some(at) = table.same_site.given()
        && at.value == SameSite::None
        && !secure
    {
        refuse(findings, &at.place, "browsers take `none` only with `secure = true`: add it, or write `lax`");
    }
    let max_age =
        table.max_age.given().map(|_| findings.duration(&table.max_age, Duration::ZERO, &COOKIE_AGE));
    let key = table.key.get().map_or(findings.environment.sticky_key, |key| key.0);
    good.then(|| StickyCookie {
        name: name.value.as_str().into(),
        key,
        domain: table.domain.get().map(|domain| domain.as_str().into()),
        path: table.path.get().map_or("/", String::as_str).into(),
        max_age,
        secure,
        http_only: table.http_only.get().copied().unwrap_or(true),
        same_site: table.same_site.get().copied().unwrap_or_default(),
    })
}
