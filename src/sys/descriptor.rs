//! A descriptor registered with the worker's runtime so that its readiness can be awaited on the ring.
//!
//! Owned by one worker thread. It never reads, writes or changes the descriptor: that is `sys::socket` and
//! `sys::pipe`, through [`AsFd`].

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd},
    rc::Rc,
};

use monoio::net::TcpStream;

/// A shared handle on one registered descriptor; the last clone closes it.
///
/// The runtime's own TCP type serves as the carrier for any pollable descriptor: only its readiness
/// operation is used, which asks the kernel nothing but `POLLIN` or `POLLOUT`.
#[derive(Clone)]
pub struct Descriptor(Rc<TcpStream>);

impl Descriptor {
    /// Registers `fd`. Must run inside the worker's runtime.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Descriptor(Rc::new(TcpStream::from_std(fd.into())?)))
    }

    /// Waits until the descriptor is readable, at end of file or in error (one poll operation on the ring).
    pub async fn readable(self) {
        // A failed poll is readiness too: the call that follows meets the same error and reports it.
        let _ = self.0.readable(true).await;
    }

    /// Waits until the descriptor is writable or in error (one poll operation on the ring).
    pub async fn writable(self) {
        let _ = self.0.writable(true).await;
    }

    /// Closes with one `close(2)` when nothing else holds the descriptor; otherwise the ring does it once
    /// the poll in flight has been cancelled.
    pub fn close(self) {
        if let Ok(stream) = Rc::try_unwrap(self.0) {
            let fd = stream.into_raw_fd();
            // SAFETY: `into_raw_fd` gave up ownership of an open descriptor and nobody else has its number.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the stream behind the `Rc` keeps the descriptor open for as long as `self` is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}
