//! What is told about one thing: how it stands, what was found, why it matters and what to do.
//!
//! Words only; owns no rule about when something is wrong.

use serde::Serialize;

use super::tree::Unread;
use crate::config::cores::ranges;

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// It works, and could work better.
    Advice,
    /// It stands in the way of service.
    Problem,
    /// It could not be read or understood, or is not for us to see.
    Unknown,
}

impl State {
    /// The word printed.
    pub fn name(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Advice => "advice",
            State::Problem => "problem",
            State::Unknown => "unknown",
        }
    }
}

/// Two commands, or lines to write where a comment says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remedy {
    /// What helps.
    pub apply: String,
    /// What brings back how it was.
    pub undo: String,
}

impl Remedy {
    /// Both.
    pub fn new(apply: impl Into<String>, undo: impl Into<String>) -> Self {
        Self { apply: apply.into(), undo: undo.into() }
    }

    /// Sets a sysctl, and sets it back.
    pub fn sysctl(name: &str, wanted: impl std::fmt::Display, now: impl std::fmt::Display) -> Self {
        Self::new(format!("sysctl -w {name}=\"{wanted}\""), format!("sysctl -w {name}=\"{now}\""))
    }

    /// Runs the workers on other cores; `when` says in which case, if not in all.
    pub fn cores(wanted: &[usize], now: &[usize], when: Option<&str>) -> Self {
        let when = when.map(|when| format!("   # if {when}")).unwrap_or_default();
        Self::new(
            format!("ringway --cores {}{when}", ranges(wanted)),
            format!("ringway --cores {}", ranges(now)),
        )
    }
}

/// What is told about one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, the same word in every report; of an interface it begins with its name: `eth0 queues`.
    pub subject: String,
    /// How it stands.
    pub state: State,
    /// What was found.
    pub found: String,
    /// Why it matters.
    pub why: &'static str,
    /// What to do, when something is to be done and it can be said.
    pub remedy: Option<Remedy>,
}

/// Something that is looked at on every host.
#[derive(Debug, Clone, Copy)]
pub struct Subject {
    /// Its name.
    pub name: &'static str,
    /// Why it matters.
    pub why: &'static str,
}

impl Subject {
    fn finding(self, state: State, found: impl Into<String>, remedy: Option<Remedy>) -> Finding {
        Finding { subject: self.name.to_owned(), state, found: found.into(), why: self.why, remedy }
    }

    /// As it should be.
    pub fn ok(self, found: impl Into<String>) -> Finding {
        self.finding(State::Ok, found, None)
    }

    /// Could be better.
    pub fn advice(self, found: impl Into<String>, remedy: Remedy) -> Finding {
        self.finding(State::Advice, found, Some(remedy))
    }

    /// Stands in the way.
    pub fn problem(self, found: impl Into<String>, remedy: Remedy) -> Finding {
        self.finding(State::Problem, found, Some(remedy))
    }

    /// Not known, for a reason of ours.
    pub fn unknown(self, why: impl Into<String>) -> Finding {
        self.finding(State::Unknown, why, None)
    }

    /// Not known, because it was not read.
    pub fn unread(self, unread: &Unread) -> Finding {
        self.unknown(unread.to_string())
    }
}

impl Finding {
    /// The same, told of one interface.
    pub fn of(mut self, interface: &str) -> Self {
        self.subject = format!("{interface} {}", self.subject);
        self
    }
}
