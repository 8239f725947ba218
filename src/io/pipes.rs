//! A worker's pipes for `splice(2)`: a small pool, lent out only while bytes are in flight.
//!
//! A pipe that still holds bytes when it comes back is closed, never lent again: nobody may ever see another
//! connection's bytes.

use std::{cell::Cell, cell::RefCell, rc::Rc, sync::Arc};

use crate::{
    limits::{PIPE_BYTES, PIPES_KEPT_MAX, PIPES_MAX},
    stats::{
        names::{Count, Level},
        worker::WorkerStats,
    },
    sys::pipe::Pipe,
};

/// Free pipes, most recently used first.
pub struct PipePool {
    free: RefCell<Vec<Pipe>>,
    lent: Cell<usize>,
    stats: Arc<WorkerStats>,
}

impl PipePool {
    /// An empty pool.
    pub fn new(stats: Arc<WorkerStats>) -> Rc<Self> {
        Rc::new(PipePool {
            free: RefCell::new(Vec::with_capacity(PIPES_KEPT_MAX)),
            lent: Cell::new(0),
            stats,
        })
    }

    /// Lends a pipe, or `None` when the budget, the descriptors or the kernel's pipe pages are used up: the
    /// caller copies instead.
    pub fn take(self: &Rc<Self>) -> Option<LentPipe> {
        let pipe = if self.lent.get() < PIPES_MAX {
            self.free.borrow_mut().pop().or_else(|| Pipe::new(PIPE_BYTES).ok())
        } else {
            None
        };
        if pipe.is_none() {
            self.stats.count(Count::PipesDenied);
        }
        let pipe = pipe?;
        self.lent.set(self.lent.get() + 1);
        self.stats.raise(Level::PipesInUse);
        Some(LentPipe { pipe: Some(pipe), pool: Rc::clone(self) })
    }
}

/// A pipe on loan; dropping it gives it back if it is empty and closes it if not.
pub struct LentPipe {
    pipe: Option<Pipe>,
    pool: Rc<PipePool>,
}

impl LentPipe {
    /// The pipe itself; `None` cannot happen before the drop.
    pub fn pipe(&mut self) -> Option<&mut Pipe> {
        self.pipe.as_mut()
    }

    /// Bytes inside.
    pub fn filled(&self) -> usize {
        self.pipe.as_ref().map_or(0, Pipe::filled)
    }
}

impl Drop for LentPipe {
    fn drop(&mut self) {
        self.pool.lent.set(self.pool.lent.get().saturating_sub(1));
        self.pool.stats.lower(Level::PipesInUse);
        let mut free = self.pool.free.borrow_mut();
        if let Some(pipe) = self.pipe.take().filter(|pipe| pipe.filled() == 0 && free.len() < PIPES_KEPT_MAX)
        {
            free.push(pipe);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pool() -> Rc<PipePool> {
        PipePool::new(Arc::<WorkerStats>::default())
    }

    #[test]
    fn a_pipe_with_bytes_inside_is_never_lent_again() {
        let pool = pool();
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        rustix::io::write(&theirs, b"secret").unwrap();
        let mut pipe = pool.take().unwrap();
        assert_eq!(pipe.pipe().unwrap().fill(&ours, 100).unwrap(), 6);
        drop(pipe);
        assert_eq!(pool.free.borrow().len(), 0);
        assert_eq!(pool.stats.level(Level::PipesInUse), 0);
        drop(pool.take().unwrap());
        assert_eq!(pool.free.borrow().len(), 1);
    }

    #[test]
    fn the_budget_ends_in_a_counted_refusal() {
        let pool = pool();
        let all: Vec<_> = (0..PIPES_MAX).map(|_| pool.take().unwrap()).collect();
        assert!(pool.take().is_none());
        assert_eq!(pool.stats.get(Count::PipesDenied), 1);
        drop(all);
        assert!(pool.take().is_some());
    }
}
