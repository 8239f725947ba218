//! The facts about a host, each of them known or with the reason why it is not.
//!
//! Owns no opinion about them: that is [`super::judge`]. Filled by [`super::read`], or by a test.

use std::collections::BTreeMap;

use super::tree::Reading;
use crate::sys::ring::RingFlags;

/// What is known about a host.
#[derive(Debug, Clone)]
pub struct Host {
    /// Where it was read; `/` is the running host.
    pub root: String,
    /// The cores that have a worker: those asked for, or all that are allowed.
    pub cores: Reading<Vec<usize>>,
    /// The kernel's version.
    pub kernel: Reading<Kernel>,
    /// What the kernel gives when it is asked for a ring.
    pub ring: Ring,
    /// Switches of the kernel.
    pub sysctls: Sysctls,
    /// `RLIMIT_NOFILE`.
    pub descriptors: Reading<Limit>,
    /// `RLIMIT_MEMLOCK`.
    pub memlock: Reading<Limit>,
    /// `/sys/kernel/mm/transparent_hugepage/enabled`, such as `always [madvise] never`.
    pub huge_pages: Reading<String>,
    /// The cores that this process may run on.
    pub allowed: Reading<Vec<usize>>,
    /// What is known of each of `cores`.
    pub cpus: BTreeMap<usize, Cpu>,
    /// The NUMA nodes.
    pub nodes: Reading<Vec<Node>>,
    /// The tightest limit of CPU time, if there is one.
    pub quota: Reading<Option<Quota>>,
    /// Whether `irqbalance` runs.
    pub irqbalance: Reading<bool>,
    /// The physical interfaces.
    pub nics: Reading<Vec<Nic>>,
}

impl Host {
    /// How many workers there will be; one if that is not known.
    pub fn workers(&self) -> usize {
        self.cores.as_ref().map_or(1, |cores| cores.len().max(1))
    }

    /// True if the kernel is known to be older.
    pub fn is_older_than(&self, major: u32, minor: u32) -> bool {
        self.kernel.as_ref().is_ok_and(|kernel| kernel.is_older_than(major, minor))
    }
}

/// A version of Linux.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// As it is written.
    pub release: String,
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
}

impl Kernel {
    /// `6.1.0-18-amd64`.
    pub fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        let mut next = || numbers.next().and_then(|number| number.parse().ok());
        Some(Self { major: next()?, minor: next()?, release: release.to_owned() })
    }

    /// Whether it came before that one.
    pub fn is_older_than(&self, major: u32, minor: u32) -> bool {
        (self.major, self.minor) < (major, minor)
    }
}

/// What the kernel gives when it is asked for a ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ring {
    /// One with these flags.
    Works(RingFlags),
    /// None, with cause and remedy.
    Unavailable(String),
    /// It was not asked, since this is not the host.
    NotAsked,
}

/// Switches of the kernel, below `/proc/sys`.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "sysctl(8) and the kernel's documentation describe each by its name")]
pub struct Sysctls {
    pub io_uring_disabled: Reading<u64>,
    pub somaxconn: Reading<u64>,
    pub tcp_max_syn_backlog: Reading<u64>,
    pub tcp_syncookies: Reading<u64>,
    pub tcp_migrate_req: Reading<u64>,
    pub ip_local_port_range: Reading<(u64, u64)>,
    pub rmem_max: Reading<u64>,
    pub wmem_max: Reading<u64>,
    pub pipe_user_pages_soft: Reading<u64>,
    pub pipe_max_size: Reading<u64>,
    pub conntrack_max: Reading<u64>,
    pub conntrack_count: Reading<u64>,
}

/// A limit of the process; none is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "getrlimit(2) describes both")]
pub struct Limit {
    pub soft: Option<u64>,
    pub hard: Option<u64>,
}

/// What is known of one core.
#[derive(Debug, Clone)]
pub struct Cpu {
    /// Its frequency governor.
    pub governor: Reading<String>,
    /// What sets its frequency.
    pub driver: Reading<String>,
    /// The cores (itself among them) that share its units of execution.
    pub siblings: Reading<Vec<usize>>,
}

/// A NUMA node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its number.
    pub number: usize,
    /// Its cores.
    pub cores: Vec<usize>,
}

/// A limit of CPU time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// The file that says it.
    pub place: String,
    /// Time that may be used in a period.
    pub quota_us: u64,
    /// The period, never zero.
    pub period_us: u64,
}

/// A physical interface.
#[derive(Debug, Clone)]
pub struct Nic {
    /// Its name.
    pub name: String,
    /// Whether it carries traffic, in the kernel's words.
    pub state: Reading<String>,
    /// The NUMA node it is attached to, if the host has several.
    pub node: Reading<Option<usize>>,
    /// Queues that receive, with the cores of RPS.
    pub receive: Reading<Vec<Queue>>,
    /// Queues that send, with the cores of XPS.
    pub send: Reading<Vec<Queue>>,
    /// The interrupts of its queues.
    pub interrupts: Reading<Vec<Interrupt>>,
    /// Features by their names in `ethtool -k`, and whether they are on.
    pub features: Reading<BTreeMap<String, bool>>,
}

/// A queue of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Its name, such as `rx-0`.
    pub name: String,
    /// The cores it is for; none unless somebody has said so.
    pub cores: Reading<Vec<usize>>,
}

/// An interrupt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interrupt {
    /// Its number.
    pub number: u32,
    /// Who it is for, such as `eth0-TxRx-3`.
    pub name: String,
    /// The cores it may come to.
    pub cores: Reading<Vec<usize>>,
    /// The core it does come to, where the kernel tells.
    pub chosen: Option<usize>,
}

impl Interrupt {
    /// The one core it comes to, if it is one.
    pub fn place(&self) -> Option<usize> {
        match self.cores.as_deref() {
            Ok([core]) => Some(*core),
            Ok(_) => self.chosen,
            Err(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read() {
        for (release, major, minor) in
            [("6.1.0-18-amd64", 6, 1), ("5.11", 5, 11), ("6.18.44-fc", 6, 18), ("7.0-rc1", 7, 0)]
        {
            let kernel = Kernel::parse(release).unwrap();
            assert_eq!((kernel.major, kernel.minor), (major, minor), "{release}");
        }
        for odd in ["", "six", "6", "6.x", "99999999999.1", ".6.1"] {
            assert_eq!(Kernel::parse(odd), None, "{odd}");
        }
        assert!(Kernel::parse("5.19").unwrap().is_older_than(6, 1));
        assert!(!Kernel::parse("6.1").unwrap().is_older_than(6, 1));
    }
}
