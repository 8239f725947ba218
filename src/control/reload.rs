//! A reload: another plan for workers that go on.
//!
//! Everything that can fail is tried first, so a bad plan changes nothing. Then every worker learns the plan, and only
//! when all of them know it do they listen where they have not listened before: a connection that one of them hands
//! over is never unknown to the other. Looking names up may take seconds; control does everything else meanwhile.

use std::{collections::HashSet, future, mem, sync::Arc};

use serde_json::Value;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use super::{
    admin::Shown,
    process::Failure,
    start::{self, Running},
};
use crate::{
    addr::Endpoint,
    blueprint::Blueprint,
    config::{
        plan::{ListenerPlan, Plan},
        source::Source,
    },
    listener::bind::SocketFile,
    stats::view::WorkerView,
    worker::mailbox::{Command, ListenerSocket, Renewal},
};

/// A plan whose names have been looked up.
#[derive(Debug)]
pub struct Found {
    plan: Box<Plan>,
    effective: Value,
}

/// Looks up the names of a new plan. Dropping it gives that up.
struct Lookup {
    task: JoinHandle<Result<Found, Failure>>,
}

impl Drop for Lookup {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Lookup {
    /// Reads the configuration and begins to look its names up.
    fn begin(source: &Source) -> Result<Self, Failure> {
        let checked = start::load(source)?;
        for warning in checked.warnings() {
            warn!("{warning}");
        }
        let effective = checked.to_json();
        let task = tokio::spawn(async move {
            let plan = start::resolved(checked).await?;
            Ok(Found { plan: Box::new(plan), effective })
        });
        Ok(Lookup { task })
    }
}

/// How far a reload has come, one at a time.
#[derive(Default)]
pub struct Course {
    lookup: Option<Lookup>,
    /// Under way until every worker knows the new plan.
    reload: Option<Reload>,
    /// Asked for while another was under way, which may have read the files before they were changed.
    again: bool,
}

impl Course {
    /// True until every worker knows the new plan, or there is none.
    pub fn is_under_way(&self) -> bool {
        self.lookup.is_some() || self.reload.is_some()
    }

    /// Another one is to follow this one.
    pub fn ask_again(&mut self) {
        self.again = true;
    }

    /// True, once, when another one was asked for and may begin.
    pub fn is_next(&mut self) -> bool {
        !self.is_under_way() && mem::take(&mut self.again)
    }

    /// Reads the configuration and begins to look its names up.
    pub fn begin(&mut self, source: &Source) -> Result<(), Failure> {
        self.lookup = Some(Lookup::begin(source)?);
        Ok(())
    }

    /// Waits for the names that are looked up, for ever if there are none. Nothing is lost when it is dropped.
    pub async fn found(&mut self) -> Result<Found, Failure> {
        let Some(lookup) = &mut self.lookup else { return future::pending().await };
        let found = (&mut lookup.task).await;
        self.lookup = None;
        found.unwrap_or_else(|died| Err(Failure::Runtime(format!("names were not looked up: {died}"))))
    }

    /// Nobody wants to know any more what is looked up.
    pub fn give_up(&mut self) {
        self.lookup = None;
    }

    /// Prepares the reload, and returns what each worker is to go by.
    pub fn prepare(&mut self, running: &mut Running, found: Found) -> Result<Vec<Command>, Failure> {
        let (reload, commands) = Reload::prepare(running, *found.plan, found.effective)?;
        self.reload = Some(reload);
        Ok(commands)
    }

    /// A worker goes by the new plan. When all do: what each of them has to listen on.
    pub fn heard(&mut self, worker: usize, running: &mut Running) -> Option<Vec<Command>> {
        let reload = self.reload.take_if(|reload| reload.heard(worker))?;
        Some(reload.finish(running))
    }
}

/// Says why a configuration changes nothing.
pub fn refuse(failure: &Failure) {
    for line in failure.to_string().lines() {
        error!("{}", line.trim_start_matches("error: "));
    }
    error!("not reloaded: the configuration in force stays");
}

/// A reload that workers have not all heard of.
struct Reload {
    /// Who has not answered.
    waiting: HashSet<usize>,
    /// Per worker, the sockets of new listeners.
    sockets: Vec<Vec<ListenerSocket>>,
    files: Vec<(Arc<str>, SocketFile)>,
    shown: Shown,
    blueprint: Arc<Blueprint>,
}

impl Reload {
    /// Binds what is new and builds the tables. Nothing has changed when it fails.
    fn prepare(
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
            sockets: start::per_worker(&blueprint.plan, bound),
            files,
            shown: Shown { view, listeners, effective },
            blueprint,
        };
        Ok((reload, commands))
    }

    /// A worker has answered. True when all have.
    fn heard(&mut self, worker: usize) -> bool {
        self.waiting.remove(&worker);
        self.waiting.is_empty()
    }

    /// All workers know the plan: shows it, and returns what each of them has to listen on.
    fn finish(self, running: &mut Running) -> Vec<Command> {
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
