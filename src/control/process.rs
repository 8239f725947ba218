//! The process as the operator sees it: exit codes, descriptor limit, what a panic prints.

use std::{
    fmt,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Panics that get a line in the log; all of them are counted.
const PANICS_LOGGED_MAX: u32 = 16;

/// A failure that ends the process, with the cause and the remedy in its text.
#[derive(Debug)]
pub enum Failure {
    /// Exit 1: could not run, or could not go on.
    Runtime(String),
    /// Exit 2: wrong flags.
    Usage(String),
    /// Exit 3: a configuration that cannot be followed; every mistake in a line of its own.
    Configuration(String),
    /// Exit 4: an address could not be bound.
    Bind(String),
    /// Exit 5: no usable io_uring.
    Kernel(String),
}

impl Failure {
    /// The exit code of the contract.
    pub fn code(&self) -> u8 {
        match self {
            Failure::Runtime(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Configuration(_) => 3,
            Failure::Bind(_) => 4,
            Failure::Kernel(_) => 5,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Failure::Runtime(text)
        | Failure::Usage(text)
        | Failure::Configuration(text)
        | Failure::Bind(text)
        | Failure::Kernel(text)) = self;
        f.write_str(text)
    }
}

/// Raises the soft limit of descriptors to the hard one and returns it: two are needed per client.
pub fn raise_descriptor_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // Refused only when the hard limit has been lowered meanwhile; then the old one stays.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    getrlimit(Resource::Nofile).current
}

/// Keeps the heap on small pages. A huge page is worth having for large, dense data; here it only makes a process with
/// many idle connections larger: 1 660 against 900 bytes each at 8 000, and 10 against 3 MiB at start.
pub fn use_small_pages() {
    // An old kernel that cannot do it just uses more memory.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// Panics become one line each in the log, and not more than a few.
pub fn log_panics() {
    static LOGGED: AtomicU32 = AtomicU32::new(0);
    std::panic::set_hook(Box::new(|info| {
        if LOGGED.fetch_add(1, Relaxed) < PANICS_LOGGED_MAX {
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
            tracing::error!(
                place,
                thread,
                "internal error (panic), please report it; its connection is closed"
            );
        }
    }));
}
