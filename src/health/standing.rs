//! Words that control and workers exchange about a backend: how it stands, and what was seen of it.

use crate::fault::{Fault, Kind, Phase, Side};

/// How a backend stands with one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Standing {
    /// It is asked.
    #[default]
    Up,
    /// It gets nothing.
    Out,
    /// It gets one request from this worker alone, to see whether it is back.
    Trial,
    /// It gets nothing new; clients that are pinned to it go on.
    Drain,
}

/// How a backend stands, as it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
#[repr(u8)]
pub enum State {
    /// It is asked.
    #[default]
    Up,
    /// Its probes fail.
    Down,
    /// Ejected: live requests have failed, and its circuit is open.
    Ejected,
    /// Ejected, and one request is to show whether it is back: its circuit is half-open.
    Trial,
    /// The operator lets it finish its work.
    Drain,
    /// The operator has taken it out.
    Maint,
}

impl State {
    /// All of them, in the order of their numbers.
    pub const ALL: [State; 6] =
        [State::Up, State::Down, State::Ejected, State::Trial, State::Drain, State::Maint];

    /// The name in logs, statistics and metrics.
    pub fn name(self) -> &'static str {
        match self {
            State::Up => "up",
            State::Down => "down",
            State::Ejected => "ejected",
            State::Trial => "trial",
            State::Drain => "drain",
            State::Maint => "maint",
        }
    }
}

/// How a live request or connection has failed at a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Failure {
    /// No connection: refused, or not in time.
    Connect,
    /// No response in time.
    Timeout,
    /// The connection died before the response was whole.
    Reset,
    /// The response was no HTTP.
    Malformed,
    /// A status of 500 to 599.
    Status5xx,
}

impl Failure {
    /// All of them, in the order of their numbers.
    pub const ALL: [Failure; 5] =
        [Failure::Connect, Failure::Timeout, Failure::Reset, Failure::Malformed, Failure::Status5xx];

    /// What a fault says of the backend; `None` when it is not to blame. A pooled connection may have been closed for its
    /// age, so its death before a response says nothing.
    pub fn of(fault: Fault, reused: bool) -> Option<Self> {
        match (fault.side, fault.phase, fault.kind) {
            (Side::Client | Side::Local, ..) => None,
            (_, _, Kind::Cut | Kind::Missing | Kind::Full | Kind::Exhausted) => None,
            (_, Phase::Connect, _) => Some(Failure::Connect),
            (_, _, Kind::Silent) => Some(Failure::Timeout),
            (_, _, Kind::Malformed | Kind::TooLarge) => Some(Failure::Malformed),
            (_, Phase::Request, Kind::Died) if reused => None,
            (_, _, Kind::Died) => Some(Failure::Reset),
        }
    }

    /// What is said of several in a row.
    pub fn phrase(self) -> &'static str {
        match self {
            Failure::Connect => "failed connections",
            Failure::Timeout => "timeouts",
            Failure::Reset => "broken connections",
            Failure::Malformed => "malformed responses",
            Failure::Status5xx => "responses with status 5xx",
        }
    }
}

/// What has become of a worker's trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrialEnd {
    /// The backend has answered.
    Succeeded,
    /// It has failed again.
    Failed,
    /// Nothing was sent, or nobody waited for the answer.
    Unused,
}

/// What a worker has seen of a backend since it told last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// The cluster's place in the plan.
    pub cluster: usize,
    /// The backend's place in its cluster.
    pub backend: usize,
    /// Failures after the last success.
    pub failures: u32,
    /// How the last one failed.
    pub failure: Option<Failure>,
    /// There was a success before them.
    pub succeeded: bool,
    /// What has become of its trial.
    pub trial: Option<TrialEnd>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_and_failures_are_numbered_in_order() {
        assert!(State::ALL.iter().enumerate().all(|(number, state)| *state as usize == number));
        assert!(Failure::ALL.iter().enumerate().all(|(number, failure)| *failure as usize == number));
    }

    #[test]
    fn only_a_backend_is_blamed_and_not_for_an_old_connection() {
        let of = |side, phase, kind, reused| Failure::of(Fault { side, phase, kind }, reused);
        assert_eq!(of(Side::Client, Phase::Response, Kind::Died, false), None);
        assert_eq!(of(Side::Local, Phase::Connect, Kind::Exhausted, false), None);
        assert_eq!(of(Side::Upstream, Phase::Connect, Kind::Exhausted, false), None);
        assert_eq!(of(Side::Upstream, Phase::Connect, Kind::Silent, false), Some(Failure::Connect));
        assert_eq!(of(Side::Upstream, Phase::Request, Kind::Died, true), None);
        assert_eq!(of(Side::Upstream, Phase::Request, Kind::Died, false), Some(Failure::Reset));
        assert_eq!(of(Side::Upstream, Phase::Request, Kind::Silent, true), Some(Failure::Timeout));
        assert_eq!(of(Side::Upstream, Phase::Response, Kind::Malformed, true), Some(Failure::Malformed));
    }
}
