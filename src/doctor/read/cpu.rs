//! What `/sys/devices/system` says about cores and NUMA nodes.

use crate::doctor::{
    cpus,
    host::{Cpu, Node},
    tree::{Reading, Tree, Unread},
};

const NODES: &str = "/sys/devices/system/node";

/// One core.
pub(super) fn read(tree: &Tree, core: usize) -> Cpu {
    let place = |file: &str| format!("/sys/devices/system/cpu/cpu{core}/{file}");
    Cpu {
        governor: tree.text(&place("cpufreq/scaling_governor")),
        driver: tree.text(&place("cpufreq/scaling_driver")),
        siblings: list(tree, &place("topology/thread_siblings_list")),
    }
}

/// The nodes that have cores.
pub(super) fn nodes(tree: &Tree) -> Reading<Vec<Node>> {
    let mut nodes = Vec::new();
    for name in tree.names(NODES)? {
        let Some(number) = name.strip_prefix("node").and_then(|number| number.parse().ok()) else { continue };
        let cores = list(tree, &format!("{NODES}/{name}/cpulist"))?;
        nodes.extend((!cores.is_empty()).then_some(Node { number, cores }));
    }
    if nodes.is_empty() { Err(Unread::missing(&format!("{NODES}/node*"))) } else { Ok(nodes) }
}

/// A file with a list of cores.
pub(super) fn list(tree: &Tree, place: &str) -> Reading<Vec<usize>> {
    let text = tree.text(place)?;
    cpus::from_list(&text).ok_or_else(|| Unread::odd(place, &text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::tree::tests::FakeTree;

    #[test]
    fn nodes_have_cores() {
        let fake = FakeTree::new()
            .with("sys/devices/system/node/node0/cpulist", "0-1\n")
            .with("sys/devices/system/node/node1/cpulist", "2-3\n")
            .with("sys/devices/system/node/node2/cpulist", "\n")
            .with("sys/devices/system/node/online", "0-2\n");
        let expected = [Node { number: 0, cores: vec![0, 1] }, Node { number: 1, cores: vec![2, 3] }];
        assert_eq!(nodes(&fake.tree()).unwrap(), expected);
        assert!(nodes(&FakeTree::new().tree()).is_err());
        let odd = FakeTree::new().with("sys/devices/system/node/node0/cpulist", "zero");
        assert!(nodes(&odd.tree()).is_err());
    }

    #[test]
    fn a_core_has_a_governor_and_siblings() {
        let fake = FakeTree::new()
            .with("sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "performance\n")
            .with("sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "2,66\n");
        let cpu = read(&fake.tree(), 2);
        assert_eq!(cpu.governor.as_deref(), Ok("performance"));
        assert_eq!(cpu.siblings, Ok(vec![2, 66]));
        assert!(cpu.driver.is_err());
    }
}
