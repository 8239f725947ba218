//! The way of packets between interfaces and workers: queues, interrupts, steering, offloads.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    config::cores::ranges,
    doctor::{
        cpus::to_mask,
        finding::{Finding, Remedy, Subject},
        host::{Host, Interrupt, Nic},
        tree::quoted,
    },
};

const NICS: Subject =
    Subject { name: "interfaces", why: "packets should arrive on the cores that serve their connections" };
const QUEUES: Subject = Subject {
    name: "queues",
    why: "a queue is emptied by one core at a time: with fewer queues than workers some cores do the receiving for others",
};
const INTERRUPTS: Subject = Subject {
    name: "interrupts",
    why: "the core that takes a queue's interrupt does the receiving; when it is one for all queues, it is the limit of the host",
};
const SENDING: Subject = Subject {
    name: "xps",
    why: "when each core sends on a queue of its own, cores do not wait for each other's locks",
};
const RECEIVING: Subject = Subject {
    name: "rps",
    why: "it spreads receiving over cores in software, at the price of an interrupt between cores: worth it with too few \
          queues, redundant with one for each worker",
};
const OFFLOADS: Subject = Subject {
    name: "offloads",
    why: "without them the kernel handles each packet of a large transfer by itself",
};
const NODE: Subject =
    Subject { name: "numa node", why: "an interface of another node is further away for every packet" };
const IRQBALANCE: Subject = Subject {
    name: "irqbalance",
    why: "it moves interrupts about by itself and may undo what was placed by hand",
};

/// Queues and interrupts that are told one by one; of more there is a summary, and a script that helps.
const LISTED_MAX: usize = 8;

/// Features that carry large transfers.
const FEATURES: &[(&str, &str)] = &[
    ("tcp-segmentation-offload", "tso"),
    ("generic-segmentation-offload", "gso"),
    ("generic-receive-offload", "gro"),
];

/// All interfaces that carry traffic, and who else places interrupts.
pub(super) fn all(host: &Host) -> Vec<Finding> {
    let mut findings = vec![interfaces(host)];
    for nic in host.nics.iter().flatten().filter(|nic| is_in_use(nic)) {
        let told = [
            queues(host, nic),
            interrupts(host, nic),
            sending(host, nic),
            receiving(host, nic),
            offloads(nic),
            node(host, nic),
        ];
        findings.extend(told.into_iter().map(|finding| finding.of(&nic.name)));
    }
    findings.push(irqbalance(host));
    findings
}

/// Drivers that know nothing of their link say `unknown`.
fn is_in_use(nic: &Nic) -> bool {
    !nic.state.as_ref().is_ok_and(|state| matches!(state.as_str(), "down" | "lowerlayerdown" | "notpresent"))
}

fn interfaces(host: &Host) -> Finding {
    let nics = match &host.nics {
        Ok(nics) => nics,
        Err(unread) => return NICS.unread(unread),
    };
    let (used, down): (Vec<&Nic>, Vec<&Nic>) = nics.iter().partition(|nic| is_in_use(nic));
    let names = |nics: &[&Nic]| nics.iter().map(|nic| &*nic.name).collect::<Vec<_>>().join(", ");
    match (used.is_empty(), down.is_empty()) {
        (true, true) => NICS.unknown("no physical one to be seen: look from the host if this is a container"),
        (true, false) => NICS.unknown(format!("{}: down", names(&down))),
        (false, true) => NICS.ok(names(&used)),
        (false, false) => NICS.ok(format!("{}; down and not looked at: {}", names(&used), names(&down))),
    }
}

fn queues(host: &Host, nic: &Nic) -> Finding {
    let (receive, send) = match (&nic.receive, &nic.send) {
        (Ok(receive), Ok(send)) => (receive.len(), send.len()),
        (Err(unread), _) | (_, Err(unread)) => return QUEUES.unread(unread),
    };
    let Ok(cores) = &host.cores else {
        return QUEUES.unknown("it is not known how many workers there will be");
    };
    let (name, workers) = (&nic.name, cores.len());
    let found = format!("{receive} to receive, {send} to send, for {workers} workers");
    if receive >= workers && send >= workers {
        return QUEUES.ok(found);
    }
    let remedy = Remedy::new(
        format!(
            "ethtool -L {name} combined {workers}   # as many as `ethtool -l {name}` allows; with too few of them, rps"
        ),
        format!("ethtool -L {name} combined {receive}"),
    );
    QUEUES.advice(found, remedy)
}

/// Each interrupt on one chosen core, and no core with many more than another.
fn interrupts(host: &Host, nic: &Nic) -> Finding {
    let (list, cores) = match (&nic.interrupts, &host.cores) {
        (Ok(list), Ok(cores)) => (list, cores),
        (Err(unread), _) | (_, Err(unread)) => return INTERRUPTS.unread(unread),
    };
    if list.is_empty() {
        return INTERRUPTS.unknown("none in /proc/interrupts is called after it");
    }
    if let Some(unread) = list.iter().find_map(|interrupt| interrupt.cores.as_ref().err()) {
        return INTERRUPTS.unread(unread);
    }
    let mut places: BTreeMap<usize, usize> = BTreeMap::new();
    for core in list.iter().filter_map(Interrupt::place) {
        *places.entry(core).or_default() += 1;
    }
    let outside: Vec<usize> = places.keys().copied().filter(|core| !cores.contains(core)).collect();
    let most = places.values().copied().max().unwrap_or_default();
    let is_everywhere = list.iter().any(|interrupt| interrupt.place().is_none());
    let is_even = !is_everywhere && most <= list.len().div_ceil(cores.len().max(1));
    let found = placement(list, &places);
    if is_even && outside.is_empty() {
        return INTERRUPTS.ok(found);
    }
    let found = match outside.as_slice() {
        [] => format!("{found}: not one core for each"),
        outside => format!("{found}: cores {} have no worker", ranges(outside)),
    };
    INTERRUPTS.advice(found, spread(nic, list, cores))
}

/// `38 on 1, 39 on 0-3`, or of many how many each core has.
fn placement(list: &[Interrupt], places: &BTreeMap<usize, usize>) -> String {
    if list.len() > LISTED_MAX {
        let counts: Vec<String> = places.iter().map(|(core, count)| format!("{count} on {core}")).collect();
        return format!("{} interrupts, {}", list.len(), counts.join(", "));
    }
    let place = |interrupt: &Interrupt| {
        let cores = interrupt.cores.as_deref().unwrap_or_default();
        let place = interrupt.place().map_or_else(|| ranges(cores), |core| core.to_string());
        format!("{} on {place}", interrupt.number)
    };
    list.iter().map(place).collect::<Vec<_>>().join(", ")
}

/// One after the other over the cores.
fn spread(nic: &Nic, list: &[Interrupt], cores: &[usize]) -> Remedy {
    if list.len() > LISTED_MAX {
        return by_script("interrupts", nic, cores);
    }
    let write = |interrupt: &Interrupt, cores: String| {
        format!("echo {cores} > /proc/irq/{}/smp_affinity_list", interrupt.number)
    };
    let apply =
        list.iter().zip(cores.iter().cycle()).map(|(interrupt, core)| write(interrupt, core.to_string()));
    let undo =
        list.iter().map(|interrupt| write(interrupt, ranges(interrupt.cores.as_deref().unwrap_or_default())));
    Remedy::new(apply.collect::<Vec<_>>().join("; "), undo.collect::<Vec<_>>().join("; "))
}

/// What would be too long for a line.
fn by_script(option: &str, nic: &Nic, cores: &[usize]) -> Remedy {
    Remedy::new(format!("tuning/apply --{option} {}={}", nic.name, ranges(cores)), "tuning/undo")
}

/// With several queues, each chosen core has one to send on.
fn sending(host: &Host, nic: &Nic) -> Finding {
    let (queues, cores) = match (&nic.send, &host.cores) {
        (Ok(queues), Ok(cores)) => (queues, cores),
        (Err(unread), _) | (_, Err(unread)) => return SENDING.unread(unread),
    };
    if queues.len() < 2 {
        return SENDING.ok("one queue: nothing to choose");
    }
    let mut served = BTreeSet::new();
    for queue in queues {
        match &queue.cores {
            Ok(cores) => served.extend(cores.iter().copied()),
            Err(unread) => return SENDING.unread(unread),
        }
    }
    let without: Vec<usize> = cores.iter().copied().filter(|core| !served.contains(core)).collect();
    if without.is_empty() {
        return SENDING.ok("every worker's core has a queue to send on");
    }
    let found = format!("cores {} have no queue of their own to send on", ranges(&without));
    if queues.len() > LISTED_MAX {
        return SENDING.advice(found, by_script("xps", nic, cores));
    }
    let write = |queue: &str, mask: String| {
        format!("echo {mask} > /sys/class/net/{}/queues/{queue}/xps_cpus", nic.name)
    };
    let apply = queues.iter().enumerate().map(|(number, queue)| {
        let own: Vec<usize> = cores.iter().copied().skip(number).step_by(queues.len()).collect();
        write(&queue.name, to_mask(&own))
    });
    let undo =
        queues.iter().map(|queue| write(&queue.name, to_mask(queue.cores.as_deref().unwrap_or_default())));
    let remedy = Remedy::new(apply.collect::<Vec<_>>().join("; "), undo.collect::<Vec<_>>().join("; "));
    SENDING.advice(found, remedy)
}

/// Steering in software helps where there are too few queues, and nowhere else.
fn receiving(host: &Host, nic: &Nic) -> Finding {
    let (queues, cores) = match (&nic.receive, &host.cores) {
        (Ok(queues), Ok(cores)) => (queues, cores),
        (Err(unread), _) | (_, Err(unread)) => return RECEIVING.unread(unread),
    };
    let mut steered = Vec::new();
    for queue in queues {
        match &queue.cores {
            Ok(cores) if cores.is_empty() => {}
            Ok(_) => steered.push(queue),
            Err(unread) => return RECEIVING.unread(unread),
        }
    }
    let write = |queue: &str, mask: &str| {
        format!("echo {mask} > /sys/class/net/{}/queues/{queue}/rps_cpus", nic.name)
    };
    match (queues.len() >= cores.len(), steered.is_empty()) {
        (true, true) => RECEIVING.ok("off, and there is a queue for each worker"),
        (false, false) => RECEIVING.ok("on, and there are fewer queues than workers"),
        (true, false) => {
            let apply = steered.iter().map(|queue| write(&queue.name, "0"));
            let undo = steered
                .iter()
                .map(|queue| write(&queue.name, &to_mask(queue.cores.as_deref().unwrap_or_default())));
            let remedy =
                Remedy::new(apply.collect::<Vec<_>>().join("; "), undo.collect::<Vec<_>>().join("; "));
            RECEIVING.advice("on, though there is a queue for each worker", remedy)
        }
        (false, true) => {
            let line = |mask: &str| {
                queues.iter().map(|queue| write(&queue.name, mask)).collect::<Vec<_>>().join("; ")
            };
            let apply = format!("{}   # if there cannot be more queues", line(&to_mask(cores)));
            RECEIVING.advice("off, and there are fewer queues than workers", Remedy::new(apply, line("0")))
        }
    }
}

fn offloads(nic: &Nic) -> Finding {
    let features = match &nic.features {
        Ok(features) => features,
        Err(unread) => return OFFLOADS.unknown(format!("{unread}; look with `ethtool -k {}`", nic.name)),
    };
    let of = |(feature, short): &(&str, &'static str)| Some((*short, *features.get(*feature)?));
    let known: Vec<_> = FEATURES.iter().filter_map(of).collect();
    let off: Vec<&str> = known.iter().filter(|(_, is_on)| !is_on).map(|(short, _)| *short).collect();
    if known.is_empty() {
        return OFFLOADS.unknown(format!("`ethtool -k {}` says nothing of tso, gso and gro", nic.name));
    }
    if off.is_empty() {
        let on: Vec<&str> = known.iter().map(|(short, _)| *short).collect();
        return OFFLOADS.ok(format!("{} on", on.join(", ")));
    }
    let command = |to: &str| {
        let words = off.iter().map(|short| format!("{short} {to}")).collect::<Vec<_>>();
        format!("ethtool -K {} {}", nic.name, words.join(" "))
    };
    OFFLOADS.advice(format!("{} off", off.join(", ")), Remedy::new(command("on"), command("off")))
}

fn node(host: &Host, nic: &Nic) -> Finding {
    let (nodes, number) = match (&host.nodes, &nic.node) {
        (_, Ok(None)) => return NODE.ok("none: the host has one node, or the interface is as near to all"),
        (Ok(nodes), Ok(Some(number))) => (nodes, *number),
        (Err(unread), _) | (_, Err(unread)) => return NODE.unread(unread),
    };
    let (Ok(cores), Some(near)) = (&host.cores, nodes.iter().find(|node| node.number == number)) else {
        return NODE
            .unknown(format!("node {number}, and it is not known which of the chosen cores are on it"));
    };
    let far: Vec<usize> = cores.iter().copied().filter(|core| !near.cores.contains(core)).collect();
    if far.is_empty() {
        return NODE.ok(format!("node {number}, as all workers"));
    }
    let remedy = Remedy::cores(&near.cores, cores, None);
    NODE.advice(format!("node {number}, and workers on {} are not", ranges(&far)), remedy)
}

fn irqbalance(host: &Host) -> Finding {
    let is_placed =
        host.nics.iter().flatten().any(|nic| nic.receive.as_ref().is_ok_and(|queues| queues.len() > 1));
    match &host.irqbalance {
        Ok(false) => IRQBALANCE.ok("does not run (or not where it can be seen)"),
        Ok(true) if !is_placed => IRQBALANCE.ok("runs, and no interface has several queues to place"),
        Ok(true) => {
            let remedy = Remedy::new(
                "systemctl disable --now irqbalance   # and place the interrupts of all devices, or ban those of the \
                 interfaces with --banirq",
                "systemctl enable --now irqbalance",
            );
            IRQBALANCE.advice("runs", remedy)
        }
        Err(unread) => IRQBALANCE.unknown(quoted(&unread.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{
        finding::State,
        host::Node,
        judge::tests::{expect, healthy, nic, unread},
        tree::Reading,
    };

    fn with_cores(count: usize) -> Host {
        Host { cores: Ok((0..count).collect()), ..healthy() }
    }

    fn placed(cores: &[&[usize]]) -> Nic {
        let mut nic = nic("eth0", cores.len());
        for (interrupt, cores) in nic.interrupts.as_mut().unwrap().iter_mut().zip(cores) {
            interrupt.cores = Ok(cores.to_vec());
        }
        nic
    }

    #[test]
    fn interfaces_that_carry_traffic_are_looked_at() {
        let of = |states: &[&str]| {
            let nic = |(number, state): (usize, &&str)| Nic {
                state: Ok((*state).to_owned()),
                ..nic(&format!("e{number}"), 4)
            };
            all(&Host { nics: Ok(states.iter().enumerate().map(nic).collect()), ..healthy() })
        };
        expect(&of(&["up", "down"])[0], State::Ok, &["e0; down and not looked at: e1"]);
        expect(&of(&["up", "unknown"])[0], State::Ok, &["e0, e1"]);
        expect(&of(&["down"])[0], State::Unknown, &["e0: down"]);
        expect(&of(&[])[0], State::Unknown, &["container"]);
        assert_eq!((of(&["up", "up"]).len(), of(&["up", "down"]).len(), of(&[]).len()), (14, 8, 2));
        expect(&all(&Host { nics: unread(), ..healthy() })[0], State::Unknown, &["nonsense"]);
        assert!(of(&["up"]).iter().any(|finding| finding.subject == "e0 queues"));
    }

    #[test]
    fn queues_and_workers() {
        let host = healthy();
        expect(&queues(&host, &nic("eth0", 4)), State::Ok, &["4 to receive"]);
        expect(&queues(&host, &nic("eth0", 8)), State::Ok, &[]);
        let few = queues(&host, &nic("eth0", 2));
        expect(&few, State::Advice, &["-L eth0 combined 4", "-L eth0 combined 2"]);
        expect(&queues(&host, &Nic { send: unread(), ..nic("eth0", 4) }), State::Unknown, &[]);
        expect(&queues(&Host { cores: unread(), ..host }, &nic("eth0", 4)), State::Unknown, &[]);
    }

    #[test]
    fn interrupts_and_cores() {
        let host = with_cores(2);
        expect(&interrupts(&host, &placed(&[&[0], &[1], &[0], &[1]])), State::Ok, &["30 on 0, 31 on 1"]);
        let one = interrupts(&host, &placed(&[&[0], &[0]]));
        expect(&one, State::Advice, &["not one core", "echo 1 > /proc/irq/31/", "echo 0 > /proc/irq/31/"]);
        expect(&interrupts(&host, &placed(&[&[0, 1], &[0]])), State::Advice, &["echo 0-1 > /proc/irq/30/"]);
        expect(&interrupts(&host, &placed(&[&[0], &[5]])), State::Advice, &["cores 5 have no worker"]);
        expect(&interrupts(&host, &placed(&[])), State::Unknown, &["/proc/interrupts"]);
        let mut chosen = placed(&[&[0, 1], &[0, 1]]);
        for (interrupt, core) in chosen.interrupts.as_mut().unwrap().iter_mut().zip([1, 0]) {
            interrupt.chosen = Some(core);
        }
        expect(&interrupts(&host, &chosen), State::Ok, &["30 on 1, 31 on 0"]);
        let many = interrupts(&host, &placed(&[&[0usize][..]; 16]));
        expect(
            &many,
            State::Advice,
            &["16 interrupts, 16 on 0", "tuning/apply --interrupts eth0=0-1", "tuning/undo"],
        );
        let mut odd = placed(&[&[0], &[1]]);
        odd.interrupts.as_mut().unwrap()[1].cores = unread();
        expect(&interrupts(&host, &odd), State::Unknown, &["nonsense"]);
        expect(&interrupts(&host, &Nic { interrupts: unread(), ..nic("eth0", 1) }), State::Unknown, &[]);
    }

    #[test]
    fn queues_to_send_on() {
        let host = with_cores(4);
        expect(&sending(&host, &nic("eth0", 4)), State::Ok, &["every worker"]);
        expect(&sending(&host, &nic("eth0", 1)), State::Ok, &["one queue"]);
        let two = sending(&host, &nic("eth0", 2));
        expect(&two, State::Advice, &["cores 2-3", "echo 5 > ", "tx-0/xps_cpus; echo a > ", "echo 1 > "]);
        let many = sending(&with_cores(20), &nic("eth0", 16));
        expect(&many, State::Advice, &["cores 16-19", "tuning/apply --xps eth0=0-19"]);
        let mut odd = nic("eth0", 2);
        odd.send.as_mut().unwrap()[0].cores = unread();
        expect(&sending(&host, &odd), State::Unknown, &[]);
        expect(&sending(&host, &Nic { send: unread(), ..nic("eth0", 2) }), State::Unknown, &[]);
    }

    #[test]
    fn steering_in_software() {
        let of = |queues: usize, cores: Reading<Vec<usize>>| {
            let mut nic = nic("eth0", queues);
            nic.receive.as_mut().unwrap()[0].cores = cores;
            receiving(&with_cores(2), &nic)
        };
        expect(&of(2, Ok(vec![])), State::Ok, &["off"]);
        expect(&of(1, Ok(vec![0, 1])), State::Ok, &["on"]);
        expect(
            &of(2, Ok(vec![0, 1])),
            State::Advice,
            &["echo 0 > /sys/class/net/eth0/queues/rx-0", "echo 3 > "],
        );
        expect(
            &of(1, Ok(vec![])),
            State::Advice,
            &["echo 3 > /sys/class/net/eth0/queues/rx-0/rps_cpus", "echo 0 > "],
        );
        expect(&of(1, unread()), State::Unknown, &[]);
    }

    #[test]
    fn features() {
        let of = |names: &[(&str, bool)]| {
            let features = names.iter().map(|(name, is_on)| ((*name).to_owned(), *is_on)).collect();
            offloads(&Nic { features: Ok(features), ..nic("eth0", 1) })
        };
        expect(&offloads(&nic("eth0", 1)), State::Ok, &["tso, gso, gro on"]);
        let off =
            of(&[("tcp-segmentation-offload", false), ("generic-receive-offload", false), ("rx", false)]);
        expect(
            &off,
            State::Advice,
            &["tso, gro off", "ethtool -K eth0 tso on gro on", "ethtool -K eth0 tso off gro off"],
        );
        expect(&of(&[("rx", true)]), State::Unknown, &["says nothing"]);
        expect(
            &offloads(&Nic { features: unread(), ..nic("eth0", 1) }),
            State::Unknown,
            &["ethtool -k eth0"],
        );
    }

    #[test]
    fn nearness() {
        let nodes = vec![Node { number: 0, cores: vec![0, 1] }, Node { number: 1, cores: vec![2, 3] }];
        let host = Host { nodes: Ok(nodes), ..with_cores(2) };
        let of = |number| node(&host, &Nic { node: number, ..nic("eth0", 1) });
        expect(&of(Ok(Some(0))), State::Ok, &["as all workers"]);
        expect(&of(Ok(None)), State::Ok, &[]);
        expect(&of(Ok(Some(1))), State::Advice, &["--cores 2-3", "--cores 0-1"]);
        expect(&of(Ok(Some(7))), State::Unknown, &[]);
        expect(&of(unread()), State::Unknown, &[]);
    }

    #[test]
    fn who_else_places_interrupts() {
        let of = |runs, queues| {
            irqbalance(&Host { irqbalance: runs, nics: Ok(vec![nic("eth0", queues)]), ..healthy() })
        };
        expect(&of(Ok(false), 4), State::Ok, &[]);
        expect(&of(Ok(true), 1), State::Ok, &[]);
        expect(&of(Ok(true), 4), State::Advice, &["disable --now", "enable --now"]);
        expect(&of(unread(), 4), State::Unknown, &[]);
    }
}
