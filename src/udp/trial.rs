//! The backends a flow is tried on until one of them answers.

use std::rc::Rc;

use rustix::io::Errno;

use crate::{
    addr::Endpoint,
    cluster::{attempt::Attempt, backend::Backend, room::Seat, tried::Tried},
    fault::{Fault, Kind, Phase},
    io::alarm,
    limits::UDP_OPENING_BYTES_MAX,
    shard::{Denial, Setup, Shard, Wish},
    stats::names::{BackendCount, BackendLevel, Count},
    sys::{option, socket},
    upstream::connect::fault,
};
use std::os::fd::OwnedFd;

/// A socket that speaks with one backend for one flow. The backend counts as active for as long as it lives.
pub struct Upstream {
    /// Connected, so it receives from nobody else.
    pub socket: OwnedFd,
    /// With whom it speaks.
    pub backend: Rc<Backend>,
    /// Counts the flow there.
    pub attempt: Rc<Attempt>,
    /// Its place among the connections there, whichever endpoint it speaks with.
    _seat: Rc<Seat>,
    /// Its endpoint.
    pub place: usize,
}

impl Upstream {
    /// Opens one from the first local address that has a port left.
    fn open(Current { attempt, seat, place, .. }: &Current) -> Result<Self, Fault> {
        let (place, _seat) = (*place, Rc::clone(seat));
        let backend = attempt.backend();
        let Some(endpoint) = backend.endpoint(place) else {
            return Err(Fault::upstream(Phase::Connect, Kind::Missing));
        };
        let Endpoint::Inet(address) = endpoint else {
            return Err(Fault::upstream(Phase::Connect, Kind::Died));
        };
        for source in backend.sources().toward(endpoint) {
            match socket::connect_datagrams(*address, source) {
                Ok(socket) => {
                    // Older kernels hand over each datagram by itself.
                    let _ = option::put_datagrams_together(&socket);
                    backend.stats().count(BackendCount::Connects);
                    backend.stats().raise(BackendLevel::Active);
                    let (backend, attempt) = (Rc::clone(backend), Rc::clone(attempt));
                    return Ok(Upstream { socket, backend, attempt, _seat, place });
                }
                Err(error) if is_out_of_ports(&error) => backend.stats().count(BackendCount::PortsExhausted),
                Err(error) => return Err(fault(error)),
            }
        }
        // A datagram socket's port is taken for all destinations, so no other backend could do better.
        Err(Fault::local(Phase::Connect, Kind::Exhausted))
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.backend.stats().lower(BackendLevel::Active);
    }
}

/// Connecting takes a free port; without one it fails with EAGAIN.
fn is_out_of_ports(error: &std::io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::AGAIN | Errno::ADDRNOTAVAIL | Errno::ADDRINUSE))
}

/// What has been tried for a flow that nobody has answered yet.
#[derive(Default)]
pub struct Trial {
    tried: Tried,
    current: Option<Current>,
    /// The current endpoint is to be tried again: it was not its fault.
    again: bool,
    /// Something has been sent.
    begun: bool,
    /// The flow's first datagram, unless it is large.
    opening: Option<Box<[u8]>>,
}

struct Current {
    attempt: Rc<Attempt>,
    seat: Rc<Seat>,
    place: usize,
    /// Its other endpoints that were not tried.
    left: usize,
}

impl Trial {
    /// A socket to the next one that may answer. Fails with a local fault when there is no descriptor, port or memory,
    /// after which the same one may be tried again, and with another one when nobody is left or those who are left are
    /// full.
    pub fn connect(&mut self, shard: &Shard, setup: &Setup, wish: Wish) -> Result<Upstream, Fault> {
        loop {
            let denied = |denial| match denial {
                Denial::Nobody => Fault::upstream(Phase::Connect, Kind::Missing),
                Denial::Full => Fault::upstream(Phase::Connect, Kind::Full),
            };
            let current = self.next(shard, setup, wish).map_err(denied)?;
            match Upstream::open(current) {
                Ok(upstream) => return Ok(upstream),
                Err(fault) => {
                    self.again = fault.is_local();
                    if self.again {
                        return Err(fault);
                    }
                }
            }
        }
    }

    /// The current backend's next endpoint, or the next backend's first.
    fn next(&mut self, shard: &Shard, setup: &Setup, wish: Wish) -> Result<&Current, Denial> {
        let again = std::mem::take(&mut self.again);
        match &mut self.current {
            Some(_) if again => {}
            Some(current) if current.left > 0 => {
                current.left -= 1;
                current.place = (current.place + 1) % current.attempt.backend().endpoint_count().max(1);
            }
            current => {
                if let Some(failed) = current.take() {
                    shard.blame(&failed.attempt, Fault::upstream(Phase::Connect, Kind::Died), false);
                    shard.stats.count(Count::RetriesConnect);
                }
                let attempt = Rc::new(setup.pick(wish, &mut self.tried, alarm::now())?.attempt);
                let backend = attempt.backend();
                let seat = Rc::new(backend.seat().ok_or(Denial::Full)?);
                let (place, left) = (backend.preferred(), backend.endpoint_count().saturating_sub(1));
                *current = Some(Current { attempt, seat, place, left });
            }
        }
        self.current.as_ref().ok_or(Denial::Nobody)
    }

    /// Keeps the flow's first datagram when it has been sent, in case nobody receives it.
    pub fn begin(&mut self, opening: &[u8]) {
        if !self.begun {
            self.begun = true;
            self.opening = (opening.len() <= UDP_OPENING_BYTES_MAX).then(|| opening.into());
        }
    }

    /// What to send to the next one, if there is anything.
    pub fn opening(&self) -> Option<&[u8]> {
        self.opening.as_deref()
    }
}
