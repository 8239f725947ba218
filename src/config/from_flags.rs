//! Command line → plan: one cluster, every default.
//!
//! Pure: the flags were checked by `cli`, the names resolved by `control::resolve`. Never fails and never
//! opens anything. Runs on the control thread before the workers start.

use std::time::Duration;

use super::plan::{BackendPlan, ClusterPlan, HeaderPolicy, ListenerPlan, Plan, Timeouts, cluster::HashKey};
use crate::{addr::Endpoint, cli::RunOptions};

/// Name of the one cluster and of the first listener.
const NAME: &str = "default";

/// Builds the plan; `resolved` holds the endpoints of each backend, in the order of `options.backends`.
pub fn plan(options: &RunOptions, resolved: Vec<Vec<Endpoint>>) -> Plan {
    debug_assert_eq!(options.backends.len(), resolved.len(), "one list of endpoints for each backend");
    let listeners = options
        .listen
        .iter()
        .enumerate()
        .map(|(index, endpoint)| ListenerPlan {
            name: match index {
                0 => NAME.into(),
                _ => format!("{NAME}-{}", index.saturating_add(1)).into(),
            },
            endpoint: endpoint.clone(),
            socket_mode: options.socket_mode,
            mode: options.mode,
            cluster: Some(0),
            routes: Vec::new(),
            proxy_from: options.accept_proxy.clone(),
            down_text: options.down_text.as_str().into(),
        })
        .collect();
    let backends = options
        .backends
        .iter()
        .zip(resolved)
        .map(|(backend, endpoints)| BackendPlan {
            name: backend.authority().into(),
            endpoints,
            weight: backend.weight,
            backup: false,
        })
        .collect();
    Plan {
        listeners,
        routes: Vec::new(),
        clusters: vec![ClusterPlan {
            name: NAME.into(),
            algorithm: options.algorithm,
            hash_key: HashKey::default(),
            bounded_load_percent: None,
            slow_start: Duration::ZERO,
            sticky: None,
            backends,
            send_proxy: options.send_proxy,
            sources: options.sources.as_slice().into(),
        }],
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
        proxy_protocol::Version,
    };

    fn inet(text: &str) -> Endpoint {
        Endpoint::Inet(text.parse().unwrap())
    }

    #[test]
    fn flags_become_one_cluster_behind_every_listener() {
        let options = RunOptions {
            backends: parse_backends("http://a:1,http://[::1]:2;weight=3").unwrap(),
            listen: ["127.0.0.1:0", "[::]:80", "0.0.0.0:81"].map(inet).to_vec(),
            mode: Mode::Tcp,
            algorithm: Algorithm::RoundRobin,
            accept_proxy: "10.0.0.0/8".parse().unwrap(),
            send_proxy: Some(Version::V2),
            sources: vec!["10.1.1.1".parse().unwrap()],
            down_text: "gone".to_owned(),
            socket_mode: 0o600,
            cores: vec![0, 2],
            admin: Some("127.0.0.1:9".parse().unwrap()),
            log_format: LogFormat::Text,
        };
        let first: Vec<Endpoint> = ["10.0.0.1:1", "10.0.0.2:1"].map(inet).to_vec();
        let second = vec![inet("[::1]:2")];
        let plan = plan(&options, vec![first.clone(), second.clone()]);

        let names: Vec<&str> = plan.listeners.iter().map(|listener| &*listener.name).collect();
        assert_eq!(names, ["default", "default-2", "default-3"]);
        assert!(
            plan.listeners.iter().all(|listener| listener.cluster == Some(0) && listener.mode == Mode::Tcp)
        );
        assert_eq!(plan.listeners[1].endpoint, options.listen[1]);
        assert_eq!(plan.listeners[1].proxy_from, options.accept_proxy);
        assert_eq!((&*plan.listeners[1].down_text, plan.listeners[1].socket_mode), ("gone", 0o600));

        assert_eq!(plan.clusters.len(), 1);
        let cluster = &plan.clusters[0];
        assert_eq!((&*cluster.name, cluster.algorithm), ("default", Algorithm::RoundRobin));
        let backends: Vec<_> =
            cluster.backends.iter().map(|b| (&*b.name, b.endpoints.clone(), b.weight)).collect();
        assert_eq!(backends, [("a:1", first, 1), ("[::1]:2", second, 3)]);
        assert_eq!(cluster.send_proxy, options.send_proxy);
        assert_eq!(*cluster.sources, *options.sources);

        assert_eq!(plan.cores, [0, 2]);
        assert_eq!(plan.admin, options.admin);
        assert_eq!(plan.timeouts, Timeouts::default());
        assert_eq!(plan.headers, HeaderPolicy::default());
    }
}
