//! The control thread: everything off the data path, on tokio.
//!
//! Nothing here is called by a worker.

pub mod log;
pub mod resolve;
