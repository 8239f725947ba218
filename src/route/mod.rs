//! Routing: which route takes a request, which of its clusters gets it, and how its target is rewritten.
//!
//! Pure: no socket, no clock, no randomness. A [`Table`](table::Table) is built once for a plan and shared by all
//! workers; [`Shares`](share::Shares) belong to one worker.
//!
//! # Precedence
//!
//! Among all routes of the listener that fit a request the most specific one takes it, as in the Kubernetes Gateway
//! API:
//!
//! 1. the host: an exact one, then the wildcard with the longest suffix, then no host at all. `*.example.com` takes
//!    any number of labels in front (`a.b.example.com`), but at least one character; not `example.com` itself;
//! 2. the path: an exact one, then the longest prefix (whole segments: `/api` does not take `/apis`), then the first
//!    written expression that is found, then any path;
//! 3. a route with methods before one without;
//! 4. the one with more header conditions;
//! 5. the one written first.
//!
//! A route fits only as a whole: when the most specific one has another method or another header, the next less
//! specific one is asked, and behind the last one of a host those of the next less specific host. Expressions keep
//! the order in which they are written, whatever their routes ask besides.
//!
//! # What is compared
//!
//! Hosts without their port, without a dot at their end and without regard to case. Paths as they stand in the
//! request's target, byte for byte, but for the two things RFC 3986 section 6.2.2 calls equivalent: an escaped letter,
//! digit, `-`, `.`, `_` or `~` is that character (`/%61pi` is `/api`), and the digits of an escape may be of either
//! case. Nothing else is touched: `//` is not `/`, `%2F` is not `/`, `/Api` is not `/api`, and `/api;x` is another
//! segment than `/api`. The target itself is forwarded as it came, unless the route rewrites its prefix.
//!
//! # What must not be fooled
//!
//! A path that a receiver reads in another way than the table did could reach something behind a less specific route
//! that a more specific one should have taken. Nginx therefore normalises before it matches and, depending on a slash
//! in its configuration, forwards the one form or the other; Envoy normalises when told to (`normalize_path`,
//! `merge_slashes`, `path_with_escaped_slashes_action`) and forwards what it matched; HAProxy matches what came and
//! leaves the rest to `normalize-uri` rules. Here the table and the backend see the same bytes, and a target in which
//! they could still disagree about the hierarchy is refused with 400 while a listener has routes: one with a dot
//! segment in any disguise ([`path::has_dot_segment`]): `/api/../admin`, `/api/%2e%2E/admin`, `/api/..%2fadmin`,
//! `/api/..\admin`, `/api/..;x/admin`. No client that resolves references as RFC 3986 section 5.2.4 asks sends these.
//! A listener without routes forwards them as they are.
//!
//! What a backend merges on its own (`//`, letter case, `;parameters`) cannot be known here. A fixed answer such as 403
//! for `/admin` is therefore no guard as long as a less specific route leads to the same backend: there `//admin` or
//! `/Admin` may be the same thing.
//!
//! # Cost
//!
//! A look-up hashes the host once, once more for each label of the longest configured wildcard, and the segments of
//! the path until no configured path goes on. It does not depend on the number of routes, except for those that differ
//! in nothing but method or headers, and for expressions: these are tried one after the other.

mod draft;
mod host;
mod index;
pub mod path;
pub mod rewrite;
pub mod share;
pub mod table;

use crate::config::plan::route::RoutePlan;
use table::{Fields, Question, Table};

/// A listener's routes, as they are asked for a request.
#[derive(Debug, Clone, Copy)]
pub struct Routes<'a> {
    /// Which one it is.
    pub table: &'a Table,
    /// All of the plan.
    pub plans: &'a [RoutePlan],
}

impl<'a> Routes<'a> {
    /// The route that takes a request, with its place in the plan.
    pub fn find<F: Fields + ?Sized>(&self, question: &Question<'_, F>) -> Option<(usize, &'a RoutePlan)> {
        let index = self.table.find(question)?;
        Some((index, self.plans.get(index)?))
    }

    /// True when backends could read this path in another way than the table does.
    pub fn are_fooled_by(&self, path: &[u8]) -> bool {
        !self.table.is_empty() && path::has_dot_segment(path)
    }
}
