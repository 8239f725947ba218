//! A flow's session: the backend it was given, and what is known of both ends.

use std::io;

use rustix::io::Errno;

use super::{
    flow::Flow,
    trial::{Trial, Upstream},
};
use crate::{
    admission::door::Pass,
    io::tray::Burst,
    stats::{names::Count, worker::Held},
};

/// One flow. Dropping it closes its socket.
pub struct Session {
    /// Whose it is.
    pub flow: Flow,
    /// The backend it keeps.
    pub upstream: Upstream,
    /// How it came to that one, until that one answers.
    pub trial: Option<Box<Trial>>,
    /// How many replies to ask for.
    pub burst: Burst,
    /// Datagrams to the backend may be put together.
    pub together_up: bool,
    /// Datagrams to the client may be put together.
    pub together_down: bool,
    /// Counts it as active.
    pub held: Held,
    /// Counts it for its client.
    pub pass: Pass,
}

/// What a failed call on a datagram socket means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// A queue is full, or nothing waits in it.
    Full,
    /// The datagram is too large for the way on.
    Oversized,
    /// The receiver's host said that nobody receives there.
    Refused,
    /// No way leads there, or a filter forbids it.
    Unreachable,
}

impl Trouble {
    /// Sorts the errors of sending and receiving. Those of ICMP messages are reported by whichever call comes next.
    pub fn of(error: &io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM | Errno::INTR) => Trouble::Full,
            Some(Errno::MSGSIZE) => Trouble::Oversized,
            Some(Errno::CONNREFUSED) => Trouble::Refused,
            _ => Trouble::Unreachable,
        }
    }

    /// True when the backend is to blame, and what it was asked is better asked elsewhere.
    pub fn is_fatal(self) -> bool {
        matches!(self, Trouble::Refused | Trouble::Unreachable)
    }

    /// Where it is counted.
    pub fn counter(self) -> Count {
        match self {
            Trouble::Full => Count::UdpDropped,
            Trouble::Oversized => Count::UdpOversized,
            Trouble::Refused => Count::UdpRefused,
            Trouble::Unreachable => Count::UdpUnreachable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_backend_that_cannot_be_reached_loses_its_flow() {
        let of = |errno: Errno| Trouble::of(&errno.into());
        assert_eq!((of(Errno::AGAIN), of(Errno::NOBUFS)), (Trouble::Full, Trouble::Full));
        assert_eq!(of(Errno::MSGSIZE), Trouble::Oversized);
        assert_eq!(of(Errno::CONNREFUSED), Trouble::Refused);
        assert_eq!((of(Errno::NETUNREACH), of(Errno::PERM)), (Trouble::Unreachable, Trouble::Unreachable));
        for trouble in [Trouble::Full, Trouble::Oversized] {
            assert!(!trouble.is_fatal());
        }
    }
}
