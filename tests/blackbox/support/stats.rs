//! The statistics that the binary dumps on SIGUSR1 as one line of JSON.

use std::fmt;

use serde_json::Value;

/// One dump.
#[derive(Clone)]
pub(crate) struct Stats(Value);

impl fmt::Debug for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Stats {
    /// Takes the dump out of a line of the log, if it is one.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(line).ok()?;
        value.get("stats").cloned().map(Self)
    }

    pub(crate) fn total(&self) -> &Value {
        self.0.get("total").unwrap_or_else(|| panic!("no total in {}", self.0))
    }

    pub(crate) fn workers(&self) -> &[Value] {
        self.0.get("workers").and_then(Value::as_array).unwrap_or_else(|| panic!("no workers in {}", self.0))
    }

    /// What probes found of each backend that is probed.
    pub(crate) fn probes(&self) -> &[Value] {
        self.0.get("probes").and_then(Value::as_array).unwrap_or_else(|| panic!("no probes in {}", self.0))
    }

    /// A counter over all workers.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        number(self.total(), "counters", name)
    }

    /// How many requests were refused for a reason, over all workers.
    pub(crate) fn refused(&self, reason: &str) -> u64 {
        number(self.total(), "refusals", reason)
    }

    /// A gauge over all workers.
    pub(crate) fn gauge(&self, name: &str) -> u64 {
        number(self.total(), "gauges", name)
    }

    /// A gauge of each worker.
    pub(crate) fn gauge_per_worker(&self, name: &str) -> Vec<u64> {
        self.workers().iter().map(|worker| number(worker, "gauges", name)).collect()
    }

    /// A counter of each worker.
    pub(crate) fn counter_per_worker(&self, name: &str) -> Vec<u64> {
        self.workers().iter().map(|worker| number(worker, "counters", name)).collect()
    }

    /// A gauge summed over all backends and workers.
    pub(crate) fn backend_gauge(&self, name: &str) -> u64 {
        backends(self.total()).iter().map(|backend| number(backend, "gauges", name)).sum()
    }

    /// A gauge of each backend over all workers, in the order of the command line.
    pub(crate) fn gauge_per_backend(&self, name: &str) -> Vec<u64> {
        backends(self.total()).iter().map(|backend| number(backend, "gauges", name)).collect()
    }

    /// A counter of each backend over all workers, in the order of the command line.
    pub(crate) fn counter_per_backend(&self, name: &str) -> Vec<u64> {
        backends(self.total()).iter().map(|backend| number(backend, "counters", name)).collect()
    }

    /// All numbers over all workers, whatever group they are in, as `group.name`.
    pub(crate) fn numbers(&self) -> Vec<(String, u64)> {
        let groups = self.total().as_object().unwrap().iter().filter(|(_, group)| group.is_object());
        let named = |group: &String| {
            let entries = entries(self.total(), group);
            entries.into_iter().map(|(name, value)| (format!("{group}.{name}"), value)).collect::<Vec<_>>()
        };
        groups.flat_map(|(group, _)| named(group)).collect()
    }

    /// Nothing is going on and nothing was forgotten.
    pub(crate) fn is_quiet(&self) -> bool {
        let gauges = [
            "connections_active",
            "exchanges_active",
            "tunnels_active",
            "udp_sessions_active",
            "buffers_in_use",
            "pipes_in_use",
        ];
        gauges.iter().all(|name| self.gauge(name) == 0) && self.backend_gauge("active") == 0
    }
}

pub(crate) fn backends(scope: &Value) -> &[Value] {
    scope.get("backends").and_then(Value::as_array).unwrap_or_else(|| panic!("no backends in {scope}"))
}

/// The numbers of a group (`counters` or `gauges`) by name.
pub(crate) fn entries(scope: &Value, group: &str) -> Vec<(String, u64)> {
    let numbers =
        scope.get(group).and_then(Value::as_object).unwrap_or_else(|| panic!("no {group} in {scope}"));
    numbers.iter().filter_map(|(name, value)| Some((name.clone(), value.as_u64()?))).collect()
}

fn number(scope: &Value, group: &str, name: &str) -> u64 {
    let found = entries(scope, group).into_iter().find(|(entry, _)| entry == name);
    found.unwrap_or_else(|| panic!("no {name} in the {group} of {scope}")).1
}
