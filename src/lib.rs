//! Ringway: a thread-per-core load balancer on io_uring for bare-metal Linux.
//!
//! The library holds everything; the binary is a few lines around [`control::supervisor`]. Read
//! `ARCHITECTURE.md` first: it follows a connection through these modules from left to right.

pub mod addr;
pub mod admission;
pub mod balance;
pub mod blueprint;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod control;
pub mod date;
pub mod demo;
pub mod doctor;
pub mod fault;
pub mod health;
pub mod http;
pub mod io;
pub mod limits;
pub mod listener;
pub mod proxy_protocol;
pub mod relay;
pub mod route;
pub mod shard;
#[cfg(test)]
mod simulation;
pub mod stats;
pub mod sticky;
pub mod syntax;
pub mod sys;
pub mod tcp;
pub mod udp;
pub mod upstream;
pub mod worker;
