//! The rounds of one backend: probe, tell what follows, wait. One task, so one probe at a time.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::warn;

use super::{
    Finding, Shared, Task,
    call::{self, Miss, Stage, Try},
    subject::Subject,
};
use crate::{
    config::plan::health::HealthPlan,
    health::pulse::{Pulse, Rules, Verdict},
    io::alarm::{self, Millis},
    stats::probes::Record,
    upstream::source::Sources,
};

/// First probes of many backends begin this far apart.
const FIRST_SPREAD: Duration = Duration::from_millis(1);

/// How often this host's poverty is complained about at most.
const COMPLAINT_MS: Millis = 60_000;

/// A backend among those whose probes begin together.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) index: usize,
    pub(super) count: usize,
}

/// A task before it runs.
pub(super) struct Rounds {
    subject: Arc<Subject>,
    record: Arc<Record>,
    shared: Arc<Shared>,
    pulse: Pulse,
    chance: fastrand::Rng,
    sources: Sources,
    /// The endpoint that took the last connection.
    preferred: usize,
}

impl Rounds {
    /// The record says what state it begins in.
    pub(super) fn new(subject: &Arc<Subject>, record: &Arc<Record>, shared: &Arc<Shared>, seed: u64) -> Self {
        let up = record.figures().latest.up;
        Rounds {
            pulse: Pulse::new(rules(&subject.health), up),
            chance: fastrand::Rng::with_seed(seed),
            sources: Sources::new(Arc::clone(&subject.sources), 0),
            preferred: 0,
            subject: Arc::clone(subject),
            record: Arc::clone(record),
            shared: Arc::clone(shared),
        }
    }

    /// Runs until it is aborted. The task `before` it ends first, with the probe it may be in.
    pub(super) async fn run(mut self, place: Place, before: Option<Task>) {
        if let Some(mut before) = before {
            before.running.abort();
            let _aborted = (&mut before.running).await;
        }
        let interval = self.subject.health.interval;
        sleep(place.part(interval, place.index).min(FIRST_SPREAD * saturated(place.index))).await;
        // The second probes spread over the whole interval, and all that follow stay so.
        let mut share = place;
        loop {
            let Some(begun) = self.round().await else { return };
            let pause = Duration::from_millis(self.pulse.pause(self.chance.u64(..)));
            sleep_until(begun + share.part(pause, share.index.saturating_add(1))).await;
            share = Place { index: 0, count: 1 };
        }
    }

    /// One probe; the answer is when it began, or `None` when nobody wants to know.
    async fn round(&mut self) -> Option<Instant> {
        let permit = self.shared.slots.acquire().await.ok()?;
        let begun = Instant::now();
        let mut stage = Stage::default();
        let (limit, tries) = (self.subject.health.timeout, self.tries());
        let result = timeout(limit, call::make(&self.subject, tries, &mut stage)).await;
        let result = result.unwrap_or_else(|_| Err(stage.late(limit)));
        self.preferred = stage.connected.unwrap_or(0);
        drop(permit);
        let last_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let result = match result {
            Ok(()) => Ok(()),
            Err(Miss::Backend(reason)) => Err(reason),
            Err(Miss::Ours(reason)) => {
                self.complain(&reason);
                self.record.write(|latest| latest.last = format!("not probed: {reason}"));
                return Some(begun);
            }
        };
        self.record.write(|latest| {
            latest.probes += 1;
            latest.failures += u64::from(result.is_err());
            latest.last = result.as_ref().err().map_or_else(|| "ok".to_owned(), Clone::clone);
            latest.last_ms = last_ms;
        });
        let Some(verdict) = self.pulse.hear(result) else { return Some(begun) };
        let up = verdict == Verdict::Up;
        self.record.write(|latest| latest.up = up);
        let Subject { cluster, backend, own, .. } = &*self.subject;
        let (cluster, backend) = (Arc::clone(cluster), Arc::clone(backend));
        let finding = Finding { cluster, backend, endpoints: Arc::clone(own), verdict };
        self.shared.findings.send(finding).await.ok().map(|()| begun)
    }

    /// Its endpoints, with the one that took the last connection first.
    fn tries(&self) -> Vec<Try> {
        let places = (0..self.subject.endpoints.len()).cycle().skip(self.preferred);
        let places = places
            .take(self.subject.endpoints.len())
            .zip(self.subject.endpoints.iter().cycle().skip(self.preferred));
        places.map(|(place, endpoint)| (place, self.sources.toward(endpoint).next().flatten())).collect()
    }

    /// Thousands of backends suffer from the same thing, so one speaks for all.
    fn complain(&self, reason: &str) {
        let (now, last) = (alarm::now(), self.shared.complained.load(Relaxed));
        if last == 0 || now.saturating_sub(last) >= COMPLAINT_MS {
            self.shared.complained.store(now.max(1), Relaxed);
            let Subject { cluster, backend, .. } = &*self.subject;
            warn!(
                cluster = &**cluster,
                backend = &**backend,
                reason,
                "cannot probe; backends stay as they are"
            );
        }
    }
}

impl Place {
    /// `part` of its `count` parts of a time.
    fn part(self, whole: Duration, part: usize) -> Duration {
        whole.mul_f64(part as f64 / self.count.max(1) as f64)
    }
}

fn saturated(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn rules(health: &HealthPlan) -> Rules {
    Rules {
        rise: health.rise,
        fall: health.fall,
        interval: alarm::millis(health.interval),
        fast_interval: alarm::millis(health.fast_interval),
        jitter_percent: health.jitter_percent,
    }
}
