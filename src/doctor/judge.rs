//! Makes findings of facts.
//!
//! Owns when something is advice and when a problem, and the remedies. Pure: everything it knows stands in the
//! [`Host`]. A problem is what keeps Ringway from serving or cuts its service short; whatever only costs speed is advice.

mod container;
mod cpu;
mod kernel;
mod limits;
mod nic;
mod sockets;

use super::{
    finding::Finding,
    host::Host,
    tree::{Cause, Reading, Unread},
};

/// Everything, in the order of `tuning/README.md`.
pub fn all(host: &Host) -> Vec<Finding> {
    let mut findings = vec![kernel::version(host), kernel::ring(host), kernel::switch(host)];
    findings.extend([container::quota(host), container::allowed(host)]);
    findings.extend([limits::descriptors(host), limits::memlock(host)]);
    findings.extend(nic::all(host));
    findings.extend([cpu::governor(host), cpu::siblings(host), cpu::nodes(host)]);
    findings.extend([sockets::conntrack(host), limits::pipe_pages(host), limits::pipe_size(host)]);
    findings.extend([sockets::port_range(host), sockets::somaxconn(host), sockets::syn_backlog(host)]);
    findings.extend([sockets::receive_max(host), sockets::send_max(host)]);
    findings.extend([sockets::migrate(host), kernel::huge_pages(host)]);
    findings
}

/// Whether it is not there at all.
fn is_missing<T>(reading: &Reading<T>) -> bool {
    matches!(reading, Err(Unread { cause: Cause::Missing, .. }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        doctor::{
            finding::State,
            host::{Cpu, Interrupt, Kernel, Limit, Nic, Node, Queue, Ring, Sysctls},
        },
        sys::ring::RingFlags,
    };

    /// What no file says.
    pub(super) fn unread<T>() -> Reading<T> {
        Err(Unread::odd("/somewhere", "nonsense"))
    }

    pub(super) fn missing<T>() -> Reading<T> {
        Err(Unread::missing("/somewhere"))
    }

    pub(super) fn nic(name: &str, queues: usize) -> Nic {
        let queue = |side: &str, number: usize| Queue {
            name: format!("{side}-{number}"),
            cores: Ok(if side == "tx" { vec![number] } else { vec![] }),
        };
        let interrupt = |queue: usize| Interrupt {
            number: 30 + queue as u32,
            name: format!("{name}-{queue}"),
            cores: Ok(vec![queue]),
            chosen: None,
        };
        let on = ["tcp-segmentation-offload", "generic-segmentation-offload", "generic-receive-offload"];
        Nic {
            name: name.to_owned(),
            state: Ok("up".to_owned()),
            node: Ok(Some(0)),
            receive: Ok((0..queues).map(|number| queue("rx", number)).collect()),
            send: Ok((0..queues).map(|number| queue("tx", number)).collect()),
            interrupts: Ok((0..queues).map(interrupt).collect()),
            features: Ok(on.map(|name| (name.to_owned(), true)).into()),
        }
    }

    /// Nothing is wrong with this one: four cores, a queue and an interrupt for each.
    pub(super) fn healthy() -> Host {
        let cores = vec![0, 1, 2, 3];
        let cpu = |core: &usize| {
            let cpu = Cpu {
                governor: Ok("performance".to_owned()),
                driver: Ok("acpi-cpufreq".to_owned()),
                siblings: Ok(vec![*core, *core + 4]),
            };
            (*core, cpu)
        };
        Host {
            root: "/".to_owned(),
            cpus: cores.iter().map(cpu).collect::<BTreeMap<_, _>>(),
            cores: Ok(cores),
            kernel: Ok(Kernel::parse("6.6.1").unwrap()),
            ring: Ring::Works(RingFlags::DeferTaskrun),
            sysctls: Sysctls {
                io_uring_disabled: Ok(0),
                somaxconn: Ok(4096),
                tcp_max_syn_backlog: Ok(4096),
                tcp_syncookies: Ok(1),
                tcp_migrate_req: Ok(1),
                ip_local_port_range: Ok((10_240, 65_535)),
                rmem_max: Ok(4_194_304),
                wmem_max: Ok(4_194_304),
                pipe_user_pages_soft: Ok(65_536),
                pipe_max_size: Ok(1_048_576),
                conntrack_max: missing(),
                conntrack_count: missing(),
            },
            descriptors: Ok(Limit { soft: Some(1024), hard: Some(1_048_576) }),
            memlock: Ok(Limit { soft: Some(65_536), hard: Some(65_536) }),
            huge_pages: Ok("always [madvise] never".to_owned()),
            allowed: Ok((0..8).collect()),
            nodes: Ok(vec![Node { number: 0, cores: (0..8).collect() }]),
            quota: Ok(None),
            irqbalance: Ok(false),
            nics: Ok(vec![nic("eth0", 4)]),
        }
    }

    /// Fails unless the finding is in that state, says these words, and has a remedy if there is something to do.
    #[track_caller]
    pub(super) fn expect(finding: &Finding, state: State, words: &[&str]) {
        assert_eq!(finding.state, state, "{finding:?}");
        let text = format!("{finding:?}");
        for word in words {
            assert!(text.contains(word), "no {word}: {text}");
        }
        let is_to_do = matches!(state, State::Advice | State::Problem);
        assert_eq!(finding.remedy.is_some(), is_to_do, "{finding:?}");
        assert!(!finding.why.is_empty());
    }

    #[test]
    fn nothing_is_wrong_with_a_healthy_host() {
        let wrong: Vec<_> =
            all(&healthy()).into_iter().filter(|finding| finding.state != State::Ok).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn of_a_host_that_says_nothing_everything_is_unknown() {
        let host = Host {
            root: "/".to_owned(),
            cores: unread(),
            kernel: unread(),
            ring: Ring::NotAsked,
            sysctls: Sysctls {
                io_uring_disabled: unread(),
                somaxconn: unread(),
                tcp_max_syn_backlog: unread(),
                tcp_syncookies: unread(),
                tcp_migrate_req: unread(),
                ip_local_port_range: unread(),
                rmem_max: unread(),
                wmem_max: unread(),
                pipe_user_pages_soft: unread(),
                pipe_max_size: unread(),
                conntrack_max: unread(),
                conntrack_count: unread(),
            },
            descriptors: unread(),
            memlock: unread(),
            huge_pages: unread(),
            allowed: unread(),
            cpus: BTreeMap::new(),
            nodes: unread(),
            quota: unread(),
            irqbalance: unread(),
            nics: unread(),
        };
        for finding in all(&host) {
            expect(&finding, State::Unknown, &[]);
        }
    }

    /// They are written twice, since a host may have the scripts and not the sources.
    #[test]
    fn the_scripts_set_what_is_advised() {
        use crate::limits::{LISTEN_BACKLOG, PIPE_BYTES, PIPES_MAX, UDP_QUEUE_BYTES};
        let script = include_str!("../../tuning/apply");
        for line in [
            format!("net.core.somaxconn={LISTEN_BACKLOG} "),
            format!("net.ipv4.tcp_max_syn_backlog={LISTEN_BACKLOG})"),
            format!("net.core.rmem_max={UDP_QUEUE_BYTES} "),
            format!("net.core.wmem_max={UDP_QUEUE_BYTES})"),
            format!("value * {PIPES_MAX} * {}", PIPE_BYTES / 4096),
            "ip_local_port_range=10240 65535\"".to_owned(),
        ] {
            assert!(script.contains(&line), "no {line}");
        }
        assert!(include_str!("../../tuning/ringway.service").contains("LimitNOFILE=1048576\n"));
    }

    #[test]
    fn every_subject_is_told_once() {
        let mut subjects: Vec<_> = all(&healthy()).into_iter().map(|finding| finding.subject).collect();
        subjects.sort_unstable();
        let count = subjects.len();
        subjects.dedup();
        assert_eq!(subjects.len(), count);
    }
}
