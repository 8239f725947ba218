//! Backends that are processes of their own, because only a process can be killed or stopped by the kernel.
//!
//! The process is this test binary, run again with one test that serves (axum: a real server, which ends gracefully on
//! SIGTERM). It says on stderr what it does, so what it said survives it. The port stays taken while the process is
//! gone: nobody else can listen there, connect from there, or be connected to.

use std::collections::HashMap;
use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::routing::get;
use tokio::signal::unix::{SignalKind, signal};

use super::deadline::{PATIENCE, within};
use super::kernel;

/// Where the process is to listen; tells it from an ordinary run of the tests.
const PLACE: &str = "RINGWAY_TEST_BACKEND_AT";
/// The field of a POST with its number.
pub(crate) const NUMBER: &str = "x-number";
/// How long an answer takes, so that some are always under way.
const WORK: Duration = Duration::from_millis(2);

/// A backend that can be killed, stopped and started again at the same address.
pub(crate) struct Process {
    /// Where it listens, as the command line says it.
    pub(crate) place: String,
    child: Option<Child>,
    /// Hears what it says to its end.
    hearer: Option<JoinHandle<()>>,
    /// The numbers of POSTs that were delivered to it whole, in all its lives, and how often.
    delivered: Arc<Mutex<HashMap<u64, usize>>>,
    /// Keeps the port for it.
    _port: OwnedFd,
}

impl Process {
    /// Runs and listens when this returns.
    pub(crate) fn start() -> Self {
        let (port, address) = kernel::shared_port();
        let (place, delivered) = (address.to_string(), Arc::default());
        let mut process = Self { place, child: None, hearer: None, delivered, _port: port };
        process.restart();
        process
    }

    /// Runs and listens again when this returns.
    pub(crate) fn restart(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "support::process::serve", "--nocapture", "--test-threads=1"]);
        command.env(PLACE, &self.place).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        self.child = Some(child);
        let ready = lines.by_ref().find(|line| line == "ready");
        assert!(ready.is_some(), "the backend at {} never listened", self.place);
        let delivered = Arc::clone(&self.delivered);
        self.hearer = Some(thread::spawn(move || {
            for number in lines.filter_map(|line| line.parse().ok()) {
                *delivered.lock().unwrap().entry(number).or_default() += 1;
            }
        }));
    }

    fn child(&mut self) -> &mut Child {
        self.child.as_mut().expect("it runs")
    }

    /// Ends without a word: all its connections are broken when this returns.
    pub(crate) fn kill(&mut self) {
        self.child().kill().unwrap();
        self.child().wait().unwrap();
        self.gone();
    }

    /// Takes nothing new, does what it has begun, and ends.
    pub(crate) fn end(&mut self) {
        self.signal(libc::SIGTERM);
        let child = self.child();
        let ended = within(PATIENCE, || child.try_wait().unwrap());
        assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
        self.gone();
    }

    /// Everything it has said is known when this returns.
    fn gone(&mut self) {
        self.child = None;
        if let Some(hearer) = self.hearer.take() {
            hearer.join().unwrap();
        }
    }

    /// Does nothing any more, while the kernel goes on to accept connections for it.
    pub(crate) fn stop(&mut self) {
        self.signal(libc::SIGSTOP);
    }

    /// Ends that.
    pub(crate) fn go_on(&mut self) {
        self.signal(libc::SIGCONT);
    }

    fn signal(&mut self, number: libc::c_int) {
        kernel::signal(self.child().id(), number);
    }

    /// How often each POST was delivered to it, by its number; all of them are known once it has ended.
    pub(crate) fn delivered(&self) -> HashMap<u64, usize> {
        self.delivered.lock().unwrap().clone()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // A process that was stopped can be killed all the same.
            let _ended = (child.kill(), child.wait());
        }
    }
}

/// In one write, so that no line is ever half there.
fn say(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

async fn work(headers: HeaderMap, _body: Bytes) -> &'static str {
    say(headers.get(NUMBER).unwrap().to_str().unwrap());
    tokio::time::sleep(WORK).await;
    "done"
}

async fn answer() -> &'static str {
    tokio::time::sleep(WORK).await;
    "ok"
}

/// No test: it is what the processes run.
#[test]
fn serve() {
    let Ok(place) = env::var(PLACE) else { return };
    // Whoever has started it keeps its standard input open.
    thread::spawn(|| {
        let _closed = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(1);
    });
    let place: SocketAddr = place.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut ended = signal(SignalKind::terminate()).unwrap();
        let router = Router::new().route("/", get(answer).post(work)).route("/health", get("well"));
        let listener = tokio::net::TcpListener::from_std(kernel::listen_at_shared(place)).unwrap();
        say("ready");
        let ended = async move { ended.recv().await.unwrap() };
        axum::serve(listener, router).with_graceful_shutdown(ended).await.unwrap();
    });
}
