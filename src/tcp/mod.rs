//! TCP mode: one backend for each connection, and bytes both ways that nobody looks at.

pub mod session;
