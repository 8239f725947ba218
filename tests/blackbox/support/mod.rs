//! The harness: the real binary between scripted backends and a strict client.
//!
//! Nothing here sleeps to synchronise: every wait names the condition it waits for and ends in a panic at its deadline.

pub(crate) mod acceptor;
pub(crate) mod backend;
pub(crate) mod client;
pub(crate) mod configured;
pub(crate) mod datagram;
pub(crate) mod deadline;
pub(crate) mod directory;
pub(crate) mod gate;
pub(crate) mod holding;
pub(crate) mod insight;
pub(crate) mod introduction;
pub(crate) mod kernel;
pub(crate) mod load;
pub(crate) mod message;
pub(crate) mod process;
pub(crate) mod ringway;
pub(crate) mod run;
pub(crate) mod seed;
pub(crate) mod stats;
pub(crate) mod torrent;
pub(crate) mod tracer;
pub(crate) mod wire;

pub(crate) use acceptor::Acceptor;
pub(crate) use backend::{Backend, Connection, refusing_address};
pub(crate) use client::{Client, Response};
pub(crate) use configured::{Configured, mistakes};
pub(crate) use deadline::{PATIENCE, eventually};
pub(crate) use directory::Directory;
pub(crate) use gate::Gate;
pub(crate) use holding::Holding;
pub(crate) use load::{Load, Work};
pub(crate) use message::Head;
pub(crate) use process::Process;
pub(crate) use ringway::Ringway;
pub(crate) use seed::{Seed, digest};
pub(crate) use wire::Failure;
