//! The world of one run: everybody in it, and the course of events from trouble to rest.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    os::unix::net::UnixStream,
    rc::{Rc, Weak},
    sync::Arc,
};

use crossbeam::channel::bounded;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    census::{self, Census},
    check, client,
    control::Control,
    journal,
    life::{Life, Mood},
    prober,
    scenario::Scenario,
    tasks::{Bell, Tasks},
    trace::Trace,
    worker::Worker,
};
use crate::{
    blueprint::Blueprint,
    cluster::{Cluster, attempt::Attempt},
    config::plan::{Algorithm, ClusterPlan},
    control::health::Health,
    io::alarm::Millis,
    stats::{names::Level, view::View},
    worker::{mailbox::Mailbox, outbox::Outbox},
};

/// How long shares are looked at in the end.
const SHARES: Millis = 4_000;

/// A cluster's and a backend's number, which stay the same whatever the plan.
type Numbers = (usize, usize);

/// Everybody.
pub(super) struct World {
    pub(super) tasks: Tasks,
    pub(super) scenario: Scenario,
    pub(super) trace: Trace,
    pub(super) begin: Millis,
    pub(super) workers: Vec<Rc<Worker>>,
    pub(super) control: Control,
    /// Wakes control.
    pub(super) news: Bell,
    lives: HashMap<Numbers, Life>,
    pub(super) probed: RefCell<Vec<prober::Subject>>,
    pub(super) pauses: RefCell<Vec<Millis>>,
    pub(super) requests: Cell<usize>,
    pub(super) trials: RefCell<Vec<Weak<Attempt>>>,
    /// How often each was picked, probed to another verdict, and logged.
    pub(super) picks: RefCell<HashMap<Numbers, usize>>,
    pub(super) verdicts: RefCell<HashMap<Numbers, usize>>,
    pub(super) lines: RefCell<HashMap<Numbers, usize>>,
    /// There is no more trouble.
    is_calm: Cell<bool>,
    /// There are no more clients.
    pub(super) is_closing: Cell<bool>,
    pub(super) census: Census,
    failure: RefCell<Option<String>>,
}

/// What has come of a run.
pub(super) struct Outcome {
    /// All that has happened, in one number.
    pub(super) sum: u64,
    pub(super) events: usize,
    pub(super) requests: usize,
    /// What did not hold, with the last events.
    pub(super) failure: Option<String>,
}

/// The run of this seed. `kept` events are shown if it fails, or the usual number.
pub(super) fn run(seed: u64, kept: Option<usize>) -> Outcome {
    journal::take();
    let world = World::new(seed, kept);
    world.live();
    world.tasks.cut_all();
    let failure =
        world.failure.take().map(|why| format!("{why}\nthe last events:\n{}", world.trace.to_text()));
    Outcome { sum: world.trace.sum(), events: world.trace.count(), requests: world.requests.get(), failure }
}

impl World {
    fn new(seed: u64, kept: Option<usize>) -> Rc<Self> {
        let mut chance = fastrand::Rng::with_seed(seed);
        let scenario = Scenario::new(&mut chance);
        let tasks = Tasks::new(fastrand::Rng::with_seed(chance.u64(..)));
        let begin = tasks.now();
        let lives = scenario.clusters.iter().enumerate().flat_map(|(cluster, plan)| {
            let life =
                |backend| ((cluster, backend), Life::new(&mut chance, begin + 500, begin + scenario.trouble));
            (0..plan.backends.len()).map(life).collect::<Vec<_>>()
        });
        let lives: HashMap<_, _> = lives.collect();
        let blueprint = Arc::new(Blueprint::new(scenario.plan(), None));
        let view = View::new(Arc::clone(&blueprint.plan));
        let mut health = Health::new(view.clone());
        let (sender, events) = bounded(scenario.events_max);
        let (mut workers, mut handles) = (Vec::new(), Vec::new());
        for (me, cells) in view.workers.iter().enumerate() {
            let (mailbox, handle) = Mailbox::new(Arc::clone(&cells.stats)).unwrap();
            let standings = health.tell_all(me);
            let outbox = Outbox::new(me, sender.clone(), Arc::new(UnixStream::pair().unwrap().0));
            workers.push(Rc::new(Worker::new(me, &blueprint, cells, standings, mailbox, outbox)));
            handles.push(handle);
        }
        Rc::new(World {
            control: Control::new(health, view, blueprint, handles, events),
            pauses: RefCell::new(scenario.pauses.clone()),
            verdicts: RefCell::new(lives.keys().map(|numbers| (*numbers, 0)).collect()),
            tasks,
            scenario,
            trace: Trace::new(kept),
            begin,
            workers,
            news: Bell::default(),
            lives,
            probed: RefCell::default(),
            requests: Cell::new(0),
            trials: RefCell::default(),
            picks: RefCell::default(),
            lines: RefCell::default(),
            is_calm: Cell::new(false),
            is_closing: Cell::new(false),
            census: Census::default(),
            failure: RefCell::default(),
        })
    }

    /// A worker.
    pub(super) fn worker(&self, me: usize) -> Rc<Worker> {
        Rc::clone(&self.workers[me])
    }

    /// How a backend behaves now.
    pub(super) fn mood(&self, numbers: Numbers) -> Mood {
        self.lives[&numbers].mood(self.tasks.now())
    }

    /// Something does not hold. The first one counts.
    pub(super) fn fail(&self, why: String) {
        let mut failure = self.failure.borrow_mut();
        failure.get_or_insert_with(|| format!("at {}: {why}", self.tasks.now()));
    }

    /// What a cluster says that it has in flight.
    pub(super) fn in_flight(&self, cluster: &Cluster, index: usize) -> u32 {
        cluster.in_flight(index)
    }

    /// True when its backends get requests in proportion to their weights: with those that look at loads, a quiet backend
    /// that weighs more gets all.
    pub(super) fn has_shares(&self, cluster: &ClusterPlan) -> bool {
        // Who is full leaves its share to others.
        if cluster.backends.iter().any(|backend| backend.max_requests > 0) {
            return false;
        }
        match cluster.algorithm {
            Algorithm::First | Algorithm::LeastResponseTime => false,
            Algorithm::LeastConnections | Algorithm::PowerOfTwo => {
                cluster.backends.windows(2).all(|pair| pair[0].weight == pair[1].weight)
            }
            _ => true,
        }
    }

    /// From trouble to rest.
    fn live(self: &Rc<Self>) {
        self.begin();
        self.pass(self.scenario.trouble);
        self.is_calm.set(true);
        self.control.order.replace(Some(self.scenario.plan()));
        self.news.ring();
        let busy = self.tasks.place(self.workers.len());
        self.pauses.borrow_mut()[busy] = 20;
        self.pass(self.scenario.recovery());
        check::recovered(self);
        self.picks.take();
        self.pass(SHARES);
        check::shares(self);
        self.is_closing.set(true);
        self.pass(20_000 + 6 * (self.scenario.response_timeout + self.scenario.connect_timeout));
        check::rest(self);
        census::rest(self);
    }

    fn begin(self: &Rc<Self>) {
        prober::follow(self, &self.control.view.borrow().plan.clone());
        for me in 0..self.workers.len() {
            Worker::start(self, me);
            self.tasks.spawn(client::come(Rc::clone(self), me));
        }
        self.tasks.spawn(Control::live(Rc::clone(self)));
        self.tasks.spawn(Census::watch(Rc::clone(self)));
        let scenario = &self.scenario;
        self.trouble(scenario.reload_every, |world| {
            let plan = world.tasks.with_chance(|chance| world.scenario.another_plan(chance));
            world.control.order.replace(Some(plan));
            world.news.ring();
        });
        self.trouble(scenario.stuff_every, |world| {
            let worker = world.tasks.place(world.workers.len());
            world.trace.fact(world.tasks.now(), "stuffed", [worker, 0, 0, 0]);
            world.control.stuff(worker);
            world.workers[worker].has_been_sent_to();
        });
        self.trouble(scenario.stall_every, |world| world.control.stall.set(world.tasks.roll(2_000)));
        self.trouble(scenario.crowd_every, |world| {
            let worker = world.tasks.place(world.workers.len());
            (0..world.tasks.roll(60)).for_each(|_| client::send(world, worker));
        });
    }

    /// Makes trouble every so often, until it is over.
    fn trouble(self: &Rc<Self>, every: Millis, make: impl Fn(&Rc<World>) + 'static) {
        if every == 0 {
            return;
        }
        let world = Rc::clone(self);
        self.tasks.spawn(async move {
            loop {
                world.tasks.sleep(world.tasks.roll(2 * every)).await;
                if world.is_calm.get() {
                    return;
                }
                make(&world);
            }
        });
    }

    /// What is real in workers has its effect on those that are not. False when something has failed.
    fn goes_on(&self) -> bool {
        let is_waited = self.workers.iter().any(|worker| worker.shard.stats.level(Level::Queued) > 0);
        let rung: Vec<_> = if is_waited { self.rung() } else { Vec::new() };
        for (me, worker) in self.workers.iter().enumerate() {
            worker.is_roused(rung.get(me).copied().unwrap_or_default());
        }
        self.failure.borrow().is_none()
    }

    /// Whose doorbells have been rung.
    fn rung(&self) -> Vec<bool> {
        let polled = |worker| PollFd::new(Worker::doorbell(worker), PollFlags::IN);
        let mut polled: Vec<_> = self.workers.iter().map(|worker| polled(&**worker)).collect();
        poll(&mut polled, Some(&Timespec::default())).unwrap();
        polled.iter().map(|polled| !polled.revents().is_empty()).collect()
    }

    /// Lets time pass, unless something has failed.
    fn pass(&self, time: Millis) {
        if self.failure.borrow().is_some() {
            return;
        }
        let until = self.tasks.now() + time;
        if let Err(why) = self.tasks.run(until, || self.goes_on()) {
            self.fail(why);
        }
    }
}
