//! Connections to backends: made under a deadline, pooled while idle, and the rules for trying again.

pub mod connect;
pub mod lease;
pub mod placing;
pub mod pool;
pub mod retry;
pub mod source;
