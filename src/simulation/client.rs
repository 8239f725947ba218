//! The clients of a run: each sends one request, which a worker takes from backend to backend as an exchange does.

use std::rc::{Rc, Weak};
use std::time::Duration;

use super::{check, life::Mood, worker::Worker, world::World};
use crate::{
    cluster::{attempt::Attempt, tried::Tried},
    fault::{Fault, Kind, Phase},
    shard::{Picked, Wish},
    upstream::retry::{Progress, Verdict, verdict},
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
}

impl Held {
    fn new(world: &World, worker: &Rc<Worker>, attempt: Attempt) -> Self {
        let attempt = Rc::new(attempt);
        worker.counts(attempt.backend(), 1);
        if attempt.is_trial() {
            let mut trials = world.trials.borrow_mut();
            trials.retain(|trial| Weak::strong_count(trial) > 0);
            trials.push(Rc::downgrade(&attempt));
        }
        Held { attempt, worker: Rc::clone(worker) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
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

async fn request(world: Rc<World>, me: usize) {
    let worker = world.worker(me);
    let number = world.requests.replace(world.requests.get() + 1);
    let setup = worker.shard.setup();
    let begun_under = worker.renewals.get();
    let cluster = world.tasks.place(setup.plan().clusters.len());
    let backends = setup.plan().clusters[cluster].backends.len();
    let pinned = world.tasks.is_lucky(world.scenario.pinned).then(|| world.tasks.place(backends));
    let repeatable = !world.tasks.is_lucky(world.scenario.unsafe_ones);
    let wish = Wish { cluster, key: world.tasks.roll(u64::MAX), pinned, client: None };
    let mut tried = Tried::default();
    let mut afresh: Option<Held> = None;
    loop {
        let held = match afresh.take() {
            Some(held) => held,
            None => {
                let before = tried;
                let Ok(Picked { attempt, is_new }) = setup.pick(wish, &mut tried, world.tasks.now()) else {
                    world.trace.fact(world.tasks.now(), "nobody for", [me, number, cluster, 0]);
                    if worker.renewals.get() == begun_under {
                        check::nobody(&world, &worker, cluster, &before);
                    }
                    return;
                };
                let (of, at) = Worker::numbers(attempt.backend());
                world.trace.fact(world.tasks.now(), "picked", [me, number, of, at]);
                let same_plan = worker.renewals.get() == begun_under;
                check::picked(&world, &worker, &attempt, is_new, same_plan.then_some(&before));
                Held::new(&world, &worker, attempt)
            }
        };
        let failed = match visit(&world, &held.attempt).await {
            Ok(status) => {
                world.trace.fact(world.tasks.now(), "answered", [me, number, usize::from(status), 0]);
                return;
            }
            Err(failed) => failed,
        };
        let Failed { fault, reused, sent, begun } = failed;
        world.trace.fact(
            world.tasks.now(),
            "failed",
            [me, number, fault.phase as usize, fault.kind as usize],
        );
        worker.shard.blame(&held.attempt, fault, reused);
        let progress = Progress {
            repeatable,
            retries_late: true,
            whole: true,
            sent,
            reused,
            response_begun: begun,
            answerable: !begun,
        };
        match verdict(fault, progress) {
            Verdict::Elsewhere(_) => {}
            Verdict::Afresh if held.attempt.is_welcome() => afresh = Some(held),
            Verdict::Afresh => {}
            Verdict::Answer(_) | Verdict::Abort => return,
        }
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
