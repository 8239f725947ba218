//! Where clients come in: one address with one service behind it, on one executor.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use glommio::net::{TcpListener, TcpStream, UdpSocket};

use crate::tally::{Tallies, Tally};
use crate::{connection, raw};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Service {
    Http,
    Echo,
    Once,
    Bulk,
    Datagrams,
}

const SERVICES: [Service; 5] =
    [Service::Http, Service::Echo, Service::Once, Service::Bulk, Service::Datagrams];

impl Service {
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Echo => "echo",
            Self::Once => "once",
            Self::Bulk => "bulk",
            Self::Datagrams => "datagrams",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        SERVICES.into_iter().find(|service| service.name() == name)
    }
}

pub enum Door {
    Streams(Service, TcpListener),
    Datagrams(UdpSocket),
}

impl Door {
    /// glommio sets SO_REUSEPORT, so every core has a socket of its own on the one address.
    pub fn bind(service: Service, address: SocketAddr) -> io::Result<Self> {
        Ok(match service {
            Service::Datagrams => Self::Datagrams(UdpSocket::bind(address)?),
            _ => Self::Streams(service, TcpListener::bind(address)?),
        })
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Streams(_, listener) => listener.local_addr().map_err(Into::into),
            Self::Datagrams(socket) => socket.local_addr().map_err(Into::into),
        }
    }

    pub async fn serve(self, tallies: &'static Tallies, tally: &'static Tally) {
        let (service, listener) = match self {
            Self::Datagrams(socket) => return raw::datagrams(socket, tally).await,
            Self::Streams(service, listener) => (service, listener),
        };
        loop {
            match listener.accept().await {
                Ok(stream) => {
                    tally.connections.add(1);
                    let _ = stream.set_nodelay(true);
                    glommio::spawn_local(attend(service, stream, tallies, tally)).detach();
                }
                Err(error) => {
                    // Most likely out of descriptors: try again when some connections have gone.
                    eprintln!("accept: {error}");
                    glommio::timer::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn attend(service: Service, stream: TcpStream, tallies: &'static Tallies, tally: &'static Tally) {
    // A client that resets its connection is no news here; the proxy under test reports what it saw.
    let _ = match service {
        Service::Http => connection::serve(stream, tallies, tally).await,
        Service::Once => raw::once(stream, tally).await,
        Service::Bulk => raw::bulk(stream, tally).await,
        Service::Echo | Service::Datagrams => raw::echo(stream, tally).await,
    };
}
