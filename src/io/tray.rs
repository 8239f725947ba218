//! Where a worker's datagrams lie for a moment: received into the inbox, sent from there.

use crate::{
    limits::UDP_BATCH_MAX,
    sys::datagram::{Inbox, Outbox, PLACE_BYTES},
};

/// One for each worker, made when its first datagram comes; never held across a wait.
pub struct Tray {
    /// What was received.
    pub inbox: Inbox,
    /// What of it is to be sent.
    pub outbox: Outbox,
    /// Places of the inbox that hold something not sent yet.
    pub filled: usize,
}

impl Default for Tray {
    fn default() -> Self {
        let inbox = Inbox::with_room(UDP_BATCH_MAX, room());
        Tray { inbox, outbox: Outbox::new(UDP_BATCH_MAX), filled: 0 }
    }
}

#[cfg(not(debug_assertions))]
fn room() -> usize {
    PLACE_BYTES
}

/// The suite's way to see datagrams cut off, which real ones are too small for; not compiled into releases.
#[cfg(debug_assertions)]
fn room() -> usize {
    let room = std::env::var("RINGWAY_TEST_DATAGRAM_BYTES").ok().and_then(|room| room.parse().ok());
    room.unwrap_or(PLACE_BYTES)
}

/// How many messages to ask for: one that gets all it asked for asks for more the next time, so that a lone datagram
/// costs no look at an empty queue.
#[derive(Debug, Clone, Copy)]
pub struct Burst(usize);

impl Default for Burst {
    fn default() -> Self {
        Burst(1)
    }
}

impl Burst {
    /// What to ask for, at most `max`.
    pub fn wanted(self, max: usize) -> usize {
        self.0.min(max)
    }

    /// Learns what came when `wanted` was asked for.
    pub fn came(&mut self, wanted: usize, count: usize) {
        self.0 = if count >= wanted { wanted * 2 } else { count.max(1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_asked_for_in_doubling_steps_and_a_lone_datagram_alone() {
        let mut burst = Burst::default();
        let mut asked = Vec::new();
        for waiting in [100, 100, 100, 100, 100, 3, 3, 1, 1, 0] {
            let wanted = burst.wanted(16);
            asked.push(wanted);
            burst.came(wanted, wanted.min(waiting));
        }
        assert_eq!(asked, [1, 2, 4, 8, 16, 16, 3, 6, 1, 2]);
    }
}
