//! What tells one flow of datagrams from another.

use std::{
    hash::{Hash, Hasher},
    net::{IpAddr, SocketAddr},
};

/// A client's address and port, and the local address it speaks to where a socket has more than one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Who sends.
    pub client: SocketAddr,
    /// Where it was sent to, which is where answers must come from; `None` when that is the socket's own address.
    pub local: Option<IpAddr>,
}

/// In as few pieces as possible, since a keyed hash takes its time for each.
impl Hash for Flow {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.client {
            SocketAddr::V4(client) => {
                state.write_u64(u64::from(client.ip().to_bits()) << 16 | u64::from(client.port()));
            }
            SocketAddr::V6(client) => {
                state.write_u128(client.ip().to_bits());
                state.write_u64(u64::from(client.scope_id()) << 16 | u64::from(client.port()));
            }
        }
        match self.local {
            Some(IpAddr::V4(local)) => state.write_u32(local.to_bits()),
            Some(IpAddr::V6(local)) => state.write_u128(local.to_bits()),
            None => {}
        }
    }
}
