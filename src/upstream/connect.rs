//! Makes a connection to a backend under a deadline.

use std::{io, time::Duration};

use rustix::io::Errno;

use crate::{
    addr::Endpoint,
    cluster::{attempt::Attempt, backend::Backend},
    fault::{Fault, Kind, Phase},
    io::{
        alarm::{self, Alarm, Ring},
        stream::Stream,
    },
    stats::names::BackendCount,
};

/// How to connect.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// The waiting connection's deadline.
    pub alarm: &'a Alarm,
    /// For each of the backend's endpoints.
    pub timeout: Duration,
    /// What the connection begins with: a PROXY protocol header, or nothing.
    pub greeting: &'a [u8],
    /// Something follows at once.
    pub speaks_first: bool,
}

/// Tries the backend's endpoints in turn. Dropping it closes the half-made connection.
pub async fn connect(attempt: &Attempt, call: Call<'_>) -> Result<Stream, Fault> {
    let backend = attempt.backend();
    let mut last = Fault::upstream(Phase::Connect, Kind::Missing);
    for (place, endpoint) in backend.endpoints() {
        match connect_to(backend, endpoint, call).await {
            Ok(stream) => {
                stream.belongs_to(backend.owner());
                attempt.connected(place, alarm::now());
                return Ok(stream);
            }
            Err(fault) if fault.is_local() => return Err(fault),
            Err(fault) => last = fault,
        }
    }
    Err(last)
}

async fn connect_to(backend: &Backend, endpoint: &Endpoint, call: Call<'_>) -> Result<Stream, Fault> {
    let (mut stream, is_made) = start(backend, endpoint, call.speaks_first)?;
    if !is_made {
        call.alarm.set(call.timeout);
        let waited = call.alarm.bound(|cx| stream.poll_writable(cx)).await;
        call.alarm.clear();
        match waited {
            Ok(()) => stream.connect_result().map_err(fault)?,
            Err(Ring::Deadline) => return Err(Fault::upstream(Phase::Connect, Kind::Silent)),
            Err(Ring::Cut) => return Err(Fault::local(Phase::Connect, Kind::Cut)),
        }
    }
    match greet(&mut stream, call) {
        true => Ok(stream),
        false => Err(Fault::upstream(Phase::Connect, Kind::Died)),
    }
}

/// A fresh socket's queue is empty, so what does not fit at once means that the connection is dead already.
fn greet(stream: &mut Stream, call: Call<'_>) -> bool {
    let Call { greeting, speaks_first, .. } = call;
    let send = if speaks_first { Stream::transmit_more } else { Stream::transmit };
    greeting.is_empty() || send(stream, greeting).is_ok_and(|sent| sent == greeting.len())
}

/// Starts a handshake from the first local address that has a port left.
fn start(backend: &Backend, endpoint: &Endpoint, speaks_first: bool) -> Result<(Stream, bool), Fault> {
    let mut last = Fault::upstream(Phase::Connect, Kind::Exhausted);
    for source in backend.sources().toward(endpoint) {
        match Stream::connect(endpoint, source, speaks_first) {
            Ok(started) => return Ok(started),
            Err(error) => last = fault(error),
        }
        if last.kind != Kind::Exhausted || last.is_local() {
            break;
        }
        backend.stats().count(BackendCount::PortsExhausted);
    }
    Err(last)
}

/// Tells our own poverty from a backend's refusal.
pub fn fault(error: io::Error) -> Fault {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
            Fault::local(Phase::Connect, Kind::Exhausted)
        }
        // Ports run out for one destination only, so another backend may do.
        Some(Errno::ADDRNOTAVAIL) => Fault::upstream(Phase::Connect, Kind::Exhausted),
        _ => Fault::upstream(Phase::Connect, Kind::Died),
    }
}
