//! Pipes and `splice(2)`: moving bytes between two sockets without copying them to user space.
//!
//! Both sockets must be `O_NONBLOCK`: `SPLICE_F_NONBLOCK` speaks for the pipe alone. The ring's own splice
//! operation is never used, because the kernel runs it on a thread of its own.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// A pipe with its two ends and the number of bytes it holds.
#[derive(Debug)]
pub struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    filled: usize,
}

impl Pipe {
    /// Opens a pipe of `capacity` bytes. Fails with `EMFILE` without descriptors and with `EPERM` when the
    /// user's budget of pipe pages is used up (`pipe(7)`, pipe-user-pages-soft).
    pub fn new(capacity: usize) -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        fcntl_setpipe_size(&writer, capacity)?;
        Ok(Pipe { reader, writer, filled: 0 })
    }

    /// Bytes inside, known from what was moved in and out.
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// Moves up to `max` bytes from `source` into the pipe. `Ok(0)` is end of file; `WouldBlock` means that
    /// the socket is empty, or that the pipe is full if it holds anything.
    pub fn fill(&mut self, source: impl AsFd, max: usize) -> io::Result<usize> {
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let moved = splice(source, None, &self.writer, None, max, flags)?;
        self.filled += moved;
        Ok(moved)
    }

    /// Moves what the pipe holds into `sink`. `WouldBlock` means that the socket is full.
    pub fn drain(&mut self, sink: impl AsFd) -> io::Result<usize> {
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let moved = splice(&self.reader, None, sink, None, self.filled, flags)?;
        self.filled = self.filled.saturating_sub(moved);
        Ok(moved)
    }
}
