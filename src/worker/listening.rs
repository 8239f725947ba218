//! A listener of this worker: how it was planned, and what a reload changes of it while it goes on.

use std::{
    cell::Cell,
    io,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
};

use crate::{config::plan::ListenerPlan, limits::DEFER_ACCEPT_SECONDS, sys::option};

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
