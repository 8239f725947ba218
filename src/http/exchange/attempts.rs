//! An exchange's attempts: whom it is sent to, over which connection, and what a failure leads to.

use std::{rc::Rc, task::Context, time::Instant};

use super::Exchange;
use crate::{
    cluster::attempt::Attempt,
    config::plan::cluster::Retries,
    fault::{Fault, Kind, Phase},
    http::{
        reply::Reply,
        request::Method,
        session::{Next, Session},
    },
    io::alarm::{self, Alarm},
    listener::connection::greeting,
    shard::{Setup, Shard},
    stats::names::{BackendCount, Count},
    upstream::{
        connect::{Call, connect},
        lease::Lease,
        placing::{Course, Seeker, Unplaced},
        retry::{Progress, Verdict, verdict},
    },
};

/// An exchange that looks for a backend: the client may leave meanwhile, or send its next requests ahead.
struct Seeking<'a> {
    exchange: &'a mut Exchange,
    session: &'a mut Session,
}

impl Seeker for Seeking<'_> {
    fn shard(&self) -> &Rc<Shard> {
        &self.session.shard
    }

    fn setup(&self) -> &Rc<Setup> {
        &self.session.setup
    }

    fn alarm(&self) -> &Alarm {
        &self.session.alarm
    }

    fn has_left(&mut self, cx: &mut Context<'_>) -> bool {
        self.exchange.has_lost_client(cx, self.session)
    }
}

impl Exchange {
    /// Finds a backend, again if need be, and relays its answer.
    pub(super) async fn serve(&mut self, session: &mut Session) -> Next {
        let Ok(wish) = self.destination else { return Box::pin(self.answer(session, 503)).await };
        let mut course = Course::new(&session.setup, wish);
        let mut fresh_only = false;
        let mut unavailable = 503;
        let mut retry: Option<Count> = None;
        loop {
            if !fresh_only {
                match self.place(session, &mut course).await {
                    Ok(attempt) => self.attempt = Some(attempt),
                    Err(why) => return Box::pin(self.unplaced(session, why, unavailable)).await,
                }
            }
            let is_retry = retry.take().inspect(|reason| session.shard.stats.count(*reason)).is_some();
            if course.has_waited() || is_retry {
                self.sent_at = Instant::now();
            }
            let mut reused = false;
            let fault = match self.lease(session, fresh_only).await {
                Err(Fault { kind: Kind::Full, .. }) => {
                    // Somebody else was faster; nothing was tried.
                    course.excuse();
                    fresh_only = false;
                    continue;
                }
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
            self.blame(session, fault, reused);
            // Once a request may have been delivered, nobody else's refusal makes that undone.
            if self.upload.has_sent() {
                unavailable = after(unavailable, if fault.kind == Kind::Silent { 504 } else { 502 });
            }
            let wanted = self.decide(session, fault, reused, course.retries());
            let verdict = match &self.attempt {
                Some(attempt) => course.permit(wanted, fault, attempt, &session.shard),
                None => wanted,
            };
            retry = Some(if fault.phase == Phase::Connect {
                Count::RetriesConnect
            } else {
                Count::RetriesReplay
            });
            // A backend that has been taken out meanwhile is not asked again.
            fresh_only = verdict == Verdict::Afresh
                && self.attempt.as_ref().is_some_and(|attempt| attempt.is_welcome());
            match verdict {
                Verdict::Afresh => {}
                Verdict::Elsewhere(status) => unavailable = after(unavailable, status),
                Verdict::Answer(status) if verdict != wanted => {
                    let status = after(unavailable, status);
                    return Box::pin(self.unplaced(session, Unplaced::Nobody, status)).await;
                }
                Verdict::Answer(status) => {
                    self.attempt = None;
                    return Box::pin(self.answer(session, status)).await;
                }
                Verdict::Abort => return Next::Abort,
            }
        }
    }

    /// A backend for the next attempt. The place at the one before is free meanwhile.
    async fn place(&mut self, session: &mut Session, course: &mut Course) -> Result<Attempt, Unplaced> {
        self.attempt = None;
        let picked = course.place(&mut Seeking { exchange: self, session }).await?;
        self.is_new = picked.is_new;
        Ok(picked.attempt)
    }

    /// There is none.
    async fn unplaced(&mut self, session: &mut Session, why: Unplaced, status: u16) -> Next {
        // What is said now may take the client a while.
        self.attempt = None;
        match why {
            Unplaced::Nobody => {
                session.shard.stats.count(Count::FaultNoBackend);
                self.answer(session, status).await
            }
            Unplaced::Full if status == 503 => self.answer_with(session, Reply::denied(503, Some(1))).await,
            // Another backend may have done what was asked.
            Unplaced::Full => self.answer(session, status).await,
            Unplaced::Over(fault) => {
                if fault.kind != Kind::Cut {
                    session.shard.stats.count(fault.counter());
                }
                Next::Abort
            }
        }
    }

    /// A connection to the backend: the freshest idle one, or a new one.
    async fn lease(&self, session: &Session, fresh_only: bool) -> Result<Lease, Fault> {
        let missing = Fault::upstream(Phase::Connect, Kind::Missing);
        let plan = self.destination.ok().and_then(|wish| session.setup.plan().clusters.get(wish.cluster));
        let (Some(attempt), Some(plan)) = (&self.attempt, plan) else { return Err(missing) };
        let backend = attempt.backend();
        let speaks_for = plan.send_proxy.and(session.origin.source);
        if !fresh_only {
            let (pooled, stale) = backend.pool().take(alarm::now(), speaks_for);
            session.shard.stats.add(Count::UpstreamStale, stale);
            if let Some(connection) = pooled {
                backend.stats().count(BackendCount::Reuses);
                return Ok(Lease::new(connection, Rc::clone(backend), true).for_client(speaks_for));
            }
        }
        let seat = backend.seat().ok_or(Fault::upstream(Phase::Connect, Kind::Full))?;
        let greeting = greeting(plan, session.origin, &session.client);
        let timeout = session.shard.timeouts().connect;
        let call = Call { alarm: &session.alarm, timeout, greeting: &greeting, speaks_first: true };
        let stream = connect(attempt, call).await?;
        Ok(Lease::new((stream, seat), Rc::clone(backend), false).for_client(speaks_for))
    }

    /// Asks what a failure leads to, and prepares for another attempt.
    fn decide(&mut self, session: &Session, fault: Fault, reused: bool, retries: &Retries) -> Verdict {
        let Self { request, upload, .. } = self;
        let allowed = request.has_idempotency_key && retries.idempotency_key
            || request.method == Method::Idempotent && retries.idempotent;
        let progress = Progress {
            repeatable: request.method.is_safe() || allowed,
            retries_late: retries.late,
            whole: upload.is_whole() || !upload.has_sent(),
            sent: upload.has_sent(),
            reused,
            response_begun: self.response_begun,
            answerable: true,
        };
        let verdict = verdict(fault, progress);
        if matches!(verdict, Verdict::Answer(_)) && fault.kind == Kind::Died {
            session.shard.stats.count(Count::RetriesRefused);
        }
        self.upload.rewind();
        (self.upload_broken, self.upload_reset) = (false, false);
        verdict
    }
}

/// What is said in the end when nobody is left: 503 only if nothing can have been delivered, else the first failure of which
/// that is not so.
fn after(unavailable: u16, status: u16) -> u16 {
    if unavailable == 503 { status } else { unavailable }
}
