//! The findings as an operator reads them, and as JSON.

use std::fmt::Write;

use serde_json::json;

use super::{
    finding::{Finding, State},
    host::Host,
};
use crate::config::cores::ranges;

/// What is printed.
#[derive(Debug)]
pub struct Report<'a> {
    /// Whose.
    pub host: &'a Host,
    /// In the order they are told.
    pub findings: &'a [Finding],
}

impl Report<'_> {
    /// No problem; advice and what is unknown do not count.
    pub fn is_healthy(&self) -> bool {
        self.count(State::Problem) == 0
    }

    fn count(&self, state: State) -> usize {
        self.findings.iter().filter(|finding| finding.state == state).count()
    }

    fn cores(&self) -> String {
        self.host.cores.as_ref().map_or_else(|_| "unknown".to_owned(), |cores| ranges(cores))
    }

    /// Some lines for each finding, and a summary.
    pub fn to_text(&self) -> String {
        let mut text = format!("host {}, workers on cores {}\n\n", self.host.root, self.cores());
        for finding in self.findings {
            let Finding { subject, state, found, why, remedy } = finding;
            let _ = writeln!(text, "{:<8} {subject}: {found}", state.name());
            let _ = writeln!(text, "         why:  {why}");
            if let Some(remedy) = remedy {
                let _ = writeln!(text, "         do:   {}\n         undo: {}", remedy.apply, remedy.undo);
            }
        }
        let count = |state| format!("{} {}", self.count(state), state.name());
        let counts = [State::Problem, State::Advice, State::Unknown, State::Ok].map(count).join(", ");
        let _ = writeln!(text, "\n{counts}");
        text
    }

    /// One object, in one line.
    pub fn to_json(&self) -> String {
        let value = json!({
            "root": self.host.root,
            "cores": self.host.cores.as_ref().ok(),
            "summary": {
                "ok": self.count(State::Ok),
                "advice": self.count(State::Advice),
                "problem": self.count(State::Problem),
                "unknown": self.count(State::Unknown),
            },
            "findings": self.findings,
        });
        format!("{value}\n")
    }
}
