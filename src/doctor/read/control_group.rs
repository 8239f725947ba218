//! How much CPU time the control groups around this process leave it.

use crate::doctor::{
    host::Quota,
    tree::{Cause, Reading, Tree, Unread},
};

const MEMBERSHIP: &str = "/proc/self/cgroup";
/// Groups inside groups that are looked at.
const DEPTH_MAX: usize = 64;

/// The tightest limit of the group and of all groups around it; none if there is no limit.
pub(super) fn quota(tree: &Tree) -> Reading<Option<Quota>> {
    let text = tree.text(MEMBERSHIP)?;
    let mut found: Option<Quota> = None;
    let mut is_understood = false;
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let is_first = controllers.split(',').any(|name| name == "cpu");
        if !is_first && !controllers.is_empty() {
            continue;
        }
        is_understood = true;
        for group in ancestry(path) {
            let quota = if is_first { first(tree, &group)? } else { second(tree, &group)? };
            found = [found, quota].into_iter().flatten().min_by(|a, b| a.cores().total_cmp(&b.cores()));
        }
    }
    if is_understood { Ok(found) } else { Err(Unread::odd(MEMBERSHIP, &text)) }
}

impl Quota {
    /// As many cores as may be busy on average.
    pub fn cores(&self) -> f64 {
        self.quota_us as f64 / self.period_us.max(1) as f64
    }
}

/// `/a/b`, `/a` and the root, as the beginnings of paths to their files.
fn ancestry(path: &str) -> Vec<String> {
    // A process of another namespace has `..` in its path, which is of no use here.
    let names: Vec<&str> =
        path.split('/').filter(|name| !name.is_empty() && *name != "..").take(DEPTH_MAX).collect();
    let group = |depth| names.iter().take(depth).map(|name| format!("/{name}")).collect::<String>();
    (0..=names.len()).rev().map(group).collect()
}

/// Of version 2: `max 100000` or `150000 100000`. The root has none.
fn second(tree: &Tree, group: &str) -> Reading<Option<Quota>> {
    let place = format!("/sys/fs/cgroup{group}/cpu.max");
    let Some(text) = present(tree.text(&place))? else { return Ok(None) };
    let (quota, period) = text.split_once(' ').ok_or_else(|| Unread::odd(&place, &text))?;
    if quota == "max" {
        return Ok(None);
    }
    match (quota.parse(), period.parse()) {
        (Ok(quota_us), Ok(period_us)) if period_us > 0 => Ok(Some(Quota { place, quota_us, period_us })),
        _ => Err(Unread::odd(&place, &text)),
    }
}

/// Of version 1: a file each; -1 is no limit.
fn first(tree: &Tree, group: &str) -> Reading<Option<Quota>> {
    let place = format!("/sys/fs/cgroup/cpu{group}/cpu.cfs_quota_us");
    let Some(text) = present(tree.text(&place))? else { return Ok(None) };
    if text == "-1" {
        return Ok(None);
    }
    let quota_us = text.parse().map_err(|_| Unread::odd(&place, &text))?;
    let period = format!("/sys/fs/cgroup/cpu{group}/cpu.cfs_period_us");
    match tree.number(&period)? {
        0 => Err(Unread::odd(&period, "0")),
        period_us => Ok(Some(Quota { place, quota_us, period_us })),
    }
}

/// What is missing limits nothing.
fn present(reading: Reading<String>) -> Reading<Option<String>> {
    match reading {
        Err(Unread { cause: Cause::Missing, .. }) => Ok(None),
        reading => reading.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::tree::tests::FakeTree;

    #[test]
    fn the_tightest_group_counts() {
        let fake = FakeTree::new()
            .with("proc/self/cgroup", "0::/a/b/c\n")
            .with("sys/fs/cgroup/a/cpu.max", "150000 100000\n")
            .with("sys/fs/cgroup/a/b/cpu.max", "400000 100000\n")
            .with("sys/fs/cgroup/a/b/c/cpu.max", "max 100000\n");
        let quota = quota(&fake.tree()).unwrap().unwrap();
        assert!((quota.cores() - 1.5).abs() < 1e-9);
        assert_eq!(quota.place, "/sys/fs/cgroup/a/cpu.max");
    }

    #[test]
    fn a_container_sees_its_own_group_as_the_root() {
        let fake =
            FakeTree::new().with("proc/self/cgroup", "0::/\n").with("sys/fs/cgroup/cpu.max", "50000 100000");
        assert!((quota(&fake.tree()).unwrap().unwrap().cores() - 0.5).abs() < 1e-9);
    }

    #[test]
    fn version_1_is_understood() {
        let fake = FakeTree::new()
            .with("proc/self/cgroup", "4:memory:/x\n3:cpu,cpuacct:/x\n")
            .with("sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "200000\n")
            .with("sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000\n")
            .with("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
        assert!((quota(&fake.tree()).unwrap().unwrap().cores() - 2.0).abs() < 1e-9);
    }

    #[test]
    fn no_limit_and_no_knowledge_differ() {
        let free = FakeTree::new().with("proc/self/cgroup", "0::/\n");
        assert_eq!(quota(&free.tree()), Ok(None));
        assert!(quota(&FakeTree::new().tree()).is_err());
        for (file, text) in [
            ("proc/self/cgroup", "nothing"),
            ("sys/fs/cgroup/cpu.max", "a b"),
            ("sys/fs/cgroup/cpu.max", "1 0"),
        ] {
            let odd = FakeTree::new().with("proc/self/cgroup", "0::/\n").with(file, text);
            assert!(matches!(quota(&odd.tree()), Err(Unread { cause: Cause::Odd(_), .. })), "{text}");
        }
    }
}
