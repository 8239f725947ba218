//! The board: the truth about every backend, and what each worker has been told of it.
//!
//! Pure, and owned by the control thread. A worker is told how a backend stands, never what happened: what could not be
//! delivered is made anew from the truth when it can be, so no order of messages and no full queue loses the last state.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::{
    circuit::{Circuit, Phase},
    outlier::{self, Tally},
    standing::{Observation, Standing, State, TrialEnd},
    turns::{self, Turns},
    ward::{Holder, Ward},
};
use crate::{
    addr::Endpoint,
    config::plan::{ClusterPlan, Plan, cluster::Duty, health::Start},
    io::alarm::Millis,
};

/// Where a backend stands in the plan: its cluster's place, and its place in there.
pub type Place = (usize, usize);

/// A backend's state has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// Whose.
    pub place: Place,
    /// What it is now.
    pub state: State,
    /// Why, in a few words.
    pub reason: String,
    /// It is worth a line in the log: a trial is not, only what becomes of it in the end.
    pub is_news: bool,
}

/// A cluster's backends.
#[derive(Debug)]
struct Ring {
    plan: ClusterPlan,
    wards: Vec<Ward>,
    /// So few are healthy that all are used.
    everybody: bool,
}

impl Ring {
    /// Those that have a share of the work: one without weight is no capacity, be it healthy or not.
    fn working(&self) -> impl Iterator<Item = &Ward> {
        let all = self.plan.backends.iter().zip(&self.wards);
        all.filter(|(backend, _)| backend.weight > 0).map(|(_, ward)| ward)
    }
}

/// The truth about all backends of a plan.
#[derive(Debug)]
pub struct Board {
    clusters: Vec<Ring>,
    workers: usize,
    turns: Turns,
    /// When to look at whom; what is said here may be out of date.
    agenda: BTreeSet<(Millis, Place)>,
    /// What each worker does not know yet.
    untold: Vec<BTreeSet<Place>>,
    transitions: Vec<Transition>,
}

impl Board {
    /// All backends as the plan says, except those that are known from `before`.
    pub fn new(plan: &Plan, workers: usize, before: Option<&Board>, now: Millis) -> Self {
        let known: HashMap<(&str, &str), &Ward> = before.into_iter().flat_map(Board::named).collect();
        let ring = |cluster: &ClusterPlan| {
            let wards = cluster.backends.iter().map(|backend| {
                let old = known.get(&(&*cluster.name, &*backend.name));
                let kept = old.filter(|ward| ward.endpoints == backend.endpoints);
                let fresh = || Ward {
                    endpoints: backend.endpoints.clone(),
                    duty: backend.duty,
                    is_alive: cluster.health.as_ref().is_none_or(|health| health.start == Start::Up),
                    circuit: Circuit::default(),
                    holder: None,
                    state: State::Up,
                    offered_at: 0,
                    reason: String::new(),
                    told: vec![Some(Standing::Up); workers],
                };
                let mut ward = kept.map_or_else(fresh, |ward| (*ward).clone());
                ward.duty = backend.duty;
                // Workers are told everything, but nobody must be told of one trial twice.
                ward.holder.iter_mut().for_each(|holder| holder.is_recalled |= holder.is_told);
                // Nobody would bring it back.
                ward.is_alive |= cluster.health.is_none();
                // What live traffic shows is not to take anybody out any more.
                if cluster.circuit.failures == 0 && cluster.circuit.outlier.ratio.is_none() {
                    ward.circuit.close(now);
                }
                ward
            });
            Ring { wards: wards.collect(), plan: cluster.clone(), everybody: false }
        };
        let mut board = Board {
            clusters: plan.clusters.iter().map(ring).collect(),
            workers,
            turns: Turns::new(workers),
            agenda: BTreeSet::new(),
            untold: vec![BTreeSet::new(); workers],
            transitions: Vec::new(),
        };
        for place in board.places() {
            board.refresh(place, "configured");
            // The operator may have held its trial up.
            board.resume(place, now);
            board.plan_look(place, now);
        }
        board
    }

    fn named(&self) -> impl Iterator<Item = ((&str, &str), &Ward)> {
        self.clusters.iter().flat_map(|ring| {
            let names = ring.plan.backends.iter().map(|backend| &*backend.name);
            names.zip(&ring.wards).map(|(name, ward)| ((&*ring.plan.name, name), ward))
        })
    }

    fn places(&self) -> Vec<Place> {
        let of = |(cluster, ring): (usize, &Ring)| {
            (0..ring.wards.len()).map(move |backend| (cluster, backend)).collect::<Vec<_>>()
        };
        self.clusters.iter().enumerate().flat_map(of).collect()
    }

    /// A backend's place by its names.
    pub fn place_of(&self, cluster: &str, backend: &str) -> Option<Place> {
        let at = self.clusters.iter().position(|ring| *ring.plan.name == *cluster)?;
        let backends = &self.clusters.get(at)?.plan.backends;
        Some((at, backends.iter().position(|known| *known.name == *backend)?))
    }

    /// A backend's names by its place: its cluster's, and its own.
    pub fn names_of(&self, (cluster, backend): Place) -> Option<(&Arc<str>, &Arc<str>)> {
        let plan = &self.clusters.get(cluster)?.plan;
        Some((&plan.name, &plan.backends.get(backend)?.name))
    }

    /// Where a backend is, by its place.
    pub fn endpoints_of(&self, place: Place) -> Option<&[Endpoint]> {
        self.ward(place).map(|ward| &*ward.endpoints)
    }

    /// How a backend is shown, and why.
    pub fn state_of(&self, place: Place) -> Option<(State, &str)> {
        self.ward(place).map(|ward| (ward.state, &*ward.reason))
    }

    /// A worker has seen something.
    pub fn observed(&mut self, worker: usize, seen: &Observation, now: Millis) {
        let place = (seen.cluster, seen.backend);
        let Some((plan, ward)) = self.ward_mut(place) else { return };
        let rules = plan.circuit.rules();
        let mut reason = String::new();
        if seen.succeeded {
            ward.circuit.succeeded();
        }
        if ward.circuit.failed(seen.failures, &rules, now) {
            let phrase = seen.failure.map(|failure| failure.phrase()).unwrap_or_default();
            reason = format!("{} {phrase} in a row", u32::from(rules.failures).max(seen.failures));
        }
        if let Some(end) = seen.trial
            && ward.holder.is_some_and(|holder| holder.worker == worker)
        {
            ward.ends_trial(worker);
            if ward.circuit.phase() == Phase::HalfOpen {
                match end {
                    TrialEnd::Succeeded => {
                        ward.circuit.close(now);
                        reason = "a trial has succeeded".to_owned();
                    }
                    TrialEnd::Failed => ward.circuit.open(&rules, now),
                    TrialEnd::Unused => {}
                }
            }
        }
        self.refresh(place, &reason);
        self.resume(place, now);
        self.plan_look(place, now);
    }

    /// A backend's probes have come to another verdict.
    pub fn probed(&mut self, place: Place, is_alive: bool, reason: &str, now: Millis) {
        // Whose cluster is not probed any more nobody would bring back.
        let found = self.ward_mut(place).filter(|(plan, _)| plan.health.is_some());
        let Some((_, ward)) = found else { return };
        let was_alive = std::mem::replace(&mut ward.is_alive, is_alive);
        // A task's first result is told though nothing has changed, and says nothing of what live traffic meets.
        if is_alive && !was_alive {
            ward.circuit.close(now);
        }
        self.refresh(place, reason);
    }

    /// What the backends of a cluster did in an interval: who stands out is ejected.
    pub fn tallied(&mut self, cluster: usize, tallies: &[Tally], now: Millis) {
        let Some(ring) = self.clusters.get_mut(cluster) else { return };
        let rules = ring.plan.circuit.rules();
        let (mut all, mut ejected) = (0, 0);
        for ward in ring.working() {
            all += 1;
            ejected += usize::from(ward.circuit.phase() != Phase::Closed);
        }
        let found = outlier::find(tallies, (all, ejected), &ring.plan.circuit.outlier);
        for backend in found {
            let Some(ward) = self.ward_mut((cluster, backend)).map(|(_, ward)| ward) else { continue };
            if ward.circuit.phase() == Phase::Closed {
                ward.circuit.open(&rules, now);
                self.refresh((cluster, backend), "fails more often than the others");
                self.plan_look((cluster, backend), now);
            }
        }
    }

    /// What each worker has been asked to do since it began: a trial goes to who has requests for it.
    pub fn worked(&mut self, counts: impl IntoIterator<Item = u64>, now: Millis) {
        self.turns.worked(counts, now);
    }

    /// When [`Self::tick`] has something to do.
    pub fn due(&self) -> Option<Millis> {
        self.agenda.first().map(|(at, _)| *at)
    }

    /// Lets trials begin whose time has come, and passes on those that nobody uses.
    pub fn tick(&mut self, now: Millis) {
        while let Some((at, place)) = self.agenda.first().copied().filter(|(at, _)| *at <= now) {
            self.agenda.remove(&(at, place));
            let holder = self.ward(place).and_then(|ward| ward.holder);
            let is_wanted = holder.is_some_and(|holder| self.turns.has_others(holder.worker, holder.since));
            let Some((_, ward)) = self.ward_mut(place) else { continue };
            let begins = ward.circuit.try_again(now);
            if let Some(mut holder) = ward.holder
                && (begins || holder.since + turns::PATIENCE <= now)
            {
                // One that begins now may be under way since before the circuit closed and opened again.
                holder.is_recalled |= begins || is_wanted;
                // Nobody will ever say what has become of a trial that nobody knew of.
                ward.holder = Some(holder).filter(|holder| holder.is_told);
            }
            self.refresh(place, "");
            self.resume(place, now);
            self.plan_look(place, now);
        }
    }

    /// The next worker may try a backend whose circuit is half-open, if nobody else may and nothing forbids it. While all
    /// backends of a cluster are used its live requests are the trial, so the circuit closes: failures open it again. So it
    /// is with one that drains, whose few clients may be with any worker.
    fn resume(&mut self, place: Place, now: Millis) {
        let everybody = self.clusters.get(place.0).is_some_and(|ring| ring.everybody);
        let Some((_, ward)) = self.ward_mut(place) else { return };
        if ward.state() != State::Trial || ward.holder.is_some() {
            return;
        }
        if ward.duty == Duty::Drain {
            ward.circuit.close(now);
            self.refresh(place, "its clients may try it again");
        } else if everybody {
            ward.circuit.close(now);
            self.refresh(place, "all of its cluster are used");
        } else {
            let since = std::mem::replace(&mut ward.offered_at, now);
            let worker = self.turns.take(since);
            let holder = Holder { worker, since: now, is_told: false, is_recalled: false };
            if let Some((_, ward)) = self.ward_mut(place) {
                ward.holder = Some(holder);
            }
            self.refresh(place, "");
        }
    }

    /// Notes when to look at a backend again.
    fn plan_look(&mut self, place: Place, now: Millis) {
        let Some(ward) = self.ward(place) else { return };
        let at = match (ward.circuit.phase(), ward.holder) {
            (Phase::Open { until }, _) => until,
            (Phase::HalfOpen, Some(holder))
                if !holder.is_recalled && (self.workers > 1 || !holder.is_told) =>
            {
                turns::next_look(holder.since, now)
            }
            _ => return,
        };
        self.agenda.insert((at, place));
    }

    /// Compares a backend with what is shown and with what the workers know.
    fn refresh(&mut self, place: Place, reason: &str) {
        self.look_around(place.0);
        let (workers, everybody) =
            (self.workers, self.clusters.get(place.0).is_some_and(|ring| ring.everybody));
        let Some((_, ward)) = self.ward_mut(place) else { return };
        let (state, old) = (ward.state(), ward.state);
        ward.state = state;
        let is_news = state != old
            && !matches!((old, state), (State::Ejected, State::Trial) | (State::Trial, State::Ejected));
        if is_news {
            reason.clone_into(&mut ward.reason);
        }
        let differs: Vec<usize> = (0..workers)
            .filter(|worker| !ward.has_told(*worker, ward.standing(*worker, everybody)))
            .collect();
        for worker in differs {
            self.untold.get_mut(worker).map(|untold| untold.insert(place));
        }
        if state != old {
            self.transitions.push(Transition { place, state, reason: reason.to_owned(), is_news });
        }
    }

    /// Sees whether so few backends of a cluster are healthy that all are to be used.
    fn look_around(&mut self, cluster: usize) {
        let Some(ring) = self.clusters.get_mut(cluster) else { return };
        let (mut on_duty, mut healthy) = (0, 0);
        for ward in ring.working().filter(|ward| ward.duty == Duty::Ready) {
            on_duty += 1;
            healthy += usize::from(ward.state() == State::Up);
        }
        let everybody = healthy * 100 < on_duty * usize::from(ring.plan.circuit.panic_threshold_percent);
        if everybody != ring.everybody {
            ring.everybody = everybody;
            for untold in &mut self.untold {
                untold.extend((0..ring.wards.len()).map(|backend| (cluster, backend)));
            }
        }
    }

    /// What has changed since the last call.
    pub fn take_transitions(&mut self) -> Vec<Transition> {
        std::mem::take(&mut self.transitions)
    }

    /// How every backend stands with a worker that is told all of it now.
    pub fn tell_all(&mut self, worker: usize) -> Vec<Vec<Standing>> {
        if let Some(untold) = self.untold.get_mut(worker) {
            untold.clear();
        }
        let tell = |ring: &mut Ring| {
            let everybody = ring.everybody;
            let tell = |ward: &mut Ward| {
                let standing = ward.standing(worker, everybody);
                ward.tell(worker, standing);
                standing
            };
            ring.wards.iter_mut().map(tell).collect()
        };
        self.clusters.iter_mut().map(tell).collect()
    }

    /// What a worker does not know yet.
    pub fn untold(&self, worker: usize) -> Vec<(Place, Standing)> {
        let standing = |place: &Place| {
            let (ring, ward) = (self.clusters.get(place.0)?, self.ward(*place)?);
            let standing = ward.standing(worker, ring.everybody);
            (!ward.has_told(worker, standing)).then_some((*place, standing))
        };
        self.untold.get(worker).into_iter().flatten().filter_map(standing).collect()
    }

    /// It has been told that.
    pub fn told(&mut self, worker: usize, news: &[(Place, Standing)]) {
        for (place, standing) in news {
            if let Some((_, ward)) = self.ward_mut(*place) {
                ward.tell(worker, *standing);
            }
        }
        self.untold.get_mut(worker).into_iter().for_each(BTreeSet::clear);
    }

    fn ward(&self, place: Place) -> Option<&Ward> {
        self.clusters.get(place.0)?.wards.get(place.1)
    }

    fn ward_mut(&mut self, place: Place) -> Option<(&ClusterPlan, &mut Ward)> {
        let ring = self.clusters.get_mut(place.0)?;
        Some((&ring.plan, ring.wards.get_mut(place.1)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::plan::health::HealthPlan, health::standing::Failure};

    const HERE: Place = (0, 1);

    fn plan(change: impl Fn(&mut ClusterPlan)) -> Plan {
        let mut plan = Plan::for_tests(&["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]);
        plan.clusters[0].health = Some(HealthPlan::for_tests().into());
        change(&mut plan.clusters[0]);
        plan
    }

    fn board() -> Board {
        Board::new(&plan(|_| ()), 2, None, 0)
    }

    fn seen(failures: u32) -> Observation {
        Observation {
            cluster: HERE.0,
            backend: HERE.1,
            failures,
            failure: Some(Failure::Connect),
            succeeded: false,
            trial: None,
        }
    }

    fn ended(end: TrialEnd) -> Observation {
        Observation { trial: Some(end), ..seen(0) }
    }

    /// Tells a worker everything it does not know, and returns what that is.
    fn tell(board: &mut Board, worker: usize) -> Vec<(Place, Standing)> {
        let news = board.untold(worker);
        board.told(worker, &news);
        assert!(board.untold(worker).is_empty());
        news
    }

    /// Who holds the only trial.
    fn holder(board: &mut Board) -> Option<usize> {
        let told: Vec<_> = (0..2)
            .flat_map(|worker| tell(board, worker).into_iter().map(move |news| (worker, news)))
            .collect();
        let mut holders = told.into_iter().filter(|(_, (_, standing))| *standing == Standing::Trial);
        let first = holders.next().map(|(worker, _)| worker);
        assert_eq!(holders.next(), None, "two trials at a time");
        first
    }

    #[test]
    fn what_one_worker_sees_three_times_all_workers_learn_once() {
        let mut board = board();
        board.observed(0, &seen(2), 10);
        assert!(tell(&mut board, 1).is_empty());
        board.observed(1, &seen(1), 20);
        for worker in 0..2 {
            assert_eq!(tell(&mut board, worker), [(HERE, Standing::Out)]);
        }
        let changes = board.take_transitions();
        assert_eq!(changes.len(), 1);
        assert_eq!(
            (changes[0].state, &*changes[0].reason),
            (State::Ejected, "3 failed connections in a row")
        );
    }

    #[test]
    fn a_trial_is_with_one_worker_and_its_success_readmits_with_all() {
        let mut board = board();
        board.observed(0, &seen(3), 0);
        assert_eq!((board.due(), holder(&mut board)), (Some(1_000), None));
        board.tick(1_000);
        let first = holder(&mut board).unwrap();
        // Nobody uses it, while another one has work: it is asked back, and goes on once it is back.
        board.worked([1, 1], 1_250);
        board.tick(1_250);
        assert_eq!(holder(&mut board), None);
        board.tick(5_000);
        assert_eq!(holder(&mut board), None, "the first may still be using it");
        board.observed(first, &ended(TrialEnd::Unused), 5_000);
        let second = holder(&mut board).unwrap();
        assert_ne!(first, second);
        board.observed(first, &ended(TrialEnd::Succeeded), 5_001);
        assert_eq!(board.state_of(HERE).unwrap().0, State::Trial, "it is not the first one's any more");
        board.observed(second, &ended(TrialEnd::Succeeded), 5_002);
        for worker in 0..2 {
            assert_eq!(tell(&mut board, worker), [(HERE, Standing::Up)]);
        }
        let news = board.take_transitions().into_iter().filter(|change| change.is_news);
        let states: Vec<_> = news.map(|change| change.state).collect();
        assert_eq!(states, [State::Ejected, State::Up]);
    }

    /// Ejects one, and lets its trial begin.
    fn on_trial(workers: usize) -> Board {
        let mut board = Board::new(&plan(|_| ()), workers, None, 0);
        board.observed(0, &seen(3), 0);
        board.tick(1_000);
        board
    }

    #[test]
    fn where_nobody_has_work_a_trial_wakes_no_worker() {
        let mut board = on_trial(2);
        let idle = holder(&mut board).unwrap();
        let mut looks = 0;
        while let Some(due) = board.due().filter(|due| *due < 61_000) {
            looks += 1;
            board.worked([7, 7], 1_000);
            board.tick(due);
            assert!((0..2).all(|worker| board.untold(worker).is_empty()), "woken at {due}");
        }
        assert!(looks < 64, "{looks} looks in a minute");
        assert_eq!(board.state_of(HERE).unwrap().0, State::Trial);
        board.observed(idle, &ended(TrialEnd::Succeeded), 61_000);
        assert_eq!(board.state_of(HERE).unwrap().0, State::Up);
    }

    #[test]
    fn who_has_work_does_not_wait_for_the_turns_of_those_who_have_none() {
        const BUSY: usize = 37;
        let mut board = on_trial(64);
        let work = |count| (0..64).map(move |worker| if worker == BUSY { count } else { 5 });
        board.worked(work(5), 999);
        let mut now = 30_000;
        board.tick(now);
        let holds = |board: &mut Board, worker| tell(board, worker).contains(&(HERE, Standing::Trial));
        let first = (0..64).find(|worker| holds(&mut board, *worker)).unwrap();
        assert_ne!(first, BUSY);
        for count in 0..5 {
            now = board.due().unwrap().max(now);
            board.worked(work(6 + count), now);
            board.tick(now);
            if tell(&mut board, first).contains(&(HERE, Standing::Out)) {
                board.observed(first, &ended(TrialEnd::Unused), now);
            }
        }
        assert!(now < 32_000 && holds(&mut board, BUSY), "after {} ms", now - 30_000);
    }

    #[test]
    fn a_failed_trial_waits_twice_as_long() {
        let mut board = board();
        board.observed(0, &seen(3), 0);
        board.tick(1_000);
        let worker = holder(&mut board).unwrap();
        board.observed(worker, &Observation { trial: Some(TrialEnd::Failed), ..seen(1) }, 1_100);
        assert_eq!(board.due(), Some(1_250), "a look that has nothing to see");
        board.tick(1_250);
        assert_eq!((board.due(), holder(&mut board)), (Some(3_100), None));
    }

    #[test]
    fn a_trial_that_could_not_be_told_goes_to_the_next_worker() {
        for workers in [1, 2] {
            let mut board = Board::new(&plan(|_| ()), workers, None, 0);
            board.observed(0, &seen(3), 0);
            board.tick(1_000);
            let told_nothing = |board: &Board| board.untold(0).into_iter().chain(board.untold(1)).count();
            assert_eq!(told_nothing(&board), workers, "one may try, and the other one is out");
            for turn in 1..10 {
                assert_eq!(board.due(), Some(1_000 + turn * 250));
                board.tick(1_000 + turn * 250);
            }
            assert!(holder(&mut board).is_some());
        }
    }

    #[test]
    fn a_worker_whose_trial_came_to_nothing_may_try_again() {
        let mut board = Board::new(&plan(|_| ()), 1, None, 0);
        board.observed(0, &seen(3), 0);
        board.tick(1_000);
        assert_eq!(holder(&mut board), Some(0));
        board.observed(0, &ended(TrialEnd::Unused), 1_010);
        assert_eq!(holder(&mut board), Some(0), "it is told once more");
    }

    #[test]
    fn nobody_is_told_of_one_trial_twice() {
        let with = |duty| plan(move |cluster| cluster.backends[0].duty = duty);
        for workers in [1, 2] {
            let mut board = Board::new(&with(Duty::Ready), workers, None, 0);
            board.observed(0, &seen(3), 0);
            board.tick(1_000);
            let first = holder(&mut board).unwrap();
            let mut board = Board::new(&with(Duty::Drain), workers, Some(&board), 1_001);
            assert_eq!(board.tell_all(first)[0][1], Standing::Out, "its end may be on its way");
            board.observed(first, &ended(TrialEnd::Unused), 1_002);
            assert!(holder(&mut board).is_some());
        }
    }

    #[test]
    fn in_need_live_requests_are_the_trial() {
        for workers in [1, 2] {
            let needy = plan(|cluster| cluster.circuit.panic_threshold_percent = 100);
            let mut board = Board::new(&needy, workers, None, 0);
            for backend in 0..3 {
                board.observed(0, &Observation { backend, ..seen(3) }, 0);
            }
            (0..2).for_each(|worker| _ = tell(&mut board, worker));
            board.tick(1_000);
            board.tick(1_250);
            for backend in 0..3 {
                assert_eq!(board.state_of((0, backend)).unwrap().0, State::Up);
            }
            assert!((0..2).all(|worker| board.untold(worker).is_empty()), "they ask all of them anyway");
            board.observed(0, &seen(3), 1_300);
            assert_eq!(board.due(), Some(1_300 + 2_000), "it is asked less and less often");
        }
    }

    #[test]
    fn a_trial_that_is_under_way_when_need_begins_decides() {
        let mut board = Board::new(&plan(|cluster| cluster.circuit.panic_threshold_percent = 50), 2, None, 0);
        board.observed(0, &seen(3), 0);
        board.tick(1_000);
        let worker = holder(&mut board).unwrap();
        board.probed((0, 0), false, "", 1_001);
        assert!(tell(&mut board, worker).contains(&(HERE, Standing::Up)));
        board.tick(9_000);
        assert_eq!(board.state_of(HERE).unwrap().0, State::Trial);
        board.observed(worker, &ended(TrialEnd::Unused), 9_001);
        assert_eq!(board.state_of(HERE).unwrap().0, State::Up);
    }

    #[test]
    fn what_was_ejected_and_taken_out_has_its_trial_when_it_is_ready_again() {
        let with = |duty| plan(move |cluster| cluster.backends[1].duty = duty);
        let mut board = board();
        board.observed(0, &seen(3), 0);
        let mut board = Board::new(&with(Duty::Maint), 2, Some(&board), 10);
        (0..2).for_each(|worker| _ = board.tell_all(worker));
        board.tick(60_000);
        assert_eq!((holder(&mut board), board.due()), (None, None), "there is nothing to do meanwhile");
        let mut board = Board::new(&with(Duty::Ready), 2, Some(&board), 70_000);
        assert!(holder(&mut board).is_some());
    }

    #[test]
    fn one_that_drains_and_fails_is_ejected_and_comes_back_to_its_clients() {
        let drains = plan(|cluster| cluster.backends[1].duty = Duty::Drain);
        let mut board = Board::new(&drains, 2, None, 0);
        (0..2).for_each(|worker| _ = board.tell_all(worker));
        board.take_transitions();
        board.observed(0, &seen(3), 10);
        assert_eq!(board.state_of(HERE).unwrap(), (State::Ejected, "3 failed connections in a row"));
        for worker in 0..2 {
            assert_eq!(tell(&mut board, worker), [(HERE, Standing::Out)]);
        }
        board.tick(1_010);
        assert_eq!(board.state_of(HERE).unwrap(), (State::Drain, "its clients may try it again"));
        for worker in 0..2 {
            assert_eq!(tell(&mut board, worker), [(HERE, Standing::Drain)]);
        }
        let news = board.take_transitions().into_iter().filter(|change| change.is_news);
        assert_eq!(news.map(|change| change.state).collect::<Vec<_>>(), [State::Ejected, State::Drain]);
        board.observed(0, &seen(3), 1_100);
        assert_eq!(board.due(), Some(1_100 + 2_000), "it is asked less and less often");
    }

    #[test]
    fn a_trial_that_is_under_way_when_it_is_to_drain_decides() {
        let mut board = on_trial(2);
        let worker = holder(&mut board).unwrap();
        let drains = plan(|cluster| cluster.backends[1].duty = Duty::Drain);
        for (end, state) in [(TrialEnd::Succeeded, State::Drain), (TrialEnd::Failed, State::Ejected)] {
            let mut board = Board::new(&drains, 2, Some(&board), 1_010);
            assert!((0..2).all(|worker| board.tell_all(worker)[0][1] == Standing::Out));
            board.observed(worker, &ended(end), 1_020);
            assert_eq!(board.state_of(HERE).unwrap().0, state);
        }
    }

    #[test]
    fn probes_decide_over_live_traffic_and_the_operator_over_all() {
        let mut board = board();
        board.probed(HERE, false, "status 503", 0);
        board.observed(0, &seen(3), 0);
        board.tick(1_000);
        assert_eq!(holder(&mut board), None, "what its probes refuse is not tried");
        board.probed(HERE, true, "status 200", 2_000);
        assert_eq!(board.state_of(HERE).unwrap(), (State::Up, "status 200"));
        let maint = plan(|cluster| cluster.backends[1].duty = Duty::Maint);
        let mut board = Board::new(&maint, 2, Some(&board), 3_000);
        assert_eq!(board.tell_all(0)[0], [Standing::Up, Standing::Out, Standing::Up]);
        board.probed(HERE, false, "", 3_000);
        assert_eq!(board.state_of(HERE).unwrap().0, State::Maint);
        let drain = plan(|cluster| cluster.backends[1].duty = Duty::Drain);
        let mut board = Board::new(&drain, 2, Some(&board), 4_000);
        assert_eq!(board.tell_all(0)[0][1], Standing::Out, "it is down as well");
        board.probed(HERE, true, "", 5_000);
        assert_eq!(tell(&mut board, 0), [(HERE, Standing::Drain)]);
    }

    #[test]
    fn a_probe_that_tells_nothing_new_does_not_close_a_circuit() {
        let mut board = board();
        board.observed(0, &seen(3), 0);
        board.probed(HERE, true, "the first result at start-up", 10);
        assert_eq!(board.state_of(HERE).unwrap().0, State::Ejected);
        let otherwise = HealthPlan { rise: 9, ..HealthPlan::for_tests() };
        let other = plan(|cluster| cluster.health = Some(otherwise.clone().into()));
        let mut board = Board::new(&other, 2, Some(&board), 20);
        board.probed(HERE, true, "the first result of another check", 30);
        assert_eq!((board.state_of(HERE).unwrap().0, board.due()), (State::Ejected, Some(1_000)));
        board.probed(HERE, false, "", 40);
        board.probed(HERE, true, "it is back", 50);
        assert_eq!(board.state_of(HERE).unwrap(), (State::Up, "it is back"));
    }

    #[test]
    fn a_plan_says_where_probes_begin_and_whether_there_are_any() {
        let waits = HealthPlan { start: Start::Down, ..HealthPlan::for_tests() };
        let waiting = plan(|cluster| cluster.health = Some(waits.clone().into()));
        let mut board = Board::new(&waiting, 1, None, 0);
        assert_eq!(board.tell_all(0)[0], [Standing::Out; 3]);
        board.probed(HERE, true, "", 0);
        assert_eq!(board.state_of(HERE).unwrap().0, State::Up);
        board = Board::new(&waiting, 1, Some(&board), 0);
        assert_eq!(
            board.tell_all(0)[0],
            [Standing::Out, Standing::Up, Standing::Out],
            "what is known is kept"
        );
        board = Board::new(&plan(|cluster| cluster.health = None), 1, Some(&board), 0);
        assert_eq!(board.tell_all(0)[0], [Standing::Up; 3], "nobody would bring it back");
    }

    #[test]
    fn what_a_full_queue_did_not_take_is_told_as_it_is_by_then() {
        let mut board = board();
        board.observed(0, &seen(3), 0);
        let lost = board.untold(1);
        assert_eq!(lost, [(HERE, Standing::Out)]);
        board.probed(HERE, false, "", 10);
        board.probed(HERE, true, "", 10);
        assert!(board.untold(1).is_empty(), "it never knew that anything was wrong");
        board.observed(0, &seen(3), 20);
        assert_eq!(tell(&mut board, 1), [(HERE, Standing::Out)]);
    }

    #[test]
    fn when_too_few_are_healthy_all_are_used() {
        let mut board = Board::new(&plan(|cluster| cluster.circuit.panic_threshold_percent = 50), 1, None, 0);
        board.probed((0, 0), false, "", 0);
        assert_eq!(tell(&mut board, 0), [((0, 0), Standing::Out)]);
        board.probed((0, 1), false, "", 0);
        assert_eq!(tell(&mut board, 0), [((0, 0), Standing::Up)], "one of three is less than half");
        board.probed((0, 1), true, "", 0);
        assert_eq!(tell(&mut board, 0), [((0, 0), Standing::Out)]);
    }

    #[test]
    fn one_without_weight_is_no_capacity() {
        let unweighted = |cluster: &mut ClusterPlan| {
            cluster.circuit.panic_threshold_percent = 50;
            cluster.circuit.outlier.ratio = Some(0.8);
            cluster.backends[1].weight = 0;
        };
        let mut board = Board::new(&plan(unweighted), 1, None, 0);
        board.probed((0, 1), false, "", 0);
        assert_eq!(tell(&mut board, 0), [((0, 1), Standing::Out)]);
        board.probed((0, 0), false, "", 0);
        assert_eq!(tell(&mut board, 0), [((0, 0), Standing::Out)], "one of two is not less than half");
        board.probed((0, 1), true, "", 0);
        board.probed((0, 2), false, "", 0);
        assert!(tell(&mut board, 0).iter().all(|(_, standing)| *standing == Standing::Up), "none of two is");
        let mut board = Board::new(&plan(unweighted), 1, None, 0);
        let tally = |successes, failures| Tally { successes, failures };
        board.observed(0, &seen(3), 0);
        tell(&mut board, 0);
        board.tallied(0, &[tally(500, 0), tally(0, 0), tally(0, 200)], 0);
        assert_eq!(tell(&mut board, 0), [((0, 2), Standing::Out)], "it has no part in how many may be out");
    }

    #[test]
    fn need_does_not_overrule_the_operator() {
        let drained = |cluster: &mut ClusterPlan| {
            cluster.circuit.panic_threshold_percent = 100;
            cluster.backends[0].duty = Duty::Drain;
        };
        let mut board = Board::new(&plan(drained), 1, None, 0);
        tell(&mut board, 0);
        board.probed((0, 0), false, "", 0);
        board.probed((0, 1), false, "", 0);
        assert_eq!(tell(&mut board, 0), [((0, 0), Standing::Out)]);
    }

    #[test]
    fn outliers_are_ejected_and_come_back() {
        let mut board = Board::new(&plan(|cluster| cluster.circuit.outlier.ratio = Some(0.8)), 1, None, 0);
        let tally = |successes, failures| Tally { successes, failures };
        board.tallied(0, &[tally(200, 0), tally(100, 100), tally(0, 200)], 0);
        assert_eq!(tell(&mut board, 0), [((0, 2), Standing::Out)], "the worst, and no more than half");
        board.tick(1_000);
        assert_eq!(tell(&mut board, 0), [((0, 2), Standing::Trial)]);
    }

    #[test]
    fn who_was_ejected_is_free_when_nobody_is_to_be_ejected_any_more() {
        for (ratio, state) in [(None, State::Up), (Some(0.8), State::Ejected)] {
            let mut board = board();
            board.observed(0, &seen(3), 0);
            let never = |cluster: &mut ClusterPlan| {
                cluster.circuit.failures = 0;
                cluster.circuit.outlier.ratio = ratio;
            };
            let mut board = Board::new(&plan(never), 2, Some(&board), 10);
            assert_eq!(board.state_of(HERE).unwrap().0, state);
            let told = if ratio.is_none() { Standing::Up } else { Standing::Out };
            assert_eq!(board.tell_all(0)[0][1], told);
        }
    }

    #[test]
    fn a_reload_keeps_what_is_known_of_who_stays() {
        let mut board = board();
        board.observed(0, &seen(3), 0);
        let mut other = Plan::for_tests(&["127.0.0.1:2", "127.0.0.1:9"]);
        let mut board = Board::new(&other, 2, Some(&board), 10);
        assert_eq!(board.tell_all(0)[0], [Standing::Out, Standing::Up]);
        other.clusters[0].backends[0].endpoints = other.clusters[0].backends[1].endpoints.clone();
        let mut board = Board::new(&other, 2, Some(&board), 20);
        assert_eq!(
            board.tell_all(0)[0],
            [Standing::Up, Standing::Up],
            "at another address it is another one"
        );
    }
}
