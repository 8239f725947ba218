//! An attempt: one request or connection at one backend, from the pick to its end, however it ends.

use std::{rc::Rc, time::Duration};

use super::{Cluster, backend::Backend};
use crate::{fault::Fault, io::alarm::Millis};

/// Counts as in flight at its backend until it is dropped.
pub struct Attempt {
    cluster: Rc<Cluster>,
    backend: Rc<Backend>,
}

impl Attempt {
    /// For what the cluster's selector has just picked or been told of.
    pub(super) fn new(cluster: Rc<Cluster>, backend: Rc<Backend>) -> Self {
        Attempt { cluster, backend }
    }

    /// Whom it goes to.
    pub fn backend(&self) -> &Rc<Backend> {
        &self.backend
    }

    /// A connection was made, to the endpoint at this place.
    pub fn connected(&self, place: usize, now: Millis) {
        self.backend.connected(place);
        self.cluster.reconsider(&self.backend, now);
    }

    /// The endpoint at this place has answered.
    pub fn answered(&self, place: usize, now: Millis) {
        self.backend.answered(place);
        self.cluster.reconsider(&self.backend, now);
    }

    /// It has failed: the backend is set aside if it is to blame.
    pub fn failed(&self, fault: Fault, now: Millis) {
        self.backend.blame(fault, now);
        self.cluster.reconsider(&self.backend, now);
    }

    /// The first byte of the response has come, or the wait for it was given up.
    pub fn responded(&self, first_byte: Duration, now: Millis) {
        self.cluster.responded(&self.backend, first_byte, now);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.cluster.finished(&self.backend);
    }
}
