//! A lane: everything that one worker's exchanges touch besides sockets, laid out in memory as in the program.
//!
//! Control's part, the [`Ground`], is made on the thread that calls [`Ground::new`]; a [`Lane`] is made on the thread
//! that runs it. With limits, a retry budget and a rate limit, so that whatever workers share is asked.

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use ringway::{
    blueprint::Blueprint,
    cluster::{attempt::Attempt, tried::Tried},
    config::plan::{
        admission::{RATE_COUNT_MAX, RateKey},
        route::{Action, Share},
    },
    http::{
        destination::{self, Head},
        edit::Edits,
        request::{self, Origin, Request},
        response::{self, Reader},
        scan::Scan,
    },
    io::alarm,
    shard::{Setup, Shard, Wish},
    stats::{
        names::{BackendCount, Count, Level},
        view::View,
    },
    upstream::placing::Course,
};

use crate::{heads, piece::Piece, plan, rates};

/// Backends of the cluster. Not so many that the cells of one worker end with a cache line by chance.
const BACKENDS: usize = 11;
/// What may be in flight at each.
const REQUESTS_MAX: u32 = 1_000;

/// What control makes and workers share.
pub struct Ground {
    blueprint: Arc<Blueprint>,
    view: View,
}

/// One worker's, on its own thread.
pub struct Lane {
    shard: Rc<Shard>,
    setup: Rc<Setup>,
    client: IpAddr,
    peer: String,
    /// What a client sends, and a backend's answer.
    request: Vec<u8>,
    response: Vec<u8>,
}

/// One exchange after the other, from the client's head to the last byte of the answer.
pub fn pieces() -> Vec<Piece> {
    let piece = |limited: bool| {
        move || {
            let lane = Lane::new(&Ground::new(1, limited), 0);
            Box::new(move || lane.exchange()) as crate::piece::Work
        }
    };
    vec![Piece::new("exchange", piece(false)), Piece::new("exchange with limits", piece(true))]
}

impl Ground {
    /// For so many workers; `limited` asks for everything that can be limited, at every request.
    pub fn new(workers: usize, limited: bool) -> Self {
        let share = Action::Forward(vec![Share { cluster: 0, weight: 1 }]);
        let mut plan = plan::with_routes(plan::plan(BACKENDS, workers), vec![plan::route("/", share)]);
        if limited {
            plan.listeners[0].admission.rate = Some(rates::limit(RATE_COUNT_MAX, RateKey::ClientAddress));
            for backend in &mut plan.clusters[0].backends {
                backend.max_requests = REQUESTS_MAX;
                backend.max_connections = REQUESTS_MAX;
            }
        }
        let blueprint = Arc::new(Blueprint::new(plan, None));
        let view = View::new(Arc::clone(&blueprint.plan));
        Ground { blueprint, view }
    }

    /// How many exchanges a worker has counted.
    pub fn requests(&self, worker: usize) -> u64 {
        self.view.workers[worker].stats.get(Count::Requests)
    }
}

impl Lane {
    /// The lane of a worker. Clients of different workers have different addresses.
    pub fn new(ground: &Ground, worker: usize) -> Self {
        let (blueprint, cells) = (Arc::clone(&ground.blueprint), &ground.view.workers[worker]);
        let stats = Arc::clone(&cells.stats);
        let shard = Shard::new(blueprint, stats, &cells.backends, &[], (worker, worker)).unwrap();
        let client = IpAddr::from(Ipv4Addr::new(192, 0, 2, worker as u8 + 1));
        Lane {
            setup: shard.setup(),
            shard,
            client,
            peer: client.to_string(),
            request: heads::browser().into_bytes(),
            response: heads::USUAL_ANSWER.as_bytes().to_vec(),
        }
    }

    /// One exchange, as the session and the exchange of the program do it between their system calls.
    pub fn exchange(&self) {
        let stats = &self.shard.stats;
        let _active = stats.hold_here(Level::ExchangesActive);
        let begun = Instant::now();
        stats.add(Count::ClientReceivedBytes, self.request.len() as u64);
        let (request, wish) = self.accept();
        stats.count(Count::Requests);
        let course = Course::new(&self.setup, wish);
        let mut tried = Tried::new(course.retries().attempts);
        let picked = self.setup.pick(wish, &mut tried, alarm::now());
        let Ok(picked) = picked else { panic!("there is room") };
        self.send(&picked.attempt);
        let status = self.answer(&request, &picked.attempt, begun);
        picked.attempt.completed(status);
        stats.total_time.record(begun.elapsed().as_micros() as u64);
    }

    /// The request's head is checked, routed, admitted, and rewritten.
    fn accept(&self) -> (Request, Wish) {
        let head = black_box(self.request.as_slice());
        let found = Scan::default().advance(head).unwrap().unwrap();
        let mut scratch = self.shard.scratch.borrow_mut();
        scratch.clear();
        let routes = self.setup.blueprint.routes(0);
        let origin =
            Origin { client: &self.peer, local: "", policy: self.shard.headers(), routes, body_max: None };
        let request = request::rewrite(head, found, origin, &mut scratch).unwrap();
        let (head, client) = (Head { bytes: head, found }, Some(self.client));
        let now = alarm::now();
        let wish = destination::find(&self.setup, 0, request.route, client, head, now, &self.shard.stats);
        let Ok(wish) = wish else { panic!("it goes somewhere") };
        (request, wish)
    }

    /// What is counted when the request goes out on a pooled connection.
    fn send(&self, attempt: &Attempt) {
        let sent = self.shard.scratch.borrow().len() as u64;
        attempt.backend().stats().count(BackendCount::Reuses);
        self.shard.stats.add(Count::UpstreamSentBytes, sent);
        attempt.backend().stats().add(BackendCount::SentBytes, sent);
    }

    /// The response's head comes, is checked, and rewritten.
    fn answer(&self, asked: &Request, attempt: &Attempt, begun: Instant) -> u16 {
        let (stats, backend) = (&self.shard.stats, attempt.backend());
        let first_byte = begun.elapsed();
        stats.first_byte_time.record(first_byte.as_micros() as u64);
        attempt.responded(first_byte, alarm::now());
        let head = black_box(self.response.as_slice());
        stats.add(Count::UpstreamReceivedBytes, head.len() as u64);
        backend.stats().add(BackendCount::ReceivedBytes, head.len() as u64);
        let found = Scan::default().advance(head).unwrap().unwrap();
        let mut scratch = self.shard.scratch.borrow_mut();
        scratch.clear();
        let (via, date) = (self.shard.headers().via, &self.shard.date);
        let reader =
            Reader { request: asked, keep_alive: true, via, date, edits: Edits::default(), added: b"" };
        let response = response::rewrite(head, found, &reader, &mut scratch).unwrap();
        black_box(scratch.as_slice());
        backend.stats().response(response.status);
        attempt.answered_with(response.status);
        stats.response(response.status);
        stats.add(Count::ClientSentBytes, scratch.len() as u64);
        response.status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_of_two_threads_count_for_themselves() {
        let ground = Ground::new(2, true);
        std::thread::scope(|scope| {
            for worker in 0..2 {
                let ground = &ground;
                scope.spawn(move || {
                    let lane = Lane::new(ground, worker);
                    (0..100 + worker).for_each(|_| lane.exchange());
                });
            }
        });
        assert_eq!((ground.requests(0), ground.requests(1)), (100, 101));
    }
}
