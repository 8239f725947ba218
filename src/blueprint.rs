//! A blueprint: a plan with everything that takes time to build from it, shared by all workers.
//!
//! Built on the control thread, at start and for every reload, and handed over by message. Immutable.

use std::{collections::HashMap, hash::BuildHasher, sync::Arc, time::Duration};

use crate::{
    admission::Admission,
    balance::layout::{Layout, Member, Spec},
    cluster::{accounts::Accounts, bells::Bells, ledgers::Ledgers},
    config::plan::{ClusterPlan, Plan, cluster::Sticky},
    limits::AFFINITY_CLIENTS,
    route::{Routes, table::Table},
    sticky::{affinity::Affinity, cookie::Pins},
};

/// What workers build their own state from.
#[derive(Debug)]
pub struct Blueprint {
    /// The plan itself.
    pub plan: Arc<Plan>,
    /// How each cluster chooses, in the order of the plan.
    pub layouts: Vec<Arc<Layout>>,
    /// The routes of each listener, in the order of the plan.
    pub tables: Vec<Table>,
    /// What listeners and routes ask of clients.
    pub admission: Admission,
    /// What there may be at the backends of each cluster, in the order of the plan.
    pub accounts: Vec<Accounts>,
    /// Whose limits go on to count.
    ledgers: Ledgers,
    /// By which workers tell each other of room.
    pub bells: Arc<Bells>,
    /// Who is kept with whom, in the order of the plan's clusters.
    memories: Vec<Memory>,
}

/// How a cluster knows its clients again.
#[derive(Debug)]
enum Memory {
    None,
    Cookie(Pins),
    Address(Arc<Affinity>),
}

impl Blueprint {
    /// Takes its time: a Maglev table is 65 537 turns. Clients that were known or counted by their address `before` stay so,
    /// and limits go on to count what is in progress.
    pub fn new(plan: Plan, before: Option<&Blueprint>) -> Self {
        let layouts = plan.clusters.iter().map(|cluster| Arc::new(layout(cluster))).collect();
        let tables = (0..plan.listeners.len()).map(|listener| Table::build(&plan, listener)).collect();
        let memories = plan.clusters.iter().map(|cluster| memory(cluster, before)).collect();
        let bells = match before {
            Some(before) => Arc::clone(&before.bells),
            None => Arc::new(Bells::new(plan.cores.len())),
        };
        let mut ledgers = before.map(|before| before.ledgers.still_held()).unwrap_or_default();
        let accounts = plan.clusters.iter().map(|cluster| {
            let known = before.and_then(|before| {
                let mut known = before.plan.clusters.iter().zip(&before.accounts);
                known.find(|(old, _)| old.name == cluster.name)
            });
            Accounts::new(cluster, &bells, known, &mut ledgers)
        });
        let accounts = accounts.collect();
        let before = before.map(|before| (&*before.plan, &before.admission));
        let admission = Admission::new(&plan, before);
        Blueprint { plan: Arc::new(plan), layouts, tables, admission, accounts, ledgers, bells, memories }
    }

    /// A listener's routes; `None` when it has none.
    pub fn routes(&self, listener: usize) -> Option<Routes<'_>> {
        let table = self.tables.get(listener).filter(|table| !table.is_empty())?;
        Some(Routes { table, plans: &self.plan.routes })
    }

    /// The cookies of a cluster that gives some.
    pub fn pins(&self, cluster: usize) -> Option<&Pins> {
        match self.memories.get(cluster)? {
            Memory::Cookie(pins) => Some(pins),
            _ => None,
        }
    }

    /// The clients of a cluster that remembers their addresses.
    pub fn affinity(&self, cluster: usize) -> Option<&Affinity> {
        match self.memories.get(cluster)? {
            Memory::Address(affinity) => Some(affinity),
            _ => None,
        }
    }
}

fn memory(cluster: &ClusterPlan, before: Option<&Blueprint>) -> Memory {
    match &cluster.sticky {
        None => Memory::None,
        Some(Sticky::Cookie(cookie)) => {
            let names = cluster.backends.iter().map(|backend| &*backend.name);
            Memory::Cookie(Pins::new(cookie, &cluster.name, names))
        }
        Some(Sticky::ClientAddress(limit)) => Memory::Address(Arc::new(affinity(cluster, *limit, before))),
    }
}

/// A table of clients; an older one with the same limit is taken over, with the backends at their new places.
fn affinity(cluster: &ClusterPlan, limit: Duration, before: Option<&Blueprint>) -> Affinity {
    let known = before.and_then(|before| {
        let index = before.plan.clusters.iter().position(|old| old.name == cluster.name)?;
        let old = before.plan.clusters.get(index).filter(|old| old.sticky == cluster.sticky)?;
        Some((old, before.affinity(index)?))
    });
    match known {
        None => {
            let seed = std::hash::RandomState::new().hash_one(&cluster.name);
            Affinity::new(AFFINITY_CLIENTS, limit, seed)
        }
        Some((old, table)) => {
            let places = cluster.backends.iter().enumerate().map(|(place, backend)| (&backend.name, place));
            let places: HashMap<_, _> = places.collect();
            let moved: Vec<_> =
                old.backends.iter().map(|backend| places.get(&backend.name).copied()).collect();
            table.moved(&moved)
        }
    }
}

fn layout(cluster: &ClusterPlan) -> Layout {
    let members = cluster.backends.iter().map(|backend| Member {
        name: Arc::clone(&backend.name),
        weight: backend.weight,
        backup: backend.backup,
    });
    Layout::new(&Spec {
        slow_start: cluster.slow_start,
        bounded_load: cluster.bounded_load_percent.map(|percent| f64::from(percent) / 100.0),
        ..Spec::new(cluster.algorithm, members.collect())
    })
}
