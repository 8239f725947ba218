//! Where exchanges run: places whose memory goes from one exchange to the next.
//!
//! An exchange's state is several times as large as an idle session's; a connection has a place only while it
//! needs one. One pool per worker.

use std::{cell::RefCell, rc::Rc};

use super::{
    exchange,
    scan::Found,
    session::{Next, Session},
};
use crate::{
    io::reuse::{Reusable, reusable},
    limits::SLOTS_KEPT_MAX,
};

/// A place for one exchange at a time.
pub type Slot = Reusable<(Box<Session>, Found), (Box<Session>, Next)>;

/// A worker's free places, most recently used first.
pub struct Slots {
    free: RefCell<Vec<Slot>>,
}

impl Slots {
    /// No places yet, with room to keep [`SLOTS_KEPT_MAX`].
    pub fn new() -> Rc<Self> {
        Rc::new(Slots { free: RefCell::new(Vec::with_capacity(SLOTS_KEPT_MAX)) })
    }

    /// A free place, or a new one.
    pub fn take(&self) -> Slot {
        let free = self.free.borrow_mut().pop();
        free.unwrap_or_else(|| reusable(|(session, found)| exchange::run(session, found)))
    }

    /// Keeps a place whose exchange is over.
    pub fn put(&self, slot: Slot) {
        let mut free = self.free.borrow_mut();
        if free.len() < SLOTS_KEPT_MAX {
            free.push(slot);
        }
    }
}
