//! A raw client: it sends exactly the bytes it is given and believes nothing it reads.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::ops::{Deref, DerefMut};

use super::kernel;
use super::message::Head;
use super::seed::Seed;
use super::wire::{Body, Failure, Wire};

/// One response as it was on the wire.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
}

impl Response {
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Whether the sender said that it closes after this response.
    pub(crate) fn says_close(&self) -> bool {
        self.head.lists("connection", "close")
    }
}

/// A connection to the balancer.
pub(crate) struct Client {
    wire: Wire,
}

impl Deref for Client {
    type Target = Wire;

    fn deref(&self) -> &Wire {
        &self.wire
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Wire {
        &mut self.wire
    }
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap()
    }

    pub(crate) fn try_connect(address: SocketAddr) -> std::io::Result<Self> {
        Ok(Self { wire: Wire::new(TcpStream::connect(address)?) })
    }

    /// A connection from this address of the host.
    pub(crate) fn connect_from(source: IpAddr, address: SocketAddr) -> Self {
        Self { wire: Wire::new(kernel::connect_from(source, address)) }
    }

    /// A connection to where `place` says, as the command line would: `unix:/path`, `unix:@name` or an address.
    pub(crate) fn connect_to(place: &str) -> Self {
        match place.strip_prefix("unix:") {
            Some(path) => Self { wire: Wire::new(kernel::connect_unix(path).unwrap()) },
            None => Self::connect(place.parse().unwrap()),
        }
    }

    /// The socket itself; nothing may have been received that was not taken.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.wire.stream
    }

    /// Sends `bytes` in pieces, one write each; stops without complaint when the other side does not want more.
    pub(crate) fn send_pieces(&mut self, pieces: &[&[u8]]) {
        for piece in pieces {
            if self.send(piece).is_err() {
                return;
            }
        }
    }

    /// Sends `bytes` cut at random into pieces of up to `longest` bytes.
    pub(crate) fn send_cut(&mut self, seed: &mut Seed, bytes: &[u8], longest: usize) {
        self.send_pieces(&seed.pieces(bytes, longest));
    }

    /// Sends a request without a body, `line` being its method and target, with these fields, each with its line end;
    /// reads the answer.
    pub(crate) fn ask(&mut self, line: &str, fields: &str) -> Response {
        self.send(format!("{line} HTTP/1.1\r\n{fields}\r\n").as_bytes()).unwrap();
        let method = line.split(' ').next().unwrap();
        self.response_to(method).unwrap_or_else(|failure| panic!("no whole response to {line}: {failure:?}"))
    }

    /// Sends a GET for `path` and reads the answer.
    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.ask(&format!("GET {path}"), "Host: ringway.test\r\n")
    }

    /// Sends a POST with a body of known length and reads the answer.
    pub(crate) fn post(&mut self, path: &str, body: &[u8]) -> Response {
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nHost: ringway.test\r\nContent-Length: {length}\r\n\r\n");
        self.send(&[head.as_bytes(), body].concat()).unwrap();
        self.response()
    }

    /// Reads a whole response to a request that was not HEAD; panics when there is none.
    pub(crate) fn response(&mut self) -> Response {
        self.response_to("GET").unwrap_or_else(|failure| panic!("no whole response: {failure:?}"))
    }

    /// Reads a head only; panics when there is none.
    pub(crate) fn head(&mut self) -> Response {
        self.response_to("HEAD").unwrap_or_else(|failure| panic!("no response head: {failure:?}"))
    }

    /// Reads one response (interim ones count as one) to a request made with `method`.
    pub(crate) fn response_to(&mut self, method: &str) -> Result<Response, Failure> {
        let head = self.wire.take_head()?;
        let status = status(&head).map_err(Failure::Malformed)?;
        let bodyless = method == "HEAD" || status < 200 || status == 204 || status == 304;
        let body = if bodyless { Body::default() } else { self.body(&head)? };
        Ok(Response { status, head, body: body.bytes, trailers: body.trailers })
    }

    /// Reads the body that `head` announces.
    pub(crate) fn body(&mut self, head: &Head) -> Result<Body, Failure> {
        if head.chunked().map_err(Failure::Malformed)? {
            return self.wire.take_chunked();
        }
        let bytes = match head.length().map_err(Failure::Malformed)? {
            Some(length) => self.wire.take_exactly(length)?,
            None => self.wire.take_to_end()?,
        };
        Ok(Body { bytes, trailers: Vec::new() })
    }

    /// Reads an answer that closes the connection: its status, after checking that it says so and does so.
    pub(crate) fn last_response(&mut self) -> Result<Response, Failure> {
        let response = self.response_to("GET")?;
        if !response.says_close() {
            return Err(Failure::Malformed(format!("no Connection: close in {:?}", response.head)));
        }
        match self.wire.take_some() {
            Err(Failure::Short { .. }) => Ok(response),
            Err(failure) => Err(failure),
            Ok(more) => {
                Err(Failure::Malformed(format!("more after the end: {:?}", more.escape_ascii().to_string())))
            }
        }
    }
}

fn status(head: &Head) -> Result<u16, String> {
    let rest =
        head.first_line.strip_prefix("HTTP/1.1 ").ok_or(format!("status line {:?}", head.first_line))?;
    let (digits, _reason) = rest.split_once(' ').ok_or(format!("status line {:?}", head.first_line))?;
    let three = digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if three { Ok(digits.parse().unwrap()) } else { Err(format!("status {digits:?}")) }
}

/// What a client can tell about a response that was not whole.
pub(crate) fn is_cut(failure: &Failure) -> bool {
    matches!(failure, Failure::Nothing(_) | Failure::Short { .. })
}
