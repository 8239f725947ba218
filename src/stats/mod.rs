//! Statistics: plain numbers owned by one worker, read by the control thread without disturbing it.

pub mod cell;
pub mod histogram;
pub mod names;
pub mod probes;
pub mod report;
pub mod state;
pub mod view;
pub mod worker;
