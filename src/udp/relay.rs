//! A listener's datagrams on one worker: one task that serves the clients' socket and the sockets of all its flows.
//!
//! All these sockets wait in one set, and the ring polls the set: one operation for however many are ready, and none
//! to arm again for each of them. Nothing on a datagram's way allocates, logs or sets a timer once its flow has a
//! session. Dropping a relay closes everything it has open.

use std::{
    cell::{Cell, RefMut},
    collections::VecDeque,
    io,
    os::fd::{AsFd, OwnedFd},
    rc::{Rc, Weak},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use super::{flow::Flow, session::Session, table::Table};
use crate::{
    cluster::attempt::Attempt,
    config::plan::Mode,
    io::{
        alarm::{self, Alarm, Millis, Ring},
        tray::{Burst, Tray},
        watch::Watch,
    },
    limits::{
        TURN_BYTES_MAX, UDP_DRAIN_SILENCE, UDP_EVENTS_MAX, UDP_PROOF, UDP_QUEUE_BYTES, UDP_SESSIONS_MAX,
    },
    shard::{Setup, Shard},
    stats::names::Count,
    sys::{
        option,
        ready_set::{self, Told},
        socket,
    },
};

/// The clients' socket among the tokens of sessions; no session has it.
const CLIENTS: u64 = u64::MAX;

/// Between two looks for sessions whose time is over, at least.
const EXPIRY_PAUSE: Duration = Duration::from_millis(50);

/// One listener on one worker.
pub struct Relay {
    pub(super) shard: Rc<Shard>,
    listener: Arc<str>,
    /// The order to close without the rest of the worker.
    ordered: Rc<Cell<bool>>,
    /// The clients' socket.
    pub(super) clients: OwnedFd,
    /// The set all sockets wait in.
    pub(super) set: Watch,
    pub(super) sessions: Table<Flow, Session>,
    /// Flows that are to show whether an ejected backend is back, and when silence is proof enough: one for each backend
    /// at the most, the earliest first.
    proofs: VecDeque<(Millis, Weak<Attempt>)>,
    pub(super) burst: Burst,
    /// Takes no new flows.
    pub(super) closing: bool,
    /// Bytes received in this turn, and what each datagram weighs besides.
    pub(super) turn_bytes: u64,
    /// Datagrams lost at the clients' socket since it was opened.
    pub(super) lost: u32,
    told: Told,
    /// How many were told last, and how many of them have been served.
    ready: usize,
    served: usize,
    alarm: Alarm,
    alarmed: bool,
}

impl Relay {
    /// Prepares a bound socket. Must run inside the worker's runtime.
    pub fn new(
        shard: Rc<Shard>,
        listener: Arc<str>,
        ordered: Rc<Cell<bool>>,
        clients: OwnedFd,
    ) -> io::Result<Self> {
        let address = socket::local_address(&clients)?;
        if address.ip().is_unspecified() {
            option::tell_destination(&clients, address.is_ipv4())?;
        }
        // It works without these, only not as well.
        let _ = option::tell_losses(&clients);
        let _ = option::put_datagrams_together(&clients);
        let _ = socket::enlarge_queues(&clients, UDP_QUEUE_BYTES);
        let set = ready_set::create()?;
        ready_set::add(&set, &clients, CLIENTS)?;
        Ok(Relay {
            set: Watch::new(set)?,
            sessions: Table::new(UDP_SESSIONS_MAX),
            proofs: VecDeque::new(),
            burst: Burst::default(),
            closing: false,
            turn_bytes: 0,
            lost: 0,
            told: Told::new(UDP_EVENTS_MAX),
            ready: 0,
            served: 0,
            alarm: shard.alarms.register(),
            alarmed: false,
            shard,
            listener,
            ordered,
            clients,
        })
    }

    /// Serves until the worker drains and the last flow has ended. It can be run again after a panic.
    pub async fn run(&mut self) {
        std::future::poll_fn(|cx| {
            self.alarm.attach(cx.waker());
            Poll::Ready(())
        })
        .await;
        loop {
            match self.wait().await {
                Ok(()) => self.turn(),
                Err(Ring::Deadline) => {
                    self.alarm.clear();
                    self.alarmed = false;
                }
                Err(Ring::Cut) => return self.cut(),
            }
            if self.is_told_to_close() && !self.closing {
                (self.closing, self.alarmed) = (true, false);
            }
            self.expire();
            if self.closing && self.sessions.is_empty() {
                return;
            }
        }
    }

    /// Waits for datagrams, for the next session's time to be over, or for an order.
    async fn wait(&mut self) -> Result<(), Ring> {
        let Relay { alarm, set, shard, closing, ordered, .. } = self;
        let poll = |cx: &mut std::task::Context<'_>| match set.poll_readable(cx) {
            Poll::Pending if (shard.is_draining() || ordered.get()) && !*closing => Poll::Ready(()),
            polled => polled,
        };
        alarm.bound(poll).await
    }

    /// Serves whoever is ready, once; those that have more are told again, after the others. What no longer fits into
    /// this turn begins the next one, so that whoever comes first cannot keep the others from theirs.
    fn turn(&mut self) {
        let shard = Rc::clone(&self.shard);
        let (mut tray, now) = (tray(&shard), alarm::now());
        if self.served >= self.ready {
            self.ready = self.told.look(&self.set).unwrap_or(0);
            self.served = 0;
        }
        self.turn_bytes = 0;
        while self.served < self.ready {
            let token = self.told.token(self.served);
            self.served += 1;
            match token {
                Some(CLIENTS) => self.forward(&mut tray, now),
                Some(token) => self.reply(&mut tray, token, now),
                None => {}
            }
            if self.turn_bytes > TURN_BYTES_MAX {
                shard.stats.count(Count::Turns);
                break;
            }
        }
        self.send_replies(&mut tray);
    }

    fn is_told_to_close(&self) -> bool {
        self.shard.is_draining() || self.ordered.get()
    }

    /// What new flows go by now, and the listener's place in it.
    pub(super) fn setup(&self) -> Option<(Rc<Setup>, usize)> {
        self.shard.setup_with(&self.listener)
    }

    /// Where new flows go now.
    pub(super) fn cluster(&self) -> Option<(Rc<Setup>, usize)> {
        let (setup, place) = self.setup()?;
        let cluster = setup.plan().listeners.get(place)?.cluster?;
        Some((setup, cluster))
    }

    /// How long a flow may be silent.
    fn idle(&self) -> Millis {
        let idle = self.shard.timeouts().udp_idle;
        let idle = if self.closing { idle.min(UDP_DRAIN_SILENCE) } else { idle };
        alarm::millis(idle)
    }

    /// Ends the flows that have been silent for too long, and sets the alarm for the next one.
    fn expire(&mut self) {
        if self.alarmed {
            return;
        }
        let (now, idle) = (alarm::now(), self.idle());
        self.prove(now);
        while let Some(session) = self.sessions.expire(idle, now) {
            session.upstream.attempt.stands_trial();
            self.shard.stats.count(Count::UdpSessionsExpired);
            if self.closing {
                self.shard.stats.count(Count::ConnectionsFinished);
            }
        }
        let stale = self.sessions.stalest().map(|(_, used)| used.saturating_add(idle));
        let proven = self.proofs.front().map(|(at, _)| *at);
        if let Some(next) = stale.into_iter().chain(proven).min() {
            let left = Duration::from_millis(next.saturating_sub(now));
            self.alarm.set(left.max(EXPIRY_PAUSE));
            self.alarmed = true;
        }
    }

    /// Looks after a flow that is to show whether its backend is back: many that receive datagrams never answer.
    pub(super) fn await_proof(&mut self, attempt: &Rc<Attempt>, now: Millis) {
        if attempt.is_trial() {
            self.proofs.push_back((now + alarm::millis(UDP_PROOF), Rc::downgrade(attempt)));
            self.alarmed = false;
        }
    }

    /// Backends that have refused nothing for long enough are back.
    fn prove(&mut self, now: Millis) {
        while self.proofs.front().is_some_and(|(at, _)| *at <= now) {
            let attempt = self.proofs.pop_front().and_then(|(_, attempt)| attempt.upgrade());
            attempt.into_iter().for_each(|attempt| attempt.stands_trial());
        }
    }

    /// Ends every flow at once.
    fn cut(&mut self) {
        while self.sessions.evict().is_some() {
            self.shard.stats.count(Count::ConnectionsCut);
        }
    }

    /// Starts again after a panic, without any flow.
    pub fn forget(&mut self) {
        self.sessions = Table::new(UDP_SESSIONS_MAX);
        self.alarmed = false;
        self.alarm.clear();
        *self.shard.tray.borrow_mut() = None;
    }

    /// Makes room for one more flow. The UDP listeners of the plan in force have equal shares of what a worker may have.
    pub(super) fn make_room(&mut self) {
        let setup = self.shard.setup();
        let sharing = setup.plan().listeners.iter().filter(|listener| listener.mode == Mode::Udp).count();
        self.sessions.bound(UDP_SESSIONS_MAX / sharing.max(1));
        while self.sessions.is_full() && self.evict() {}
    }

    /// Makes room by forgetting the flow that was silent longest; false when there is none.
    pub(super) fn evict(&mut self) -> bool {
        let evicted = self.sessions.evict().is_some();
        if evicted {
            self.shard.stats.count(Count::UdpSessionsEvicted);
        }
        evicted
    }

    /// Has the set tell of a session's socket.
    pub(super) fn watch(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
        ready_set::add(&self.set, socket, token)
    }
}

/// The worker's tray, made on first use.
fn tray(shard: &Shard) -> RefMut<'_, Tray> {
    RefMut::map(shard.tray.borrow_mut(), |tray| &mut **tray.get_or_insert_default())
}
