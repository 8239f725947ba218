//! A layout: everything about a choice that does not change while it is made.
//!
//! Built from a checked configuration by a pure function, on any thread but a worker's, because tables take their
//! time. Immutable; handed to the workers as an `Arc`, which all of them share.

use std::{sync::Arc, time::Duration};

use super::{algorithm::Algorithm, bound::Bound, circle::Table, key, maglev, maglev::Maglev, ring::Ring};

/// One backend, as far as choosing is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// `host:port` as the operator wrote it: what the hashing algorithms know it by.
    pub name: Arc<str>,
    /// Its relative share; 0 takes no new work.
    pub weight: u16,
    /// Used only when all others are down, full or tried.
    pub backup: bool,
}

/// What a cluster wants.
#[derive(Debug, Clone)]
pub struct Spec {
    /// How to choose.
    pub algorithm: Algorithm,
    /// Among whom.
    pub members: Vec<Member>,
    /// How long one that came back takes less than its share; zero for not at all. The keyed algorithms and `first`
    /// have no use for it.
    pub slow_start: Duration,
    /// How far above its fair share one may be, for the keyed algorithms: 1.25 is a quarter.
    pub bounded_load: Option<f64>,
    /// The size of a Maglev table; rounded up to a prime number.
    pub maglev_slots: usize,
}

impl Spec {
    /// These members and no modifiers.
    pub fn new(algorithm: Algorithm, members: Vec<Member>) -> Self {
        Spec {
            algorithm,
            members,
            slow_start: Duration::ZERO,
            bounded_load: None,
            maglev_slots: maglev::SLOTS_DEFAULT,
        }
    }
}

/// A spec with its tiers and tables.
#[derive(Debug)]
pub struct Layout {
    algorithm: Algorithm,
    slow_start: Duration,
    bound: Bound,
    tiers: Vec<Share>,
    /// By member: its tier and its place there.
    spots: Box<[Spot]>,
}

/// Where a member is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) tier: usize,
    pub(super) place: usize,
}

/// The members of one tier, in the order of their places.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) members: Box<[usize]>,
    pub(super) weights: Box<[u32]>,
    pub(super) table: Option<Arc<Table>>,
}

impl Layout {
    /// Lays out a spec. Slow for `ring` and `maglev`: not for a worker.
    pub fn new(spec: &Spec) -> Self {
        let mut spots = vec![Spot { tier: 0, place: 0 }; spec.members.len()].into_boxed_slice();
        let mut tiers = Vec::new();
        for backup in [false, true] {
            let members = spec.members.iter().enumerate().filter(|(_, member)| member.backup == backup);
            let (members, chosen): (Vec<usize>, Vec<&Member>) = members.unzip();
            if members.is_empty() {
                continue;
            }
            for (place, member) in members.iter().enumerate() {
                if let Some(spot) = spots.get_mut(*member) {
                    *spot = Spot { tier: tiers.len(), place };
                }
            }
            tiers.push(Share {
                members: members.into(),
                weights: chosen.iter().map(|member| u32::from(member.weight)).collect(),
                table: table(spec, &chosen).map(Arc::new),
            });
        }
        Layout {
            algorithm: spec.algorithm,
            slow_start: spec.slow_start,
            bound: spec.bounded_load.map_or(Bound::default(), Bound::new),
            tiers,
            spots,
        }
    }

    /// How it chooses.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key of a header, a cookie, a path or a query parameter.
    pub fn key(&self, bytes: &[u8]) -> u64 {
        key::of(self.algorithm, bytes)
    }

    /// The key of a client.
    pub fn key_of_client(&self, address: std::net::IpAddr) -> u64 {
        key::of_client(self.algorithm, address)
    }

    pub(super) fn slow_start(&self) -> Duration {
        self.slow_start
    }

    pub(super) fn bound(&self) -> Bound {
        self.bound
    }

    pub(super) fn tiers(&self) -> &[Share] {
        &self.tiers
    }

    pub(super) fn spot(&self, member: usize) -> Option<Spot> {
        self.spots.get(member).copied()
    }
}

fn table(spec: &Spec, members: &[&Member]) -> Option<Table> {
    let named = || members.iter().map(|member| (&*member.name, u32::from(member.weight))).collect::<Vec<_>>();
    match spec.algorithm {
        Algorithm::Ring => Some(Table::Ring(Ring::build(&named()))),
        Algorithm::Maglev => Some(Table::Maglev(Maglev::build(&named(), spec.maglev_slots))),
        _ => None,
    }
}
