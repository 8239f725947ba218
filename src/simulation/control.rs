//! Control of a run: the real health of all backends, woken, held up and reloaded as the supervisor does it.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeSet, VecDeque},
    rc::Rc,
    sync::Arc,
};

use crossbeam::channel::Receiver;

use super::{check, journal, prober, world::World};
use crate::{
    addr::Endpoint,
    blueprint::Blueprint,
    config::plan::Plan,
    control::{health::Health, orders::Orders},
    health::pulse::Verdict,
    stats::view::View,
    worker::{
        mailbox::{Command, Handle, Renewal},
        run::Event,
    },
};

/// How long a reload takes to look names up and to build tables, at the longest.
const PREPARATION: u64 = 1_000;

/// What a probe has found.
pub(super) struct Finding {
    pub(super) cluster: Arc<str>,
    pub(super) backend: Arc<str>,
    pub(super) endpoints: Arc<[Endpoint]>,
    pub(super) verdict: Verdict,
}

/// All that control has.
pub(super) struct Control {
    pub(super) health: RefCell<Health>,
    pub(super) view: RefCell<View>,
    blueprint: RefCell<Arc<Blueprint>>,
    orders: RefCell<Orders>,
    events: Receiver<(usize, Event)>,
    pub(super) findings: RefCell<VecDeque<Finding>>,
    /// The next plan.
    pub(super) order: RefCell<Option<Plan>>,
    /// The plan before the last one.
    before: RefCell<Arc<Plan>>,
    /// Who has not answered to the last one.
    waiting: RefCell<Option<BTreeSet<usize>>>,
    pub(super) renewals: Cell<usize>,
    /// It is about to be held up for so long.
    pub(super) stall: Cell<u64>,
}

impl Control {
    /// Goes by the plan that all workers have begun with.
    pub(super) fn new(
        health: Health,
        view: View,
        blueprint: Arc<Blueprint>,
        handles: Vec<Handle>,
        events: Receiver<(usize, Event)>,
    ) -> Self {
        Control {
            health: RefCell::new(health),
            before: RefCell::new(Arc::clone(&view.plan)),
            view: RefCell::new(view),
            blueprint: RefCell::new(blueprint),
            orders: RefCell::new(Orders::new(handles)),
            events,
            findings: RefCell::default(),
            order: RefCell::default(),
            waiting: RefCell::default(),
            renewals: Cell::new(0),
            stall: Cell::new(0),
        }
    }

    /// True while not all workers are known to go by the last plan, or while there is another one.
    pub(super) fn is_reloading(&self) -> bool {
        self.waiting.borrow().is_some() || self.order.borrow().is_some()
    }

    /// What all workers share.
    pub(super) fn blueprint(&self) -> Arc<Blueprint> {
        Arc::clone(&self.blueprint.borrow())
    }

    /// How many requests there may be at a backend: the least and the most that workers may go by.
    pub(super) fn limits(&self, name: &str) -> (usize, usize) {
        let limit = |plan: &Plan| {
            let mut backends = plan.clusters.iter().flat_map(|cluster| &cluster.backends);
            let limit = backends.find(|backend| *backend.name == *name).map_or(0, |known| known.max_requests);
            if limit == 0 { usize::MAX } else { limit as usize }
        };
        let now = limit(&self.view.borrow().plan);
        let before = if self.waiting.borrow().is_some() { limit(&self.before.borrow()) } else { now };
        (now.min(before), now.max(before))
    }

    /// Fills a worker's mailbox.
    pub(super) fn stuff(&self, worker: usize) {
        while self.orders.borrow().workers()[worker].send(Command::Told(Vec::new())).is_ok() {}
    }

    /// Lives for ever.
    pub(super) async fn live(world: Rc<World>) {
        let control = &world.control;
        loop {
            let due = control.health.borrow().due();
            let due = due.into_iter().chain(control.orders.borrow().due()).min();
            world.news.wait(&world.tasks, due).await;
            world.tasks.sleep(world.tasks.roll(world.scenario.control_lag + 1) + control.stall.take()).await;
            control.read_events(&world);
            control.read_findings(&world);
            control.publish(&world);
            check::control(&world);
            if control.waiting.borrow().is_none()
                && let Some(plan) = control.order.take()
            {
                Self::reload(&world, plan).await;
                control.publish(&world);
            }
        }
    }

    fn read_events(&self, world: &Rc<World>) {
        while let Ok((worker, event)) = self.events.try_recv() {
            match event {
                Event::Observed(batch) => {
                    for seen in &batch {
                        let flags =
                            usize::from(seen.succeeded) + seen.trial.map_or(0, |end| 2 + 2 * end as usize);
                        let about = [worker, seen.backend, seen.failures as usize, flags];
                        world.trace.fact(world.tasks.now(), "heard of", about);
                    }
                    self.health.borrow_mut().observed(worker, &batch);
                }
                Event::Renewed => {
                    self.health.borrow_mut().renewed(worker);
                    let mut waiting = self.waiting.borrow_mut();
                    let is_last = waiting.as_mut().is_some_and(|waiting| {
                        waiting.remove(&worker);
                        waiting.is_empty()
                    });
                    if is_last {
                        *waiting = None;
                        drop(waiting);
                        world.trace.fact(world.tasks.now(), "reloaded", [0; 4]);
                        let plan = Arc::clone(&self.blueprint.borrow().plan);
                        prober::follow(world, &plan);
                    }
                }
                _ => {}
            }
        }
    }

    fn read_findings(&self, world: &World) {
        for Finding { cluster, backend, endpoints, verdict } in self.findings.take() {
            let (is_alive, reason) = match &verdict {
                Verdict::Up => (true, "its probes succeed"),
                Verdict::Down(reason) => (false, &**reason),
            };
            world.trace.line(world.tasks.now(), format!("found {backend} alive: {is_alive}"));
            self.health.borrow_mut().probed((&cluster, &backend), &endpoints, is_alive, reason);
        }
    }

    fn publish(&self, world: &World) {
        let mut orders = self.orders.borrow_mut();
        orders.deliver(world.tasks.now());
        self.health.borrow_mut().publish(&orders);
        world.workers.iter().for_each(|worker| worker.has_been_sent_to());
        self.read_journal(world);
    }

    fn read_journal(&self, world: &World) {
        for line in journal::take() {
            check::line(world, &line);
            let journal::Line { backend, state, reason } = line;
            world.trace.line(world.tasks.now(), format!("{backend} is {state}: {reason}"));
        }
    }

    /// As the supervisor does it, which does nothing else while it prepares.
    async fn reload(world: &Rc<World>, plan: Plan) {
        let control = &world.control;
        world.tasks.sleep(world.tasks.roll(PREPARATION)).await;
        let blueprint = Arc::new(Blueprint::new(plan, Some(&control.blueprint.borrow())));
        let view = control.view.borrow().renewed(Arc::clone(&blueprint.plan));
        let commands = control.renewals_of(&blueprint, &view);
        world.trace.fact(world.tasks.now(), "reload", [control.renewals.get(), 0, 0, 0]);
        control.read_journal(world);
        control.renewals.set(control.renewals.get() + 1);
        control.waiting.replace(Some((0..world.workers.len()).collect()));
        control.before.replace(Arc::clone(&control.view.replace(view).plan));
        control.blueprint.replace(blueprint);
        control.orders.borrow_mut().give(commands, world.tasks.now());
    }

    /// Health goes by this view from now on, and all workers are to.
    fn renewals_of(&self, blueprint: &Arc<Blueprint>, view: &View) -> Vec<Command> {
        let mut health = self.health.borrow_mut();
        health.renew(view.clone());
        let renewals = view.workers.iter().enumerate().map(|(worker, cells)| {
            let (blueprint, backends) = (Arc::clone(blueprint), cells.backends.clone());
            Command::Renew(Box::new(Renewal { blueprint, backends, standings: health.tell_all(worker) }))
        });
        renewals.collect()
    }
}
