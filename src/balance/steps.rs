//! Steps of a pick, for the test that counts them: one for each node or word that is looked at on the way to somebody.
//!
//! Pure. In every other build this is nothing.

/// One more is looked at.
#[inline]
pub(super) fn step() {
    #[cfg(test)]
    tests::TAKEN.set(tests::TAKEN.get() + 1);
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;

    thread_local! {
        pub(super) static TAKEN: Cell<usize> = const { Cell::new(0) };
    }

    /// How many this takes.
    pub(crate) fn taken_by<T>(act: impl FnOnce() -> T) -> (usize, T) {
        let before = TAKEN.get();
        let done = act();
        (TAKEN.get() - before, done)
    }
}
