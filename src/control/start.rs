//! Start-up: everything that can fail is tried, in this order, before anybody is served: ring, names, binds, workers.

use std::{hash::BuildHasher, net::IpAddr, os::unix::net::UnixStream, sync::Arc, time::Duration};

use crossbeam::channel::{Receiver, bounded};
use serde_json::Value;
use tracing::info;

use super::{
    admin::{Admin, Shown},
    health::Health,
    orders::Orders,
    process::Failure,
    resolve,
};
use crate::{
    addr::Endpoint,
    blueprint::Blueprint,
    config::{
        self, Checked, Environment,
        mistake::Mistake,
        plan::{ListenerPlan, Plan, cluster::Duty, health},
        source::Source,
    },
    health::standing::State,
    io::alarm::{self, Millis},
    listener::bind::{self, Bound, SocketFile},
    stats::view::View,
    sys::{ring, socket},
    worker::{
        mailbox::{Command, ListenerSocket, Mailbox},
        outbox::Outbox,
        run::{Event, Start, spawn},
    },
};

/// Events of a worker that may wait to be read.
const EVENTS_PER_WORKER: usize = 16;

/// How long the workers may take to listen.
const START_TIMEOUT: Millis = 30_000;

/// Running workers, as control holds them.
pub struct Running {
    /// What is in force, with everybody's numbers and where they really listen.
    pub admin: Arc<Admin>,
    /// What the workers go by.
    pub blueprint: Arc<Blueprint>,
    /// The way to the workers.
    pub orders: Orders,
    /// What the workers report.
    pub events: Receiver<(usize, Event)>,
    /// The UNIX sockets of listeners by their names, removed from the file system when they are dropped.
    pub files: Vec<(Arc<str>, SocketFile)>,
    /// Who may be asked.
    pub health: Health,
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
pub async fn resolved(checked: Checked) -> Result<Plan, Failure> {
    let resolved = resolve::resolve(&checked.addresses()).await;
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
        &mut timeouts.last_words,
        &mut timeouts.udp_idle,
        &mut timeouts.shutdown,
    ] {
        *timeout /= factor;
    }
    plan
}

/// Binds, starts one worker per core and waits until all of them listen. Bytes come by the stream when they report something.
pub fn workers(plan: Plan, effective: Value) -> Result<(Running, UnixStream), Failure> {
    let flags = ring::probe().map_err(|error| Failure::Kernel(error.to_string()))?;
    check_sources(&plan)?;
    let bind = |listener| bind_one(listener, plan.cores.len(), &[]);
    let mut bound = plan.listeners.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
    let files = plan.listeners.iter().zip(&mut bound);
    let files =
        files.filter_map(|(plan, bound)| Some((Arc::clone(&plan.name), bound.file.take()?))).collect();
    let listeners: Vec<_> = bound.iter().map(|listener| listener.endpoint.clone()).collect();
    announce(&plan, &listeners);
    info!(flags = flags.name(), "io_uring");
    let blueprint = Arc::new(Blueprint::new(plan, None));
    let plan = Arc::clone(&blueprint.plan);
    let view = View::new(Arc::clone(&plan));
    let mut health = Health::new(view.clone());
    let runtime = |error: std::io::Error| Failure::Runtime(format!("cannot start the workers: {error}"));
    let (news, bell) = UnixStream::pair().map_err(runtime)?;
    [&news, &bell].into_iter().try_for_each(|end| end.set_nonblocking(true)).map_err(runtime)?;
    let bell = Arc::new(bell);
    let (sender, events) = bounded(plan.cores.len() * EVENTS_PER_WORKER);
    let (mut mailboxes, mut handles) = (Vec::new(), Vec::new());
    for worker in &view.workers {
        let (mailbox, handle) = Mailbox::new(Arc::clone(&worker.stats)).map_err(runtime)?;
        mailboxes.push(mailbox);
        handles.push(handle);
    }
    // Instances and workers must not all begin with the first backend.
    let seed = std::hash::RandomState::new().hash_one(std::process::id()) as usize;
    let sockets = per_worker(&plan, bound.into_iter().enumerate().collect());
    let cores = plan.cores.iter().zip(&view.workers);
    for (worker, ((mailbox, sockets), (core, cells))) in
        mailboxes.into_iter().zip(&sockets).zip(cores).enumerate()
    {
        let start = Start {
            worker,
            core: *core,
            blueprint: Arc::clone(&blueprint),
            backends: cells.backends.clone(),
            standings: health.tell_all(worker),
            flags,
            sockets: sockets.len(),
            mailbox,
            peers: handles.clone(),
            offset: seed.wrapping_add(worker),
            outbox: Outbox::new(worker, sender.clone(), Arc::clone(&bell)),
        };
        spawn(start).map_err(runtime)?;
    }
    let admin = Arc::new(Admin::new(Shown { view, listeners, effective }));
    let mut running = Running { admin, blueprint, orders: Orders::new(handles), events, files, health };
    running.orders.give(sockets.into_iter().map(Command::Listen), alarm::now());
    running.await_all()?;
    Ok((running, news))
}

impl Running {
    fn await_all(&mut self) -> Result<(), Failure> {
        let (mut starting, deadline) = (self.orders.workers().len(), alarm::now() + START_TIMEOUT);
        while starting > 0 {
            let due = self.orders.due().map_or(deadline, |due| due.min(deadline));
            match self.events.recv_timeout(Duration::from_millis(due.saturating_sub(alarm::now()))) {
                Ok((_, Event::Ready)) => starting -= 1,
                // One that listens already serves.
                Ok((worker, Event::Observed(batch))) => self.health.observed(worker, &batch),
                Ok((worker, Event::Failed(why))) => {
                    return Err(Failure::Runtime(format!("worker {worker} could not start: {why}")));
                }
                Ok((worker, Event::Ended | Event::Renewed)) => {
                    return Err(Failure::Runtime(format!("worker {worker} ended at once")));
                }
                Err(_) if alarm::now() < deadline => self.orders.deliver(alarm::now()),
                Err(_) => return Err(Failure::Runtime("the workers did not start in time".to_owned())),
            }
        }
        Ok(())
    }
}

/// Binds a listener for that many workers; it may share an endpoint of `ours`, which is about to close.
pub(super) fn bind_one(listener: &ListenerPlan, workers: usize, ours: &[Endpoint]) -> Result<Bound, Failure> {
    bind::bind(listener, workers, ours).map_err(|error| {
        let (place, advice) = (&listener.endpoint, bind::advice(&error));
        Failure::Bind(format!("cannot listen on {place}: {error}; {advice}"))
    })
}

/// An address that is not of this host would fail every connection.
pub(super) fn check_sources(plan: &Plan) -> Result<(), Failure> {
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
pub(super) fn per_worker(plan: &Plan, bound: Vec<(usize, Bound)>) -> Vec<Vec<ListenerSocket>> {
    let workers = plan.cores.len();
    let mut sockets: Vec<Vec<ListenerSocket>> = (0..workers).map(|_| Vec::new()).collect();
    for (listener, bound) in bound {
        let Some(binding) = plan.listeners.get(listener).map(ListenerPlan::binding) else { continue };
        let first = if bound.sockets.len() == workers { 0 } else { listener % workers.max(1) };
        for (worker, socket) in sockets.iter_mut().skip(first).zip(bound.sockets) {
            worker.push(ListenerSocket { binding: binding.clone(), socket });
        }
    }
    sockets
}

/// Says where what is spoken, and who is behind it.
pub(super) fn announce(plan: &Plan, listeners: &[Endpoint]) {
    for (listener, endpoint) in plan.listeners.iter().zip(listeners) {
        let cluster = listener
            .cluster
            .and_then(|cluster| plan.clusters.get(cluster))
            .map(|cluster| &*cluster.name)
            .unwrap_or_default();
        info!(mode = listener.mode.name(), cluster, workers = plan.cores.len(), "listening on {endpoint}");
    }
    for cluster in &plan.clusters {
        let waits = cluster.health.as_ref().is_some_and(|health| health.start == health::Start::Down);
        for backend in &cluster.backends {
            let weight = backend.weight;
            let state = match backend.duty {
                Duty::Ready if waits => State::Down,
                Duty::Ready => State::Up,
                Duty::Drain => State::Drain,
                Duty::Maint => State::Maint,
            };
            info!(cluster = &*cluster.name, weight, state = state.name(), "backend {}", backend.name);
        }
    }
}
