//! Makes a connection to a backend under a deadline.

use std::{io, net::SocketAddr, time::Duration};

use crate::{
    cluster::backend::Backend,
    fault::{Fault, Kind, Phase},
    io::{
        alarm::{Alarm, Ring},
        stream::Stream,
    },
    sys::socket,
};

/// Tries the backend's addresses in turn, each under `timeout`. Dropping it closes the half-made connection.
pub async fn connect(backend: &Backend, alarm: &Alarm, timeout: Duration) -> Result<Stream, Fault> {
    let mut last = Fault::upstream(Phase::Connect, Kind::Missing);
    for (place, address) in backend.addresses() {
        match connect_to(address, alarm, timeout).await {
            Ok(stream) => {
                backend.connected(place);
                return Ok(stream);
            }
            Err(fault) if matches!(fault.kind, Kind::Cut | Kind::Exhausted) => return Err(fault),
            Err(fault) => last = fault,
        }
    }
    Err(last)
}

async fn connect_to(address: SocketAddr, alarm: &Alarm, timeout: Duration) -> Result<Stream, Fault> {
    let (socket, done) = socket::start_connect(address).map_err(fault)?;
    let mut stream = Stream::new(socket).map_err(fault)?;
    if done {
        return Ok(stream);
    }
    alarm.set(timeout);
    let waited = alarm.bound(|cx| stream.poll_writable(cx)).await;
    alarm.clear();
    match waited {
        Ok(()) => stream.connect_result().map_err(fault).map(|()| stream),
        Err(Ring::Deadline) => Err(Fault::upstream(Phase::Connect, Kind::Silent)),
        Err(Ring::Cut) => Err(Fault::local(Phase::Connect, Kind::Cut)),
    }
}

/// Tells our own poverty from a backend's refusal.
fn fault(error: io::Error) -> Fault {
    use rustix::io::Errno;
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        // Ports run out for one destination only, so another backend may do: EADDRNOTAVAIL is not here.
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
            Fault::local(Phase::Connect, Kind::Exhausted)
        }
        _ => Fault::upstream(Phase::Connect, Kind::Died),
    }
}
