//! An attempt: one request or connection at one backend, from the pick to its end, however it ends.

use std::{cell::Cell, rc::Rc, time::Duration};

use super::{Cluster, backend::Backend};
use crate::{
    config::plan::cluster::OnDown,
    fault::Fault,
    health::standing::{Failure, Standing, TrialEnd},
    io::alarm::Millis,
    stats::names::BackendCount,
};

/// What a backend was picked as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// One that was thought fit.
    Usual,
    /// One that was ejected, and may show with this that it is back.
    Trial,
    /// One that was set aside, for want of a better one.
    LastResort,
}

/// Counts as in flight at its backend until it is dropped.
pub struct Attempt {
    cluster: Rc<Cluster>,
    backend: Rc<Backend>,
    /// It is to show whether an ejected backend is back, and has not shown it yet.
    is_trial: Cell<bool>,
    role: Role,
}

impl Attempt {
    /// For what the cluster's selector has just picked or been told of.
    pub(super) fn new(cluster: Rc<Cluster>, backend: Rc<Backend>, role: Role) -> Self {
        Attempt { cluster, backend, is_trial: Cell::new(role == Role::Trial), role }
    }

    /// Whom it goes to.
    pub fn backend(&self) -> &Rc<Backend> {
        &self.backend
    }

    /// False when the backend takes no more work since it was picked.
    pub fn is_welcome(&self) -> bool {
        self.is_trial.get() || self.backend.record().standing() != Standing::Out
    }

    /// True when nothing was known against the backend when it was picked.
    pub fn was_trusted(&self) -> bool {
        self.role != Role::LastResort
    }

    /// Its cluster.
    pub fn cluster(&self) -> &Rc<Cluster> {
        &self.cluster
    }

    /// True when a flow of datagrams is to go on elsewhere, as soon as its client says something: its backend is out.
    pub fn is_over(&self) -> bool {
        self.cluster.on_down() != OnDown::Keep && self.is_left()
    }

    /// True when a flow of datagrams is to end at once: its backend is out.
    pub fn is_severed(&self) -> bool {
        self.cluster.on_down() == OnDown::Close && self.is_left()
    }

    /// True when nobody would be given this backend now.
    fn is_left(&self) -> bool {
        match self.backend.record().standing() {
            Standing::Up | Standing::Drain => false,
            // Control may not have heard yet that it was this one's trial, and that it went well.
            Standing::Trial => self.role != Role::Trial,
            Standing::Out => !self.is_trial.get(),
        }
    }

    /// True while it is to show whether an ejected backend is back.
    pub fn is_trial(&self) -> bool {
        self.is_trial.get()
    }

    /// A connection was made, to the endpoint at this place.
    pub fn connected(&self, place: usize, now: Millis) {
        self.backend.connected(place);
        self.cluster.reconsider(&self.backend, now);
    }

    /// The endpoint at this place has answered, after a connection to it or without one.
    pub fn answered(&self, place: usize, now: Millis) {
        self.backend.answered(place);
        self.cluster.reconsider(&self.backend, now);
        self.succeeded();
    }

    /// It has failed: the backend is set aside if it is to blame. `reused` is the connection if it had served before.
    pub fn failed(&self, fault: Fault, reused: bool, now: Millis) {
        self.backend.blame(fault, now);
        self.cluster.reconsider(&self.backend, now);
        if let Some(failure) = Failure::of(fault, reused) {
            self.backend.stats().count(BackendCount::Blamed);
            self.cluster.failed(&self.backend, failure, self.is_trial.take());
        }
    }

    /// The first byte of the response has come, or the wait for it was given up.
    pub fn responded(&self, first_byte: Duration, now: Millis) {
        self.cluster.responded(&self.backend, first_byte, now);
    }

    /// A response with this status has begun, which is all that a trial asks for.
    pub fn answered_with(&self, status: u16) {
        if status >= 500 && self.cluster.counts_5xx() {
            self.cluster.failed(&self.backend, Failure::Status5xx, self.is_trial.take());
        } else if self.is_trial.take() {
            self.cluster.ended_trial(&self.backend, TrialEnd::Succeeded);
        }
    }

    /// The response is whole.
    pub fn completed(&self, status: u16) {
        if status < 500 || !self.cluster.counts_5xx() {
            self.succeeded();
        }
    }

    /// Nobody has refused it for so long that somebody takes it, though without an answer. That is no more than a trial asks
    /// for, and says nothing of those that failed.
    pub fn stands_trial(&self) {
        if self.is_trial.take() {
            self.cluster.ended_trial(&self.backend, TrialEnd::Succeeded);
        }
    }

    /// It has done what it was for.
    pub fn succeeded(&self) {
        if self.is_trial.take() {
            self.cluster.ended_trial(&self.backend, TrialEnd::Succeeded);
        }
        if self.backend.record().awaits_success() {
            self.cluster.succeeded(&self.backend);
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.is_trial.get() {
            self.cluster.ended_trial(&self.backend, TrialEnd::Unused);
        }
        self.cluster.finished(&self.backend);
        self.backend.room().exit();
    }
}
