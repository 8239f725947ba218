//! The members of a cluster on one worker, and how one of them is chosen that has room.
//!
//! Owned by its cluster, which borrows it for the moment of a choice; nothing here waits.

use std::{cmp::Reverse, collections::BinaryHeap, rc::Rc};

use super::{backend::Backend, line::Line, tried::Tried};
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
    /// One that may have a trial, and has it now.
    pub(super) fn begin_trial(&mut self, tried: &Tried) -> Option<usize> {
        let place = self.trials.iter().position(|index| !tried.indices().contains(index))?;
        let backend = self.trials.get(place).and_then(|index| self.backends.get(*index));
        if backend.is_some_and(|backend| !backend.room().enter()) {
            return None;
        }
        let index = self.trials.swap_remove(place);
        let backend = self.backends.get(index)?;
        if !backend.begin_trial() {
            backend.room().exit();
            return None;
        }
        self.selector.started(index);
        Some(index)
    }

    /// Picks one that has room, and takes a place there. Tells whether it is fit, and no last resort.
    pub(super) fn choose(&mut self, request: Request<'_>, line: &Line) -> Option<(usize, bool)> {
        loop {
            let fit = self.selector.pick(request);
            // While a fit one is only full, it is better to wait for it than to try one that ails.
            let waits = fit.is_none() && line.has_full() && self.selector.has_fit_besides(request.tried);
            let index = match fit {
                None if waits => return None,
                None => self.selector.pick_ailing(request)?,
                Some(fit) => fit,
            };
            let room = self.backends.get(index)?.room();
            if room.enter() {
                return Some((index, fit.is_some()));
            }
            line.fill(room);
            self.selector.finished(index);
            self.selector.set_full(index, true);
        }
    }
}
