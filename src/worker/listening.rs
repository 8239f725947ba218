//! Listeners of this worker: how they are opened, how they were planned, and what a reload changes of one while it goes on.

use std::{
    cell::Cell,
    io, iter,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
    sync::Arc,
};

use super::{contain::contain, mailbox::ListenerSocket, run::Worker};
use crate::{
    config::plan::{ListenerPlan, Mode},
    io::watch::Watch,
    limits::{DEFER_ACCEPT_SECONDS, LISTEN_BACKLOG},
    listener::accept,
    stats::names::Count,
    sys::{option, socket},
    udp::relay::Relay,
};

/// What a listener opens beside its socket, at the most.
const SPARE_DESCRIPTORS: usize = 4;

/// A listener that accepts.
pub(super) struct Listening {
    plan: ListenerPlan,
    /// The order to close.
    closing: Rc<Cell<bool>>,
    /// Its TCP socket, beside the one that is accepted from. Whoever wants it closed drops this, too.
    socket: Option<OwnedFd>,
}

impl Listening {
    /// Prepares a TCP listener's socket, which does not listen yet, and keeps hold of it.
    pub(super) fn over_tcp(plan: &ListenerPlan, socket: impl AsFd) -> io::Result<Self> {
        if plan.defer_accept {
            option::defer_accept(&socket, DEFER_ACCEPT_SECONDS)?;
        }
        let socket = socket.as_fd().try_clone_to_owned()?;
        Ok(Listening { socket: Some(socket), ..Listening::new(plan) })
    }

    /// Any other listener.
    pub(super) fn new(plan: &ListenerPlan) -> Self {
        Listening { plan: plan.clone(), closing: Rc::default(), socket: None }
    }

    /// The order to close, which whoever accepts looks at.
    pub(super) fn closing(&self) -> Rc<Cell<bool>> {
        Rc::clone(&self.closing)
    }

    /// Goes by another plan; false when there it is not, and it has been ordered to close.
    pub(super) fn renew(&mut self, planned: &[ListenerPlan]) -> bool {
        let planned = planned.iter().find(|planned| planned.is_bound_like(&self.plan));
        self.closing.set(planned.is_none());
        let Some(planned) = planned else { return false };
        if let Some(socket) = self.socket.as_ref().filter(|_| planned.defer_accept != self.plan.defer_accept)
        {
            let seconds = if planned.defer_accept { DEFER_ACCEPT_SECONDS } else { 0 };
            // It takes every number, and it has taken one before.
            let _ = option::defer_accept(socket, seconds);
        }
        self.plan.clone_from(planned);
        true
    }
}

impl Worker {
    /// Keeps descriptors for the next listener, as many as there are.
    pub(super) fn lay_by(&self) {
        let spare = iter::repeat_with(|| self.mailbox.doorbell().duplicate());
        self.spare.borrow_mut().extend(spare.take(SPARE_DESCRIPTORS).map_while(Result::ok));
    }

    /// Listens on a socket that came by the mailbox.
    pub(super) fn listen(
        self: &Rc<Self>,
        ListenerSocket { binding, socket }: ListenerSocket,
    ) -> io::Result<()> {
        let setup = self.shard.setup();
        // Another reload may have been faster.
        let Some(plan) = setup.plan().listeners.iter().find(|plan| plan.binding() == binding) else {
            return Ok(());
        };
        if plan.mode == Mode::Udp {
            return self.relay_datagrams(plan, socket);
        }
        let name = Arc::clone(&plan.name);
        let for_all = plan.endpoint.inet().is_none();
        let listening = if for_all {
            Listening::new(plan)
        } else {
            socket::set_nodelay(&socket)?;
            Listening::over_tcp(plan, &socket)?
        };
        socket::start_listening(&socket, LISTEN_BACKLOG)?;
        let queue = Watch::new(socket)?;
        let worker = Rc::clone(self);
        let closing = self.keep(listening);
        let serve = move |connection, peer| worker.place(&name, for_all, connection, peer);
        let accepting = accept::run(Rc::clone(&self.shard), closing, queue, serve);
        self.listening.set(self.listening.get() + 1);
        let worker = Rc::clone(self);
        monoio::spawn(async move {
            accepting.await;
            worker.listening.set(worker.listening.get().saturating_sub(1));
            worker.mailbox.doorbell().ring();
        });
        Ok(())
    }

    /// Remembers a listener for reloads; returns the order to close.
    fn keep(&self, listening: Listening) -> Rc<Cell<bool>> {
        let closing = listening.closing();
        self.listeners.borrow_mut().push(listening);
        closing
    }

    /// Passes the datagrams of a listener's socket on until the worker drains.
    fn relay_datagrams(self: &Rc<Self>, plan: &ListenerPlan, socket: OwnedFd) -> io::Result<()> {
        let closing = self.keep(Listening::new(plan));
        let mut relay = Relay::new(Rc::clone(&self.shard), Arc::clone(&plan.name), closing, socket)?;
        self.listening.set(self.listening.get() + 1);
        let worker = Rc::clone(self);
        monoio::spawn(async move {
            // All flows of the socket share the task, so a panic is the end of all of them, but not of the socket.
            while contain(relay.run()).await.is_err() {
                relay.forget();
                worker.shard.stats.count(Count::ConnectionPanics);
            }
            drop(relay);
            worker.listening.set(worker.listening.get().saturating_sub(1));
            worker.mailbox.doorbell().ring();
        });
        Ok(())
    }
}
