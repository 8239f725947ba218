//! Backends that behave as they are told, on a port or a UNIX socket of their own; they keep every request.

use std::net::{SocketAddr, TcpListener};
use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::deadline::eventually;
use super::kernel;
use super::message::Head;
use super::wire::{Body, Failure, Wire};

/// One request as a backend received it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Which connection of the backend it came on, from 0.
    pub(crate) connection: usize,
    pub(crate) head: Head,
    /// The body when it was read to its end, or what went wrong.
    pub(crate) body: Result<Body, Failure>,
}

impl Request {
    pub(crate) fn method(&self) -> &str {
        self.head.first_line.split(' ').next().unwrap()
    }

    pub(crate) fn target(&self) -> &str {
        self.head.first_line.split(' ').nth(1).unwrap()
    }

    /// The bytes of a body that must have arrived whole.
    pub(crate) fn whole(&self) -> &Body {
        self.body.as_ref().unwrap_or_else(|failure| panic!("the body was not whole: {failure:?}"))
    }
}

#[derive(Default)]
struct Record {
    connections: AtomicUsize,
    closed: AtomicUsize,
    heads: AtomicUsize,
    requests: Mutex<Vec<Request>>,
    faults: Mutex<Vec<String>>,
}

/// A listening backend; it stops listening when dropped.
pub(crate) struct Backend {
    /// Nowhere, if it listens on a UNIX socket.
    pub(crate) address: SocketAddr,
    /// Where it listens, as the command line says it.
    pub(crate) place: String,
    record: Arc<Record>,
    listener: OwnedFd,
}

impl Backend {
    /// Runs `script` once for each connection, each on its own thread; the connection closes when the script returns.
    pub(crate) fn scripted(script: impl Fn(&mut Connection) + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    fn on(listener: TcpListener, script: impl Fn(&mut Connection) + Send + Sync + 'static) -> Self {
        let address = listener.local_addr().unwrap();
        Self::listening(listener.into(), address, address.to_string(), script)
    }

    /// As [`Backend::scripted`], on a UNIX socket: `unix:/path` or `unix:@name`.
    pub(crate) fn scripted_at(place: &str, script: impl Fn(&mut Connection) + Send + Sync + 'static) -> Self {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        Self::listening(kernel::listen_unix(place), nowhere, place.to_owned(), script)
    }

    fn listening(
        listener: OwnedFd,
        address: SocketAddr,
        place: String,
        script: impl Fn(&mut Connection) + Send + Sync + 'static,
    ) -> Self {
        // The standard library's own queue is so short that a crowd which comes at once overflows it.
        kernel::listen(&listener);
        let record = Arc::new(Record::default());
        let (shared, accepting) = (Arc::clone(&record), listener.try_clone().unwrap());
        thread::spawn(move || accept(&accepting, &shared, &Arc::new(script)));
        Self { address, place, record, listener }
    }

    /// Answers each request with `id` as its body and keeps the connection.
    pub(crate) fn well_behaved(id: &str) -> Self {
        Self::answering(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{id}", id.len()))
    }

    /// As [`Backend::well_behaved`], at an address of the caller's choice.
    pub(crate) fn well_behaved_at(address: &str, id: &str) -> Self {
        Self::well_behaved_on(TcpListener::bind(address).unwrap().into(), id)
    }

    /// As [`Backend::well_behaved`], on a socket that refused everybody until now.
    pub(crate) fn well_behaved_on(socket: OwnedFd, id: &str) -> Self {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{id}", id.len());
        Self::on_socket(socket, move |connection| connection.answer_all(answer.as_bytes()))
    }

    /// As [`Backend::scripted`], on a socket that refused everybody until now.
    pub(crate) fn on_socket(
        socket: OwnedFd,
        script: impl Fn(&mut Connection) + Send + Sync + 'static,
    ) -> Self {
        Self::on(TcpListener::from(socket), script)
    }

    /// Sends the same bytes after each request it has read, and keeps the connection.
    pub(crate) fn answering(answer: &str) -> Self {
        let answer = answer.as_bytes().to_vec();
        Self::scripted(move |connection| connection.answer_all(&answer))
    }

    /// Sends the same bytes after the first request of each connection, then closes.
    pub(crate) fn answering_once(answer: &[u8]) -> Self {
        let answer = answer.to_vec();
        Self::scripted(move |connection| {
            if connection.request().is_some() {
                connection.say(&answer);
            }
        })
    }

    /// Answers each request with the request's own body (and trailers); with a length, or in chunks for `/chunked…`.
    pub(crate) fn echoing() -> Self {
        Self::scripted(|connection| {
            let mut seed = super::Seed::new(7);
            while let Some(request) = connection.request() {
                let body = request.whole();
                let answer = if request.target().starts_with("/chunked") {
                    let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
                    answer.extend(seed.chunks(&body.bytes, 20_000));
                    for (name, value) in &body.trailers {
                        answer.extend(format!("{name}: {value}\r\n").as_bytes());
                    }
                    answer.extend(b"\r\n");
                    answer
                } else {
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.bytes.len());
                    [head.as_bytes(), &body.bytes].concat()
                };
                connection.say(&answer);
            }
        })
    }

    /// How many connections were accepted.
    pub(crate) fn connections(&self) -> usize {
        self.record.connections.load(Ordering::SeqCst)
    }

    /// How many connections ended (their script returned).
    pub(crate) fn closed(&self) -> usize {
        self.record.closed.load(Ordering::SeqCst)
    }

    /// How many request heads arrived, whether or not their bodies did.
    pub(crate) fn heads(&self) -> usize {
        self.record.heads.load(Ordering::SeqCst)
    }

    /// The requests that were read, with their bodies or what went wrong with them.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.check();
        self.record.requests.lock().unwrap().clone()
    }

    /// The last request that was read.
    pub(crate) fn last(&self) -> Request {
        self.requests().pop().expect("the backend was not asked anything")
    }

    /// Waits until `count` requests were read.
    pub(crate) fn wait_requests(&self, count: usize) -> Vec<Request> {
        eventually(&format!("{count} requests at the backend"), || {
            let requests = self.requests();
            (requests.len() >= count).then_some(requests)
        })
    }

    /// Panics when something that is no HTTP/1.1 request was forwarded.
    pub(crate) fn check(&self) {
        let faults = self.record.faults.lock().unwrap();
        assert!(faults.is_empty(), "the backend was sent malformed bytes: {faults:?}");
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        kernel::stop_listening(&self.listener);
    }
}

fn accept<S: Fn(&mut Connection) + Send + Sync + 'static>(
    listener: &OwnedFd,
    record: &Arc<Record>,
    script: &Arc<S>,
) {
    while let Ok(stream) = kernel::accept(listener) {
        let number = record.connections.fetch_add(1, Ordering::SeqCst);
        let (record, script) = (Arc::clone(record), Arc::clone(script));
        thread::spawn(move || {
            let mut connection = Connection { wire: Wire::new(stream), record: Arc::clone(&record), number };
            script(&mut connection);
            // Only a connection whose socket is closed counts as closed.
            drop(connection);
            record.closed.fetch_add(1, Ordering::SeqCst);
        });
    }
}

/// A connection as a backend's script sees it.
pub(crate) struct Connection {
    wire: Wire,
    record: Arc<Record>,
    /// From 0, in the order of acceptance.
    pub(crate) number: usize,
}

impl Deref for Connection {
    type Target = Wire;

    fn deref(&self) -> &Wire {
        &self.wire
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut Wire {
        &mut self.wire
    }
}

impl Connection {
    /// Reads and records a request with its body. `None` when the connection ended, or the body did not come whole.
    pub(crate) fn request(&mut self) -> Option<Request> {
        let head = self.request_head()?;
        let body = self.request_body(&head);
        let request = self.keep(head, body);
        request.body.is_ok().then_some(request)
    }

    /// Reads a request head and nothing else. `None` when the connection ended.
    pub(crate) fn request_head(&mut self) -> Option<Head> {
        match self.wire.take_head() {
            Ok(head) => {
                let line = &head.first_line;
                if !line.is_ascii() || !line.ends_with(" HTTP/1.1") || line.split(' ').count() != 3 {
                    self.fault(format!("request line {:?}", head.first_line));
                    return None;
                }
                self.record.heads.fetch_add(1, Ordering::SeqCst);
                Some(head)
            }
            Err(Failure::Malformed(what)) => {
                self.fault(what);
                None
            }
            Err(Failure::Short { part, .. }) => {
                self.fault(format!("half a head: {:?}", part.escape_ascii().to_string()));
                None
            }
            Err(Failure::Nothing(_) | Failure::TimedOut { .. }) => None,
        }
    }

    /// Reads the body that `head` announces.
    pub(crate) fn request_body(&mut self, head: &Head) -> Result<Body, Failure> {
        if head.chunked().map_err(Failure::Malformed)? {
            return self.wire.take_chunked();
        }
        let length = head.length().map_err(Failure::Malformed)?.unwrap_or(0);
        Ok(Body { bytes: self.wire.take_exactly(length)?, trailers: Vec::new() })
    }

    /// Records a request that the script read piece by piece.
    pub(crate) fn keep(&mut self, head: Head, body: Result<Body, Failure>) -> Request {
        if let Err(Failure::Malformed(what)) = &body {
            self.fault(what.clone());
        }
        let request = Request { connection: self.number, head, body };
        self.record.requests.lock().unwrap().push(request.clone());
        request
    }

    /// Sends bytes; a balancer that is gone is not this backend's fault.
    pub(crate) fn say(&mut self, bytes: &[u8]) {
        let _gone = self.wire.send(bytes);
    }

    /// Answers every request of this connection with the same bytes.
    pub(crate) fn answer_all(&mut self, answer: &[u8]) {
        while self.request().is_some() {
            self.say(answer);
        }
    }

    /// Makes the coming close a reset.
    pub(crate) fn reset(&mut self) {
        kernel::reset_on_close(&self.wire.stream);
    }

    fn fault(&self, what: String) {
        self.record.faults.lock().unwrap().push(what);
    }
}

/// An address that refuses connections for as long as the socket lives.
pub(crate) fn refusing_address() -> (OwnedFd, SocketAddr) {
    kernel::bound_without_listening()
}
