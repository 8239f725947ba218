//! Workers: one pinned thread per core, its runtime, its mailbox, and the wall around each connection.

pub mod contain;
mod listening;
pub mod mailbox;
pub mod outbox;
pub mod run;
