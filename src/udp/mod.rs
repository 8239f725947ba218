//! UDP mode: each client address and port is a flow, which is given a backend once and keeps it.

pub mod flow;
mod forward;
pub mod relay;
mod reply;
pub mod session;
pub mod table;
pub mod trial;
