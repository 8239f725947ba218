//! Configuration: what the operator wrote becomes a checked, immutable [`plan::Plan`].
//!
//! Runs on the control thread before anything is opened.

pub mod from_flags;
pub mod plan;
