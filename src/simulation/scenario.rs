//! What a seed decides before a run begins: how many of everything, by which rules, how fast, and what goes wrong.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;

use crate::{
    config::plan::{
        Algorithm, ClusterPlan, Plan,
        cluster::{CircuitPlan, Duty, Retries},
        health::{HealthPlan, HttpProbe, Probe, Start},
    },
    health::outlier,
    io::alarm::Millis,
};

/// The frame of a run. Times are in milliseconds.
pub(super) struct Scenario {
    pub(super) workers: usize,
    /// As they are when everything is well.
    pub(super) clusters: Vec<ClusterPlan>,
    /// How long there is trouble.
    pub(super) trouble: Millis,
    /// For the handshake, and for the first byte of a response.
    pub(super) connect_timeout: Millis,
    pub(super) response_timeout: Millis,
    /// The mean pause between two requests at each worker.
    pub(super) pauses: Vec<Millis>,
    /// How long a worker takes at most to read its mail, and control to look at its events.
    pub(super) mail_lag: Millis,
    pub(super) control_lag: Millis,
    /// Events that may wait for control.
    pub(super) events_max: usize,
    /// In percent: clients that leave, clients that are pinned, requests that must not be sent twice.
    pub(super) leaving: u64,
    pub(super) pinned: u64,
    pub(super) unsafe_ones: u64,
    /// The mean time between two reloads, between two full mailboxes, between two times that control is held up, and
    /// between two crowds that come at one moment; none at all at zero.
    pub(super) reload_every: Millis,
    pub(super) stuff_every: Millis,
    pub(super) stall_every: Millis,
    pub(super) crowd_every: Millis,
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn one_of<T: Copy>(chance: &mut Rng, all: &[T]) -> T {
    all[chance.usize(..all.len())]
}

/// The name of a backend, which is its first address too.
fn name_of(cluster: usize, backend: usize) -> String {
    format!("10.0.{cluster}.{backend}:80")
}

/// The cluster and the backend in there that have this name.
pub(super) fn numbers_of(name: &str) -> (usize, usize) {
    let mut parts = name.split(['.', ':']).skip(2).map(|part| part.parse().unwrap());
    (parts.next().unwrap(), parts.next().unwrap())
}

impl Scenario {
    /// What this seed decides.
    pub(super) fn new(chance: &mut Rng) -> Self {
        let workers = one_of(chance, &[1, 2, 2, 3, 4]);
        let clusters = one_of(chance, &[1, 1, 2]);
        let pace = one_of(chance, &[40, 80, 150]);
        Scenario {
            workers,
            clusters: (0..clusters).map(|place| cluster(chance, place)).collect(),
            trouble: one_of(chance, &[10_000, 20_000, 30_000]),
            connect_timeout: one_of(chance, &[200, 1_000]),
            response_timeout: one_of(chance, &[300, 1_000, 3_000]),
            pauses: (0..workers).map(|_| one_of(chance, &[pace, pace, 400, 3_000])).collect(),
            mail_lag: one_of(chance, &[0, 2, 20, 200, 1_500]),
            control_lag: one_of(chance, &[0, 2, 20, 200]),
            events_max: workers * one_of(chance, &[4, 16]),
            leaving: one_of(chance, &[0, 5, 30]),
            pinned: one_of(chance, &[0, 0, 20]),
            unsafe_ones: one_of(chance, &[0, 30]),
            reload_every: one_of(chance, &[0, 3_000, 8_000]),
            stuff_every: one_of(chance, &[0, 0, 5_000]),
            stall_every: one_of(chance, &[0, 0, 6_000]),
            crowd_every: one_of(chance, &[0, 3_000, 10_000]),
        }
    }

    /// The plan when everything is well.
    pub(super) fn plan(&self) -> Plan {
        let mut plan = Plan::for_tests(&["127.0.0.1:80"]);
        plan.clusters = self.clusters.clone();
        plan.cores = (0..self.workers).collect();
        plan.listeners[0].cluster = Some(0);
        plan
    }

    /// Another plan, as an operator in doubt might make it.
    pub(super) fn another_plan(&self, chance: &mut Rng) -> Plan {
        let mut plan = self.plan();
        chance.shuffle(&mut plan.clusters);
        for cluster in &mut plan.clusters {
            chance.shuffle(&mut cluster.backends);
            let kept = chance.usize(1..=cluster.backends.len());
            if chance.bool() {
                cluster.backends.truncate(kept);
            }
            for backend in &mut cluster.backends {
                backend.duty =
                    one_of(chance, &[Duty::Ready, Duty::Ready, Duty::Ready, Duty::Drain, Duty::Maint]);
                if chance.u8(..4) == 0 {
                    backend.max_requests = one_of(chance, &[0, 1, 3, 20]);
                }
                if chance.u8(..8) == 0 {
                    backend.endpoints = vec![moved(&backend.name)];
                }
            }
            if chance.u8(..6) == 0 {
                cluster.health = None;
            }
            cluster.circuit.panic_threshold_percent = panic_threshold(chance);
        }
        plan
    }

    /// How long it may take at the longest after all trouble is over, until everybody is in service again.
    pub(super) fn recovery(&self) -> Millis {
        let longest = |of: fn(&ClusterPlan) -> Duration| {
            self.clusters.iter().map(of).max().unwrap_or_default().as_millis() as Millis
        };
        // A setback, requests that began in time of trouble, a reload that was under way and the last one.
        let past = 10_000
            + self.response_timeout
            + self.connect_timeout
            + longest(|cluster| cluster.queue_timeout)
            + 2 * (2_000 + self.mail_lag + self.control_lag);
        let probes = longest(|cluster| {
            cluster.health.as_ref().map_or(Duration::ZERO, |health| {
                (health.interval * 2 + health.timeout) * (health.rise + health.fall + 1)
            })
        });
        let opening = 2 * longest(|cluster| cluster.circuit.open_max)
            + longest(|cluster| cluster.circuit.outlier_interval);
        // Where nobody had work, control looks once a second who has.
        let turns = 8 * (250 + 2 * self.mail_lag + 2 * self.control_lag) * self.workers as Millis + 1_000;
        past + probes + opening + turns + longest(|cluster| cluster.slow_start)
    }
}

/// The same backend elsewhere.
fn moved(name: &str) -> crate::addr::Endpoint {
    crate::addr::Endpoint::Inet(name.replace(":80", ":81").parse().unwrap())
}

fn panic_threshold(chance: &mut Rng) -> u16 {
    one_of(chance, &[0, 0, 0, 30, 50, 100])
}

fn cluster(chance: &mut Rng, place: usize) -> ClusterPlan {
    let count = one_of(chance, &[1, 2, 3, 3, 4, 6]);
    let names: Vec<_> = (0..count).map(|backend| name_of(place, backend)).collect();
    let mut plan = Plan::for_tests(&names.iter().map(String::as_str).collect::<Vec<_>>()).clusters.remove(0);
    plan.name = Arc::from(format!("cluster-{place}"));
    plan.algorithm = one_of(
        chance,
        &[
            Algorithm::RoundRobin,
            Algorithm::RoundRobin,
            Algorithm::LeastConnections,
            Algorithm::LeastResponseTime,
            Algorithm::Random,
            Algorithm::PowerOfTwo,
            Algorithm::IpHash,
            Algorithm::First,
        ],
    );
    for backend in &mut plan.backends {
        backend.weight = one_of(chance, &[1, 1, 1, 3]);
    }
    if count > 2 && chance.u8(..8) == 0 {
        plan.backends[count - 1].backup = true;
    }
    limits(chance, &mut plan);
    plan.slow_start = millis(one_of(chance, &[0, 0, 2_000]));
    plan.circuit = circuit(chance);
    plan.health = chance.bool().then(|| Arc::new(health(chance)));
    plan
}

/// How much there may be at each backend, who may wait for room, and who may try again.
fn limits(chance: &mut Rng, plan: &mut ClusterPlan) {
    let limit = one_of(chance, &[0, 0, 1, 2, 4, 20]);
    for backend in &mut plan.backends {
        backend.max_requests = one_of(chance, &[limit, limit, limit, 2 * limit, 0]);
    }
    plan.queue_max = one_of(chance, &[0, 3, 20, 1_000]);
    plan.queue_timeout = millis(one_of(chance, &[20, 300, 1_000, 4_000]));
    plan.retries = Retries {
        attempts: one_of(chance, &[1, 3, 3, 5]),
        pause: millis(one_of(chance, &[1, 10, 100])),
        budget_percent: one_of(chance, &[0, 5, 20, 100]),
        per_second_min: one_of(chance, &[0, 1, 3, 10]),
        ..Retries::default()
    };
}

fn circuit(chance: &mut Rng) -> CircuitPlan {
    let open = one_of(chance, &[200, 500, 1_000]);
    CircuitPlan {
        failures: one_of(chance, &[0, 1, 2, 3, 3, 5]),
        window: millis(one_of(chance, &[500, 2_000, 10_000])),
        open: millis(open),
        open_max: millis(open * one_of(chance, &[1, 2, 4, 8])),
        count_5xx: chance.bool(),
        outlier: outlier::Rules {
            ratio: chance.bool().then(|| one_of(chance, &[0.5, 0.8, 0.95])),
            requests_min: one_of(chance, &[2, 10, 30]),
            ejected_max_percent: one_of(chance, &[10, 34, 50, 100]),
        },
        outlier_interval: millis(one_of(chance, &[500, 2_000])),
        panic_threshold_percent: panic_threshold(chance),
    }
}

fn health(chance: &mut Rng) -> HealthPlan {
    let interval = one_of(chance, &[500, 1_000, 2_000]);
    let http = HttpProbe {
        method: "GET".into(),
        path: "/".into(),
        host: None,
        headers: Vec::new(),
        statuses: vec![(200, 299)],
        body: None,
    };
    HealthPlan {
        probe: if chance.bool() { Probe::Tcp } else { Probe::Http(http) },
        interval: millis(interval),
        fast_interval: millis(interval / one_of(chance, &[1, 4])),
        timeout: millis(one_of(chance, &[100, 500])),
        rise: chance.u32(1..=3),
        fall: chance.u32(1..=3),
        jitter_percent: one_of(chance, &[0, 10, 50]),
        start: one_of(chance, &[Start::Up, Start::Up, Start::Down]),
        ..HealthPlan::for_tests()
    }
}
