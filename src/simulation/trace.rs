//! What has happened in a run: its last events in words, and all of them in one number.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt::Write,
};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::io::alarm::Millis;

/// How many are kept unless somebody wants to see more.
const KEPT: usize = 120;

/// What happened.
enum Event {
    /// A word, and whom it is about.
    Fact(&'static str, [usize; 4]),
    /// A line of the log.
    Line(String),
}

/// The trace of a run.
pub(super) struct Trace {
    kept: usize,
    last: RefCell<VecDeque<(Millis, Event)>>,
    sum: Cell<u64>,
    count: Cell<usize>,
}

impl Trace {
    /// Nothing has happened. `kept` events can be shown, or the usual number.
    pub(super) fn new(kept: Option<usize>) -> Self {
        let kept = kept.unwrap_or(KEPT);
        Trace { kept, last: RefCell::default(), sum: Cell::new(0), count: Cell::new(0) }
    }

    /// Notes a fact; unused numbers are zero.
    pub(super) fn fact(&self, now: Millis, word: &'static str, about: [usize; 4]) {
        let mut bytes = [0; 48];
        for (slot, number) in
            bytes.chunks_exact_mut(8).zip(about.iter().map(|number| *number as u64).chain([now]))
        {
            slot.copy_from_slice(&number.to_ne_bytes());
        }
        self.add(&bytes, word.as_bytes());
        self.keep(now, Event::Fact(word, about));
    }

    /// Notes a line of the log.
    pub(super) fn line(&self, now: Millis, line: String) {
        self.add(&now.to_ne_bytes(), line.as_bytes());
        self.keep(now, Event::Line(line));
    }

    fn add(&self, first: &[u8], second: &[u8]) {
        let sum = xxh3_64_with_seed(first, self.sum.get());
        self.sum.set(xxh3_64_with_seed(second, sum));
        self.count.set(self.count.get() + 1);
    }

    fn keep(&self, now: Millis, event: Event) {
        let mut last = self.last.borrow_mut();
        if last.len() == self.kept {
            last.pop_front();
        }
        last.push_back((now, event));
    }

    /// All events in one number.
    pub(super) fn sum(&self) -> u64 {
        self.sum.get()
    }

    /// How many there were.
    pub(super) fn count(&self) -> usize {
        self.count.get()
    }

    /// The last ones in words.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        for (at, event) in &*self.last.borrow() {
            let _ = match event {
                Event::Fact(word, about) => writeln!(text, "  {at} {word} {about:?}"),
                Event::Line(line) => writeln!(text, "  {at} log: {line}"),
            };
        }
        text
    }
}
