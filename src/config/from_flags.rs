//! Command line → plan: one cluster, every default.
//!
//! Pure: the flags were checked by `cli`, the names resolved by `control::resolve`. Never fails and never
//! opens anything. Runs on the control thread before the workers start.

use std::net::SocketAddr;

use super::plan::{BackendPlan, ClusterPlan, HeaderPolicy, ListenerPlan, Plan, Timeouts};
use crate::cli::RunOptions;

/// Name of the one cluster and of the first listener.
const NAME: &str = "default";

/// Builds the plan; `resolved` holds the addresses of each backend, in the order of `options.backends`.
pub fn plan(options: &RunOptions, resolved: Vec<Vec<SocketAddr>>) -> Plan {
    debug_assert_eq!(options.backends.len(), resolved.len(), "one list of addresses for each backend");
    let listeners = options
        .listen
        .iter()
        .enumerate()
        .map(|(index, &address)| ListenerPlan {
            name: match index {
                0 => NAME.into(),
                _ => format!("{NAME}-{}", index.saturating_add(1)).into(),
            },
            address,
            mode: options.mode,
            cluster: 0,
        })
        .collect();
    let backends = options
        .backends
        .iter()
        .zip(resolved)
        .map(|(backend, addresses)| BackendPlan {
            name: backend.authority().into(),
            addresses,
            weight: backend.weight,
        })
        .collect();
    Plan {
        listeners,
        clusters: vec![ClusterPlan { name: NAME.into(), algorithm: options.algorithm, backends }],
        cores: options.cores.clone(),
        admin: options.admin,
        timeouts: Timeouts::default(),
        headers: HeaderPolicy::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        addr::parse_backends,
        config::plan::{Algorithm, Mode},
        control::log::LogFormat,
    };

    #[test]
    fn flags_become_one_cluster_behind_every_listener() {
        let options = RunOptions {
            backends: parse_backends("http://a:1,http://[::1]:2;weight=3").unwrap(),
            listen: ["127.0.0.1:0", "[::]:80", "0.0.0.0:81"].map(|text| text.parse().unwrap()).to_vec(),
            mode: Mode::Http,
            algorithm: Algorithm::RoundRobin,
            cores: vec![0, 2],
            admin: Some("127.0.0.1:9".parse().unwrap()),
            log_format: LogFormat::Text,
        };
        let first: Vec<SocketAddr> = ["10.0.0.1:1", "10.0.0.2:1"].map(|text| text.parse().unwrap()).to_vec();
        let second = vec!["[::1]:2".parse().unwrap()];
        let plan = plan(&options, vec![first.clone(), second.clone()]);

        let names: Vec<&str> = plan.listeners.iter().map(|listener| &*listener.name).collect();
        assert_eq!(names, ["default", "default-2", "default-3"]);
        assert!(plan.listeners.iter().all(|listener| listener.cluster == 0 && listener.mode == Mode::Http));
        assert_eq!(plan.listeners[1].address, options.listen[1]);

        assert_eq!(plan.clusters.len(), 1);
        let cluster = &plan.clusters[0];
        assert_eq!((&*cluster.name, cluster.algorithm), ("default", Algorithm::RoundRobin));
        let backends: Vec<_> =
            cluster.backends.iter().map(|b| (&*b.name, b.addresses.clone(), b.weight)).collect();
        assert_eq!(backends, [("a:1", first, 1), ("[::1]:2", second, 3)]);

        assert_eq!(plan.cores, [0, 2]);
        assert_eq!(plan.admin, options.admin);
        assert_eq!(plan.timeouts, Timeouts::default());
        assert_eq!(plan.headers, HeaderPolicy::default());
    }
}
