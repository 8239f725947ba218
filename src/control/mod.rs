//! The control thread: everything off the data path, on tokio.
//!
//! Nothing here is called by a worker.

pub mod admin;
pub mod health;
pub mod log;
pub mod metrics;
pub mod orders;
pub mod probe;
pub mod process;
pub mod reload;
pub mod resolve;
mod signals;
pub mod start;
pub mod supervisor;
