//! Datagrams in batches: `recvmmsg(2)` and `sendmmsg(2)`, with the addresses and sizes that travel beside them.
//!
//! The kernel may hand over several datagrams of one flow as one message (UDP_GRO), and takes several of one size as
//! one message (UDP_SEGMENT). Here a *message* is what one place of a batch holds: one datagram or more.

mod control;
mod inbox;
mod name;
mod outbox;

pub use self::{
    inbox::{Inbox, Message, Sender},
    outbox::{Item, Letter, Outbox, Told, send},
};
