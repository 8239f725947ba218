//! Bytes → the little of a request head the origin acts on. Pure; knows no socket.

use crate::body::Body;

const HEADERS_MAX: usize = 64;

#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    pub route: Route,
    pub head_only: bool,
    pub body: Body,
    pub expects_continue: bool,
    pub keep_alive: bool,
    /// Of `X-Number`: the client wants it counted how often this request arrives.
    pub number: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    Small,
    Bytes(usize),
    Chunked(usize),
    Close(usize),
    Slow(u64),
    /// So many bytes, and milliseconds between the pieces.
    Stream(usize, u64),
    Hang,
    /// Of so many requests one is answered 503, or not at all, or with half of what was promised.
    Flaky(u64),
    Drop(u64),
    Cut(u64),
    Count(u64),
    Stats,
    Upload,
    Unknown,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Head {
    Partial,
    Malformed,
    Complete(Request, usize),
}

pub fn parse(bytes: &[u8]) -> Head {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Head::Partial,
        Err(_) => return Head::Malformed,
    };
    let (method, target) = (head.method.unwrap_or_default(), head.path.unwrap_or_default());
    let mut request = Request {
        route: Route::of(method, target),
        head_only: method == "HEAD",
        body: Body::None,
        expects_continue: false,
        keep_alive: head.version == Some(1),
        number: None,
    };
    for header in head.headers.iter() {
        match header.name {
            name if name.eq_ignore_ascii_case("content-length") => {
                let Some(size) = number(header.value) else { return Head::Malformed };
                request.body = Body::sized(size);
            }
            name if name.eq_ignore_ascii_case("transfer-encoding") => request.body = Body::chunked(),
            name if name.eq_ignore_ascii_case("connection") => {
                if header.value.eq_ignore_ascii_case(b"close") {
                    request.keep_alive = false;
                } else if header.value.eq_ignore_ascii_case(b"keep-alive") {
                    request.keep_alive = true;
                }
            }
            name if name.eq_ignore_ascii_case("expect") => request.expects_continue = true,
            name if name.eq_ignore_ascii_case("x-number") => request.number = number(header.value),
            _ => {}
        }
    }
    Head::Complete(request, length)
}

impl Route {
    fn of(method: &str, target: &str) -> Self {
        if !matches!(method, "GET" | "HEAD") {
            return Self::Upload;
        }
        let path = target.split('?').next().unwrap_or_default();
        let path = path.strip_prefix('/').unwrap_or(path);
        let (name, argument) = path.split_once('/').unwrap_or((path, ""));
        let (first, second) = argument.split_once('/').unwrap_or((argument, ""));
        let size = first.parse().unwrap_or(crate::answer::SMALL_BYTES);
        let amount = first.parse().unwrap_or_default();
        match name {
            "" => Self::Small,
            "bytes" => Self::Bytes(size),
            "chunked" => Self::Chunked(size),
            "close" => Self::Close(size),
            "slow" => Self::Slow(amount),
            "stream" => Self::Stream(size, second.parse().unwrap_or_default()),
            "hang" => Self::Hang,
            "flaky" => Self::Flaky(amount),
            "drop" => Self::Drop(amount),
            "cut" => Self::Cut(amount),
            "count" => Self::Count(amount),
            "stats" => Self::Stats,
            _ => Self::Unknown,
        }
    }
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(bytes: &[u8]) -> Request {
        match parse(bytes) {
            Head::Complete(request, _) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn routes_by_path() {
        for (line, route) in [
            ("GET / HTTP/1.1", Route::Small),
            ("GET /?x=1 HTTP/1.1", Route::Small),
            ("GET /bytes/1048576 HTTP/1.1", Route::Bytes(1_048_576)),
            ("GET /chunked/9?q HTTP/1.1", Route::Chunked(9)),
            ("GET /close HTTP/1.1", Route::Close(128)),
            ("GET /slow/15 HTTP/1.1", Route::Slow(15)),
            ("GET /stream/4096/20 HTTP/1.1", Route::Stream(4096, 20)),
            ("GET /flaky/5 HTTP/1.1", Route::Flaky(5)),
            ("GET /cut HTTP/1.1", Route::Cut(0)),
            ("GET /count/7 HTTP/1.1", Route::Count(7)),
            ("GET /hang HTTP/1.1", Route::Hang),
            ("POST /hang HTTP/1.1", Route::Upload),
            ("GET /what HTTP/1.1", Route::Unknown),
            ("GET * HTTP/1.1", Route::Unknown),
        ] {
            assert_eq!(complete(format!("{line}\r\n\r\n").as_bytes()).route, route, "{line}");
        }
    }

    #[test]
    fn keep_alive_follows_version_and_header() {
        assert!(complete(b"GET / HTTP/1.1\r\n\r\n").keep_alive);
        assert!(!complete(b"GET / HTTP/1.0\r\n\r\n").keep_alive);
        assert!(!complete(b"GET / HTTP/1.1\r\nconnection: Close\r\n\r\n").keep_alive);
        assert!(complete(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").keep_alive);
    }

    #[test]
    fn a_number_is_taken_from_its_header() {
        assert_eq!(complete(b"GET / HTTP/1.1\r\n\r\n").number, None);
        assert_eq!(complete(b"POST / HTTP/1.1\r\nx-number: 12\r\n\r\n").number, Some(12));
        assert_eq!(complete(b"GET / HTTP/1.1\r\nX-Number: none\r\n\r\n").number, None);
    }

    #[test]
    fn a_head_in_pieces_is_partial() {
        let whole = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end]), Head::Partial);
        }
        assert_eq!(parse(b"GET\x00 / HTTP/1.1\r\n\r\n"), Head::Malformed);
        assert_eq!(parse(b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"), Head::Malformed);
    }
}
