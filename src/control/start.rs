//! Start-up: everything that can fail is tried, in this order, before anybody is served: ring, names, binds, workers.

use std::{hash::BuildHasher, net::IpAddr, os::fd::OwnedFd, sync::Arc, time::Duration};

use crossbeam::channel::{Receiver, bounded};
use tokio::sync::Notify;
use tracing::info;

use super::{process::Failure, resolve};
use crate::{
    addr::Endpoint,
    config::{
        self, Checked, Environment,
        mistake::Mistake,
        plan::{ListenerPlan, Plan},
        source::Source,
    },
    listener::bind::{self, Bound, SocketFile},
    stats::worker::WorkerStats,
    sys::{
        ring::{self, RingFlags},
        socket,
    },
    worker::{
        mailbox::{Handle, Mailbox},
        run::{Event, Start, spawn},
    },
};

/// How long the workers may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Running workers, as control holds them.
pub struct Running {
    /// What they run.
    pub plan: Arc<Plan>,
    /// One handle a worker.
    pub workers: Vec<Handle>,
    /// Where they really listen, in the order of the plan's listeners.
    pub listeners: Vec<Endpoint>,
    /// What the workers report.
    pub events: Receiver<(usize, Event)>,
    /// Told when they do.
    pub news: Arc<Notify>,
    /// Removed from the file system when the process ends.
    _files: Vec<SocketFile>,
}

/// Reads and checks the configuration; opens nothing but its files.
pub fn load(source: &Source) -> Result<Checked, Failure> {
    let environment = Environment::of_process().map_err(|error| Failure::Runtime(error.to_string()))?;
    config::load(source, &environment).map_err(|mistakes| refusal(source, &mistakes))
}

/// What is said about a wrong configuration: every mistake in a line of its own.
pub fn refusal(source: &Source, mistakes: &[Mistake]) -> Failure {
    let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    let text = lines.join("\nerror: ");
    match source {
        Source::Flags(_) => Failure::Usage(text),
        Source::Files { .. } => Failure::Configuration(text),
    }
}

/// Resolves the backends and completes the plan.
pub fn plan(checked: Checked, runtime: &tokio::runtime::Runtime) -> Result<Plan, Failure> {
    let resolved = runtime.block_on(resolve::resolve(&checked.addresses()));
    let plan = resolved.map(|addresses| checked.into_plan(addresses));
    let plan = plan.map_err(|error| Failure::Runtime(error.to_string()))?;
    #[cfg(debug_assertions)]
    let plan = hastened(plan);
    Ok(plan)
}

/// The suite's way to see every deadline pass in a moment; not compiled into releases.
#[cfg(debug_assertions)]
fn hastened(mut plan: Plan) -> Plan {
    let factor = std::env::var("RINGWAY_TEST_HASTE").ok().and_then(|factor| factor.parse::<u32>().ok());
    let factor = factor.unwrap_or(1).max(1);
    let timeouts = &mut plan.timeouts;
    for timeout in [
        &mut timeouts.head,
        &mut timeouts.client_idle,
        &mut timeouts.upstream_idle,
        &mut timeouts.connect,
        &mut timeouts.response,
        &mut timeouts.body_idle,
        &mut timeouts.tunnel_idle,
        &mut timeouts.udp_idle,
        &mut timeouts.shutdown,
    ] {
        *timeout /= factor;
    }
    plan
}

/// Binds, starts one worker per core and waits until all of them listen.
pub fn workers(plan: Plan) -> Result<Running, Failure> {
    let flags = ring::probe().map_err(|error| Failure::Kernel(error.to_string()))?;
    let plan = Arc::new(plan);
    check_sources(&plan)?;
    let mut bound = bind_all(&plan)?;
    announce(&plan, &bound, flags);
    let files = bound.iter_mut().filter_map(|listener| listener.file.take()).collect();
    let listeners = bound.iter().map(|listener| listener.endpoint.clone()).collect();
    let runtime = |error: std::io::Error| Failure::Runtime(format!("cannot start the workers: {error}"));
    let news = Arc::new(Notify::new());
    let (sender, events) = bounded(plan.cores.len() * 4);
    let (mut mailboxes, mut handles) = (Vec::new(), Vec::new());
    for _ in &plan.cores {
        let (mailbox, handle) = Mailbox::new(Arc::new(WorkerStats::new(&plan))).map_err(runtime)?;
        mailboxes.push(mailbox);
        handles.push(handle);
    }
    // Instances and workers must not all begin with the first backend.
    let seed = std::hash::RandomState::new().hash_one(std::process::id()) as usize;
    let sockets = per_worker(bound, plan.cores.len());
    for (worker, ((mailbox, sockets), core)) in
        mailboxes.into_iter().zip(sockets).zip(&plan.cores).enumerate()
    {
        let start = Start {
            worker,
            core: *core,
            plan: Arc::clone(&plan),
            flags,
            sockets,
            mailbox,
            peers: handles.clone(),
            offset: seed.wrapping_add(worker),
            events: sender.clone(),
            news: Arc::clone(&news),
        };
        spawn(start).map_err(runtime)?;
    }
    let running = Running { plan, workers: handles, listeners, events, news, _files: files };
    running.await_all()?;
    Ok(running)
}

impl Running {
    fn await_all(&self) -> Result<(), Failure> {
        for _ in &self.workers {
            match self.events.recv_timeout(START_TIMEOUT) {
                Ok((_, Event::Ready)) => {}
                Ok((worker, Event::Failed(why))) => {
                    return Err(Failure::Runtime(format!("worker {worker} could not start: {why}")));
                }
                Ok((worker, Event::Ended)) => {
                    return Err(Failure::Runtime(format!("worker {worker} ended at once")));
                }
                Err(_) => return Err(Failure::Runtime("the workers did not start in time".to_owned())),
            }
        }
        Ok(())
    }
}

fn bind_all(plan: &Plan) -> Result<Vec<Bound>, Failure> {
    let bind_one = |listener: &ListenerPlan| {
        bind::bind(listener, plan.cores.len()).map_err(|error| {
            let (place, advice) = (&listener.endpoint, bind::advice(&error));
            Failure::Bind(format!("cannot listen on {place}: {error}; {advice}"))
        })
    };
    plan.listeners.iter().map(bind_one).collect()
}

/// An address that is not of this host would fail every connection.
fn check_sources(plan: &Plan) -> Result<(), Failure> {
    let check = |source: &IpAddr| {
        socket::try_source(*source).map_err(|error| {
            let advice = bind::advice(&error);
            Failure::Bind(format!("cannot connect from source address {source}: {error}; {advice}"))
        })
    };
    plan.clusters.iter().flat_map(|cluster| cluster.sources.iter()).try_for_each(check)
}

/// Turns listeners with a socket per worker into workers with a socket per listener. One that has a single socket
/// goes to one worker, each such listener to the next.
fn per_worker(bound: Vec<Bound>, workers: usize) -> Vec<Vec<(usize, OwnedFd)>> {
    let mut sockets: Vec<Vec<(usize, OwnedFd)>> = (0..workers).map(|_| Vec::new()).collect();
    for (listener, bound) in bound.into_iter().enumerate() {
        let first = if bound.sockets.len() == workers { 0 } else { listener % workers.max(1) };
        for (worker, socket) in sockets.iter_mut().skip(first).zip(bound.sockets) {
            worker.push((listener, socket));
        }
    }
    sockets
}

fn announce(plan: &Plan, bound: &[Bound], flags: RingFlags) {
    for (listener, bound) in plan.listeners.iter().zip(bound) {
        let cluster = listener
            .cluster
            .and_then(|cluster| plan.clusters.get(cluster))
            .map(|cluster| &*cluster.name)
            .unwrap_or_default();
        info!(
            mode = listener.mode.name(),
            cluster,
            workers = plan.cores.len(),
            "listening on {}",
            bound.endpoint
        );
    }
    for cluster in &plan.clusters {
        for backend in &cluster.backends {
            let weight = backend.weight;
            info!(cluster = &*cluster.name, weight, state = "up", "backend {}", backend.name);
        }
    }
    info!(flags = flags.name(), "io_uring");
}
