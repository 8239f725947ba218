//! The kernel itself: its version, its rings, its huge pages.

use super::is_missing;
use crate::{
    doctor::{
        finding::{Finding, Remedy, Subject},
        host::{Host, Ring},
        tree::quoted,
    },
    sys::ring::RingFlags,
};

const VERSION: Subject =
    Subject { name: "kernel", why: "Ringway needs Linux 5.11, and its cheapest kind of ring Linux 6.1" };
const RING: Subject = Subject {
    name: "io_uring",
    why: "every worker waits on a ring; without one there is no service, and with older flags each wait interrupts its worker",
};
const SWITCH: Subject = Subject {
    name: "kernel.io_uring_disabled",
    why: "1 takes rings from users without privileges, 2 from everybody; Ringway then ends with exit code 5",
};
const HUGE_PAGES: Subject = Subject {
    name: "transparent huge pages",
    why: "they make idle connections larger; Ringway turns them off for itself, whatever the host says",
};

/// Old enough kernels have rings of the wrong kind, or none.
pub(super) fn version(host: &Host) -> Finding {
    let kernel = match &host.kernel {
        Ok(kernel) => kernel,
        Err(unread) => return VERSION.unread(unread),
    };
    let found = format!("Linux {}", quoted(&kernel.release));
    let remedy = || Remedy::new("# boot Linux 6.1 or newer", "# boot the old kernel again");
    match kernel {
        kernel if kernel.is_older_than(5, 11) => VERSION.problem(found, remedy()),
        kernel if kernel.is_older_than(6, 1) => VERSION.advice(found, remedy()),
        _ => VERSION.ok(found),
    }
}

/// What the kernel said when it was asked.
pub(super) fn ring(host: &Host) -> Finding {
    match &host.ring {
        Ring::Works(flags @ RingFlags::DeferTaskrun) => RING.ok(format!("works with {}", flags.name())),
        Ring::Works(flags) => {
            let remedy = Remedy::new("# boot Linux 6.1 or newer", "# boot the old kernel again");
            RING.advice(
                format!("works, with {} instead of {}", flags.name(), RingFlags::DeferTaskrun.name()),
                remedy,
            )
        }
        Ring::Unavailable(text) => {
            let remedy = Remedy::new(
                "# as said above; in a container, the seccomp profile made of tuning/seccomp-container.json",
                "# the profile of before",
            );
            RING.problem(text.clone(), remedy)
        }
        Ring::NotAsked => RING.unknown("a copy of files cannot be asked for a ring"),
    }
}

/// The switch by which distributions and operators turn rings off.
pub(super) fn switch(host: &Host) -> Finding {
    let remedy = |now| Remedy::sysctl(SWITCH.name, 0, now);
    match &host.sysctls.io_uring_disabled {
        Ok(0) => SWITCH.ok("0"),
        // Whoever asks may be root, and the service not.
        Ok(1) => {
            SWITCH.advice("1: only root and the group of kernel.io_uring_group may have rings", remedy(1))
        }
        Ok(now) => SWITCH.problem(format!("{now}: nobody may have rings"), remedy(*now)),
        missing @ Err(_) if is_missing(missing) && host.is_older_than(6, 6) => {
            SWITCH.ok("this kernel is too old to have the switch")
        }
        Err(unread) => SWITCH.unread(unread),
    }
}

/// For those who wonder.
pub(super) fn huge_pages(host: &Host) -> Finding {
    match &host.huge_pages {
        Ok(text) => match text.split_whitespace().find(|word| word.starts_with('[') && word.ends_with(']')) {
            Some(chosen) => HUGE_PAGES.ok(format!("{}; nothing to do", quoted(chosen))),
            None => HUGE_PAGES.unknown(format!("`{}` was not understood", quoted(text))),
        },
        missing if is_missing(missing) && host.kernel.is_ok() => HUGE_PAGES.ok("this kernel has none"),
        Err(unread) => HUGE_PAGES.unread(unread),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{
        finding::State,
        host::Kernel,
        judge::tests::{expect, healthy, missing, unread},
    };

    fn with(change: impl FnOnce(&mut Host)) -> Host {
        let mut host = healthy();
        change(&mut host);
        host
    }

    #[test]
    fn versions() {
        let of = |release: &str| version(&with(|host| host.kernel = Ok(Kernel::parse(release).unwrap())));
        expect(&of("5.10.0"), State::Problem, &["5.10.0"]);
        expect(&of("5.15.0"), State::Advice, &["boot Linux 6.1"]);
        expect(&of("6.1.0"), State::Ok, &["Linux 6.1.0"]);
        expect(&version(&with(|host| host.kernel = unread())), State::Unknown, &["nonsense"]);
    }

    #[test]
    fn rings() {
        let of = |given: Ring| ring(&with(|host| host.ring = given));
        expect(&of(Ring::Works(RingFlags::DeferTaskrun)), State::Ok, &["DEFER_TASKRUN"]);
        expect(&of(Ring::Works(RingFlags::CoopTaskrun)), State::Advice, &["COOP_TASKRUN"]);
        expect(&of(Ring::Works(RingFlags::Plain)), State::Advice, &["plain"]);
        expect(&of(Ring::Unavailable("seccomp".to_owned())), State::Problem, &["seccomp"]);
        expect(&of(Ring::NotAsked), State::Unknown, &["copy"]);
    }

    #[test]
    fn switches() {
        let of = |value| switch(&with(|host| host.sysctls.io_uring_disabled = value));
        expect(&of(Ok(0)), State::Ok, &[]);
        expect(&of(Ok(1)), State::Advice, &["io_uring_disabled=\\\"0", "io_uring_disabled=\\\"1"]);
        expect(&of(Ok(2)), State::Problem, &["nobody", "io_uring_disabled=\\\"2"]);
        expect(&of(unread()), State::Unknown, &[]);
        expect(&of(missing()), State::Unknown, &[]);
        let old = with(|host| {
            host.kernel = Ok(Kernel::parse("6.1.0").unwrap());
            host.sysctls.io_uring_disabled = missing();
        });
        expect(&switch(&old), State::Ok, &["too old"]);
    }

    #[test]
    fn pages() {
        let of = |text: &str| huge_pages(&with(|host| host.huge_pages = Ok(text.to_owned())));
        expect(&of("[always] madvise never"), State::Ok, &["always"]);
        expect(&of("sometimes"), State::Unknown, &["sometimes"]);
        expect(&huge_pages(&with(|host| host.huge_pages = missing())), State::Ok, &[]);
        expect(&huge_pages(&with(|host| host.huge_pages = unread())), State::Unknown, &[]);
    }
}
