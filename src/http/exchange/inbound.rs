//! The second half of an exchange: the response is relayed, and both connections go on or end.

use std::{future::poll_fn, rc::Rc, task::Poll};

use super::{Exchange, outbound::Arrived};
use crate::{
    fault::{Fault, Kind, Phase, Side},
    http::{
        response::Response,
        session::{Next, Session},
    },
    io::{
        alarm::{self, Ring},
        buffer::Buffer,
        parting,
    },
    relay::{
        body::Body,
        flow::{Broken, Flow},
        tunnel::{self, Tunnel},
    },
    stats::names::{BackendCount, Count, Level},
    upstream::lease::Lease,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remains {
    /// Nothing: the socket was seen empty.
    Nothing,
    /// Nothing yet, but it may be on its way.
    Unknown,
    /// Bytes nobody asked for.
    Surplus,
}

impl Remains {
    /// Bytes behind the response would be taken for the answer to the next request.
    fn behind(download: Flow, lease: &mut Lease) -> Self {
        let unsettled = download.may_have_left_more();
        let silent = !unsettled || lease.stream().is_some_and(|upstream| upstream.is_silent());
        match silent && download.into_leftover().is_none() {
            true if unsettled => Remains::Unknown,
            true => Remains::Nothing,
            false => Remains::Surplus,
        }
    }
}

impl Exchange {
    /// Relays the response; from here on there is no other attempt.
    pub(super) async fn deliver(
        &mut self,
        session: &mut Session,
        mut lease: Lease,
        arrived: Arrived,
    ) -> Next {
        let Arrived { response, buffer, head } = arrived;
        lease.backend().stats().response(response.status);
        if let Some(attempt) = &self.attempt {
            attempt.answered_with(response.status);
        }
        if response.status == 101 {
            session.shard.stats.response(response.status);
            return Box::pin(self.tunnel(session, lease, buffer)).await;
        }
        let outcome = match Flow::new(buffer, head, response.body.clone()) {
            Ok(mut download) => {
                if !response.keep_alive {
                    download.end_sink();
                }
                match self.relay_response(session, &mut lease, &mut download).await {
                    // What ends with its stream is whole only if that end was no reset.
                    Ok(()) if self.upload_reset && response.body == Body::UntilEnd => {
                        Err((Fault::upstream(Phase::Response, Kind::Died), true))
                    }
                    Ok(()) => Ok(Remains::behind(download, &mut lease)),
                    Err(fault) => Err((fault, download.has_sent())),
                }
            }
            Err(_) => Err((Fault::upstream(Phase::Response, Kind::Malformed), false)),
        };
        if !matches!(outcome, Err((_, false))) {
            session.shard.stats.response(response.status);
        }
        match outcome {
            Ok(remains) => self.finish(session, lease, &response, remains),
            Err((fault, begun)) => {
                self.blame(session, fault, false);
                lease.abort();
                match fault.side {
                    Side::Upstream if !begun => {
                        self.attempt = None;
                        Box::pin(self.answer(session, 502)).await
                    }
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
        self.responding = true;
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
            if !timed || received + sent > 0 {
                timed = true;
                self.arm(session);
            }
            // What becomes of a late upload shows in the response, which has begun.
            if let Err(fault) = self.poll_upload(cx, session, lease) {
                return Poll::Ready(Err(fault));
            }
            self.poll_client(cx, session).map(|_| Err(Fault::client(Phase::Response, Kind::Died)))
        })
        .await
    }

    /// The response is through: what becomes of both connections.
    fn finish(&mut self, session: &mut Session, lease: Lease, response: &Response, remains: Remains) -> Next {
        if let Some(attempt) = &self.attempt {
            attempt.completed(response.status);
        }
        let uploaded = self.upload.is_finished() && !self.upload_broken;
        let clean = remains != Remains::Surplus;
        if !clean {
            session.shard.stats.count(Count::UpstreamPoisoned);
        }
        if uploaded && clean && response.reusable && !session.is_leaving() {
            if !lease.give_back(alarm::now(), remains == Remains::Unknown) {
                session.shard.stats.count(Count::UpstreamStale);
            }
        } else if !uploaded {
            lease.abort();
        }
        match (response.keep_alive, uploaded && session.inbox.is_none()) {
            (true, _) if uploaded => Next::KeepAlive,
            // A client that wanted to go on may have sent its next request already.
            (_, true) if !self.request.keep_alive => {
                // What waits for the end leaves now: if the client has said more meanwhile, the close is a reset.
                session.client.shutdown_write();
                Next::Close
            }
            _ => Next::Linger,
        }
    }

    /// The protocols have been switched: bytes both ways from now on.
    async fn tunnel(&mut self, session: &mut Session, mut lease: Lease, buffer: Buffer) -> Next {
        let shard = Rc::clone(&session.shard);
        shard.stats.count(Count::Upgrades);
        let _held = shard.stats.hold_here(Level::TunnelsActive);
        let up = session
            .inbox
            .take()
            .map_or_else(|| Ok(Flow::empty(Body::UntilEnd)), |ahead| Flow::new(ahead, 0, Body::UntilEnd));
        let down = Flow::new(buffer, 0, Body::UntilEnd);
        let backend = Rc::clone(lease.backend());
        let (Ok(up), Ok(down), Some(upstream)) = (up, down, lease.stream()) else { return Next::Abort };
        let mut tunnel = Tunnel {
            client: &mut session.client,
            upstream,
            up,
            down,
            alarm: &session.alarm,
            idle: alarm::millis(shard.timeouts().tunnel_idle),
            last_words: alarm::millis(shard.timeouts().last_words),
            supplies: shard.supplies(),
            backend: backend.stats(),
        };
        let ended = tunnel.run().await;
        if ended == tunnel::Ended::Rung(Ring::Deadline) {
            shard.stats.count(Count::TunnelTimeouts);
        }
        match ended {
            tunnel::Ended::Properly => Next::Close,
            // The backend takes what is on its way to it.
            tunnel::Ended::Deaf(Side::Client) => {
                if let Some(upstream) = lease.stream() {
                    Box::pin(parting::linger(upstream, &session.alarm, &shard.buffers)).await;
                }
                Next::Close
            }
            tunnel::Ended::Deaf(_) => {
                lease.abort();
                Next::Linger
            }
            tunnel::Ended::Broken(_) | tunnel::Ended::Rung(_) => {
                lease.abort();
                Next::Abort
            }
        }
    }
}

fn download_fault(broken: Broken) -> Fault {
    match broken {
        Broken::SourceEnded | Broken::Source(_) => Fault::upstream(Phase::Response, Kind::Died),
        Broken::Body(_) => Fault::upstream(Phase::Response, Kind::Malformed),
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
