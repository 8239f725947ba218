//! A client's TCP connection: a backend is chosen for it once, then both are relayed into each other to their ends.
//!
//! Runs as one task on one worker. While both sides are silent it holds no buffer and no pipe. Dropping it closes
//! both connections.

use std::{
    future::poll_fn,
    io,
    rc::Rc,
    task::{Context, Poll},
    time::Instant,
};

use crate::{
    cluster::attempt::Attempt,
    fault::{Fault, Kind, Phase, Side},
    io::{
        alarm::{self, Alarm, Ring},
        buffer::Buffer,
        parting,
    },
    listener::{
        connection::{Connection, greeting},
        introduction::{self, Introduction},
    },
    relay::{
        body::Body,
        flow::Flow,
        tunnel::{Ended, Tunnel},
    },
    shard::{Setup, Shard},
    stats::names::{Count, Level},
    upstream::{
        connect::{Call, connect},
        lease::Lease,
        placing::{Course, Seeker, Unplaced},
        retry::Verdict,
    },
};

impl Seeker for Connection {
    fn shard(&self) -> &Rc<Shard> {
        &self.shard
    }

    fn setup(&self) -> &Rc<Setup> {
        &self.setup
    }

    fn alarm(&self) -> &Alarm {
        &self.alarm
    }

    fn has_left(&mut self, cx: &mut Context<'_>) -> bool {
        // What it has said and that it has nothing more to say is for the backend; only a broken connection is over.
        self.stream.poll_over(cx).is_ready()
    }
}

/// A tunnel that can begin.
struct Opened {
    attempt: Attempt,
    lease: Lease,
    /// What the client has said before there was a backend to tell it; boxed, since it is there for a moment only.
    ahead: Option<Box<Buffer>>,
}

/// One client connection.
pub struct Session {
    connection: Connection,
    begun: Instant,
    /// What its tunnel is made of, once there is one.
    opened: Option<Opened>,
}

impl Session {
    /// A session on a fresh connection. It lives in a box, so that the futures it passes through stay small.
    pub fn new(connection: Connection) -> Box<Self> {
        Box::new(Session { connection, begun: Instant::now(), opened: None })
    }

    /// Serves the connection to its end.
    pub async fn run(mut self: Box<Self>) {
        poll_fn(|cx| {
            self.connection.alarm.attach(cx.waker());
            Poll::Ready(())
        })
        .await;
        // What happens once must not weigh on a tunnel that lives for hours.
        self.opened = Box::pin(self.open()).await;
        match self.tunnel().await {
            None | Some(Ended::Properly) => {}
            Some(ended) => Box::pin(self.part(ended)).await,
        }
        self.connection.shard.stats.total_time.record(self.begun.elapsed().as_micros() as u64);
    }

    /// Learns who the client is, and connects to a backend. `None` when that has come to nothing.
    async fn open(&mut self) -> Option<Opened> {
        let mut ahead = None;
        if self.connection.awaits_introduction() {
            let Connection { shard, stream, alarm, client, .. } = &mut self.connection;
            let limit = shard.timeouts().head;
            let Introduction { header, rest } = introduction::read(stream, alarm, limit, shard).await?;
            *client = client.introduced(header);
            ahead = rest.map(Box::new);
            if !self.connection.admit() {
                self.connection.stream.abort();
                return None;
            }
        }
        if ahead.is_none() {
            ahead = self.first_bytes().ok()?.map(Box::new);
        }
        match self.connect(ahead.is_some()).await {
            Ok((attempt, lease)) => Some(Opened { attempt, lease, ahead }),
            // Everything ends, or the client has gone away.
            Err(Kind::Cut | Kind::Died) => {
                self.connection.stream.abort();
                None
            }
            Err(_) => {
                self.refuse().await;
                None
            }
        }
    }

    /// What the client has said already; mostly it has, as it has waited to be accepted.
    fn first_bytes(&mut self) -> io::Result<Option<Buffer>> {
        let Connection { shard, stream, .. } = &mut self.connection;
        let mut buffer = shard.buffers.take_small();
        match stream.receive(buffer.space()) {
            Ok(count) => {
                buffer.grow(count);
                shard.stats.add(Count::ClientReceivedBytes, count as u64);
                Ok(Some(buffer).filter(|buffer| !buffer.is_empty()))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => {
                shard.stats.count(Count::FaultClientAborted);
                stream.abort();
                Err(error)
            }
        }
    }

    /// Tries one backend after the other. `speaks_first` when bytes of the client are at hand.
    async fn connect(&mut self, speaks_first: bool) -> Result<(Attempt, Lease), Kind> {
        let missing = Fault::upstream(Phase::Connect, Kind::Missing);
        let setup = Rc::clone(&self.connection.setup);
        let cluster = self.connection.plan().and_then(|plan| plan.cluster).ok_or(missing.kind)?;
        let plan = setup.plan().clusters.get(cluster).ok_or(missing.kind)?;
        let source = self.connection.client.source.map(|source| source.ip());
        let mut course = Course::new(&setup, setup.wish_of(cluster, source, alarm::now()));
        let mut refused = false;
        loop {
            let picked = course.place(&mut self.connection).await;
            let Connection { shard, stream, alarm, client, .. } = &self.connection;
            let attempt = match picked {
                Ok(picked) => picked.attempt,
                Err(Unplaced::Over(fault)) => return Err(fault.kind),
                Err(Unplaced::Full) => return Err(Kind::Full),
                Err(Unplaced::Nobody) => {
                    shard.stats.count(missing.counter());
                    return Err(missing.kind);
                }
            };
            if refused {
                shard.stats.count(Count::RetriesConnect);
            }
            let Some(seat) = attempt.backend().seat() else {
                course.excuse();
                continue;
            };
            let greeting = greeting(plan, *client, stream);
            let call = Call { alarm, timeout: shard.timeouts().connect, greeting: &greeting, speaks_first };
            let fault = match connect(&attempt, call).await {
                Ok(upstream) => {
                    // There is nothing else to see from here.
                    attempt.succeeded();
                    let backend = Rc::clone(attempt.backend());
                    return Ok((attempt, Lease::new((upstream, seat), backend, false)));
                }
                Err(fault) => fault,
            };
            shard.blame(&attempt, fault, false);
            if fault.is_local() {
                return Err(fault.kind);
            }
            refused = true;
            let verdict = course.permit(Verdict::Elsewhere(503), fault, &attempt, shard);
            if verdict != Verdict::Elsewhere(503) {
                shard.stats.count(missing.counter());
                return Err(missing.kind);
            }
        }
    }

    /// Says why nobody answers, if there is anything to say.
    async fn refuse(&mut self) {
        let Connection { shard, setup, listener, stream, alarm, .. } = &mut self.connection;
        shard.stats.count(Count::TunnelsRefused);
        let text = setup.plan().listeners.get(*listener).map(|plan| &*plan.down_text).unwrap_or_default();
        let outcome = parting::send(stream, text.as_bytes(), alarm, shard.timeouts().head).await;
        let (Ok(sent) | Err(sent)) = outcome;
        shard.stats.add(Count::ClientSentBytes, sent as u64);
        parting::linger(stream, alarm, &shard.buffers).await;
    }

    /// Relays until both sides have ended, holding no more than it needs: this is what an idle tunnel is made of. `None`
    /// when it cannot begin.
    async fn tunnel(&mut self) -> Option<Ended> {
        let Connection { shard, stream: client, alarm, .. } = &mut self.connection;
        let Opened { lease, ahead, .. } = self.opened.as_mut()?;
        #[cfg(debug_assertions)]
        ahead.iter().for_each(|ahead| panic_on_greeting(ahead.filled()));
        let up = upward(ahead.take())?;
        let (upstream, backend) = lease.parts()?;
        shard.stats.count(Count::Tunnels);
        let _held = shard.stats.hold_here(Level::TunnelsActive);
        let timeouts = shard.timeouts();
        let mut tunnel = Tunnel {
            client,
            upstream,
            up,
            down: Flow::silent(Body::UntilEnd),
            alarm,
            idle: alarm::millis(timeouts.tunnel_idle),
            last_words: alarm::millis(timeouts.last_words),
            supplies: shard.supplies(),
            backend: backend.stats(),
        };
        Some(tunnel.run().await)
    }

    /// What becomes of the connections when a tunnel did not end properly.
    async fn part(&mut self, ended: Ended) {
        let Connection { shard, stream: client, alarm, .. } = &mut self.connection;
        let Some(Opened { attempt, mut lease, .. }) = self.opened.take() else { return };
        if let Ended::Deaf(side) | Ended::Broken(side) = ended {
            // Protocols have their reasons to reset, so this says nothing of the backend's health.
            shard.note(&attempt, Fault { side, phase: Phase::Response, kind: Kind::Died });
        }
        match (ended, lease.stream()) {
            // The other one takes what is on its way to it.
            (Ended::Deaf(Side::Client), Some(upstream)) => {
                return parting::linger(upstream, alarm, &shard.buffers).await;
            }
            (Ended::Deaf(_), _) => {
                lease.abort();
                // The backend has nothing more to do with it.
                drop(attempt);
                return parting::linger(client, alarm, &shard.buffers).await;
            }
            (Ended::Rung(Ring::Deadline), _) => shard.stats.count(Count::TunnelTimeouts),
            _ => {}
        }
        lease.abort();
        client.abort();
    }
}

/// The flow from a client that has said something already, or nothing yet. Not inside the tunnel's future, which would keep
/// a place for it for as long as it lives.
fn upward(ahead: Option<Box<Buffer>>) -> Option<Flow> {
    let Some(ahead) = ahead else { return Some(Flow::empty(Body::UntilEnd)) };
    Flow::new(*ahead, 0, Body::UntilEnd).ok()
}

/// The suite's way to see a panic contained while a backend's place and connection are held: these bytes behind a PROXY
/// protocol header. Not compiled into releases.
#[cfg(debug_assertions)]
#[expect(clippy::panic, reason = "that is its purpose")]
fn panic_on_greeting(ahead: &[u8]) {
    if ahead == b"__ringway_panic" && std::env::var_os("RINGWAY_TEST_PANIC").is_some() {
        panic!("asked for by a test");
    }
}
