//! Clusters: groups of backends, and how one of them is chosen.

use std::{net::IpAddr, sync::Arc, time::Duration};

use super::health::HealthPlan;
pub use crate::balance::algorithm::Algorithm;
use crate::{
    addr::Endpoint,
    health::{circuit, outlier},
    io::alarm,
    proxy_protocol::Version,
};

/// A named group of backends that can stand in for each other.
#[derive(Debug, Clone)]
pub struct ClusterPlan {
    /// Unique name, also the metrics label.
    pub name: Arc<str>,
    /// How a backend is picked.
    pub algorithm: Algorithm,
    /// What the hashing algorithms hash.
    pub hash_key: HashKey,
    /// How far the load of a backend may exceed the average before a hashing algorithm passes it over, in percent of
    /// the average (125 is a quarter more); `None` does not look.
    pub bounded_load_percent: Option<u32>,
    /// How long a backend that has come back grows into its share; zero gives it all at once.
    pub slow_start: Duration,
    /// Keeps a client with its backend.
    pub sticky: Option<Sticky>,
    /// How its backends are probed; `None` probes nobody.
    pub health: Option<Arc<HealthPlan>>,
    /// How many requests or connections may wait for room at its backends, over all workers; 0 lets nobody wait.
    pub queue_max: usize,
    /// How long each of them may wait, at least a millisecond.
    pub queue_timeout: Duration,
    /// How often a request is tried, and which.
    pub retries: Retries,
    /// At least one backend.
    pub backends: Vec<BackendPlan>,
    /// The PROXY protocol header each connection to its backends begins with.
    pub send_proxy: Option<Version>,
    /// Local addresses that connections to its backends are made from, in turns; empty leaves it to the kernel.
    pub sources: Arc<[IpAddr]>,
    /// When live traffic takes a backend out.
    pub circuit: CircuitPlan,
    /// What becomes of the work at a backend that goes down.
    pub on_down: OnDown,
}

/// When live traffic takes a backend out, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct CircuitPlan {
    /// Failures in a row that open a backend's circuit; 0 never does.
    pub failures: u16,
    /// Failures further apart than this are not in a row.
    pub window: Duration,
    /// How long the first opening lasts.
    pub open: Duration,
    /// No opening lasts longer.
    pub open_max: Duration,
    /// A status of 500 to 599 is a failure.
    pub count_5xx: bool,
    /// Who fails more often than the others.
    pub outlier: outlier::Rules,
    /// How long a backend's ratio is observed before it is compared.
    pub outlier_interval: Duration,
    /// While less than this share of a cluster's backends is healthy, all are used, in percent; 0 never does that.
    pub panic_threshold_percent: u16,
}

impl Default for CircuitPlan {
    fn default() -> Self {
        CircuitPlan {
            failures: 3,
            window: Duration::from_secs(10),
            open: Duration::from_secs(1),
            open_max: Duration::from_secs(30),
            count_5xx: false,
            outlier: outlier::Rules { ratio: None, requests_min: 100, ejected_max_percent: 50 },
            outlier_interval: Duration::from_secs(10),
            panic_threshold_percent: 0,
        }
    }
}

impl CircuitPlan {
    /// What is right for a cluster with so many backends, unless its operator says otherwise: an only one is not
    /// ejected, since nobody else could do its work.
    pub fn for_backends(backends: usize) -> Self {
        let plan = CircuitPlan::default();
        CircuitPlan { failures: if backends > 1 { plan.failures } else { 0 }, ..plan }
    }

    /// The rules of the circuit breaker.
    pub fn rules(&self) -> circuit::Rules {
        circuit::Rules {
            failures: self.failures,
            window: alarm::millis(self.window),
            open: alarm::millis(self.open),
            open_max: alarm::millis(self.open_max),
        }
    }
}

/// What becomes of the work at a backend that goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnDown {
    /// Connections go on, as far as they can. A flow of datagrams goes on with another backend, since nothing of it would
    /// ever tell the client that it speaks to nobody.
    #[default]
    Auto,
    /// Connections and flows go on, as far as they can.
    Keep,
    /// Its connections are reset and its flows end, so that clients go elsewhere at once.
    Close,
}

/// What the operator wants a backend to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Duty {
    /// It works.
    #[default]
    Ready,
    /// It gets nothing new; what runs is finished, and pinned clients go on.
    Drain,
    /// It gets nothing, whatever its probes say.
    Maint,
}

/// One target of a cluster.
#[derive(Debug, Clone)]
pub struct BackendPlan {
    /// Unique within its cluster, also the metrics label: `host:port` as the operator wrote it, unless named.
    pub name: Arc<str>,
    /// Every address the name resolved to, in the resolver's order, or its UNIX socket; never empty.
    pub endpoints: Vec<Endpoint>,
    /// Relative share, 1 to 65 535; 0 takes no new work.
    pub weight: u16,
    /// Used only while none of the others can be.
    pub backup: bool,
    /// What the operator wants it to do.
    pub duty: Duty,
    /// Requests, tunnels and flows in progress there at most, over all workers; 0 has no limit.
    pub max_requests: u32,
    /// Connections open to it at most, idle ones included, over all workers; 0 has no limit.
    pub max_connections: u32,
}

/// How often a request is tried, and which may be tried again after they were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// Attempts for each request, 1 to [`crate::limits::ATTEMPTS_MAX`].
    pub attempts: usize,
    /// Before backends that could not be connected to are tried again; at least a millisecond.
    pub pause: Duration,
    /// Retries in percent of the requests.
    pub budget_percent: u32,
    /// Retries that are allowed each second in any case, over all workers.
    pub per_second_min: u32,
    /// PUT and DELETE may be sent again.
    pub idempotent: bool,
    /// A response that does not begin in time is a reason to send again.
    pub late: bool,
    /// What has an `Idempotency-Key` may be sent again.
    pub idempotency_key: bool,
}

impl Default for Retries {
    fn default() -> Self {
        Retries {
            attempts: crate::limits::ATTEMPTS_USUAL,
            pause: Duration::from_millis(10),
            budget_percent: 20,
            per_second_min: 3,
            idempotent: false,
            late: false,
            idempotency_key: false,
        }
    }
}

/// How many may wait, unless the operator says otherwise.
pub const QUEUE_USUAL: usize = 1024;

/// How long they may wait, unless the operator says otherwise.
pub const QUEUE_TIMEOUT: Duration = Duration::from_secs(1);

/// What a hashing algorithm looks at. A request without it is hashed by the client's address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum HashKey {
    /// The client's address, without the port.
    #[default]
    ClientAddress,
    /// The value of a header field; its name is in lower case.
    Header(Arc<str>),
    /// The value of a cookie.
    Cookie(Arc<str>),
    /// The path, without the query.
    Path,
    /// The value of a query parameter.
    Query(Arc<str>),
}

/// How long a client's address is remembered unless told otherwise.
pub const STICKY_ADDRESS_USUAL: Duration = Duration::from_secs(3 * 3600);

/// How a client stays with its backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sticky {
    /// The balancer gives it a cookie.
    Cookie(StickyCookie),
    /// Its address is remembered for this long after its last connection or request.
    ClientAddress(Duration),
}

/// A cookie of ours (RFC 6265 section 4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StickyCookie {
    /// Its name.
    pub name: Arc<str>,
    /// Signs its value, so that clients cannot choose a backend. Instances with the same key understand each other.
    pub key: [u8; 32],
    /// `Domain`, if it is not for the asked host alone.
    pub domain: Option<Arc<str>>,
    /// `Path`.
    pub path: Arc<str>,
    /// `Max-Age`; `None` ends with the browser's session.
    pub max_age: Option<Duration>,
    /// `Secure`.
    pub secure: bool,
    /// `HttpOnly`.
    pub http_only: bool,
    /// `SameSite`.
    pub same_site: SameSite,
}

/// The cookie's `SameSite` attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SameSite {
    /// `Strict`
    Strict,
    /// `Lax`
    #[default]
    Lax,
    /// `None`, which browsers take with `Secure` only.
    None,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_backend_is_not_ejected_unless_that_is_wanted() {
        assert_eq!([1, 2, 9].map(|backends| CircuitPlan::for_backends(backends).failures), [0, 3, 3]);
    }
}
