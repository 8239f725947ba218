//! What a route, or an HTTP listener, asks of each request.

use std::{net::IpAddr, sync::Arc, time::Duration};

use super::{
    access::Access,
    rates::{self, Holder, Rates, Taken},
};
use crate::{
    config::plan::admission::{AdmissionPlan, RateKey},
    stats::{names::Count, worker::WorkerStats},
};

/// Who may ask, and how often.
#[derive(Debug)]
pub struct Rule {
    access: Access,
    rates: Option<Arc<Rates>>,
}

/// Why a request goes nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// Its client may not ask for this.
    Forbidden,
    /// Too many; the next one may come after so many seconds, at least 1.
    TooMany(u32),
}

impl Denied {
    /// The status that answers it (RFC 9110 section 15.5.4, RFC 6585 section 4).
    pub fn status(self) -> u16 {
        match self {
            Denied::Forbidden => 403,
            Denied::TooMany(_) => 429,
        }
    }

    /// For `Retry-After`, in seconds.
    pub fn retry_after(self) -> Option<u32> {
        match self {
            Denied::Forbidden => None,
            Denied::TooMany(seconds) => Some(seconds),
        }
    }

    /// Where it is counted.
    pub fn counter(self) -> Count {
        match self {
            Denied::Forbidden => Count::RequestsDenied,
            Denied::TooMany(_) => Count::RequestsRateLimited,
        }
    }
}

impl Rule {
    /// `None` when nothing is asked.
    pub(super) fn new(asked: &AdmissionPlan, rates: Option<Arc<Rates>>) -> Option<Self> {
        let access = Access::new(&asked.allow, &asked.deny);
        (!access.is_open() || rates.is_some()).then_some(Rule { access, rates })
    }

    pub(super) fn rates(&self) -> Option<&Arc<Rates>> {
        self.rates.as_ref()
    }

    /// True when a client may ask at all.
    pub(super) fn admits(&self, client: Option<IpAddr>) -> bool {
        client.is_none_or(|client| self.access.admits(client))
    }

    /// Takes a request from the rate; what is wrong when there is none left.
    pub(super) fn exceeded<'h>(
        &self,
        client: Option<IpAddr>,
        header: impl Fn(&[u8]) -> Option<&'h [u8]>,
        stats: &WorkerStats,
    ) -> Option<Denied> {
        let rates = self.rates.as_ref()?;
        let by_client = || client.map(|client| rates.client(client));
        let holder: Option<Holder> = match &rates.limit().key {
            RateKey::All => Some(rates.everybody()),
            RateKey::ClientAddress => by_client(),
            RateKey::Header(name) => {
                header(name.as_bytes()).map(|value| rates.value(value)).or_else(by_client)
            }
        };
        match rates.take(holder?, rates::now()) {
            Taken::Yes => None,
            Taken::Evicting => {
                stats.count(Count::RateEvictions);
                None
            }
            Taken::NotFor(wait) => Some(Denied::TooMany(whole_seconds(wait))),
        }
    }
}

/// Rounded up, so that who waits so long is not too early.
fn whole_seconds(wait: Duration) -> u32 {
    let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
    u32::try_from(seconds).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_rounded_up_and_never_none() {
        for (millis, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (90_000, 90)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), seconds);
        }
    }
}
