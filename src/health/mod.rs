//! Health: who may be asked. Pure state machines with time as an argument; the control thread owns them and tells the
//! workers what follows.
//!
//! *Active* checks are probes that we send; *passive* ones learn from live traffic. (Some texts swap the two words.)

pub mod board;
pub mod circuit;
pub mod outlier;
pub mod pulse;
pub mod standing;
mod turns;
mod ward;
