//! A reload: another plan for workers that go on.
//!
//! Everything that can fail is tried first, so a bad plan changes nothing. Then every worker learns the plan, and only
//! when all of them know it do they listen where they have not listened before: a connection that one of them hands
//! over is never unknown to the other.

use std::{collections::HashSet, os::fd::OwnedFd, sync::Arc};

use serde_json::Value;
use tracing::{info, warn};

use super::{
    admin::Shown,
    process::Failure,
    start::{self, Running},
};
use crate::{
    addr::Endpoint,
    blueprint::Blueprint,
    config::plan::{ListenerPlan, Plan},
    listener::bind::SocketFile,
    stats::view::WorkerView,
    worker::mailbox::{Command, Renewal},
};

/// A reload that workers have not all heard of.
pub struct Reload {
    /// Who has not answered.
    waiting: HashSet<usize>,
    /// Per worker, the sockets of new listeners with their places in the plan.
    sockets: Vec<Vec<(usize, OwnedFd)>>,
    files: Vec<(Arc<str>, SocketFile)>,
    shown: Shown,
    blueprint: Arc<Blueprint>,
}

impl Reload {
    /// Binds what is new and builds the tables. Nothing has changed when it fails.
    pub fn prepare(
        running: &mut Running,
        mut plan: Plan,
        effective: Value,
    ) -> Result<(Reload, Vec<Command>), Failure> {
        let shown = running.admin.shown();
        keep_what_cannot_change(&shown.view.plan, &mut plan);
        start::check_sources(&plan)?;
        let (mut listeners, mut bound, mut files) = (Vec::new(), Vec::new(), Vec::new());
        for (place, listener) in plan.listeners.iter().enumerate() {
            if let Some(endpoint) = still_bound(&shown, listener) {
                listeners.push(endpoint);
                continue;
            }
            let mut sockets = start::bind_one(listener, plan.cores.len(), &shown.listeners)?;
            files.extend(sockets.file.take().map(|file| (Arc::clone(&listener.name), file)));
            listeners.push(sockets.endpoint.clone());
            bound.push((place, sockets));
        }
        start::announce(&plan, &listeners);
        let blueprint = Arc::new(Blueprint::new(plan, Some(&running.blueprint)));
        let view = shown.view.renewed(Arc::clone(&blueprint.plan));
        running.health.renew(view.clone());
        let health = &mut running.health;
        let renewal = |(worker, view): (usize, &WorkerView)| {
            let (blueprint, backends) = (Arc::clone(&blueprint), view.backends.clone());
            Command::Renew(Box::new(Renewal { blueprint, backends, standings: health.tell_all(worker) }))
        };
        let commands = view.workers.iter().enumerate().map(renewal).collect();
        let reload = Reload {
            waiting: (0..running.orders.workers().len()).collect(),
            sockets: start::per_worker(bound, running.orders.workers().len()),
            files,
            shown: Shown { view, listeners, effective },
            blueprint,
        };
        Ok((reload, commands))
    }

    /// A worker has answered. True when all have.
    pub fn heard(&mut self, worker: usize) -> bool {
        self.waiting.remove(&worker);
        self.waiting.is_empty()
    }

    /// All workers know the plan: shows it, and returns what each of them has to listen on.
    pub fn finish(self, running: &mut Running) -> Vec<Command> {
        let Reload { sockets, files, shown, blueprint, .. } = self;
        running.blueprint = blueprint;
        let plan = Arc::clone(&shown.view.plan);
        let stays = |name: &Arc<str>| {
            let replaced = files.iter().any(|(new, _)| new == name);
            !replaced && plan.listeners.iter().any(|listener| listener.name == *name)
        };
        running.files.retain(|(name, _)| stays(name));
        running.files.extend(files);
        running.admin.show(shown);
        let backends: usize = plan.clusters.iter().map(|cluster| cluster.backends.len()).sum();
        info!(
            listeners = plan.listeners.len(),
            routes = plan.routes.len(),
            clusters = plan.clusters.len(),
            backends,
            "reloaded"
        );
        sockets.into_iter().map(Command::Listen).collect()
    }
}

/// Where a listener of the new plan listens already; `None` when it has to be bound.
fn still_bound(shown: &Shown, listener: &ListenerPlan) -> Option<Endpoint> {
    let mut known = shown.view.plan.listeners.iter().zip(&shown.listeners);
    known.find(|(old, _)| old.is_bound_like(listener)).map(|(_, endpoint)| endpoint.clone())
}

/// Workers and the admin stay as they were started.
fn keep_what_cannot_change(old: &Plan, new: &mut Plan) {
    if old.cores != new.cores {
        warn!("other cores need a restart; the workers stay where they are");
        new.cores.clone_from(&old.cores);
    }
    if old.admin != new.admin {
        warn!("another admin address needs a restart; it stays where it is");
        new.admin = old.admin;
    }
}
