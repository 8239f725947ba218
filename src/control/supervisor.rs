//! The supervisor: from the command line to the exit code. It starts the workers, follows signals and waits for the
//! end. Runs on the main thread.

use std::{
    collections::HashSet,
    ffi::OsString,
    future,
    io::{self, Write},
    iter, mem,
    os::unix,
    process::ExitCode,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    net::UnixStream,
    runtime::Runtime,
    time::{Instant, sleep_until},
};
use tracing::{error, info, warn};

use super::{
    admin,
    log::{self, LogFormat},
    probe::{Finding, Prober, Verdict},
    process::{Failure, log_panics, raise_descriptor_limit, use_small_pages},
    reload::{self, Course, Found},
    signals::Signals,
    start::{self, Running},
};
use crate::{
    addr::Endpoint,
    cli::{self, Command},
    config::source::Source,
    demo, doctor,
    io::alarm,
    stats::{names::Count, report::Report},
    worker::{mailbox, run::Event},
};

/// Runs the program.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    match dispatch(args) {
        Ok(code) => code,
        Err(failure) => {
            // Nobody is left to tell when stderr is closed.
            let _ = writeln!(io::stderr(), "error: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

fn dispatch(args: impl Iterator<Item = OsString>) -> Result<ExitCode, Failure> {
    match cli::parse(args).map_err(|error| Failure::Usage(error.to_string()))? {
        Command::Print(text) => {
            let _ = io::stdout().write_all(text.as_bytes());
        }
        Command::Doctor(options) => {
            let outcome = doctor::examine(&options).map_err(|error| Failure::Usage(error.to_string()))?;
            let _ = io::stdout().write_all(outcome.text.as_bytes());
            return Ok(if outcome.is_healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Run(source) => run(source, None)?,
        Command::Check { source, dump } => check(source, dump)?,
        Command::Demo(options) => {
            let backends =
                demo::start().map_err(|error| Failure::Runtime(format!("cannot start the demo: {error}")))?;
            run(Source::Flags(Box::new(options.into_run(backends.addresses()))), Some(backends))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Says whether a configuration is right, and with `dump` all that it means. Opens and resolves nothing.
fn check(mut source: Source, dump: bool) -> Result<(), Failure> {
    source.take_standard_input().map_err(|mistake| start::refusal(&source, &[mistake]))?;
    let checked = start::load(&source)?;
    for warning in checked.warnings() {
        let _ = writeln!(io::stderr(), "warning: {warning}");
    }
    let _ = match dump {
        true => io::stdout().write_all(checked.to_toml().as_bytes()),
        false => writeln!(io::stdout(), "configuration ok: {}", checked.summary()),
    };
    Ok(())
}

fn run(mut source: Source, demo: Option<demo::DemoBackends>) -> Result<(), Failure> {
    source.take_standard_input().map_err(|mistake| start::refusal(&source, &[mistake]))?;
    let checked = start::load(&source)?;
    let (format, effective) = (checked.log_format(), checked.to_json());
    log::init(format);
    for warning in checked.warnings() {
        warn!("{warning}");
    }
    log_panics();
    raise_descriptor_limit();
    use_small_pages();
    let failed = |error: io::Error| Failure::Runtime(format!("cannot start the control thread: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let plan = runtime.block_on(start::resolved(checked))?;
    let admin = plan.admin.map(bind_admin).transpose()?;
    // Signals are caught from here on, so that none that comes while the workers start is lost.
    let signals = runtime.block_on(async { Signals::new() }).map_err(failed)?;
    let workers = start::workers(plan, effective)?;
    let outcome = serve(&runtime, workers, signals, admin, (source, format), demo.is_some());
    // A name lookup may still hang in a thread of its own.
    runtime.shutdown_background();
    outcome
}

fn bind_admin(address: std::net::SocketAddr) -> Result<std::net::TcpListener, Failure> {
    let advice = crate::listener::bind::advice;
    admin::bind(address).map_err(|error| {
        Failure::Bind(format!("cannot listen on {address} (admin): {error}; {}", advice(&error)))
    })
}

fn serve(
    runtime: &Runtime,
    (running, news): (Running, unix::net::UnixStream),
    signals: Signals,
    admin: Option<std::net::TcpListener>,
    (source, format): (Source, LogFormat),
    demo: bool,
) -> Result<(), Failure> {
    let status = Arc::clone(&running.admin);
    let admin_address = admin.as_ref().and_then(|listener| listener.local_addr().ok());
    if let Some(listener) = admin {
        runtime.spawn(async move {
            if let Err(error) = admin::serve(listener, status).await {
                error!(error = &error as &(dyn std::error::Error + 'static), "the admin listener has failed");
            }
        });
    }
    if let Some(address) = admin_address {
        info!("admin on http://{address}");
    }
    info!(workers = running.orders.workers().len(), pid = std::process::id(), "ready");
    if let Some(listen) = running.admin.shown().listeners.first().and_then(Endpoint::inet).filter(|_| demo) {
        let _ = io::stdout().write_all(demo::hints(listen, admin_address, std::process::id()).as_bytes());
    }
    runtime.block_on(async {
        let prober = Prober::start(&running.blueprint.plan, Arc::clone(&running.admin.probes));
        let news = UnixStream::from_std(news)
            .map_err(|error| Failure::Runtime(format!("cannot listen to the workers: {error}")))?;
        let supervisor = Supervisor {
            running,
            news,
            source,
            prober,
            course: Course::default(),
            format,
            ended: HashSet::new(),
            deadline: None,
            stopping: false,
            cut: false,
        };
        supervisor.watch(signals).await
    })
}

/// How long the workers may take to cut everything.
const CUT_TIMEOUT: Duration = Duration::from_secs(5);

/// The coarse clock may be behind the timer's by as much.
const CLOCK_TICK: Duration = Duration::from_millis(4);

/// Rings of workers that are silenced at once.
const RINGS: usize = 256;

/// How soon to look again when every worker has ended once and one has been handed a connection since.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What the supervisor waits for.
enum Wake {
    Stop { limited: bool },
    Dump,
    Reload,
    Resolved(Result<Found, Failure>),
    Upgrade,
    Events,
    Due,
    Found(Finding),
    Deadline,
}

struct Supervisor {
    running: Running,
    /// Where workers ring.
    news: UnixStream,
    source: Source,
    prober: Prober,
    /// How far a reload has come.
    course: Course,
    format: LogFormat,
    /// Workers that have accepted their last connection.
    ended: HashSet<usize>,
    /// When a graceful stop becomes a cut.
    deadline: Option<Instant>,
    stopping: bool,
    /// The order to cut has been given.
    cut: bool,
}

impl Supervisor {
    async fn watch(mut self, mut signals: Signals) -> Result<(), Failure> {
        loop {
            match self.wait(&mut signals).await {
                Wake::Stop { limited } => self.stop(limited),
                Wake::Dump => self.dump(),
                Wake::Reload => self.reload(),
                Wake::Resolved(found) => self.resolved(found),
                Wake::Upgrade => {
                    warn!("binary upgrade is not available yet; start a new instance and stop this one")
                }
                Wake::Deadline if self.cut => {
                    return Err(Failure::Runtime("a worker did not end; giving up on it".to_owned()));
                }
                Wake::Deadline => self.cut(),
                Wake::Events => self.read_events()?,
                Wake::Due => {}
                Wake::Found(finding) => self.found(&finding),
            }
            self.running.orders.deliver(alarm::now());
            self.running.health.publish(&self.running.orders);
            if self.course.is_next() {
                self.reload();
            }
            if self.has_ended().await {
                self.farewell();
                return Ok(());
            }
        }
    }

    async fn wait(&mut self, signals: &mut Signals) -> Wake {
        let deadline = async {
            match self.deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => future::pending().await,
            }
        };
        let due = self.running.health.due().into_iter().chain(self.running.orders.due()).min();
        let due = async {
            match due.map(|at| at.saturating_sub(alarm::now())) {
                Some(millis) => tokio::time::sleep(Duration::from_millis(millis) + CLOCK_TICK).await,
                None => future::pending().await,
            }
        };
        let news = async {
            // A ring that was silenced meanwhile is waited for again.
            while self.news.readable().await.is_ok() && self.news.try_read(&mut [0; RINGS]).is_err() {}
        };
        let look_again = async {
            match self.ended.len() == self.running.orders.workers().len() {
                true => tokio::time::sleep(LOOK_AGAIN).await,
                false => future::pending().await,
            }
        };
        tokio::select! {
            _ = signals.terminate.recv() => Wake::Stop { limited: true },
            _ = signals.interrupt.recv() => Wake::Stop { limited: true },
            _ = signals.quit.recv() => Wake::Stop { limited: false },
            _ = signals.hangup.recv() => Wake::Reload,
            found = self.course.found() => Wake::Resolved(found),
            _ = signals.user1.recv() => Wake::Dump,
            _ = signals.user2.recv() => Wake::Upgrade,
            () = news => Wake::Events,
            () = due => Wake::Due,
            Some(finding) = self.prober.findings.recv() => Wake::Found(finding),
            () = deadline => Wake::Deadline,
            () = look_again => Wake::Events,
        }
    }

    /// Reads the configuration again. A wrong one changes nothing.
    fn reload(&mut self) {
        if self.stopping {
            return warn!("not reloading: the end is under way");
        }
        if self.course.is_under_way() {
            return self.course.ask_again();
        }
        if matches!(self.source, Source::Flags(_)) {
            return info!("nothing to reload: this instance runs from its command line");
        }
        if let Err(failure) = self.course.begin(&self.source) {
            reload::refuse(&failure);
        }
    }

    /// The names of the new plan have been looked up.
    fn resolved(&mut self, found: Result<Found, Failure>) {
        match found.and_then(|found| self.course.prepare(&mut self.running, found)) {
            Ok(commands) => self.running.orders.give(commands, alarm::now()),
            Err(failure) => reload::refuse(&failure),
        }
    }

    /// A worker goes by the new plan; when all do, they listen where they have not listened before.
    fn renewed(&mut self, worker: usize) {
        self.running.health.renewed(worker);
        if let Some(commands) = self.course.heard(worker, &mut self.running) {
            self.prober.follow(&self.running.blueprint.plan);
            self.running.orders.give(commands, alarm::now());
        }
    }

    /// A backend's probes have come to another verdict.
    fn found(&mut self, finding: &Finding) {
        let (is_alive, reason) = match &finding.verdict {
            Verdict::Up => (true, "its probes succeed"),
            Verdict::Down(reason) => (false, &**reason),
        };
        let names = (&*finding.cluster, &*finding.backend);
        self.running.health.probed(names, &finding.endpoints, is_alive, reason);
    }

    /// The first order to stop is graceful, the second one is not.
    fn stop(&mut self, limited: bool) {
        if self.stopping {
            warn!("second signal: cutting every connection");
            return self.cut();
        }
        self.stopping = true;
        self.course.give_up();
        let admin = &self.running.admin;
        admin.draining.store(true, Relaxed);
        let limit = admin.shown().view.plan.timeouts.shutdown;
        self.deadline = limited.then(|| Instant::now() + limit);
        let limit = if limited { format!("{}s", limit.as_secs()) } else { "none".to_owned() };
        info!(limit, "stopping: no new connections, finishing exchanges");
        self.running.orders.give(iter::repeat_with(|| mailbox::Command::Drain), alarm::now());
    }

    /// Ends every connection; a worker that cannot even do that is not waited for.
    fn cut(&mut self) {
        if mem::replace(&mut self.cut, true) {
            return;
        }
        self.deadline = Some(Instant::now() + CUT_TIMEOUT);
        self.running.orders.give(iter::repeat_with(|| mailbox::Command::Cut), alarm::now());
    }

    fn read_events(&mut self) -> Result<(), Failure> {
        while let Ok((worker, event)) = self.running.events.try_recv() {
            match event {
                Event::Ready => {}
                Event::Observed(batch) => self.running.health.observed(worker, &batch),
                Event::Renewed => self.renewed(worker),
                Event::Ended => {
                    self.ended.insert(worker);
                }
                Event::Failed(why) => {
                    return Err(Failure::Runtime(format!("worker {worker} has failed: {why}")));
                }
            }
        }
        Ok(())
    }

    /// True when no worker accepts any more, none has a connection, and none is on its way to one. That is looked at
    /// twice, because between a mailbox and a count a connection is nowhere for a moment.
    async fn has_ended(&self) -> bool {
        let workers = self.running.orders.workers();
        let quiet = || workers.iter().all(|worker| worker.load() == 0);
        if self.ended.len() < workers.len() || !quiet() {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
        quiet()
    }

    fn report(&self) -> Report {
        self.running.admin.report()
    }

    fn dump(&self) {
        let text = match self.format {
            LogFormat::Text => self.report().to_text(),
            LogFormat::Json => format!("{}\n", self.report().to_json()),
        };
        let _ = io::stderr().write_all(text.as_bytes());
    }

    fn farewell(&self) {
        let workers = self.running.orders.workers();
        let sum = |what: Count| workers.iter().map(|worker| worker.stats.get(what)).sum::<u64>();
        let (finished, cut) = (sum(Count::ConnectionsFinished), sum(Count::ConnectionsCut));
        info!(finished, cut, "stopped");
    }
}
