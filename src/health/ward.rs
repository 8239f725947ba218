//! A ward: what is known of one backend, what follows from it, and what each worker was told of that.
//!
//! Pure; the board owns it, on the control thread.

use super::{
    circuit::{Circuit, Phase},
    standing::{Standing, State},
};
use crate::{addr::Endpoint, config::plan::cluster::Duty, io::alarm::Millis};

/// Who is allowed a trial.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holder {
    pub(super) worker: usize,
    pub(super) since: Millis,
    /// It has been told; until then it cannot have begun.
    pub(super) is_told: bool,
    /// It has been asked to give it back.
    pub(super) is_recalled: bool,
}

/// What is known of one backend.
#[derive(Debug, Clone)]
pub(super) struct Ward {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) duty: Duty,
    /// What its probes say, if it has any.
    pub(super) is_alive: bool,
    pub(super) circuit: Circuit,
    pub(super) holder: Option<Holder>,
    /// When a worker was given its trial last.
    pub(super) offered_at: Millis,
    pub(super) state: State,
    pub(super) reason: String,
    /// What each worker was told last; `None` once it has used up what it was told.
    pub(super) told: Vec<Option<Standing>>,
}

impl Ward {
    /// How it stands, as it is shown.
    pub(super) fn state(&self) -> State {
        match (self.duty, self.is_alive, self.circuit.phase()) {
            (Duty::Maint, ..) => State::Maint,
            (_, false, _) => State::Down,
            (Duty::Drain, _, Phase::Closed) => State::Drain,
            (_, _, Phase::Closed) => State::Up,
            (_, _, Phase::Open { .. }) => State::Ejected,
            (_, _, Phase::HalfOpen) => State::Trial,
        }
    }

    /// A worker has come to the end of its trial. It has to be told of the next one, even if that is its own again.
    pub(super) fn ends_trial(&mut self, worker: usize) {
        self.told.get_mut(worker).into_iter().for_each(|told| *told = None);
        self.holder = None;
    }

    /// True when a worker was told that last.
    pub(super) fn has_told(&self, worker: usize, standing: Standing) -> bool {
        self.told.get(worker) == Some(&Some(standing))
    }

    /// A worker is told now how it stands.
    pub(super) fn tell(&mut self, worker: usize, standing: Standing) {
        self.told.get_mut(worker).into_iter().for_each(|told| *told = Some(standing));
        if let Some(holder) = self.holder.as_mut().filter(|holder| holder.worker == worker) {
            // Told of it a second time, it would take that for another trial, while the end of the first is on its way.
            holder.is_recalled |= holder.is_told && standing != Standing::Trial;
            holder.is_told |= standing == Standing::Trial;
        }
    }

    /// How it stands with a worker. With `everybody` so few of its cluster are healthy that all are used.
    pub(super) fn standing(&self, worker: usize, everybody: bool) -> Standing {
        match self.state() {
            State::Up => Standing::Up,
            State::Drain => Standing::Drain,
            // Need does not overrule the operator.
            _ if self.duty != Duty::Ready => Standing::Out,
            State::Down | State::Ejected | State::Trial if everybody => Standing::Up,
            State::Trial => match self.holder {
                Some(holder) if holder.worker == worker && !holder.is_recalled => Standing::Trial,
                _ => Standing::Out,
            },
            State::Down | State::Ejected | State::Maint => Standing::Out,
        }
    }
}
