//! Who has opened a connection, and what they connected to.

use std::net::SocketAddr;

use crate::{
    io::stream::Stream,
    proxy_protocol::{Ends, Header},
};

/// A client as its socket shows it, or as the proxy in front of us says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Client {
    /// Its address; there is none behind a UNIX socket.
    pub source: Option<SocketAddr>,
    /// What it connected to, when that is not our end of its socket.
    destination: Option<SocketAddr>,
}

impl Client {
    /// The socket's peer.
    pub fn peer(source: Option<SocketAddr>) -> Self {
        Client { source: source.map(canonical), destination: None }
    }

    /// What a PROXY protocol header makes of it.
    pub fn introduced(self, header: Header) -> Self {
        match header {
            Header::Local => self,
            Header::Inet(ends) => Client {
                source: Some(canonical(ends.source)),
                destination: Some(canonical(ends.destination)),
            },
            // Not the proxy's own address, which would be a lie.
            Header::Unix => Client::default(),
        }
    }

    /// Both ends, for the header of an upstream connection; `None` when the client has no address.
    pub fn ends(self, stream: &Stream) -> Option<Ends> {
        let source = self.source?;
        let destination = self.destination.or_else(|| stream.local_address().ok())?;
        Some(Ends { source, destination })
    }
}

/// IPv4 clients of an IPv6 socket are IPv4 clients.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_speaks_for_the_client_and_mapped_addresses_are_ipv4() {
        let peer = Client::peer(Some("[::ffff:10.0.0.1]:7".parse().unwrap()));
        assert_eq!(peer.source, Some("10.0.0.1:7".parse().unwrap()));
        assert_eq!(peer.introduced(Header::Local), peer);
        assert_eq!(peer.introduced(Header::Unix), Client::default());
        let ends = Ends { source: "1.2.3.4:5".parse().unwrap(), destination: "6.7.8.9:10".parse().unwrap() };
        let client = peer.introduced(Header::Inet(ends));
        assert_eq!((client.source, client.destination), (Some(ends.source), Some(ends.destination)));
    }
}
