//! Accounts: what all workers share of one cluster: its backends' ledgers, the floor of its retry budget, and who waits.
//!
//! Built on the control thread with each blueprint. What keeps its name keeps its ledger, so limits hold over a reload.

use std::sync::Arc;

use super::{
    bells::{Bells, Callers},
    floor::Floor,
    ledger::Ledger,
};
use crate::config::plan::{BackendPlan, ClusterPlan};

/// What the workers share of one cluster.
#[derive(Debug)]
pub struct Accounts {
    /// Who waits for room.
    pub callers: Arc<Callers>,
    /// The retries that are always allowed.
    pub floor: Arc<Floor>,
    /// Its backends', in the order of the plan.
    pub backends: Vec<Account>,
}

/// What there may be at one backend; `None` has no limit.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// Requests in flight, tunnels and flows included.
    pub requests: Option<Terms>,
    /// Open connections, idle ones included.
    pub connections: Option<Terms>,
}

/// A limit and where it is kept.
#[derive(Debug, Clone)]
pub struct Terms {
    /// What workers lease from.
    pub ledger: Arc<Ledger>,
    /// The limit in force with this plan.
    pub limit: u32,
}

impl Accounts {
    /// Those of a planned cluster. `before` is the same cluster as it was planned and kept until now.
    pub fn new(plan: &ClusterPlan, bells: &Arc<Bells>, before: Option<(&ClusterPlan, &Accounts)>) -> Self {
        let account = |backend: &BackendPlan| {
            let known = before.and_then(|(plan, accounts)| {
                let place = plan.backends.iter().position(|known| known.name == backend.name)?;
                accounts.backends.get(place)
            });
            let terms = |limit: u32, known: Option<Option<&Terms>>| {
                (limit > 0).then(|| Terms { limit, ledger: ledger(limit, bells.workers(), known) })
            };
            Account {
                requests: terms(backend.max_requests, known.map(|known| known.requests.as_ref())),
                connections: terms(backend.max_connections, known.map(|known| known.connections.as_ref())),
            }
        };
        Accounts {
            callers: match before {
                Some((_, accounts)) => Arc::clone(&accounts.callers),
                None => Arc::new(Callers::new(Arc::clone(bells))),
            },
            floor: before.map(|(_, accounts)| Arc::clone(&accounts.floor)).unwrap_or_default(),
            backends: plan.backends.iter().map(account).collect(),
        }
    }
}

/// The ledger a backend has, or a new one. One that had no limit until now may have anything in progress.
fn ledger(limit: u32, workers: usize, known: Option<Option<&Terms>>) -> Arc<Ledger> {
    match known {
        Some(Some(terms)) => Arc::clone(&terms.ledger),
        Some(None) => Arc::new(Ledger::new(limit, workers, workers)),
        None => Arc::new(Ledger::new(limit, workers, 0)),
    }
}
