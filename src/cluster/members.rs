//! The members of a cluster on one worker, and how one of them is chosen that has room.
//!
//! Owned by its cluster, which borrows it for the moment of a choice; nothing here waits.

use std::{cmp::Reverse, collections::BinaryHeap, rc::Rc};

use super::{attempt::Role, backend::Backend, line::Line, tried::Tried};
use crate::{
    balance::selector::{Request, Selector},
    io::alarm::Millis,
};

/// Who may be picked.
pub(super) struct Members {
    /// In the order of the plan.
    pub(super) backends: Vec<Rc<Backend>>,
    /// Chooses among them.
    pub(super) selector: Selector,
    /// Who was set aside, and until when.
    pub(super) returning: BinaryHeap<Reverse<(Millis, usize)>>,
    /// Who may have a trial: the next request is it.
    pub(super) trials: Vec<usize>,
    /// Who was set aside, may be asked again, and has not shown yet that it is there.
    pub(super) unproven: Vec<usize>,
    /// Whom a later attempt is not to be made at; kept for its room.
    avoided: Vec<usize>,
}

impl Members {
    /// Nobody yet.
    pub(super) fn new(selector: Selector) -> Self {
        Members {
            backends: Vec::new(),
            selector,
            returning: BinaryHeap::new(),
            trials: Vec::new(),
            unproven: Vec::new(),
            avoided: Vec::new(),
        }
    }

    /// Whether one has to show that it is there.
    pub(super) fn must_prove(&mut self, index: usize, must: bool) {
        match self.unproven.iter().position(|known| *known == index) {
            Some(place) if !must => _ = self.unproven.swap_remove(place),
            None if must => self.unproven.push(index),
            _ => {}
        }
    }

    /// One that is fit. Many that were set aside together come back together: who has been let down once is not given
    /// another of them while there is anybody else.
    fn pick(&mut self, request: Request<'_>) -> Option<usize> {
        if request.tried.is_empty() || self.unproven.is_empty() {
            return self.selector.pick(request);
        }
        self.avoided.clear();
        self.avoided.extend_from_slice(request.tried);
        self.avoided.extend(self.unproven.iter().filter(|index| !request.tried.contains(index)));
        let proven = self.selector.pick(Request { tried: &self.avoided, ..request });
        proven.or_else(|| self.selector.pick(request))
    }

    /// How one stands has been told: whether it may have a trial.
    pub(super) fn may_try(&mut self, index: usize, may: bool) {
        match self.trials.iter().position(|known| *known == index) {
            Some(place) if !may => _ = self.trials.swap_remove(place),
            None if may => self.trials.push(index),
            _ => {}
        }
    }

    /// One that may have a trial, and has it now: the first that was not tried and has room. Those whose trial is under way
    /// already are forgotten.
    pub(super) fn begin_trial(&mut self, tried: &Tried) -> Option<usize> {
        let Members { backends, trials, .. } = self;
        trials.retain(|index| {
            let backend = backends.get(*index);
            backend.is_some_and(|backend| backend.record().may_begin_trial())
        });
        let mut waiting = trials.iter().filter(|index| !tried.indices().contains(index));
        let (index, backend) = waiting.find_map(|index| {
            let backend = backends.get(*index)?;
            backend.room().enter().then_some((*index, backend))
        })?;
        if !backend.begin_trial() {
            backend.room().exit();
            return None;
        }
        self.may_try(index, false);
        self.selector.started(index);
        Some(index)
    }

    /// Picks one that has room, and takes a place there. Who has been let down once is not used for a trial while there is
    /// anybody else to ask.
    pub(super) fn choose(
        &mut self,
        tried: &Tried,
        key: u64,
        now: Millis,
        line: &Line,
    ) -> Option<(usize, Role)> {
        let request = Request { key, tried: tried.indices(), now };
        let is_first = request.tried.is_empty();
        if is_first && let Some(index) = self.begin_trial(tried) {
            return Some((index, Role::Trial));
        }
        loop {
            let (index, role) = match self.pick(request) {
                Some(index) => (index, Role::Usual),
                // While a fit one is only full, it is better to wait for it than to try one that ails.
                None if line.has_full() && self.selector.has_fit_besides(request.tried) => return None,
                None => match (!is_first).then(|| self.begin_trial(tried)).flatten() {
                    Some(index) => return Some((index, Role::Trial)),
                    None => (self.selector.pick_ailing(request)?, Role::LastResort),
                },
            };
            let room = self.backends.get(index)?.room();
            if room.enter() {
                return Some((index, role));
            }
            line.fill(room);
            self.selector.finished(index);
            self.selector.set_full(index, true);
        }
    }
}
