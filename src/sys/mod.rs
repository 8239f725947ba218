//! The kernel's side: the only directory where `unsafe` is allowed.
//!
//! Thin, safe wrappers over sockets, pipes, descriptors and the ring probe. Nothing here knows of workers,
//! protocols or statistics. Every call is non-blocking unless its documentation says otherwise.

#[allow(unsafe_code, reason = "receives and sends datagrams in batches")]
pub mod datagram;
#[allow(unsafe_code, reason = "adopts and lends descriptors the runtime owns")]
pub mod descriptor;
#[allow(unsafe_code, reason = "separates a thread's table of descriptors")]
pub mod descriptor_table;
pub mod doorbell;
#[allow(unsafe_code, reason = "sets a thread's mask of signals")]
pub mod mask;
#[allow(unsafe_code, reason = "sets socket options by number")]
pub mod option;
pub mod passage;
pub mod pipe;
pub mod ready_set;
pub mod ring;
pub mod socket;
pub mod timer;
