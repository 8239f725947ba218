//! A worker's life: pin, build the ring, listen, serve, drain, end.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    io, mem,
    net::SocketAddr,
    os::fd::OwnedFd,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use crossbeam::channel::TrySendError;
use monoio::{IoUringDriver, RuntimeBuilder};

use super::{
    contain::contain,
    listening::Listening,
    mailbox::{Command, Handle, Mailbox, Renewal},
    outbox::Outbox,
};
use crate::{
    blueprint::Blueprint,
    config::plan::Mode,
    health::standing::{Observation, Standing},
    http::{self, slots::Slots},
    io::{alarm, readiness, ready, stream::Stream, watch::Watch},
    listener::{connection::Connection, spread},
    shard::Shard,
    stats::{
        names::{Count, Level},
        view::BackendCells,
    },
    sys::{descriptor_table, mask, ring::RingFlags},
    tcp,
};

/// How often idle upstream connections are looked through.
const POOL_SWEEP: Duration = Duration::from_secs(1);

/// How long a worker gathers what it tells control of its backends. The first news after a pause go at once.
const REPORT_PAUSE: Duration = Duration::from_millis(5);

/// What a worker tells control.
#[derive(Debug)]
pub enum Event {
    /// It listens.
    Ready,
    /// It balances by the plan it was sent last.
    Renewed,
    /// This is what it has seen of its backends.
    Observed(Vec<Observation>),
    /// It drains, accepts no more and has no connection. Another worker may still hand it one.
    Ended,
    /// It could not start, or its ring failed.
    Failed(String),
}

/// Everything a worker starts with.
pub struct Start {
    /// Its place among the workers.
    pub worker: usize,
    /// The core to run on.
    pub core: usize,
    /// The shared blueprint.
    pub blueprint: Arc<Blueprint>,
    /// Its cells of all backends.
    pub backends: BackendCells,
    /// How its backends stand, in the same order.
    pub standings: Vec<Vec<Standing>>,
    /// Its ring's flags.
    pub flags: RingFlags,
    /// How many listening sockets it will be given before it is ready.
    pub sockets: usize,
    /// Its mailbox.
    pub mailbox: Mailbox,
    /// All workers, itself included, in order.
    pub peers: Vec<Handle>,
    /// Where rotating selectors start.
    pub offset: usize,
    /// Where events go.
    pub outbox: Outbox,
}

/// Starts the thread.
pub fn spawn(start: Start) -> io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name(format!("worker-{}", start.worker)).spawn(move || {
        let outbox = start.outbox.clone();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(start)));
        let why = match outcome {
            Ok(Ok(never)) => match never {},
            Ok(Err(error)) => error.to_string(),
            Err(_) => "internal error (panic) outside a connection".to_owned(),
        };
        // Control reads until every worker has ended, so there is always room for a last word.
        outbox.tell(Event::Failed(why));
    })
}

fn run(start: Start) -> io::Result<Infallible> {
    if !core_affinity::set_for_current(core_affinity::CoreId { id: start.core }) {
        return Err(io::Error::other(format!("cannot pin worker {} to core {}", start.worker, start.core)));
    }
    mask::leave_signals()?;
    let peers = start.peers.iter().flat_map(Handle::descriptors);
    let kept = peers.chain(start.mailbox.descriptors()).chain(start.outbox.descriptors());
    // Where it is forbidden, the table is shared, and everything goes on a little slower.
    let _ = descriptor_table::separate(kept);
    let builder = RuntimeBuilder::<IoUringDriver>::new().uring_builder(start.flags.builder());
    builder.build()?.block_on(Worker::live(start))
}

/// A worker's tasks share this.
pub(super) struct Worker {
    me: usize,
    pub(super) shard: Rc<Shard>,
    slots: Rc<Slots>,
    peers: Vec<Handle>,
    pub(super) mailbox: Mailbox,
    /// The shutdown's time is over.
    cut: Cell<bool>,
    /// Listeners that still accept.
    pub(super) listening: Cell<usize>,
    /// Those listeners, until the worker drains.
    pub(super) listeners: RefCell<Vec<Listening>>,
    /// Descriptors that are kept for what a new listener needs beside its socket: it is opened whatever the clients take.
    pub(super) spare: RefCell<Vec<OwnedFd>>,
}

impl Worker {
    async fn live(start: Start) -> io::Result<Infallible> {
        let stats = start.peers.get(start.worker).map(|handle| Arc::clone(&handle.stats));
        let stats = stats.ok_or_else(|| io::Error::other("a worker without statistics"))?;
        let place = (start.worker, start.offset);
        let shard = Shard::new(start.blueprint, stats, &start.backends, &start.standings, place)?;
        shard.setup().blueprint.bells.hang(start.worker, start.mailbox.doorbell().clone());
        let worker = Rc::new(Worker {
            me: start.worker,
            shard,
            slots: Slots::new(),
            peers: start.peers,
            mailbox: start.mailbox,
            cut: Cell::new(false),
            listening: Cell::new(0),
            listeners: RefCell::default(),
            spare: RefCell::default(),
        });
        worker.lay_by();
        worker.keep_time()?;
        let (outbox, news) = (start.outbox.clone(), ready::watch()?);
        monoio::spawn(async move {
            let Err(error) = news.await;
            outbox.tell(Event::Failed(format!("lost its connections: {error}")));
        });
        worker.sweep_pools();
        worker.report(start.outbox.clone());
        monoio::spawn(Rc::clone(&worker.shard).watch());
        let bell = Watch::new(worker.mailbox.doorbell().duplicate()?)?;
        worker.read_mail(bell, start.sockets, |event| start.outbox.tell(event)).await
    }

    /// The one timer: sweeps the deadlines.
    fn keep_time(&self) -> io::Result<()> {
        let alarms = Rc::clone(&self.shard.alarms);
        let mut timer = Watch::new(alarms.timer().duplicate()?)?;
        monoio::spawn(async move {
            loop {
                timer.readable().await;
                alarms.sweep(alarm::now());
            }
        });
        Ok(())
    }

    /// Closes what has become stale in the pools, and publishes the ring's counter.
    fn sweep_pools(self: &Rc<Self>) {
        let worker = Rc::clone(self);
        monoio::spawn(async move {
            let shard = &worker.shard;
            let alarm = shard.alarms.register();
            loop {
                alarm.set(POOL_SWEEP);
                let waited = alarm.bound(|cx| {
                    alarm.attach(cx.waker());
                    Poll::<()>::Pending
                });
                if waited.await == Err(alarm::Ring::Cut) {
                    return;
                }
                shard.sweep_pools();
                if worker.mailbox.is_held_up() {
                    worker.mailbox.doorbell().ring();
                }
                shard.stats.add(Count::RingPolls, readiness::take_fired());
                shard.stats.add(Count::ReadyNews, ready::take_news());
            }
        });
    }

    /// Tells control what was seen of backends, in batches.
    fn report(&self, outbox: Outbox) {
        let shard = Rc::clone(&self.shard);
        monoio::spawn(async move {
            let alarm = shard.alarms.register();
            loop {
                shard.reports.wait().await;
                // A full queue keeps them for the next time.
                shard.reports.flush(|batch| outbox.report(batch));
                alarm.set(REPORT_PAUSE);
                let waited = alarm.bound(|cx| {
                    alarm.attach(cx.waker());
                    Poll::<()>::Pending
                });
                if waited.await == Err(alarm::Ring::Cut) {
                    return;
                }
            }
        });
    }

    /// Serves a fresh connection here, or hands it to a worker that has much less to do.
    pub(super) fn place(
        self: &Rc<Self>,
        listener: &Arc<str>,
        for_all: bool,
        connection: OwnedFd,
        peer: Option<SocketAddr>,
    ) {
        let loads = self.peers.iter().map(Handle::load);
        let chosen = spread::choose(self.me, for_all, loads);
        let command = Command::Serve { listener: Arc::clone(listener), connection, peer };
        let refused = match self.peers.get(chosen).filter(|_| chosen != self.me && !self.shard.is_draining())
        {
            Some(handle) => handle.send(command).err().map(TrySendError::into_inner),
            None => Some(command),
        };
        match refused {
            Some(Command::Serve { connection, .. }) => self.serve(listener, connection, peer),
            _ => self.shard.stats.count(Count::ConnectionsHandedOver),
        }
    }

    /// Starts a connection's task.
    fn serve(self: &Rc<Self>, listener: &str, connection: OwnedFd, peer: Option<SocketAddr>) {
        let Some((setup, place)) = self.shard.setup_with(listener) else { return };
        let Some(mode) = setup.plan().listeners.get(place).map(|plan| plan.mode) else { return };
        let Ok(stream) = Stream::new(connection) else { return };
        let open = self.shard.stats.hold(Level::ConnectionsActive);
        let mut connection = Connection::new(Rc::clone(&self.shard), setup, place, stream, peer, open);
        if !connection.awaits_introduction() && !connection.admit() {
            return connection.stream.abort();
        }
        match mode {
            Mode::Http => self.spawn(http::session::Session::new(connection, Rc::clone(&self.slots)).run()),
            Mode::Tcp => self.spawn(tcp::session::Session::new(connection).run()),
            // Datagrams have no connections.
            Mode::Udp => {}
        }
    }

    /// Runs a connection's task behind its wall.
    fn spawn(self: &Rc<Self>, session: impl Future<Output = ()> + 'static) {
        let worker = Rc::clone(self);
        monoio::spawn(contain(session).then(move |outcome| {
            if outcome.is_err() {
                worker.shard.stats.count(Count::ConnectionPanics);
            }
            worker.ended();
        }));
    }

    /// Balances by another plan: connections go on where they are, listeners that are not in it close.
    fn renew(&self, renewal: Renewal) {
        self.shard.renew(renewal.blueprint, &renewal.backends, &renewal.standings);
        let setup = self.shard.setup();
        self.listeners.borrow_mut().retain_mut(|listening| listening.renew(&setup.plan().listeners));
        self.shard.alarms.rouse(false);
    }

    /// A connection has ended.
    fn ended(&self) {
        if self.shard.is_draining() {
            let how = if self.cut.get() { Count::ConnectionsCut } else { Count::ConnectionsFinished };
            self.shard.stats.count(how);
            self.mailbox.doorbell().ring();
        }
    }

    /// Follows commands until the process ends, and tells whenever nothing is left to do while draining: another
    /// worker, not drained yet, may still hand a connection over after that, and closed connections still need the
    /// ring.
    async fn read_mail(
        self: &Rc<Self>,
        mut bell: Watch,
        mut awaited: usize,
        tell: impl Fn(Event),
    ) -> io::Result<Infallible> {
        let (mut ready, mut told) = (false, false);
        loop {
            if awaited == 0 && !mem::replace(&mut ready, true) {
                tell(Event::Ready);
            }
            bell.readable().await;
            self.mailbox.doorbell().silence();
            while let Some(command) = self.mailbox.next() {
                match command {
                    Command::Serve { listener, connection, peer } => {
                        self.shard.stats.count(Count::ConnectionsReceived);
                        self.serve(&listener, connection, peer);
                    }
                    Command::Renew(renewal) => {
                        self.renew(*renewal);
                        tell(Event::Renewed);
                    }
                    Command::Told(news) => self.shard.told(&news),
                    // A reload may still be on its way when the end begins.
                    Command::Listen(_) if self.shard.is_draining() => {}
                    Command::Listen(sockets) => {
                        awaited = awaited.saturating_sub(sockets.len());
                        self.spare.borrow_mut().clear();
                        sockets.into_iter().try_for_each(|socket| self.listen(socket))?;
                        self.lay_by();
                    }
                    Command::Drain => {
                        self.listeners.borrow_mut().clear();
                        self.shard.drain();
                        self.mailbox.doorbell().ring();
                    }
                    Command::Cut => {
                        self.cut.set(true);
                        self.shard.cut();
                        self.mailbox.doorbell().ring();
                    }
                }
            }
            self.shard.look();
            let idle = self.listening.get() == 0
                && self.shard.stats.level(Level::ConnectionsActive) == 0
                && !self.mailbox.is_held_up();
            let ended = self.shard.is_draining() && idle;
            if ended && !told {
                tell(Event::Ended);
            }
            told = ended;
        }
    }
}
