//! The real binary with a configuration file that the test changes.

use std::fs;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::process::Command;

use serde_json::Value;

use super::client::Client;
use super::directory::Directory;
use super::kernel;
use super::ringway::{Options, Ringway, message};
use super::run::run;

/// What the file is called in its directory.
const FILE: &str = "ringway.toml";

/// A running binary and its file; both go when it is dropped.
pub(crate) struct Configured {
    ringway: Ringway,
    directory: Directory,
}

/// A directory with this text as its file.
fn written(text: &str) -> Directory {
    let directory = Directory::new();
    fs::write(directory.path(FILE), text).unwrap();
    directory
}

/// Checks a text that must be wrong, which starts nothing: everything that was said about it.
pub(crate) fn mistakes(text: &str) -> String {
    let directory = written(text);
    let (code, stdout, stderr) = run(Options::bare().arg("-t").arg("-c").arg(directory.path(FILE)));
    assert_eq!((code, stdout.as_str()), (Some(3), ""), "{text}: {stderr}");
    stderr
}

impl Deref for Configured {
    type Target = Ringway;

    fn deref(&self) -> &Ringway {
        &self.ringway
    }
}

impl DerefMut for Configured {
    fn deref_mut(&mut self) -> &mut Ringway {
        &mut self.ringway
    }
}

impl Configured {
    /// Starts with this file, this many workers as far as there are cores, statistics and the admin HTTP.
    pub(crate) fn start(workers: usize, text: &str) -> Self {
        Self::start_changed(workers, text, |_command| ())
    }

    /// As [`Configured::start`], with every built-in deadline divided by `factor`, in a debug build.
    pub(crate) fn start_hastened(workers: usize, text: &str, factor: u32) -> Self {
        Self::start_changed(workers, text, |command| {
            command.env("RINGWAY_TEST_HASTE", factor.to_string());
        })
    }

    /// As [`Configured::start`], with a command that the test has changed.
    pub(crate) fn start_changed(workers: usize, text: &str, change: impl FnOnce(&mut Command)) -> Self {
        let directory = written(text);
        let cores: Vec<_> = kernel::allowed_cores().iter().take(workers).map(usize::to_string).collect();
        let mut command = Options::bare();
        command.arg("-c").arg(directory.path(FILE)).args(["--cores", &cores.join(",")]);
        command.args(["--log-format", "json", "--admin", "127.0.0.1:0"]);
        change(&mut command);
        Self { ringway: Ringway::spawn(command), directory }
    }

    /// Orders a reload with this file and does not wait for it: how many lines were said before.
    pub(crate) fn signal_with(&self, text: &str) -> usize {
        fs::write(self.directory.path(FILE), text).unwrap();
        let known = self.lines().len();
        self.signal(libc::SIGHUP);
        known
    }

    /// Reloads with this file, and returns when every worker goes by it.
    pub(crate) fn reload(&self, text: &str) {
        let known = self.signal_with(text);
        let told =
            |line: &str| matches!(&*message(line), "reloaded") || message(line).starts_with("not relo");
        let line = self.wait_line_after(known, "end of the reload", told);
        assert_eq!(message(&line), "reloaded", "{:#?}", &self.lines()[known..]);
    }

    /// Tries to reload with this file, which must not work: what is said about it.
    pub(crate) fn reload_in_vain(&self, text: &str) -> Vec<String> {
        let known = self.signal_with(text);
        let told = |line: &str| message(line).starts_with("not reloaded: ") || message(line) == "reloaded";
        let line = self.wait_line_after(known, "end of the reload", told);
        assert_ne!(message(&line), "reloaded", "a file with a mistake was taken");
        self.lines()[known..].iter().map(|line| message(line)).collect()
    }

    /// Where the admin HTTP listens.
    pub(crate) fn admin(&self) -> SocketAddr {
        let line = self.wait_line("admin address", |line| message(line).starts_with("admin on http://"));
        message(&line).trim_start_matches("admin on http://").parse().unwrap()
    }

    /// What the admin HTTP shows of the configuration.
    pub(crate) fn config(&self) -> Value {
        let answer = Client::connect(self.admin()).get("/config");
        assert_eq!(answer.status, 200);
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// Where the listener of this name is bound.
    pub(crate) fn listener(&self, name: &str) -> SocketAddr {
        let config = self.config();
        let place = config["in_use"]["listeners"][name].as_str();
        place.unwrap_or_else(|| panic!("no listener {name}: {}", config["in_use"])).parse().unwrap()
    }
}
