//! Waiting for a condition, with an end.

use std::thread;
use std::time::{Duration, Instant};

/// How long any single condition may take before the test fails. Generous: a loaded machine is not a bug.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Asks `condition` again and again until it has an answer; panics with `what` when [`PATIENCE`] is over.
pub(crate) fn eventually<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, condition).unwrap_or_else(|| panic!("waited {PATIENCE:?} in vain for: {what}"))
}

/// Asks `condition` until it has an answer or `time` is over.
pub(crate) fn within<T>(time: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + time;
    loop {
        if let Some(answer) = condition() {
            return Some(answer);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::park_timeout(Duration::from_millis(2));
    }
}
