//! A request head: checked strictly (RFC 9112 sections 3, 6, 7; RFC 9110 section 7) and written again for the
//! backend in the same step.
//!
//! Pure. What it forwards is unambiguous to every receiver; whatever is not gets a [`Refusal`].

use httparse::Header;

use super::{
    field::{BadFields, ConnectionOptions, Copier, Known, known, with_fields, write, write_decimal},
    scan::Found,
};
use crate::{
    config::plan::HeaderPolicy,
    relay::{body::Body, chunked::Emit},
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
    /// Everything else: may change state, is never sent twice.
    Other,
}

impl Method {
    fn from_token(token: &[u8]) -> Self {
        match token {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"OPTIONS" => Method::Options,
            b"TRACE" => Method::Trace,
            _ => Method::Other,
        }
    }

    /// Safe in the sense of RFC 9110 section 9.2.1, hence repeatable.
    pub fn is_safe(self) -> bool {
        !matches!(self, Method::Other)
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
}

/// The request line taken apart.
struct Line<'a> {
    method_token: &'a [u8],
    method: Method,
    target: Target<'a>,
    http10: bool,
}

/// Checks the head that `found` marks in `bytes` and writes the head for the backend to `out`.
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
            see(parsed, line.http10).and_then(|seen| forward(&line, &seen, parsed, fields, origin, out));
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

/// Second pass: the new head.
fn forward(
    line: &Line<'_>,
    seen: &Seen<'_>,
    parsed: &[Header<'_>],
    fields: &[u8],
    origin: Origin<'_>,
    out: &mut Vec<u8>,
) -> Result<Request, Refusal> {
    let body = match seen.length {
        _ if seen.chunked => Body::chunked(Emit::Chunks),
        Some(length) => Body::with_length(length),
        None => Body::Done,
    };
    if line.method == Method::Trace && !body.is_done() {
        return Err(Refusal::TraceWithBody);
    }
    let counted = matches!(line.method, Method::Options | Method::Trace);
    let upgrade = seen.upgrade && seen.options.upgrade && !line.http10 && !seen.upgrade_h2c && body.is_done();
    let host = write_line(line, seen.host, origin.local, out);
    let mut copier = Copier::new(fields, out);
    let (mut length_written, mut host_written) = (false, false);
    for (index, field) in parsed.iter().enumerate() {
        let name = known(field.name.as_bytes());
        let keep = match name {
            Known::Host => !matches!(line.target, Target::Absolute(..)),
            Known::ContentLength => !length_written && syntax::decimal(field.value).is_some(),
            Known::Upgrade => upgrade,
            Known::Expect => !line.http10,
            Known::MaxForwards => !counted,
            Known::ForwardedFor | Known::ForwardedProto | Known::ForwardedHost => {
                origin.policy.trust_forwarded && name != Known::ForwardedFor
            }
            Known::TransferEncoding | Known::Connection | Known::Hop => false,
            Known::Date | Known::Other => !seen.options.nominates(field.name.as_bytes()),
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
    if let Some(left) = seen.max_forwards.filter(|_| counted) {
        write(out, &[b"Max-Forwards: "]);
        write_decimal(out, left.saturating_sub(1));
        write(out, &[b"\r\n"]);
    }
    write_added(line, seen, parsed, host, upgrade, origin, out);
    Ok(Request {
        method: line.method,
        http10: line.http10,
        keep_alive: !seen.options.close && (!line.http10 || seen.options.keep_alive),
        body,
        upgrade,
        expects_continue: seen.expects_continue && !line.http10,
        last_hop: counted && seen.max_forwards == Some(0),
    })
}

/// Writes the request line in origin-form (or `*`) and returns the host that goes with it.
fn write_line<'a>(line: &Line<'a>, host: Option<&'a [u8]>, local: &'a str, out: &mut Vec<u8>) -> &'a [u8] {
    write(out, &[line.method_token, b" "]);
    let host = match line.target {
        Target::Origin(path) => {
            write(out, &[path]);
            host
        }
        Target::Asterisk => {
            write(out, &[b"*"]);
            host
        }
        Target::Absolute(authority, path) => {
            match path {
                // RFC 9112 section 3.2.4: no path at all in an absolute OPTIONS means the server itself.
                b"" if line.method == Method::Options => write(out, &[b"*"]),
                [b'/', ..] => write(out, &[path]),
                _ => write(out, &[b"/", path]),
            }
            Some(authority)
        }
    };
    write(out, &[b" HTTP/1.1\r\n"]);
    host.unwrap_or(local.as_bytes())
}

/// Writes the fields of this hop and ends the head.
fn write_added(
    line: &Line<'_>,
    seen: &Seen<'_>,
    parsed: &[Header<'_>],
    host: &[u8],
    upgrade: bool,
    origin: Origin<'_>,
    out: &mut Vec<u8>,
) {
    let trusted = origin.policy.trust_forwarded;
    let known_client = !origin.client.is_empty();
    let has = |wanted: Known| trusted && parsed.iter().any(|field| known(field.name.as_bytes()) == wanted);
    let earlier =
        parsed.iter().filter(|field| trusted && known(field.name.as_bytes()) == Known::ForwardedFor);
    let all = earlier.map(|field| field.value).chain(known_client.then_some(origin.client.as_bytes()));
    for (index, address) in all.enumerate() {
        write(out, &[if index == 0 { b"X-Forwarded-For: " } else { b", " }, address]);
    }
    if known_client || trusted && seen.forwarded_for {
        write(out, &[b"\r\n"]);
    }
    if !has(Known::ForwardedProto) {
        write(out, &[b"X-Forwarded-Proto: http\r\n"]);
    }
    if !has(Known::ForwardedHost) {
        write(out, &[b"X-Forwarded-Host: ", host, b"\r\n"]);
    }
    if origin.policy.via {
        write(out, &[if line.http10 { b"Via: 1.0 ringway\r\n" } else { b"Via: 1.1 ringway\r\n" }]);
    }
    if seen.chunked {
        write(out, &[b"Transfer-Encoding: chunked\r\n"]);
    }
    if upgrade {
        write(out, &[b"Connection: upgrade\r\n"]);
    }
    write(out, &[b"\r\n"]);
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
