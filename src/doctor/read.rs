//! Fills the facts from `/proc`, `/sys` and, on the running host, from the kernel itself.
//!
//! Owns where each fact stands. Judges nothing: what is missing or odd becomes the reason why a fact is not known.

mod control_group;
mod cpu;
mod nic;

use super::{
    cpus,
    host::{Host, Kernel, Limit, Ring, Sysctls},
    tree::{Reading, Tree, Unread},
};
use crate::sys::ring;

const STATUS: &str = "/proc/self/status";
const LIMITS: &str = "/proc/self/limits";
const RELEASE: &str = "/proc/sys/kernel/osrelease";
const PORTS: &str = "/proc/sys/net/ipv4/ip_local_port_range";

impl Host {
    /// Reads everything; `cores` are those asked for.
    pub fn read(tree: &Tree, cores: Option<&[usize]>) -> Self {
        let allowed = allowed(tree);
        let cores = cores.map_or_else(|| allowed.clone(), |cores| Ok(cores.to_vec()));
        let chosen = cores.as_deref().unwrap_or_default();
        Self {
            root: tree.root().display().to_string(),
            kernel: kernel(tree),
            ring: ring_of(tree),
            sysctls: sysctls(tree),
            descriptors: limit(tree, "Max open files"),
            memlock: limit(tree, "Max locked memory"),
            huge_pages: tree.text("/sys/kernel/mm/transparent_hugepage/enabled"),
            cpus: chosen.iter().map(|core| (*core, cpu::read(tree, *core))).collect(),
            nodes: cpu::nodes(tree),
            quota: control_group::quota(tree),
            irqbalance: irqbalance(tree),
            nics: nic::all(tree),
            allowed,
            cores,
        }
    }
}

fn kernel(tree: &Tree) -> Reading<Kernel> {
    let release = tree.text(RELEASE)?;
    Kernel::parse(&release).ok_or_else(|| Unread::odd(RELEASE, &release))
}

fn ring_of(tree: &Tree) -> Ring {
    if !tree.is_live() {
        return Ring::NotAsked;
    }
    ring::probe().map_or_else(|error| Ring::Unavailable(error.to_string()), Ring::Works)
}

fn sysctls(tree: &Tree) -> Sysctls {
    let number = |name: &str| tree.number(&format!("/proc/sys/{name}"));
    Sysctls {
        io_uring_disabled: number("kernel/io_uring_disabled"),
        somaxconn: number("net/core/somaxconn"),
        tcp_max_syn_backlog: number("net/ipv4/tcp_max_syn_backlog"),
        tcp_syncookies: number("net/ipv4/tcp_syncookies"),
        tcp_migrate_req: number("net/ipv4/tcp_migrate_req"),
        ip_local_port_range: port_range(tree),
        rmem_max: number("net/core/rmem_max"),
        wmem_max: number("net/core/wmem_max"),
        pipe_user_pages_soft: number("fs/pipe-user-pages-soft"),
        pipe_max_size: number("fs/pipe-max-size"),
        conntrack_max: number("net/netfilter/nf_conntrack_max"),
        conntrack_count: number("net/netfilter/nf_conntrack_count"),
    }
}

fn port_range(tree: &Tree) -> Reading<(u64, u64)> {
    let text = tree.text(PORTS)?;
    let mut words = text.split_whitespace().map(|word| word.parse::<u64>().ok());
    match (words.next().flatten(), words.next().flatten(), words.next()) {
        (Some(first), Some(last), None) if first <= last && last <= 65_535 => Ok((first, last)),
        _ => Err(Unread::odd(PORTS, &text)),
    }
}

/// A line such as `Max open files            1024                 524288               files`.
fn limit(tree: &Tree, name: &str) -> Reading<Limit> {
    let text = tree.text(LIMITS)?;
    let odd = |line: &str| Unread::odd(LIMITS, line);
    let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or_else(|| odd(&text))?;
    let mut words = line.split_whitespace().map(|word| match word {
        "unlimited" => Some(None),
        word => word.parse().ok().map(Some),
    });
    match (words.next().flatten(), words.next().flatten()) {
        (Some(soft), Some(hard)) => Ok(Limit { soft, hard }),
        _ => Err(odd(line)),
    }
}

fn allowed(tree: &Tree) -> Reading<Vec<usize>> {
    let text = tree.text(STATUS)?;
    let line = text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let line = line.ok_or_else(|| Unread::odd(STATUS, &text))?;
    cpus::from_list(line).filter(|cores| !cores.is_empty()).ok_or_else(|| Unread::odd(STATUS, line))
}

/// Looks through the names of all processes that are to be seen.
fn irqbalance(tree: &Tree) -> Reading<bool> {
    let is_process = |name: &&String| name.bytes().all(|byte| byte.is_ascii_digit());
    let runs =
        |process: &String| tree.text(&format!("/proc/{process}/comm")).is_ok_and(|name| name == "irqbalance");
    Ok(tree.names("/proc")?.iter().filter(is_process).any(runs))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::doctor::{judge, tree::tests::FakeTree};

    const LIMIT_LINES: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
        Max open files            1024                 524288               files     \n\
        Max locked memory         8388608              unlimited            bytes     \n";

    #[test]
    fn limits_are_found_by_their_names() {
        let fake = FakeTree::new().with("proc/self/limits", LIMIT_LINES);
        let host = Host::read(&fake.tree(), None);
        assert_eq!(host.descriptors, Ok(Limit { soft: Some(1024), hard: Some(524_288) }));
        assert_eq!(host.memlock, Ok(Limit { soft: Some(8_388_608), hard: None }));
        let fake = FakeTree::new().with("proc/self/limits", "Max open files   many   few\n");
        assert!(Host::read(&fake.tree(), None).descriptors.unwrap_err().to_string().contains("many"));
    }

    #[test]
    fn numbers_and_the_port_range_are_read() {
        let fake = FakeTree::new()
            .with("proc/sys/net/core/somaxconn", "4096\n")
            .with("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n")
            .with("proc/sys/kernel/osrelease", "6.1.0\n");
        let host = Host::read(&fake.tree(), None);
        assert_eq!(host.sysctls.somaxconn, Ok(4096));
        assert_eq!(host.sysctls.ip_local_port_range, Ok((32_768, 60_999)));
        assert!(host.is_older_than(6, 2) && !host.is_older_than(6, 1));
        assert!(host.sysctls.rmem_max.is_err());
        assert_eq!(host.ring, Ring::NotAsked);
        for odd in ["5 4", "1", "1 2 3", "1 99999", "a b"] {
            let fake = FakeTree::new().with("proc/sys/net/ipv4/ip_local_port_range", odd);
            assert!(Host::read(&fake.tree(), None).sysctls.ip_local_port_range.is_err(), "{odd}");
        }
    }

    #[test]
    fn workers_have_the_cores_asked_for_or_all_that_are_allowed() {
        let fake = FakeTree::new().with("proc/self/status", "Name:\tx\nCpus_allowed_list:\t0-2,5\n");
        let host = Host::read(&fake.tree(), None);
        assert_eq!((host.cores.clone().unwrap(), host.workers()), (vec![0, 1, 2, 5], 4));
        assert_eq!(Host::read(&fake.tree(), Some(&[7])).cores, Ok(vec![7]));
        assert_eq!(Host::read(&FakeTree::new().tree(), None).workers(), 1);
    }

    #[test]
    fn a_process_is_found_by_its_name() {
        let fake = FakeTree::new().with("proc/12/comm", "bash\n").with("proc/sys/comm", "irqbalance\n");
        assert_eq!(Host::read(&fake.tree(), None).irqbalance, Ok(false));
        let fake = fake.with("proc/345/comm", "irqbalance\n");
        assert_eq!(Host::read(&fake.tree(), None).irqbalance, Ok(true));
    }

    /// Files that are read, so that garbage in them is seen.
    const FILES: &[&str] = &[
        "proc/self/status",
        "proc/self/limits",
        "proc/self/cgroup",
        "proc/1/comm",
        "proc/interrupts",
        "proc/irq/24/smp_affinity_list",
        "proc/sys/kernel/osrelease",
        "proc/sys/kernel/io_uring_disabled",
        "proc/sys/net/core/somaxconn",
        "proc/sys/net/ipv4/ip_local_port_range",
        "proc/sys/net/netfilter/nf_conntrack_max",
        "proc/sys/net/netfilter/nf_conntrack_count",
        "sys/kernel/mm/transparent_hugepage/enabled",
        "sys/fs/cgroup/cpu.max",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
        "sys/devices/system/cpu/cpu0/topology/thread_siblings_list",
        "sys/devices/system/node/node0/cpulist",
        "sys/class/net/eth0/device/numa_node",
        "sys/class/net/eth0/device/msi_irqs/24",
        "sys/class/net/eth0/operstate",
        "sys/class/net/eth0/queues/rx-0/rps_cpus",
        "sys/class/net/eth0/queues/tx-0/xps_cpus",
        "ethtool-k/eth0",
    ];

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn garbage_is_unknown_and_never_a_panic(
            contents in proptest::collection::vec(
                prop_oneof![
                    proptest::collection::vec(any::<u8>(), 0..40),
                    "[0-9a-f,: \n-]{0,30}".prop_map(String::into_bytes),
                    "(max|0::/|[0-9]{1,20}|24: [0-9] eth0|unlimited| |\n){0,8}".prop_map(String::into_bytes),
                ],
                FILES.len(),
            ),
        ) {
            let mut fake = FakeTree::new();
            for (file, content) in FILES.iter().zip(contents) {
                fake = fake.with(file, content);
            }
            let host = Host::read(&fake.tree(), Some(&[0, 1]));
            prop_assert!(judge::all(&host).len() > 15);
        }
    }
}
