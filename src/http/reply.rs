//! Responses the balancer makes itself (RFC 9110 section 15), complete with framing.

use super::field::{write, write_decimal};
use crate::date::DateCache;

/// Everything about a local response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// What the body says.
    pub text: &'static str,
}

impl Reply {
    /// The reply for a status, with the text users know it by.
    pub fn new(status: u16) -> Self {
        let text = match status {
            503 => "Service not available",
            status => reason(status),
        };
        Reply { status, text }
    }

    /// Writes the response; a HEAD request gets the head alone.
    pub fn write(self, out: &mut Vec<u8>, keep_alive: bool, head_only: bool, date: &DateCache) {
        write(out, &[b"HTTP/1.1 "]);
        write_decimal(out, u64::from(self.status));
        write(out, &[b" ", reason(self.status).as_bytes(), b"\r\nDate: "]);
        date.write(out);
        write(out, &[b"\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: "]);
        write_decimal(out, self.text.len() as u64 + 1);
        if self.status == 405 {
            write(out, &[b"\r\nAllow: ", METHODS.as_bytes()]);
        }
        write(out, &[if keep_alive { b"\r\n\r\n" } else { b"\r\nConnection: close\r\n\r\n" }]);
        if !head_only {
            write(out, &[self.text.as_bytes(), b"\n"]);
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

/// The registered reason phrase of a status we send.
fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        431 => "Request Header Fields Too Large",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
