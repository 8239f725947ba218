//! The journal: the lines that the code under test logs on this thread.

use std::{cell::RefCell, fmt};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

thread_local! {
    static LINES: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// A line about a backend.
#[derive(Debug, Default, Clone)]
pub(super) struct Line {
    pub(super) backend: String,
    pub(super) state: String,
    pub(super) reason: String,
}

/// The lines since the last call.
pub(super) fn take() -> Vec<Line> {
    LINES.take()
}

/// Keeps them.
pub(super) struct Journal;

impl Subscriber for Journal {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        LINES.with_borrow_mut(|lines| lines.push(line));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl Visit for Line {
    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "backend" => value.clone_into(&mut self.backend),
            "state" => value.clone_into(&mut self.state),
            "reason" => value.clone_into(&mut self.reason),
            _ => {}
        }
    }
}
