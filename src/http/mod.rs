//! HTTP/1.1: heads in and out, framing, exchanges, tunnels.
//!
//! `scan`, `field`, `request`, `response` and `reply` are pure; `session` and `exchange` move bytes on
//! a worker. A head is parsed and rewritten in one synchronous step, so nothing ever borrows from a buffer
//! across a wait.

pub mod destination;
pub mod edit;
pub mod exchange;
pub mod field;
pub mod reply;
pub mod request;
pub mod response;
pub mod scan;
pub mod session;
pub mod slots;
