//! What other threads may ask of a worker: a bounded queue of commands and a doorbell.

use std::{io, net::SocketAddr, os::fd::OwnedFd, sync::Arc};

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};

use crate::{
    blueprint::Blueprint,
    health::standing::Standing,
    limits::MAILBOX_MAX,
    stats::{names::Level, view::BackendCells, worker::WorkerStats},
    sys::doorbell::Doorbell,
};

/// A command to a worker.
#[derive(Debug)]
pub enum Command {
    /// Serve a connection another worker has accepted.
    Serve {
        /// The name of the listener it came from.
        listener: Arc<str>,
        /// The connection.
        connection: OwnedFd,
        /// The client, unless it came by a UNIX socket.
        peer: Option<SocketAddr>,
    },
    /// Balance by another plan from now on.
    Renew(Box<Renewal>),
    /// Backends stand so from now on, by their places in the plan.
    Told(Vec<((usize, usize), Standing)>),
    /// Listen here too; by the listener's place in the plan. Comes after every worker knows that plan.
    Listen(Vec<(usize, OwnedFd)>),
    /// Take no new work and end when the last connection has ended.
    Drain,
    /// End every connection now.
    Cut,
}

/// What a reload brings to one worker.
#[derive(Debug)]
pub struct Renewal {
    /// What all workers share.
    pub blueprint: Arc<Blueprint>,
    /// This worker's cells, in the order of its plan.
    pub backends: BackendCells,
    /// How its backends stand, in the same order.
    pub standings: Vec<Vec<Standing>>,
}

/// The sending side, one for every other worker and for control.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: Sender<Command>,
    doorbell: Doorbell,
    /// The worker's numbers, to read.
    pub stats: Arc<WorkerStats>,
}

impl Handle {
    /// Connections the worker has, or will have when it has read its mail.
    pub fn load(&self) -> u64 {
        self.stats.level(Level::ConnectionsActive) + self.commands.len() as u64
    }

    /// Queues a command and rings; a full queue, or one whose worker has ended, gives it back. Never blocks.
    pub fn send(&self, command: Command) -> Result<(), TrySendError<Command>> {
        self.commands.try_send(command)?;
        self.doorbell.ring();
        Ok(())
    }
}

/// The worker's own side.
#[derive(Debug)]
pub struct Mailbox {
    commands: Receiver<Command>,
    doorbell: Doorbell,
}

impl Mailbox {
    /// A mailbox and a handle to it.
    pub fn new(stats: Arc<WorkerStats>) -> io::Result<(Mailbox, Handle)> {
        let (sender, receiver) = bounded(MAILBOX_MAX);
        let doorbell = Doorbell::new()?;
        let handle = Handle { commands: sender, doorbell: doorbell.clone(), stats };
        Ok((Mailbox { commands: receiver, doorbell }, handle))
    }

    /// The doorbell, to wait on and to ring oneself.
    pub fn doorbell(&self) -> &Doorbell {
        &self.doorbell
    }

    /// The next command, if there is one.
    pub fn next(&self) -> Option<Command> {
        self.commands.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_mailbox_gives_the_command_back() {
        let (mailbox, handle) = Mailbox::new(Arc::default()).unwrap();
        for _ in 0..MAILBOX_MAX {
            handle.send(Command::Drain).unwrap();
        }
        assert!(matches!(handle.send(Command::Cut), Err(TrySendError::Full(Command::Cut))));
        assert!(matches!(mailbox.next(), Some(Command::Drain)));
        assert!(handle.send(Command::Cut).is_ok());
    }
}
