//! A configuration file of a test's own, what runs from it, and what a reload makes of it.

use std::fs;
use std::process::Command;

use super::deadline::eventually;
use super::directory::Directory;
use super::kernel;
use super::ringway::{Options, Ringway, message};
use super::run::run;

/// The file; removed when dropped.
pub(crate) struct Configuration(Directory);

impl Configuration {
    pub(crate) fn new(text: &str) -> Self {
        let configuration = Self(Directory::new());
        configuration.write(text);
        configuration
    }

    fn path(&self) -> String {
        self.0.path("ringway.toml").display().to_string()
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).unwrap();
    }

    /// The command that runs it with this many workers, as far as there are cores.
    pub(crate) fn command(&self, workers: usize) -> Command {
        let cores: Vec<_> = kernel::allowed_cores().iter().take(workers).map(usize::to_string).collect();
        let mut command = Options::bare();
        command.args(["-c", &self.path(), "--cores", &cores.join(","), "--log-format", "json"]);
        command
    }

    /// Runs it with one worker, so that turns are predictable.
    pub(crate) fn start(&self) -> Ringway {
        Ringway::spawn(self.command(1))
    }

    /// Runs it with two workers.
    pub(crate) fn start_on_two(&self) -> Ringway {
        Ringway::spawn(self.command(2))
    }

    /// Has `ringway` read another text, and waits until all workers go by it.
    pub(crate) fn reload(&self, ringway: &Ringway, text: &str) {
        let reloads = || ringway.lines().iter().filter(|line| message(line) == "reloaded").count();
        let before = reloads();
        self.write(text);
        ringway.signal(libc::SIGHUP);
        eventually("a reload", || (reloads() > before).then_some(()));
    }

    /// Checks a text that must be wrong: everything that was said about it.
    pub(crate) fn mistakes(text: &str) -> String {
        let configuration = Self::new(text);
        let mut command = Options::bare();
        command.args(["-t", "-c", &configuration.path()]);
        let (code, stdout, stderr) = run(&mut command);
        assert_eq!((code, stdout.as_str()), (Some(3), ""), "{text}: {stderr}");
        stderr
    }
}
