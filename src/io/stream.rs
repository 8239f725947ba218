//! A connected socket of one worker: non-blocking calls, and waits on the ring when they would block.
//!
//! Dropping a stream closes it cleanly (FIN after what was sent), or with a reset after [`Stream::abort`].

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::readiness::{Interest, Readiness};
use crate::sys::{
    descriptor::Descriptor,
    option,
    socket::{self, Standing},
};

/// A client's or a backend's connection. An idle one holds no buffer and no pipe.
pub struct Stream {
    descriptor: Option<Descriptor>,
    read: Readiness,
    write: Readiness,
}

impl Stream {
    /// Takes over a non-blocking descriptor. Must run inside the worker's runtime.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Stream {
            descriptor: Some(Descriptor::new(fd)?),
            read: Readiness::new(Interest::Readable),
            write: Readiness::new(Interest::Writable),
        })
    }

    fn descriptor(&self) -> io::Result<&Descriptor> {
        self.descriptor.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Lends the descriptor for `splice(2)`.
    pub fn borrow(&self) -> io::Result<BorrowedFd<'_>> {
        self.descriptor().map(AsFd::as_fd)
    }

    /// Receives what is there; `Ok(0)` is end of stream, `WouldBlock` is nothing yet.
    pub fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        socket::receive(self.descriptor()?, into)
    }

    /// Sends what fits; `WouldBlock` when the peer's window and our queue are full.
    pub fn transmit(&mut self, bytes: &[u8]) -> io::Result<usize> {
        socket::transmit(self.descriptor()?, bytes)
    }

    /// Ready when receiving may succeed, at end of stream, or in error.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &self.descriptor {
            Some(descriptor) => self.read.poll(descriptor, cx),
            None => Poll::Ready(()),
        }
    }

    /// Ready when sending may succeed, or in error.
    pub fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &self.descriptor {
            Some(descriptor) => self.write.poll(descriptor, cx),
            None => Poll::Ready(()),
        }
    }

    /// Arms the readable watch if it is not, and tells whether the peer has been silent so far. A pooled
    /// connection that is not silent (FIN, RST or bytes nobody asked for) is not reusable.
    pub fn watch_silence(&mut self) -> bool {
        self.poll_readable(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Asks the socket itself (one call) whether anything waits to be received.
    pub fn is_silent(&self) -> bool {
        self.descriptor().is_ok_and(socket::is_silent)
    }

    /// Asks the socket itself (one call, as long as it is open) how the connection stands, which no wait for one of its
    /// directions tells.
    pub fn standing(&self) -> Standing {
        self.descriptor().map_or(Standing::Ended, socket::standing)
    }

    /// Waits until receiving may succeed.
    pub async fn readable(&mut self) {
        std::future::poll_fn(|cx| self.poll_readable(cx)).await;
    }

    /// True while the peer has not acknowledged everything we sent, which an abort would take back.
    pub fn has_unacknowledged(&self) -> bool {
        self.descriptor().is_ok_and(|descriptor| option::unacknowledged(descriptor) > 0)
    }

    /// Announces the end of what we send.
    pub fn shutdown_write(&mut self) {
        if let Some(descriptor) = &self.descriptor {
            socket::shutdown_write(descriptor);
        }
    }

    /// Makes the coming close a reset, so that the peer can never take what it got for complete. A UNIX socket has no
    /// reset; there it is an end like any other.
    pub fn abort(&self) {
        if let Some(descriptor) = &self.descriptor {
            socket::reset_on_close(descriptor);
        }
    }

    /// Looks after a peer that may be silent for long; see [`socket::keep_alive`].
    pub fn keep_alive(&self, idle: Duration, dead_after: Duration) -> io::Result<()> {
        socket::keep_alive(self.descriptor()?, idle, dead_after)
    }

    /// The local end's address.
    pub fn local_address(&self) -> io::Result<std::net::SocketAddr> {
        socket::local_address(self.descriptor()?)
    }

    /// The outcome of a handshake that has just become writable.
    pub fn connect_result(&self) -> io::Result<()> {
        socket::connect_result(self.descriptor()?)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // An armed poll holds the descriptor: dropping it first asks the ring to cancel it.
        let armed = self.read.is_armed() || self.write.is_armed();
        if let Some(descriptor) = self.descriptor.take().filter(|_| !armed) {
            descriptor.close();
        }
    }
}
