//! Selectors: which backend of a cluster takes the next request. One file per algorithm, all pure.
//!
//! A [`layout::Layout`] is what does not change and all workers share, with the tables of `ring` and `maglev`; a
//! [`selector::Selector`] is what one worker knows. `pick` allocates nothing and costs the same however many backends
//! are dead.

pub mod algorithm;
pub mod bitset;
pub mod bound;
pub mod circle;
pub mod first;
pub mod ip_hash;
pub mod key;
pub mod layout;
pub mod least_connections;
pub mod least_response_time;
pub mod maglev;
pub mod p2c;
pub mod random;
pub mod ring;
pub mod roster;
pub mod round_robin;
pub mod selector;
pub mod shares;
pub mod spill;
mod steps;
mod tier;
pub mod tournament;
pub mod warmup;
