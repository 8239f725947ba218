//! The health of all backends: carries what workers and probes have seen to the board, and what follows to the workers.
//!
//! Runs on the control thread. A worker whose queue is full is told when it has room, and then how things stand by then.

use crossbeam::channel::TrySendError;
use tracing::{info, warn};

use super::orders::{Orders, RETRY};
use crate::{
    addr::Endpoint,
    config::plan::{BackendPlan, ClusterPlan, Plan},
    health::{
        board::{Board, Place},
        outlier::Tally,
        standing::{Observation, Standing, State},
    },
    io::alarm::{self, Millis},
    stats::{
        names::{BackendCount, Count},
        view::View,
        worker::{BackendStats, WorkerStats},
    },
    worker::mailbox::Command,
};

/// Who may be asked, as far as control knows.
pub struct Health {
    board: Board,
    /// Everybody's numbers and where the states are shown.
    view: View,
    /// Where the places of the plan before have gone, for the workers that still speak of them.
    moved: Vec<Vec<Option<Place>>>,
    /// Which workers know the plan.
    renewed: Vec<bool>,
    contests: Vec<Contest>,
    /// A worker's queue was full.
    retry: Option<Millis>,
}

/// A cluster whose backends are compared with each other.
struct Contest {
    cluster: usize,
    interval: Millis,
    next: Millis,
    /// What each backend had done by the beginning of the interval.
    before: Vec<Tally>,
}

impl Health {
    /// The backends of the plan that workers start with.
    pub fn new(view: View) -> Self {
        let (workers, now) = (view.workers.len(), alarm::now());
        let board = Board::new(&view.plan, workers, None, now);
        let contests = contests(&view, now);
        let mut health =
            Health { board, view, moved: Vec::new(), renewed: vec![true; workers], contests, retry: None };
        health.show_all();
        health.board.take_transitions();
        health
    }

    /// Goes by another plan. What is known of a backend that stays is kept. The workers are to be told everything.
    pub fn renew(&mut self, view: View) {
        let (workers, now) = (view.workers.len(), alarm::now());
        let board = Board::new(&view.plan, workers, Some(&self.board), now);
        // What is told of a backend that was somewhere else says nothing of the one that has its name now.
        let moved = |cluster: &ClusterPlan| {
            let place = |backend: &BackendPlan| {
                let place = board.place_of(&cluster.name, &backend.name)?;
                (board.endpoints_of(place)? == backend.endpoints).then_some(place)
            };
            cluster.backends.iter().map(place).collect()
        };
        self.moved = self.view.plan.clusters.iter().map(moved).collect();
        self.renewed = vec![false; workers];
        self.contests = contests(&view, now);
        (self.board, self.view) = (board, view);
        self.show_all();
        self.log();
    }

    /// A worker goes by the plan that is in force here.
    pub fn renewed(&mut self, worker: usize) {
        self.renewed.get_mut(worker).into_iter().for_each(|renewed| *renewed = true);
    }

    /// How every backend stands with a worker that is told all of it now.
    pub fn tell_all(&mut self, worker: usize) -> Vec<Vec<Standing>> {
        self.board.tell_all(worker)
    }

    /// A worker has seen something.
    pub fn observed(&mut self, worker: usize, batch: &[Observation]) {
        let now = alarm::now();
        let knows = self.renewed.get(worker).copied().unwrap_or_default();
        for seen in batch {
            let place = match knows {
                true => Some((seen.cluster, seen.backend)),
                false => self.moved.get(seen.cluster).and_then(|places| *places.get(seen.backend)?),
            };
            if let Some((cluster, backend)) = place {
                self.board.observed(worker, &Observation { cluster, backend, ..*seen }, now);
            }
        }
    }

    /// The probes of the backend with these names and endpoints have come to another verdict. It may be one that is not there
    /// any more.
    pub fn probed(
        &mut self,
        (cluster, backend): (&str, &str),
        endpoints: &[Endpoint],
        is_alive: bool,
        reason: &str,
    ) {
        let place = self.board.place_of(cluster, backend);
        if let Some(place) = place.filter(|place| self.board.endpoints_of(*place) == Some(endpoints)) {
            self.board.probed(place, is_alive, reason, alarm::now());
        }
    }

    /// True when all that the workers should know is on its way to them.
    #[cfg(test)]
    pub(crate) fn has_told_all(&self) -> bool {
        self.retry.is_none()
    }

    /// When [`Self::publish`] has something to do by itself.
    pub fn due(&self) -> Option<Millis> {
        let contests = self.contests.iter().map(|contest| contest.next);
        contests.chain(self.board.due()).chain(self.retry).min()
    }

    /// Lets time pass, and tells everybody what has changed.
    pub fn publish(&mut self, orders: &Orders) {
        let now = alarm::now();
        self.compare(now);
        if self.board.due().is_some_and(|due| due <= now) {
            self.board.worked(self.view.workers.iter().map(|worker| work(&worker.stats)), now);
        }
        self.board.tick(now);
        self.retry = None;
        for worker in 0..orders.workers().len() {
            let news = self.board.untold(worker);
            if news.is_empty() {
                continue;
            }
            match orders.tell(worker, Command::Told(news.clone())) {
                Ok(()) | Err(TrySendError::Disconnected(_)) => self.board.told(worker, &news),
                Err(TrySendError::Full(_)) => self.retry = Some(now + RETRY),
            }
        }
        self.log();
    }

    /// Looks who fails more often than the others of its cluster.
    fn compare(&mut self, now: Millis) {
        let Health { board, view, contests, .. } = self;
        for contest in contests.iter_mut().filter(|contest| contest.next <= now) {
            contest.next = now + contest.interval;
            let done = tallies(view, contest.cluster);
            let since = |(done, before): (&Tally, &Tally)| Tally {
                successes: done.successes.saturating_sub(before.successes),
                failures: done.failures.saturating_sub(before.failures),
            };
            let interval: Vec<_> = done.iter().zip(&contest.before).map(since).collect();
            board.tallied(contest.cluster, &interval, now);
            contest.before = done;
        }
    }

    /// One line for each change, and the state for everybody to read.
    fn log(&mut self) {
        for change in self.board.take_transitions() {
            self.show(change.place);
            let Some((cluster, backend)) = self.board.names_of(change.place).filter(|_| change.is_news)
            else {
                continue;
            };
            let (cluster, backend, reason) = (&**cluster, &**backend, &*change.reason);
            match change.state {
                State::Up => info!(cluster, backend, state = "up", reason, "backend is up"),
                state => warn!(cluster, backend, state = state.name(), reason, "backend is {}", state.name()),
            }
        }
    }

    fn show(&self, place: Place) {
        let cell = self.view.states.get(place.0).and_then(|cells| cells.get(place.1));
        if let Some((cell, (state, reason))) = cell.zip(self.board.state_of(place)) {
            cell.set(state, reason);
        }
    }

    fn show_all(&self) {
        for (cluster, plan) in self.view.plan.clusters.iter().enumerate() {
            (0..plan.backends.len()).for_each(|backend| self.show((cluster, backend)));
        }
    }
}

/// What a worker has been asked that could have been a trial.
fn work(stats: &WorkerStats) -> u64 {
    let asked = [
        Count::Requests,
        Count::Tunnels,
        Count::TunnelsRefused,
        Count::UdpSessionsOpened,
        Count::UdpNoBackend,
    ];
    asked.into_iter().map(|what| stats.get(what)).fold(0, u64::wrapping_add)
}

fn contests(view: &View, now: Millis) -> Vec<Contest> {
    let plan: &Plan = &view.plan;
    let contested = plan.clusters.iter().enumerate();
    let contested = contested.filter(|(_, cluster)| cluster.circuit.outlier.ratio.is_some());
    let contest = |(cluster, plan): (usize, &ClusterPlan)| {
        let interval = alarm::millis(plan.circuit.outlier_interval);
        Contest { cluster, interval, next: now + interval, before: tallies(view, cluster) }
    };
    contested.map(contest).collect()
}

/// What the backends of a cluster have done so far, with all workers.
fn tallies(view: &View, cluster: usize) -> Vec<Tally> {
    let count = view.plan.clusters.get(cluster).map_or(0, |cluster| cluster.backends.len());
    let mut tallies = vec![Tally::default(); count];
    for worker in &view.workers {
        let cells = worker.backends.get(cluster).into_iter().flatten();
        for (tally, cells) in tallies.iter_mut().zip(cells) {
            let sum =
                |what: &[BackendCount]| what.iter().map(|what| BackendStats::get(cells, *what)).sum::<u64>();
            tally.successes +=
                sum(&[BackendCount::Responses2xx, BackendCount::Responses3xx, BackendCount::Responses4xx]);
            tally.failures += sum(&[BackendCount::Responses5xx, BackendCount::Blamed]);
        }
    }
    tallies
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::plan::health::HealthPlan, health::standing::Failure};

    const HERE: Place = (0, 0);

    fn plan(backends: &[&str], is_probed: bool) -> Plan {
        let mut plan = Plan::for_tests(backends);
        plan.clusters[0].health = is_probed.then(|| HealthPlan::for_tests().into());
        plan
    }

    /// A backend of this name, which is somewhere else now.
    fn moved() -> Plan {
        let mut plan = plan(&["127.0.0.1:1"], true);
        plan.clusters[0].backends[0].endpoints =
            Plan::for_tests(&["127.0.0.1:9"]).clusters[0].backends[0].endpoints.clone();
        plan
    }

    /// What was known of the plan before, and its view.
    fn before() -> (Health, View) {
        let view = View::new(plan(&["127.0.0.1:1"], true).into());
        (Health::new(view.clone()), view)
    }

    fn probed(health: &mut Health, plan: &Plan, is_alive: bool) {
        let (cluster, backend) = (&plan.clusters[0], &plan.clusters[0].backends[0]);
        health.probed((&cluster.name, &backend.name), &backend.endpoints, is_alive, "as it was then");
    }

    #[test]
    fn an_old_finding_says_nothing_of_one_that_is_not_probed_any_more() {
        let (mut health, view) = before();
        health.renew(view.renewed(plan(&["127.0.0.1:1"], false).into()));
        probed(&mut health, &view.plan, false);
        assert_eq!(health.board.state_of(HERE).unwrap().0, State::Up, "nobody would bring it back");
    }

    #[test]
    fn an_old_finding_says_nothing_of_one_that_is_somewhere_else() {
        let (mut health, view) = before();
        health.renew(view.renewed(moved().into()));
        probed(&mut health, &view.plan, false);
        assert_eq!(health.board.state_of(HERE).unwrap().0, State::Up);
        probed(&mut health, &moved(), false);
        assert_eq!(health.board.state_of(HERE).unwrap().0, State::Down);
    }

    #[test]
    fn what_is_not_held_against_a_backend_makes_it_no_outlier() {
        let mut outliers = plan(&["127.0.0.1:1", "127.0.0.1:2"], false);
        outliers.clusters[0].circuit.outlier.ratio = Some(0.9);
        let view = View::new(outliers.into());
        let cells = &view.workers[0].backends[0];
        for _ in 0..200 {
            cells.iter().for_each(|cells| cells.count(BackendCount::Responses2xx));
            cells[0].count(BackendCount::Resets);
        }
        let all_good = Tally { successes: 200, failures: 0 };
        assert_eq!(tallies(&view, 0), [all_good; 2]);
        cells[0].count(BackendCount::Blamed);
        assert_eq!(tallies(&view, 0)[0].failures, 1);
    }

    #[test]
    fn what_a_worker_saw_at_the_old_place_is_not_charged_to_the_new_one() {
        let (mut health, view) = before();
        let seen = Observation {
            cluster: 0,
            backend: 0,
            failures: 9,
            failure: Some(Failure::Connect),
            succeeded: false,
            trial: None,
        };
        health.renew(view.renewed(moved().into()));
        health.observed(0, &[seen]);
        assert_eq!(health.board.state_of(HERE).unwrap().0, State::Up);
        health.renewed(0);
        health.observed(0, &[seen]);
        assert_eq!(health.board.state_of(HERE).unwrap().0, State::Ejected);
    }
}
