//! Counts the system calls of the balancer, where `strace` is there and may attach to it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::directory::Directory;
use super::kernel;
use super::ringway::Ringway;

/// An attached tracer; killed when dropped, which lets go of the process.
pub(crate) struct Tracer {
    child: Child,
    directory: Directory,
}

impl Tracer {
    /// Counts from now on; `None` where that cannot be done.
    pub(crate) fn attach(ringway: &Ringway) -> Option<Self> {
        let directory = Directory::new();
        let mut command = Command::new("strace");
        command.args(["-f", "-c", "-p", &ringway.id().to_string(), "-o"]).arg(directory.path("calls"));
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().ok()?;
        let mut said = BufReader::new(child.stderr.take()?).lines().map_while(Result::ok);
        let (threads, mut attached) = (ringway.threads(), 0);
        while attached < threads {
            // Its first words are about all of them: `Process 7 attached with 3 threads`.
            let Some(line) = said.next().filter(|line| line.contains("attached")) else {
                let _ended = (child.kill(), child.wait());
                return None;
            };
            let words: Vec<_> = line.split(' ').collect();
            let with =
                words.iter().position(|word| *word == "with").and_then(|at| words.get(at + 1)?.parse().ok());
            attached += with.unwrap_or(1);
        }
        Some(Self { child, directory })
    }

    /// Lets go, and tells how often each call was made.
    pub(crate) fn calls(mut self) -> HashMap<String, u64> {
        kernel::signal(self.child.id(), libc::SIGINT);
        self.child.wait().unwrap();
        let table = std::fs::read_to_string(self.directory.path("calls")).unwrap();
        // Share, seconds, microseconds a call, calls, perhaps errors, name.
        let row = |line: &str| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let calls = fields.get(3)?.parse().ok()?;
            Some(((*fields.last()?).to_owned(), calls))
        };
        table.lines().filter_map(row).collect()
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ended = (self.child.kill(), self.child.wait());
    }
}
