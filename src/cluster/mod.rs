//! Clusters and backends as one worker sees them: who may be asked, who was refused lately, what is in progress.
//!
//! This is the seam for health: whether a backend may be asked is decided in [`Cluster::reconsider`].

pub mod attempt;
pub mod backend;
pub mod setback;
pub mod tried;

use std::{
    cell::RefCell, cmp::Reverse, collections::BinaryHeap, net::IpAddr, rc::Rc, sync::Arc, time::Duration,
};

use self::{attempt::Attempt, backend::Backend, tried::Tried};
use crate::{
    balance::{
        layout::Layout,
        roster::Fitness,
        selector::{Request, Selector},
    },
    config::plan::ClusterPlan,
    io::alarm::{self, Millis},
    stats::{names::BackendCount, worker::BackendStats},
    upstream::source::Sources,
};

/// One worker's view of a cluster. It outlives a reload, which changes its members in place: what is in progress
/// goes on at the backend it was given to.
pub struct Cluster {
    members: RefCell<Members>,
}

struct Members {
    backends: Vec<Rc<Backend>>,
    selector: Selector,
    /// Who was set aside, and until when.
    returning: BinaryHeap<Reverse<(Millis, usize)>>,
}

impl Cluster {
    /// The worker's own copy of a planned cluster. `offset` makes rotating selectors of different workers and
    /// instances start apart.
    pub fn new(
        plan: &ClusterPlan,
        layout: Arc<Layout>,
        stats: &[Arc<BackendStats>],
        offset: usize,
    ) -> Rc<Self> {
        let selector = Selector::new(Arc::clone(&layout), offset as u64, alarm::now());
        let members = Members { backends: Vec::new(), selector, returning: BinaryHeap::new() };
        let cluster = Rc::new(Cluster { members: RefCell::new(members) });
        cluster.update(plan, layout, stats, offset);
        cluster
    }

    /// Changes the members. A backend that was there before, under the same name and at the same endpoints, keeps its
    /// connections and all that is known of it. `layout` is the new plan's.
    pub fn update(
        &self,
        plan: &ClusterPlan,
        layout: Arc<Layout>,
        stats: &[Arc<BackendStats>],
        offset: usize,
    ) {
        let now = alarm::now();
        let mut members = self.members.borrow_mut();
        let sources = Rc::new(Sources::new(Arc::clone(&plan.sources), offset));
        let old = std::mem::take(&mut members.backends);
        let mut selector = Selector::new(layout, offset as u64, now);
        for (index, (plan, stats)) in plan.backends.iter().zip(stats).enumerate() {
            let kept = old.iter().enumerate().find(|(_, backend)| backend.is(plan));
            if let Some((old_index, _)) = kept {
                selector.inherit(index, &members.selector, old_index);
            }
            let fresh = || Rc::new(Backend::new(plan, Arc::clone(stats)));
            let backend = kept.map_or_else(fresh, |(_, backend)| Rc::clone(backend));
            backend.joins(index, Rc::clone(&sources));
            members.backends.push(backend);
        }
        for gone in old.iter().filter(|old| !members.backends.iter().any(|new| Rc::ptr_eq(old, new))) {
            gone.leaves();
        }
        members.selector = selector;
        members.returning.clear();
        let backends = members.backends.clone();
        drop(members);
        backends.iter().for_each(|backend| self.reconsider(backend, now));
    }

    /// It is in no plan any more: all its backends leave.
    pub fn dissolve(&self) {
        self.for_each(|backend| backend.leaves());
    }

    /// Runs `each` for every backend, in the order of the plan.
    pub fn for_each(&self, each: impl FnMut(&Rc<Backend>)) {
        self.members.borrow().backends.iter().for_each(each);
    }

    /// The key of a client, for the hashing algorithms.
    pub fn key_of_client(&self, address: IpAddr) -> u64 {
        self.members.borrow().selector.layout().key_of_client(address)
    }

    /// The key of a header, a cookie, a path or a query parameter.
    pub fn key(&self, bytes: &[u8]) -> u64 {
        self.members.borrow().selector.layout().key(bytes)
    }

    /// True when keys make a difference.
    pub fn is_keyed(&self) -> bool {
        self.members.borrow().selector.layout().algorithm().is_keyed()
    }

    /// Picks a backend for the next attempt: one that is fit, or, when none is, one that was only set aside.
    /// `None` when all have been tried.
    pub fn pick(self: &Rc<Self>, tried: &mut Tried, key: u64, now: Millis) -> Option<Attempt> {
        if tried.is_exhausted() {
            return None;
        }
        self.readmit(now);
        let mut members = self.members.borrow_mut();
        let request = Request { key, tried: tried.indices(), now };
        let index = members.selector.pick(request).or_else(|| members.selector.pick_ailing(request))?;
        tried.add(index);
        let backend = members.backends.get(index)?;
        backend.stats().count(BackendCount::Picks);
        Some(Attempt::new(Rc::clone(self), Rc::clone(backend)))
    }

    /// The backend at this place, for a client that is pinned to it: `None` when it was tried or is set aside. One that
    /// takes no new clients keeps its old ones.
    pub fn pick_pinned(self: &Rc<Self>, place: usize, tried: &mut Tried, now: Millis) -> Option<Attempt> {
        self.readmit(now);
        let mut members = self.members.borrow_mut();
        let backend = members.backends.get(place).cloned()?;
        if tried.indices().contains(&place) || backend.set_aside_until(now).is_some() {
            return None;
        }
        members.selector.started(place);
        tried.add(place);
        backend.stats().count(BackendCount::Picks);
        Some(Attempt::new(Rc::clone(self), backend))
    }

    /// Those whose time is over may be asked again.
    fn readmit(&self, now: Millis) {
        loop {
            let mut members = self.members.borrow_mut();
            // Who is not due must stay in the queue: it is how it comes back.
            let due = members.returning.peek().filter(|Reverse((until, _))| *until <= now);
            let Some(&Reverse((_, index))) = due else { return };
            members.returning.pop();
            let backend = members.backends.get(index).cloned();
            drop(members);
            if let Some(backend) = backend {
                self.reconsider(&backend, now);
            }
        }
    }

    /// Tells the selector whether a backend may be asked.
    fn reconsider(&self, backend: &Backend, now: Millis) {
        let Some(index) = backend.index() else { return };
        let mut members = self.members.borrow_mut();
        let fitness = match backend.set_aside_until(now) {
            // Every failure while it is set aside comes by here; it returns once.
            Some(until) => {
                let known = members.returning.iter().any(|Reverse(noted)| *noted == (until, index));
                if !known {
                    members.returning.push(Reverse((until, index)));
                }
                Fitness::Ailing
            }
            None => Fitness::Fit,
        };
        members.selector.set_fitness(index, fitness, now);
    }

    fn finished(&self, backend: &Backend) {
        if let Some(index) = backend.index() {
            self.members.borrow_mut().selector.finished(index);
        }
    }

    fn responded(&self, backend: &Backend, first_byte: Duration, now: Millis) {
        if let Some(index) = backend.index() {
            self.members.borrow_mut().selector.responded(index, first_byte, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        blueprint::Blueprint,
        config::plan::Plan,
        fault::{Fault, Kind, Phase},
        stats::view::View,
    };

    const REFUSED: Fault =
        Fault { side: crate::fault::Side::Upstream, phase: Phase::Connect, kind: Kind::Died };

    fn planned(backends: &[&str]) -> (Blueprint, View) {
        let blueprint = Blueprint::new(Plan::for_tests(backends), None);
        let view = View::new(Arc::clone(&blueprint.plan));
        (blueprint, view)
    }

    fn cluster(backends: &[&str]) -> Rc<Cluster> {
        let (blueprint, view) = planned(backends);
        let layout = Arc::clone(&blueprint.layouts[0]);
        Cluster::new(&blueprint.plan.clusters[0], layout, &view.workers[0].backends[0], 0)
    }

    fn names(cluster: &Rc<Cluster>, count: usize, now: Millis) -> Vec<String> {
        let pick = |_| cluster.pick(&mut Tried::default(), 0, now).unwrap().backend().name().to_owned();
        (0..count).map(pick).collect()
    }

    #[test]
    fn a_backend_is_tried_once_and_three_are_enough() {
        let cluster = cluster(&["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4"]);
        let mut tried = Tried::default();
        let names: std::collections::HashSet<_> = std::iter::from_fn(|| cluster.pick(&mut tried, 0, 0))
            .map(|attempt| attempt.backend().name().to_owned())
            .collect();
        assert_eq!(names.len(), crate::limits::ATTEMPTS_MAX);
    }

    #[test]
    fn one_set_aside_is_skipped_until_its_time_is_over_unless_nobody_else_is_left() {
        let cluster = cluster(&["127.0.0.1:1", "127.0.0.1:2"]);
        let now = alarm::now();
        let first = cluster.pick(&mut Tried::default(), 0, now).unwrap();
        first.failed(REFUSED, now);
        let other = names(&cluster, 1, now + 1);
        assert_ne!(other[0], first.backend().name());
        assert!(names(&cluster, 4, now + 1).iter().all(|name| *name == other[0]));
        let second = cluster.pick(&mut Tried::default(), 0, now).unwrap();
        second.failed(REFUSED, now);
        assert!(cluster.pick(&mut Tried::default(), 0, now + 1).is_some());
        assert!(names(&cluster, 4, now + 1_000).contains(&first.backend().name().to_owned()));
    }

    #[test]
    fn picks_while_it_is_set_aside_do_not_make_it_forgotten() {
        let cluster = cluster(&["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]);
        let now = alarm::now();
        let first = cluster.pick(&mut Tried::default(), 0, now).unwrap();
        first.failed(REFUSED, now);
        let name = first.backend().name().to_owned();
        for later in 1..1_000 {
            assert!(!names(&cluster, 1, now + later).contains(&name), "asked again after {later} ms");
        }
        assert!(names(&cluster, 3, now + 1_000).contains(&name), "never asked again");
    }

    #[test]
    fn an_update_keeps_who_stays_and_lets_go_who_leaves() {
        let cluster = cluster(&["127.0.0.1:1", "127.0.0.1:2"]);
        let mut tried = Tried::default();
        let (first, second) =
            (cluster.pick(&mut tried, 0, 0).unwrap(), cluster.pick(&mut tried, 0, 0).unwrap());
        let (stays, leaves) =
            if first.backend().name() == "127.0.0.1:2" { (first, second) } else { (second, first) };
        let (blueprint, view) = planned(&["127.0.0.1:3", "127.0.0.1:2"]);
        let layout = Arc::clone(&blueprint.layouts[0]);
        cluster.update(&blueprint.plan.clusters[0], layout, &view.workers[0].backends[0], 0);
        assert_eq!((stays.backend().index(), leaves.backend().index()), (Some(1), None));
        assert_eq!(cluster.members.borrow().selector.in_flight(1), 1);
        drop((stays, leaves));
        assert_eq!(cluster.members.borrow().selector.in_flight(1), 0);
        let mut seen = names(&cluster, 2, 0);
        seen.sort();
        assert_eq!(seen, ["127.0.0.1:2", "127.0.0.1:3"]);
    }
}
