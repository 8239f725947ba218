//! A real worker in the process of a test.

use std::{
    net::SocketAddr,
    num::NonZeroU32,
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::Arc,
    time::Duration,
};

use crossbeam::channel::{Receiver, bounded};
use ringway::{
    blueprint::Blueprint,
    cli,
    config::{
        self, Environment,
        plan::{
            AdmissionPlan, Plan,
            admission::{RATE_COUNT_MAX, Rate, RateKey, RateLimit},
        },
    },
    listener,
    stats::view::View,
    sys::ring,
    worker::{
        mailbox::{Command, Handle, ListenerSocket, Mailbox},
        outbox::Outbox,
        run::{Event, Start, spawn},
    },
};

/// No wait is longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One worker over one backend. Each has a number of its own, by which its thread is found.
pub(crate) struct Worker {
    pub(crate) address: SocketAddr,
    pub(crate) handle: Handle,
    binding: String,
    events: Receiver<(usize, Event)>,
}

impl Worker {
    pub(crate) fn start(worker: usize, backend: SocketAddr, mode: &str) -> Worker {
        let core = core_affinity::get_core_ids().unwrap()[0].id;
        let blueprint = Arc::new(Blueprint::new(plan(backend, core, mode), None));
        let bound = listener::bind::bind(&blueprint.plan.listeners[0], 1, &[]).unwrap();
        let binding = blueprint.plan.listeners[0].binding();
        let cells = View::new(Arc::clone(&blueprint.plan)).workers.remove(0);
        let (mailbox, handle) = Mailbox::new(cells.stats).unwrap();
        let (sender, events) = bounded(4);
        let start = Start {
            worker,
            core,
            blueprint,
            backends: cells.backends,
            standings: Vec::new(),
            flags: ring::probe().unwrap_or_else(|error| panic!("{error}")),
            sockets: 1,
            mailbox,
            peers: vec![handle.clone(); worker + 1],
            offset: 0,
            outbox: Outbox::new(worker, sender, Arc::new(UnixStream::pair().unwrap().0)),
        };
        spawn(start).unwrap();
        let worker = Worker { address: bound.endpoint.inet().unwrap(), handle, binding, events };
        bound.sockets.into_iter().for_each(|socket| worker.listen_on(socket));
        let event = worker.events.recv_timeout(PATIENCE);
        assert!(matches!(event, Ok((_, Event::Ready))), "{event:?}");
        worker
    }

    /// Tells it to listen there, for the listener that it has.
    pub(crate) fn listen_on(&self, socket: OwnedFd) {
        let socket = ListenerSocket { binding: self.binding.clone(), socket };
        self.handle.send(Command::Listen(vec![socket])).unwrap();
    }

    pub(crate) fn stop(self) {
        self.handle.send(Command::Drain).unwrap();
        let event = self.events.recv_timeout(PATIENCE);
        assert!(matches!(event, Ok((_, Event::Ended))), "{event:?}");
    }
}

/// Asks everything of everybody, and lets them all in.
fn generous() -> AdmissionPlan {
    let rate = Rate { count: RATE_COUNT_MAX, per: Duration::from_secs(1) };
    AdmissionPlan {
        allow: "127.0.0.0/8".parse().unwrap(),
        deny: "10.0.0.0/8".parse().unwrap(),
        rate: Some(RateLimit { rate, burst: RATE_COUNT_MAX, key: RateKey::Header("x-none".into()) }),
        connections_per_client: NonZeroU32::new(100),
    }
}

fn plan(backend: SocketAddr, core: usize, mode: &str) -> Plan {
    let flags = ["ringway", "--listen=127.0.0.1:0", "--mode", mode, "--cores", &core.to_string()]
        .map(std::ffi::OsString::from)
        .into_iter()
        .chain([format!("--backends={backend}").into()]);
    match cli::parse(flags) {
        Ok(cli::Command::Run(source)) => {
            let checked = config::load(&source, &Environment::of_process().unwrap()).unwrap();
            let mut plan = checked.into_plan(vec![vec![backend.into()]]);
            plan.listeners[0].admission = generous();
            plan
        }
        other => panic!("{other:?}"),
    }
}
