//! The real binary as a child process: its options, what it prints, its signals, its end.

use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::backend::Backend;
use super::client::{Client, Response};
use super::deadline::{PATIENCE, eventually, within};
use super::kernel;
use super::stats::Stats;

/// A start can be slow on a loaded machine in a debug build.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// What the binary is started with.
pub(crate) struct Options {
    command: Command,
    backends: Vec<String>,
    cores: usize,
    listens: usize,
}

impl Options {
    /// The binary with nothing but what `arg` adds.
    pub(crate) fn bare() -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn backend(mut self, backend: impl ToString) -> Self {
        self.backends.push(backend.to_string());
        self
    }

    pub(crate) fn backends(self, backends: &[&Backend]) -> Self {
        backends.iter().fold(self, |options, backend| options.backend(&backend.place))
    }

    /// The number of workers, each on a core of its own; one by default, so that turns are predictable.
    pub(crate) fn cores(mut self, count: usize) -> Self {
        self.cores = count;
        self
    }

    /// The number of listeners, each on a free port of 127.0.0.1.
    pub(crate) fn listens(mut self, count: usize) -> Self {
        self.listens = count;
        self
    }

    /// A listener where `place` says, instead of on a free port.
    pub(crate) fn listen(mut self, place: &str) -> Self {
        self.listens = 0;
        self.arg("--listen").arg(place)
    }

    /// Connections instead of requests.
    pub(crate) fn tcp(self) -> Self {
        self.arg("--mode").arg("tcp")
    }

    /// Every deadline divided by `factor`, in a debug build.
    pub(crate) fn hastened(self, factor: u32) -> Self {
        self.env("RINGWAY_TEST_HASTE", &factor.to_string())
    }

    /// Statistics and log as JSON, which `Ringway::stats` needs.
    pub(crate) fn json(self) -> Self {
        self.arg("--log-format").arg("json")
    }

    pub(crate) fn arg(mut self, arg: &str) -> Self {
        self.command.arg(arg);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Changes the command itself, for what only the kernel can do to a child.
    pub(crate) fn command(mut self, change: impl FnOnce(&mut Command)) -> Self {
        change(&mut self.command);
        self
    }

    /// Starts it and waits for the line that says it is ready.
    pub(crate) fn start(self) -> Ringway {
        Ringway::spawn(self.into_command())
    }

    /// The command with everything the options say.
    pub(crate) fn into_command(self) -> Command {
        let mut command = self.command;
        let cores: Vec<_> = kernel::allowed_cores().iter().take(self.cores).map(usize::to_string).collect();
        command.arg("--cores").arg(cores.join(",")).arg("--backends").arg(self.backends.join(","));
        for _ in 0..self.listens {
            command.arg("--listen").arg("127.0.0.1:0");
        }
        command
    }
}

/// What was said so far, and whether that is all there will be.
#[derive(Default)]
struct Said {
    lines: Vec<String>,
    ended: bool,
}

#[derive(Default)]
struct Lines {
    said: Mutex<Said>,
    changed: Condvar,
}

impl Lines {
    /// A test that failed while it held the lock must still be able to show the lines.
    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The running binary; killed when dropped.
pub(crate) struct Ringway {
    child: Child,
    lines: Arc<Lines>,
    pub(crate) addresses: Vec<SocketAddr>,
    /// Where it listens, in the order of the listeners, UNIX sockets included.
    pub(crate) places: Vec<String>,
}

impl Ringway {
    /// One worker, one listener on a free port.
    pub(crate) fn options() -> Options {
        Options { command: Options::bare(), backends: Vec::new(), cores: 1, listens: 1 }
    }

    /// One worker in front of `backends`.
    pub(crate) fn in_front_of(backends: &[&Backend]) -> Self {
        Self::options().backends(backends).start()
    }

    /// As [`Ringway::in_front_of`], with statistics.
    pub(crate) fn counted_in_front_of(backends: &[&Backend]) -> Self {
        Self::options().backends(backends).json().start()
    }

    /// One worker in front of `backends` that knows nothing of HTTP, with statistics.
    pub(crate) fn tcp_in_front_of(backends: &[&Backend]) -> Self {
        Self::options().tcp().backends(backends).json().start()
    }

    /// Starts `command`, which must listen somewhere, and waits until it is ready.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let lines = Arc::new(Lines::default());
        let (stderr, shared) = (child.stderr.take().unwrap(), Arc::clone(&lines));
        thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n') {
                let Ok(line) = line else { break };
                shared.lock().lines.push(String::from_utf8_lossy(&line).into_owned());
                shared.changed.notify_all();
            }
            shared.lock().ended = true;
            shared.changed.notify_all();
        });
        let mut ringway = Self { child, lines, addresses: Vec::new(), places: Vec::new() };
        ringway
            .wait_line_from(0, "the line `ready`", START_PATIENCE, |line| message(line).starts_with("ready"));
        ringway.places = ringway.lines().iter().filter_map(|line| listening_place(line)).collect();
        ringway.addresses = ringway.places.iter().filter_map(|place| place.parse().ok()).collect();
        assert!(!ringway.places.is_empty(), "no `listening on` among {:#?}", ringway.lines());
        ringway
    }

    /// The first listener's address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// A connection to the first listener, wherever that is.
    pub(crate) fn client(&self) -> Client {
        Client::connect_to(&self.places[0])
    }

    /// A connection from this address of the host.
    pub(crate) fn client_from(&self, source: IpAddr) -> Client {
        Client::connect_from(source, self.address())
    }

    /// One GET on a connection of its own.
    pub(crate) fn get(&self, path: &str) -> Response {
        self.client().get(path)
    }

    /// All lines of stderr so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().lines.clone()
    }

    /// Waits for a line of stderr, old or new.
    pub(crate) fn wait_line(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        self.wait_line_from(0, what, PATIENCE, wanted)
    }

    /// As [`Ringway::wait_line`], but only among the lines after the first `known`.
    pub(crate) fn wait_line_after(&self, known: usize, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        self.wait_line_from(known, what, PATIENCE, wanted)
    }

    fn wait_line_from(
        &self,
        first: usize,
        what: &str,
        patience: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> String {
        let deadline = Instant::now() + patience;
        let mut said = self.lines.lock();
        loop {
            if let Some(line) = said.lines.iter().skip(first).find(|line| wanted(line)) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero() && !said.ended,
                "no {what} among {:#?} (stderr ended: {})",
                said.lines,
                said.ended
            );
            said = self.lines.changed.wait_timeout(said, left).unwrap().0;
        }
    }

    pub(crate) fn signal(&self, signal: libc::c_int) {
        kernel::signal(self.child.id(), signal);
    }

    /// Lets it stand still, all its threads, until [`Self::resume`].
    pub(crate) fn pause(&self) {
        self.signal(libc::SIGSTOP);
        kernel::wait_stopped(self.child.id());
    }

    pub(crate) fn resume(&self) {
        self.signal(libc::SIGCONT);
    }

    /// Asks for the statistics; the binary must have been started with [`Options::json`].
    pub(crate) fn stats(&self) -> Stats {
        let known = self.lines().len();
        self.signal(libc::SIGUSR1);
        let is_dump = |line: &str| Stats::parse(line).is_some();
        Stats::parse(&self.wait_line_from(known, "statistics", PATIENCE, is_dump)).unwrap()
    }

    /// Asks for the statistics until they are as wanted.
    pub(crate) fn wait_stats(&self, what: &str, wanted: impl Fn(&Stats) -> bool) -> Stats {
        let mut last = None;
        let found = within(PATIENCE, || {
            let stats = self.stats();
            let good = wanted(&stats);
            last = Some(stats.clone());
            good.then_some(stats)
        });
        found.unwrap_or_else(|| panic!("statistics never showed {what}: {last:?}"))
    }

    /// Waits until no connection, exchange, buffer or pipe is in use.
    pub(crate) fn wait_quiet(&self) -> Stats {
        self.wait_stats("that nothing is in use", Stats::is_quiet)
    }

    /// The exit status if it has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end: the exit code, `None` when a signal killed it.
    pub(crate) fn wait_exit(&mut self, patience: Duration) -> Option<i32> {
        let status = within(patience, || self.child.try_wait().unwrap());
        status.unwrap_or_else(|| panic!("still running; it said {:#?}", self.lines())).code()
    }

    /// Waits until nobody can connect any more.
    pub(crate) fn wait_refuses(&self) {
        eventually("new connections are refused", || Client::try_connect(self.address()).err());
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end after a signal: everything it has printed on its standard output.
    pub(crate) fn printed(&mut self) -> String {
        let mut printed = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
        printed
    }
}

impl Drop for Ringway {
    fn drop(&mut self) {
        let _ended_before = self.child.kill();
        let _reaped = self.child.wait();
        if thread::panicking() {
            eprintln!("the binary said: {:#?}", self.lines());
        }
    }
}

/// What a line of the log says, in both formats.
pub(crate) fn message(line: &str) -> String {
    let Ok(json) = serde_json::from_str::<serde_json::Value>(line) else { return line.to_owned() };
    let fields = json.get("fields").unwrap_or(&json);
    fields.get("message").and_then(|message| message.as_str()).unwrap_or(line).to_owned()
}

fn listening_place(line: &str) -> Option<String> {
    let said = message(line);
    let (_, rest) = said.split_once("listening on ")?;
    Some(rest.split(' ').next()?.to_owned())
}
