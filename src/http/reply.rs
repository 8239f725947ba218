//! Responses the balancer makes itself (RFC 9110 section 15), complete with framing.

use super::{
    edit::Edits,
    field::{write, write_decimal},
};
use crate::{config::plan::route::FixedAnswer, date::DateCache};

/// Everything about a local response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// What the body says.
    pub text: &'static str,
    /// When asking again may help, in seconds.
    pub retry_after: Option<u32>,
}

impl Reply {
    /// The reply for a status, with the text users know it by.
    pub fn new(status: u16) -> Self {
        let text = match status {
            503 => "Service not available",
            status => reason(status),
        };
        Reply { status, text, retry_after: None }
    }

    /// The reply to a client that must not ask, or not before so many seconds (RFC 9110 section 10.2.3).
    pub fn denied(status: u16, retry_after: Option<u32>) -> Self {
        Reply { retry_after, ..Reply::new(status) }
    }

    /// Writes the response; a HEAD request gets the head alone.
    pub fn write(self, out: &mut Vec<u8>, keep_alive: bool, head_only: bool, date: &DateCache) {
        write(out, &[b"HTTP/1.1 "]);
        write_decimal(out, u64::from(self.status));
        write(out, &[b" ", reason(self.status).as_bytes(), b"\r\nDate: "]);
        date.write(out);
        write(out, &[b"\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: "]);
        write_decimal(out, self.text.len() as u64 + 1);
        if let Some(seconds) = self.retry_after {
            write(out, &[b"\r\nRetry-After: "]);
            write_decimal(out, u64::from(seconds));
        }
        if self.status == 405 {
            write(out, &[b"\r\nAllow: ", METHODS.as_bytes()]);
        }
        write(out, &[if keep_alive { b"\r\n\r\n" } else { b"\r\nConnection: close\r\n\r\n" }]);
        if !head_only {
            write(out, &[self.text.as_bytes(), b"\n"]);
        }
    }
}

/// An answer that a route gives.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    status: u16,
    /// Media type and content, if it has any.
    content: Option<(&'a str, &'a [u8])>,
    location: &'a [u8],
    edits: Edits<'a>,
}

impl<'a> Answer<'a> {
    /// A fixed answer, with what the route changes in responses.
    pub fn fixed(answer: &'a FixedAnswer, edits: Edits<'a>) -> Self {
        let content = Some((&*answer.content_type, &*answer.body));
        Answer { status: answer.status, content, location: b"", edits }
    }

    /// A redirect to this `Location`, with what the route changes in responses.
    pub fn redirect(status: u16, location: &'a [u8], edits: Edits<'a>) -> Self {
        Answer { status, content: None, location, edits }
    }

    /// Writes the response; a HEAD request gets the head alone.
    pub fn write(self, out: &mut Vec<u8>, keep_alive: bool, head_only: bool, date: &DateCache) {
        // Neither has content, whatever the plan says (RFC 9110 sections 15.3.5 and 15.4.5).
        let bare = matches!(self.status, 204 | 304);
        write(out, &[b"HTTP/1.1 "]);
        write_decimal(out, u64::from(self.status));
        write(out, &[b" ", reason(self.status).as_bytes(), b"\r\n"]);
        if !self.edits.removes(b"date") {
            write(out, &[b"Date: "]);
            date.write(out);
            write(out, &[b"\r\n"]);
        }
        if !self.location.is_empty() && !self.edits.removes(b"location") {
            write(out, &[b"Location: ", self.location, b"\r\n"]);
        }
        let (kind, body) = self.content.filter(|_| !bare && self.status != 205).unwrap_or_default();
        if !body.is_empty() && !self.edits.removes(b"content-type") {
            write(out, &[b"Content-Type: ", kind.as_bytes(), b"\r\n"]);
        }
        self.edits.write(out);
        if !bare {
            write(out, &[b"Content-Length: "]);
            write_decimal(out, body.len() as u64);
            write(out, &[b"\r\n"]);
        }
        write(out, &[if keep_alive { b"\r\n" } else { b"Connection: close\r\n\r\n" }]);
        if !head_only {
            write(out, &[body]);
        }
    }
}

/// What `Allow` says when we must answer for the backends.
pub const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE";

/// The answer to OPTIONS whose Max-Forwards is 0 (RFC 9110 section 7.6.2).
pub fn options(out: &mut Vec<u8>, keep_alive: bool, date: &DateCache) {
    write(out, &[b"HTTP/1.1 200 OK\r\nDate: "]);
    date.write(out);
    write(out, &[b"\r\nAllow: ", METHODS.as_bytes(), b"\r\nContent-Length: 0\r\n"]);
    write(out, &[if keep_alive { b"\r\n" } else { b"Connection: close\r\n\r\n" }]);
}

/// The answer to TRACE whose Max-Forwards is 0: the request as received, without what could be a secret (RFC 9110
/// section 9.3.8).
pub fn trace(out: &mut Vec<u8>, head: &[u8], keep_alive: bool, date: &DateCache) {
    let secret = |line: &&[u8]| {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        ["cookie", "authorization", "proxy-authorization"]
            .iter()
            .any(|s| name.eq_ignore_ascii_case(s.as_bytes()))
    };
    let lines = || head.split_inclusive(|byte| *byte == b'\n').filter(|line| !secret(line));
    write(out, &[b"HTTP/1.1 200 OK\r\nDate: "]);
    date.write(out);
    write(out, &[b"\r\nContent-Type: message/http\r\nContent-Length: "]);
    write_decimal(out, lines().map(<[u8]>::len).sum::<usize>() as u64);
    write(out, &[if keep_alive { b"\r\n\r\n" } else { b"\r\nConnection: close\r\n\r\n" }]);
    lines().for_each(|line| out.extend_from_slice(line));
}

/// The registered reason phrase of a status (RFC 9110 section 15, RFC 6585), or that of its class.
fn reason(status: u16) -> &'static str {
    match status {
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        // An unknown status means what the first of its class means (RFC 9110 section 15).
        _ => match status / 100 {
            2 => "OK",
            3 => "Multiple Choices",
            4 => "Bad Request",
            _ => "Internal Server Error",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::route::FieldEdits;

    #[test]
    fn the_length_is_that_of_the_body() {
        for status in [400, 405, 502, 503, 505] {
            let mut out = Vec::new();
            Reply::new(status).write(&mut out, false, false, &DateCache::default());
            let text = String::from_utf8(out).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}", body.len())), "{text}");
            assert!(head.contains("Connection: close"));
        }
    }

    #[test]
    fn who_asks_too_often_is_told_when_to_ask_again() {
        let mut out = Vec::new();
        Reply::denied(429, Some(12)).write(&mut out, true, false, &DateCache::default());
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.starts_with("HTTP/1.1 429 Too Many Requests\r\n")
                && text.contains("\r\nRetry-After: 12\r\n")
        );
        assert!(text.ends_with("\r\n\r\nToo Many Requests\n"), "{text}");
    }

    fn written(answer: Answer<'_>, keep_alive: bool, head_only: bool) -> String {
        let mut out = Vec::new();
        answer.write(&mut out, keep_alive, head_only, &DateCache::default());
        let text = String::from_utf8(out).unwrap();
        let date = text.find("Date: ").map(|at| text[at..at + 37].to_owned());
        date.map_or(text.clone(), |date| text.replace(&date, ""))
    }

    #[test]
    fn a_fixed_answer_has_its_content_but_not_for_head() {
        let fixed =
            |status| FixedAnswer { status, content_type: "text/html".into(), body: b"<p>".as_slice().into() };
        let (down, none, reset) = (fixed(503), fixed(204), fixed(205));
        let answer = Answer::fixed(&down, Edits::default());
        let head = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html\r\nContent-Length: 3\r\n";
        assert_eq!(written(answer, true, false), format!("{head}\r\n<p>"));
        assert_eq!(written(answer, false, false), format!("{head}Connection: close\r\n\r\n<p>"));
        assert_eq!(written(answer, true, true), format!("{head}\r\n"));
        let bare = written(Answer::fixed(&none, Edits::default()), true, false);
        assert_eq!(bare, "HTTP/1.1 204 No Content\r\n\r\n");
        let empty = written(Answer::fixed(&reset, Edits::default()), true, false);
        assert_eq!(empty, "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n");
    }

    #[test]
    fn a_redirect_names_the_place_and_edits_apply() {
        let edits = FieldEdits {
            remove: vec!["date".into(), "content-length".into()],
            write: vec![("Retry-After".into(), "1".into()), ("Content-Length".into(), "9".into())],
        };
        let answer = Answer::redirect(308, b"https://a/b?c", Edits::new(&edits));
        assert_eq!(
            written(answer, true, false),
            "HTTP/1.1 308 Permanent Redirect\r\nLocation: https://a/b?c\r\nRetry-After: 1\r\n\
             Content-Length: 0\r\n\r\n"
        );
    }

    #[test]
    fn nobody_left_says_so_in_the_promised_words() {
        let mut out = Vec::new();
        Reply::new(503).write(&mut out, true, false, &DateCache::default());
        assert!(out.ends_with(b"\r\n\r\nService not available\n"));
    }

    #[test]
    fn a_trace_keeps_secrets() {
        let mut out = Vec::new();
        trace(&mut out, b"TRACE / HTTP/1.1\r\nCookie: a\r\nX: y\r\n\r\n", true, &DateCache::default());
        assert!(out.ends_with(b"\r\n\r\nTRACE / HTTP/1.1\r\nX: y\r\n\r\n"));
    }
}
