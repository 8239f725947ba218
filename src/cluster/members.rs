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
}

impl Members {
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
            let (index, role) = match self.selector.pick(request) {
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
