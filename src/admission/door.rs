//! A listener's door: which connections and datagram flows it lets in.

use std::{net::IpAddr, num::NonZeroU32, sync::Arc};

use super::{
    access::Access,
    census::{Census, Counted, Entry},
    rates::{self, Rates, Taken},
};
use crate::{
    config::plan::admission::{AdmissionPlan, RateKey},
    stats::{names::Count, worker::WorkerStats},
};

/// What a listener asks before anything is read.
#[derive(Debug)]
pub struct Door {
    access: Access,
    /// Counts the clients, each of which may have so many connections.
    census: Option<(Arc<Census>, NonZeroU32)>,
    rates: Option<Arc<Rates>>,
}

/// Lets its holder stay; while it is kept, its client's connections count it.
#[derive(Debug, Default)]
#[must_use]
pub struct Pass {
    _counted: Option<Counted>,
}

/// Why somebody was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turned {
    /// By address.
    Denied,
    /// Its client has as many connections as it may have.
    Crowded,
    /// Too many in too short a time.
    Hasty,
}

impl Turned {
    /// Where a connection is counted.
    pub fn connection(self) -> Count {
        match self {
            Turned::Denied => Count::ConnectionsDenied,
            Turned::Crowded => Count::ConnectionsOverClientLimit,
            Turned::Hasty => Count::ConnectionsRateLimited,
        }
    }

    /// Where a datagram is counted.
    pub fn datagram(self) -> Count {
        match self {
            Turned::Denied => Count::UdpDenied,
            Turned::Crowded => Count::UdpOverClientLimit,
            Turned::Hasty => Count::UdpRateLimited,
        }
    }
}

impl Door {
    /// `None` when everybody may come in.
    pub(super) fn new(
        asked: &AdmissionPlan,
        census: Option<(Arc<Census>, NonZeroU32)>,
        rates: Option<Arc<Rates>>,
    ) -> Option<Self> {
        let access = Access::new(&asked.allow, &asked.deny);
        let asks = !access.is_open() || census.is_some() || rates.is_some();
        asks.then_some(Door { access, census, rates })
    }

    pub(super) fn rates(&self) -> Option<&Arc<Rates>> {
        self.rates.as_ref()
    }

    pub(super) fn census(&self) -> Option<&Arc<Census>> {
        self.census.as_ref().map(|(census, _)| census)
    }

    /// Lets a connection or a flow in, or says why not.
    pub fn enter(&self, client: Option<IpAddr>, stats: &WorkerStats) -> Result<Pass, Turned> {
        if client.is_some_and(|client| !self.access.admits(client)) {
            return Err(Turned::Denied);
        }
        let mut pass = Pass::default();
        if let (Some((census, max)), Some(client)) = (&self.census, client) {
            match census.enter(client, *max) {
                Entry::Counted(counted) => pass = Pass { _counted: Some(counted) },
                Entry::Uncounted => stats.count(Count::ClientTableFull),
                Entry::Refused => return Err(Turned::Crowded),
            }
        }
        let Some(rates) = &self.rates else { return Ok(pass) };
        let holder = match (&rates.limit().key, client) {
            (RateKey::All, _) => rates.everybody(),
            (_, Some(client)) => rates.client(client),
            (_, None) => return Ok(pass),
        };
        match rates.take(holder, rates::now()) {
            Taken::Yes => Ok(pass),
            Taken::Evicting => {
                stats.count(Count::RateEvictions);
                Ok(pass)
            }
            Taken::NotFor(_) => Err(Turned::Hasty),
        }
    }
}
