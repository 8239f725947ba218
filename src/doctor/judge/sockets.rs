//! Queues, ports and tables of the network stack.

use super::is_missing;
use crate::{
    doctor::{
        finding::{Finding, Remedy, Subject},
        host::Host,
        tree::Reading,
    },
    limits::{LISTEN_BACKLOG, UDP_QUEUE_BYTES},
};

/// Below this, connections to one backend run out in everyday operation.
const PORTS_MIN: u64 = 10_000;
/// What a widened range has at least.
const PORTS_GOOD: u64 = 50_000;
/// Fill of conntrack's table, in percent, from which a burst can fill it.
const TRACKED_PERCENT_MAX: u64 = 80;

const SOMAXCONN: Subject = Subject {
    name: "net.core.somaxconn",
    why: "it cuts the queue of finished handshakes, for which Ringway asks for 4 096; what does not fit in a burst is \
          dropped, and the client tries again after a second",
};
const SYN_BACKLOG: Subject = Subject {
    name: "net.ipv4.tcp_max_syn_backlog",
    why: "without SYN cookies, new clients are turned away when three quarters of this many handshakes are unfinished",
};
const PORT_RANGE: Subject = Subject {
    name: "net.ipv4.ip_local_port_range",
    why: "each connection to a backend takes a port of a source address; TCP mode with many short connections runs out first",
};
const RECEIVE_MAX: Subject = Subject {
    name: "net.core.rmem_max",
    why: "UDP mode asks for queues of 4 MiB; what a burst overflows is lost and counted as `udp_overflowed`",
};
const SEND_MAX: Subject =
    Subject { name: "net.core.wmem_max", why: "UDP mode asks for queues of 4 MiB; a full one drops answers" };
const CONNTRACK: Subject = Subject {
    name: "conntrack",
    why: "every packet is looked up and every connection takes an entry; a full table drops new connections silently",
};
const MIGRATE: Subject = Subject {
    name: "net.ipv4.tcp_migrate_req",
    why: "when a worker's listening socket closes, handshakes in its queue are aborted; with 1 the kernel gives them to \
          another worker's socket",
};

/// The queue of finished handshakes.
pub(super) fn somaxconn(host: &Host) -> Finding {
    at_least(SOMAXCONN, &host.sysctls.somaxconn, u64::from(LISTEN_BACKLOG.unsigned_abs()))
}

/// The queue of the unfinished.
pub(super) fn syn_backlog(host: &Host) -> Finding {
    let wanted = u64::from(LISTEN_BACKLOG.unsigned_abs());
    match (&host.sysctls.tcp_syncookies, &host.sysctls.tcp_max_syn_backlog) {
        (Err(unread), _) => SYN_BACKLOG.unread(unread),
        (Ok(0), backlog) => at_least(SYN_BACKLOG, backlog, wanted),
        (Ok(_), Ok(backlog)) => SYN_BACKLOG.ok(format!("{backlog}, and SYN cookies when the queue is full")),
        (Ok(_), Err(unread)) => SYN_BACKLOG.unread(unread),
    }
}

/// Datagrams that wait for us.
pub(super) fn receive_max(host: &Host) -> Finding {
    at_least(RECEIVE_MAX, &host.sysctls.rmem_max, UDP_QUEUE_BYTES as u64)
}

/// Datagrams that wait for the interface.
pub(super) fn send_max(host: &Host) -> Finding {
    at_least(SEND_MAX, &host.sysctls.wmem_max, UDP_QUEUE_BYTES as u64)
}

/// A sysctl that should not be smaller.
fn at_least(subject: Subject, value: &Reading<u64>, wanted: u64) -> Finding {
    match value {
        Ok(value) if *value >= wanted => subject.ok(value.to_string()),
        Ok(value) => subject.advice(value.to_string(), Remedy::sysctl(subject.name, wanted, value)),
        Err(unread) => subject.unread(unread),
    }
}

/// Ports towards backends.
pub(super) fn port_range(host: &Host) -> Finding {
    let (first, last) = match host.sysctls.ip_local_port_range {
        Ok(range) => range,
        Err(ref unread) => return PORT_RANGE.unread(unread),
    };
    let count = last.saturating_sub(first) + 1;
    let found = format!("{first} to {last}: {count} connections to each backend from one address");
    let remedy = Remedy::sysctl(PORT_RANGE.name, "10240 65535", format!("{first} {last}"));
    match count {
        PORTS_GOOD.. => PORT_RANGE.ok(found),
        PORTS_MIN.. => PORT_RANGE.advice(found, remedy),
        _ => PORT_RANGE.problem(found, remedy),
    }
}

/// A table that fills up.
pub(super) fn conntrack(host: &Host) -> Finding {
    let (max, count) = match (&host.sysctls.conntrack_max, &host.sysctls.conntrack_count) {
        // Something was read at all, so this is no empty copy.
        (max, count) if is_missing(max) && is_missing(count) && host.kernel.is_ok() => {
            return CONNTRACK.ok("not loaded");
        }
        (Ok(max), Ok(count)) => (*max, *count),
        (Err(unread), _) | (_, Err(unread)) => return CONNTRACK.unread(unread),
    };
    let found = format!("{count} of {max} entries");
    if count == 0 {
        return CONNTRACK.ok(format!("{found}: loaded, and no rule uses it"));
    }
    if count.saturating_mul(100) >= max.saturating_mul(TRACKED_PERCENT_MAX) {
        let wanted = max.saturating_mul(4);
        return CONNTRACK.problem(found, Remedy::sysctl("net.netfilter.nf_conntrack_max", wanted, max));
    }
    // The priority is that of `raw`: before conntrack.
    let remedy = Remedy::new(
        "nft 'table inet ringway { chain in { type filter hook prerouting priority -300; tcp dport 80 notrack; } \
         chain out { type filter hook output priority -300; tcp sport 80 notrack; }; }'   # your ports; without NAT only",
        "nft delete table inet ringway",
    );
    CONNTRACK.advice(found, remedy)
}

/// Handshakes of a closing socket.
pub(super) fn migrate(host: &Host) -> Finding {
    match &host.sysctls.tcp_migrate_req {
        Ok(0) => MIGRATE.advice("0", Remedy::sysctl(MIGRATE.name, 1, 0)),
        Ok(value) => MIGRATE.ok(value.to_string()),
        missing @ Err(_) if is_missing(missing) && host.is_older_than(5, 14) => {
            MIGRATE.ok("this kernel is too old to have the switch (Linux 5.14)")
        }
        Err(unread) => MIGRATE.unread(unread),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{
        finding::State,
        host::{Kernel, Sysctls},
        judge::tests::{expect, healthy, missing, unread},
    };

    fn with(change: impl FnOnce(&mut Sysctls)) -> Host {
        let mut host = healthy();
        change(&mut host.sysctls);
        host
    }

    #[test]
    fn queues_of_handshakes() {
        let of = |value| somaxconn(&with(|sysctls| sysctls.somaxconn = value));
        expect(&of(Ok(128)), State::Advice, &["somaxconn=\\\"4096", "somaxconn=\\\"128"]);
        expect(&of(Ok(4096)), State::Ok, &[]);
        expect(&of(unread()), State::Unknown, &[]);
        let of = |cookies, backlog| {
            syn_backlog(&with(|sysctls| {
                (sysctls.tcp_syncookies, sysctls.tcp_max_syn_backlog) = (cookies, backlog)
            }))
        };
        expect(&of(Ok(1), Ok(128)), State::Ok, &["cookies"]);
        expect(&of(Ok(0), Ok(128)), State::Advice, &["tcp_max_syn_backlog=\\\"4096"]);
        expect(&of(Ok(0), Ok(8192)), State::Ok, &[]);
        expect(&of(Ok(1), unread()), State::Unknown, &[]);
        expect(&of(Ok(0), unread()), State::Unknown, &[]);
        expect(&of(unread(), Ok(1)), State::Unknown, &[]);
    }

    #[test]
    fn queues_of_datagrams() {
        let of = |value: Reading<u64>| {
            let host = with(|sysctls| (sysctls.rmem_max, sysctls.wmem_max) = (value.clone(), value));
            [receive_max(&host), send_max(&host)]
        };
        for finding in of(Ok(212_992)) {
            expect(&finding, State::Advice, &["mem_max=\\\"4194304", "mem_max=\\\"212992"]);
        }
        for finding in of(Ok(4_194_304)) {
            expect(&finding, State::Ok, &[]);
        }
        for finding in of(unread()) {
            expect(&finding, State::Unknown, &[]);
        }
    }

    #[test]
    fn ports() {
        let of = |value| port_range(&with(|sysctls| sysctls.ip_local_port_range = value));
        expect(&of(Ok((60_000, 60_999))), State::Problem, &["1000 connections", "=\\\"60000 60999"]);
        expect(&of(Ok((32_768, 60_999))), State::Advice, &["28232", "=\\\"10240 65535"]);
        expect(&of(Ok((1024, 65_535))), State::Ok, &[]);
        expect(&of(Ok((5, 4))), State::Problem, &[]);
        expect(&of(unread()), State::Unknown, &[]);
    }

    #[test]
    fn tracking() {
        let of = |max, count| {
            conntrack(&with(|sysctls| (sysctls.conntrack_max, sysctls.conntrack_count) = (max, count)))
        };
        expect(&of(missing(), missing()), State::Ok, &["not loaded"]);
        expect(&of(Ok(100), Ok(0)), State::Ok, &["no rule"]);
        expect(&of(Ok(100), Ok(79)), State::Advice, &["notrack", "nft delete"]);
        expect(
            &of(Ok(100), Ok(80)),
            State::Problem,
            &["nf_conntrack_max=\\\"400", "nf_conntrack_max=\\\"100"],
        );
        expect(&of(Ok(0), Ok(u64::MAX)), State::Problem, &[]);
        expect(&of(unread(), Ok(1)), State::Unknown, &[]);
        expect(&of(Ok(1), missing()), State::Unknown, &[]);
    }

    #[test]
    fn migration() {
        let of = |value| migrate(&with(|sysctls| sysctls.tcp_migrate_req = value));
        expect(&of(Ok(1)), State::Ok, &[]);
        expect(&of(Ok(0)), State::Advice, &["tcp_migrate_req=\\\"1"]);
        expect(&of(unread()), State::Unknown, &[]);
        expect(&of(missing()), State::Unknown, &[]);
        let mut old = with(|sysctls| sysctls.tcp_migrate_req = missing());
        old.kernel = Ok(Kernel::parse("5.13").unwrap());
        expect(&migrate(&old), State::Ok, &["too old"]);
    }
}
