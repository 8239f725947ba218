//! A shard: everything one core owns. It is built on its worker's thread and never leaves it.
//!
//! Sessions share it by `Rc`; what other threads may see are the statistics alone.

mod setup;

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    sync::Arc,
    task::Poll,
};

pub use self::setup::{Denial, Picked, Setup, Wish};
use crate::{
    blueprint::Blueprint,
    cluster::{Cluster, Membership, attempt::Attempt, reports::Reports},
    config::plan::{HeaderPolicy, Timeouts},
    date::DateCache,
    fault::{Fault, Kind},
    health::standing::Standing,
    io::{
        alarm::{self, Alarm, Alarms, Ring},
        buffer::BufferPool,
        pipes::PipePool,
        tray::Tray,
    },
    limits::QUEUE_LOOK,
    relay::flow::Supplies,
    stats::{
        names::{Count, Level},
        view::BackendCells,
        worker::WorkerStats,
    },
};

/// One core's load balancer.
pub struct Shard {
    /// What this worker counts.
    pub stats: Arc<WorkerStats>,
    /// Its buffers.
    pub buffers: Rc<BufferPool>,
    /// Its pipes.
    pub pipes: Rc<PipePool>,
    /// Its deadlines.
    pub alarms: Rc<Alarms>,
    /// Its formatted date.
    pub date: DateCache,
    /// Where heads are rewritten; never held across a wait.
    pub scratch: RefCell<Vec<u8>>,
    /// Where datagrams lie while they are passed on; never held across a wait.
    pub tray: RefCell<Option<Box<Tray>>>,
    /// What control is to hear of its backends.
    pub reports: Rc<Reports>,
    setup: RefCell<Rc<Setup>>,
    /// What was in force before, for what other workers still send by it.
    before: RefCell<Option<Rc<Setup>>>,
    /// Clusters in whose lines somebody may still wait though they are in no plan any more.
    dissolved: RefCell<Vec<Rc<Cluster>>>,
    timeouts: Cell<Timeouts>,
    headers: Cell<HeaderPolicy>,
    /// Its place among the workers, and where rotating selectors start.
    place: (usize, usize),
    /// Rings a while after somebody began to wait for room at a backend.
    second_look: Alarm,
    /// How many calls of other workers were followed.
    calls: Cell<u64>,
    draining: Cell<bool>,
}

impl Shard {
    /// An empty shard of the worker `me`. `offset` makes rotating selectors of different workers and instances start apart.
    pub fn new(
        blueprint: Arc<Blueprint>,
        stats: Arc<WorkerStats>,
        backends: &BackendCells,
        standings: &[Vec<Standing>],
        (me, offset): (usize, usize),
    ) -> io::Result<Rc<Self>> {
        let plan = Arc::clone(&blueprint.plan);
        let reports = Rc::<Reports>::default();
        let made = Made { blueprint: &blueprint, backends, standings, place: (me, offset) };
        let clusters = made.clusters(None, &reports);
        let alarms = Alarms::new()?;
        Ok(Rc::new(Shard {
            buffers: BufferPool::new(Arc::clone(&stats)),
            pipes: PipePool::new(Arc::clone(&stats)),
            second_look: alarms.register(),
            calls: Cell::new(blueprint.bells.calls()),
            alarms,
            date: DateCache::default(),
            scratch: RefCell::new(Vec::with_capacity(4096)),
            setup: RefCell::new(Setup::new(blueprint, clusters, offset)),
            reports,
            before: RefCell::default(),
            dissolved: RefCell::default(),
            timeouts: Cell::new(plan.timeouts),
            headers: Cell::new(plan.headers),
            place: (me, offset),
            tray: RefCell::default(),
            draining: Cell::new(false),
            stats,
        }))
    }

    /// What to balance by now.
    pub fn setup(&self) -> Rc<Setup> {
        Rc::clone(&self.setup.borrow())
    }

    /// The deadlines in force.
    #[inline]
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts.get()
    }

    /// The header policy in force.
    #[inline]
    pub fn headers(&self) -> HeaderPolicy {
        self.headers.get()
    }

    /// Balances by another blueprint from now on. What is in progress goes on where it is.
    pub fn renew(&self, blueprint: Arc<Blueprint>, backends: &BackendCells, standings: &[Vec<Standing>]) {
        let made = Made { blueprint: &blueprint, backends, standings, place: self.place };
        let clusters = made.clusters(Some(&self.setup()), &self.reports);
        self.timeouts.set(blueprint.plan.timeouts);
        self.headers.set(blueprint.plan.headers);
        let old = self.setup.replace(Setup::new(blueprint, clusters, self.place.1));
        let setup = self.setup();
        for gone in old.clusters.iter().filter(|old| !setup.clusters.iter().any(|new| Rc::ptr_eq(old, new))) {
            gone.dissolve();
            self.dissolved.borrow_mut().push(Rc::clone(gone));
        }
        self.before.replace(Some(old));
    }

    /// The setup that knows this listener, and its place in there: the one in force, or the one before.
    pub fn setup_with(&self, listener: &str) -> Option<(Rc<Setup>, usize)> {
        let known = |setup: Rc<Setup>| {
            let place = setup.plan().listeners.iter().position(|known| *known.name == *listener)?;
            Some((setup, place))
        };
        known(self.setup()).or_else(|| known(self.before.borrow().clone()?))
    }

    /// What the relay needs.
    pub fn supplies(&self) -> Supplies<'_> {
        Supplies { buffers: &self.buffers, pipes: &self.pipes, stats: &self.stats }
    }

    /// Counts a failure where it belongs; one that ends with its connection's order to end is counted there. `reused` is
    /// the connection if it had served before.
    pub fn blame(&self, attempt: &Attempt, fault: Fault, reused: bool) {
        if fault.kind != Kind::Cut {
            self.stats.count(fault.counter());
            attempt.failed(fault, reused, alarm::now());
        }
    }

    /// Counts a failure that says nothing of its backend's health.
    pub fn note(&self, attempt: &Attempt, fault: Fault) {
        self.stats.count(fault.counter());
        attempt.backend().count(fault);
    }

    /// Control has told how backends stand.
    pub fn told(&self, news: &[((usize, usize), Standing)]) {
        let (setup, now) = (self.setup(), alarm::now());
        for ((cluster, backend), standing) in news {
            if let Some(cluster) = setup.clusters.get(*cluster) {
                cluster.told(*backend, *standing, now);
            }
        }
    }

    /// True once the worker takes no new work.
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Takes no new work from now on: idle connections close, the others after their exchange.
    pub fn drain(&self) {
        self.draining.set(true);
        self.alarms.rouse(false);
    }

    /// Ends every connection at once.
    pub fn cut(&self) {
        self.draining.set(true);
        self.alarms.rouse(true);
    }

    /// Closes idle upstream connections that are stale or too old.
    pub fn sweep_pools(&self) {
        let oldest = alarm::now().saturating_sub(alarm::millis(self.timeouts().upstream_idle));
        for cluster in &self.setup().clusters {
            cluster.for_each(|backend| {
                let swept = backend.pool().sweep(oldest);
                self.stats.add(Count::UpstreamStale, swept.stale);
                self.stats.add(Count::UpstreamExpired, swept.expired);
            });
            cluster.give_back_idle(false);
        }
        let mut dissolved = self.dissolved.borrow_mut();
        dissolved.retain(|cluster| cluster.is_waited_for());
        dissolved.iter().for_each(|cluster| cluster.give_back_idle(false));
    }

    /// Somebody begins to wait for room at a backend: bells call, and if none does, the alarm that [`Self::watch`] sets.
    pub fn expect_room(&self) {
        if self.stats.level(Level::Queued) <= 1 {
            self.second_look.set(QUEUE_LOOK);
        }
    }

    /// Looks for room as long as somebody waits, whether or not a bell rings, until the worker ends.
    pub async fn watch(self: Rc<Self>) {
        loop {
            let alarm = &self.second_look;
            let rung = alarm.bound(|cx| {
                alarm.attach(cx.waker());
                Poll::<()>::Pending
            });
            if rung.await == Err(Ring::Cut) {
                return;
            }
            alarm.clear();
            self.look();
            if self.stats.level(Level::Queued) > 0 {
                alarm.set(QUEUE_LOOK);
            }
        }
    }

    /// The bell has rung: another worker wants room at a backend, or has left some.
    pub fn look(&self) {
        let (setup, dissolved) = (self.setup(), self.dissolved.borrow());
        let clusters = || setup.clusters.iter().chain(&*dissolved);
        let calls = setup.blueprint.bells.calls();
        if self.calls.replace(calls) != calls {
            clusters().for_each(|cluster| cluster.give_back_idle(true));
        }
        if self.stats.level(Level::Queued) > 0 {
            clusters().for_each(|cluster| cluster.look());
        }
    }
}

/// What a worker's clusters are made from.
struct Made<'a> {
    blueprint: &'a Blueprint,
    backends: &'a BackendCells,
    standings: &'a [Vec<Standing>],
    /// The worker's place among the others, and where rotating selectors start.
    place: (usize, usize),
}

impl Made<'_> {
    /// The clusters; those that were there before under the same name are changed in place.
    fn clusters(&self, before: Option<&Setup>, reports: &Rc<Reports>) -> Vec<Rc<Cluster>> {
        let known = |name: &str| {
            let before = before?;
            let at = before.plan().clusters.iter().position(|cluster| *cluster.name == *name)?;
            before.clusters.get(at).cloned()
        };
        let Blueprint { plan, layouts, accounts, .. } = self.blueprint;
        let (me, offset) = self.place;
        let planned = plan.clusters.iter().zip(layouts).zip(accounts).zip(self.backends).enumerate();
        let build = planned.map(|(place, (((plan, layout), accounts), stats))| {
            let standings = self.standings.get(place).map_or(&[][..], Vec::as_slice);
            let membership = Membership { place, plan, layout, stats, accounts, standings, me, offset };
            match known(&plan.name) {
                Some(cluster) => {
                    cluster.update(&membership);
                    cluster
                }
                None => Cluster::new(&membership, Rc::clone(reports)),
            }
        });
        build.collect()
    }
}
