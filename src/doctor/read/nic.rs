//! What `/sys/class/net`, `/proc/interrupts` and `ethtool -k` say about the physical interfaces.

use std::{
    collections::BTreeMap,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::cpu::list;
use crate::doctor::{
    cpus,
    host::{Interrupt, Nic, Queue},
    tree::{Cause, Reading, Tree, Unread},
};

const NICS: &str = "/sys/class/net";
const INTERRUPTS: &str = "/proc/interrupts";
/// Interfaces that are looked at; a host has a handful.
const NICS_MAX: usize = 64;
/// How long `ethtool` may take. It waits when somebody else is changing interfaces.
const PATIENCE: Duration = Duration::from_secs(2);
/// Words in the names of a device's interrupts that do not belong to its queues.
const OTHER_INTERRUPTS: &[&str] =
    &["config", "async", "event", "ctrl", "control", "cmd", "mgmnt", "admin", "fdir", "misc", "lsc"];

/// Interfaces with a device behind them; bridges, bonds and the loopback have none.
pub(super) fn all(tree: &Tree) -> Reading<Vec<Nic>> {
    let names = tree.names(NICS)?;
    let physical = names.into_iter().filter(|name| tree.has(&format!("{NICS}/{name}/device")));
    let table = tree.table(INTERRUPTS);
    Ok(physical.take(NICS_MAX).map(|name| nic(tree, name, &table)).collect())
}

fn nic(tree: &Tree, name: String, table: &Reading<String>) -> Nic {
    let place = format!("{NICS}/{name}");
    Nic {
        state: tree.text(&format!("{place}/operstate")),
        node: node(tree, &format!("{place}/device/numa_node")),
        receive: queues(tree, &place, "rx-", "rps_cpus"),
        send: queues(tree, &place, "tx-", "xps_cpus"),
        interrupts: interrupts(tree, &name, table),
        features: features(tree, &name),
        name,
    }
}

/// -1 means that the host has one node, or does not know.
fn node(tree: &Tree, place: &str) -> Reading<Option<usize>> {
    let text = match tree.text(place) {
        Err(Unread { cause: Cause::Missing, .. }) => return Ok(None),
        text => text?,
    };
    if text == "-1" { Ok(None) } else { text.parse().map(Some).map_err(|_| Unread::odd(place, &text)) }
}

fn queues(tree: &Tree, place: &str, prefix: &str, mask: &str) -> Reading<Vec<Queue>> {
    let place = format!("{place}/queues");
    let numbered = tree.names(&place)?.into_iter().filter_map(|name| {
        let number: u32 = name.strip_prefix(prefix)?.parse().ok()?;
        Some((number, name))
    });
    let mut numbered: Vec<_> = numbered.collect();
    numbered.sort_unstable();
    let queue = |(_, name): (u32, String)| {
        let place = format!("{place}/{name}/{mask}");
        let cores = tree.text(&place);
        let cores = cores.and_then(|text| cpus::from_mask(&text).ok_or_else(|| Unread::odd(&place, &text)));
        Queue { name, cores }
    };
    Ok(numbered.into_iter().map(queue).collect())
}

/// The interrupts of its queues: those of its device, or those that are called after it.
fn interrupts(tree: &Tree, name: &str, table: &Reading<String>) -> Reading<Vec<Interrupt>> {
    let table = table.as_ref().map_err(Clone::clone)?;
    let device = format!("{NICS}/{name}/device");
    let alias = tree.link_name(&device);
    // A virtio interface is a device inside the one that has the interrupts.
    let is_inside = alias.as_ref().is_some_and(|alias| alias.starts_with("virtio"));
    let place = if is_inside { format!("{device}/../msi_irqs") } else { format!("{device}/msi_irqs") };
    let own = tree.names(&place).unwrap_or_default();
    let aliases = [Some(name.to_owned()), alias];
    let is_queue = |label: &str| {
        let label = label.replace(name, "").to_ascii_lowercase();
        !OTHER_INTERRUPTS.iter().any(|word| label.contains(word))
    };
    let is_ours = |number: &str, label: &str| {
        let named = aliases.iter().flatten().any(|alias| words(label).any(|word| word == alias));
        own.iter().any(|own| own == number) || named
    };
    let rows = table.lines().filter_map(|line| {
        let (number, rest) = line.trim_start().split_once(':')?;
        Some((number, rest.split_whitespace().last()?))
    });
    let ours = rows.filter(|(number, label)| is_ours(number, label) && is_queue(label));
    let mut ours: Vec<(&str, &str)> = ours.collect();
    // Beside those of queues, the one that has only the interface's name is for the state of the link.
    if ours.iter().any(|(_, label)| *label != name) {
        ours.retain(|(_, label)| *label != name);
    }
    let interrupt = |(number, label): (&str, &str)| {
        let cores = list(tree, &format!("/proc/irq/{number}/smp_affinity_list"));
        let chosen = list(tree, &format!("/proc/irq/{number}/effective_affinity_list"));
        let chosen = chosen.ok().filter(|cores| cores.len() == 1).and_then(|cores| cores.first().copied());
        Some(Interrupt {
            number: number.parse().ok()?,
            name: label.chars().take(40).collect(),
            cores,
            chosen,
        })
    };
    Ok(ours.into_iter().filter_map(interrupt).collect())
}

/// `eth0-TxRx-3` has the word `eth0`, and not `eth`.
fn words(label: &str) -> impl Iterator<Item = &str> {
    label.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
}

/// Asks `ethtool`, or reads what it said when the trees were copied.
fn features(tree: &Tree, name: &str) -> Reading<BTreeMap<String, bool>> {
    let command = format!("ethtool -k {name}");
    let text = if tree.is_live() { run_ethtool(name)? } else { tree.text(&format!("/ethtool-k/{name}"))? };
    let line = |line: &str| {
        let (feature, value) = line.split_once(':')?;
        let is_on = match value.split_whitespace().next()? {
            "on" => true,
            "off" => false,
            _ => return None,
        };
        Some((feature.trim().to_owned(), is_on))
    };
    let features: BTreeMap<_, _> = text.lines().filter_map(line).collect();
    if features.is_empty() { Err(Unread::odd(&command, &text)) } else { Ok(features) }
}

fn run_ethtool(name: &str) -> Reading<String> {
    let failed = |why: &dyn std::fmt::Display| Unread::failed(&format!("ethtool -k {name}"), why);
    let mut command = Command::new("ethtool");
    command.args(["-k", name]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let child = command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => failed(&"ethtool is not installed"),
        _ => failed(&error),
    })?;
    let process = Pid::from_child(&child);
    let (sender, answer) = mpsc::channel();
    thread::spawn(move || {
        // Nobody listens any more when it took too long.
        let _ = sender.send(child.wait_with_output());
    });
    match answer.recv_timeout(PATIENCE) {
        Ok(Ok(output)) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(Ok(output)) => Err(failed(&output.status)),
        Ok(Err(error)) => Err(failed(&error)),
        Err(_) => {
            // It may have ended just now.
            let _ = kill_process(process, Signal::KILL);
            Err(failed(&"no answer in time"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::tree::tests::FakeTree;

    const TABLE: &str = "           CPU0       CPU1\n 24:  1  0  IO-APIC   5-edge      ACPI:Ged\n\
         37:  0  0 PCI-MSIX-0000:00:03.0   0-edge      virtio2-config\n\
         38:  0  9 PCI-MSIX-0000:00:03.0   1-edge      virtio2-input.0\n\
         39:  7  0 PCI-MSIX-0000:00:03.0   2-edge      virtio2-output.0\n\
         40:  7  0 PCI-MSIX-0000:00:04.0   2-edge      eth1-TxRx-0\n\
         41:  7  0 PCI-MSIX-0000:00:04.0   2-edge      eth10-TxRx-0\n\
         50:  7  0 PCI-MSIX-0000:00:05.0   1-edge      mlx5_comp0@pci:0000:00:05.0\n\
        NMI:  0  0   Non-maskable interrupts\n\nERR:\n";

    fn only(fake: &FakeTree) -> Nic {
        let mut nics = all(&fake.tree()).unwrap();
        assert_eq!(nics.len(), 1);
        nics.remove(0)
    }

    fn numbers(nic: &Nic) -> Vec<u32> {
        nic.interrupts.as_ref().unwrap().iter().map(|interrupt| interrupt.number).collect()
    }

    #[test]
    fn queues_and_their_cores_are_read_in_order() {
        let mut fake = FakeTree::new()
            .with("sys/class/net/lo/operstate", "unknown")
            .with("sys/class/net/eth0/device/x", "");
        for queue in [0, 2, 10] {
            fake = fake.with(&format!("sys/class/net/eth0/queues/rx-{queue}/rps_cpus"), "00,00000003\n");
        }
        let fake = fake
            .with("sys/class/net/eth0/operstate", "up\n")
            .with("sys/class/net/eth0/queues/tx-0/xps_cpus", "oops\n")
            .with("sys/class/net/eth0/device/numa_node", "-1\n");
        let nic = only(&fake);
        let receive = nic.receive.unwrap();
        assert_eq!(receive.iter().map(|queue| &*queue.name).collect::<Vec<_>>(), ["rx-0", "rx-2", "rx-10"]);
        assert!(receive.iter().all(|queue| queue.cores == Ok(vec![0, 1])));
        assert!(nic.send.unwrap()[0].cores.is_err());
        assert_eq!((nic.node, nic.state.as_deref()), (Ok(None), Ok("up")));
        assert!(nic.interrupts.is_err() && nic.features.is_err());
    }

    #[test]
    fn interrupts_are_those_of_the_device_or_called_after_the_interface() {
        let listed = FakeTree::new()
            .with("proc/interrupts", TABLE)
            .with("proc/irq/50/smp_affinity_list", "0-1\n")
            .with("proc/irq/50/effective_affinity_list", "1\n")
            .with("sys/class/net/ens5/device/msi_irqs/50", "msix\n");
        let nic = only(&listed);
        assert_eq!(numbers(&nic), [50]);
        let interrupts = nic.interrupts.unwrap();
        assert_eq!((&interrupts[0].cores, interrupts[0].place()), (&Ok(vec![0, 1]), Some(1)));
        let admin = "7: 0 PCI admin0\n8: 0 PCI i40e-admin0-TxRx-0\n9: 0 PCI i40e-admin0:misc\n";
        let drivers =
            FakeTree::new().with("proc/interrupts", admin).with("sys/class/net/admin0/device/x", "");
        assert_eq!(numbers(&only(&drivers)), [8]);
        let single = FakeTree::new()
            .with("proc/interrupts", "7: 0 PCI admin0\n")
            .with("sys/class/net/admin0/device/x", "");
        assert_eq!(numbers(&only(&single)), [7]);
        let named = FakeTree::new().with("proc/interrupts", TABLE).with("sys/class/net/eth1/device/x", "");
        assert_eq!(numbers(&only(&named)), [40]);
    }

    #[test]
    fn interrupts_of_virtio_belong_to_the_device_around_it() {
        let fake = FakeTree::new()
            .with("proc/interrupts", TABLE)
            .with("sys/devices/pci/virtio2/x", "")
            .linked("sys/class/net/eth0/device", "../../../devices/pci/virtio2");
        assert_eq!(numbers(&only(&fake)), [38, 39]);
    }

    #[test]
    fn features_are_on_or_off() {
        let text =
            "Features for eth0:\ntcp-segmentation-offload: on\n\ttx-tcp-ecn: off [fixed]\nodd: maybe\n";
        let fake = FakeTree::new().with("sys/class/net/eth0/device/x", "").with("ethtool-k/eth0", text);
        let features = only(&fake).features.unwrap();
        let expected = [("tcp-segmentation-offload".to_owned(), true), ("tx-tcp-ecn".to_owned(), false)];
        assert_eq!(features, BTreeMap::from(expected));
    }
}
