//! The plan: validated configuration, immutable once built, shared by every worker.
//!
//! Nothing here parses, resolves or opens anything. Whoever builds a plan has already checked it, so the
//! data path reads it without asking again.

pub mod admission;
pub mod cluster;
pub mod health;
pub mod route;

use std::{net::SocketAddr, num::NonZeroU64, sync::Arc, time::Duration};

pub use self::{
    admission::AdmissionPlan,
    cluster::{Algorithm, BackendPlan, ClusterPlan},
    route::RoutePlan,
};
use crate::addr::{Endpoint, Networks};

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// HTTP/1.1 with one backend choice per request.
    Http,
    /// Any protocol over a stream, with one backend choice per connection.
    Tcp,
    /// Datagrams, with one backend choice per client address and port.
    Udp,
}

impl Mode {
    /// The name used on the command line, in logs and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Http => "http",
            Mode::Tcp => "tcp",
            Mode::Udp => "udp",
        }
    }
}

/// One accepting socket and its policy.
#[derive(Debug, Clone)]
pub struct ListenerPlan {
    /// Unique name, also the metrics label.
    pub name: Arc<str>,
    /// Where to bind; port 0 lets the kernel choose one port for all workers.
    pub endpoint: Endpoint,
    /// Permissions of a UNIX socket's file, as for `chmod(2)`.
    pub socket_mode: u32,
    /// What is spoken on it.
    pub mode: Mode,
    /// Index into [`Plan::clusters`]: where everything goes that no route takes. Only an HTTP listener may have none.
    pub cluster: Option<usize>,
    /// Indices into [`Plan::routes`], in the order in which they were written; HTTP only.
    pub routes: Vec<usize>,
    /// Clients from here begin with a PROXY protocol header, which says whom they speak for; the others do not.
    pub proxy_from: Networks,
    /// A connection is accepted when its first bytes have come (`tcp(7)`, TCP_DEFER_ACCEPT).
    pub defer_accept: bool,
    /// What a TCP client is told when there is no backend for it; empty says nothing.
    pub down_text: Arc<str>,
    /// Which connections, flows or requests it takes.
    pub admission: AdmissionPlan,
    /// Bytes of content that a request may have; HTTP only.
    pub request_body_max: Option<NonZeroU64>,
}

impl ListenerPlan {
    /// True when the sockets of one are those of the other.
    pub fn is_bound_like(&self, other: &ListenerPlan) -> bool {
        self.binding() == other.binding()
    }

    /// Says which sockets are its own.
    pub fn binding(&self) -> String {
        format!("{} {} {}", self.mode.name(), self.endpoint, self.name)
    }
}

/// What a TCP client is told when there is no backend, unless the operator says otherwise.
pub const DOWN_TEXT: &str = "Server is down\n";

/// Who may connect to a UNIX socket, unless the operator says otherwise: everybody, as with a port of the host.
pub const SOCKET_MODE: u32 = 0o666;

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
    /// Silence in a tunnel (TCP mode, and HTTP after a 101), in both directions.
    pub tunnel_idle: Duration,
    /// Silence in a tunnel's one direction when the other one has ended because nobody takes its bytes; not the
    /// operator's to choose, and no more than the one above.
    pub last_words: Duration,
    /// How long a datagram flow may be silent before it is forgotten.
    pub udp_idle: Duration,
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
            last_words: Duration::from_secs(10),
            udp_idle: Duration::from_secs(60),
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
    /// All routes of all listeners.
    pub routes: Vec<RoutePlan>,
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
            endpoints: vec![Endpoint::Inet(address.parse().unwrap())],
            weight: 1,
            backup: false,
            duty: cluster::Duty::Ready,
            max_requests: 0,
            max_connections: 0,
        };
        Plan {
            listeners: vec![ListenerPlan {
                name: Arc::from("default"),
                endpoint: SocketAddr::from(([127, 0, 0, 1], 0)).into(),
                socket_mode: SOCKET_MODE,
                mode: Mode::Http,
                cluster: Some(0),
                routes: Vec::new(),
                proxy_from: Networks::default(),
                defer_accept: false,
                down_text: DOWN_TEXT.into(),
                admission: AdmissionPlan::default(),
                request_body_max: None,
            }],
            routes: Vec::new(),
            clusters: vec![ClusterPlan {
                name: Arc::from("default"),
                algorithm: Algorithm::RoundRobin,
                hash_key: cluster::HashKey::default(),
                bounded_load_percent: None,
                slow_start: Duration::ZERO,
                circuit: cluster::CircuitPlan::default(),
                on_down: cluster::OnDown::Auto,
                sticky: None,
                health: None,
                queue_max: cluster::QUEUE_USUAL,
                queue_timeout: cluster::QUEUE_TIMEOUT,
                retries: cluster::Retries::default(),
                backends: backends.iter().map(backend).collect(),
                send_proxy: None,
                sources: [].into(),
            }],
            cores: vec![0],
            admin: None,
            timeouts: Timeouts::default(),
            headers: HeaderPolicy::default(),
        }
    }
}
