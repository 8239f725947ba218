//! From clients to backends: finds or opens each flow's session and sends what it has said.

use std::{
    net::IpAddr,
    ops::{ControlFlow, Range},
    rc::Rc,
};

use super::{
    flow::Flow,
    relay::Relay,
    session::{Session, Trouble},
    table::Token,
    trial::{Trial, Upstream},
};
use crate::{
    admission::door::{Pass, Turned},
    fault::{Fault, Kind, Phase},
    io::{
        alarm::{self, Millis},
        tray::{Burst, Tray},
    },
    limits::{ATTEMPTS_USUAL, UDP_BATCH_MAX, UDP_WEIGHT_BYTES},
    stats::names::{BackendCount, Count, Level},
    sys::datagram::{self, Letter, Sender, Told},
};

/// Where a flow is after its backend has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// It was never answered, and has another backend now.
    Moved,
    /// It has no session any more; what it says next opens one.
    Ended,
    /// Nobody is left who could serve it.
    Nobody,
}

impl Relay {
    /// Takes a batch from the clients' socket and sends it on.
    pub(super) fn forward(&mut self, tray: &mut Tray, now: Millis) {
        self.send_replies(tray);
        let wanted = self.burst.wanted(UDP_BATCH_MAX);
        // An error says that nothing waits, after all; the next look at the set knows.
        let Ok(count) = tray.inbox.receive(&self.clients, Sender::Anybody, 0, wanted) else { return };
        self.burst.came(wanted, count);
        let mut run: Option<(Flow, Range<usize>)> = None;
        for place in 0..count {
            let flow = self.arrived(tray, place);
            match (&mut run, flow) {
                (Some((same, places)), Some(flow)) if *same == flow => places.end = place + 1,
                _ => {
                    if let Some((flow, places)) = run.take() {
                        self.carry(tray, flow, places, now);
                    }
                    run = flow.map(|flow| (flow, place..place + 1));
                }
            }
        }
        if let Some((flow, places)) = run {
            self.carry(tray, flow, places, now);
        }
    }

    /// Counts a message; `None` when it is not fit to be sent on.
    fn arrived(&mut self, tray: &Tray, place: usize) -> Option<Flow> {
        let message = tray.inbox.message(place)?;
        let (datagrams, bytes) = (message.datagrams() as u64, message.bytes.len() as u64);
        let stats = &self.shard.stats;
        stats.add(Count::UdpClientReceived, datagrams);
        stats.add(Count::ClientReceivedBytes, bytes);
        self.turn_bytes += bytes + UDP_WEIGHT_BYTES;
        if let Some(lost) = message.lost {
            stats.add(Count::UdpOverflowed, u64::from(lost.wrapping_sub(self.lost)));
            self.lost = lost;
        }
        if message.truncated {
            stats.add(Count::UdpTruncated, datagrams);
            return None;
        }
        #[cfg(debug_assertions)]
        panic_if_told(message.bytes);
        Some(Flow { client: message.source?, local: message.destination })
    }

    /// Sends messages of one flow on. When its backend fails, the rest of them goes to another one.
    fn carry(&mut self, tray: &mut Tray, flow: Flow, mut run: Range<usize>, now: Millis) {
        for _ in 0..ATTEMPTS_USUAL {
            let token = match self.session_of(flow, now) {
                Ok(token) => token,
                Err(reason) => return self.shard.stats.add(reason, run.len() as u64),
            };
            let Some((rest, trouble)) = self.send_up(tray, token, run.clone()) else { return };
            run.start = rest;
            let after = self.failed(token, trouble);
            if run.is_empty() {
                return;
            }
            if after == After::Nobody {
                break;
            }
        }
        self.shard.stats.add(Count::UdpNoBackend, run.len() as u64);
    }

    /// The flow's session, or a new one; or else why there is none.
    fn session_of(&mut self, flow: Flow, now: Millis) -> Result<Token, Count> {
        if let Some(token) = self.sessions.find(&flow) {
            let is_over = self.sessions.get(token).is_some_and(|session| session.upstream.attempt.is_over());
            if !is_over {
                self.sessions.touch(token, now);
                return Ok(token);
            }
            self.leave(token);
        }
        if self.closing {
            return Err(Count::UdpTurnedAway);
        }
        let pass = self.admit(flow.client.ip()).map_err(Turned::datagram)?;
        self.make_room();
        let mut trial = Box::<Trial>::default();
        let upstream = self.connect(&mut trial, flow.client.ip())?;
        let attempt = Rc::clone(&upstream.attempt);
        let session = Session {
            flow,
            upstream,
            trial: Some(trial),
            burst: Burst::default(),
            together_up: true,
            together_down: true,
            held: self.shard.stats.hold(Level::UdpSessionsActive),
            pass,
        };
        let token = self.sessions.insert(flow, session, now).map_err(|_| Count::UdpExhausted)?;
        let session = self.sessions.get(token).ok_or(Count::UdpExhausted)?;
        if self.watch(&session.upstream.socket, token.number()).is_err() {
            self.sessions.remove(token);
            return Err(Count::UdpExhausted);
        }
        self.shard.stats.count(Count::UdpSessionsOpened);
        self.await_proof(&attempt, now);
        Ok(token)
    }

    /// Ends a session that has lost its backend: what its client says next opens one with another.
    pub(super) fn leave(&mut self, token: Token) {
        if self.sessions.remove(token).is_some() {
            self.shard.stats.count(Count::UdpSessionsMoved);
        }
    }

    /// Lets a new flow of a client in, or says why not.
    fn admit(&self, client: IpAddr) -> Result<Pass, Turned> {
        let Some((setup, place)) = self.setup() else { return Ok(Pass::default()) };
        let door = setup.blueprint.admission.door(place);
        door.map_or_else(|| Ok(Pass::default()), |door| door.enter(Some(client), &self.shard.stats))
    }

    /// Opens a socket to the next backend of a trial; the stalest session makes room if it must.
    fn connect(&mut self, trial: &mut Trial, client: IpAddr) -> Result<Upstream, Count> {
        let Some((setup, index)) = self.cluster() else { return Err(Count::UdpNoBackend) };
        let wish = setup.wish_of(index, Some(client.to_canonical()), alarm::now());
        let mut connected = trial.connect(&self.shard, &setup, wish);
        if connected.as_ref().is_err_and(|fault| fault.is_local()) && self.evict() {
            connected = trial.connect(&self.shard, &setup, wish);
        }
        connected.map_err(|fault| {
            self.shard.stats.count(fault.counter());
            match fault.kind {
                _ if fault.is_local() => Count::UdpExhausted,
                Kind::Full => Count::UdpFull,
                _ => Count::UdpNoBackend,
            }
        })
    }

    /// Sends messages to a session's backend. When that fails for good: the place of the first one to be sent
    /// elsewhere, and why.
    fn send_up(&mut self, tray: &mut Tray, token: Token, run: Range<usize>) -> Option<(usize, Trouble)> {
        let session = self.sessions.get_mut(token)?;
        let Tray { inbox, outbox, .. } = tray;
        for place in run.clone() {
            let letter = Letter { tag: 0, place, to: None, from: None, together: session.together_up };
            outbox.push(letter, &inbox.message(place)?);
        }
        let stats = &self.shard.stats;
        let Session { upstream, together_up, trial, .. } = session;
        let mut fatal = None;
        let rest = outbox.flush(&upstream.socket, inbox, |item, told| {
            match told {
                Told::Sent(datagrams, bytes) => {
                    stats.add(Count::UdpUpstreamSent, datagrams as u64);
                    stats.add(Count::UpstreamSentBytes, bytes as u64);
                    upstream.backend.stats().add(BackendCount::SentBytes, bytes as u64);
                }
                Told::NotTogether => *together_up = false,
                Told::Failed(error) => match Trouble::of(&error) {
                    trouble if trouble.is_fatal() => {
                        fatal = Some(trouble);
                        return ControlFlow::Break(());
                    }
                    trouble => stats.add(trouble.counter(), item.datagrams as u64),
                },
            }
            ControlFlow::Continue(())
        });
        if let (Some(trial), None) = (trial, fatal)
            && let Some(message) = inbox.message(run.start)
        {
            trial.begin(message.bytes.get(..message.segment).unwrap_or(message.bytes));
        }
        fatal.map(|trouble| (rest.unwrap_or(run.end).min(run.end), trouble))
    }

    /// Blames a session's backend. A flow nobody has answered yet moves on to the next one, and what opened it is sent
    /// again; another one ends.
    fn failed(&mut self, token: Token, trouble: Trouble) -> After {
        self.shard.stats.count(trouble.counter());
        let Some(session) = self.sessions.get_mut(token) else { return After::Ended };
        let client = session.flow.client.ip();
        let Some(mut trial) = session.trial.take() else {
            let died = Fault::upstream(Phase::Connect, Kind::Died);
            self.shard.blame(&session.upstream.attempt, died, false);
            self.sessions.remove(token);
            return After::Ended;
        };
        loop {
            let moved = self.connect(&mut trial, client).and_then(|upstream| {
                let watched = self.watch(&upstream.socket, token.number());
                watched.map(|()| upstream).map_err(|_| Count::UdpExhausted)
            });
            let upstream = match moved {
                Ok(upstream) => upstream,
                Err(reason) => {
                    self.shard.stats.count(reason);
                    self.sessions.remove(token);
                    return After::Nobody;
                }
            };
            match trial.opening().map(|opening| datagram::send(&upstream.socket, opening, None, None)) {
                Some(Err(error)) if Trouble::of(&error).is_fatal() => {
                    self.shard.stats.count(Trouble::of(&error).counter());
                    continue;
                }
                Some(Err(error)) => self.shard.stats.count(Trouble::of(&error).counter()),
                Some(Ok(())) => {
                    let bytes = trial.opening().map_or(0, <[u8]>::len) as u64;
                    self.shard.stats.count(Count::UdpUpstreamSent);
                    self.shard.stats.add(Count::UpstreamSentBytes, bytes);
                    upstream.backend.stats().add(BackendCount::SentBytes, bytes);
                }
                None => {}
            }
            // Making room may have been the end of this very session.
            let Some(session) = self.sessions.get_mut(token) else { return After::Ended };
            let attempt = Rc::clone(&upstream.attempt);
            (session.upstream, session.trial) = (upstream, Some(trial));
            self.await_proof(&attempt, alarm::now());
            return After::Moved;
        }
    }

    /// A session's socket has reported a failure.
    pub(super) fn broken(&mut self, token: Token, trouble: Trouble) {
        self.failed(token, trouble);
    }
}

/// The suite's way to see what a panic does; not compiled into releases.
#[cfg(debug_assertions)]
#[expect(clippy::panic, reason = "that is its purpose")]
fn panic_if_told(bytes: &[u8]) {
    if bytes == b"__ringway_panic" && std::env::var_os("RINGWAY_TEST_PANIC").is_some() {
        panic!("told to by a test");
    }
}
