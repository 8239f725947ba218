//! Who may come in, how often, and how many connections at a time.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use crate::addr::Networks;

/// What a listener or a route asks of clients. The default asks nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdmissionPlan {
    /// Nobody else may come in, unless it is empty.
    pub allow: Networks,
    /// May not come in, even if they are allowed.
    pub deny: Networks,
    /// How often.
    pub rate: Option<RateLimit>,
    /// Connections or datagram flows of one client at a time, at most [`CONNECTIONS_PER_CLIENT_MAX`]; listeners only.
    pub connections_per_client: Option<NonZeroU32>,
}

/// Largest limit of connections per client.
pub const CONNECTIONS_PER_CLIENT_MAX: u32 = 1_000_000;

/// So many in such a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// 1 to [`RATE_COUNT_MAX`].
    pub count: u32,
    /// A second, a minute or an hour.
    pub per: Duration,
}

/// Largest number in a rate, and largest burst.
pub const RATE_COUNT_MAX: u32 = 1_000_000;

impl Rate {
    /// What comes in a second, at least 1: the burst that is allowed unless the operator says otherwise.
    pub fn in_a_second(self) -> u32 {
        let seconds = u32::try_from(self.per.as_secs()).unwrap_or(u32::MAX);
        self.count.checked_div(seconds).unwrap_or(self.count).max(1)
    }
}

/// A limit of requests, connections or datagram flows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// In the long run.
    pub rate: Rate,
    /// At once, after a pause: 1 to [`RATE_COUNT_MAX`].
    pub burst: u32,
    /// What has a limit of its own.
    pub key: RateKey,
}

/// What has a limit of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum RateKey {
    /// Each client address.
    #[default]
    ClientAddress,
    /// Everything together.
    All,
    /// Each value of a header field, whose name is in lower case. A request without it is counted by its client's
    /// address.
    Header(Arc<str>),
}
