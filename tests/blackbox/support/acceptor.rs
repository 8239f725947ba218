//! A backend without a script: the test accepts its connections and holds both ends of a tunnel in its own hands.

use std::net::TcpListener;
use std::os::fd::OwnedFd;

use super::client::Client;
use super::deadline::PATIENCE;
use super::kernel;
use super::ringway::Ringway;
use super::wire::Wire;

pub(crate) struct Acceptor {
    /// Where it listens, as the command line says it.
    pub(crate) place: String,
    listener: OwnedFd,
}

impl Acceptor {
    pub(crate) fn new() -> Self {
        Self::at("127.0.0.1:0")
    }

    /// Listens where `place` says: `unix:/path`, `unix:@name` or an address.
    pub(crate) fn at(place: &str) -> Self {
        if place.starts_with("unix:") {
            let listener = kernel::listen_unix(place);
            kernel::never_wait(&listener);
            return Self { place: place.to_owned(), listener };
        }
        let listener = TcpListener::bind(place).unwrap();
        let place = listener.local_addr().unwrap().to_string();
        let listener = listener.into();
        kernel::listen(&listener);
        kernel::never_wait(&listener);
        Self { place, listener }
    }

    /// The next connection.
    pub(crate) fn accept(&self) -> Wire {
        kernel::wait_readable(&self.listener, PATIENCE);
        self.try_accept().expect("a connection at the backend")
    }

    /// A connection that is there already.
    pub(crate) fn try_accept(&self) -> Option<Wire> {
        kernel::accept(&self.listener).ok().map(Wire::new)
    }

    /// Both ends of a fresh connection through `ringway`.
    pub(crate) fn tunnel(&self, ringway: &Ringway) -> (Client, Wire) {
        let client = ringway.client();
        (client, self.accept())
    }
}
