//! Listeners: binding the `SO_REUSEPORT` groups and taking connections off the accept queues.

pub mod accept;
pub mod bind;
pub mod client;
pub mod connection;
pub mod introduction;
pub mod spread;
