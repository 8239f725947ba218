//! The loop: keeps every slot busy until the time is over, waits for the last answers, counts.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::{Errno, Result};
use rustix::time::Timespec;

use crate::Plan;
use crate::latency::Latency;
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
    load.start();
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
        })
    }

    /// Opens connections that stay before the clock runs.
    fn start(&mut self) {
        self.slots.resize_with(self.plan.connections, || None);
        if !self.plan.work.is_churn() {
            for at in 0..self.slots.len() {
                self.open(at);
            }
        }
        self.begun = Instant::now();
        self.last = self.begun;
        for at in 0..self.slots.len() {
            self.begin(at, self.begun);
        }
    }

    fn turn_until_done(&mut self) -> Result<()> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let mut buffer = vec![0; BUFFER_BYTES];
        let wait = Timespec { tv_sec: 0, tv_nsec: SWEEP_EVERY.subsec_nanos().into() };
        let (mut swept, end) = (self.begun, self.begun + self.plan.duration);
        while (swept < end || self.slots.iter().any(Option::is_some)) && self.errors.total() < ERRORS_MAX {
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&wait)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
            for event in events.drain(..) {
                self.serve(event.data.u64() as usize, &mut buffer);
            }
            let now = Instant::now();
            if now.duration_since(swept) >= SWEEP_EVERY {
                swept = now;
                self.resend(now);
            }
            if now >= end + LAST_ANSWERS {
                let silent = self.slots.iter_mut().filter_map(Option::take).count();
                (0..silent).for_each(|_| self.errors.count(Fault::Timeout));
            }
        }
        Ok(())
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
                self.begin(at, now);
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
        let Some(slot) = &mut self.slots[at] else { return };
        self.messages += 1;
        // With a new socket, opening it belongs to the exchange.
        if !self.plan.work.is_churn() {
            slot.started = now;
        }
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
    }

    fn resend(&mut self, now: Instant) {
        for at in 0..self.slots.len() {
            match self.slots[at].as_mut().map(|slot| slot.resend(now)) {
                None => self.begin(at, now),
                Some(Ok(resent)) => self.resent += u64::from(resent),
                Some(Err(fault)) => self.fail(at, fault),
            }
        }
    }

    fn report(&self) -> String {
        let Errors { connect, write, read, content, timeout } = self.errors;
        format!(
            "{{\"exchanges\":{},\"bytes\":{},\"seconds\":{:.6},\"p50_us\":{:.1},\"p90_us\":{:.1},\"p99_us\":{:.1},\"max_us\":{:.1},\
             \"resent\":{},\"errors\":{{\"connect\":{connect},\"write\":{write},\"read\":{read},\"content\":{content},\"timeout\":{timeout}}}}}",
            self.exchanges,
            self.exchanges * self.plan.work.answer_bytes() as u64,
            self.last.duration_since(self.begun).as_secs_f64(),
            self.latency.percentile_us(50.0),
            self.latency.percentile_us(90.0),
            self.latency.percentile_us(99.0),
            self.latency.max_us(),
            self.resent,
        )
    }
}
