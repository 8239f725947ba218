//! The first half of an exchange: the request goes out, the head of the response comes in.

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll},
    time::Instant,
};

use super::{Exchange, HALF_CLOSED, QUIET_HALF_CLOSED};
use crate::{
    fault::{Fault, Kind, Phase},
    http::{
        response::{self, Reader, Response},
        scan::{Found, Scan},
        session::Session,
    },
    io::{
        alarm::{self, Ring},
        buffer::Buffer,
    },
    limits::INTERIM_MAX,
    relay::flow::Broken,
    stats::names::{BackendCount, Count},
    upstream::lease::Lease,
};

/// A response head that has arrived.
pub(super) struct Arrived {
    pub(super) response: Response,
    /// The rewritten head and what came behind it.
    pub(super) buffer: Buffer,
    pub(super) head: usize,
}

impl Exchange {
    /// Sends the request and waits for a final response head, passing interim ones on.
    pub(super) async fn await_response(
        &mut self,
        session: &mut Session,
        lease: &mut Lease,
    ) -> Result<Arrived, Fault> {
        let mut incoming: Option<Buffer> = None;
        let mut scan = Scan::default();
        let mut interim_count = 0;
        self.arm(session);
        loop {
            if let Some(found) = self.response_head(session, lease, &mut incoming, &mut scan).await? {
                let malformed = Fault::upstream(Phase::Response, Kind::Malformed);
                let mut buffer = incoming.take().ok_or(malformed)?;
                let (response, head) = self.rewrite(session, &buffer, found).ok_or(malformed)?;
                if response.is_interim() {
                    interim_count += 1;
                    if interim_count > INTERIM_MAX {
                        return Err(malformed);
                    }
                    self.awaits_continue = false;
                    Box::pin(self.pass_interim(session, response.status, &head)).await?;
                    session.shard.scratch.replace(head);
                    buffer.consume(found.end);
                    buffer.compact();
                    incoming = Some(buffer).filter(|buffer| !buffer.is_empty());
                    scan = Scan::default();
                    self.arm(session);
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

    /// Sets the deadline of the current wait, and moves it on when something has moved: the body's while one is sent
    /// or received, else the response's.
    pub(super) fn arm(&self, session: &Session) {
        let timeouts = session.shard.timeouts();
        let sending = !self.upload.is_finished() && !self.upload_broken && !self.awaits_continue;
        session.alarm.set(match (self.responding, self.half_closed, sending) {
            // Who has left and who only listens look the same until something is sent.
            (true, true, _) => timeouts.body_idle.min(QUIET_HALF_CLOSED),
            (true, false, _) | (false, false, true) => timeouts.body_idle,
            (false, true, _) => HALF_CLOSED,
            (false, false, false) => self.response_timeout(session).unwrap_or(timeouts.response),
        });
    }

    /// Whom a deadline in this phase blames.
    fn rung(&self, ring: Ring) -> Fault {
        match ring {
            Ring::Cut => Fault::local(Phase::Request, Kind::Cut),
            Ring::Deadline if self.half_closed => Fault::client(Phase::Request, Kind::Died),
            Ring::Deadline
                if self.upload.is_received()
                    || self.upload_broken
                    || self.awaits_continue
                    || self.upload.is_waiting_for_sink() =>
            {
                Fault::upstream(Phase::Request, Kind::Silent)
            }
            Ring::Deadline => Fault::client(Phase::Request, Kind::Silent),
        }
    }

    /// Sends more of the request.
    pub(super) fn poll_upload(
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
        self.awaits_continue &= received == 0;
        stats.add(Count::ClientReceivedBytes, received);
        stats.add(Count::UpstreamSentBytes, sent);
        lease.backend().stats().add(BackendCount::SentBytes, sent);
        match polled {
            Poll::Pending if sent == 0 => {}
            Poll::Pending => self.arm(session),
            Poll::Ready(Ok(())) => {
                if !self.upload.is_whole() {
                    self.sent_at = Instant::now();
                }
                self.arm(session);
                self.put_ahead(session);
            }
            // The backend may have answered before it stopped to listen: that answer is looked for first.
            Poll::Ready(Err(Broken::Sink(kind))) => {
                self.upload_broken = true;
                self.upload_reset = kind != io::ErrorKind::BrokenPipe;
                self.arm(session);
            }
            Poll::Ready(Err(Broken::Body(wrong))) => {
                session.shard.stats.refuse(wrong.refusal());
                return Err(Fault::client(Phase::Request, wrong.kind()));
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
            let first_byte = self.sent_at.elapsed();
            session.shard.stats.first_byte_time.record(first_byte.as_micros() as u64);
            if let Some(attempt) = &self.attempt {
                attempt.responded(first_byte, alarm::now());
            }
        }
        session.shard.stats.add(Count::UpstreamReceivedBytes, count as u64);
        lease.backend().stats().add(BackendCount::ReceivedBytes, count as u64);
    }

    /// Watches the client while the backend thinks: its end ends the work; requests sent ahead are put aside.
    pub(super) fn poll_client(&mut self, cx: &mut Context<'_>, session: &mut Session) -> Poll<Fault> {
        let had_ended = self.half_closed;
        let polled = self.read_ahead(cx, session);
        if self.half_closed && !had_ended {
            self.arm(session);
        }
        polled
    }

    fn read_ahead(&mut self, cx: &mut Context<'_>, session: &mut Session) -> Poll<Fault> {
        self.put_ahead(session);
        while self.upload.is_received() && !self.half_closed {
            let full = session.inbox.as_mut().is_some_and(|inbox| inbox.space().is_empty());
            if full || session.client.poll_readable(cx).is_pending() {
                break;
            }
            match session.receive() {
                Ok(0) => self.half_closed = true,
                Ok(count) => session.shard.stats.add(Count::ClientReceivedBytes, count as u64),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Poll::Ready(Fault::client(Phase::Request, Kind::Died)),
            }
        }
        Poll::Pending
    }

    /// True when the client has gone away while no backend has its request: its connection is broken. One that has only
    /// ended its direction is given a moment.
    pub(super) fn has_lost_client(&mut self, cx: &mut Context<'_>, session: &mut Session) -> bool {
        let had_ended = self.half_closed;
        if self.read_ahead(cx, session).is_ready() {
            return true;
        }
        if self.half_closed && !had_ended {
            session.alarm.hasten(HALF_CLOSED);
        }
        session.client.poll_over(cx).is_ready()
    }

    /// What the client sent behind its request is the beginning of the next one, even while this one's last bytes
    /// are still on their way.
    pub(super) fn put_ahead(&mut self, session: &mut Session) {
        if session.inbox.is_none() {
            session.inbox = self.upload.split_leftover();
        }
    }

    /// Checks a response head and writes the one for the client.
    fn rewrite(&self, session: &Session, buffer: &Buffer, found: Found) -> Option<(Response, Vec<u8>)> {
        let mut head = session.shard.scratch.take();
        head.clear();
        #[cfg(debug_assertions)]
        panic_on_response(buffer.filled());
        let uploaded = self.upload.is_received() && !self.upload_broken;
        let reader = Reader {
            request: &self.request,
            // A response that overtakes its request ends the connection (RFC 9112 section 9.6).
            keep_alive: uploaded && !session.is_leaving(),
            via: session.shard.headers().via,
            date: &session.shard.date,
            edits: self.edits(session),
            added: self.set_cookie(session),
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
}

/// The suite's way to see a panic contained while a backend's place and connection are held; not compiled into releases.
#[cfg(debug_assertions)]
#[expect(clippy::panic, reason = "that is its purpose")]
fn panic_on_response(head: &[u8]) {
    if head.starts_with(b"HTTP/1.1 299 __ringway_panic\r\n")
        && std::env::var_os("RINGWAY_TEST_PANIC").is_some()
    {
        panic!("asked for by a test");
    }
}

fn scan_response(scan: &mut Scan, incoming: &Option<Buffer>) -> Result<Option<Found>, Fault> {
    let Some(buffer) = incoming else { return Ok(None) };
    scan.advance(buffer.filled()).map_err(|_| Fault::upstream(Phase::Response, Kind::Malformed))
}
