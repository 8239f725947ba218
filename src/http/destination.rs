//! Where a request goes: its cluster, the key it is hashed by, and the backend its client is pinned to.
//!
//! Looks at the head as the client sent it, before it is replaced by the one for the backend, and only at what the
//! cluster asks for.

use std::net::IpAddr;

use super::{field::with_fields, scan::Found};
use crate::{
    admission::rule::Denied,
    cluster::Cluster,
    config::plan::{
        cluster::{HashKey, Sticky},
        route::Action,
    },
    io::alarm::Millis,
    route::path::split_query,
    shard::{Setup, Wish},
    stats::worker::WorkerStats,
    sticky::cookie::pairs,
    syntax::{self, Target},
};

/// Why a request goes to no cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nowhere {
    /// It is answered here, or nothing serves it.
    Unserved,
    /// It must not go on.
    Denied(Denied),
}

/// Where a request goes that `route` has taken, or no route of the listener.
pub fn find(
    setup: &Setup,
    listener: usize,
    route: Option<usize>,
    client: Option<IpAddr>,
    head: Head<'_>,
    now: Millis,
    stats: &WorkerStats,
) -> Result<Wish, Nowhere> {
    let header = |name: &[u8]| head.first(name, Some);
    match setup.blueprint.admission.denies((listener, route), client, header, stats) {
        Some(denied) => Err(Nowhere::Denied(denied)),
        None => served(setup, listener, route, client, head, now).ok_or(Nowhere::Unserved),
    }
}

fn served(
    setup: &Setup,
    listener: usize,
    route: Option<usize>,
    client: Option<IpAddr>,
    head: Head<'_>,
    now: Millis,
) -> Option<Wish> {
    let plan = setup.plan();
    let action = route.and_then(|route| plan.routes.get(route)).map(|route| &route.action);
    let index = match (action, route) {
        (Some(Action::Forward(_)), Some(route)) => setup.share(route),
        (Some(_), _) => None,
        _ => plan.listeners.get(listener).and_then(|listener| listener.cluster),
    }?;
    let (cluster, plan) = (setup.clusters.get(index)?, plan.clusters.get(index)?);
    let key = if cluster.is_keyed() { key(cluster, &plan.hash_key, client, head) } else { 0 };
    let pinned = match &plan.sticky {
        None => None,
        Some(Sticky::Cookie(_)) => setup.blueprint.pins(index).and_then(|pins| head.pinned(pins)),
        Some(Sticky::ClientAddress(_)) => setup.remembered(index, client, now),
    };
    Some(Wish { cluster: index, key, pinned, client })
}

/// A request without what is asked for is hashed by its client.
fn key(cluster: &Cluster, by: &HashKey, client: Option<IpAddr>, head: Head<'_>) -> u64 {
    match head.hashed(by) {
        Some(bytes) => cluster.key(bytes),
        None => client.map_or(0, |client| cluster.key_of_client(client)),
    }
}

/// A request head as the client sent it.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// At least all of the head.
    pub bytes: &'a [u8],
    /// Where its parts are.
    pub found: Found,
}

impl<'a> Head<'a> {
    /// The bytes to hash; `None` for the client's address, or when the request does not have them.
    fn hashed(self, by: &HashKey) -> Option<&'a [u8]> {
        match by {
            HashKey::ClientAddress => None,
            HashKey::Header(name) => self.first(name.as_bytes(), Some),
            HashKey::Cookie(name) => self.first(b"cookie", |value| {
                pairs(value).find(|(known, _)| *known == name.as_bytes()).map(|(_, value)| value)
            }),
            HashKey::Path => self.target().map(|target| split_query(target).0),
            HashKey::Query(name) => {
                let query = split_query(self.target()?).1.get(1..)?;
                query.split(|byte| *byte == b'&').find_map(|pair| {
                    let rest = pair.strip_prefix(name.as_bytes())?;
                    rest.strip_prefix(b"=")
                })
            }
        }
    }

    /// The backend that one of its cookies names.
    fn pinned(self, pins: &crate::sticky::cookie::Pins) -> Option<usize> {
        with_fields(self.fields(), |fields| {
            let cookies = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("cookie"));
            Ok(pins.find(cookies.map(|field| field.value)))
        })
        .ok()?
    }

    /// What `wanted` finds in the first field of this name in which it finds something.
    fn first(self, name: &[u8], wanted: impl Fn(&'a [u8]) -> Option<&'a [u8]>) -> Option<&'a [u8]> {
        with_fields(self.fields(), |fields| {
            let mut named = fields.iter().filter(|field| field.name.as_bytes().eq_ignore_ascii_case(name));
            Ok(named.find_map(|field| wanted(field.value)))
        })
        .ok()?
    }

    fn fields(self) -> &'a [u8] {
        self.bytes.get(self.found.fields..self.found.end).unwrap_or_default()
    }

    /// Path and query, whatever the form of the target.
    fn target(self) -> Option<&'a [u8]> {
        let line = self.bytes.get(self.found.start..self.found.fields)?;
        match syntax::target(line.split(|byte| *byte == b' ').nth(1)?).ok()? {
            Target::Origin(target) | Target::Absolute(_, target) => Some(target),
            Target::Asterisk => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::scan::Scan;

    fn hashed(text: &str, by: HashKey) -> Option<String> {
        let bytes = text.as_bytes();
        let found = Scan::default().advance(bytes).unwrap().unwrap();
        let head = Head { bytes, found };
        head.hashed(&by).map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn every_kind_of_key_is_found_or_missing() {
        let text = "\r\nGET /a/b?x=1&id=7&id=8 HTTP/1.1\r\nHost: h\r\nX-User: me\r\nCookie: a=1; sid=s\r\nCookie: sid=t\r\n\r\n";
        let of = |by| hashed(text, by);
        assert_eq!(of(HashKey::ClientAddress), None);
        assert_eq!(of(HashKey::Header("x-user".into())).as_deref(), Some("me"));
        assert_eq!(of(HashKey::Header("x-none".into())), None);
        assert_eq!(of(HashKey::Cookie("sid".into())).as_deref(), Some("s"));
        assert_eq!(of(HashKey::Cookie("si".into())), None);
        assert_eq!(of(HashKey::Path).as_deref(), Some("/a/b"));
        assert_eq!(of(HashKey::Query("id".into())).as_deref(), Some("7"));
        assert_eq!(of(HashKey::Query("i".into())), None);
        let absolute = "GET http://h/p?id=3 HTTP/1.1\r\nHost: h\r\n\r\n";
        assert_eq!(hashed(absolute, HashKey::Path).as_deref(), Some("/p"));
        assert_eq!(hashed(absolute, HashKey::Query("id".into())).as_deref(), Some("3"));
        assert_eq!(hashed("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", HashKey::Path), None);
    }
}
