//! The one relay: every byte that passes from one side to the other passes through here.
//!
//! `body` and `chunked` are pure and know where a message ends; `flow` moves the bytes one way,
//! `tunnel` both ways.

pub mod body;
pub mod chunked;
pub mod flow;
pub mod tunnel;
