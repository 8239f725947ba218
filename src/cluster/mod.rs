//! Clusters and backends as one worker sees them: who may be asked, who was refused lately, what is in progress.
//!
//! Whether a backend may be asked is decided in [`Cluster::reconsider`], from what control says of it and from what this
//! worker has just seen.

mod access;
pub mod accounts;
pub mod attempt;
pub mod backend;
pub mod bells;
pub mod budget;
pub mod credits;
pub mod floor;
pub mod ledger;
pub mod ledgers;
pub mod line;
mod members;
pub mod record;
pub mod reports;
pub mod room;
pub mod setback;
pub mod tried;

use std::{
    cell::{Cell, RefCell},
    cmp::Reverse,
    collections::HashMap,
    net::IpAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use self::{
    accounts::Accounts,
    attempt::{Attempt, Role},
    backend::Backend,
    budget::Budget,
    floor::Floor,
    line::Line,
    members::Members,
    reports::Reports,
    tried::Tried,
};
use crate::{
    balance::{layout::Layout, roster::Fitness, selector::Selector},
    config::plan::{ClusterPlan, cluster::OnDown},
    health::standing::{Failure, Standing, TrialEnd},
    io::{
        alarm::{self, Millis},
        ready,
    },
    stats::{names::BackendCount, worker::BackendStats},
    upstream::source::Sources,
};

/// One worker's view of a cluster. It outlives a reload, which changes its members in place: what is in progress
/// goes on at the backend it was given to.
pub struct Cluster {
    members: RefCell<Members>,
    /// Another number for other members.
    edition: Cell<u32>,
    reports: Rc<Reports>,
    /// A status of 500 to 599 is a failure.
    counts_5xx: Cell<bool>,
    on_down: Cell<OnDown>,
    /// Who waits for room at its backends.
    line: Rc<Line>,
    budget: RefCell<Budget>,
    floor: RefCell<Arc<Floor>>,
}

/// What a cluster is made from, or changed to.
pub struct Membership<'a> {
    /// Its place in the plan.
    pub place: usize,
    /// Its plan.
    pub plan: &'a ClusterPlan,
    /// How it chooses.
    pub layout: &'a Arc<Layout>,
    /// The worker's cells of its backends, in the order of the plan.
    pub stats: &'a [Arc<BackendStats>],
    /// What all workers share of it.
    pub accounts: &'a Accounts,
    /// How its backends stand, in the same order; who is missing is up.
    pub standings: &'a [Standing],
    /// The worker's place among the others.
    pub me: usize,
    /// Makes rotating selectors of different workers and instances start apart.
    pub offset: usize,
}

/// Where a backend is among others.
fn backend_of(all: &[Rc<Backend>], one: &Rc<Backend>) -> Option<usize> {
    let index = one.index()?;
    all.get(index).filter(|other| Rc::ptr_eq(other, one)).map(|_| index)
}

impl Cluster {
    /// The worker's own copy of a planned cluster.
    pub fn new(membership: &Membership<'_>, reports: Rc<Reports>) -> Rc<Self> {
        let selector = Selector::new(Arc::clone(membership.layout), membership.offset as u64, alarm::now());
        let members = Members::new(selector);
        let cluster = Rc::new(Cluster {
            members: RefCell::new(members),
            edition: Cell::new(0),
            reports,
            counts_5xx: Cell::new(false),
            on_down: Cell::default(),
            line: Line::new(membership.me, Arc::clone(&membership.accounts.callers)),
            budget: RefCell::default(),
            floor: RefCell::default(),
        });
        cluster.update(membership);
        cluster
    }

    /// Changes the members. A backend that was there before, under the same name and at the same endpoints, keeps its
    /// connections and all that is known of it.
    pub fn update(&self, membership: &Membership<'_>) {
        let Membership { place, plan, layout, stats, accounts, standings, me: _, offset } = *membership;
        let now = alarm::now();
        self.edition.set(self.edition.get().wrapping_add(1));
        self.counts_5xx.set(plan.circuit.count_5xx);
        self.on_down.set(plan.on_down);
        let mut members = self.members.borrow_mut();
        let sources = Rc::new(Sources::new(Arc::clone(&plan.sources), offset));
        let old = std::mem::take(&mut members.backends);
        let places: HashMap<&str, usize> =
            old.iter().enumerate().map(|(index, backend)| (backend.name(), index)).collect();
        let mut selector = Selector::new(Arc::clone(layout), offset as u64, now);
        for (index, (plan, stats)) in plan.backends.iter().zip(stats).enumerate() {
            let known =
                places.get(&*plan.name).and_then(|old_index| Some((*old_index, old.get(*old_index)?)));
            let kept = known.filter(|(_, backend)| backend.is(plan));
            if let Some((old_index, _)) = kept {
                selector.inherit(index, &members.selector, old_index);
            }
            let fresh = || Rc::new(Backend::new(plan, Arc::clone(stats)));
            let backend = kept.map_or_else(fresh, |(_, backend)| Rc::clone(backend));
            let account = accounts.backends.get(index);
            backend.joins((place, index), Rc::clone(&sources), &self.line, account);
            members.backends.push(backend);
        }
        let limited = members.backends.iter().any(|backend| backend.room().is_limited());
        self.line.update(plan.queue_max, limited);
        self.line.renew(|index| selector.set_full(index, false));
        self.floor.replace(Arc::clone(&accounts.floor));
        members.selector = selector;
        members.returning.clear();
        members.trials.clear();
        members.unproven.clear();
        let backends = members.backends.clone();
        drop(members);
        for gone in old.iter().filter(|old| backend_of(&backends, old).is_none()) {
            gone.leaves();
        }
        for (index, backend) in backends.iter().enumerate() {
            self.stands(backend, standings.get(index).copied().unwrap_or_default(), now);
        }
        // Whoever waits may be served by another one now, or by none.
        self.line.call_all();
    }

    /// It is in no plan any more: what is in progress and what waits is served to its end, and nothing is kept.
    pub fn dissolve(&self) {
        self.for_each(|backend| backend.dissolves());
    }

    /// Runs `each` for every backend, in the order of the plan.
    pub fn for_each(&self, each: impl FnMut(&Rc<Backend>)) {
        self.members.borrow().backends.iter().for_each(each);
    }

    /// Another number each time the places of its backends may have changed.
    #[inline]
    pub fn edition(&self) -> u32 {
        self.edition.get()
    }

    /// How many backends it has.
    pub fn len(&self) -> usize {
        self.members.borrow().backends.len()
    }

    /// True when it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What a backend has in flight from this worker.
    #[cfg(test)]
    pub(crate) fn in_flight(&self, index: usize) -> u32 {
        self.members.borrow().selector.in_flight(index)
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
    /// `None` when all have been tried, or have all they may have.
    pub fn pick(self: &Rc<Self>, tried: &mut Tried, key: u64, now: Millis) -> Option<Attempt> {
        if tried.is_exhausted() {
            return None;
        }
        self.readmit(now);
        let mut members = self.members.borrow_mut();
        if self.line.is_limited() {
            if self.line.has_precedence() && !tried.is_in_turn() {
                return None;
            }
            self.line.refresh(|index| members.selector.set_full(index, false));
        }
        let (index, role) = members.choose(tried, key, now, &self.line)?;
        tried.add(index);
        let backend = members.backends.get(index)?;
        backend.stats().count(BackendCount::Picks);
        Some(Attempt::new(Rc::clone(self), Rc::clone(backend), role))
    }

    /// The backend at this place, for a client that is pinned to it: `None` when it was tried, is out, set aside or
    /// full. One that drains keeps its old clients, and an ejected one may have its trial with one of them.
    pub fn pick_pinned(self: &Rc<Self>, index: usize, tried: &mut Tried, now: Millis) -> Option<Attempt> {
        self.readmit(now);
        let mut members = self.members.borrow_mut();
        let backend = members.backends.get(index).cloned()?;
        if tried.indices().contains(&index) || tried.is_exhausted() {
            return None;
        }
        let record = backend.record();
        let takes_clients = matches!(record.standing(), Standing::Up | Standing::Drain);
        // A place that is taken and left again calls whoever waits for it, who would do the same.
        if !record.may_begin_trial() && (!takes_clients || backend.set_aside_until(now).is_some()) {
            return None;
        }
        if !backend.room().enter() {
            self.line.fill(backend.room());
            members.selector.set_full(index, true);
            return None;
        }
        let is_trial = backend.begin_trial();
        members.selector.started(index);
        tried.add(index);
        backend.stats().count(BackendCount::Picks);
        Some(Attempt::new(Rc::clone(self), backend, if is_trial { Role::Trial } else { Role::Usual }))
    }

    /// Control has told how a backend stands.
    pub fn told(&self, index: usize, standing: Standing, now: Millis) {
        let backend = self.members.borrow().backends.get(index).cloned();
        if let Some(backend) = backend {
            self.stands(&backend, standing, now);
        }
    }

    fn stands(&self, backend: &Rc<Backend>, standing: Standing, now: Millis) {
        let mut record = backend.record();
        let before = record.standing();
        record.stands(standing);
        backend.set_record(record);
        if standing == Standing::Up && before != Standing::Up {
            backend.forgive();
        }
        if standing == Standing::Out && before != Standing::Out {
            backend.pool().clear();
            // A trial is under way only where nothing else is.
            if before != Standing::Trial && self.on_down.get() == OnDown::Close {
                ready::sever(backend.owner());
            }
        }
        if let Some(index) = backend.index() {
            self.members.borrow_mut().may_try(index, standing == Standing::Trial);
        }
        if record.has_news() {
            self.reports.add(backend);
        }
        self.reconsider(backend, now);
        if standing != before {
            self.line.call_all();
        }
    }

    /// What becomes of the work at a backend that goes down.
    fn on_down(&self) -> OnDown {
        self.on_down.get()
    }

    /// True when a status of 500 to 599 is a failure.
    fn counts_5xx(&self) -> bool {
        self.counts_5xx.get()
    }

    /// Something has failed at a backend, be it its trial or not.
    fn failed(&self, backend: &Rc<Backend>, failure: Failure, is_trial: bool) {
        let mut record = backend.record();
        record.failed(failure);
        if is_trial {
            record.end_trial(TrialEnd::Failed);
        }
        backend.set_record(record);
        self.reports.add(backend);
    }

    /// Something has succeeded after what control knows as failures.
    fn succeeded(&self, backend: &Rc<Backend>) {
        let mut record = backend.record();
        record.succeeded();
        backend.set_record(record);
        self.reports.add(backend);
    }

    fn ended_trial(&self, backend: &Rc<Backend>, end: TrialEnd) {
        let mut record = backend.record();
        record.end_trial(end);
        backend.set_record(record);
        self.reports.add(backend);
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
        let set_aside = backend.set_aside_until(now);
        let fitness = match set_aside {
            _ if backend.record().standing() != Standing::Up => Fitness::Out,
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
        members.must_prove(index, fitness == Fitness::Fit && backend.was_set_aside());
        let has_recovered = members.selector.set_fitness(index, fitness, now);
        drop(members);
        if has_recovered {
            self.line.call_all();
        }
    }

    /// A request or connection has come to its end.
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
        view_of(Plan::for_tests(backends))
    }

    fn view_of(plan: Plan) -> (Blueprint, View) {
        let blueprint = Blueprint::new(plan, None);
        let view = View::new(Arc::clone(&blueprint.plan));
        (blueprint, view)
    }

    fn cluster(backends: &[&str]) -> Rc<Cluster> {
        cluster_of(Plan::for_tests(backends))
    }

    fn cluster_of(plan: Plan) -> Rc<Cluster> {
        let (blueprint, view) = view_of(plan);
        let layout = Arc::clone(&blueprint.layouts[0]);
        let (plan, stats) = (&blueprint.plan.clusters[0], &view.workers[0].backends[0]);
        let accounts = &blueprint.accounts[0];
        let membership =
            Membership { place: 0, plan, layout: &layout, stats, accounts, standings: &[], me: 0, offset: 0 };
        Cluster::new(&membership, Rc::default())
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
        assert_eq!(names.len(), crate::limits::ATTEMPTS_USUAL);
    }

    #[test]
    fn one_set_aside_is_skipped_until_its_time_is_over_unless_nobody_else_is_left() {
        let cluster = cluster(&["127.0.0.1:1", "127.0.0.1:2"]);
        let now = alarm::now();
        let first = cluster.pick(&mut Tried::default(), 0, now).unwrap();
        first.failed(REFUSED, false, now);
        let other = names(&cluster, 1, now + 1);
        assert_ne!(other[0], first.backend().name());
        assert!(names(&cluster, 4, now + 1).iter().all(|name| *name == other[0]));
        let second = cluster.pick(&mut Tried::default(), 0, now).unwrap();
        second.failed(REFUSED, false, now);
        assert!(cluster.pick(&mut Tried::default(), 0, now + 1).is_some());
        assert!(names(&cluster, 4, now + 1_000).contains(&first.backend().name().to_owned()));
    }

    #[test]
    fn a_request_meets_one_that_has_just_come_back_once_at_the_most() {
        let cluster = cluster(&["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4"]);
        let now = alarm::now();
        for index in 0..3 {
            cluster.pick_pinned(index, &mut Tried::default(), now).unwrap().failed(REFUSED, false, now);
        }
        let later = now + 1_000;
        let mut returned = 0;
        for _ in 0..8 {
            let mut tried = Tried::default();
            let first = cluster.pick(&mut tried, 0, later).unwrap();
            let second = cluster.pick(&mut tried, 0, later).unwrap();
            returned += usize::from(first.backend().name() != "127.0.0.1:4");
            let wanted = first.backend().name() != "127.0.0.1:4";
            assert_eq!(
                second.backend().name() == "127.0.0.1:4",
                wanted,
                "there is no other one it could trust"
            );
        }
        assert!(returned >= 4, "they are asked again: {returned}");
        let back = cluster.pick_pinned(0, &mut Tried::default(), later).unwrap();
        back.connected(0, later);
        assert_eq!(cluster.members.borrow().unproven.len(), 2);
    }

    #[test]
    fn picks_while_it_is_set_aside_do_not_make_it_forgotten() {
        let cluster = cluster(&["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]);
        let now = alarm::now();
        let first = cluster.pick(&mut Tried::default(), 0, now).unwrap();
        first.failed(REFUSED, false, now);
        let name = first.backend().name().to_owned();
        for later in 1..1_000 {
            assert!(!names(&cluster, 1, now + later).contains(&name), "asked again after {later} ms");
        }
        assert!(names(&cluster, 3, now + 1_000).contains(&name), "never asked again");
    }

    #[test]
    fn a_request_is_one_trial_at_the_most_unless_nobody_else_is_left() {
        let cluster = cluster(&["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]);
        let now = alarm::now();
        for index in [0, 1] {
            cluster.told(index, Standing::Trial, now);
        }
        let mut tried = Tried::default();
        let attempts: Vec<_> = std::iter::from_fn(|| cluster.pick(&mut tried, 0, now)).collect();
        let names: Vec<_> = attempts.iter().map(|attempt| attempt.backend().name()).collect();
        assert_eq!(names, ["127.0.0.1:1", "127.0.0.1:3", "127.0.0.1:2"]);
    }

    #[test]
    fn a_backend_is_blamed_for_what_is_held_against_it_and_for_nothing_else() {
        let cluster = cluster(&["127.0.0.1:1"]);
        let attempt = cluster.pick(&mut Tried::default(), 0, 0).unwrap();
        let died = Fault::upstream(Phase::Request, Kind::Died);
        let counts = || {
            let of = |what| attempt.backend().stats().get(what);
            (of(BackendCount::Resets), of(BackendCount::Blamed))
        };
        attempt.failed(died, true, 0);
        assert_eq!(counts(), (1, 0), "a connection that had served before");
        attempt.failed(died, false, 0);
        assert_eq!(counts(), (2, 1));
    }

    #[test]
    fn trials_that_nobody_used_leave_nothing_behind() {
        let cluster = cluster(&["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]);
        for now in 0..100 {
            cluster.told(0, Standing::Trial, now);
            cluster.told(0, Standing::Out, now);
        }
        assert!(cluster.members.borrow().trials.is_empty());
        cluster.told(0, Standing::Trial, 100);
        let pinned = cluster.pick_pinned(0, &mut Tried::default(), 100).unwrap();
        assert!(pinned.is_trial());
        cluster.told(1, Standing::Trial, 100);
        let next = cluster.pick(&mut Tried::default(), 0, 100).unwrap();
        assert_eq!((next.backend().name(), next.is_trial()), ("127.0.0.1:2", true));
    }

    #[test]
    fn one_that_is_full_does_not_hold_up_the_trial_of_another() {
        let mut plan = Plan::for_tests(&["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]);
        plan.clusters[0].backends[0].max_requests = 1;
        let cluster = cluster_of(plan);
        let _fills = cluster.pick_pinned(0, &mut Tried::default(), 0).unwrap();
        for index in [0, 1] {
            cluster.told(index, Standing::Trial, 0);
        }
        let next = cluster.pick(&mut Tried::default(), 0, 0).unwrap();
        assert_eq!((next.backend().name(), next.is_trial()), ("127.0.0.1:2", true));
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
        let (plan, stats) = (&blueprint.plan.clusters[0], &view.workers[0].backends[0]);
        let accounts = &blueprint.accounts[0];
        let membership =
            Membership { place: 0, plan, layout: &layout, stats, accounts, standings: &[], me: 0, offset: 0 };
        cluster.update(&membership);
        assert_eq!((stays.backend().index(), leaves.backend().index()), (Some(1), None));
        assert_eq!(cluster.members.borrow().selector.in_flight(1), 1);
        drop((stays, leaves));
        assert_eq!(cluster.members.borrow().selector.in_flight(1), 0);
        let mut seen = names(&cluster, 2, 0);
        seen.sort();
        assert_eq!(seen, ["127.0.0.1:2", "127.0.0.1:3"]);
    }
}
