//! What can go wrong on the data path: a small value that says who, when and how.
//!
//! `upstream::retry` turns it into what happens next; here it only gets its counter.

use crate::stats::names::Count;

/// Who is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Client,
    /// The backend.
    Upstream,
    /// Ourselves: no descriptors, ports or memory, or an order to stop.
    Local,
}

/// When it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Before any byte of the request could have reached a backend.
    Connect,
    /// After that and before the first byte of the response.
    Request,
    /// Inside the response.
    Response,
}

/// How it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Refused, reset or ended too early.
    Died,
    /// A deadline passed.
    Silent,
    /// Not valid HTTP.
    Malformed,
    /// More than is allowed.
    TooLarge,
    /// Nobody left to ask.
    Missing,
    /// Everybody who is left has all it may have.
    Full,
    /// Descriptors, ports or memory are used up.
    Exhausted,
    /// The worker is shutting down and the time is over.
    Cut,
}

/// One failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Who.
    pub side: Side,
    /// When.
    pub phase: Phase,
    /// How.
    pub kind: Kind,
}

impl Fault {
    /// A failure of the client.
    pub fn client(phase: Phase, kind: Kind) -> Self {
        Fault { side: Side::Client, phase, kind }
    }

    /// A failure of the backend.
    pub fn upstream(phase: Phase, kind: Kind) -> Self {
        Fault { side: Side::Upstream, phase, kind }
    }

    /// A failure of our own.
    pub fn local(phase: Phase, kind: Kind) -> Self {
        Fault { side: Side::Local, phase, kind }
    }

    /// True when no other backend could do better.
    pub fn is_local(self) -> bool {
        self.side == Side::Local
    }

    /// True when a backend could not be connected to for a reason that may be gone in a moment: it was refused, and
    /// nothing was delivered.
    pub fn is_refusal(self) -> bool {
        self.side == Side::Upstream && self.phase == Phase::Connect && self.kind == Kind::Died
    }

    /// The counter it belongs to.
    pub fn counter(self) -> Count {
        match (self.side, self.phase, self.kind) {
            (Side::Client, _, Kind::Silent) => Count::FaultClientTimeout,
            (Side::Client, _, Kind::Malformed) => Count::FaultClientMalformed,
            (Side::Client, _, Kind::TooLarge) => Count::FaultClientTooLarge,
            (Side::Client, ..) => Count::FaultClientAborted,
            (Side::Upstream, _, Kind::Missing | Kind::Full) => Count::FaultNoBackend,
            (Side::Upstream, Phase::Connect, Kind::Exhausted) => Count::FaultPortsExhausted,
            (Side::Upstream, Phase::Connect, Kind::Silent) => Count::FaultUpstreamConnectTimeout,
            (Side::Upstream, Phase::Connect, _) => Count::FaultUpstreamConnect,
            (Side::Upstream, _, Kind::Silent) => Count::FaultUpstreamTimeout,
            (Side::Upstream, _, Kind::Malformed | Kind::TooLarge) => Count::FaultUpstreamMalformed,
            (Side::Upstream, ..) => Count::FaultUpstreamReset,
            (Side::Local, ..) => Count::FaultLocal,
        }
    }
}
