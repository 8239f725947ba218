//! Constant load: clients that ask one request after the other until they are told to stop, and remember everything.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::client::Client;
use super::deadline::within;
use super::process::NUMBER;

/// What a client asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Work {
    /// GETs, all on one connection.
    Get,
    /// GETs, each on a connection of its own.
    GetOnce,
    /// POSTs, all on one connection, each with a number of its own.
    Post,
}

/// One request, from its first byte to the last one of its answer.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) work: Work,
    pub(crate) begun: Instant,
    pub(crate) took: Duration,
    /// Of a POST.
    pub(crate) number: u64,
    /// Why it was not answered with 200.
    pub(crate) error: Option<String>,
}

/// Clients at work.
pub(crate) struct Load {
    common: Arc<Common>,
    threads: Vec<JoinHandle<Vec<Sample>>>,
}

/// What clients and test tell each other.
#[derive(Default)]
struct Common {
    over: AtomicBool,
    answered: AtomicUsize,
    /// How many of each kind there were.
    errors: Mutex<BTreeMap<String, usize>>,
}

/// No two POSTs of this process have the same number.
static NEXT: AtomicU64 = AtomicU64::new(1);

impl Load {
    /// Starts `count` clients for each kind of work.
    pub(crate) fn start(address: SocketAddr, kinds: &[(Work, usize)]) -> Self {
        let common = Arc::<Common>::default();
        let client = |work: Work| {
            let common = Arc::clone(&common);
            thread::spawn(move || toil(address, work, &common))
        };
        let works = kinds.iter().flat_map(|(work, count)| vec![*work; *count]);
        let threads = works.map(client).collect();
        Self { common, threads }
    }

    /// How many requests have had a good answer.
    pub(crate) fn answered(&self) -> usize {
        self.common.answered.load(Ordering::SeqCst)
    }

    /// Waits for so many good answers more.
    pub(crate) fn wait_more(&self, count: usize) {
        let wanted = self.answered() + count;
        let came = within(Duration::from_secs(60), || (self.answered() >= wanted).then_some(()));
        assert!(came.is_some(), "{} good answers, not {wanted}; {:?}", self.answered(), self.common.errors);
    }

    /// Ends it: everything that was asked.
    pub(crate) fn stop(mut self) -> Report {
        self.common.over.store(true, Ordering::SeqCst);
        let threads = std::mem::take(&mut self.threads);
        let mut samples: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        samples.sort_by_key(|sample| sample.begun);
        Report { samples }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.common.over.store(true, Ordering::SeqCst);
    }
}

fn toil(address: SocketAddr, work: Work, common: &Common) -> Vec<Sample> {
    let (mut samples, mut connection) = (Vec::new(), None);
    while !common.over.load(Ordering::SeqCst) {
        let number = if work == Work::Post { NEXT.fetch_add(1, Ordering::SeqCst) } else { 0 };
        let begun = Instant::now();
        let error = ask(address, work, number, &mut connection).err();
        let took = begun.elapsed();
        match &error {
            None => {
                common.answered.fetch_add(1, Ordering::SeqCst);
            }
            Some(error) => *common.errors.lock().unwrap().entry(error.clone()).or_default() += 1,
        }
        samples.push(Sample { work, begun, took, number, error });
    }
    samples
}

/// One request; `connection` is what the next one may go on with.
fn ask(address: SocketAddr, work: Work, number: u64, connection: &mut Option<Client>) -> Result<(), String> {
    let client = match connection.take() {
        Some(client) => client,
        None => Client::try_connect(address).map_err(|error| format!("connect: {error}"))?,
    };
    let client = connection.insert(client);
    let request = match work {
        Work::Get => "GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        Work::GetOnce => "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned(),
        Work::Post => {
            format!("POST / HTTP/1.1\r\nHost: a\r\n{NUMBER}: {number}\r\nContent-Length: 4\r\n\r\nwork")
        }
    };
    let answer = client.send(request.as_bytes()).map_err(|error| format!("send: {error}"));
    let answer =
        answer.and_then(|()| client.response_to("GET").map_err(|failure| format!("no answer: {failure:?}")));
    let goes_on = answer.as_ref().is_ok_and(|answer| !answer.says_close());
    if !goes_on {
        *connection = None;
    }
    match answer? {
        answer if answer.status == 200 => Ok(()),
        answer => Err(format!("status {}", answer.status)),
    }
}

/// Everything that was asked, in the order of its beginning.
pub(crate) struct Report {
    pub(crate) samples: Vec<Sample>,
}

impl Report {
    /// The GETs, or the POSTs.
    pub(crate) fn only(&self, posts: bool) -> Report {
        let wanted = |sample: &&Sample| (sample.work == Work::Post) == posts;
        Report { samples: self.samples.iter().filter(wanted).cloned().collect() }
    }

    /// How many of each kind of error there were.
    pub(crate) fn errors(&self) -> BTreeMap<String, usize> {
        let mut errors = BTreeMap::new();
        for error in self.samples.iter().filter_map(|sample| sample.error.clone()) {
            *errors.entry(error).or_default() += 1;
        }
        errors
    }

    /// Panics with what went wrong if anything did, or if there were fewer than `least` requests.
    pub(crate) fn check_flawless(&self, least: usize) {
        let errors = self.errors();
        assert!(errors.is_empty(), "of {} requests: {errors:?}", self.samples.len());
        assert!(self.samples.len() >= least, "{} requests", self.samples.len());
    }

    /// How long the slowest took but for one in a hundred, of those that began between these; nothing if there are
    /// fewer than a hundred.
    pub(crate) fn p99_between(&self, from: Instant, to: Instant) -> Option<Duration> {
        let among = self.samples.iter().filter(|sample| (from..to).contains(&sample.begun));
        let mut took: Vec<_> = among.map(|sample| sample.took).collect();
        took.sort();
        (took.len() >= 100).then(|| took[took.len() * 99 / 100])
    }
}
