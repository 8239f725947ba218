//! The subject of a task: a backend, where it is probed and how. Pure.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use crate::{
    addr::Endpoint,
    config::plan::{
        BackendPlan, ClusterPlan, Plan,
        health::{HealthPlan, Start},
    },
    proxy_protocol::Version,
    stats::probes::Record,
};

/// All that a task depends on: equal ones need no other task.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) cluster: Arc<str>,
    pub(super) backend: Arc<str>,
    /// Where it takes clients' work: at another place it is another one, wherever it is probed.
    pub(super) own: Arc<[Endpoint]>,
    /// Where it is probed: the first that takes a connection.
    pub(super) endpoints: Vec<Endpoint>,
    /// Local addresses to connect from; empty leaves it to the kernel.
    pub(super) sources: Arc<[IpAddr]>,
    /// The PROXY protocol header that comes first.
    pub(super) greeting: Option<Version>,
    pub(super) health: Arc<HealthPlan>,
}

/// Every backend that is probed, in the order of the plan.
pub(super) fn all(plan: &Plan) -> impl Iterator<Item = Subject> + '_ {
    plan.clusters.iter().flat_map(|cluster| {
        let health = cluster.health.as_ref();
        let backends =
            health.into_iter().flat_map(|health| cluster.backends.iter().map(move |of| (of, health)));
        backends.map(|(backend, health)| Subject::new(cluster, backend, health))
    })
}

impl Subject {
    fn new(cluster: &ClusterPlan, backend: &BackendPlan, health: &Arc<HealthPlan>) -> Self {
        let HealthPlan { address, port, .. } = **health;
        let place = |own: &Endpoint| match (own.inet(), address, port) {
            (Some(own), address, port) => {
                SocketAddr::new(address.unwrap_or(own.ip()), port.unwrap_or(own.port())).into()
            }
            (None, Some(address), Some(port)) => SocketAddr::new(address, port).into(),
            (None, ..) => own.clone(),
        };
        let mut endpoints: Vec<_> = backend.endpoints.iter().map(place).collect();
        // One address of its own makes them equal.
        endpoints.dedup();
        // Another port is probably another server's, which does not expect a header.
        let own_place = address.is_none() && port.is_none();
        Subject {
            cluster: Arc::clone(&cluster.name),
            backend: Arc::clone(&backend.name),
            own: backend.endpoints.as_slice().into(),
            endpoints,
            sources: Arc::clone(&cluster.sources),
            greeting: cluster.send_proxy.filter(|_| own_place),
            health: Arc::clone(health),
        }
    }

    /// The record of a backend that has not been probed.
    pub(super) fn record(&self) -> Arc<Record> {
        let up = self.health.start == Start::Up;
        Arc::new(Record::new(Arc::clone(&self.cluster), Arc::clone(&self.backend), up))
    }
}
