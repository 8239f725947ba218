//! The outbox: what a worker tells control, over a bounded queue that is never waited for.
//!
//! Some words are said once, and control waits for them. What was seen of backends can be told later, so it leaves them
//! room.

use std::{
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::Arc,
};

use crossbeam::channel::Sender;

use super::run::Event;
use crate::health::standing::Observation;

/// One worker's.
#[derive(Debug, Clone)]
pub struct Outbox {
    me: usize,
    /// Shared by all workers.
    events: Sender<(usize, Event)>,
    /// Wakes control.
    control: Arc<UnixStream>,
}

impl Outbox {
    /// The outbox of the worker `me`; a byte to `control`, which must not block, wakes control: a
    /// stream, since tokio waits for one without unsafe code, as it does not for a doorbell.
    pub fn new(me: usize, events: Sender<(usize, Event)>, control: Arc<UnixStream>) -> Self {
        Outbox { me, events, control }
    }

    /// What a thread with a table of descriptors of its own needs to be heard.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 1] {
        [self.control.as_fd()]
    }

    fn ring(&self) {
        // Where there is no room, enough rings wait to be heard.
        let _ = rustix::io::write(&*self.control, &[1]);
    }

    /// Says something that is said once.
    pub fn tell(&self, event: Event) {
        let _ = self.events.try_send((self.me, event));
        self.ring();
    }

    /// Tells what was seen. False when half of the queue is in use: the rest is for what is said once.
    pub fn report(&self, batch: Vec<Observation>) -> bool {
        let has_room = self.events.capacity().is_none_or(|capacity| self.events.len() < capacity / 2);
        let told = has_room && self.events.try_send((self.me, Event::Observed(batch))).is_ok();
        self.ring();
        told
    }
}

#[cfg(test)]
mod tests {
    use crossbeam::channel::bounded;

    use super::*;

    #[test]
    fn reports_leave_room_for_what_is_said_once() {
        let (events, told) = bounded(8);
        let outbox = Outbox::new(3, events, Arc::new(UnixStream::pair().unwrap().0));
        assert_eq!((0..10).filter(|_| outbox.report(Vec::new())).count(), 4);
        (0..4).for_each(|_| outbox.tell(Event::Renewed));
        assert_eq!(told.try_iter().filter(|(_, event)| matches!(event, Event::Renewed)).count(), 4);
        assert!(outbox.report(Vec::new()));
    }
}
