//! Which io_uring this kernel gives us, and what to tell the operator when it gives none.

use std::{fmt, io};

/// The set-up flags a worker's ring runs with, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RingFlags {
    /// `SINGLE_ISSUER | DEFER_TASKRUN` (Linux 6.1): completions run when the worker asks for them.
    DeferTaskrun,
    /// `COOP_TASKRUN` (Linux 5.19): no interrupt for a completion while the worker runs.
    CoopTaskrun,
    /// None of them: works everywhere. An operation for each wait would cost up to twice the CPU (`bench/experiments.md`);
    /// connections share one, so that they hardly notice.
    Plain,
}

impl RingFlags {
    /// The name printed at start.
    pub fn name(self) -> &'static str {
        match self {
            RingFlags::DeferTaskrun => "SINGLE_ISSUER|DEFER_TASKRUN",
            RingFlags::CoopTaskrun => "COOP_TASKRUN",
            RingFlags::Plain => "plain",
        }
    }

    /// A ring builder with these flags.
    pub fn builder(self) -> io_uring::Builder {
        let mut builder = io_uring::IoUring::builder();
        match self {
            RingFlags::DeferTaskrun => builder.setup_single_issuer().setup_defer_taskrun(),
            RingFlags::CoopTaskrun => builder.setup_coop_taskrun(),
            RingFlags::Plain => &mut builder,
        };
        builder
    }
}

/// io_uring cannot be used here.
#[derive(Debug)]
pub struct Unavailable(io::Error);

/// Tries the flag sets from the best down by building a small ring with each.
pub fn probe() -> Result<RingFlags, Unavailable> {
    best(|flags| flags.builder().build(8).map(drop))
}

/// The best flag set that can be built; when there is none, why the last one cannot.
fn best(build: impl Fn(RingFlags) -> io::Result<()>) -> Result<RingFlags, Unavailable> {
    let mut last = io::Error::from(io::ErrorKind::Unsupported);
    for flags in [RingFlags::DeferTaskrun, RingFlags::CoopTaskrun, RingFlags::Plain] {
        match build(flags) {
            Ok(()) => return Ok(flags),
            Err(error) => last = error,
        }
    }
    Err(Unavailable(last))
}

impl std::error::Error for Unavailable {}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "io_uring is not available ({}): {}", self.0, self.advice())
    }
}

impl Unavailable {
    /// The probable cause with its remedy (`io_uring_setup(2)`, errors).
    fn advice(&self) -> String {
        let code = self.0.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
        match code {
            Some(rustix::io::Errno::NOSYS) => format!(
                "this kernel ({}) has no io_uring, or a seccomp profile hides it; use Linux 5.11 or newer with \
                 CONFIG_IO_URING, or a profile that allows io_uring_setup, io_uring_enter and io_uring_register",
                kernel_release()
            ),
            Some(rustix::io::Errno::PERM) => {
                forbidden(&std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default())
            }
            Some(rustix::io::Errno::NOMEM) => {
                "the limit of locked memory is too low; raise it with `ulimit -l unlimited` or LimitMEMLOCK=infinity".to_owned()
            }
            Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE) => {
                "no descriptors are left; raise the limit with `ulimit -n 1048576` or LimitNOFILE=1048576".to_owned()
            }
            _ => format!("kernel {}; see io_uring_setup(2) for this error", kernel_release()),
        }
    }
}

fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Who forbids io_uring, given what `kernel.io_uring_disabled` says; kernels before Linux 6.6 have nothing that says it.
fn forbidden(sysctl: &str) -> String {
    match sysctl.trim() {
        "" | "0" => "no sysctl kernel.io_uring_disabled forbids it, so a seccomp profile (container runtime or systemd \
                     SystemCallFilter) does; allow io_uring_setup, io_uring_enter and io_uring_register"
            .to_owned(),
        value => format!(
            "the sysctl kernel.io_uring_disabled is {value}; set it to 0 with `sysctl -w kernel.io_uring_disabled=0`"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What older kernels answer to flags they do not know.
    fn unknown() -> io::Error {
        io::Error::from_raw_os_error(22)
    }

    #[test]
    fn the_best_flags_that_the_kernel_knows_are_taken() {
        use RingFlags::{CoopTaskrun, DeferTaskrun, Plain};
        for known in [&[DeferTaskrun, CoopTaskrun, Plain][..], &[CoopTaskrun, Plain], &[Plain]] {
            let build = |flags| if known.contains(&flags) { Ok(()) } else { Err(unknown()) };
            assert_eq!(best(build).unwrap(), known[0]);
        }
        let last = |flags| Err(if flags == Plain { io::Error::from_raw_os_error(12) } else { unknown() });
        assert_eq!(best(last).unwrap_err().0.raw_os_error(), Some(12));
    }

    #[test]
    fn a_sysctl_that_forbids_io_uring_is_told_from_a_seccomp_profile() {
        for value in ["1", "2"] {
            let text = forbidden(&format!("{value}\n"));
            let words =
                [&format!("kernel.io_uring_disabled is {value}"), "sysctl -w kernel.io_uring_disabled=0"];
            assert!(words.iter().all(|word| text.contains(word)) && !text.contains("seccomp"), "{text}");
        }
        for allowed in ["0\n", ""] {
            let text = forbidden(allowed);
            assert!(text.contains("seccomp") && !text.contains("sysctl -w"), "{text}");
        }
    }

    #[test]
    fn each_errno_names_cause_and_remedy() {
        for (errno, word) in [(38, "Linux 5.11"), (1, "seccomp"), (12, "ulimit -l"), (24, "ulimit -n")] {
            let text = Unavailable(io::Error::from_raw_os_error(errno)).to_string();
            assert!(text.contains(word), "{errno}: {text}");
        }
    }
}
