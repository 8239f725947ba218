//! What must hold: after every step, and when all trouble is over.
//!
//! Every check goes by what was seen from outside, not by what the code under test believes.

use std::rc::Rc;

use super::{journal::Line, scenario, worker::Worker, world::World};
use crate::{
    cluster::{attempt::Attempt, tried::Tried},
    config::plan::{ClusterPlan, cluster::Duty},
    health::{
        board::Place,
        standing::{Standing, State},
    },
};

/// A backend was picked. Only one that stands up, as far as this worker was told; one that drains only for a client that
/// is pinned to it; one that is ejected only for its trial, of which there is one at a time over all workers. One that
/// this worker has set aside by itself stands up: it is a last resort.
pub(super) fn picked(world: &World, worker: &Worker, attempt: &Attempt, is_new: bool, tried: Option<&Tried>) {
    let Some(place) = attempt.backend().place() else {
        return world.fail(format!("worker {} picked a backend that has left", worker.me));
    };
    let name = attempt.backend().name();
    let told = worker.told_of(place);
    let is_allowed = match told {
        Standing::Up => !attempt.is_trial(),
        Standing::Drain => !is_new && !attempt.is_trial(),
        Standing::Trial => attempt.is_trial(),
        Standing::Out => false,
    };
    if !is_allowed {
        let how = if attempt.is_trial() { "a trial" } else { "an ordinary request" };
        world.fail(format!("worker {} sends {how} to {name}, which it was told is {told:?}", worker.me));
    }
    let is_under_way = |trial: &Rc<Attempt>| {
        trial.is_trial() && trial.backend().place().is_some() && trial.backend().name() == name
    };
    let trials = world.trials.borrow();
    if attempt.is_trial()
        && trials.iter().filter_map(std::rc::Weak::upgrade).any(|trial| is_under_way(&trial))
    {
        world.fail(format!("a second trial at {name}, with worker {}", worker.me));
    }
    let earlier = tried.and_then(|tried| tried.indices().split_last()).map(|(_, earlier)| earlier);
    if earlier.is_some_and(|earlier| earlier.contains(&place.1)) {
        world.fail(format!("worker {} tries {name} twice for one request", worker.me));
    }
    *world.picks.borrow_mut().entry(scenario::numbers_of(name)).or_default() += 1;
}

/// Nobody was picked for a request, which does not wait either: then everybody who stands up was tried or is set aside and full, or the
/// request has no attempts left.
pub(super) fn nobody(world: &World, worker: &Worker, cluster: usize, tried: &Tried) {
    let told = worker.told.borrow();
    let setup = worker.shard.setup();
    let backends = &setup.plan().clusters[cluster].backends;
    // A last resort that has all it may have is not worth waiting for.
    let mut is_set_aside = Vec::new();
    setup.clusters[cluster].for_each(|of| is_set_aside.push(of.set_aside_until(world.tasks.now()).is_some()));
    let left = (0..told[cluster].len()).find(|place| {
        told[cluster][*place] == Standing::Up
            && !tried.indices().contains(place)
            && (backends[*place].max_requests == 0 || !is_set_aside[*place])
    });
    if let Some(place) = left.filter(|_| !tried.is_exhausted()) {
        world
            .fail(format!("worker {} has nobody, but backend {place} of cluster {cluster} is up", worker.me));
    }
}

/// A worker has read all its mail: it knows what is so, and counts what it has in flight.
pub(super) fn worker(world: &World, worker: &Worker) {
    in_flight(world, worker);
    agrees(world, worker);
}

/// Control has told whatever it could.
pub(super) fn control(world: &World) {
    let now = world.tasks.now();
    if let Some(due) = world.control.health.borrow().due().filter(|due| *due <= now) {
        world.fail(format!("control has something to do at {due} and has not done it at {now}"));
    }
    for of in &world.workers {
        agrees(world, of);
    }
    holders(world);
}

/// Every worker that is not about to be told something has been told what is so.
fn agrees(world: &World, worker: &Worker) {
    let control = &world.control;
    let is_settled =
        control.health.borrow().has_told_all() && control.renewals.get() == worker.renewals.get();
    if !is_settled || worker.has_mail.get() {
        return;
    }
    for_each_state(world, |place, plan, state, everybody| {
        let duty = plan.backends[place.1].duty;
        let told = worker.told_of(place);
        let is_right = match state {
            State::Up => told == Standing::Up,
            State::Drain => matches!(told, Standing::Drain | Standing::Out),
            State::Maint => told == Standing::Out,
            State::Down | State::Ejected | State::Trial if everybody && duty == Duty::Ready => {
                told == Standing::Up
            }
            State::Trial => matches!(told, Standing::Trial | Standing::Out),
            State::Down | State::Ejected => told == Standing::Out,
        };
        if !is_right {
            let name = &plan.backends[place.1].name;
            world.fail(format!("worker {} takes {name} for {told:?}; it is {state:?} ({duty:?})", worker.me));
        }
    });
}

/// No two workers have been told of the same trial, as far as they have read their mail.
fn holders(world: &World) {
    let control = &world.control;
    if world
        .workers
        .iter()
        .any(|worker| worker.has_mail.get() || worker.renewals.get() != control.renewals.get())
    {
        return;
    }
    for_each_state(world, |place, plan, _, _| {
        let holders = world.workers.iter().filter(|worker| worker.told_of(place) == Standing::Trial).count();
        if holders > 1 {
            world.fail(format!("{holders} workers may try {}", plan.backends[place.1].name));
        }
    });
}

/// Runs `each` with every backend's place, its cluster's plan, its state, and whether its cluster is in such need that all
/// are used.
fn for_each_state(world: &World, mut each: impl FnMut(Place, &ClusterPlan, State, bool)) {
    let view = world.control.view.borrow();
    for (cluster, (plan, states)) in view.plan.clusters.iter().zip(&view.states).enumerate() {
        let states: Vec<_> = states.iter().map(|cell| cell.get().0).collect();
        let ready = plan.backends.iter().zip(&states);
        let ready = ready.filter(|(backend, _)| backend.duty == Duty::Ready && backend.weight > 0);
        let (on_duty, up) =
            ready.fold((0, 0), |(all, up), (_, state)| (all + 1, up + usize::from(*state == State::Up)));
        let everybody = up * 100 < on_duty * usize::from(plan.circuit.panic_threshold_percent);
        for (backend, state) in states.into_iter().enumerate() {
            each((cluster, backend), plan, state, everybody);
        }
    }
}

/// A line of the log. An outlier is ejected only while no more than its share are.
pub(super) fn line(world: &World, line: &Line) {
    if line.backend.is_empty() {
        return;
    }
    let numbers = scenario::numbers_of(&line.backend);
    *world.lines.borrow_mut().entry(numbers).or_default() += 1;
    if line.reason != "fails more often than the others" {
        return;
    }
    let view = world.control.view.borrow();
    let of = |plan: &ClusterPlan| plan.backends.iter().any(|backend| *backend.name == *line.backend);
    let Some(cluster) = view.plan.clusters.iter().position(of) else { return };
    let (plan, states) = (&view.plan.clusters[cluster], &view.states[cluster]);
    let out = states.iter().filter(|cell| matches!(cell.get().0, State::Ejected | State::Trial)).count();
    let share = usize::from(plan.circuit.outlier.ejected_max_percent);
    let most = (states.len() * share / 100).max(1);
    if out > most {
        world.fail(format!("{out} of {} are ejected, and one of them as an outlier", states.len()));
    }
}

/// What a worker counts is what there is.
fn in_flight(world: &World, worker: &Worker) {
    for cluster in &worker.shard.setup().clusters {
        let mut index = 0;
        cluster.for_each(|backend| {
            let (counted, live) = (world.in_flight(cluster, index), worker.live(backend));
            if counted != live {
                let name = backend.name();
                world.fail(format!("worker {} counts {counted} at {name}; there are {live}", worker.me));
            }
            index += 1;
        });
    }
}

/// Trouble has been over for so long that everybody is in service again.
pub(super) fn recovered(world: &World) {
    if world.control.is_reloading() {
        return world.fail("the last reload does not come to its end".to_owned());
    }
    let workers = &world.workers;
    for_each_state(world, |place, plan, state, _| {
        let told: Vec<_> = workers.iter().map(|worker| worker.told_of(place)).collect();
        if state != State::Up || told.iter().any(|told| *told != Standing::Up) {
            let name = &plan.backends[place.1].name;
            world.fail(format!("{name} has recovered long ago and is {state:?}; workers think {told:?}"));
        }
    });
    for (numbers, lines) in &*world.lines.borrow() {
        let most = lines_max(world, *numbers);
        if *lines > most {
            world.fail(format!("{lines} lines of log about {numbers:?}, more than {most}"));
        }
    }
}

/// How many lines a backend may be worth in a whole run: openings double, verdicts and operators have their say.
fn lines_max(world: &World, numbers: (usize, usize)) -> usize {
    let circuit = &world.scenario.clusters[numbers.0].circuit;
    let ratio = circuit.open_max.as_millis() / circuit.open.as_millis();
    let time = u128::from(world.tasks.now() - world.begin) / circuit.open_max.as_millis();
    let openings = (time as usize + 1) * (ratio.ilog2() as usize + 2);
    let verdicts = world.verdicts.borrow().get(&numbers).copied().unwrap_or_default();
    2 * (openings + verdicts + world.control.renewals.get() + 1)
}

/// Everybody has had its share of the requests since the last look, where there is such a thing.
pub(super) fn shares(world: &World) {
    let picks = world.picks.borrow();
    for (number, cluster) in world.scenario.clusters.iter().enumerate() {
        if !world.has_shares(cluster) {
            continue;
        }
        let picks = |backend: usize| picks.get(&(number, backend)).copied().unwrap_or_default();
        let primaries = || cluster.backends.iter().enumerate().filter(|(_, backend)| !backend.backup);
        let weights: usize = primaries().map(|(_, backend)| usize::from(backend.weight)).sum();
        let all: usize = (0..cluster.backends.len()).map(picks).sum();
        for (place, backend) in primaries() {
            let fair = all * usize::from(backend.weight) / weights;
            if fair >= 20 && picks(place) < fair / 3 {
                world.fail(format!(
                    "{} gets {} of {all} requests and not {fair}",
                    backend.name,
                    picks(place)
                ));
            }
        }
    }
}

/// Nobody asks any more: nothing is in flight.
pub(super) fn rest(world: &World) {
    for of in &world.workers {
        worker(world, of);
        for cluster in &of.shard.setup().clusters {
            let mut index = 0;
            cluster.for_each(|backend| {
                if world.in_flight(cluster, index) != 0 {
                    world.fail(format!("worker {} keeps something at {}", of.me, backend.name()));
                }
                index += 1;
            });
        }
    }
}
