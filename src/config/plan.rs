//! The plan: validated configuration, immutable once built, shared by every worker.
//!
//! Nothing here parses, resolves or opens anything. Whoever builds a plan has already checked it, so the
//! data path reads it without asking again.

use std::{net::SocketAddr, sync::Arc, time::Duration};

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// HTTP/1.1 with one backend choice per request.
    Http,
}

impl Mode {
    /// The name used on the command line, in logs and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Http => "http",
        }
    }
}

/// How a cluster chooses among its backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Algorithm {
    /// Smooth weighted round robin, each worker starting at its own offset.
    #[default]
    RoundRobin,
}

impl Algorithm {
    /// The name used on the command line, in logs and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::RoundRobin => "round-robin",
        }
    }
}

/// One accepting socket and its policy.
#[derive(Debug, Clone)]
pub struct ListenerPlan {
    /// Unique name, also the metrics label.
    pub name: Arc<str>,
    /// Where to bind; port 0 lets the kernel choose one port for all workers.
    pub address: SocketAddr,
    /// What is spoken on it.
    pub mode: Mode,
    /// Index into [`Plan::clusters`].
    pub cluster: usize,
}

/// One target of a cluster.
#[derive(Debug, Clone)]
pub struct BackendPlan {
    /// Unique within its cluster, also the metrics label: `host:port` as the operator wrote it.
    pub name: Arc<str>,
    /// Every address the name resolved to, in the resolver's order; never empty.
    pub addresses: Vec<SocketAddr>,
    /// Relative share, 1 to 65 535; 0 takes no new work.
    pub weight: u16,
}

/// A named group of backends that can stand in for each other.
#[derive(Debug, Clone)]
pub struct ClusterPlan {
    /// Unique name, also the metrics label.
    pub name: Arc<str>,
    /// How a backend is picked.
    pub algorithm: Algorithm,
    /// At least one backend.
    pub backends: Vec<BackendPlan>,
}

/// Every deadline of the data path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// From the first byte of a request head (or from accept, for the first one) to its last.
    pub head: Duration,
    /// Silence between two requests of a client connection.
    pub client_idle: Duration,
    /// How long an upstream connection may wait in the pool; below the backends' own limit.
    pub upstream_idle: Duration,
    /// TCP handshake with a backend.
    pub connect: Duration,
    /// From the end of the request to the first byte of the response; zero waits for ever.
    pub response: Duration,
    /// Silence inside a body, in either direction.
    pub body_idle: Duration,
    /// Silence in a tunnel (after a 101), in both directions.
    pub tunnel_idle: Duration,
    /// How long a graceful shutdown may take before the rest is cut.
    pub shutdown: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            head: Duration::from_secs(10),
            client_idle: Duration::from_secs(60),
            upstream_idle: Duration::from_secs(55),
            connect: Duration::from_secs(1),
            response: Duration::from_secs(30),
            body_idle: Duration::from_secs(300),
            tunnel_idle: Duration::from_secs(3600),
            shutdown: Duration::from_secs(25),
        }
    }
}

/// Header policy of the HTTP listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderPolicy {
    /// Add `Via: 1.1 ringway` to what is forwarded.
    pub via: bool,
    /// Append to the client's `X-Forwarded-*` instead of replacing them.
    pub trust_forwarded: bool,
}

impl Default for HeaderPolicy {
    fn default() -> Self {
        HeaderPolicy { via: true, trust_forwarded: false }
    }
}

/// A whole checked configuration.
#[derive(Debug, Clone)]
pub struct Plan {
    /// At least one.
    pub listeners: Vec<ListenerPlan>,
    /// At least one.
    pub clusters: Vec<ClusterPlan>,
    /// The cores to pin a worker on, by kernel number; never empty, no duplicates.
    pub cores: Vec<usize>,
    /// Where the admin HTTP listens, if anywhere.
    pub admin: Option<SocketAddr>,
    /// Every deadline.
    pub timeouts: Timeouts,
    /// What is added to and kept of forwarded headers.
    pub headers: HeaderPolicy,
}

#[cfg(test)]
impl Plan {
    /// One HTTP listener on a free loopback port over these backends, one worker on core 0.
    pub(crate) fn for_tests(backends: &[&str]) -> Plan {
        let backend = |address: &&str| BackendPlan {
            name: Arc::from(*address),
            addresses: vec![address.parse().unwrap()],
            weight: 1,
        };
        Plan {
            listeners: vec![ListenerPlan {
                name: Arc::from("default"),
                address: SocketAddr::from(([127, 0, 0, 1], 0)),
                mode: Mode::Http,
                cluster: 0,
            }],
            clusters: vec![ClusterPlan {
                name: Arc::from("default"),
                algorithm: Algorithm::RoundRobin,
                backends: backends.iter().map(backend).collect(),
            }],
            cores: vec![0],
            admin: None,
            timeouts: Timeouts::default(),
            headers: HeaderPolicy::default(),
        }
    }
}
