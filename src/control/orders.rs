//! Orders: what workers are told that must arrive, in the order in which it was given.
//!
//! Owned by the control thread. An order that finds a mailbox full waits for room there, and nobody waits with it.

use std::collections::VecDeque;

use crossbeam::channel::TrySendError;

use crate::{
    io::alarm::Millis,
    worker::mailbox::{Command, Handle},
};

/// How soon a worker whose mailbox was full is tried again.
pub(super) const RETRY: Millis = 5;

/// The way to every worker.
#[derive(Debug)]
pub struct Orders {
    workers: Vec<Handle>,
    /// What found no room yet, by worker. A reload, a drain and a cut at the most, since each is given once.
    waiting: Vec<VecDeque<Command>>,
    retry: Option<Millis>,
}

impl Orders {
    /// To these workers.
    pub fn new(workers: Vec<Handle>) -> Self {
        let waiting = workers.iter().map(|_| VecDeque::new()).collect();
        Orders { workers, waiting, retry: None }
    }

    /// The workers, in the order of their cores.
    pub fn workers(&self) -> &[Handle] {
        &self.workers
    }

    /// Gives each worker its own order.
    pub fn give(&mut self, commands: impl IntoIterator<Item = Command>, now: Millis) {
        for (waiting, command) in self.waiting.iter_mut().zip(commands) {
            waiting.push_back(command);
        }
        self.deliver(now);
    }

    /// Delivers what has waited, as far as there is room. What is for a worker that has ended is forgotten.
    pub fn deliver(&mut self, now: Millis) {
        self.retry = None;
        for (worker, waiting) in self.workers.iter().zip(&mut self.waiting) {
            while let Some(command) = waiting.pop_front() {
                if let Err(TrySendError::Full(command)) = worker.send(command) {
                    waiting.push_front(command);
                    self.retry = Some(now + RETRY);
                    break;
                }
            }
        }
    }

    /// Sends a worker what may be said again later; gives it back when the mailbox is full, or when an order has to arrive
    /// before it.
    pub fn tell(&self, worker: usize, command: Command) -> Result<(), TrySendError<Command>> {
        match (self.workers.get(worker), self.waiting.get(worker)) {
            (Some(handle), Some(waiting)) if waiting.is_empty() => handle.send(command),
            (Some(_), Some(_)) => Err(TrySendError::Full(command)),
            _ => Err(TrySendError::Disconnected(command)),
        }
    }

    /// When [`Self::deliver`] should be called, if something waits.
    pub fn due(&self) -> Option<Millis> {
        self.retry
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{limits::MAILBOX_MAX, worker::mailbox::Mailbox};

    fn worker() -> (Mailbox, Handle) {
        Mailbox::new(Arc::default()).unwrap()
    }

    /// What is in a mailbox, but for what stuffed it.
    fn read(mailbox: &Mailbox) -> Vec<Command> {
        let commands = std::iter::from_fn(|| mailbox.next());
        commands.filter(|command| !matches!(command, Command::Told(_))).collect()
    }

    #[test]
    fn an_order_waits_for_room_and_what_comes_later_does_not_overtake_it() {
        let ((slow, handle), (quick, other)) = (worker(), worker());
        (0..MAILBOX_MAX).for_each(|_| handle.send(Command::Told(Vec::new())).unwrap());
        let mut orders = Orders::new(vec![handle, other]);
        orders.give([Command::Drain, Command::Drain], 10);
        assert!(matches!(read(&quick)[..], [Command::Drain]), "nobody waits for the slow one");
        assert_eq!(orders.due(), Some(10 + RETRY));
        orders.give([Command::Cut, Command::Cut], 11);
        assert!(read(&slow).is_empty());
        assert!(matches!(orders.tell(0, Command::Told(Vec::new())), Err(TrySendError::Full(_))));
        assert!(orders.tell(1, Command::Told(Vec::new())).is_ok());
        orders.deliver(15);
        assert!(matches!(read(&slow)[..], [Command::Drain, Command::Cut]));
        assert_eq!(orders.due(), None);
        assert!(orders.tell(0, Command::Told(Vec::new())).is_ok());
    }

    #[test]
    fn what_is_for_a_worker_that_has_ended_is_forgotten() {
        let (mailbox, handle) = worker();
        drop(mailbox);
        let mut orders = Orders::new(vec![handle]);
        orders.give([Command::Drain], 10);
        assert_eq!(orders.due(), None);
    }
}
