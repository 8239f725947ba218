//! A connection to a backend while an exchange uses it: counts itself, and goes back to the pool or is closed.

use std::{net::SocketAddr, rc::Rc};

use crate::{
    cluster::{backend::Backend, room::Seat},
    io::{alarm::Millis, stream::Stream},
    stats::names::BackendLevel,
};

/// A leased connection; dropping it closes it and lowers the backend's count, whatever ended the exchange.
pub struct Lease {
    stream: Option<Stream>,
    /// Behind the stream: the place is free when that is closed.
    seat: Option<Seat>,
    backend: Rc<Backend>,
    /// It came from the pool, so it may have died before the request was sent.
    pub reused: bool,
    /// Whom its PROXY protocol header speaks for.
    client: Option<SocketAddr>,
}

impl Lease {
    /// Counts the backend as active until the lease ends.
    pub fn new((stream, seat): (Stream, Seat), backend: Rc<Backend>, reused: bool) -> Self {
        backend.stats().raise(BackendLevel::Active);
        Lease { stream: Some(stream), seat: Some(seat), backend, reused, client: None }
    }

    /// The connection has said that it speaks for this client, so it is good for no other.
    pub fn for_client(mut self, client: Option<SocketAddr>) -> Self {
        self.client = client;
        self
    }

    /// The connection; `None` only after it was given back.
    pub fn stream(&mut self) -> Option<&mut Stream> {
        self.stream.as_mut()
    }

    /// The connection and whose it is.
    pub fn parts(&mut self) -> Option<(&mut Stream, &Backend)> {
        self.stream.as_mut().map(|stream| (stream, &*self.backend))
    }

    /// Whose connection it is.
    pub fn backend(&self) -> &Rc<Backend> {
        &self.backend
    }

    /// Back to the pool for the next request; `unsettled` if bytes may still follow the response.
    /// False when it was not silent, and closed.
    pub fn give_back(mut self, now: Millis, unsettled: bool) -> bool {
        // Who has left its cluster gets no more requests.
        let member = self.backend.index().is_some();
        // Those who wait for it here take it from the pool; those who wait elsewhere need it closed.
        let keep = member && !self.backend.room().takes_connection_back();
        let connection = self.stream.take().zip(self.seat.take()).filter(|_| keep);
        let put = connection
            .is_none_or(|connection| self.backend.pool().put(connection, now, unsettled, self.client));
        self.backend.room().stir();
        put
    }

    /// Closes with a reset, so that the backend does not take a cut request for a whole one.
    pub fn abort(mut self) {
        if let Some(stream) = self.stream.take() {
            stream.abort();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.backend.stats().lower(BackendLevel::Active);
    }
}
