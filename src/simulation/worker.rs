//! A worker of a run: a real shard that reads a real mailbox when it comes to it, and reports as real ones do.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
};

use super::{check, scenario, tasks::Bell, world::World};
use crate::{
    blueprint::Blueprint,
    cluster::backend::Backend,
    health::{board::Place, standing::Standing},
    io::alarm::Millis,
    shard::Shard,
    stats::view::WorkerView,
    sys::doorbell::Doorbell,
    worker::{
        mailbox::{Command, Mailbox, Renewal},
        outbox::Outbox,
        run::Event,
    },
};

/// How long a worker gathers what it tells, as a real one does.
const REPORT_PAUSE: u64 = 5;

/// How often it gives back what it keeps idle, as a real one does.
const POOL_SWEEP: u64 = 1_000;

/// One worker.
pub(super) struct Worker {
    pub(super) me: usize,
    pub(super) shard: Rc<Shard>,
    mailbox: Mailbox,
    bell: Bell,
    /// There may be something in its mailbox.
    pub(super) has_mail: Cell<bool>,
    /// How every backend stands, as it was told last; by their places.
    pub(super) told: RefCell<Vec<Vec<Standing>>>,
    /// How many plans it has gone by before.
    pub(super) renewals: Cell<usize>,
    /// What it has in flight at each backend.
    live: RefCell<HashMap<*const Backend, u32>>,
    outbox: Outbox,
    /// Wakes the task that sweeps its deadlines, when they have changed.
    timer: Bell,
    /// What that task waits for.
    aimed_at: Cell<Millis>,
}

impl Worker {
    /// A worker that has nothing to do yet.
    pub(super) fn new(
        me: usize,
        blueprint: &Arc<Blueprint>,
        view: &WorkerView,
        standings: Vec<Vec<Standing>>,
        mailbox: Mailbox,
        outbox: Outbox,
    ) -> Self {
        let stats = Arc::clone(&view.stats);
        let shard = Shard::new(Arc::clone(blueprint), stats, &view.backends, &standings, (me, me)).unwrap();
        blueprint.bells.hang(me, mailbox.doorbell().clone());
        Worker {
            me,
            shard,
            mailbox,
            bell: Bell::default(),
            has_mail: Cell::new(false),
            told: RefCell::new(standings),
            renewals: Cell::new(0),
            live: RefCell::default(),
            outbox,
            timer: Bell::default(),
            aimed_at: Cell::new(Millis::MAX),
        }
    }

    /// Something has been put into its mailbox.
    pub(super) fn has_been_sent_to(&self) {
        self.has_mail.set(true);
        self.bell.ring();
    }

    /// How a backend stands, as far as it was told.
    pub(super) fn told_of(&self, (cluster, backend): Place) -> Standing {
        self.told.borrow()[cluster][backend]
    }

    /// A request is at a backend from now on, or no longer.
    pub(super) fn counts(&self, backend: &Rc<Backend>, change: i32) {
        let mut live = self.live.borrow_mut();
        let count = live.entry(Rc::as_ptr(backend)).or_default();
        *count = count.checked_add_signed(change).unwrap();
    }

    /// What it has in flight at a backend.
    pub(super) fn live(&self, backend: &Rc<Backend>) -> u32 {
        self.live.borrow().get(&Rc::as_ptr(backend)).copied().unwrap_or_default()
    }

    /// Begins to read its mail and to report.
    pub(super) fn start(world: &Rc<World>, me: usize) {
        let (reader, reporter, timer) = (Rc::clone(world), Rc::clone(world), Rc::clone(world));
        world.tasks.spawn(async move { Self::read_mail(&reader, me).await });
        world.tasks.spawn(async move { Self::report(&reporter, me).await });
        world.tasks.spawn(async move { Self::keep_time(&timer, me).await });
        world.tasks.spawn(Rc::clone(&world.worker(me).shard).watch());
        let sweeper = Rc::clone(world);
        world.tasks.spawn(async move {
            loop {
                sweeper.tasks.sleep(POOL_SWEEP).await;
                sweeper.workers[me].shard.sweep_pools();
            }
        });
    }

    /// It is woken for deadlines that have changed, and, if `is_rung` on its doorbell, to look at its mail.
    pub(super) fn is_roused(&self, is_rung: bool) {
        if self.shard.alarms.due() != self.aimed_at.get() {
            self.aimed_at.set(self.shard.alarms.due());
            self.timer.ring();
        }
        if is_rung {
            self.mailbox.doorbell().silence();
            self.bell.ring();
        }
    }

    /// Its doorbell.
    pub(super) fn doorbell(&self) -> &Doorbell {
        self.mailbox.doorbell()
    }

    /// Wakes those whose deadlines are over.
    async fn keep_time(world: &Rc<World>, me: usize) {
        let worker = world.worker(me);
        let alarms = &worker.shard.alarms;
        loop {
            let due = alarms.due();
            worker.aimed_at.set(due);
            worker.timer.wait(&world.tasks, (due != Millis::MAX).then_some(due)).await;
            if alarms.due() <= world.tasks.now() {
                alarms.sweep(world.tasks.now());
            }
        }
    }

    async fn read_mail(world: &Rc<World>, me: usize) {
        let worker = world.worker(me);
        loop {
            worker.bell.wait(&world.tasks, None).await;
            world.tasks.sleep(world.tasks.roll(world.scenario.mail_lag + 1)).await;
            worker.has_mail.set(false);
            while let Some(command) = worker.mailbox.next() {
                worker.follow(world, command);
            }
            worker.shard.look();
            check::worker(world, &worker);
        }
    }

    fn follow(&self, world: &World, command: Command) {
        match command {
            Command::Told(news) => {
                world.trace.fact(world.tasks.now(), "told", [self.me, news.len(), 0, 0]);
                for ((cluster, backend), standing) in &news {
                    self.told.borrow_mut()[*cluster][*backend] = *standing;
                    world.trace.fact(
                        world.tasks.now(),
                        "told of",
                        [self.me, *cluster, *backend, *standing as usize],
                    );
                }
                self.shard.told(&news);
            }
            Command::Renew(renewal) => {
                let Renewal { blueprint, backends, standings } = *renewal;
                self.shard.renew(blueprint, &backends, &standings);
                self.told.replace(standings);
                self.renewals.set(self.renewals.get() + 1);
                world.trace.fact(world.tasks.now(), "renewed", [self.me, 0, 0, 0]);
                self.outbox.tell(Event::Renewed);
                world.news.ring();
            }
            _ => {}
        }
    }

    async fn report(world: &Rc<World>, me: usize) {
        let worker = world.worker(me);
        loop {
            worker.shard.reports.wait().await;
            worker.shard.reports.flush(|batch| {
                let count = batch.len();
                let sent = worker.outbox.report(batch);
                world.trace.fact(world.tasks.now(), "reports", [me, count, usize::from(sent), 0]);
                sent
            });
            world.news.ring();
            world.tasks.sleep(REPORT_PAUSE).await;
        }
    }

    /// The numbers of a backend, which are the same whatever its place.
    pub(super) fn numbers(backend: &Backend) -> (usize, usize) {
        scenario::numbers_of(backend.name())
    }
}
