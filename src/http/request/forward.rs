//! The second pass over a request's head: writes the one for the backend.
//!
//! Pure. Everything has been checked and decided before.

use httparse::Header;

use super::{Line, Origin, Request, Seen};
use crate::{
    config::plan::route::RoutePlan,
    http::{
        edit::Edits,
        field::{Copier, Known, known, write, write_decimal},
    },
    route::rewrite::{Asked, write_target},
    syntax::{self, Target},
};

/// A request on its way to a backend.
pub(super) struct Passed<'a, 'r> {
    pub(super) line: &'r Line<'a>,
    pub(super) seen: &'r Seen<'a>,
    pub(super) asked: Asked<'a>,
    pub(super) origin: Origin<'a>,
    pub(super) request: &'r Request,
    pub(super) plan: Option<&'a RoutePlan>,
}

impl<'a> Passed<'a, '_> {
    fn edits(&self) -> Edits<'a> {
        self.plan.map_or_else(Edits::default, |plan| Edits::new(&plan.rewrite.request))
    }
}

/// Second pass: the new head.
pub(super) fn forward(passed: &Passed<'_, '_>, parsed: &[Header<'_>], fields: &[u8], out: &mut Vec<u8>) {
    let Passed { line, seen, origin, request, .. } = *passed;
    let edits = passed.edits();
    let host = edits.host().unwrap_or(passed.asked.host);
    write_line(passed, out);
    let mut copier = Copier::new(fields, out);
    let (mut length_written, mut host_written) = (false, false);
    for (index, field) in parsed.iter().enumerate() {
        let name = known(field.name.as_bytes());
        let keep = match name {
            Known::Host => !matches!(line.target, Target::Absolute(..)) && edits.host().is_none(),
            Known::ContentLength => !length_written && syntax::decimal(field.value).is_some(),
            Known::Upgrade => request.upgrade,
            Known::Expect => !line.http10,
            Known::MaxForwards => !line.is_counted(),
            Known::ForwardedFor => false,
            Known::ForwardedProto | Known::ForwardedHost => {
                origin.policy.trust_forwarded && !edits.removes(field.name.as_bytes())
            }
            Known::TransferEncoding | Known::Connection | Known::Hop => false,
            Known::Date | Known::IdempotencyKey | Known::Other => {
                !seen.options.nominates(field.name.as_bytes()) && !edits.removes(field.name.as_bytes())
            }
        };
        copier.line(keep, parsed.get(index + 1));
        match name {
            Known::Host if !keep => {
                copier.insert(&[field.name.as_bytes(), b": ", host, b"\r\n"]);
                host_written = true;
            }
            Known::Host => host_written = true,
            Known::ContentLength if !keep && !length_written => {
                let mut digits = Vec::new();
                write_decimal(&mut digits, seen.length.unwrap_or(0));
                copier.insert(&[b"Content-Length: ", &digits, b"\r\n"]);
                length_written = true;
            }
            Known::ContentLength => length_written = true,
            _ => {}
        }
    }
    let out = copier.finish();
    if !host_written {
        write(out, &[b"Host: ", host, b"\r\n"]);
    }
    if let Some(left) = seen.max_forwards.filter(|_| line.is_counted()) {
        write(out, &[b"Max-Forwards: "]);
        write_decimal(out, left.saturating_sub(1));
        write(out, &[b"\r\n"]);
    }
    write_added(passed, parsed, edits, out);
}

/// Writes the request line in origin-form (or `*`).
fn write_line(passed: &Passed<'_, '_>, out: &mut Vec<u8>) {
    let target = passed.asked.target;
    write(out, &[passed.line.method_token, b" "]);
    match passed.plan.and_then(|plan| Some((&plan.path, plan.rewrite.prefix.as_deref()?))) {
        Some((by, prefix)) => write_target(out, target, by, prefix),
        None if matches!(target, [] | [b'?', ..]) => write(out, &[b"/", target]),
        None => write(out, &[target]),
    }
    write(out, &[b" HTTP/1.1\r\n"]);
}

/// Writes the fields of this hop and those of the route, and ends the head.
fn write_added(passed: &Passed<'_, '_>, parsed: &[Header<'_>], edits: Edits<'_>, out: &mut Vec<u8>) {
    let Passed { line, seen, asked, origin, request, .. } = *passed;
    let trusted = origin.policy.trust_forwarded;
    let client = (!origin.client.is_empty()).then_some(origin.client.as_bytes());
    let has = |wanted: Known| trusted && parsed.iter().any(|field| known(field.name.as_bytes()) == wanted);
    if (client.is_some() || trusted && seen.forwarded_for) && !edits.removes(b"x-forwarded-for") {
        let earlier =
            parsed.iter().filter(|field| trusted && known(field.name.as_bytes()) == Known::ForwardedFor);
        for (index, address) in earlier.map(|field| field.value).chain(client).enumerate() {
            write(out, &[if index == 0 { b"X-Forwarded-For: " } else { b", " }, address]);
        }
        write(out, &[b"\r\n"]);
    }
    if !has(Known::ForwardedProto) && !edits.removes(b"x-forwarded-proto") {
        write(out, &[b"X-Forwarded-Proto: http\r\n"]);
    }
    if !has(Known::ForwardedHost) && !edits.removes(b"x-forwarded-host") {
        write(out, &[b"X-Forwarded-Host: ", asked.host, b"\r\n"]);
    }
    edits.write(out);
    if origin.policy.via {
        write(out, &[if line.http10 { b"Via: 1.0 ringway\r\n" } else { b"Via: 1.1 ringway\r\n" }]);
    }
    if seen.chunked {
        write(out, &[b"Transfer-Encoding: chunked\r\n"]);
    }
    if request.upgrade {
        write(out, &[b"Connection: upgrade\r\n"]);
    }
    write(out, &[b"\r\n"]);
}
