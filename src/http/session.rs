//! A client's HTTP connection: one head after the other, each answered by one exchange, in order.
//!
//! Runs as one task on one worker. Between two requests it holds no buffer. Dropping it closes the connection.

use std::{future::poll_fn, io, rc::Rc, task::Poll};

use super::{
    reply::Reply,
    scan::{Found, Scan, ScanError},
    slots::Slots,
};
use crate::{
    admission::door::Pass,
    io::{
        alarm::{Alarm, Ring},
        buffer::Buffer,
        parting, ready,
        stream::Stream,
    },
    limits::EXCHANGES_PER_TURN_MAX,
    listener::{
        client::Client,
        connection::{Connection, admit},
        introduction::{self, Introduction},
    },
    shard::{Setup, Shard},
    stats::{
        names::{Count, Refusal},
        worker::Held,
    },
};

/// What becomes of the connection after an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The next request may come.
    KeepAlive,
    /// Everything was read and answered: close.
    Close,
    /// The client may still be sending: let it take the answer first.
    Linger,
    /// What was sent must not look complete: reset.
    Abort,
}

/// One client connection.
pub struct Session {
    /// The worker's shard.
    pub shard: Rc<Shard>,
    /// The connection.
    pub client: Stream,
    /// Bytes received and not used yet: part of a head, or requests sent ahead.
    pub inbox: Option<Buffer>,
    /// The connection's deadline.
    pub alarm: Alarm,
    /// What the exchange in progress goes by.
    pub setup: Rc<Setup>,
    /// Where the client came in, by its place in that setup's plan.
    pub listener: usize,
    /// That listener is not in force any more: the connection ends when it can.
    leaving: bool,
    /// Who that client is.
    pub origin: Client,
    /// It comes by way of a proxy that says so first.
    awaits_introduction: bool,
    /// Its address in text; empty when there is none.
    pub peer: Box<str>,
    slots: Rc<Slots>,
    /// Exchanges since this task last waited for a request.
    in_a_row: u32,
    _open: Held,
    /// Counts the connection for its client.
    pass: Pass,
}

// Most of what an idle connection costs; the allocator's next size is 256 bytes.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Session>() <= 224);

/// What came instead of a head.
enum NoHead {
    /// Nothing, and nothing is owed.
    Closed,
    /// Something that gets an answer.
    Refused(Refusal),
}

impl Session {
    /// A session on a fresh connection, which counts as open from now on. It lives in a box, so that the futures
    /// it passes through stay small: an idle connection costs little more than this.
    pub fn new(connection: Connection, slots: Rc<Slots>) -> Box<Self> {
        let awaits_introduction = connection.awaits_introduction();
        let Connection { shard, setup, listener, stream, alarm, client, open, pass } = connection;
        let mut session = Session {
            shard,
            client: stream,
            inbox: None,
            alarm,
            setup,
            listener,
            leaving: false,
            origin: client,
            awaits_introduction,
            peer: Box::default(),
            slots,
            in_a_row: 0,
            _open: open,
            pass,
        };
        session.identify(client);
        Box::new(session)
    }

    /// Keeps what requests and upstream connections say of the client.
    fn identify(&mut self, client: Client) {
        self.origin = client;
        self.peer = client.source.map(|source| source.ip().to_string()).unwrap_or_default().into();
    }

    /// Goes by what is in force now. Cheap when nothing has changed.
    fn refresh(&mut self) {
        let setup = self.shard.setup();
        if Rc::ptr_eq(&setup, &self.setup) {
            return;
        }
        let name = self.setup.plan().listeners.get(self.listener).map(|listener| &listener.name);
        let place = setup.plan().listeners.iter().position(|listener| Some(&listener.name) == name);
        // Without a listener the old setup serves the last exchange.
        self.leaving = place.is_none();
        if let Some(place) = place {
            (self.setup, self.listener) = (setup, place);
        }
    }

    /// True when no other exchange may follow.
    pub fn is_leaving(&self) -> bool {
        self.leaving || self.shard.is_draining()
    }

    /// The proxy in front says who the client is. False when it does not, and nothing can be believed, or when that client
    /// may not come in.
    async fn introduce(&mut self) -> bool {
        let limit = self.shard.timeouts().head;
        let read = introduction::read(&mut self.client, &self.alarm, limit, &self.shard).await;
        let Some(Introduction { header, rest }) = read else { return false };
        self.identify(self.origin.introduced(header));
        self.inbox = rest;
        let Some(pass) = admit(&self.shard, &self.setup, self.listener, self.origin) else {
            self.client.abort();
            return false;
        };
        self.pass = pass;
        true
    }

    /// Serves the connection to its end.
    pub async fn run(mut self: Box<Self>) {
        poll_fn(|cx| {
            self.alarm.attach(cx.waker());
            Poll::Ready(())
        })
        .await;
        if self.awaits_introduction && !Box::pin(self.introduce()).await {
            return;
        }
        let mut first = true;
        let next = loop {
            let next = match self.head(first).await {
                Ok(found) => {
                    self.refresh();
                    let slots = Rc::clone(&self.slots);
                    let mut slot = slots.take();
                    slot.as_mut().start((self, found));
                    let next;
                    (self, next) = poll_fn(|cx| slot.as_mut().poll_done(cx)).await;
                    slots.put(slot);
                    next
                }
                Err(NoHead::Closed) => Next::Close,
                // Rare, so its state is not carried by every connection.
                Err(NoHead::Refused(why)) => {
                    let head_only = self.is_head_request();
                    Box::pin(self.refuse(why, head_only)).await
                }
            };
            if next != Next::KeepAlive {
                break next;
            }
            first = false;
            self.in_a_row += 1;
            if self.in_a_row >= EXCHANGES_PER_TURN_MAX {
                // Requests sent ahead may never make this task wait; others, timers and orders get their turn.
                self.give_way().await;
            }
        };
        self.inbox = None;
        match next {
            Next::KeepAlive | Next::Close => {}
            Next::Linger => {
                let Session { client, alarm, shard, .. } = &mut *self;
                Box::pin(parting::linger(client, alarm, &shard.buffers)).await;
            }
            Next::Abort => self.client.abort(),
        }
    }

    /// Waits for a complete head: the first one of a connection is expected at once.
    async fn head(&mut self, first: bool) -> Result<Found, NoHead> {
        let mut scan = Scan::default();
        let timeouts = self.shard.timeouts();
        self.alarm.set(if first { timeouts.head } else { timeouts.client_idle });
        if self.inbox.is_none() && !first {
            self.first_bytes().await?;
        }
        let mut timed = first;
        loop {
            if self.alarm.rung() == Some(Ring::Cut) {
                return Err(NoHead::Closed);
            }
            if let Some(inbox) = &self.inbox {
                match scan.advance(inbox.filled()) {
                    Ok(Some(found)) => return Ok(found),
                    Ok(None) => {}
                    Err(error) => return Err(NoHead::Refused(refusal(error))),
                }
                if !timed && !inbox.is_empty() {
                    self.alarm.set(self.shard.timeouts().head);
                    timed = true;
                }
            }
            match self.receive() {
                Ok(0) => return Err(self.gone()),
                Ok(count) => {
                    self.shard.stats.add(Count::ClientReceivedBytes, count as u64);
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(self.gone()),
            }
            // Out here, so that what was matched is not kept while it waits.
            self.more_bytes().await?;
        }
    }

    /// Lets others run, by way of the ring. A client that takes no answers is waited for here, for a while.
    async fn give_way(&mut self) {
        self.in_a_row = 0;
        self.alarm.set(self.shard.timeouts().head);
        let (client, mut given) = (&mut self.client, false);
        // What rings here rings again where the next head is waited for.
        let waited = self.alarm.bound(|cx| {
            if std::mem::replace(&mut given, true) {
                return client.poll_writable(cx);
            }
            ready::give_way(cx);
            Poll::Pending
        });
        let _ = waited.await;
    }

    /// True when what has come of the request says HEAD: its answer must have no content (RFC 9110 section 9.3.2).
    pub fn is_head_request(&self) -> bool {
        let start = self.inbox.as_ref().map(|inbox| inbox.filled().trim_ascii_start());
        start.is_some_and(|start| start.starts_with(b"HEAD "))
    }

    /// Receives into the inbox; one that stays empty is given back.
    pub fn receive(&mut self) -> io::Result<usize> {
        let mut inbox = self.inbox.take().unwrap_or_else(|| self.shard.buffers.take_small());
        inbox.enlarge_when_full();
        let outcome = self.client.receive(inbox.space());
        if let Ok(count) = outcome {
            inbox.grow(count);
        }
        self.inbox = Some(inbox).filter(|inbox| !inbox.is_empty());
        outcome
    }

    /// The client has left, perhaps in the middle of a head.
    fn gone(&self) -> NoHead {
        if self.inbox.is_some() {
            self.shard.stats.count(Count::FaultClientAborted);
        }
        NoHead::Closed
    }

    /// Idle: waits for a request to begin, for the idle time or a shutdown.
    async fn first_bytes(&mut self) -> Result<(), NoHead> {
        self.in_a_row = 0;
        let waited = poll_fn(|cx| match self.alarm.rung() {
            Some(ring) => Poll::Ready(Err(ring)),
            None => match self.client.poll_readable(cx) {
                Poll::Pending => {
                    // Somebody may have been told to look again.
                    self.refresh();
                    if self.is_leaving() { Poll::Ready(Ok(false)) } else { Poll::Pending }
                }
                Poll::Ready(()) => Poll::Ready(Ok(true)),
            },
        });
        match waited.await {
            Ok(true) => Ok(()),
            Ok(false) | Err(Ring::Cut) => Err(NoHead::Closed),
            Err(Ring::Deadline) => {
                self.shard.stats.count(Count::IdleTimeouts);
                Err(NoHead::Closed)
            }
        }
    }

    /// Waits for more of a head that has begun (or for the first one of a connection).
    async fn more_bytes(&mut self) -> Result<(), NoHead> {
        if self.inbox.is_none() {
            return self.first_bytes().await;
        }
        let client = &mut self.client;
        match self.alarm.bound(|cx| client.poll_readable(cx)).await {
            Ok(()) => Ok(()),
            Err(Ring::Cut) => Err(NoHead::Closed),
            Err(Ring::Deadline) => Err(NoHead::Refused(Refusal::HeadTimeout)),
        }
    }

    /// Counts and answers a request that goes nowhere.
    pub async fn refuse(&mut self, why: Refusal, head_only: bool) -> Next {
        self.shard.stats.refuse(why);
        self.reply(Reply::new(why.status()), head_only).await
    }

    /// Answers for the backends and ends the connection.
    pub async fn reply(&mut self, reply: Reply, head_only: bool) -> Next {
        let mut bytes = Vec::new();
        reply.write(&mut bytes, false, head_only, &self.shard.date);
        self.shard.stats.response(reply.status);
        self.shard.stats.count(Count::LocalReplies);
        match self.send(&bytes).await {
            Ok(()) => Next::Linger,
            Err(()) => Next::Abort,
        }
    }

    /// Sends a few bytes of our own.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), ()> {
        let limit = self.shard.timeouts().head;
        let outcome = parting::send(&mut self.client, bytes, &self.alarm, limit).await;
        let (Ok(sent) | Err(sent)) = outcome;
        self.shard.stats.add(Count::ClientSentBytes, sent as u64);
        outcome.map(|_| ()).map_err(|_| ())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // What speaks for this client is of no use to another one.
        let Some(client) = self.origin.source else { return };
        let clusters = self.setup.plan().clusters.iter().zip(&self.setup.clusters);
        for (_, cluster) in clusters.filter(|(plan, _)| plan.send_proxy.is_some()) {
            cluster.for_each(|backend| backend.pool().forget(client));
        }
    }
}

fn refusal(error: ScanError) -> Refusal {
    match error {
        ScanError::BareLineFeed => Refusal::BareLineFeed,
        ScanError::StartLineTooLong => Refusal::RequestLineTooLong,
        ScanError::TooLarge => Refusal::HeadTooLarge,
    }
}
