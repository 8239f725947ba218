//! Pooled byte buffers: two sizes, one owner, handed back on drop.
//!
//! A large buffer can hold the largest head there is. Its bytes begin at [`HEADROOM_BYTES`], so that a head can be
//! rewritten longer in place, in front of body bytes that never move. Only touched pages cost memory.

use std::{cell::RefCell, mem, rc::Rc, sync::Arc};

use crate::{
    limits::{BUFFER_BYTES, BUFFERS_KEPT_MAX, HEADROOM_BYTES, SMALL_BUFFER_BYTES, SMALL_BUFFERS_KEPT_MAX},
    stats::{names::Level, worker::WorkerStats},
};

/// A worker's free buffers, most recently used first.
pub struct BufferPool {
    large: RefCell<Vec<Box<[u8]>>>,
    small: RefCell<Vec<Box<[u8]>>>,
    stats: Arc<WorkerStats>,
}

impl BufferPool {
    /// An empty pool with room to keep what [`crate::limits`] says.
    pub fn new(stats: Arc<WorkerStats>) -> Rc<Self> {
        Rc::new(BufferPool {
            large: RefCell::new(Vec::with_capacity(BUFFERS_KEPT_MAX)),
            small: RefCell::new(Vec::with_capacity(SMALL_BUFFERS_KEPT_MAX)),
            stats,
        })
    }

    /// Takes an empty large buffer.
    pub fn take(self: &Rc<Self>) -> Buffer {
        self.lend(&self.large, BUFFER_BYTES)
    }

    /// Takes an empty small buffer.
    pub fn take_small(self: &Rc<Self>) -> Buffer {
        self.lend(&self.small, SMALL_BUFFER_BYTES)
    }

    fn lend(self: &Rc<Self>, free: &RefCell<Vec<Box<[u8]>>>, size: usize) -> Buffer {
        let bytes = free.borrow_mut().pop().unwrap_or_else(|| vec![0; size].into_boxed_slice());
        self.stats.raise(Level::BuffersInUse);
        Buffer { bytes, start: HEADROOM_BYTES, end: HEADROOM_BYTES, pool: Rc::clone(self) }
    }
}

/// A contiguous run of bytes inside a pooled block.
pub struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    pool: Rc<BufferPool>,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.stats.lower(Level::BuffersInUse);
        let bytes = mem::take(&mut self.bytes);
        let (free, kept) = match bytes.len() {
            SMALL_BUFFER_BYTES => (&self.pool.small, SMALL_BUFFERS_KEPT_MAX),
            _ => (&self.pool.large, BUFFERS_KEPT_MAX),
        };
        let mut free = free.borrow_mut();
        if free.len() < kept {
            free.push(bytes);
        }
    }
}

impl Buffer {
    /// What it holds.
    pub fn filled(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// What it holds, to change in place.
    pub fn filled_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..self.end).unwrap_or_default()
    }

    /// Number of bytes it holds.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// True when it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// True when nothing more can be received behind what it holds.
    pub fn is_full(&self) -> bool {
        self.end == self.bytes.len()
    }

    /// Free bytes behind what it holds, to receive into; then call [`Self::grow`].
    pub fn space(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// Takes `count` bytes just received behind the end.
    pub fn grow(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    /// Forgets `count` bytes at the front.
    pub fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    /// Keeps the first `count` bytes only.
    pub fn truncate(&mut self, count: usize) {
        self.end = (self.start + count).min(self.end);
    }

    /// Moves to a large buffer when a small one has no room left.
    pub fn enlarge_when_full(&mut self) {
        if self.end == self.bytes.len() && self.bytes.len() < BUFFER_BYTES {
            self.enlarge();
        }
    }

    fn enlarge(&mut self) {
        let mut large = self.pool.take();
        large.append(self.filled());
        *self = large;
    }

    /// Forgets everything and frees the headroom again.
    pub fn clear(&mut self) {
        self.start = HEADROOM_BYTES;
        self.end = HEADROOM_BYTES;
    }

    /// Moves what it holds back behind the headroom when the room at the end is used up.
    pub fn compact(&mut self) {
        if self.start > HEADROOM_BYTES {
            let length = self.len();
            self.bytes.copy_within(self.start..self.end, HEADROOM_BYTES);
            self.start = HEADROOM_BYTES;
            self.end = HEADROOM_BYTES + length;
        }
    }

    /// Replaces the first `old` bytes by `new`, growing into the headroom. False, with nothing changed, when
    /// the result does not fit.
    #[must_use]
    pub fn replace_front(&mut self, old: usize, new: &[u8]) -> bool {
        let mut body_start = (self.start + old).min(self.end);
        let mut shift = new.len().saturating_sub(body_start);
        if self.end + shift > self.bytes.len() && self.bytes.len() < BUFFER_BYTES {
            self.enlarge();
            body_start = (self.start + old).min(self.end);
            shift = new.len().saturating_sub(body_start);
        }
        if self.end + shift > self.bytes.len() {
            return false;
        }
        if shift > 0 {
            self.bytes.copy_within(body_start..self.end, body_start + shift);
            self.end += shift;
        }
        self.start = body_start + shift - new.len();
        if let Some(front) = self.bytes.get_mut(self.start..self.start + new.len()) {
            front.copy_from_slice(new);
        }
        true
    }

    /// Appends as much of `bytes` as fits and tells how much that was.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.bytes.len() - self.end);
        if let (Some(to), Some(from)) = (self.bytes.get_mut(self.end..self.end + count), bytes.get(..count)) {
            to.copy_from_slice(from);
        }
        self.end += count;
        count
    }

    /// Cuts off what lies behind the first `count` bytes into a buffer of its own; `None` when nothing does.
    pub fn split_behind(&mut self, count: usize) -> Option<Buffer> {
        let rest = self.filled().get(count..).filter(|rest| !rest.is_empty())?;
        let mut other = if rest.len() < SMALL_BUFFER_BYTES - HEADROOM_BYTES {
            self.pool.take_small()
        } else {
            self.pool.take()
        };
        other.append(rest);
        self.truncate(count);
        Some(other)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pool() -> (Rc<BufferPool>, Arc<WorkerStats>) {
        let stats = Arc::<WorkerStats>::default();
        (BufferPool::new(Arc::clone(&stats)), stats)
    }

    #[test]
    fn a_dropped_buffer_is_counted_down_and_reused() {
        let (pool, stats) = pool();
        let first = pool.take();
        let address = first.bytes.as_ptr();
        assert_eq!(stats.level(Level::BuffersInUse), 1);
        drop(first);
        assert_eq!(stats.level(Level::BuffersInUse), 0);
        assert_eq!(pool.take().bytes.as_ptr(), address);
    }

    proptest! {
        #[test]
        fn replacing_the_front_keeps_what_lies_behind(
            old in 0usize..3000, body in 0usize..5000, new in 0usize..6000,
        ) {
            let (pool, _) = pool();
            let mut buffer = pool.take();
            buffer.append(&vec![b'o'; old]);
            buffer.append(&vec![b'b'; body]);
            prop_assert!(buffer.replace_front(old, &vec![b'n'; new]));
            let mut expected = vec![b'n'; new];
            expected.extend(vec![b'b'; body]);
            prop_assert_eq!(buffer.filled(), &expected[..]);
        }
    }

    #[test]
    fn a_small_buffer_moves_to_a_large_one_when_it_must() {
        let (pool, stats) = pool();
        let mut buffer = pool.take_small();
        let room = buffer.space().len();
        buffer.append(&vec![b'x'; room]);
        buffer.enlarge_when_full();
        assert_eq!(buffer.len(), room);
        assert!(!buffer.space().is_empty());
        let mut full = pool.take_small();
        full.append(&vec![b'x'; room]);
        assert!(full.replace_front(1, &[b'y'; 3000]));
        assert_eq!((full.len(), full.filled()[2999], full.filled()[3000]), (room + 2999, b'y', b'x'));
        drop((buffer, full));
        assert_eq!(stats.level(Level::BuffersInUse), 0);
        // The second small one was the first one's, given back when that moved.
        assert_eq!((pool.small.borrow().len(), pool.large.borrow().len()), (1, 2));
    }

    #[test]
    fn a_front_that_does_not_fit_changes_nothing() {
        let (pool, _) = pool();
        let mut buffer = pool.take();
        let room = buffer.space().len();
        buffer.grow(room);
        assert!(!buffer.replace_front(0, &[1; HEADROOM_BYTES + 1]));
        assert_eq!(buffer.len(), room);
        assert!(buffer.replace_front(0, &[1; HEADROOM_BYTES]));
    }

    #[test]
    fn splitting_moves_the_rest_and_compacting_moves_it_home() {
        let (pool, _) = pool();
        let mut buffer = pool.take();
        buffer.append(b"headbody");
        buffer.consume(4);
        buffer.compact();
        assert_eq!(buffer.filled(), b"body");
        let rest = buffer.split_behind(2).unwrap();
        assert_eq!((buffer.filled(), rest.filled()), (&b"bo"[..], &b"dy"[..]));
        assert!(buffer.split_behind(2).is_none());
    }
}
