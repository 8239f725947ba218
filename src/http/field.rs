//! Header fields: which names mean something to an intermediary, and how a head's fields are copied on.
//!
//! End-to-end fields are copied byte for byte, in order, in runs as long as possible.

use httparse::Header;

use crate::{
    limits::{CONNECTION_OPTIONS_MAX, HEADERS_MAX, HEADERS_USUAL},
    syntax,
};

/// A field name the balancer acts upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// `Host`
    Host,
    /// `Content-Length`
    ContentLength,
    /// `Transfer-Encoding`
    TransferEncoding,
    /// `Connection`
    Connection,
    /// `Upgrade`
    Upgrade,
    /// `Expect`
    Expect,
    /// `Date`
    Date,
    /// `Max-Forwards`
    MaxForwards,
    /// `X-Forwarded-For`
    ForwardedFor,
    /// `X-Forwarded-Proto`
    ForwardedProto,
    /// `X-Forwarded-Host`
    ForwardedHost,
    /// `Idempotency-Key`
    IdempotencyKey,
    /// Belongs to one hop whether `Connection` names it or not: `Keep-Alive`, `Proxy-Connection`, `TE`, `Trailer`,
    /// `HTTP2-Settings`.
    Hop,
    /// End to end.
    Other,
}

/// Recognises a field name, by its length first.
pub fn known(name: &[u8]) -> Known {
    let is = |text: &[u8]| name.eq_ignore_ascii_case(text);
    match name.len() {
        2 if is(b"te") => Known::Hop,
        4 if is(b"host") => Known::Host,
        4 if is(b"date") => Known::Date,
        6 if is(b"expect") => Known::Expect,
        7 if is(b"upgrade") => Known::Upgrade,
        7 if is(b"trailer") => Known::Hop,
        10 if is(b"connection") => Known::Connection,
        10 if is(b"keep-alive") => Known::Hop,
        12 if is(b"max-forwards") => Known::MaxForwards,
        14 if is(b"content-length") => Known::ContentLength,
        14 if is(b"http2-settings") => Known::Hop,
        15 if is(b"idempotency-key") => Known::IdempotencyKey,
        15 if is(b"x-forwarded-for") => Known::ForwardedFor,
        16 if is(b"x-forwarded-host") => Known::ForwardedHost,
        16 if is(b"proxy-connection") => Known::Hop,
        17 if is(b"transfer-encoding") => Known::TransferEncoding,
        17 if is(b"x-forwarded-proto") => Known::ForwardedProto,
        _ => Known::Other,
    }
}

/// Why the fields of a head cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadFields {
    /// More than [`HEADERS_MAX`].
    TooMany,
    /// A name, a value or a line is invalid.
    Invalid,
    /// `Connection` is not a list of at most [`CONNECTION_OPTIONS_MAX`] tokens.
    Connection,
}

/// Parses the field lines of a head, up to and with its empty line, and hands them to `f`.
pub fn with_fields<'a, R>(
    bytes: &'a [u8],
    f: impl FnOnce(&[Header<'a>]) -> Result<R, BadFields>,
) -> Result<R, BadFields> {
    // Nearly every head fits a small table, which is much cheaper to clear than the full one.
    let mut few = [httparse::EMPTY_HEADER; HEADERS_USUAL];
    match parse_into(bytes, &mut few) {
        Err(BadFields::TooMany) => {
            let mut many = [httparse::EMPTY_HEADER; HEADERS_MAX];
            f(parse_into(bytes, &mut many)?)
        }
        parsed => f(parsed?),
    }
}

fn parse_into<'a, 't>(bytes: &'a [u8], table: &'t mut [Header<'a>]) -> Result<&'t [Header<'a>], BadFields> {
    match httparse::parse_headers(bytes, table) {
        Ok(httparse::Status::Complete((_, fields))) => Ok(fields),
        Err(httparse::Error::TooManyHeaders) => Err(BadFields::TooMany),
        Ok(httparse::Status::Partial) | Err(_) => Err(BadFields::Invalid),
    }
}

/// The options of all `Connection` fields of one head (RFC 9110 section 7.6.1).
#[derive(Debug, Default)]
pub struct ConnectionOptions<'a> {
    named: [&'a [u8]; CONNECTION_OPTIONS_MAX],
    count: usize,
    /// `close`
    pub close: bool,
    /// `keep-alive`
    pub keep_alive: bool,
    /// `upgrade`
    pub upgrade: bool,
}

impl<'a> ConnectionOptions<'a> {
    /// Adds one `Connection` field's value.
    pub fn add(&mut self, value: &'a [u8]) -> Result<(), BadFields> {
        for option in syntax::list(value) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else {
                let slot = self.named.get_mut(self.count).filter(|_| syntax::is_token(option));
                *slot.ok_or(BadFields::Connection)? = option;
                self.count += 1;
            }
        }
        Ok(())
    }

    /// True when the field belongs to this hop because `Connection` says so.
    pub fn nominates(&self, name: &[u8]) -> bool {
        self.named.iter().take(self.count).any(|option| option.eq_ignore_ascii_case(name))
    }
}

/// Copies kept field lines from a head to a new one, adjacent ones in one piece.
pub struct Copier<'a, 'o> {
    head: &'a [u8],
    out: &'o mut Vec<u8>,
    run: usize,
    at: usize,
}

impl<'a, 'o> Copier<'a, 'o> {
    /// Copies from `fields` (a head's field lines with the empty line at the end) to `out`.
    pub fn new(fields: &'a [u8], out: &'o mut Vec<u8>) -> Self {
        Copier { head: fields, out, run: 0, at: 0 }
    }

    /// Goes to the next line and keeps or drops it. `next` is the field behind it, if there is one.
    pub fn line(&mut self, keep: bool, next: Option<&Header<'_>>) {
        let end = match next {
            Some(field) => (field.name.as_ptr() as usize).saturating_sub(self.head.as_ptr() as usize),
            None => self.head.len().saturating_sub(2),
        };
        if !keep {
            self.flush();
            self.run = end;
        }
        self.at = end;
    }

    /// Writes a line of our own at this place, behind the lines kept so far.
    pub fn insert(&mut self, parts: &[&[u8]]) {
        self.flush();
        self.run = self.at;
        parts.iter().for_each(|part| self.out.extend_from_slice(part));
    }

    fn flush(&mut self) {
        self.out.extend_from_slice(self.head.get(self.run..self.at).unwrap_or_default());
    }

    /// Writes what is left and gives the new head back for more lines.
    pub fn finish(mut self) -> &'o mut Vec<u8> {
        self.flush();
        self.out
    }
}

/// Appends the parts of a line.
pub fn write(out: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Appends a number in decimal without allocating.
pub fn write_decimal(out: &mut Vec<u8>, mut number: u64) {
    let start = out.len();
    loop {
        out.push(b'0' + (number % 10) as u8);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    if let Some(digits) = out.get_mut(start..) {
        digits.reverse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_kept_byte_for_byte_and_dropped_whole() {
        let fields = b"A:1\r\nB:   2 \r\nC: 3\r\nd: 4\r\n\r\n";
        let mut out = Vec::new();
        with_fields(fields, |parsed| {
            let mut copier = Copier::new(fields, &mut out);
            for (index, field) in parsed.iter().enumerate() {
                copier.line(field.name != "C", parsed.get(index + 1));
                if field.name == "C" {
                    copier.insert(&[b"X: y\r\n"]);
                }
            }
            copier.finish();
            Ok(())
        })
        .unwrap();
        assert_eq!(out, b"A:1\r\nB:   2 \r\nX: y\r\nd: 4\r\n");
    }

    #[test]
    fn connection_options_are_split_and_bounded() {
        let mut options = ConnectionOptions::default();
        options.add(b"close, X-Secret ,, Upgrade").unwrap();
        assert!(options.close && options.upgrade && !options.keep_alive);
        assert!(options.nominates(b"x-secret") && !options.nominates(b"x-other"));
        assert_eq!(options.add(b"a b"), Err(BadFields::Connection));
        let many = ["x"; CONNECTION_OPTIONS_MAX + 1].join(",");
        assert_eq!(ConnectionOptions::default().add(many.as_bytes()), Err(BadFields::Connection));
    }

    #[test]
    fn invalid_lines_and_too_many_are_refused() {
        let parse = |bytes: &[u8]| with_fields(bytes, |_| Ok(()));
        for bad in [
            "A : b\r\n\r\n",
            " A: b\r\n\r\n",
            "A: b\r\n c\r\n\r\n",
            "A: b\x01\r\n\r\n",
            "A: b\rc\r\n\r\n",
            ": b\r\n\r\n",
            "A\r\n\r\n",
            "A: \x7f\r\n\r\n",
        ] {
            assert_eq!(parse(bad.as_bytes()), Err(BadFields::Invalid), "{bad:?}");
        }
        let many = "A: b\r\n".repeat(HEADERS_MAX + 1) + "\r\n";
        assert_eq!(parse(many.as_bytes()), Err(BadFields::TooMany));
        assert_eq!(parse(b"A: \xff\r\nB:\r\n\r\n"), Ok(()));
    }

    #[test]
    fn decimals() {
        let mut out = Vec::new();
        for number in [0, 9, 10, u64::MAX] {
            write_decimal(&mut out, number);
            out.push(b' ');
        }
        assert_eq!(out, b"0 9 10 18446744073709551615 ");
    }
}
