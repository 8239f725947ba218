//! A connected socket of one worker: non-blocking calls, and waits for the next edge when they would block.
//!
//! Dropping a stream closes it cleanly (FIN after what was sent), or with a reset after [`Stream::abort`].

use std::{
    io,
    net::IpAddr,
    os::fd::OwnedFd,
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::ready::{self, Direction, Token};
use crate::{
    addr::Endpoint,
    sys::{
        option,
        pipe::Pipe,
        socket::{self, Standing},
    },
};

/// A client's or a backend's connection. An idle one holds no buffer and no pipe.
pub struct Stream {
    socket: OwnedFd,
    token: Token,
    /// The handshake's last segment waits for the first bytes.
    is_opening: bool,
}

impl Stream {
    /// Takes over a connected, non-blocking socket. Must run inside the worker's runtime.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        let token = ready::register(&socket, true)?;
        Ok(Stream { socket, token, is_opening: false })
    }

    /// Starts a connection, and tells whether it is made already; otherwise nothing can be received or sent before that is
    /// told. Who `speaks_first` has something to send as soon as it is made, which then is the last segment of the handshake.
    pub fn connect(
        endpoint: &Endpoint,
        source: Option<IpAddr>,
        speaks_first: bool,
    ) -> io::Result<(Self, bool)> {
        let socket = socket::open_stream(endpoint)?;
        // UNIX sockets have neither segments nor acknowledgements.
        let is_opening = speaks_first && endpoint.inet().is_some();
        if is_opening {
            socket::acknowledge_at_once(&socket, false);
        }
        let is_made = socket::start_connect(&socket, endpoint, source)?;
        let token = ready::register(&socket, false)?;
        Ok((Stream { socket, token, is_opening }, is_made))
    }

    /// The handshake is over. From now on the peer is acknowledged as usual: one that waits for that (Nagle, RFC 896) would
    /// wait for each of its segments.
    fn has_opened(&mut self) {
        if std::mem::take(&mut self.is_opening) {
            socket::acknowledge_at_once(&self.socket, true);
        }
    }

    /// Remembers that a call has met an empty or a full queue, or has failed, which the kernel tells only once.
    fn note<T>(&self, direction: Direction, outcome: io::Result<T>) -> io::Result<T> {
        self.note_or(outcome, |token| ready::met_its_end(token, direction))
    }

    /// Remembers that a call has failed, and what it means when there was nothing to do for it.
    fn note_or<T>(&self, outcome: io::Result<T>, nothing: impl FnOnce(Token)) -> io::Result<T> {
        match &outcome {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => nothing(self.token),
            Err(_) => ready::has_failed(self.token),
        }
        outcome
    }

    /// Receives what is there; `Ok(0)` is end of stream, `WouldBlock` is nothing yet.
    pub fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let room = into.len();
        let outcome = self.note(Direction::Read, socket::receive(&self.socket, into));
        if matches!(outcome, Ok(count) if count > 0 && count < room) {
            // Less than asked for is all there was; what comes later has an edge of its own.
            ready::seems_empty(self.token);
        }
        outcome
    }

    /// Sends what fits; `WouldBlock` when the peer's window and our queue are full.
    pub fn transmit(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let outcome = self.note(Direction::Write, socket::transmit(&self.socket, bytes));
        self.has_opened();
        outcome
    }

    /// The same when something follows at once; see [`socket::transmit_more`].
    pub fn transmit_more(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.note(Direction::Write, socket::transmit_more(&self.socket, bytes))
    }

    /// Moves up to `max` bytes into an empty pipe; see [`Pipe::fill`].
    pub fn fill(&mut self, pipe: &mut Pipe, max: usize) -> io::Result<usize> {
        self.note_or(pipe.fill(&self.socket, max), ready::seems_empty)
    }

    /// Sends what a pipe holds; see [`Pipe::drain`].
    pub fn drain(&mut self, pipe: &mut Pipe) -> io::Result<usize> {
        let outcome = self.note(Direction::Write, pipe.drain(&self.socket));
        self.has_opened();
        outcome
    }

    /// Ready when receiving may succeed, at end of stream, or in error.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll(Direction::Read, cx)
    }

    /// Ready when sending may succeed, or in error.
    pub fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll(Direction::Write, cx)
    }

    fn poll(&mut self, direction: Direction, cx: &mut Context<'_>) -> Poll<()> {
        ready::poll(self.token, direction, cx).map(|is_severed| {
            if is_severed {
                // The next call fails as if the peer had done it.
                socket::sever(&self.socket);
            }
        })
    }

    /// Notes to whom it leads, so that [`ready::sever`] finds it.
    pub fn belongs_to(&self, owner: u32) {
        ready::belongs_to(self.token, owner);
    }

    /// True when the peer has ended its direction and nothing is broken; bytes may wait in front of that end.
    pub fn is_ending(&self) -> bool {
        ready::is_ending(self.token)
    }

    /// Tells whether the peer has been silent since the last receive. A pooled connection that is not silent (FIN, RST
    /// or bytes nobody asked for) is not reusable.
    pub fn has_been_silent(&mut self) -> bool {
        self.poll_readable(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Asks the socket itself (one call) whether the connection is over in both directions or broken, although bytes may
    /// wait to be received; otherwise the task is woken when that may have changed.
    pub fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready::await_news(self.token, cx);
        if self.standing() == Standing::Open { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Asks the socket itself (one call) whether anything waits to be received.
    pub fn is_silent(&self) -> bool {
        let silent = socket::is_silent(&self.socket);
        if silent {
            ready::met_its_end(self.token, Direction::Read);
        }
        silent
    }

    /// Asks the socket itself (one call, as long as it is open) how the connection stands, which no wait for one of its
    /// directions tells.
    pub fn standing(&self) -> Standing {
        socket::standing(&self.socket)
    }

    /// True while the peer has not acknowledged everything we sent, which an abort would take back.
    pub fn has_unacknowledged(&self) -> bool {
        option::unacknowledged(&self.socket) > 0
    }

    /// Announces the end of what we send.
    pub fn shutdown_write(&mut self) {
        socket::shutdown_write(&self.socket);
        self.has_opened();
    }

    /// Makes the coming close a reset, so that the peer can never take what it got for complete. A UNIX socket has no
    /// reset; there it is an end like any other.
    pub fn abort(&self) {
        socket::reset_on_close(&self.socket);
    }

    /// Looks after a peer that may be silent for long; see [`socket::keep_alive`].
    pub fn keep_alive(&self, idle: Duration, dead_after: Duration) -> io::Result<()> {
        socket::keep_alive(&self.socket, idle, dead_after)
    }

    /// The local end's address.
    pub fn local_address(&self) -> io::Result<std::net::SocketAddr> {
        socket::local_address(&self.socket)
    }

    /// The outcome of a handshake that has just become writable.
    pub fn connect_result(&self) -> io::Result<()> {
        // What fails is told as an end of both directions; only then there is a reason to ask for.
        if ready::is_over(self.token) { socket::connect_result(&self.socket) } else { Ok(()) }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        ready::forget(self.token);
    }
}
