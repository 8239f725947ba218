//! A worker's I/O: streams that wait on the ring, pooled buffers and pipes, and the alarms that end waits.
//!
//! This is the one seam between the data path and the ring: readiness on the ring, then non-blocking calls.
//! Everything here belongs to one worker thread and shares nothing.

pub mod alarm;
pub mod buffer;
pub mod parting;
pub mod pipes;
mod places;
pub mod readiness;
pub mod ready;
pub mod reuse;
pub mod stream;
pub mod tray;
pub mod watch;
