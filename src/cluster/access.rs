//! Access to a cluster beyond the choice of a backend: who waits for room, who may try again, what others get back.
//!
//! One worker's view, like the cluster itself.

use std::{rc::Rc, sync::Arc};

use super::{Cluster, line::Ticket, tried::Tried};
use crate::{
    config::plan::cluster::Retries,
    health::standing::Standing,
    io::alarm::{self, Millis},
    stats::worker::WorkerStats,
};

impl Cluster {
    /// True when nobody can be picked only because those who could have been have all they may have.
    pub fn is_worth_waiting(&self, tried: &Tried) -> bool {
        if !self.line.is_limited() || tried.is_exhausted() {
            return false;
        }
        let precedes = self.line.has_precedence() && !tried.is_in_turn();
        precedes || self.line.has_full() && self.members.borrow().selector.is_full_for(tried.indices())
    }

    /// True when the backend at this place could be had if it were not full.
    pub fn is_worth_waiting_for(&self, place: usize, tried: &Tried, now: Millis) -> bool {
        let members = self.members.borrow();
        self.line.is_limited()
            && !tried.is_exhausted()
            && !tried.indices().contains(&place)
            && members.backends.get(place).is_some_and(|backend| {
                let takes_clients = matches!(backend.record().standing(), Standing::Up | Standing::Drain);
                let waits = takes_clients && backend.set_aside_until(now).is_none();
                waits && backend.room().full_at.get().is_some()
            })
    }

    /// A place in the line of those who wait for room, at any backend or at the one at this place. `None` when too
    /// many wait.
    pub fn join_line(
        &self,
        pinned: Option<usize>,
        where_it_stood: Option<u64>,
        stats: &Arc<WorkerStats>,
    ) -> Option<Ticket> {
        let members = self.members.borrow();
        let pinned = pinned.and_then(|place| members.backends.get(place));
        let pinned = pinned.map(|backend| Rc::clone(backend.room()));
        drop(members);
        let (ticket, is_first) = self.line.join(pinned, where_it_stood, stats)?;
        // What was given back before that rang for nobody, and what was declined is free.
        if is_first || self.line.has_declined() {
            self.look_for_room();
        }
        Some(ticket)
    }

    /// True when somebody waits in its line.
    pub fn is_waited_for(&self) -> bool {
        self.line.is_waited_in()
    }

    /// Counts a request, to which the retries are compared.
    #[inline]
    pub fn note_request(&self, now: Millis) {
        self.budget.borrow_mut().request(now);
    }

    /// Takes a retry out of the budget: out of this worker's part of it, or out of what is always allowed. False when
    /// both are used up.
    pub fn may_retry(&self, retries: &Retries, now: Millis) -> bool {
        self.budget.borrow_mut().retry(retries.budget_percent, now)
            || self.floor.borrow().take(retries.per_second_min, now)
    }

    /// Another worker may have given something back, or has left what was given to it.
    pub fn look(&self) {
        if self.line.is_limited() && self.line.is_waited_in() {
            self.for_each(|backend| backend.room().yields_no_longer());
            self.look_for_room();
        }
    }

    /// Calls those who wait to whoever has room.
    fn look_for_room(&self) {
        if self.line.is_limited() && self.line.is_waited_in() {
            let now = alarm::now();
            self.readmit(now);
            let members = self.members.borrow();
            let has_fit = members.selector.has_fit();
            for backend in &members.backends {
                let takes_clients = matches!(backend.record().standing(), Standing::Up | Standing::Drain);
                // Nobody would be sent to the others.
                if takes_clients && (!has_fit || backend.set_aside_until(now).is_none()) {
                    self.line.look_at(backend.room());
                }
            }
        }
    }

    /// Gives back what is idle; when another worker `wants` it, idle connections that it waits for are closed too.
    pub fn give_back_idle(&self, wants: bool) {
        if !self.line.is_limited() || wants && !self.line.others_wait() {
            return;
        }
        let backends = self.members.borrow().backends.clone();
        let mut given = 0_u32;
        for backend in backends.iter().filter(|backend| backend.room().is_limited()) {
            backend.keep_to_limit();
            if backend.room().are_connections_wanted() {
                backend.pool().clear();
            }
            given = given.saturating_add(backend.room().trim(true));
        }
        self.line.ring_others(given);
    }
}
