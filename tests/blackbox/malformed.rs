//! The table of requests that must be refused, each with the statuses that are right for it.

/// A request that must never reach a backend.
pub(crate) struct Refused {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) statuses: &'static [u16],
}

const BAD: &[u16] = &[400];
const BAD_OR_LARGE: &[u16] = &[400, 413];
const BAD_OR_UNKNOWN: &[u16] = &[400, 501];
const VERSION: &[u16] = &[505];
const BAD_OR_VERSION: &[u16] = &[400, 505];

fn refused(name: &str, bytes: impl Into<Vec<u8>>, statuses: &'static [u16]) -> Refused {
    Refused { name: name.to_owned(), bytes: bytes.into(), statuses }
}

/// A POST with these framing fields and a body that each reading of them would frame otherwise.
fn framed(name: &str, fields: &[u8], statuses: &'static [u16]) -> Refused {
    let head = b"POST / HTTP/1.1\r\nHost: ringway.test\r\n";
    refused(&format!("framing: {name}"), [head, fields, b"\r\n0\r\n\r\n"].concat(), statuses)
}

/// A GET with these bytes among its field lines.
fn with_line(name: &str, line: &[u8]) -> Refused {
    let (before, after) = (b"GET / HTTP/1.1\r\nHost: ringway.test\r\n", b"Accept: */*\r\n\r\n");
    refused(&format!("field line: {name}"), [before, line, after].concat(), BAD)
}

/// A whole head with this request line.
fn with_request_line(name: &str, line: &[u8], statuses: &'static [u16]) -> Refused {
    refused(&format!("request line: {name}"), [line, b"\r\nHost: ringway.test\r\n\r\n"].concat(), statuses)
}

/// A GET whose Host field lines are these.
fn with_host(name: &str, lines: &[u8]) -> Refused {
    refused(&format!("host: {name}"), [b"GET / HTTP/1.1\r\n", lines, b"\r\n"].concat(), BAD)
}

/// Content-Length and Transfer-Encoding: the roots of request smuggling.
pub(crate) fn framing() -> Vec<Refused> {
    vec![
        framed("length, then coding", b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", BAD),
        framed("coding, then length", b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", BAD),
        framed("coding with length 0", b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", BAD),
        framed(
            "coding identity with length",
            b"Content-Length: 5\r\nTransfer-Encoding: identity\r\n",
            BAD_OR_UNKNOWN,
        ),
        framed("two lengths", b"Content-Length: 5\r\nContent-Length: 6\r\n", BAD),
        framed("two lengths in a list", b"Content-Length: 5, 6\r\n", BAD),
        framed("two lengths, apart", b"Content-Length: 5\r\nAccept: a\r\ncontent-length: 0\r\n", BAD),
        framed("length with plus", b"Content-Length: +5\r\n", BAD),
        framed("negative length", b"Content-Length: -1\r\n", BAD),
        framed("negative zero", b"Content-Length: -0\r\n", BAD),
        framed("hexadecimal length", b"Content-Length: 0x5\r\n", BAD),
        framed("length with a space", b"Content-Length: 5 5\r\n", BAD),
        framed("length with a letter", b"Content-Length: 5a\r\n", BAD),
        framed("length with a point", b"Content-Length: 5.0\r\n", BAD),
        framed("length with a semicolon", b"Content-Length: 5;\r\n", BAD),
        framed("length that ends in a comma", b"Content-Length: 5,\r\n", BAD),
        framed("empty length", b"Content-Length:\r\n", BAD),
        framed("blank length", b"Content-Length:   \r\n", BAD),
        framed("length in other digits", "Content-Length: \u{0665}\r\n".as_bytes(), BAD),
        framed("length 2^64", b"Content-Length: 18446744073709551616\r\n", BAD_OR_LARGE),
        framed("length 2^64 + 5", b"Content-Length: 18446744073709551621\r\n", BAD_OR_LARGE),
        framed(
            "length of 40 digits",
            b"Content-Length: 1000000000000000000000000000000000000005\r\n",
            BAD_OR_LARGE,
        ),
        framed("unknown coding", b"Transfer-Encoding: gzip\r\n", BAD_OR_UNKNOWN),
        framed("identity", b"Transfer-Encoding: identity\r\n", BAD_OR_UNKNOWN),
        framed("a coding that looks like chunked", b"Transfer-Encoding: xchunked\r\n", BAD_OR_UNKNOWN),
        framed("chunked before another coding", b"Transfer-Encoding: chunked, gzip\r\n", BAD_OR_UNKNOWN),
        framed("an unknown coding before chunked", b"Transfer-Encoding: gzip, chunked\r\n", BAD_OR_UNKNOWN),
        framed("chunked twice in a list", b"Transfer-Encoding: chunked, chunked\r\n", BAD),
        framed("chunked in two lines", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", BAD),
        framed("two lines", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", BAD_OR_UNKNOWN),
        framed("empty coding", b"Transfer-Encoding:\r\n", BAD_OR_UNKNOWN),
        framed("quoted coding", b"Transfer-Encoding: \"chunked\"\r\n", BAD_OR_UNKNOWN),
        framed("chunked with a vertical tab", b"Transfer-Encoding: \x0bchunked\r\n", BAD),
        framed("chunked with another word", b"Transfer-Encoding: chunked foo\r\n", BAD_OR_UNKNOWN),
        framed("chunked with a parameter", b"Transfer-Encoding: chunked;q=1\r\n", BAD_OR_UNKNOWN),
        framed("folded coding", b"Transfer-Encoding:\r\n chunked\r\n", BAD),
        framed("space before the colon", b"Transfer-Encoding : chunked\r\n", BAD),
        refused(
            "framing: chunked in HTTP/1.0",
            "POST / HTTP/1.0\r\nHost: ringway.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            BAD,
        ),
    ]
}

/// Line ends, field lines, control bytes.
pub(crate) fn field_lines() -> Vec<Refused> {
    let host = "Host: ringway.test";
    let mut cases = vec![
        refused("line ends: LF only", format!("GET / HTTP/1.1\n{host}\n\n"), BAD),
        refused("line ends: LF after the request line", format!("GET / HTTP/1.1\n{host}\r\n\r\n"), BAD),
        refused("line ends: LF after a field", format!("GET / HTTP/1.1\r\n{host}\nX: y\r\n\r\n"), BAD),
        refused("line ends: LF as the empty line", format!("GET / HTTP/1.1\r\n{host}\r\n\n"), BAD),
        refused("line ends: CR only", format!("GET / HTTP/1.1\r{host}\r\r\r\n\r\n"), BAD),
        refused("line ends: CR after the request line", format!("GET / HTTP/1.1\r{host}\r\n\r\n"), BAD),
        refused("line ends: CR CR LF", format!("GET / HTTP/1.1\r\r\n{host}\r\n\r\n"), BAD),
        refused(
            "line ends: a field line first that is folded",
            format!("GET / HTTP/1.1\r\n X: y\r\n{host}\r\n\r\n"),
            BAD,
        ),
        with_line("LF inside", b"X: a\nInjected: b\r\n"),
        with_line("CR inside", b"X: a\rInjected: b\r\n"),
        with_line("CR at the end", b"X: a\r\r\n"),
        with_line("CR in the name", b"X\r: a\r\n"),
        with_line("folded with a space", b"X: a\r\n b\r\n"),
        with_line("folded with a tab", b"X: a\r\n\tb\r\n"),
        with_line("folded and empty", b"X: a\r\n \r\n"),
        with_line("space before the colon", b"X : a\r\n"),
        with_line("tab before the colon", b"X\t: a\r\n"),
        with_line("no name", b": a\r\n"),
        with_line("no colon", b"Nothing\r\n"),
        with_line("space in the name", b"X Y: a\r\n"),
        with_line("name in brackets", b"X(Y): a\r\n"),
        with_line("name in quotes", b"\"X\": a\r\n"),
        with_line("name not ASCII", "Gr\u{fc}n: a\r\n".as_bytes()),
        with_line("NUL in the name", b"X\0Y: a\r\n"),
        with_line("DEL in the name", b"X\x7f: a\r\n"),
    ];
    // Every control byte but the tab, at three places of a value.
    for byte in (0..0x20).chain([0x7f]).filter(|byte| !b"\t\r\n".contains(byte)) {
        let line = [b"X: ", &[byte][..], b"a\r\n"].concat();
        cases.push(with_line(&format!("byte {byte:#04x} at the start of a value"), &line));
        let line = [b"X: a", &[byte][..], b"b\r\n"].concat();
        cases.push(with_line(&format!("byte {byte:#04x} in a value"), &line));
        let line = [b"X: a", &[byte][..], b"\r\n"].concat();
        cases.push(with_line(&format!("byte {byte:#04x} at the end of a value"), &line));
    }
    cases
}

/// Method, target, version.
pub(crate) fn request_lines() -> Vec<Refused> {
    let mut cases = vec![
        with_request_line("no method", b" / HTTP/1.1", BAD),
        with_request_line("bracket in the method", b"G(T / HTTP/1.1", BAD),
        with_request_line("colon in the method", b"GE:T / HTTP/1.1", BAD),
        with_request_line("method not ASCII", "G\u{c9}T / HTTP/1.1".as_bytes(), BAD),
        with_request_line("NUL in the method", b"GE\0T / HTTP/1.1", BAD),
        with_request_line("tab after the method", b"GET\t/ HTTP/1.1", BAD),
        with_request_line("two spaces after the method", b"GET  / HTTP/1.1", BAD),
        with_request_line("two spaces after the target", b"GET /  HTTP/1.1", BAD),
        with_request_line("space at the start", b" GET / HTTP/1.1", BAD),
        with_request_line("space at the end", b"GET / HTTP/1.1 ", BAD),
        with_request_line("no target", b"GET HTTP/1.1", BAD),
        with_request_line("method alone", b"GET", BAD),
        with_request_line("no version", b"GET /", BAD_OR_VERSION),
        with_request_line("four words", b"GET /a b HTTP/1.1", BAD),
        with_request_line("target without a slash", b"GET index.html HTTP/1.1", BAD),
        with_request_line("target that is a query", b"GET ?a=b HTTP/1.1", BAD),
        with_request_line("target with a fragment", b"GET /a#b HTTP/1.1", BAD),
        with_request_line("absolute target with a fragment", b"GET http://ringway.test/a#b HTTP/1.1", BAD),
        with_request_line("target not ASCII", "GET /caf\u{e9} HTTP/1.1".as_bytes(), BAD),
        with_request_line("target with DEL", b"GET /\x7f HTTP/1.1", BAD),
        with_request_line("target with NUL", b"GET /\0 HTTP/1.1", BAD),
        with_request_line("target with a control byte", b"GET /\x1b HTTP/1.1", BAD),
        with_request_line("target with a tab", b"GET /a\tb HTTP/1.1", BAD),
        with_request_line("user in the target", b"GET http://user@ringway.test/ HTTP/1.1", BAD),
        with_request_line("password in the target", b"GET http://u:p@ringway.test/ HTTP/1.1", BAD),
        with_request_line("other scheme", b"GET ftp://ringway.test/ HTTP/1.1", BAD),
        with_request_line("scheme that is none", b"GET 1http://ringway.test/ HTTP/1.1", BAD),
        with_request_line("scheme alone", b"GET http:// HTTP/1.1", BAD),
        with_request_line("one slash after the scheme", b"GET http:/ringway.test/ HTTP/1.1", BAD),
        with_request_line("no authority", b"GET http:///path HTTP/1.1", BAD),
        with_request_line("port without a host", b"GET http://:80/ HTTP/1.1", BAD),
        with_request_line("authority with a bad port", b"GET http://ringway.test:port/ HTTP/1.1", BAD),
        with_request_line("asterisk for GET", b"GET * HTTP/1.1", BAD),
        with_request_line("asterisk with more", b"OPTIONS *a HTTP/1.1", BAD),
        with_request_line("authority-form for GET", b"GET ringway.test:80 HTTP/1.1", BAD),
        with_request_line("CONNECT", b"CONNECT ringway.test:80 HTTP/1.1", &[405, 501]),
        with_request_line("HTTP/2.0", b"GET / HTTP/2.0", VERSION),
        with_request_line("HTTP/3.0", b"GET / HTTP/3.0", VERSION),
        with_request_line("HTTP/9.9", b"GET / HTTP/9.9", VERSION),
        with_request_line("HTTP/0.9", b"GET / HTTP/0.9", BAD_OR_VERSION),
        refused("request line: preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", BAD_OR_VERSION),
        refused(
            "request line: handshake of TLS",
            b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03\r\n\r\n",
            BAD,
        ),
        refused("request line: empty words", "  \r\n\r\n", BAD),
    ];
    let versions = [
        "HTTP/1.1x",
        "HTTP/1.10",
        "HTTP/01.1",
        "HTTP/1",
        "HTTP/1.",
        "HTTP/.1",
        "HTTP/1,1",
        "HTTP/ 1.1",
        "http/1.1",
        "Http/1.1",
        "HTTP/a.b",
        "HTTP/+1.1",
        "HTTP1.1",
        "HTTPS/1.1",
        "HTTP/1.1/1",
        "HTTP/\u{661}.1",
    ];
    for version in versions {
        let line = format!("GET / {version}");
        cases.push(with_request_line(&format!("version {version}"), line.as_bytes(), BAD));
    }
    cases
}

/// Host: exactly one, and one that could be a host.
pub(crate) fn hosts() -> Vec<Refused> {
    let mut cases = vec![
        with_host("missing", b"Accept: */*\r\n"),
        with_host("twice the same", b"Host: ringway.test\r\nHost: ringway.test\r\n"),
        with_host("two different", b"Host: ringway.test\r\nhost: other.test\r\n"),
        with_host("two, one of them empty", b"Host: ringway.test\r\nHost:\r\n"),
        with_host("not ASCII", "Host: ringw\u{e4}y.test\r\n".as_bytes()),
        refused("host: missing with an absolute target", "GET http://ringway.test/ HTTP/1.1\r\n\r\n", BAD),
        refused("host: twice in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a.test\r\nHost: b.test\r\n\r\n", BAD),
    ];
    let wrong = [
        "ringway.test:port",
        "ringway.test:80:90",
        "ringway.test:-1",
        "ringway.test:80x",
        "ringway.test: 80",
        "user@ringway.test",
        "user:password@ringway.test",
        "ringway.test other.test",
        "ringway.test,other.test",
        "ringway.test, other.test",
        "ringway.test/path",
        "http://ringway.test",
        "ringway.test?query",
        "ringway.test#fragment",
        "ringway.test\\other",
        "<ringway.test>",
        "\"ringway.test\"",
        "[::1",
        "::1]",
        "[::g]",
        "[::1]80",
        "[]",
        "ring{way}.test",
        "ringway.test|",
    ];
    for value in wrong {
        cases.push(with_host(value, format!("Host: {value}\r\n").as_bytes()));
    }
    cases
}

/// Heads and parts of heads that are larger than the limits.
pub(crate) fn sizes() -> Vec<Refused> {
    let long = |count: usize| "a".repeat(count);
    let host = "Host: ringway.test\r\n";
    let many = |count: usize| (0..count).map(|number| format!("X-{number}: y\r\n")).collect::<String>();
    let wide = (0..20).map(|number| format!("X-{number}: {}\r\n", long(4_000))).collect::<String>();
    vec![
        refused(
            "size: request line of 17 KiB",
            format!("GET /{} HTTP/1.1\r\n{host}\r\n", long(17 * 1024)),
            &[414],
        ),
        refused(
            "size: request line of 1 MiB",
            format!("GET /{} HTTP/1.1\r\n{host}\r\n", long(1 << 20)),
            &[414],
        ),
        refused("size: request line without an end", format!("GET /{}", long(128 * 1024)), &[414]),
        refused("size: 101 fields", format!("GET / HTTP/1.1\r\n{host}{}\r\n", many(100)), &[431]),
        refused("size: 5 000 fields", format!("GET / HTTP/1.1\r\n{host}{}\r\n", many(5_000)), &[431]),
        refused("size: head of 80 KiB", format!("GET / HTTP/1.1\r\n{host}{wide}\r\n"), &[431]),
        refused(
            "size: one value of 70 KiB",
            format!("GET / HTTP/1.1\r\n{host}X: {}\r\n\r\n", long(70 * 1024)),
            &[431],
        ),
        refused(
            "size: one value without an end",
            format!("GET / HTTP/1.1\r\n{host}X: {}", long(1 << 20)),
            &[431],
        ),
        refused(
            "size: one name of 70 KiB",
            format!("GET / HTTP/1.1\r\n{host}{}: y\r\n\r\n", long(70 * 1024)),
            &[400, 431],
        ),
    ]
}
