//! The backends one request has been tried on.

use crate::limits::ATTEMPTS_MAX;

/// At most as many as there may be attempts.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tried {
    indices: [usize; ATTEMPTS_MAX],
    count: usize,
}

impl Tried {
    /// Notes an attempt.
    pub fn add(&mut self, index: usize) {
        if let Some(slot) = self.indices.get_mut(self.count) {
            *slot = index;
            self.count += 1;
        }
    }

    /// Those that were tried, in order.
    pub fn indices(&self) -> &[usize] {
        self.indices.get(..self.count).unwrap_or_default()
    }

    /// True when no further attempt is allowed.
    pub fn is_exhausted(&self) -> bool {
        self.count == ATTEMPTS_MAX
    }
}
