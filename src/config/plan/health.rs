//! Active health checks: what a backend is asked, how often, and what follows.

use std::{net::IpAddr, sync::Arc, time::Duration};

/// How the backends of a cluster are probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthPlan {
    /// What each of them is asked.
    pub probe: Probe,
    /// Where, in place of the backend's own address.
    pub address: Option<IpAddr>,
    /// Where, in place of the backend's own port.
    pub port: Option<u16>,
    /// From the beginning of one probe to that of the next.
    pub interval: Duration,
    /// In place of `interval` while results contradict the state; not longer than it.
    pub fast_interval: Duration,
    /// For one probe, from the connect to the verdict.
    pub timeout: Duration,
    /// Successes in a row that bring a backend back, 1 to 100.
    pub rise: u32,
    /// Failures in a row that take it out, 1 to 100.
    pub fall: u32,
    /// How far an interval may be longer or shorter, 0 to 50 percent.
    pub jitter_percent: u32,
    /// What a backend is until its first probe has ended.
    pub start: Start,
}

/// What a backend is before it has been probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// It takes work.
    #[default]
    Up,
    /// It takes none.
    Down,
}

/// The kind of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A connection that is made.
    Tcp,
    /// A request that is answered.
    Http,
    /// Bytes that are sent and expected.
    Script,
}

impl Kind {
    /// The name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Tcp => "tcp",
            Kind::Http => "http",
            Kind::Script => "script",
        }
    }
}

/// What a backend is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// To take a connection.
    Tcp,
    /// To answer a request.
    Http(HttpProbe),
    /// To say what is expected. At least one step.
    Script(Vec<Step>),
}

impl Probe {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Probe::Tcp => Kind::Tcp,
            Probe::Http(_) => Kind::Http,
            Probe::Script(_) => Kind::Script,
        }
    }
}

/// A request, and what its answer must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpProbe {
    /// A token.
    pub method: Arc<str>,
    /// Path and query.
    pub path: Arc<str>,
    /// The Host field; `None` is the address that is probed.
    pub host: Option<Arc<str>>,
    /// Further fields, none of which frames the message.
    pub headers: Vec<(Arc<str>, Arc<str>)>,
    /// Statuses from the first to the last of each; at least one.
    pub statuses: Vec<(u16, u16)>,
    /// What must be found in the beginning of the body.
    pub body: Option<Arc<str>>,
}

impl HttpProbe {
    /// True when an answer with this status is good.
    pub fn expects(&self, status: u16) -> bool {
        self.statuses.iter().any(|(first, last)| (*first..=*last).contains(&status))
    }
}

/// A step of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send these bytes; at least one.
    Send(Arc<[u8]>),
    /// Wait until one of these has come; at least one, none of them empty.
    Expect(Vec<Arc<[u8]>>),
}

#[cfg(test)]
impl HealthPlan {
    /// TCP once a second, without jitter.
    pub(crate) fn for_tests() -> Self {
        HealthPlan {
            probe: Probe::Tcp,
            address: None,
            port: None,
            interval: Duration::from_secs(1),
            fast_interval: Duration::from_millis(250),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
            jitter_percent: 0,
            start: Start::Up,
        }
    }
}
