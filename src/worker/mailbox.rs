//! What other threads may ask of a worker: a bounded queue of commands, a passage for descriptors and a doorbell.
//!
//! Each worker has a table of descriptors of its own, so they do not go by the queue. What goes by the passage never
//! overtakes a command that the same sender gave before it; a later command may overtake it.

use std::{
    borrow::Cow,
    cell::RefCell,
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use serde::{Deserialize, Serialize};

use crate::{
    blueprint::Blueprint,
    health::standing::Standing,
    limits::MAILBOX_MAX,
    stats::{
        names::{Count, Level},
        view::BackendCells,
        worker::WorkerStats,
    },
    sys::{
        doorbell::Doorbell,
        passage::{self, Entrance, Exit, Passed},
    },
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
    /// Listen here too. Comes after every worker knows a plan that has these listeners.
    Listen(Vec<ListenerSocket>),
    /// Take no new work and end when the last connection has ended.
    Drain,
    /// End every connection now.
    Cut,
}

/// A listener's socket, one of as many as there are workers.
#[derive(Debug)]
pub struct ListenerSocket {
    /// Whose it is: [`ListenerPlan::binding`](crate::config::plan::ListenerPlan::binding).
    pub binding: String,
    /// Bound; it need not listen yet.
    pub socket: OwnedFd,
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

/// What is written on a descriptor in the passage.
#[derive(Debug, Serialize, Deserialize)]
enum Label<'l> {
    Serve { listener: Cow<'l, str>, peer: Option<SocketAddr> },
    Listen { binding: Cow<'l, str> },
}

/// The sending side, one for every other worker and for control.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: Sender<Command>,
    entrance: Entrance,
    /// Descriptors in the passage.
    underway: Arc<AtomicU64>,
    doorbell: Doorbell,
    /// The worker's numbers, to read.
    pub stats: Arc<WorkerStats>,
}

impl Handle {
    /// Connections the worker has, or will have when it has read its mail.
    pub fn load(&self) -> u64 {
        self.stats.level(Level::ConnectionsActive) + self.underway.load(Relaxed)
    }

    /// Leaves a command and rings; a full mailbox, or one whose worker has ended, gives it back, as much of it as was not taken.
    /// Never blocks.
    pub fn send(&self, command: Command) -> Result<(), TrySendError<Command>> {
        let left = match command {
            Command::Serve { listener, connection, peer } => {
                let label = Label::Serve { listener: Cow::Borrowed(&*listener), peer };
                self.pass(&label, &connection)
                    .map_err(|error| refused(&error, Command::Serve { listener, connection, peer }))
            }
            Command::Listen(sockets) => self.pass_all(sockets),
            command => self.commands.try_send(command),
        };
        self.doorbell.ring();
        left
    }

    fn pass_all(&self, sockets: Vec<ListenerSocket>) -> Result<(), TrySendError<Command>> {
        let mut sockets = sockets.into_iter();
        while let Some(socket) = sockets.next() {
            let label = Label::Listen { binding: Cow::Borrowed(&socket.binding) };
            if let Err(error) = self.pass(&label, &socket.socket) {
                let rest = std::iter::once(socket).chain(sockets).collect();
                return Err(refused(&error, Command::Listen(rest)));
            }
        }
        Ok(())
    }

    fn pass(&self, label: &Label<'_>, descriptor: impl AsFd) -> io::Result<()> {
        let label = serde_json::to_vec(label)?;
        self.underway.fetch_add(1, Relaxed);
        let passed = self.entrance.pass(&label, descriptor);
        if passed.is_err() {
            self.underway.fetch_sub(1, Relaxed);
        }
        passed
    }

    /// What a thread with a table of descriptors of its own needs to send.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.entrance.as_fd(), self.doorbell.as_fd()]
    }
}

/// What becomes of a command whose descriptor was not taken.
fn refused(error: &io::Error, command: Command) -> TrySendError<Command> {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => TrySendError::Disconnected(command),
        _ => TrySendError::Full(command),
    }
}

/// The worker's own side.
#[derive(Debug)]
pub struct Mailbox {
    commands: Receiver<Command>,
    exit: Exit,
    underway: Arc<AtomicU64>,
    /// It came by the passage, and a command before it.
    held: RefCell<Option<Command>>,
    doorbell: Doorbell,
    stats: Arc<WorkerStats>,
}

impl Mailbox {
    /// A mailbox and a handle to it.
    pub fn new(stats: Arc<WorkerStats>) -> io::Result<(Mailbox, Handle)> {
        let (sender, receiver) = bounded(MAILBOX_MAX);
        let (entrance, exit) = passage::open()?;
        let (doorbell, underway) = (Doorbell::new()?, Arc::<AtomicU64>::default());
        let handle = Handle {
            commands: sender,
            entrance,
            underway: Arc::clone(&underway),
            doorbell: doorbell.clone(),
            stats: Arc::clone(&stats),
        };
        let held = RefCell::default();
        Ok((Mailbox { commands: receiver, exit, underway, held, doorbell, stats }, handle))
    }

    /// The doorbell, to wait on and to ring oneself.
    pub fn doorbell(&self) -> &Doorbell {
        &self.doorbell
    }

    /// What a thread with a table of descriptors of its own needs to read its mail.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.exit.as_fd(), self.doorbell.as_fd()]
    }

    /// The next command, if there is one. A descriptor that finds no room in the worker's table waits in the passage.
    pub fn next(&self) -> Option<Command> {
        if let Ok(command) = self.commands.try_recv() {
            return Some(command);
        }
        let mut held = self.held.borrow_mut();
        if held.is_none() {
            *held = self.passed();
            // What its sender said before it is in the queue by now.
            if held.is_some()
                && let Ok(command) = self.commands.try_recv()
            {
                return Some(command);
            }
        }
        held.take()
    }

    /// True when something waits that found no room in the worker's table of descriptors.
    pub fn is_held_up(&self) -> bool {
        self.underway.load(Relaxed) > 0
    }

    /// What comes out of the passage next. What a shared table had no room for is lost, and counted as if it had not been accepted.
    fn passed(&self) -> Option<Command> {
        while self.underway.load(Relaxed) > 0 {
            let Passed { label, descriptor } = self.exit.take().ok()??;
            self.underway.fetch_sub(1, Relaxed);
            match descriptor.zip(serde_json::from_slice(&label).ok()) {
                Some((connection, Label::Serve { listener, peer })) => {
                    return Some(Command::Serve { listener: listener.into(), connection, peer });
                }
                Some((socket, Label::Listen { binding })) => {
                    return Some(Command::Listen(vec![ListenerSocket {
                        binding: binding.into_owned(),
                        socket,
                    }]));
                }
                None => self.stats.count(Count::AcceptErrorsDescriptors),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn connection() -> Command {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let peer = Some("192.0.2.1:7".parse().unwrap());
        Command::Serve { listener: "web".into(), connection: ours.into(), peer }
    }

    fn sockets(count: usize) -> Command {
        let socket = |place| ListenerSocket {
            binding: format!("http 127.0.0.1:{place} web"),
            socket: UnixStream::pair().unwrap().0.into(),
        };
        Command::Listen((0..count).map(socket).collect())
    }

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

    #[test]
    fn connections_arrive_as_they_were_handed_over_and_count_while_they_are_underway() {
        let (mailbox, handle) = Mailbox::new(Arc::default()).unwrap();
        handle.send(connection()).unwrap();
        assert_eq!(handle.load(), 1);
        let Some(Command::Serve { listener, peer, .. }) = mailbox.next() else { panic!("no connection") };
        assert_eq!((&*listener, peer), ("web", Some("192.0.2.1:7".parse().unwrap())));
        assert_eq!((handle.load(), mailbox.next().is_none()), (0, true));
    }

    #[test]
    fn what_is_passed_never_overtakes_what_was_said_before() {
        let (mailbox, handle) = Mailbox::new(Arc::default()).unwrap();
        handle.send(Command::Drain).unwrap();
        handle.send(sockets(2)).unwrap();
        handle.send(Command::Cut).unwrap();
        assert!(matches!(mailbox.next(), Some(Command::Drain)));
        let rest: Vec<_> = std::iter::from_fn(|| mailbox.next()).collect();
        assert!(matches!(&rest[..], [Command::Cut, Command::Listen(_), Command::Listen(_)]), "{rest:?}");
    }

    #[test]
    fn sockets_that_find_no_room_are_given_back_and_none_is_lost() {
        let (mailbox, handle) = Mailbox::new(Arc::default()).unwrap();
        let mut order = sockets(600);
        let mut bindings = Vec::new();
        while let Err(left) = handle.send(order) {
            let TrySendError::Full(left) = left else { panic!("nobody has left") };
            order = left;
            let taken = std::iter::from_fn(|| mailbox.next());
            bindings.extend(taken.map(|command| match command {
                Command::Listen(sockets) => sockets[0].binding.clone(),
                other => panic!("{other:?}"),
            }));
        }
        assert!(!bindings.is_empty(), "600 fit at once");
        let rest = std::iter::from_fn(|| mailbox.next()).count();
        assert_eq!(bindings.len() + rest, 600);
        assert!(
            bindings.iter().enumerate().all(|(at, binding)| *binding == format!("http 127.0.0.1:{at} web"))
        );
    }

    #[test]
    fn who_has_left_takes_nothing() {
        let (mailbox, handle) = Mailbox::new(Arc::default()).unwrap();
        drop(mailbox);
        for command in [connection(), sockets(1), Command::Drain] {
            assert!(matches!(handle.send(command), Err(TrySendError::Disconnected(_))));
        }
        assert_eq!(handle.load(), 0);
    }
}
