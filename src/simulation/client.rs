//! The clients of a run: each sends one request, which a worker takes from backend to backend as an exchange does.

use std::{
    future::poll_fn,
    pin::pin,
    rc::{Rc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use super::{
    census::{self, Census, Waiting},
    check,
    life::Mood,
    scenario,
    worker::Worker,
    world::World,
};
use crate::{
    cluster::attempt::Attempt,
    fault::{Fault, Kind, Phase},
    io::alarm::Alarm,
    shard::{Picked, Setup, Shard, Wish},
    stats::names::Count,
    upstream::{
        placing::{Course, Seeker, Unplaced},
        retry::{Progress, Verdict, verdict},
    },
};

/// Clients of one worker, one after the other and at times many at once.
pub(super) async fn come(world: Rc<World>, me: usize) {
    while !world.is_closing.get() {
        let pause = world.pauses.borrow()[me];
        world.tasks.sleep(world.tasks.roll(2 * pause + 1)).await;
        send(&world, me);
    }
}

/// One client, who may leave.
pub(super) fn send(world: &Rc<World>, me: usize) {
    let task = world.tasks.spawn(request(Rc::clone(world), me));
    if world.tasks.is_lucky(world.scenario.leaving) {
        let leaving = Rc::clone(world);
        world.tasks.spawn(async move {
            leaving.tasks.sleep(leaving.tasks.roll([3, 30, 2_000][leaving.tasks.place(3)])).await;
            leaving.tasks.cut(task);
        });
    }
}

/// An attempt that the checks know of until it ends.
struct Held {
    attempt: Rc<Attempt>,
    worker: Rc<Worker>,
    world: Rc<World>,
}

impl Held {
    fn new(world: &Rc<World>, worker: &Rc<Worker>, attempt: Attempt) -> Self {
        let attempt = Rc::new(attempt);
        worker.counts(attempt.backend(), 1);
        if attempt.is_trial() {
            let mut trials = world.trials.borrow_mut();
            trials.retain(|trial| Weak::strong_count(trial) > 0);
            trials.push(Rc::downgrade(&attempt));
        }
        Census::arrives(world, &attempt);
        Held { attempt, worker: Rc::clone(worker), world: Rc::clone(world) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        Census::departs(&self.world, &self.attempt);
        self.worker.counts(self.attempt.backend(), -1);
    }
}

/// How an attempt has failed.
struct Failed {
    fault: Fault,
    reused: bool,
    sent: bool,
    begun: bool,
}

/// A client that waits for a backend, as connections do.
struct Client {
    shard: Rc<Shard>,
    setup: Rc<Setup>,
    alarm: Alarm,
}

impl Seeker for Client {
    fn shard(&self) -> &Rc<Shard> {
        &self.shard
    }

    fn setup(&self) -> &Rc<Setup> {
        &self.setup
    }

    fn alarm(&self) -> &Alarm {
        &self.alarm
    }

    /// Whoever leaves is dropped.
    fn has_left(&mut self, _: &mut Context<'_>) -> bool {
        false
    }
}

/// One request on its way.
struct Request {
    world: Rc<World>,
    worker: Rc<Worker>,
    number: usize,
    /// How many plans its worker had gone by before.
    renewals: usize,
    wish: Wish,
    /// The number of its cluster.
    cluster: usize,
    client: Client,
}

/// It waits for as long as this lives.
struct InLine<'a>(&'a World, usize);

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.0.census.is_called(self.1);
    }
}

async fn request(world: Rc<World>, me: usize) {
    let mut request = Request::new(world, me);
    poll_fn(|cx| {
        request.client.alarm.attach(cx.waker());
        Poll::Ready(())
    })
    .await;
    let repeatable = !request.world.tasks.is_lucky(request.world.scenario.unsafe_ones);
    let mut course = Course::new(&request.client.setup, request.wish);
    request.world.census.begins(request.cluster, request.world.tasks.now());
    let mut afresh: Option<Held> = None;
    loop {
        let held = match afresh.take() {
            Some(held) => held,
            None => match request.place(&mut course).await {
                Some(held) => held,
                None => return,
            },
        };
        let failed = match visit(&request.world, &held.attempt).await {
            Ok(status) => return request.notes("answered", [usize::from(status), 0]),
            Err(failed) => failed,
        };
        match request.judge(&mut course, &held, failed, repeatable) {
            Verdict::Elsewhere(_) => {}
            Verdict::Afresh if held.attempt.is_welcome() => afresh = Some(held),
            Verdict::Afresh => {}
            Verdict::Answer(_) | Verdict::Abort => return,
        }
    }
}

impl Request {
    fn new(world: Rc<World>, me: usize) -> Self {
        let worker = world.worker(me);
        worker.shard.stats.count(Count::Requests);
        let number = world.requests.replace(world.requests.get() + 1);
        let setup = worker.shard.setup();
        let cluster = world.tasks.place(setup.plan().clusters.len());
        let backends = &setup.plan().clusters[cluster].backends;
        let pinned = world.tasks.is_lucky(world.scenario.pinned).then(|| world.tasks.place(backends.len()));
        let wish = Wish { cluster, key: world.tasks.roll(u64::MAX), pinned, client: None };
        let (cluster, _) = scenario::numbers_of(&backends[0].name);
        let (shard, alarm) = (Rc::clone(&worker.shard), worker.shard.alarms.register());
        let renewals = worker.renewals.get();
        Request { renewals, world, worker, number, wish, cluster, client: Client { shard, setup, alarm } }
    }

    fn notes(&self, what: &'static str, about: [usize; 2]) {
        let [first, second] = about;
        self.world.trace.fact(self.world.tasks.now(), what, [self.worker.me, self.number, first, second]);
    }

    /// Its worker goes by the plan it began with.
    fn has_same_plan(&self) -> bool {
        self.worker.renewals.get() == self.renewals
    }

    /// Finds a backend, or waits for one.
    async fn place(&mut self, course: &mut Course) -> Option<Held> {
        let (begun, before) = (self.world.tasks.now(), *course.tried());
        let outcome = {
            let (world, number) = (&self.world, self.number);
            let (me, renewals, Wish { cluster, pinned, .. }) = (self.worker.me, self.renewals, self.wish);
            let mut in_line = None;
            let mut placing = pin!(course.place(&mut self.client));
            poll_fn(|cx| {
                let polled = placing.as_mut().poll(cx);
                if polled.is_pending() && in_line.is_none() {
                    world.trace.fact(world.tasks.now(), "waits", [me, number, cluster, 0]);
                    let ready = Default::default();
                    let waiting = Waiting { me, cluster, pinned, tried: before, renewals, ready };
                    world.census.waits(number, waiting);
                    in_line = Some(InLine(world, number));
                }
                polled
            })
            .await
        };
        let waited = self.world.tasks.now() - begun;
        if waited > census::patience(&self.world, self.cluster) {
            self.world.fail(format!("request {} has waited for {waited} ms", self.number));
        }
        match outcome {
            Ok(Picked { attempt, is_new }) => {
                let (of, at) = Worker::numbers(attempt.backend());
                self.notes("picked", [of, at]);
                let tried = self.has_same_plan().then_some(course.tried());
                check::picked(&self.world, &self.worker, &attempt, is_new, tried);
                Some(Held::new(&self.world, &self.worker, attempt))
            }
            Err(why) => {
                self.notes("nobody for", [self.wish.cluster, usize::from(why == Unplaced::Full)]);
                if why == Unplaced::Nobody && self.has_same_plan() {
                    check::nobody(&self.world, &self.worker, self.wish.cluster, course.tried());
                }
                None
            }
        }
    }

    /// What follows a failure.
    fn judge(&self, course: &mut Course, held: &Held, failed: Failed, repeatable: bool) -> Verdict {
        let Failed { fault, reused, sent, begun } = failed;
        self.notes("failed", [fault.phase as usize, fault.kind as usize]);
        self.worker.shard.blame(&held.attempt, fault, reused);
        let progress = Progress {
            repeatable,
            retries_late: true,
            whole: true,
            sent,
            reused,
            response_begun: begun,
            answerable: !begun,
        };
        let wanted = verdict(fault, progress);
        let verdict = course.permit(wanted, fault, &held.attempt, &self.worker.shard);
        let others = course.tried().indices().len() < held.attempt.cluster().len();
        // Those on their way to one that has just died go elsewhere, whatever else is repeated.
        let has_just_died = fault.is_refusal() && held.attempt.was_trusted();
        let is_made = match verdict {
            Verdict::Elsewhere(_) => others || fault.is_refusal(),
            Verdict::Afresh => true,
            Verdict::Answer(_) | Verdict::Abort => false,
        };
        if is_made && !has_just_died {
            Census::repeats(&self.world, self.cluster);
        }
        verdict
    }
}

/// One attempt, as its backend is in the mood for.
async fn visit(world: &World, attempt: &Attempt) -> Result<u16, Failed> {
    let tasks = &world.tasks;
    let numbers = Worker::numbers(attempt.backend());
    let reused = tasks.is_lucky(50);
    if !reused {
        connect(world, attempt, numbers).await?;
    }
    let failed =
        |phase, kind, begun| Failed { fault: Fault::upstream(phase, kind), reused, sent: true, begun };
    let limit = world.scenario.response_timeout;
    let mood = world.mood(numbers);
    let takes = match mood {
        Mood::Slow => tasks.roll(1_500),
        Mood::Zombie | Mood::Absent => limit,
        _ => tasks.roll(20),
    };
    tasks.sleep(takes.min(limit)).await;
    let first_byte = Duration::from_millis(takes.min(limit));
    if takes >= limit {
        attempt.responded(first_byte, tasks.now());
        return Err(failed(Phase::Request, Kind::Silent, false));
    }
    match mood {
        Mood::Resetting | Mood::Refusing => return Err(failed(Phase::Request, Kind::Died, false)),
        Mood::Garbling => return Err(failed(Phase::Request, Kind::Malformed, false)),
        _ => {}
    }
    let status = match mood {
        Mood::Failing => 503,
        Mood::Ailing if tasks.is_lucky(50) => 500,
        _ => 200,
    };
    attempt.responded(first_byte, tasks.now());
    attempt.backend().stats().response(status);
    attempt.answered_with(status);
    tasks.sleep(tasks.roll(10)).await;
    if mood == Mood::Breaking {
        return Err(failed(Phase::Response, Kind::Died, true));
    }
    attempt.completed(status);
    Ok(status)
}

async fn connect(world: &World, attempt: &Attempt, numbers: (usize, usize)) -> Result<(), Failed> {
    let failed = |kind| Failed {
        fault: Fault::upstream(Phase::Connect, kind),
        reused: false,
        sent: false,
        begun: false,
    };
    match world.mood(numbers) {
        Mood::Refusing => {
            world.tasks.sleep(world.tasks.roll(2)).await;
            Err(failed(Kind::Died))
        }
        Mood::Absent => {
            world.tasks.sleep(world.scenario.connect_timeout).await;
            Err(failed(Kind::Silent))
        }
        _ => {
            world.tasks.sleep(world.tasks.roll(3)).await;
            attempt.connected(0, world.tasks.now());
            Ok(())
        }
    }
}
