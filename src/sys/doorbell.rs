//! A doorbell: an eventfd by which another thread wakes a worker that waits on its ring.
//!
//! The rings of several callers collapse into one wake-up; what to do is in the queue beside it.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use rustix::event::{EventfdFlags, eventfd};

/// The caller's end; cheap to clone, usable from any thread.
#[derive(Debug, Clone)]
pub struct Doorbell(Arc<OwnedFd>);

impl Doorbell {
    /// Creates a silent doorbell (`eventfd(2)`, non-blocking, close-on-exec).
    pub fn new() -> io::Result<Self> {
        Ok(Doorbell(Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?)))
    }

    /// Wakes the owner; never blocks. A full counter means that it is ringing already.
    pub fn ring(&self) {
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Silences the bell before the queue is read, so that no ring is missed.
    pub fn silence(&self) {
        let mut count = [0u8; 8];
        let _ = rustix::io::read(&self.0, &mut count);
    }

    /// A second descriptor on the same eventfd, for the owner's runtime to wait on.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        self.0.try_clone()
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
