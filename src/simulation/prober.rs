//! The prober of a run: the real pulse of every backend that is probed, and no network.

use std::{rc::Rc, sync::Arc};

use super::{control::Finding, scenario, tasks, world::World};
use crate::{
    addr::Endpoint,
    config::plan::{
        Plan,
        health::{HealthPlan, Kind, Start},
    },
    health::pulse::{Pulse, Rules, Verdict},
    io::alarm::Millis,
};

/// Who is probed, and by which task.
pub(super) struct Subject {
    cluster: Arc<str>,
    backend: Arc<str>,
    endpoints: Arc<[Endpoint]>,
    health: Arc<HealthPlan>,
    is_up: Rc<std::cell::Cell<bool>>,
    task: tasks::Id,
}

/// Goes by another plan, as the real prober does it: who is probed as before and where it was before goes on.
pub(super) fn follow(world: &Rc<World>, plan: &Plan) {
    let mut before = world.probed.take();
    let mut now = Vec::new();
    for cluster in &plan.clusters {
        let Some(health) = &cluster.health else { continue };
        for backend in &cluster.backends {
            let known = before
                .iter()
                .position(|subject| (&subject.cluster, &subject.backend) == (&cluster.name, &backend.name));
            let known = known.map(|place| before.swap_remove(place));
            if let Some(same) = known.as_ref().filter(|same| *same.endpoints == *backend.endpoints)
                && same.health == *health
            {
                now.extend(known);
                continue;
            }
            let here = known.as_ref().filter(|known| *known.endpoints == *backend.endpoints);
            let is_up = here.map_or(health.start == Start::Up, |known| known.is_up.get());
            known.iter().for_each(|known| world.tasks.cut(known.task));
            let is_up = Rc::new(std::cell::Cell::new(is_up));
            let (cluster, backend) = (Arc::clone(&cluster.name), backend.clone());
            let (name, shown) = (Arc::clone(&backend.name), Rc::clone(&is_up));
            let endpoints: Arc<[Endpoint]> = backend.endpoints.into();
            let named = (Arc::clone(&cluster), name, Arc::clone(&endpoints));
            let task = world.tasks.spawn(probe(Rc::clone(world), named, Arc::clone(health), shown));
            let backend = backend.name;
            now.push(Subject { cluster, backend, endpoints, health: Arc::clone(health), is_up, task });
        }
    }
    before.iter().for_each(|gone| world.tasks.cut(gone.task));
    world.probed.replace(now);
}

async fn probe(
    world: Rc<World>,
    (cluster, backend, endpoints): (Arc<str>, Arc<str>, Arc<[Endpoint]>),
    health: Arc<HealthPlan>,
    is_up: Rc<std::cell::Cell<bool>>,
) {
    let millis = |time: std::time::Duration| time.as_millis() as Millis;
    let mut pulse = Pulse::new(
        Rules {
            rise: health.rise,
            fall: health.fall,
            interval: millis(health.interval),
            fast_interval: millis(health.fast_interval),
            jitter_percent: health.jitter_percent,
        },
        is_up.get(),
    );
    let by_request = health.probe.kind() == Kind::Http;
    world.tasks.sleep(world.tasks.roll(millis(health.interval))).await;
    loop {
        let begun = world.tasks.now();
        let mood = world.mood(scenario::numbers_of(&backend));
        let passes = mood.passes(by_request);
        let takes = if passes { world.tasks.roll(5) } else { world.tasks.roll(millis(health.timeout)) };
        world.tasks.sleep(takes).await;
        let result = if passes { Ok(()) } else { Err(format!("{mood:?}")) };
        if let Some(verdict) = pulse.hear(result) {
            is_up.set(verdict == Verdict::Up);
            world.verdicts.borrow_mut().entry(scenario::numbers_of(&backend)).and_modify(|count| *count += 1);
            let (cluster, backend) = (Arc::clone(&cluster), Arc::clone(&backend));
            let endpoints = Arc::clone(&endpoints);
            world.control.findings.borrow_mut().push_back(Finding { cluster, backend, endpoints, verdict });
            world.news.ring();
        }
        let next = begun + pulse.pause(world.tasks.roll(u64::MAX));
        world.tasks.sleep(next.saturating_sub(world.tasks.now())).await;
    }
}
