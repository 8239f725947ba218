//! An exchange: one request and its response, on as many backends as it takes.
//!
//! The request's head was rewritten in place in its buffer; that buffer is the head of the upload's flow and stays
//! whole until the response begins, so that the request can be sent again. Dropping an exchange closes its
//! upstream connection.

use std::{
    future::poll_fn,
    io,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use super::{
    reply,
    request::{self, Method, Origin, Request},
    response::{self, Reader, Response},
    scan::{Found, Scan},
    session::{Next, Session},
};
use crate::{
    cluster::{Tried, backend::Backend},
    fault::{Fault, Kind, Phase, Side},
    io::{
        alarm::{self, Ring},
        buffer::Buffer,
    },
    relay::{
        body::Body,
        flow::{Broken, Flow},
        tunnel,
    },
    stats::names::{BackendCount, Count, Level, Refusal},
    upstream::{
        connect::connect,
        lease::Lease,
        retry::{Progress, Verdict, verdict},
    },
};

/// How long a backend may go on working for a client that has ended its direction: it may have left, or only
/// have nothing more to say.
const HALF_CLOSED: Duration = Duration::from_secs(1);

/// Serves the request whose head `found` marks in the session's inbox.
pub async fn run(mut session: Box<Session>, found: Found) -> (Box<Session>, Next) {
    let next = serve(&mut session, found).await;
    (session, next)
}

async fn serve(session: &mut Session, found: Found) -> Next {
    let shard = Rc::clone(&session.shard);
    let _active = shard.stats.hold(Level::ExchangesActive);
    let begun = Instant::now();
    let (request, upload) = match accept(session, found) {
        Ok(accepted) => accepted,
        Err(why) => return Box::pin(session.refuse(why, false)).await,
    };
    shard.stats.count(Count::Requests);
    let mut exchange = Exchange {
        request,
        upload,
        upload_broken: false,
        half_closed: false,
        sent_at: begun,
        response_begun: false,
    };
    let next = if exchange.request.last_hop {
        Box::pin(exchange.answer_ourselves(session)).await
    } else {
        exchange.serve(session).await
    };
    shard.stats.total_time.record(begun.elapsed().as_micros() as u64);
    next
}

/// Checks the head and turns the inbox into the beginning of the upload.
fn accept(session: &mut Session, found: Found) -> Result<(Request, Flow), Refusal> {
    let mut buffer = session.inbox.take().ok_or(Refusal::InvalidRequestLine)?;
    let mut scratch = session.shard.scratch.borrow_mut();
    scratch.clear();
    let head = buffer.filled();
    // Only a request without a Host needs the address it was sent to.
    let local = head.get(..found.fields).filter(|line| line.ends_with(b"HTTP/1.0\r\n"));
    let local = local.and_then(|_| session.client.local_address().ok()).map(|address| address.to_string());
    let origin = Origin {
        client: &session.peer,
        local: local.as_deref().unwrap_or_default(),
        policy: session.shard.plan.headers,
    };
    let request = request::rewrite(head, found, origin, &mut scratch)?;
    #[cfg(debug_assertions)]
    panic_on_request(head);
    if request.last_hop {
        // Answered here: TRACE shows the head as it came.
        let body = request.body.clone();
        let flow = Flow::new(buffer, found.end, body).map_err(|_| Refusal::InvalidBody)?;
        return Ok((request, flow));
    }
    if !buffer.replace_front(found.end, &scratch) {
        return Err(Refusal::HeadTooLarge);
    }
    let mut flow =
        Flow::new(buffer, scratch.len(), request.body.clone()).map_err(|_| Refusal::InvalidBody)?;
    session.inbox = flow.split_leftover();
    Ok((request, flow))
}

/// The suite's way to see a panic contained; not compiled into releases.
#[cfg(debug_assertions)]
#[expect(clippy::panic, reason = "that is its purpose")]
fn panic_on_request(head: &[u8]) {
    if head.starts_with(b"GET /__ringway_panic ") && std::env::var_os("RINGWAY_TEST_PANIC").is_some() {
        panic!("asked for by a test");
    }
}

/// A response head that has arrived.
struct Arrived {
    response: Response,
    /// The rewritten head and what came behind it.
    buffer: Buffer,
    head: usize,
}

/// One request in progress.
struct Exchange {
    request: Request,
    upload: Flow,
    /// The backend takes no more of the request; its answer may still come.
    upload_broken: bool,
    /// The client has ended its direction.
    half_closed: bool,
    /// When the request had been sent.
    sent_at: Instant,
    /// Bytes of the response have arrived.
    response_begun: bool,
}

impl Exchange {
    /// Finds a backend, again if need be, and relays its answer.
    async fn serve(&mut self, session: &mut Session) -> Next {
        let mut tried = Tried::default();
        let mut same: Option<Rc<Backend>> = None;
        let mut unavailable = 503;
        loop {
            let fresh_only = same.is_some();
            let backend = same
                .take()
                .or_else(|| session.shard.clusters.get(session.cluster)?.pick(&mut tried, alarm::now()));
            let Some(backend) = backend else {
                session.shard.stats.count(Count::FaultNoBackend);
                return Box::pin(self.answer(session, unavailable)).await;
            };
            let mut reused = false;
            let fault = match lease(session, &backend, fresh_only).await {
                Err(fault) => fault,
                Ok(mut lease) => {
                    reused = lease.reused;
                    match self.await_response(session, &mut lease).await {
                        Ok(arrived) => return self.deliver(session, lease, arrived).await,
                        Err(fault) => {
                            lease.abort();
                            fault
                        }
                    }
                }
            };
            self.blame(session, &backend, fault);
            match self.decide(session, fault, reused) {
                Verdict::Afresh => same = Some(backend),
                Verdict::Elsewhere(status) => unavailable = status,
                Verdict::Answer(status) => return Box::pin(self.answer(session, status)).await,
                Verdict::Abort => return Next::Abort,
            }
        }
    }

    /// Counts a failure where it belongs.
    fn blame(&self, session: &Session, backend: &Backend, fault: Fault) {
        session.shard.stats.count(fault.counter());
        let stats = backend.stats();
        match fault.counter() {
            Count::FaultUpstreamConnect | Count::FaultUpstreamConnectTimeout => backend.refused(alarm::now()),
            Count::FaultUpstreamReset => stats.count(BackendCount::Resets),
            Count::FaultUpstreamTimeout => stats.count(BackendCount::Timeouts),
            Count::FaultUpstreamMalformed => stats.count(BackendCount::Malformed),
            _ => {}
        }
    }

    /// Asks what a failure leads to, and prepares for another attempt.
    fn decide(&mut self, session: &Session, fault: Fault, reused: bool) -> Verdict {
        let progress = Progress {
            safe: self.request.method.is_safe(),
            whole: self.upload.is_whole() || !self.upload.has_sent(),
            sent: self.upload.has_sent(),
            reused,
            response_begun: self.response_begun,
            answerable: true,
        };
        let verdict = verdict(fault, progress);
        let stats = &session.shard.stats;
        match verdict {
            Verdict::Elsewhere(_) if fault.phase == Phase::Connect => stats.count(Count::RetriesConnect),
            Verdict::Elsewhere(_) | Verdict::Afresh => stats.count(Count::RetriesReplay),
            Verdict::Answer(_) if fault.kind == Kind::Died => stats.count(Count::RetriesRefused),
            Verdict::Answer(_) | Verdict::Abort => {}
        }
        self.upload.rewind();
        self.upload_broken = false;
        verdict
    }

    /// Answers for the backends. The connection goes on if the request has been read to its end.
    async fn answer(&mut self, session: &mut Session, status: u16) -> Next {
        let head_only = self.request.method == Method::Head;
        if !self.may_go_on(session) || status == 400 || status == 408 {
            return Box::pin(session.reply(status, head_only)).await;
        }
        let mut bytes = Vec::new();
        reply::Reply::new(status).write(&mut bytes, true, head_only, &session.shard.date);
        self.send_own(session, status, &bytes).await
    }

    /// Max-Forwards has come to an end here.
    async fn answer_ourselves(&mut self, session: &mut Session) -> Next {
        let keep_alive = self.may_go_on(session);
        let mut bytes = Vec::new();
        if self.request.method == Method::Trace {
            reply::trace(&mut bytes, self.upload.ready(), keep_alive, &session.shard.date);
        } else {
            reply::options(&mut bytes, keep_alive, &session.shard.date);
        }
        session.inbox = self.upload.split_leftover();
        let next = self.send_own(session, 200, &bytes).await;
        if next == Next::KeepAlive && !keep_alive { Next::Linger } else { next }
    }

    async fn send_own(&mut self, session: &mut Session, status: u16, bytes: &[u8]) -> Next {
        session.shard.stats.response(status);
        session.shard.stats.count(Count::LocalReplies);
        match session.send(bytes).await {
            Ok(()) => Next::KeepAlive,
            Err(()) => Next::Abort,
        }
    }

    /// True when another request may follow an answer of ours on this connection.
    fn may_go_on(&self, session: &Session) -> bool {
        self.request.keep_alive
            && !self.request.http10
            && self.upload.is_received()
            && !session.shard.is_draining()
    }

    /// Sends the request and waits for a final response head, passing interim ones on.
    async fn await_response(&mut self, session: &mut Session, lease: &mut Lease) -> Result<Arrived, Fault> {
        let mut incoming: Option<Buffer> = None;
        let mut scan = Scan::default();
        loop {
            if let Some(found) = self.response_head(session, lease, &mut incoming, &mut scan).await? {
                let malformed = Fault::upstream(Phase::Response, Kind::Malformed);
                let mut buffer = incoming.take().ok_or(malformed)?;
                let (response, head) = self.rewrite(session, &buffer, found).ok_or(malformed)?;
                if response.is_interim() {
                    Box::pin(self.pass_interim(session, response.status, &head)).await?;
                    buffer.consume(found.end);
                    buffer.compact();
                    incoming = Some(buffer).filter(|buffer| !buffer.is_empty());
                    scan = Scan::default();
                    continue;
                }
                let length = head.len();
                if !buffer.replace_front(found.end, &head) {
                    return Err(malformed);
                }
                session.shard.scratch.replace(head);
                return Ok(Arrived { response, buffer, head: length });
            }
        }
    }

    /// Moves the upload on and receives until a response head is complete. `None`: look again at what is there.
    async fn response_head(
        &mut self,
        session: &mut Session,
        lease: &mut Lease,
        incoming: &mut Option<Buffer>,
        scan: &mut Scan,
    ) -> Result<Option<Found>, Fault> {
        if let Some(found) = scan_response(scan, incoming)? {
            return Ok(Some(found));
        }
        self.arm(session);
        poll_fn(|cx| {
            if let Some(ring) = session.alarm.rung() {
                return Poll::Ready(Err(self.rung(ring)));
            }
            if let Err(fault) = self.poll_upload(cx, session, lease) {
                return Poll::Ready(Err(fault));
            }
            match self.poll_incoming(cx, session, lease, incoming) {
                Poll::Ready(Ok(())) => return Poll::Ready(scan_response(scan, incoming)),
                Poll::Ready(Err(fault)) => return Poll::Ready(Err(fault)),
                Poll::Pending => {}
            }
            self.poll_client(cx, session).map(Err)
        })
        .await
    }

    /// The deadline of the current wait: the body's while it is sent, the response's after that.
    fn arm(&self, session: &Session) {
        let timeouts = &session.shard.plan.timeouts;
        let sending = !self.upload.is_finished() && !self.upload_broken;
        session.alarm.set(match (self.half_closed, sending) {
            (true, _) => HALF_CLOSED,
            (_, true) => timeouts.body_idle,
            (_, false) => timeouts.response,
        });
    }

    /// Whom a deadline in this phase blames.
    fn rung(&self, ring: Ring) -> Fault {
        match ring {
            Ring::Cut => Fault::local(Phase::Request, Kind::Cut),
            Ring::Deadline if self.half_closed => Fault::client(Phase::Request, Kind::Died),
            Ring::Deadline if self.upload.is_received() || self.upload_broken => {
                Fault::upstream(Phase::Request, Kind::Silent)
            }
            Ring::Deadline => Fault::client(Phase::Request, Kind::Silent),
        }
    }

    /// Sends more of the request.
    fn poll_upload(
        &mut self,
        cx: &mut Context<'_>,
        session: &mut Session,
        lease: &mut Lease,
    ) -> Result<(), Fault> {
        if self.upload_broken || self.upload.is_finished() {
            return Ok(());
        }
        let Some(upstream) = lease.stream() else { return Ok(()) };
        let polled = self.upload.poll(cx, &mut session.client, upstream, &session.shard.supplies());
        let (received, sent) = self.upload.take_counts();
        let stats = &session.shard.stats;
        stats.add(Count::ClientReceivedBytes, received);
        stats.add(Count::UpstreamSentBytes, sent);
        lease.backend().stats().add(BackendCount::SentBytes, sent);
        match polled {
            Poll::Pending if sent == 0 => {}
            Poll::Pending => self.arm(session),
            Poll::Ready(Ok(())) => {
                self.sent_at = Instant::now();
                self.arm(session);
                if session.inbox.is_none() {
                    session.inbox = self.upload.split_leftover();
                }
            }
            // The backend may have answered before it stopped to listen: that answer is looked for first.
            Poll::Ready(Err(Broken::Sink(_))) => {
                self.upload_broken = true;
                self.arm(session);
            }
            Poll::Ready(Err(Broken::Malformed)) => {
                session.shard.stats.refuse(Refusal::InvalidBody);
                return Err(Fault::client(Phase::Request, Kind::Malformed));
            }
            Poll::Ready(Err(Broken::Source(_) | Broken::SourceEnded)) => {
                return Err(Fault::client(Phase::Request, Kind::Died));
            }
        }
        Ok(())
    }

    /// Receives what the backend sends.
    fn poll_incoming(
        &mut self,
        cx: &mut Context<'_>,
        session: &Session,
        lease: &mut Lease,
        incoming: &mut Option<Buffer>,
    ) -> Poll<Result<(), Fault>> {
        let died = Fault::upstream(Phase::Request, Kind::Died);
        let Some(upstream) = lease.stream() else { return Poll::Ready(Err(died)) };
        // A broken upload ends in an answer or an error that is there already.
        while self.upload_broken || upstream.poll_readable(cx).is_ready() {
            let mut buffer = incoming.take().unwrap_or_else(|| session.shard.buffers.take());
            let outcome = upstream.receive(buffer.space());
            match outcome {
                Ok(0) => return Poll::Ready(Err(died)),
                Ok(count) => {
                    buffer.grow(count);
                    *incoming = Some(buffer);
                    self.note_received(session, lease, count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.upload_broken => {
                    *incoming = Some(buffer).filter(|buffer| !buffer.is_empty());
                }
                Err(_) => return Poll::Ready(Err(died)),
            }
        }
        Poll::Pending
    }

    fn note_received(&mut self, session: &Session, lease: &Lease, count: usize) {
        if !self.response_begun {
            self.response_begun = true;
            session.shard.stats.first_byte_time.record(self.sent_at.elapsed().as_micros() as u64);
        }
        session.shard.stats.add(Count::UpstreamReceivedBytes, count as u64);
        lease.backend().stats().add(BackendCount::ReceivedBytes, count as u64);
    }

    /// Watches the client while the backend thinks: its end ends the work; requests sent ahead are put aside.
    fn poll_client(&mut self, cx: &mut Context<'_>, session: &mut Session) -> Poll<Fault> {
        while self.upload.is_received() && session.inbox.is_none() && !self.half_closed {
            if session.client.poll_readable(cx).is_pending() {
                break;
            }
            let mut buffer = session.shard.buffers.take_small();
            match session.client.receive(buffer.space()) {
                Ok(count) if count > 0 => {
                    buffer.grow(count);
                    session.shard.stats.add(Count::ClientReceivedBytes, count as u64);
                    session.inbox = Some(buffer);
                }
                Ok(_) => {
                    self.half_closed = true;
                    self.arm(session);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Poll::Ready(Fault::client(Phase::Request, Kind::Died)),
            }
        }
        Poll::Pending
    }

    /// Checks a response head and writes the one for the client.
    fn rewrite(&self, session: &Session, buffer: &Buffer, found: Found) -> Option<(Response, Vec<u8>)> {
        let mut head = session.shard.scratch.take();
        head.clear();
        let uploaded = self.upload.is_received() && !self.upload_broken;
        let reader = Reader {
            request: &self.request,
            // A response that overtakes its request ends the connection (RFC 9112 section 9.6).
            keep_alive: uploaded && !session.shard.is_draining(),
            via: session.shard.plan.headers.via,
            date: &session.shard.date,
        };
        let response = response::rewrite(buffer.filled(), found, &reader, &mut head).ok()?;
        Some((response, head))
    }

    /// Passes a 1xx on to a client that can understand it.
    async fn pass_interim(&mut self, session: &mut Session, status: u16, head: &[u8]) -> Result<(), Fault> {
        if self.request.http10 {
            return Ok(());
        }
        session.shard.stats.response(status);
        session.send(head).await.map_err(|()| Fault::client(Phase::Response, Kind::Died))
    }

    /// Relays the response; from here on there is no other attempt.
    async fn deliver(&mut self, session: &mut Session, mut lease: Lease, arrived: Arrived) -> Next {
        let Arrived { response, buffer, head } = arrived;
        session.shard.stats.response(response.status);
        lease.backend().stats().response(response.status);
        if response.status == 101 {
            return Box::pin(self.tunnel(session, lease, buffer)).await;
        }
        let outcome = match Flow::new(buffer, head, response.body.clone()) {
            Ok(mut download) => match self.relay_response(session, &mut lease, &mut download).await {
                Ok(()) => Ok(download.into_leftover().is_none()),
                Err(fault) => Err((fault, download.has_sent())),
            },
            Err(_) => Err((Fault::upstream(Phase::Response, Kind::Malformed), false)),
        };
        match outcome {
            Ok(clean) => self.finish(session, lease, &response, clean),
            Err((fault, begun)) => {
                self.blame(session, lease.backend(), fault);
                lease.abort();
                match fault.side {
                    Side::Upstream if !begun => Box::pin(self.answer(session, 502)).await,
                    // What came so far reaches the client: its framing tells that something is missing.
                    Side::Upstream if response.body.is_delimited() => Next::Close,
                    _ => Next::Abort,
                }
            }
        }
    }

    /// Moves the response, and what is left of the request, to their ends.
    async fn relay_response(
        &mut self,
        session: &mut Session,
        lease: &mut Lease,
        download: &mut Flow,
    ) -> Result<(), Fault> {
        let idle = session.shard.plan.timeouts.body_idle;
        let mut timed = false;
        poll_fn(|cx| {
            if let Some(ring) = session.alarm.rung().filter(|_| timed) {
                return Poll::Ready(Err(stalled(ring, download)));
            }
            let Some(upstream) = lease.stream() else {
                return Poll::Ready(Err(Fault::upstream(Phase::Response, Kind::Died)));
            };
            let polled = download.poll(cx, upstream, &mut session.client, &session.shard.supplies());
            let (received, sent) = download.take_counts();
            let stats = &session.shard.stats;
            stats.add(Count::UpstreamReceivedBytes, received);
            stats.add(Count::ClientSentBytes, sent);
            lease.backend().stats().add(BackendCount::ReceivedBytes, received);
            if let Poll::Ready(result) = polled {
                return Poll::Ready(result.map_err(download_fault));
            }
            // What becomes of a late upload shows in the response, which has begun.
            if self.poll_upload(cx, session, lease).is_err() {
                return Poll::Ready(Err(Fault::client(Phase::Response, Kind::Died)));
            }
            if !timed || received + sent > 0 {
                session.alarm.set(idle);
                timed = true;
            }
            Poll::Pending
        })
        .await
    }

    /// The response is through: what becomes of both connections.
    fn finish(&mut self, session: &mut Session, lease: Lease, response: &Response, clean: bool) -> Next {
        let uploaded = self.upload.is_finished() && !self.upload_broken;
        if !clean {
            session.shard.stats.count(Count::UpstreamPoisoned);
        }
        if uploaded && clean && response.reusable && !session.shard.is_draining() {
            lease.give_back(alarm::now());
        } else if !uploaded {
            lease.abort();
        }
        match (response.keep_alive, uploaded && session.inbox.is_none()) {
            (true, _) if uploaded => Next::KeepAlive,
            (_, true) => Next::Close,
            (_, false) => Next::Linger,
        }
    }

    /// The protocols have been switched: bytes both ways from now on.
    async fn tunnel(&mut self, session: &mut Session, mut lease: Lease, buffer: Buffer) -> Next {
        let shard = Rc::clone(&session.shard);
        shard.stats.count(Count::Upgrades);
        let _held = shard.stats.hold(Level::TunnelsActive);
        let up = session
            .inbox
            .take()
            .map_or_else(|| Ok(Flow::empty(Body::UntilEnd)), |ahead| Flow::new(ahead, 0, Body::UntilEnd));
        let down = Flow::new(buffer, 0, Body::UntilEnd);
        let (Ok(up), Ok(down), Some(upstream)) = (up, down, lease.stream()) else { return Next::Abort };
        let idle = shard.plan.timeouts.tunnel_idle;
        let ended =
            tunnel::run(&mut session.client, upstream, up, down, &session.alarm, idle, shard.supplies())
                .await;
        match ended {
            tunnel::Ended::Properly => Next::Close,
            tunnel::Ended::Broken(_) | tunnel::Ended::Rung(_) => {
                lease.abort();
                Next::Abort
            }
        }
    }
}

/// A connection to this backend: the freshest idle one, or a new one.
async fn lease(session: &Session, backend: &Rc<Backend>, fresh_only: bool) -> Result<Lease, Fault> {
    if !fresh_only {
        let (pooled, stale) = backend.pool().take();
        session.shard.stats.add(Count::UpstreamStale, stale);
        if let Some(stream) = pooled {
            backend.stats().count(BackendCount::Reuses);
            return Ok(Lease::new(stream, Rc::clone(backend), true));
        }
    }
    let stream = connect(backend, &session.alarm, session.shard.plan.timeouts.connect).await?;
    Ok(Lease::new(stream, Rc::clone(backend), false))
}

fn scan_response(scan: &mut Scan, incoming: &Option<Buffer>) -> Result<Option<Found>, Fault> {
    let Some(buffer) = incoming else { return Ok(None) };
    scan.advance(buffer.filled()).map_err(|_| Fault::upstream(Phase::Response, Kind::Malformed))
}

fn download_fault(broken: Broken) -> Fault {
    match broken {
        Broken::SourceEnded | Broken::Source(_) => Fault::upstream(Phase::Response, Kind::Died),
        Broken::Malformed => Fault::upstream(Phase::Response, Kind::Malformed),
        Broken::Sink(_) => Fault::client(Phase::Response, Kind::Died),
    }
}

/// Whom silence inside a response blames: the client if it has not taken what was there for it.
fn stalled(ring: Ring, download: &Flow) -> Fault {
    match ring {
        Ring::Cut => Fault::local(Phase::Response, Kind::Cut),
        Ring::Deadline if download.is_waiting_for_sink() => Fault::client(Phase::Response, Kind::Silent),
        Ring::Deadline => Fault::upstream(Phase::Response, Kind::Silent),
    }
}
