//! Who is at which backend, who waits for room and who tries again; and what must hold of all three.
//!
//! It counts by itself what workers do, over all of them, and asks none of what limits them.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, VecDeque},
    rc::{Rc, Weak},
};

use super::{scenario, worker::Worker, world::World};
use crate::{
    cluster::{attempt::Attempt, backend::Backend, tried::Tried},
    health::standing::Standing,
    io::alarm::Millis,
    limits::RETRY_WINDOW,
    stats::names::Level,
};

/// How often those who wait are looked at.
const LOOK: Millis = 10;

/// Whoever waits has room after so long, besides what its worker takes to read its mail: what another one keeps idle is
/// given back once a second at the latest.
const UNSEEN: Millis = 1_200;

/// Alarms may be this late, with what comes before them at their moment.
const LATE: Millis = 50;

/// What is known of a run's requests.
#[derive(Default)]
pub(super) struct Census {
    crowds: RefCell<HashMap<(usize, usize), Crowd>>,
    waiting: RefCell<BTreeMap<usize, Waiting>>,
    /// By the number of the cluster.
    repeats: RefCell<HashMap<usize, Repeats>>,
}

/// What is at one backend, from all workers.
#[derive(Default)]
struct Crowd {
    attempts: Vec<Weak<Attempt>>,
    /// When it was full last.
    full_at: Millis,
}

impl Crowd {
    /// How many there are; those at a backend that had no limit when it left its worker's plan are past.
    fn count(&self) -> usize {
        let live = self.attempts.iter().filter_map(Weak::upgrade);
        let counts = |backend: &Backend| backend.place().is_some() || backend.room().is_limited();
        live.filter(|attempt| counts(attempt.backend())).count()
    }
}

/// Somebody who waits.
pub(super) struct Waiting {
    pub(super) me: usize,
    /// Its cluster's place in the plan.
    pub(super) cluster: usize,
    pub(super) pinned: Option<usize>,
    pub(super) tried: Tried,
    /// How many plans its worker had gone by before.
    pub(super) renewals: usize,
    /// Since when each backend would take it, as far as is known.
    pub(super) ready: HashMap<usize, Millis>,
}

/// When requests began at a cluster, and when they were repeated.
#[derive(Default)]
struct Repeats {
    requests: VecDeque<Millis>,
    retries: VecDeque<Millis>,
}

/// How many of these are younger than `age`.
fn younger(all: &VecDeque<Millis>, age: Millis, now: Millis) -> u64 {
    all.iter().rev().take_while(|at| **at + age > now).count() as u64
}

impl Census {
    /// A request has come to a backend, at which there may be no more than its limit.
    pub(super) fn arrives(world: &World, attempt: &Rc<Attempt>) {
        let name = attempt.backend().name();
        let numbers = scenario::numbers_of(name);
        let mut crowds = world.census.crowds.borrow_mut();
        let crowd = crowds.entry(numbers).or_default();
        crowd.attempts.retain(|attempt| Weak::strong_count(attempt) > 0);
        crowd.attempts.push(Rc::downgrade(attempt));
        let (count, (_, most)) = (crowd.count(), world.control.limits(name));
        if count > most {
            world.fail(format!("{count} requests are at {name}, more than {most}"));
        }
    }

    /// It is about to end.
    pub(super) fn departs(world: &World, attempt: &Attempt) {
        let name = attempt.backend().name();
        let mut crowds = world.census.crowds.borrow_mut();
        let crowd = crowds.entry(scenario::numbers_of(name)).or_default();
        if crowd.attempts.iter().filter_map(Weak::upgrade).count() >= world.control.limits(name).0 {
            crowd.full_at = world.tasks.now();
        }
    }

    /// When a backend was full last.
    fn full_at(&self, world: &World, name: &str) -> Millis {
        let crowds = self.crowds.borrow();
        let Some(crowd) = crowds.get(&scenario::numbers_of(name)) else { return 0 };
        let live = crowd.attempts.iter().filter_map(Weak::upgrade).count();
        if live >= world.control.limits(name).0 { world.tasks.now() } else { crowd.full_at }
    }

    /// Somebody waits, until [`Self::is_called`].
    pub(super) fn waits(&self, number: usize, waiting: Waiting) {
        self.waiting.borrow_mut().insert(number, waiting);
    }

    /// It waits no longer.
    pub(super) fn is_called(&self, number: usize) {
        self.waiting.borrow_mut().remove(&number);
    }

    /// A request begins.
    pub(super) fn begins(&self, cluster: usize, now: Millis) {
        self.repeats.borrow_mut().entry(cluster).or_default().requests.push_back(now);
    }

    /// It is tried again out of the budget: of the retries of a window, no more than that and the floor.
    pub(super) fn repeats(world: &World, cluster: usize) {
        let (now, window) = (world.tasks.now(), RETRY_WINDOW.as_millis() as Millis);
        let mut repeats = world.census.repeats.borrow_mut();
        let repeats = repeats.entry(cluster).or_default();
        repeats.retries.push_back(now);
        let rules = world.scenario.clusters[cluster].retries;
        // A tenth of the window is as exact as it gets, and the first of these retries were granted for what came in the
        // window before them. What the floor has saved up is a window's, too.
        let span = window - window / 10;
        let requests = younger(&repeats.requests, span + window, now);
        let retries = younger(&repeats.retries, span, now);
        let floor = u64::from(rules.per_second_min) * (span + window) / 1000 + 1;
        let most = requests * u64::from(rules.budget_percent) / 100 + floor;
        if retries > most {
            world.fail(format!("{retries} retries for {requests} requests of cluster {cluster}, not {most}"));
        }
    }

    /// Looks at those who wait as long as there are clients.
    pub(super) async fn watch(world: Rc<World>) {
        loop {
            world.tasks.sleep(LOOK).await;
            for (number, waiting) in world.census.waiting.borrow_mut().iter_mut() {
                waiting.look(&world, *number);
            }
        }
    }
}

impl Waiting {
    /// Nobody waits while there is room for it.
    fn look(&mut self, world: &World, number: usize) {
        let (worker, now) = (world.worker(self.me), world.tasks.now());
        if world.control.is_reloading() || worker.renewals.get() != self.renewals {
            self.ready.clear();
            return;
        }
        let setup = worker.shard.setup();
        let plan = &setup.plan().clusters[self.cluster];
        let most = UNSEEN + plan.retries.pause.as_millis() as Millis + 2 * world.scenario.mail_lag;
        let mut place = 0;
        setup.clusters[self.cluster].for_each(|backend| {
            let is_asked = self.pinned.is_none_or(|pinned| pinned == place);
            let would_take = is_asked
                && worker.told_of((self.cluster, place)) == Standing::Up
                && backend.set_aside_until(now).is_none()
                && !plan.backends[place].backup
                && !self.tried.indices().contains(&place);
            if would_take {
                let full_at = world.census.full_at(world, backend.name());
                let since = self.ready.entry(place).or_insert(now);
                *since = full_at.max(*since);
                let waited = now - *since;
                if waited > most {
                    let name = backend.name();
                    let why =
                        format!("request {number} waits for {waited} ms, and {name} has room all the time");
                    world.fail(why);
                }
            } else {
                self.ready.remove(&place);
            }
            place += 1;
        });
    }
}

/// How long it may take at the most until a request has a backend, or the word that there is none.
pub(super) fn patience(world: &World, cluster: usize) -> Millis {
    let plan = &world.scenario.clusters[cluster];
    plan.queue_timeout.as_millis() as Millis
        + plan.retries.attempts as Millis * (plan.retries.pause.as_millis() as Millis + LATE)
        + LATE
}

/// Nobody asks any more: nobody waits, and all credits are back.
pub(super) fn rest(world: &World) {
    let waiting = |worker: &Rc<Worker>| worker.shard.stats.level(Level::Queued);
    for worker in world.workers.iter().filter(|worker| waiting(worker) > 0) {
        world.fail(format!("{} wait at worker {} in the end", waiting(worker), worker.me));
    }
    if !world.census.waiting.borrow().is_empty() {
        world.fail("somebody waits in the end".to_owned());
    }
    for worker in &world.workers {
        worker.shard.setup().clusters.iter().for_each(|cluster| cluster.give_back_idle(false));
    }
    let blueprint = world.control.blueprint();
    for (plan, accounts) in blueprint.plan.clusters.iter().zip(&blueprint.accounts) {
        for (backend, account) in plan.backends.iter().zip(&accounts.backends) {
            let Some(terms) = &account.requests else { continue };
            let back: u32 =
                std::iter::from_fn(|| Some(terms.ledger.lease()).filter(|batch| *batch > 0)).sum();
            if back != backend.max_requests {
                world.fail(format!(
                    "{back} credits are back at {}, not {}",
                    backend.name, backend.max_requests
                ));
            }
        }
    }
}
