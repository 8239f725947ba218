//! An exchange: one request and its response, on as many backends as it takes.
//!
//! The request's head was rewritten in place in its buffer; that buffer is the head of the upload's flow and stays
//! whole until the response begins, so that the request can be sent again. Dropping an exchange closes its
//! upstream connection.

mod attempts;
mod inbound;
mod outbound;

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use super::{
    destination::{self, Head, Nowhere},
    edit::Edits,
    reply,
    request::{self, Method, Origin, Request},
    scan::Found,
    session::{Next, Session},
};
use crate::{
    cluster::attempt::Attempt,
    config::plan::{RoutePlan, route::Action},
    fault::{Fault, Phase},
    io::alarm,
    relay::{body::Wrong, flow::Flow},
    shard::Wish,
    stats::names::{Count, Level, Refusal},
};

/// How long a backend may go on working for a client that has ended its direction: it may have left, or only
/// have nothing more to say.
const HALF_CLOSED: Duration = Duration::from_secs(1);

/// The same once the response has begun and nothing of it comes.
const QUIET_HALF_CLOSED: Duration = Duration::from_secs(30);

/// Serves the request whose head `found` marks in the session's inbox.
pub async fn run(mut session: Box<Session>, found: Found) -> (Box<Session>, Next) {
    let next = serve(&mut session, found).await;
    (session, next)
}

async fn serve(session: &mut Session, found: Found) -> Next {
    let shard = Rc::clone(&session.shard);
    let _active = shard.stats.hold_here(Level::ExchangesActive);
    let begun = Instant::now();
    let head_only = session.is_head_request();
    let (request, destination, upload) = match accept(session, found) {
        Ok(accepted) => accepted,
        Err(why) => return Box::pin(session.refuse(why, head_only)).await,
    };
    shard.stats.count(Count::Requests);
    let mut exchange = Exchange::new(request, destination, upload, begun);
    let next = match exchange.own_answer(session) {
        Some((status, bytes)) => Box::pin(exchange.answer_ourselves(session, status, bytes)).await,
        None => exchange.serve(session).await,
    };
    shard.stats.total_time.record(begun.elapsed().as_micros() as u64);
    next
}

/// Checks the head and turns the inbox into the beginning of the upload.
fn accept(session: &mut Session, found: Found) -> Result<(Request, Result<Wish, Nowhere>, Flow), Refusal> {
    let mut buffer = session.inbox.take().ok_or(Refusal::InvalidRequestLine)?;
    let mut scratch = session.shard.scratch.borrow_mut();
    scratch.clear();
    let head = buffer.filled();
    // Only a request without a Host needs the address it was sent to.
    let local = head.get(..found.fields).filter(|line| line.ends_with(b"HTTP/1.0\r\n"));
    let local = local
        .map(|_| session.client.local_address().map_or_else(|_| "localhost".to_owned(), |a| a.to_string()));
    let origin = Origin {
        client: &session.peer,
        local: local.as_deref().unwrap_or_default(),
        policy: session.shard.headers(),
        routes: session.setup.blueprint.routes(session.listener),
        body_max: session.setup.plan().listeners.get(session.listener).and_then(|plan| plan.request_body_max),
    };
    let request = request::rewrite(head, found, origin, &mut scratch)?;
    #[cfg(debug_assertions)]
    panic_on_request(head);
    let (setup, client) = (&session.setup, session.origin.source.map(|source| source.ip()));
    let head = Head { bytes: head, found };
    let (listener, stats) = (session.listener, &session.shard.stats);
    let destination = destination::find(setup, listener, request.route, client, head, alarm::now(), stats);
    // What has come of the body together with its head is a fault like what comes behind it.
    let wrong = |wrong: Wrong| {
        stats.count(Fault::client(Phase::Request, wrong.kind()).counter());
        wrong.refusal()
    };
    if request.last_hop || destination.is_err() {
        // Answered here: TRACE shows the head as it came, a redirect needs its location.
        let body = request.body.clone();
        let flow = Flow::new(buffer, found.end, body).map_err(wrong)?;
        return Ok((request, destination, flow));
    }
    if !buffer.replace_front(found.end, &scratch) {
        return Err(Refusal::HeadTooLarge);
    }
    let mut flow = Flow::new(buffer, scratch.len(), request.body.clone()).map_err(wrong)?;
    session.inbox = flow.split_leftover();
    Ok((request, destination, flow))
}

/// The suite's way to see a panic contained; not compiled into releases.
#[cfg(debug_assertions)]
#[expect(clippy::panic, reason = "that is its purpose")]
fn panic_on_request(head: &[u8]) {
    if head.starts_with(b"GET /__ringway_panic ") && std::env::var_os("RINGWAY_TEST_PANIC").is_some() {
        panic!("asked for by a test");
    }
}

/// One request in progress.
struct Exchange {
    request: Request,
    destination: Result<Wish, Nowhere>,
    /// The client is not pinned to the backend it is at.
    is_new: bool,
    /// The backend it is at.
    attempt: Option<Attempt>,
    upload: Flow,
    /// The backend takes no more of the request; its answer may still come.
    upload_broken: bool,
    /// It was a reset, which the response's side is not told a second time.
    upload_reset: bool,
    /// The client has ended its direction.
    half_closed: bool,
    /// The client holds its body back until the backend says that it wants it.
    awaits_continue: bool,
    /// The response is being relayed.
    responding: bool,
    /// When the request had been sent; for one that was all there at once, when that began.
    sent_at: Instant,
    /// Bytes of the response have arrived.
    response_begun: bool,
}

impl Exchange {
    fn new(request: Request, destination: Result<Wish, Nowhere>, upload: Flow, begun: Instant) -> Self {
        Exchange {
            destination,
            is_new: false,
            attempt: None,
            awaits_continue: request.expects_continue && !upload.is_received(),
            request,
            upload,
            upload_broken: false,
            upload_reset: false,
            half_closed: false,
            responding: false,
            sent_at: begun,
            response_begun: false,
        }
    }

    /// The field that pins the client to the backend that has answered; mostly nothing.
    fn set_cookie<'a>(&self, session: &'a Session) -> &'a [u8] {
        let pins = self.destination.ok().and_then(|wish| session.setup.blueprint.pins(wish.cluster));
        let place = self.attempt.as_ref().and_then(|attempt| attempt.backend().index());
        let field = pins.filter(|_| self.is_new).zip(place).and_then(|(pins, place)| pins.set_cookie(place));
        field.unwrap_or_default()
    }

    /// The route that has taken the request.
    fn route<'a>(&self, session: &'a Session) -> Option<&'a RoutePlan> {
        self.request.route.and_then(|route| session.setup.plan().routes.get(route))
    }

    /// The route's own deadline for the first byte of a response, if it has one.
    fn response_timeout(&self, session: &Session) -> Option<Duration> {
        self.route(session)?.response_timeout
    }

    /// What the route changes in responses.
    fn edits<'a>(&self, session: &'a Session) -> Edits<'a> {
        self.route(session).map(|route| Edits::new(&route.rewrite.response)).unwrap_or_default()
    }

    /// Counts a failure where it belongs.
    fn blame(&self, session: &Session, fault: Fault, reused: bool) {
        if let Some(attempt) = &self.attempt {
            session.shard.blame(attempt, fault, reused);
        }
    }

    /// Answers for the backends. The connection goes on if the request has been read to its end.
    async fn answer(&mut self, session: &mut Session, status: u16) -> Next {
        self.answer_with(session, reply::Reply::new(status)).await
    }

    async fn answer_with(&mut self, session: &mut Session, reply: reply::Reply) -> Next {
        let (head_only, status) = (self.request.method == Method::Head, reply.status);
        self.put_ahead(session);
        if !self.may_go_on(session) || status == 400 || status == 408 {
            return Box::pin(session.reply(reply, head_only)).await;
        }
        let mut bytes = Vec::new();
        reply.write(&mut bytes, true, head_only, &session.shard.date);
        self.send_own(session, status, &bytes).await
    }

    /// An answer that needs no backend, with its status: the client must not ask, Max-Forwards has come to an end here,
    /// the route says so, or no route takes the request.
    fn own_answer(&self, session: &Session) -> Option<(u16, Vec<u8>)> {
        let (keep_alive, date) = (self.may_go_on(session), &session.shard.date);
        let head_only = self.request.method == Method::Head;
        let edits = self.edits(session);
        let mut bytes = Vec::new();
        if let Err(Nowhere::Denied(denied)) = self.destination {
            session.shard.stats.count(denied.counter());
            let reply = reply::Reply::denied(denied.status(), denied.retry_after());
            reply.write(&mut bytes, keep_alive, head_only, date);
            return Some((denied.status(), bytes));
        }
        let status = match (self.route(session).map(|route| &route.action), self.request.method) {
            (Some(Action::Respond(answer)), _) => {
                reply::Answer::fixed(answer, edits).write(&mut bytes, keep_alive, head_only, date);
                answer.status
            }
            (Some(Action::Redirect(redirect)), _) => {
                let location = session.shard.scratch.borrow();
                let answer = reply::Answer::redirect(redirect.status, &location, edits);
                answer.write(&mut bytes, keep_alive, head_only, date);
                redirect.status
            }
            (_, Method::Trace) if self.request.last_hop => {
                reply::trace(&mut bytes, self.upload.ready(), keep_alive, date);
                200
            }
            (..) if self.request.last_hop => {
                reply::options(&mut bytes, keep_alive, date);
                200
            }
            (None, _) if self.destination.is_err() => {
                session.shard.stats.count(Count::FaultNoRoute);
                reply::Reply::new(404).write(&mut bytes, keep_alive, head_only, date);
                404
            }
            _ => return None,
        };
        Some((status, bytes))
    }

    /// Gives that answer.
    async fn answer_ourselves(&mut self, session: &mut Session, status: u16, bytes: Vec<u8>) -> Next {
        let keep_alive = self.may_go_on(session);
        self.put_ahead(session);
        let next = self.send_own(session, status, &bytes).await;
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
        self.request.keep_alive && !self.request.http10 && self.upload.is_received() && !session.is_leaving()
    }
}
