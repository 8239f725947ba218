//! A response head: checked (RFC 9112 sections 4, 6; RFC 9110 section 15) and written again for the client in the
//! same step.
//!
//! Pure. A response that could be read in two ways is [`Malformed`] and never reaches a client.

use httparse::Header;

use super::{
    edit::Edits,
    field::{ConnectionOptions, Copier, Known, known, with_fields, write, write_decimal},
    request::{Method, Request},
    scan::Found,
};
use crate::{
    date::DateCache,
    relay::{body::Body, chunked::Emit},
    syntax,
};

/// What the exchange needs to know of a response after its head has been forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// 100 to 599.
    pub status: u16,
    /// The framing of the body towards the client.
    pub body: Body,
    /// The backend lets the connection be used again.
    pub reusable: bool,
    /// The client's connection goes on after this response.
    pub keep_alive: bool,
}

impl Response {
    /// An interim response: another head follows.
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

/// What the rewriting needs to know of the exchange.
pub struct Reader<'a> {
    /// The request this answers.
    pub request: &'a Request,
    /// The client's connection may go on, as far as we are concerned.
    pub keep_alive: bool,
    /// Add `Via`.
    pub via: bool,
    /// For responses without a `Date`.
    pub date: &'a DateCache,
    /// What the route changes in a final response.
    pub edits: Edits<'a>,
    /// Whole field lines of ours for a final response, such as a sticky cookie; mostly empty.
    pub added: &'a [u8],
}

#[derive(Default)]
struct Seen<'a> {
    options: ConnectionOptions<'a>,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
    date: bool,
}

/// It is no response, or one that could be read in two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Checks the head that `found` marks in `bytes` and writes the head for the client to `out`.
pub fn rewrite(
    bytes: &[u8],
    found: Found,
    reader: &Reader<'_>,
    out: &mut Vec<u8>,
) -> Result<Response, Malformed> {
    let line = bytes.get(found.start..found.fields.saturating_sub(2)).ok_or(Malformed)?;
    let fields = bytes.get(found.fields..found.end).ok_or(Malformed)?;
    let line = status_line(line)?;
    let outcome = with_fields(fields, |parsed| {
        Ok(see(parsed).and_then(|seen| forward(&line, &seen, parsed, fields, reader, out)))
    });
    outcome.unwrap_or(Err(Malformed))
}

struct Line<'a> {
    http10: bool,
    status: u16,
    /// The three digits, and the reason phrase with the space in front of it.
    rest: &'a [u8],
}

/// `HTTP/1.x SP 3DIGIT [SP reason]`; a missing last space is common and harmless.
fn status_line(line: &[u8]) -> Result<Line<'_>, Malformed> {
    let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ b'0'..=b'9', b' ', rest @ ..] = line else {
        return Err(Malformed);
    };
    let [a @ b'1'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9', reason @ ..] = rest else {
        return Err(Malformed);
    };
    let clean = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
    if !(reason.is_empty() || reason.starts_with(b" ")) || !reason.iter().all(clean) {
        return Err(Malformed);
    }
    let digit = |byte: &u8| u16::from(byte - b'0');
    Ok(Line { http10: *minor == b'0', status: digit(a) * 100 + digit(b) * 10 + digit(c), rest })
}

/// First pass: everything that decides.
fn see<'a>(fields: &[Header<'a>]) -> Result<Seen<'a>, Malformed> {
    let mut seen = Seen::default();
    for field in fields {
        match known(field.name.as_bytes()) {
            Known::ContentLength => {
                let length = syntax::content_length(field.value).ok_or(Malformed)?;
                if seen.length.is_some_and(|before| before != length) {
                    return Err(Malformed);
                }
                seen.length = Some(length);
            }
            Known::TransferEncoding if seen.chunked || !field.value.eq_ignore_ascii_case(b"chunked") => {
                return Err(Malformed);
            }
            Known::TransferEncoding => seen.chunked = true,
            Known::Connection => seen.options.add(field.value).map_err(|_| Malformed)?,
            Known::Upgrade => seen.upgrade = true,
            Known::Date => seen.date = true,
            _ => {}
        }
    }
    if seen.chunked && seen.length.is_some() { Err(Malformed) } else { Ok(seen) }
}

/// The framing of the body as the client will see it (RFC 9112 section 6.3).
fn framing(line: &Line<'_>, seen: &Seen<'_>, request: &Request) -> Result<Body, Malformed> {
    if seen.chunked && line.http10 {
        return Err(Malformed);
    }
    Ok(match line.status {
        100..=199 | 204 | 304 => Body::Done,
        _ if request.method == Method::Head => Body::Done,
        _ if seen.chunked => Body::chunked(if request.http10 { Emit::Content } else { Emit::Chunks }),
        _ => seen.length.map_or(Body::UntilEnd, Body::with_length),
    })
}

/// Second pass: the new head.
fn forward(
    line: &Line<'_>,
    seen: &Seen<'_>,
    parsed: &[Header<'_>],
    fields: &[u8],
    reader: &Reader<'_>,
    out: &mut Vec<u8>,
) -> Result<Response, Malformed> {
    let (request, switching) = (reader.request, line.status == 101);
    if switching && !(request.upgrade && seen.upgrade && seen.options.upgrade) {
        return Err(Malformed);
    }
    let body = framing(line, seen, request)?;
    let interim = line.status < 200;
    // Neither framing field may stand in these (RFC 9110 section 8.6, RFC 9112 section 6.1).
    let bare = interim || line.status == 204;
    let delimited_by_close = body == Body::UntilEnd || (seen.chunked && request.http10 && !body.is_done());
    let keep_alive = reader.keep_alive && request.keep_alive && !delimited_by_close;
    let (edits, added) =
        if interim && !switching { Default::default() } else { (reader.edits, reader.added) };
    write(out, &[b"HTTP/1.1 ", line.rest, if line.rest.len() == 3 { b" \r\n" } else { b"\r\n" }]);
    let mut copier = Copier::new(fields, out);
    let mut length_written = false;
    for (index, field) in parsed.iter().enumerate() {
        let name = known(field.name.as_bytes());
        let keep = match name {
            Known::ContentLength => !bare && !length_written && syntax::decimal(field.value).is_some(),
            Known::Upgrade => switching,
            Known::TransferEncoding | Known::Connection | Known::Hop => false,
            _ => !seen.options.nominates(field.name.as_bytes()) && !edits.removes(field.name.as_bytes()),
        };
        copier.line(keep, parsed.get(index + 1));
        if name == Known::ContentLength {
            if !keep && !bare && !length_written {
                let mut digits = Vec::new();
                write_decimal(&mut digits, seen.length.unwrap_or(0));
                copier.insert(&[b"Content-Length: ", &digits, b"\r\n"]);
            }
            length_written = true;
        }
    }
    let out = copier.finish();
    if !interim && !seen.date && !edits.removes(b"date") {
        write(out, &[b"Date: "]);
        reader.date.write(out);
        write(out, &[b"\r\n"]);
    }
    edits.write(out);
    write(out, &[added]);
    if reader.via {
        write(out, &[if line.http10 { b"Via: 1.0 ringway\r\n" } else { b"Via: 1.1 ringway\r\n" }]);
    }
    if seen.chunked && !bare && !request.http10 {
        write(out, &[b"Transfer-Encoding: chunked\r\n"]);
    }
    write(out, &[connection_field(switching, interim, keep_alive, request.http10), b"\r\n"]);
    let reusable = if line.http10 { seen.options.keep_alive } else { !seen.options.close };
    Ok(Response { status: line.status, reusable: reusable && body != Body::UntilEnd, body, keep_alive })
}

/// The `Connection` field of this hop.
fn connection_field(switching: bool, interim: bool, keep_alive: bool, http10: bool) -> &'static [u8] {
    match (switching, interim, keep_alive, http10) {
        (true, ..) => b"Connection: upgrade\r\n",
        (_, true, ..) | (_, _, true, false) => b"",
        (_, _, true, true) => b"Connection: keep-alive\r\n",
        (_, _, false, _) => b"Connection: close\r\n",
    }
}

#[cfg(test)]
#[path = "response_tests.rs"]
mod tests;
