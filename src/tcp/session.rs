//! A client's TCP connection: a backend is chosen for it once, then both are relayed into each other to their ends.
//!
//! Runs as one task on one worker. While both sides are silent it holds no buffer and no pipe. Dropping it closes
//! both connections.

use std::{future::poll_fn, rc::Rc, task::Poll, time::Instant};

use crate::{
    cluster::{attempt::Attempt, tried::Tried},
    fault::{Fault, Kind, Phase, Side},
    io::{
        alarm::{self, Ring},
        buffer::Buffer,
        parting,
    },
    limits::{DEAD_AFTER, KEEP_ALIVE_IDLE},
    listener::{
        connection::{Connection, greeting},
        introduction::{self, Introduction},
    },
    relay::{
        body::Body,
        flow::Flow,
        tunnel::{Ended, Tunnel},
    },
    shard::Picked,
    stats::names::{Count, Level},
    upstream::{
        connect::{Call, connect},
        lease::Lease,
    },
};

/// A tunnel that can begin.
struct Opened {
    attempt: Attempt,
    lease: Lease,
    /// What came behind the client's PROXY protocol header.
    ahead: Option<Buffer>,
}

/// One client connection.
pub struct Session {
    connection: Connection,
    /// What its tunnel is made of, once there is one.
    opened: Option<Opened>,
}

impl Session {
    /// A session on a fresh connection. It lives in a box, so that the futures it passes through stay small.
    pub fn new(connection: Connection) -> Box<Self> {
        Box::new(Session { connection, opened: None })
    }

    /// Serves the connection to its end.
    pub async fn run(mut self: Box<Self>) {
        let begun = Instant::now();
        poll_fn(|cx| {
            self.connection.alarm.attach(cx.waker());
            Poll::Ready(())
        })
        .await;
        // What happens once must not weigh on a tunnel that lives for hours.
        self.opened = Box::pin(self.open()).await;
        self.relay().await;
        self.connection.shard.stats.total_time.record(begun.elapsed().as_micros() as u64);
    }

    /// Learns who the client is, and connects to a backend. `None` when that has come to nothing.
    async fn open(&mut self) -> Option<Opened> {
        let mut ahead = None;
        if self.connection.awaits_introduction() {
            let Connection { shard, stream, alarm, client, .. } = &mut self.connection;
            let limit = shard.timeouts().head;
            let Introduction { header, rest } = introduction::read(stream, alarm, limit, shard).await?;
            *client = client.introduced(header);
            ahead = rest;
            if !self.connection.admit() {
                self.connection.stream.abort();
                return None;
            }
        }
        match self.connect().await {
            Ok((attempt, lease)) => Some(Opened { attempt, lease, ahead }),
            Err(Kind::Cut) => {
                self.connection.stream.abort();
                None
            }
            Err(_) => {
                self.refuse().await;
                None
            }
        }
    }

    /// Tries one backend after the other.
    async fn connect(&self) -> Result<(Attempt, Lease), Kind> {
        let Connection { shard, setup, stream, alarm, client, .. } = &self.connection;
        let missing = Fault::upstream(Phase::Connect, Kind::Missing);
        let cluster = self.connection.plan().and_then(|plan| plan.cluster).ok_or(missing.kind)?;
        let plan = setup.plan().clusters.get(cluster).ok_or(missing.kind)?;
        let greeting = greeting(plan, *client, stream);
        let wish = setup.wish_of(cluster, client.source.map(|source| source.ip()), alarm::now());
        let mut tried = Tried::default();
        let mut refused = false;
        while let Some(Picked { attempt, .. }) = setup.pick(wish, &mut tried, alarm::now()) {
            if refused {
                shard.stats.count(Count::RetriesConnect);
            }
            let call = Call { alarm, timeout: shard.timeouts().connect, greeting: &greeting };
            match connect(&attempt, call).await {
                Ok(upstream) => {
                    // There is nothing else to see from here.
                    attempt.succeeded();
                    let backend = Rc::clone(attempt.backend());
                    return Ok((attempt, Lease::new(upstream, backend, false)));
                }
                Err(fault) => {
                    shard.blame(&attempt, fault, false);
                    if fault.is_local() {
                        return Err(fault.kind);
                    }
                    refused = true;
                }
            }
        }
        shard.stats.count(missing.counter());
        Err(missing.kind)
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

    /// Bytes both ways, to the end.
    async fn relay(&mut self) {
        let Connection { shard, stream: client, alarm, .. } = &mut self.connection;
        let Some(Opened { attempt, lease, ahead }) = &mut self.opened else { return };
        let backend = Rc::clone(lease.backend());
        let up = ahead.take();
        let up =
            up.map_or_else(|| Ok(Flow::empty(Body::UntilEnd)), |ahead| Flow::new(ahead, 0, Body::UntilEnd));
        let (Ok(up), Some(upstream)) = (up, lease.stream()) else { return };
        // A UNIX socket cannot and need not do it.
        let _ = upstream.keep_alive(KEEP_ALIVE_IDLE, DEAD_AFTER);
        shard.stats.count(Count::Tunnels);
        let _held = shard.stats.hold_here(Level::TunnelsActive);
        let mut tunnel = Tunnel {
            client,
            upstream,
            up,
            down: Flow::silent(Body::UntilEnd),
            alarm,
            idle: shard.timeouts().tunnel_idle,
            last_words: shard.timeouts().last_words,
            supplies: shard.supplies(),
            backend: backend.stats(),
        };
        let ended = tunnel.run().await;
        // Protocols have their reasons to reset, so this says nothing of the backend's health.
        let broken = |side| shard.note(attempt, Fault { side, phase: Phase::Response, kind: Kind::Died });
        match ended {
            Ended::Properly => return,
            Ended::Deaf(side) => {
                broken(side);
                // The other one takes what is on its way to it.
                if let (Side::Client, Some(upstream)) = (side, lease.stream()) {
                    return Box::pin(parting::linger(upstream, alarm, &shard.buffers)).await;
                }
                self.opened.take().into_iter().for_each(|opened| opened.lease.abort());
                return Box::pin(parting::linger(client, alarm, &shard.buffers)).await;
            }
            Ended::Broken(side) => broken(side),
            Ended::Rung(Ring::Deadline) => shard.stats.count(Count::TunnelTimeouts),
            Ended::Rung(Ring::Cut) => {}
        }
        self.opened.take().into_iter().for_each(|opened| opened.lease.abort());
        client.abort();
    }
}
