//! Where a request or a connection goes next: a backend is picked, waited for in line, or given a moment before it is
//! tried again.
//!
//! Whoever waits here holds no place at any backend; its own alarm is the only timer, and its client is watched.

use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use super::retry::{Limits, Stop, Verdict, permit};
use crate::{
    cluster::{Cluster, attempt::Attempt, line::Ticket, tried::Tried},
    config::plan::cluster::Retries,
    fault::{Fault, Kind, Phase},
    io::alarm::{self, Alarm, Millis, Ring},
    shard::{Denial, Picked, Setup, Shard, Wish},
    stats::names::Count,
};

/// Somebody who wants a backend for its client.
pub trait Seeker {
    /// The worker's shard.
    fn shard(&self) -> &Rc<Shard>;
    /// What it goes by.
    fn setup(&self) -> &Rc<Setup>;
    /// Its deadline.
    fn alarm(&self) -> &Alarm;
    /// True when its client has gone away; otherwise the task is woken when that may be so. May bring the deadline nearer.
    fn has_left(&mut self, cx: &mut Context<'_>) -> bool;
}

/// What has been tried for one request, and what may still be.
pub struct Course {
    wish: Wish,
    tried: Tried,
    retries: Retries,
    /// Whoever was tried may be tried again after a pause: it refused, and nothing was delivered.
    may_pause: bool,
    /// Until when it may stand in line, all its waits together.
    queued_until: Option<Millis>,
    /// Its last place in the line, where it stands again if what it was called to is lost to somebody else.
    stood_at: Option<u64>,
    /// The cluster's members, as the places that were tried count them.
    edition: u32,
    /// It did not find a backend at once.
    has_waited: bool,
}

/// Why there is no backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unplaced {
    /// Nobody is left to ask.
    Nobody,
    /// Those who are left have all they may have, and it could wait no longer.
    Full,
    /// The client has gone away, or everything ends.
    Over(Fault),
}

impl Course {
    /// Nothing was tried yet. Counts as a request, to which retries are compared.
    pub fn new(setup: &Setup, wish: Wish) -> Self {
        let plan = setup.plan().clusters.get(wish.cluster);
        let retries = plan.map(|plan| plan.retries).unwrap_or_default();
        let cluster = setup.clusters.get(wish.cluster);
        cluster.into_iter().for_each(|cluster| cluster.note_request(alarm::now()));
        let edition = cluster.map_or(0, |cluster| cluster.edition());
        let tried = Tried::new(retries.attempts);
        Course {
            wish,
            tried,
            retries,
            may_pause: false,
            queued_until: None,
            stood_at: None,
            edition,
            has_waited: false,
        }
    }

    /// What was tried.
    #[cfg(test)]
    pub(crate) fn tried(&self) -> &Tried {
        &self.tried
    }

    /// True when it has not found a backend at once, since it was asked last.
    pub fn has_waited(&mut self) -> bool {
        std::mem::take(&mut self.has_waited)
    }

    /// How it is tried.
    pub fn retries(&self) -> &Retries {
        &self.retries
    }

    /// What becomes of a verdict on `attempt`, given the attempts and the budget that are left. Counts what forbids a
    /// retry.
    pub fn permit(&mut self, verdict: Verdict, fault: Fault, attempt: &Attempt, shard: &Shard) -> Verdict {
        let cluster = attempt.cluster();
        self.may_pause = fault.is_refusal();
        if fault.phase != Phase::Connect && matches!(verdict, Verdict::Elsewhere(_)) {
            self.tried.spend();
        }
        let others = self.tried.indices().len() < cluster.len();
        let limits =
            Limits { attempts_left: !self.tried.is_exhausted(), targets_left: others || self.may_pause };
        // A backend that has just died is set aside at once, so those who were on their way to it are few, and each
        // was sent nowhere yet: they go elsewhere whatever else is repeated.
        let has_just_died = fault.is_refusal() && attempt.was_trusted();
        let within_budget = || cluster.may_retry(&self.retries, alarm::now()) || has_just_died;
        let (verdict, stop) = permit(verdict, limits, within_budget);
        match stop {
            Some(Stop::UsedUp) => shard.stats.count(Count::RetriesUsedUp),
            Some(Stop::OverBudget) => shard.stats.count(Count::RetriesOverBudget),
            None => {}
        }
        if verdict == Verdict::Afresh {
            self.tried.repeat();
        }
        verdict
    }

    /// The last pick was in vain through no fault of anybody: it does not count.
    pub fn excuse(&mut self) {
        self.tried.take_back();
    }

    /// Finds a backend for the next attempt. The one before must have ended.
    pub async fn place(&mut self, seeker: &mut impl Seeker) -> Result<Picked, Unplaced> {
        match self.pick(seeker) {
            Ok(picked) => Ok(picked),
            Err(denial) => Box::pin(self.place_later(seeker, denial)).await,
        }
    }

    fn pick(&mut self, seeker: &impl Seeker) -> Result<Picked, Denial> {
        self.follow_plan(seeker);
        seeker.setup().pick(self.wish, &mut self.tried, alarm::now())
    }

    /// After a reload the places are others': the attempts stay counted, but nobody is known to have been tried.
    fn follow_plan(&mut self, seeker: &impl Seeker) {
        let edition = self.cluster(seeker).map_or(self.edition, |cluster| cluster.edition());
        if edition != self.edition {
            self.edition = edition;
            self.tried.forget_all();
            self.wish.pinned = None;
        }
    }

    /// Not at once, then.
    async fn place_later(&mut self, seeker: &mut impl Seeker, mut why: Denial) -> Result<Picked, Unplaced> {
        self.has_waited = true;
        loop {
            let outcome = match why {
                Denial::Full => self.stand_in_line(seeker).await?,
                Denial::Nobody if self.may_pause && !self.tried.is_exhausted() => {
                    self.pause(seeker).await?;
                    self.pick(seeker)
                }
                Denial::Nobody => return Err(Unplaced::Nobody),
            };
            match outcome {
                Ok(picked) => return Ok(picked),
                Err(denial) => why = denial,
            }
        }
    }

    /// Gives those who refused a moment; then they may be tried again.
    async fn pause(&mut self, seeker: &mut impl Seeker) -> Result<(), Unplaced> {
        seeker.shard().stats.count(Count::RetriesPaused);
        self.may_pause = false;
        seeker.alarm().set(self.retries.pause);
        let waited = wait(seeker, None).await;
        seeker.alarm().clear();
        self.tried.forget();
        match waited {
            Err(Waited::Late) | Ok(()) => Ok(()),
            Err(Waited::Over(fault)) => Err(Unplaced::Over(fault)),
        }
    }

    /// Waits in line until a backend has room.
    async fn stand_in_line(&mut self, seeker: &mut impl Seeker) -> Result<Result<Picked, Denial>, Unplaced> {
        let cluster = self.cluster(seeker).ok_or(Unplaced::Nobody)?;
        let plan = seeker.setup().plan().clusters.get(self.wish.cluster);
        let timeout = plan.map(|plan| plan.queue_timeout).unwrap_or_default();
        let now = alarm::now();
        let is_new = self.queued_until.is_none();
        let until = *self.queued_until.get_or_insert(now.saturating_add(alarm::millis(timeout)));
        let pinned = self.awaited(seeker);
        let Some(ticket) = cluster.join_line(pinned, self.stood_at, &seeker.shard().stats) else {
            seeker.shard().stats.count(Count::QueueFull);
            return Err(Unplaced::Full);
        };
        self.stood_at = Some(ticket.number());
        seeker.shard().stats.add(Count::QueueWaits, u64::from(is_new));
        seeker.shard().expect_room();
        seeker.alarm().set(Duration::from_millis(until.saturating_sub(now).max(1)));
        let outcome = self.wait_for_turn(seeker, &ticket, pinned.is_some()).await;
        seeker.alarm().clear();
        outcome.map_err(|waited| match waited {
            Waited::Late => {
                seeker.shard().stats.count(Count::QueueTimeout);
                Unplaced::Full
            }
            Waited::Over(fault) => {
                seeker.shard().stats.count(Count::QueueLeft);
                Unplaced::Over(fault)
            }
        })
    }

    /// Waits on at its place in the line for as long as it is called in vain.
    async fn wait_for_turn(
        &mut self,
        seeker: &mut impl Seeker,
        ticket: &Ticket,
        is_pinned: bool,
    ) -> Result<Result<Picked, Denial>, Waited> {
        loop {
            wait(seeker, Some(ticket)).await?;
            self.tried.comes_in_turn();
            self.follow_plan(seeker);
            if is_pinned {
                // A reload may have moved its backend, or taken it away.
                self.wish.pinned = ticket.pinned();
            }
            match self.pick(seeker) {
                // It was called in vain, and would only stand in the same line again.
                Err(Denial::Full) if is_pinned == self.awaited(seeker).is_some() => {}
                outcome => return Ok(outcome),
            }
        }
    }

    /// The place of the one backend it waits for, if it would take no other.
    fn awaited(&self, seeker: &impl Seeker) -> Option<usize> {
        let (cluster, now) = (self.cluster(seeker)?, alarm::now());
        self.wish.pinned.filter(|place| cluster.is_worth_waiting_for(*place, &self.tried, now))
    }

    fn cluster(&self, seeker: &impl Seeker) -> Option<Rc<Cluster>> {
        seeker.setup().clusters.get(self.wish.cluster).cloned()
    }
}

/// What ends a wait early.
enum Waited {
    Late,
    Over(Fault),
}

/// Waits for a call, if there can be one, as long as the alarm allows and the client stays.
async fn wait(seeker: &mut impl Seeker, ticket: Option<&Ticket>) -> Result<(), Waited> {
    poll_fn(|cx| {
        if ticket.is_some_and(|ticket| ticket.poll_called(cx).is_ready()) {
            return Poll::Ready(Ok(()));
        }
        match seeker.alarm().rung() {
            Some(Ring::Deadline) => Poll::Ready(Err(Waited::Late)),
            Some(Ring::Cut) => Poll::Ready(Err(Waited::Over(Fault::local(Phase::Connect, Kind::Cut)))),
            None if seeker.has_left(cx) => {
                Poll::Ready(Err(Waited::Over(Fault::client(Phase::Connect, Kind::Died))))
            }
            None => Poll::Pending,
        }
    })
    .await
}
