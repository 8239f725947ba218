//! Accounts: what all workers share of one cluster: its backends' ledgers, the floor of its retry budget, and who waits.
//!
//! Built on the control thread with each blueprint. What keeps its name keeps its ledger, so limits hold over reloads.

use std::sync::Arc;

use super::{
    bells::{Bells, Callers},
    floor::Floor,
    ledger::Ledger,
    ledgers::{Kind, Ledgers},
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
    pub fn new(
        plan: &ClusterPlan,
        bells: &Arc<Bells>,
        before: Option<(&ClusterPlan, &Accounts)>,
        ledgers: &mut Ledgers,
    ) -> Self {
        let mut account = |backend: &BackendPlan| {
            let known =
                before.and_then(|(plan, _)| plan.backends.iter().find(|known| known.name == backend.name));
            let mut terms = |kind, limit: u32, limit_before: Option<u32>| {
                let key = (Arc::clone(&plan.name), Arc::clone(&backend.name), kind);
                let ledger = || match limit_before {
                    // Anything may be in progress, and the workers have to say what.
                    Some(0) => ledgers.put(key, Ledger::new(limit, bells.workers(), bells.workers())),
                    _ => ledgers.get_or(key, || Ledger::new(limit, bells.workers(), 0)),
                };
                (limit > 0).then(ledger).map(|ledger| Terms { ledger, limit })
            };
            Account {
                requests: terms(Kind::Requests, backend.max_requests, known.map(|known| known.max_requests)),
                connections: terms(
                    Kind::Connections,
                    backend.max_connections,
                    known.map(|known| known.max_connections),
                ),
            }
        };
        Accounts {
            backends: plan.backends.iter().map(&mut account).collect(),
            callers: match before {
                Some((_, accounts)) => Arc::clone(&accounts.callers),
                None => Arc::new(Callers::new(Arc::clone(bells))),
            },
            floor: before.map(|(_, accounts)| Arc::clone(&accounts.floor)).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{blueprint::Blueprint, config::plan::Plan};

    fn planned(backends: &[&str], limit: u32, before: Option<&Blueprint>) -> Blueprint {
        let mut plan = Plan::for_tests(backends);
        plan.clusters[0].backends.iter_mut().for_each(|backend| backend.max_requests = limit);
        Blueprint::new(plan, before)
    }

    fn ledger(blueprint: &Blueprint, backend: usize) -> Arc<Ledger> {
        Arc::clone(&blueprint.accounts[0].backends[backend].requests.as_ref().unwrap().ledger)
    }

    #[test]
    fn a_ledger_stays_with_its_backend_while_anybody_holds_it() {
        let first = planned(&["127.0.0.1:1", "127.0.0.1:2"], 5, None);
        let in_progress = ledger(&first, 1);
        let second = planned(&["127.0.0.1:1"], 5, Some(&first));
        assert!(Arc::ptr_eq(&ledger(&first, 0), &ledger(&second, 0)));
        drop(first);
        let third = planned(&["127.0.0.1:1"], 5, Some(&second));
        drop(second);
        let fourth = planned(&["127.0.0.1:2", "127.0.0.1:1"], 9, Some(&third));
        assert!(Arc::ptr_eq(&in_progress, &ledger(&fourth, 0)), "it has left, but its work goes on");
        let fifth = planned(&["127.0.0.1:1"], 5, Some(&fourth));
        drop((in_progress, third, fourth));
        let sixth = planned(&["127.0.0.1:1", "127.0.0.1:2"], 7, Some(&fifth));
        assert_eq!(
            ledger(&sixth, 1).lease(),
            7 / (2 * sixth.bells.workers() as u32),
            "nothing of it was left"
        );
    }

    #[test]
    fn a_limit_that_comes_back_asks_the_workers_again() {
        let first = planned(&["127.0.0.1:1"], 5, None);
        let old = ledger(&first, 0);
        let second = planned(&["127.0.0.1:1"], 0, Some(&first));
        let third = planned(&["127.0.0.1:1"], 5, Some(&second));
        assert!(!Arc::ptr_eq(&old, &ledger(&third, 0)));
        assert_eq!(ledger(&third, 0).lease(), 0, "no worker has said what it has");
    }
}
