//! A blueprint: a plan with everything that takes time to build from it, shared by all workers.
//!
//! Built on the control thread, at start and for every reload, and handed over by message. Immutable.

use std::sync::Arc;

use crate::{
    balance::layout::{Layout, Member, Spec},
    config::plan::{ClusterPlan, Plan},
};

/// What workers build their own state from.
#[derive(Debug)]
pub struct Blueprint {
    /// The plan itself.
    pub plan: Arc<Plan>,
    /// How each cluster chooses, in the order of the plan.
    pub layouts: Vec<Arc<Layout>>,
}

impl Blueprint {
    /// Takes its time: a Maglev table is 65 537 turns.
    pub fn new(plan: Plan) -> Self {
        let layouts = plan.clusters.iter().map(|cluster| Arc::new(layout(cluster))).collect();
        Blueprint { plan: Arc::new(plan), layouts }
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
