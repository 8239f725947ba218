//! One probe: a connection, what goes over it, and a reset at its end.
//!
//! The reset, as HAProxy's checks end, leaves nothing behind: no half-closed descriptor at a backend that does not look
//! at its connections, and no port of ours in TIME_WAIT. Dropping a probe at any point closes its connection so.

use std::{
    borrow::Cow,
    io::{self, ErrorKind},
    net::IpAddr,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::timeout,
};

use super::{http, script, subject::Subject};
use crate::{
    addr::Endpoint,
    config::{plan::health::Probe, units::format_duration},
    fault::Kind,
    proxy_protocol::{self, Ends},
    sys::socket,
    upstream::connect,
};

/// Why a probe has no good end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Miss {
    /// What the backend did.
    Backend(String),
    /// What this host lacks, which says nothing about the backend.
    Ours(String),
}

/// How far a probe has come.
#[derive(Debug, Default)]
pub(super) struct Stage {
    /// What it waits for.
    waiting: Cow<'static, str>,
    /// Which endpoint took its connection.
    pub(super) connected: Option<usize>,
}

impl Stage {
    pub(super) fn is(&mut self, what: impl Into<Cow<'static, str>>) {
        self.waiting = what.into();
    }

    /// Why a probe that is still at it after this time has failed.
    pub(super) fn late(&self, limit: Duration) -> Miss {
        Miss::Backend(format!("timed out after {}, {}", format_duration(limit), self.waiting))
    }
}

/// An endpoint by its place, and the local address to connect to it from.
pub(super) type Try = (usize, Option<IpAddr>);

enum Stream {
    Inet(TcpStream),
    Unix(UnixStream),
}

/// Makes the probe with the first endpoint that takes a connection, as clients' connections are made. Has no time limit
/// for the whole; the work it does is bounded whatever the backend sends.
pub(super) async fn make(subject: &Subject, tries: Vec<Try>, stage: &mut Stage) -> Result<(), Miss> {
    stage.is("connecting");
    let mut last = Err(Miss::Backend("no address".to_owned()));
    // A silent endpoint must leave time for the others.
    let limit = subject.health.timeout / u32::try_from(tries.len()).unwrap_or(u32::MAX).max(1);
    for (place, source) in tries {
        let Some(endpoint) = subject.endpoints.get(place) else { continue };
        match timeout(limit, connect(endpoint, source)).await {
            Ok(Ok(stream)) => {
                stage.connected = Some(place);
                return match stream {
                    Stream::Inet(stream) => {
                        let ends = stream.local_addr().ok().zip(stream.peer_addr().ok());
                        let ends = ends.map(|(source, destination)| Ends { source, destination });
                        ask(stream, ends, subject, stage).await
                    }
                    Stream::Unix(stream) => ask(stream, None, subject, stage).await,
                };
            }
            Ok(Err(ours @ Miss::Ours(_))) => return Err(ours),
            Ok(Err(miss)) => last = Err(miss),
            Err(_) => last = Err(stage.late(limit)),
        }
    }
    last
}

async fn connect(endpoint: &Endpoint, source: Option<IpAddr>) -> Result<Stream, Miss> {
    let socket = socket::open_stream(endpoint).map_err(miss)?;
    socket::start_connect(&socket, endpoint, source).map_err(miss)?;
    socket::reset_on_close(&socket);
    Ok(match endpoint {
        Endpoint::Inet(_) => {
            let stream = TcpStream::from_std(socket.into()).map_err(miss)?;
            stream.writable().await.map_err(miss)?;
            socket::connect_result(&stream).map_err(miss)?;
            Stream::Inet(stream)
        }
        Endpoint::Unix(_) => Stream::Unix(UnixStream::from_std(socket.into()).map_err(miss)?),
    })
}

async fn ask<S>(mut stream: S, ends: Option<Ends>, subject: &Subject, stage: &mut Stage) -> Result<(), Miss>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if let Some(version) = subject.greeting {
        let mut header = Vec::new();
        // Not everybody takes an UNKNOWN of version 1, so there the probe's own connection speaks for itself.
        let ends = ends.filter(|_| version == proxy_protocol::Version::V1);
        proxy_protocol::write(version, ends, &mut header);
        stage.is("sending the PROXY header");
        stream.write_all(&header).await.map_err(miss)?;
    }
    match &subject.health.probe {
        Probe::Tcp => Ok(()),
        Probe::Http(probe) => {
            // What the Host field says unless the operator does.
            let host = ends.map_or_else(|| "localhost".to_owned(), |ends| ends.destination.to_string());
            http::ask(stream, probe, &host, stage).await
        }
        Probe::Script(steps) => script::ask(stream, steps, stage).await,
    }
}

/// Whose fault it is, and what it is called.
pub(super) fn miss(error: io::Error) -> Miss {
    let reason = match error.kind() {
        ErrorKind::WouldBlock => "its accept queue is full".to_owned(),
        ErrorKind::NotFound => "no such socket".to_owned(),
        ErrorKind::ConnectionRefused
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::PermissionDenied
        | ErrorKind::TimedOut => error.kind().to_string(),
        _ => error.to_string(),
    };
    match connect::fault(error).kind {
        Kind::Exhausted => Miss::Ours(reason),
        _ => Miss::Backend(reason),
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn our_own_poverty_is_not_the_backends_fault() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL] {
            assert!(matches!(miss(errno.into()), Miss::Ours(_)), "{errno:?}");
        }
        for (errno, reason) in [
            (Errno::CONNREFUSED, "connection refused"),
            (Errno::CONNRESET, "connection reset"),
            (Errno::HOSTUNREACH, "host unreachable"),
            (Errno::NOENT, "no such socket"),
            (Errno::AGAIN, "its accept queue is full"),
        ] {
            assert_eq!(miss(errno.into()), Miss::Backend(reason.to_owned()));
        }
    }
}
