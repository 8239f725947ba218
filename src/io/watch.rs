//! A descriptor of the worker itself, such as a listener or a timer, whose readiness is awaited on the ring.
//!
//! Each wait is one poll operation. There are few of these; connections share one (see [`super::ready`]).

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    task::{Context, Poll},
};

use super::readiness::Readiness;
use crate::sys::descriptor::Descriptor;

/// A watched descriptor. Dropping it closes it.
pub struct Watch {
    descriptor: Descriptor,
    read: Readiness,
}

impl Watch {
    /// Takes over a descriptor. Must run inside the worker's runtime.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Watch { descriptor: Descriptor::new(fd)?, read: Readiness::default() })
    }

    /// Ready once for each time it was seen readable, at its end or in error.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.read.poll(&self.descriptor, cx)
    }

    /// Waits until it is readable.
    pub async fn readable(&mut self) {
        std::future::poll_fn(|cx| self.poll_readable(cx)).await;
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
