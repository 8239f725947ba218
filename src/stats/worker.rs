//! One worker's statistics: arrays of cells, one per name, written by the worker and read by control.

use std::sync::Arc;

use super::{
    cell::{Counter, Gauge},
    histogram::Histogram,
    names::{BackendCount, BackendLevel, Count, Level, Refusal},
};

/// Everything one worker counts. Never written by another thread. All workers' cells are made by control, one after the
/// other: each begins with a cache line of its own, so that no worker's counting takes a line away from another one.
#[derive(Debug)]
#[repr(align(64))]
pub struct WorkerStats {
    counts: [Counter; Count::LEN],
    levels: [Gauge; Level::LEN],
    refusals: [Counter; Refusal::LEN],
    /// From the complete head of a request to the last byte of its response.
    pub total_time: Histogram,
    /// From the end of the request to the first byte of the response.
    pub first_byte_time: Histogram,
}

impl Default for WorkerStats {
    fn default() -> Self {
        WorkerStats {
            counts: [const { Counter::new() }; Count::LEN],
            levels: [const { Gauge::new() }; Level::LEN],
            refusals: [const { Counter::new() }; Refusal::LEN],
            total_time: Histogram::default(),
            first_byte_time: Histogram::default(),
        }
    }
}

impl WorkerStats {
    /// Counts one event.
    #[inline]
    pub fn count(&self, what: Count) {
        self.add(what, 1);
    }

    /// Adds to a counter.
    #[inline]
    pub fn add(&self, what: Count, amount: u64) {
        if let Some(cell) = self.counts.get(what as usize) {
            cell.add(amount);
        }
    }

    /// Counts a refused request by its reason.
    pub fn refuse(&self, why: Refusal) {
        if let Some(cell) = self.refusals.get(why as usize) {
            cell.add(1);
        }
    }

    /// Counts a response sent to a client by the class of its status.
    #[inline]
    pub fn response(&self, status: u16) {
        self.count(match status / 100 {
            1 => Count::Responses1xx,
            2 => Count::Responses2xx,
            3 => Count::Responses3xx,
            4 => Count::Responses4xx,
            _ => Count::Responses5xx,
        });
    }

    /// Raises a gauge until the returned guard is dropped, whatever ends its holder.
    pub fn hold(self: &Arc<Self>, what: Level) -> Held {
        self.raise(what);
        Held { stats: Arc::clone(self), what }
    }

    /// As [`Self::hold`], for a holder that does not outlive the borrow: costs no locked instruction.
    pub fn hold_here(&self, what: Level) -> HeldHere<'_> {
        self.raise(what);
        HeldHere { stats: self, what }
    }

    /// Raises a gauge; whoever calls it owes a [`Self::lower`] in a `Drop`.
    #[inline]
    pub(crate) fn raise(&self, what: Level) {
        if let Some(cell) = self.levels.get(what as usize) {
            cell.increment();
        }
    }

    /// Lowers a gauge.
    #[inline]
    pub(crate) fn lower(&self, what: Level) {
        if let Some(cell) = self.levels.get(what as usize) {
            cell.decrement();
        }
    }

    /// A counter's value.
    pub fn get(&self, what: Count) -> u64 {
        self.counts.get(what as usize).map_or(0, Counter::get)
    }

    /// A gauge's value.
    pub fn level(&self, what: Level) -> u64 {
        self.levels.get(what as usize).map_or(0, Gauge::get)
    }

    /// How many requests were refused for this reason.
    pub fn refused(&self, why: Refusal) -> u64 {
        self.refusals.get(why as usize).map_or(0, Counter::get)
    }
}

/// A raised gauge.
#[derive(Debug)]
pub struct Held {
    stats: Arc<WorkerStats>,
    what: Level,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.stats.lower(self.what);
    }
}

/// A gauge raised for as long as a borrow.
#[derive(Debug)]
pub struct HeldHere<'a> {
    stats: &'a WorkerStats,
    what: Level,
}

impl Drop for HeldHere<'_> {
    fn drop(&mut self) {
        self.stats.lower(self.what);
    }
}

/// One backend as one worker sees it, on cache lines of its own.
#[derive(Debug)]
#[repr(align(64))]
pub struct BackendStats {
    counts: [Counter; BackendCount::LEN],
    levels: [Gauge; BackendLevel::LEN],
}

impl Default for BackendStats {
    fn default() -> Self {
        BackendStats {
            counts: [const { Counter::new() }; BackendCount::LEN],
            levels: [const { Gauge::new() }; BackendLevel::LEN],
        }
    }
}

impl BackendStats {
    /// Counts one event.
    #[inline]
    pub fn count(&self, what: BackendCount) {
        self.add(what, 1);
    }

    /// Adds to a counter.
    #[inline]
    pub fn add(&self, what: BackendCount, amount: u64) {
        if let Some(cell) = self.counts.get(what as usize) {
            cell.add(amount);
        }
    }

    /// Counts one of its responses by the class of the status.
    #[inline]
    pub fn response(&self, status: u16) {
        match status / 100 {
            2 => self.count(BackendCount::Responses2xx),
            3 => self.count(BackendCount::Responses3xx),
            4 => self.count(BackendCount::Responses4xx),
            5 => self.count(BackendCount::Responses5xx),
            _ => {}
        }
    }

    /// Raises a gauge; whoever calls it owes a [`Self::lower`] in a `Drop`.
    #[inline]
    pub(crate) fn raise(&self, what: BackendLevel) {
        if let Some(cell) = self.levels.get(what as usize) {
            cell.increment();
        }
    }

    /// Lowers a gauge.
    #[inline]
    pub(crate) fn lower(&self, what: BackendLevel) {
        if let Some(cell) = self.levels.get(what as usize) {
            cell.decrement();
        }
    }

    /// A counter's value.
    pub fn get(&self, what: BackendCount) -> u64 {
        self.counts.get(what as usize).map_or(0, Counter::get)
    }

    /// A gauge's value.
    pub fn level(&self, what: BackendLevel) -> u64 {
        self.levels.get(what as usize).map_or(0, Gauge::get)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_gauge_falls_when_its_holder_panics() {
        let stats = Arc::<WorkerStats>::default();
        let inner = Arc::clone(&stats);
        let outcome = std::panic::catch_unwind(move || {
            let _held = inner.hold(Level::ExchangesActive);
            assert_eq!(inner.level(Level::ExchangesActive), 1);
            panic!("on purpose");
        });
        assert!(outcome.is_err());
        assert_eq!(stats.level(Level::ExchangesActive), 0);
    }
}
