//! A request head: checked strictly (RFC 9112 sections 3, 6, 7; RFC 9110 section 7) and written again for the
//! backend in the same step.
//!
//! Pure. What it forwards is unambiguous to every receiver; whatever is not gets a [`Refusal`]. The route is asked for
//! in between, because it may change what is written.

mod forward;

use std::num::NonZeroU64;

use httparse::Header;

use self::forward::{Passed, forward};
use super::{
    field::{BadFields, ConnectionOptions, Known, known, with_fields},
    scan::Found,
};
use crate::{
    config::plan::{HeaderPolicy, route::Action},
    relay::{
        body::{Body, Wrong},
        chunked::Emit,
    },
    route::{
        Routes,
        rewrite::{Asked, write_location},
        table::Question,
    },
    stats::names::Refusal,
    syntax::{self, BadTarget, Target},
};

/// What a method means to an intermediary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Safe, with a response body.
    Get,
    /// Safe, without one.
    Head,
    /// Safe; may be about the server as a whole.
    Options,
    /// Safe; a loop-back of the request.
    Trace,
    /// PUT and DELETE: may change state, but doing it twice is as doing it once.
    Idempotent,
    /// Everything else: may change state.
    Other,
}

impl Method {
    fn from_token(token: &[u8]) -> Self {
        match token {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"OPTIONS" => Method::Options,
            b"TRACE" => Method::Trace,
            b"PUT" | b"DELETE" => Method::Idempotent,
            _ => Method::Other,
        }
    }

    /// Safe in the sense of RFC 9110 section 9.2.1, hence repeatable.
    pub fn is_safe(self) -> bool {
        !matches!(self, Method::Idempotent | Method::Other)
    }
}

/// What the exchange needs to know of a request after its head has been forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What the method means.
    pub method: Method,
    /// The client speaks HTTP/1.0.
    pub http10: bool,
    /// The client wants to go on with this connection.
    pub keep_alive: bool,
    /// The framing of the body.
    pub body: Body,
    /// The client offers to switch protocols.
    pub upgrade: bool,
    /// The client holds its body back until it hears of us (`Expect: 100-continue`).
    pub expects_continue: bool,
    /// `Max-Forwards: 0`: the answer is ours (RFC 9110 section 7.6.2).
    pub last_hop: bool,
    /// It has an `Idempotency-Key`: its sender says that it may be sent again.
    pub has_idempotency_key: bool,
    /// The route that takes it, as an index into the plan's.
    pub route: Option<usize>,
}

/// What the rewriting needs to know of the connection.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The client's address in text; empty when it has none, behind a UNIX socket.
    pub client: &'a str,
    /// The address the client has reached, for requests without a Host.
    pub local: &'a str,
    /// What to add.
    pub policy: HeaderPolicy,
    /// The listener's routes, if it has any.
    pub routes: Option<Routes<'a>>,
    /// Bytes of content that a request may have, unless its route says something else.
    pub body_max: Option<NonZeroU64>,
}

/// The fields of one head that matter here.
#[derive(Default)]
struct Seen<'a> {
    options: ConnectionOptions<'a>,
    host: Option<&'a [u8]>,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
    upgrade_h2c: bool,
    max_forwards: Option<u64>,
    forwarded_for: bool,
    expects_continue: bool,
    idempotency_key: bool,
}

/// The request line taken apart.
struct Line<'a> {
    method_token: &'a [u8],
    method: Method,
    target: Target<'a>,
    http10: bool,
}

impl Line<'_> {
    /// True when `Max-Forwards` counts its hops.
    fn is_counted(&self) -> bool {
        matches!(self.method, Method::Options | Method::Trace)
    }
}

/// Checks the head that `found` marks in `bytes` and writes the head for the backend to `out`; for a request whose
/// route redirects it, the `Location`, and for one whose route answers it, nothing.
pub fn rewrite(
    bytes: &[u8],
    found: Found,
    origin: Origin<'_>,
    out: &mut Vec<u8>,
) -> Result<Request, Refusal> {
    let line = bytes.get(found.start..found.fields.saturating_sub(2)).ok_or(Refusal::InvalidRequestLine)?;
    let fields = bytes.get(found.fields..found.end).ok_or(Refusal::InvalidHeader)?;
    let line = request_line(line)?;
    let mut refusal = None;
    let outcome = with_fields(fields, |parsed| {
        let result =
            see(parsed, line.http10).and_then(|seen| direct(&line, &seen, parsed, fields, origin, out));
        Ok(result.map_err(|why| refusal = Some(why)).ok())
    });
    match (outcome, refusal) {
        (_, Some(why)) => Err(why),
        (Ok(Some(request)), None) => Ok(request),
        (Err(BadFields::TooMany), _) => Err(Refusal::TooManyHeaders),
        (Err(BadFields::Connection), _) => Err(Refusal::InvalidConnectionField),
        (Ok(None) | Err(BadFields::Invalid), None) => Err(Refusal::InvalidHeader),
    }
}

fn request_line(line: &[u8]) -> Result<Line<'_>, Refusal> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(token), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refusal::InvalidRequestLine);
    };
    if !syntax::is_token(token) {
        return Err(Refusal::InvalidMethod);
    }
    let http10 = match version {
        b"HTTP/1.0" => true,
        // A higher minor version is answered as the highest we know (RFC 9110 section 2.5).
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => false,
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            return Err(Refusal::UnsupportedVersion);
        }
        _ => return Err(Refusal::InvalidVersion),
    };
    if token == b"CONNECT" {
        return Err(Refusal::ConnectMethod);
    }
    let target = syntax::target(target).map_err(|bad| match bad {
        BadTarget::Form => Refusal::InvalidTarget,
        BadTarget::Userinfo => Refusal::Userinfo,
    })?;
    if target == Target::Asterisk && token != b"OPTIONS" {
        return Err(Refusal::InvalidTarget);
    }
    Ok(Line { method_token: token, method: Method::from_token(token), target, http10 })
}

/// First pass: everything that decides.
fn see<'a>(fields: &[Header<'a>], http10: bool) -> Result<Seen<'a>, Refusal> {
    let mut seen = Seen::default();
    for field in fields {
        match known(field.name.as_bytes()) {
            Known::Host if seen.host.is_some() => return Err(Refusal::RepeatedHost),
            Known::Host if !syntax::is_host(field.value) => return Err(Refusal::InvalidHost),
            Known::Host => seen.host = Some(field.value),
            Known::ContentLength => {
                let length = syntax::content_length(field.value).ok_or(Refusal::InvalidContentLength)?;
                if seen.length.is_some_and(|before| before != length) {
                    return Err(Refusal::InvalidContentLength);
                }
                seen.length = Some(length);
            }
            Known::TransferEncoding if http10 => return Err(Refusal::TransferEncodingInHttp10),
            Known::TransferEncoding if seen.chunked || !field.value.eq_ignore_ascii_case(b"chunked") => {
                return Err(Refusal::UnknownTransferCoding);
            }
            Known::TransferEncoding => seen.chunked = true,
            Known::Connection => {
                seen.options.add(field.value).map_err(|_| Refusal::InvalidConnectionField)?;
            }
            Known::Upgrade => {
                seen.upgrade = true;
                seen.upgrade_h2c |= syntax::list(field.value).any(|token| token.eq_ignore_ascii_case(b"h2c"));
            }
            Known::MaxForwards => {
                seen.max_forwards = Some(syntax::decimal(field.value).ok_or(Refusal::InvalidMaxForwards)?);
            }
            Known::ForwardedFor => seen.forwarded_for = true,
            Known::IdempotencyKey => seen.idempotency_key = true,
            Known::Expect => seen.expects_continue |= field.value.eq_ignore_ascii_case(b"100-continue"),
            _ => {}
        }
    }
    if seen.chunked && seen.length.is_some() {
        return Err(Refusal::LengthWithTransferEncoding);
    }
    if seen.host.is_none() && !http10 {
        return Err(Refusal::MissingHost);
    }
    Ok(seen)
}

/// Between the passes: what the exchange needs to know, and the route.
fn direct(
    line: &Line<'_>,
    seen: &Seen<'_>,
    parsed: &[Header<'_>],
    fields: &[u8],
    origin: Origin<'_>,
    out: &mut Vec<u8>,
) -> Result<Request, Refusal> {
    let mut request = meaning(line, seen)?;
    let asked = asked(line, seen, parsed, origin);
    let mut plan = None;
    if let Some(routes) = origin.routes {
        let (path, method) = (asked.path(), line.method_token);
        if routes.are_fooled_by(path) {
            return Err(Refusal::DotSegment);
        }
        let found = routes.find(&Question { host: asked.host, path, method, fields: parsed });
        (request.route, plan) = found.unzip();
    }
    let body_max = plan.and_then(|plan| plan.request_body_max).unwrap_or(origin.body_max);
    if let Some(max) = body_max {
        request.body.limit(max.get()).map_err(Wrong::refusal)?;
    }
    match plan.map(|plan| (plan, &plan.action)) {
        Some((plan, Action::Redirect(redirect))) => write_location(out, redirect, &plan.path, asked),
        Some((_, Action::Respond(_))) => {}
        _ => forward(&Passed { line, seen, asked, origin, request: &request, plan }, parsed, fields, out),
    }
    Ok(request)
}

/// What a request means, before it has a route.
fn meaning(line: &Line<'_>, seen: &Seen<'_>) -> Result<Request, Refusal> {
    let body = match seen.length {
        _ if seen.chunked => Body::chunked(Emit::Chunks),
        Some(length) => Body::with_length(length),
        None => Body::Done,
    };
    if line.method == Method::Trace && !body.is_done() {
        return Err(Refusal::TraceWithBody);
    }
    Ok(Request {
        method: line.method,
        http10: line.http10,
        keep_alive: !seen.options.close && (!line.http10 || seen.options.keep_alive),
        upgrade: seen.upgrade && seen.options.upgrade && !line.http10 && !seen.upgrade_h2c && body.is_done(),
        body,
        expects_continue: seen.expects_continue && !line.http10,
        last_hop: line.is_counted() && seen.max_forwards == Some(0),
        has_idempotency_key: seen.idempotency_key,
        route: None,
    })
}

/// The host and the target, whatever the form of the request line.
fn asked<'a>(line: &Line<'a>, seen: &Seen<'a>, parsed: &[Header<'_>], origin: Origin<'a>) -> Asked<'a> {
    let host = seen.host.unwrap_or(origin.local.as_bytes());
    let (host, target): (_, &[u8]) = match line.target {
        Target::Origin(target) => (host, target),
        Target::Asterisk => (host, b"*"),
        // RFC 9112 section 3.2.4: no path at all in an absolute OPTIONS means the server itself.
        Target::Absolute(authority, b"") if line.method == Method::Options => (authority, b"*"),
        Target::Absolute(authority, target) => (authority, target),
    };
    let encrypted = |field: &Header<'_>| {
        known(field.name.as_bytes()) == Known::ForwardedProto && field.value.eq_ignore_ascii_case(b"https")
    };
    let encrypted = origin.routes.is_some() && origin.policy.trust_forwarded && parsed.iter().any(encrypted);
    Asked { scheme: if encrypted { "https" } else { "http" }, host, target }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
