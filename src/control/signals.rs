//! The signals the program follows. What follows from each is the supervisor's to say; nothing here decides. Runs on the
//! main thread.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that mean something (`signal(7)`); SIGPIPE is ignored since the start of every Rust program.
pub(super) struct Signals {
    pub(super) terminate: Signal,
    pub(super) interrupt: Signal,
    pub(super) quit: Signal,
    pub(super) hangup: Signal,
    pub(super) user1: Signal,
    pub(super) user2: Signal,
}

impl Signals {
    /// Catches them from here on; fails when the process cannot.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }
}
