//! What a process may have: descriptors, locked memory, pipes.

use crate::{
    doctor::{
        finding::{Finding, Remedy, Subject},
        host::Host,
    },
    limits::{PIPE_BYTES, PIPES_MAX},
};

/// With fewer descriptors than this a small load test runs into the limit: 2 000 clients.
const DESCRIPTORS_MIN: u64 = 4096;
/// What is advised up to: 32 000 clients.
const DESCRIPTORS_GOOD: u64 = 65_536;
/// What the remedy sets; also the usual `fs.nr_open`, which bounds it.
const DESCRIPTORS_WANTED: u64 = 1_048_576;
/// What a worker's ring of 1 024 entries takes, with room to spare: 64 KiB to submit and 32 KiB to complete.
const RING_BYTES: u64 = 256 * 1024;
/// What pipes are counted in.
const PAGE_BYTES: usize = 4096;

const DESCRIPTORS: Subject = Subject {
    name: "descriptors (RLIMIT_NOFILE)",
    why: "each client takes two, and each worker may have so many; Ringway raises the soft limit to the hard one. A service has the limits of its unit, \
          not those of this shell",
};
const MEMLOCK: Subject = Subject {
    name: "locked memory (RLIMIT_MEMLOCK)",
    why: "before Linux 5.12 the memory of rings was counted as locked, and workers could not start without it",
};
const PIPE_PAGES: Subject = Subject {
    name: "fs.pipe-user-pages-soft",
    why: "large bodies pass through pipes of 256 KiB; beyond this limit a user without privileges gets pipes of a page or \
          two, and bodies are copied instead",
};
const PIPE_SIZE: Subject = Subject {
    name: "fs.pipe-max-size",
    why: "a pipe of 64 KiB costs 1.9 times as much CPU per MiB as one of 256 KiB",
};

/// The hard limit is the one that counts.
pub(super) fn descriptors(host: &Host) -> Finding {
    let limit = match host.descriptors {
        Ok(limit) => limit,
        Err(ref unread) => return DESCRIPTORS.unread(unread),
    };
    let words = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
    let found = format!("soft {}, hard {}", words(limit.soft), words(limit.hard));
    let Some(hard) = limit.hard.filter(|hard| *hard < DESCRIPTORS_GOOD) else { return DESCRIPTORS.ok(found) };
    let found = format!("{found}: room for some {} clients of each worker", hard / 2);
    let remedy = Remedy::new(
        format!(
            "ulimit -Hn {DESCRIPTORS_WANTED}   # as root, before Ringway; in a unit LimitNOFILE={DESCRIPTORS_WANTED}"
        ),
        format!("ulimit -Hn {hard}   # in a unit, take the line away again"),
    );
    if hard < DESCRIPTORS_MIN {
        DESCRIPTORS.problem(found, remedy)
    } else {
        DESCRIPTORS.advice(found, remedy)
    }
}

/// Only old kernels count it.
pub(super) fn memlock(host: &Host) -> Finding {
    let (limit, kernel) = match (&host.memlock, &host.kernel) {
        (Ok(limit), Ok(kernel)) => (limit, kernel),
        (Err(unread), _) | (_, Err(unread)) => return MEMLOCK.unread(unread),
    };
    let Some(soft) = limit.soft else { return MEMLOCK.ok("unlimited") };
    let needed = RING_BYTES.saturating_mul(host.workers() as u64);
    if !kernel.is_older_than(5, 12) {
        return MEMLOCK.ok(format!("{soft} bytes; this kernel does not count rings"));
    }
    if soft >= needed {
        return MEMLOCK.ok(format!("{soft} bytes, and {needed} are needed"));
    }
    let remedy = Remedy::new(
        "ulimit -l unlimited   # as root, before Ringway; in a unit LimitMEMLOCK=infinity",
        format!("ulimit -l {}   # in a unit, take the line away again", soft / 1024),
    );
    MEMLOCK.problem(format!("{soft} bytes, and up to {needed} are needed"), remedy)
}

/// Zero is no limit.
pub(super) fn pipe_pages(host: &Host) -> Finding {
    let pages = match host.sysctls.pipe_user_pages_soft {
        Ok(pages) => pages,
        Err(ref unread) => return PIPE_PAGES.unread(unread),
    };
    let needed = (PIPES_MAX * PIPE_BYTES / PAGE_BYTES).saturating_mul(host.workers()) as u64;
    let found = format!("{pages} pages, and all pipes of {} workers take {needed}", host.workers());
    match pages {
        0 => PIPE_PAGES.ok("0: no limit"),
        pages if pages >= needed => PIPE_PAGES.ok(found),
        pages => PIPE_PAGES.advice(found, Remedy::sysctl(PIPE_PAGES.name, needed, pages)),
    }
}

/// The size that was measured to be the best.
pub(super) fn pipe_size(host: &Host) -> Finding {
    match host.sysctls.pipe_max_size {
        Ok(bytes) if bytes >= PIPE_BYTES as u64 => PIPE_SIZE.ok(format!("{bytes} bytes")),
        Ok(bytes) => {
            PIPE_SIZE.advice(format!("{bytes} bytes"), Remedy::sysctl(PIPE_SIZE.name, PIPE_BYTES, bytes))
        }
        Err(ref unread) => PIPE_SIZE.unread(unread),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{
        finding::State,
        host::{Kernel, Limit},
        judge::tests::{expect, healthy, unread},
    };

    #[test]
    fn descriptor_limits() {
        let of = |limit| descriptors(&Host { descriptors: limit, ..healthy() });
        let limit = |soft, hard| Ok(Limit { soft: Some(soft), hard: Some(hard) });
        expect(&of(limit(1024, 4095)), State::Problem, &["hard 4095", "2047 clients", "ulimit -Hn 4095"]);
        expect(&of(limit(1024, 4096)), State::Advice, &["LimitNOFILE=1048576"]);
        expect(&of(limit(1024, 65_536)), State::Ok, &["soft 1024, hard 65536"]);
        expect(&of(Ok(Limit { soft: None, hard: None })), State::Ok, &["unlimited"]);
        expect(&of(unread()), State::Unknown, &[]);
    }

    #[test]
    fn locked_memory() {
        let of = |release: &str, soft| {
            let memlock = Ok(Limit { soft, hard: None });
            memlock_of(Host { memlock, kernel: Ok(Kernel::parse(release).unwrap()), ..healthy() })
        };
        fn memlock_of(host: Host) -> Finding {
            memlock(&host)
        }
        expect(&of("5.11.0", Some(65_536)), State::Problem, &["65536 bytes", "1048576", "ulimit -l 64"]);
        expect(&of("5.11.0", Some(8_388_608)), State::Ok, &["8388608"]);
        expect(&of("5.11.0", None), State::Ok, &["unlimited"]);
        expect(&of("5.12.0", Some(0)), State::Ok, &["does not count"]);
        expect(&memlock_of(Host { memlock: unread(), ..healthy() }), State::Unknown, &[]);
        expect(&memlock_of(Host { kernel: unread(), ..healthy() }), State::Unknown, &[]);
    }

    #[test]
    fn pipes() {
        let of = |pages, bytes| {
            let mut host = healthy();
            (host.sysctls.pipe_user_pages_soft, host.sysctls.pipe_max_size) = (pages, bytes);
            (pipe_pages(&host), pipe_size(&host))
        };
        let (pages, bytes) = of(Ok(16_384), Ok(65_536));
        expect(&pages, State::Advice, &["pipe-user-pages-soft=\\\"24576", "pipe-user-pages-soft=\\\"16384"]);
        expect(&bytes, State::Advice, &["pipe-max-size=\\\"262144", "pipe-max-size=\\\"65536"]);
        let (pages, bytes) = of(Ok(24_576), Ok(262_144));
        expect(&pages, State::Ok, &[]);
        expect(&bytes, State::Ok, &[]);
        expect(&of(Ok(0), Ok(1)).0, State::Ok, &["no limit"]);
        let (pages, bytes) = of(unread(), unread());
        expect(&pages, State::Unknown, &[]);
        expect(&bytes, State::Unknown, &[]);
    }
}
