//! The loop: keeps every slot busy until the time is over, or begins exchanges at their times; waits for the last answers, counts.

use std::collections::VecDeque;
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::{Errno, Result};
use rustix::thread::set_current_timer_slack;
use rustix::time::Timespec;

use crate::Plan;
use crate::latency::Latency;
use crate::pace::Pace;
use crate::slot::{Fault, Progress, Slot};
use crate::sources::Sources;

const EVENTS_MAX: usize = 256;
const BUFFER_BYTES: usize = 1024 * 1024;
/// How often lost datagrams and the end of the run are looked for.
const SWEEP_EVERY: Duration = Duration::from_millis(20);
/// How long after the end an answer may still come; a stream that is silent for longer has stopped.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// Something is so wrong that going on says nothing.
const ERRORS_MAX: u64 = 1_000;

/// Runs the plan; returns the report, a line of JSON.
pub fn run(plan: &Plan) -> Result<String> {
    let mut load = Load::new(plan)?;
    load.start()?;
    load.turn_until_done()?;
    Ok(load.report())
}

#[derive(Default)]
struct Errors {
    connect: u64,
    write: u64,
    read: u64,
    content: u64,
    timeout: u64,
}

impl Errors {
    fn count(&mut self, fault: Fault) {
        *match fault {
            Fault::Connect => &mut self.connect,
            Fault::Write => &mut self.write,
            Fault::Read => &mut self.read,
            Fault::Content => &mut self.content,
            Fault::Timeout => &mut self.timeout,
        } += 1;
    }

    fn total(&self) -> u64 {
        self.connect + self.write + self.read + self.content + self.timeout
    }
}

struct Load<'a> {
    plan: &'a Plan,
    epoll: OwnedFd,
    sources: Sources,
    /// `None`: has nothing more to do.
    slots: Vec<Option<Slot>>,
    begun: Instant,
    last: Instant,
    messages: u64,
    exchanges: u64,
    resent: u64,
    errors: Errors,
    latency: Latency,
    /// Only with a rate: when exchanges begin, the slots that are free for them, and how much later than meant they began.
    pace: Option<Pace>,
    free: VecDeque<usize>,
    late: Latency,
}

impl<'a> Load<'a> {
    fn new(plan: &'a Plan) -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_millis() as u64);
        let begun = Instant::now();
        Ok(Self {
            plan,
            epoll,
            sources: Sources::new(seed),
            slots: Vec::new(),
            begun,
            last: begun,
            messages: 0,
            exchanges: 0,
            resent: 0,
            errors: Errors::default(),
            latency: Latency::new(),
            pace: None,
            free: VecDeque::new(),
            late: Latency::new(),
        })
    }

    /// Opens connections that stay before the clock runs.
    fn start(&mut self) -> Result<()> {
        self.slots.resize_with(self.plan.connections, || None);
        if !self.plan.work.is_churn() {
            for at in 0..self.slots.len() {
                self.open(at);
            }
        }
        self.begun = Instant::now();
        self.last = self.begun;
        if let Some(rate) = self.plan.rate {
            // The kernel may wake a thread 50 µs late unless told otherwise, which is as long as from one exchange to the next.
            set_current_timer_slack(NonZero::new(1))?;
            self.pace = Some(Pace::new(self.begun, rate, self.plan.duration));
            self.free = (0..self.slots.len()).filter(|at| self.slots[*at].is_some()).collect();
        } else {
            (0..self.slots.len()).for_each(|at| self.begin(at, self.begun));
        }
        Ok(())
    }

    fn turn_until_done(&mut self) -> Result<()> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let mut buffer = vec![0; BUFFER_BYTES];
        let (mut swept, end) = (self.begun, self.begun + self.plan.duration);
        while (swept < end || self.slots.iter().any(Option::is_some)) && self.errors.total() < ERRORS_MAX {
            let wait = self.wait();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&wait)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
            for event in events.drain(..) {
                self.serve(event.data.u64() as usize, &mut buffer);
            }
            let now = Instant::now();
            self.begin_due(now);
            if now.duration_since(swept) >= SWEEP_EVERY {
                swept = now;
                self.resend(now);
            }
            if now >= end + LAST_ANSWERS {
                let silent = self.slots.iter_mut().filter_map(Option::take).count();
                let unbegun = self.pace.take().map_or(0, |pace| pace.left() as usize);
                (0..silent + unbegun).for_each(|_| self.errors.count(Fault::Timeout));
            }
        }
        Ok(())
    }

    /// Until the next exchange or sweep is due.
    fn wait(&self) -> Timespec {
        let next = self.pace.as_ref().filter(|_| !self.free.is_empty()).and_then(Pace::next);
        let left =
            next.map_or(SWEEP_EVERY, |next| next.saturating_duration_since(Instant::now()).min(SWEEP_EVERY));
        Timespec { tv_sec: 0, tv_nsec: left.subsec_nanos().into() }
    }

    /// Begins what is due, as far as slots are free; what is not keeps its time. After the last of them free slots are closed.
    fn begin_due(&mut self, now: Instant) {
        while let Some(at) = self.free.front().copied()
            && let Some(intended) = self.pace.as_mut().and_then(|pace| pace.take(now))
        {
            self.free.pop_front();
            self.late.record(now.duration_since(intended));
            self.send(at, intended, now);
        }
        if self.pace.as_ref().is_some_and(|pace| pace.left() == 0) {
            self.free.drain(..).for_each(|at| self.slots[at] = None);
        }
    }

    /// An event may be older than the slot's socket: then there is nothing to receive.
    fn serve(&mut self, at: usize, buffer: &mut [u8]) {
        let Some(slot) = &mut self.slots[at] else { return };
        match slot.receive(buffer) {
            Progress::Waiting => {}
            Progress::Complete => {
                let now = Instant::now();
                self.latency.record(now.duration_since(slot.started));
                self.exchanges += 1;
                self.last = now;
                if self.plan.work.is_churn() {
                    self.slots[at] = None;
                }
                if self.plan.rate.is_some() {
                    self.free.push_back(at);
                } else {
                    self.begin(at, now);
                }
            }
            Progress::Failed(fault) => self.fail(at, fault),
        }
    }

    /// Begins the next exchange of a slot, on a new socket when it has none, unless the time is over.
    fn begin(&mut self, at: usize, now: Instant) {
        if now.duration_since(self.begun) >= self.plan.duration || self.errors.total() >= ERRORS_MAX {
            self.slots[at] = None;
            return;
        }
        if self.slots[at].is_none() {
            self.open(at);
        }
        // With a new socket, opening it belongs to the exchange.
        let opened = self.slots[at].as_ref().map(|slot| slot.started).filter(|_| self.plan.work.is_churn());
        self.send(at, opened.unwrap_or(now), now);
    }

    /// Sends what begins an exchange; its latency counts from `started`.
    fn send(&mut self, at: usize, started: Instant, now: Instant) {
        let Some(slot) = &mut self.slots[at] else { return };
        self.messages += 1;
        slot.started = started;
        if let Err(fault) = slot.begin(self.messages, now) {
            self.fail(at, fault);
        }
    }

    /// Leaves the slot empty when it cannot be done.
    fn open(&mut self, at: usize) {
        let opened = Slot::open(self.plan.work, self.plan.target, &mut self.sources);
        let watched = opened.and_then(|slot| {
            epoll::add(&self.epoll, &slot, EventData::new_u64(at as u64), EventFlags::IN)?;
            Ok(slot)
        });
        match watched {
            Ok(slot) => self.slots[at] = Some(slot),
            Err(_) => self.errors.count(Fault::Connect),
        }
    }

    /// Gives up an exchange; the slot is filled again by the next sweep, so that a broken proxy is not hammered.
    fn fail(&mut self, at: usize, fault: Fault) {
        self.errors.count(fault);
        self.slots[at] = None;
        self.free.retain(|free| *free != at);
    }

    /// Opens a slot again that failed, and fills it, unless it is to wait for its time.
    fn refill(&mut self, at: usize, now: Instant) {
        if self.plan.rate.is_none() {
            self.begin(at, now);
        } else if self.pace.as_ref().is_some_and(|pace| pace.left() > 0) {
            self.open(at);
            self.free.extend(self.slots[at].as_ref().map(|_| at));
        }
    }

    fn resend(&mut self, now: Instant) {
        for at in 0..self.slots.len() {
            match self.slots[at].as_mut().map(|slot| slot.resend(now)) {
                None => self.refill(at, now),
                Some(Ok(resent)) => self.resent += u64::from(resent),
                Some(Err(fault)) => self.fail(at, fault),
            }
        }
    }

    fn report(&self) -> String {
        let Errors { connect, write, read, content, timeout } = self.errors;
        format!(
            "{{\"exchanges\":{},\"bytes\":{},\"seconds\":{:.6},\"p50_us\":{:.1},\"p90_us\":{:.1},\"p99_us\":{:.1},\"p999_us\":{:.1},\"max_us\":{:.1},{}\
             \"resent\":{},\"errors\":{{\"connect\":{connect},\"write\":{write},\"read\":{read},\"content\":{content},\"timeout\":{timeout}}}}}",
            self.exchanges,
            self.exchanges * self.plan.work.answer_bytes() as u64,
            self.last.duration_since(self.begun).as_secs_f64(),
            self.latency.percentile_us(50.0),
            self.latency.percentile_us(90.0),
            self.latency.percentile_us(99.0),
            self.latency.percentile_us(99.9),
            self.latency.max_us(),
            self.late(),
            self.resent,
        )
    }

    /// What the client itself adds to latencies at a rate, waiting for a free connection included.
    fn late(&self) -> String {
        let [half, most] = [50.0, 99.0].map(|percent| self.late.percentile_us(percent));
        let said = format!("\"late_p50_us\":{half:.1},\"late_p99_us\":{most:.1},");
        self.plan.rate.map_or(String::new(), |_| said)
    }
}
