//! What the kernel shows of the running binary in `/proc`: descriptors, threads, time and memory.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::ringway::Ringway;

impl Ringway {
    fn proc(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.id())
    }

    /// The main thread and the workers, each of which has a table of descriptors of its own.
    fn tables(&self) -> Vec<PathBuf> {
        let tasks = fs::read_dir(self.proc("task")).unwrap().map(|task| task.unwrap().path());
        let main = self.id().to_string();
        let has_one = |task: &PathBuf| {
            let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
            task.ends_with(&main) || name.starts_with("worker-")
        };
        tasks.filter(has_one).collect()
    }

    /// The workers' threads.
    pub(crate) fn workers(&self) -> Vec<i32> {
        let tables = self.tables().into_iter();
        let threads = tables.map(|table| table.file_name().unwrap().to_str().unwrap().parse().unwrap());
        threads.filter(|thread| u32::try_from(*thread) != Ok(self.id())).collect()
    }

    /// What stands in `/proc` for each of its descriptors.
    fn entries(&self) -> Vec<PathBuf> {
        let tables = self.tables().into_iter().map(|table| fs::read_dir(table.join("fd")).unwrap());
        tables.flatten().map(|entry| entry.unwrap().path()).collect()
    }

    /// Its descriptors, in all tables.
    pub(crate) fn descriptors(&self) -> usize {
        self.entries().len()
    }

    /// The descriptors of the thread that has the most of them.
    pub(crate) fn most_descriptors(&self) -> usize {
        let tables = self.tables().into_iter();
        tables.map(|table| fs::read_dir(table.join("fd")).unwrap().count()).max().unwrap()
    }

    /// Lets each of its threads open that many descriptors from now on, and keep those that it has; returns how many they might
    /// before. It was started with a limit of 64.
    pub(crate) fn allow_descriptors(&self, count: u64) -> u64 {
        let limit = Rlimit { current: Some(count), maximum: Some(64) };
        let before = prlimit(Pid::from_raw(self.id().cast_signed()), Resource::Nofile, limit).unwrap();
        before.current.unwrap()
    }

    /// Ends of pipes among its descriptors.
    pub(crate) fn pipe_ends(&self) -> usize {
        let links = self.entries().into_iter().filter_map(|entry| fs::read_link(entry).ok());
        links.filter(|link| link.to_string_lossy().starts_with("pipe:")).count()
    }

    /// The sockets among its descriptors, and whether each is closed in a program it starts (`proc_pid_fdinfo(5)`).
    pub(crate) fn sockets(&self) -> Vec<(String, bool)> {
        let sockets = self.entries().into_iter().filter_map(|path| {
            // One that is closed meanwhile is none.
            let link = fs::read_link(&path).ok()?.to_string_lossy().into_owned();
            let info = path.parent()?.parent()?.join("fdinfo").join(path.file_name()?);
            let info = fs::read_to_string(info).ok()?;
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
            let is_closed = libc::c_int::from_str_radix(flags, 8).unwrap() & libc::O_CLOEXEC != 0;
            link.starts_with("socket:").then_some((link, is_closed))
        });
        sockets.collect()
    }

    /// The cores that each thread may run on, as `proc_pid_status(5)` lists them, by the threads' names.
    pub(crate) fn cores_of_threads(&self) -> BTreeMap<String, String> {
        let tasks = fs::read_dir(self.proc("task")).unwrap();
        let cores = |status: &str, key: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            value.trim().to_owned()
        };
        let statuses = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("status")).ok());
        statuses.map(|status| (cores(&status, "Name:"), cores(&status, "Cpus_allowed_list:"))).collect()
    }

    pub(crate) fn threads(&self) -> usize {
        fs::read_dir(self.proc("task")).unwrap().count()
    }

    /// The processor time used so far, by user and kernel, in all threads.
    pub(crate) fn processor_time(&self) -> Duration {
        self.processor_time_of("")
    }

    /// The processor time used so far in the threads whose names begin like this.
    pub(crate) fn processor_time_of(&self, name: &str) -> Duration {
        let tasks = fs::read_dir(self.proc("task")).unwrap().map(|task| task.unwrap().path());
        let named = tasks
            .filter(|task| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.starts_with(name)));
        let nanoseconds = named.map(|task| {
            let spent = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
            spent.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0)
        });
        Duration::from_nanos(nanoseconds.sum())
    }

    /// The resident memory.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(self.proc("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}
