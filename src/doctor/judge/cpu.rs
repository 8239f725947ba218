//! The cores that were chosen: their frequency, their siblings, their memory.

use super::is_missing;
use crate::{
    config::cores::ranges,
    doctor::{
        finding::{Finding, Remedy, Subject},
        host::{Cpu, Host},
        tree::quoted,
    },
};

const GOVERNOR: Subject = Subject {
    name: "cpu governor",
    why: "a core that clocks up only under load answers the first requests of a burst slowly",
};
const SIBLINGS: Subject = Subject {
    name: "smt siblings",
    why: "two workers on the two threads of one core share its units of execution and caches: more throughput than one \
          worker, less than two, and a less even latency",
};
const NODES: Subject = Subject {
    name: "numa nodes",
    why: "memory and interfaces of another node are further away; workers share little, so one process for each node is \
          the better cut",
};

/// Drivers that treat `powersave` as a hint and go on choosing frequencies by load.
const SELF_GOVERNED: &[&str] = &["intel_pstate", "amd-pstate-epp"];

/// One governor for all chosen cores, and the right one.
pub(super) fn governor(host: &Host) -> Finding {
    let Some(first) = host.cpus.values().next() else {
        return GOVERNOR.unknown("it is not known which cores to look at");
    };
    let is_unscaled = |cpu: &Cpu| is_missing(&cpu.governor);
    if host.cpus.values().all(is_unscaled) {
        return GOVERNOR.unknown("none to be seen: a virtual machine, or the firmware chooses the frequency");
    }
    let mut slow = Vec::new();
    let mut is_lowest = false;
    for (core, cpu) in &host.cpus {
        match &cpu.governor {
            Ok(governor) if governor == "performance" => {}
            Ok(governor) => {
                slow.push(*core);
                let is_hint =
                    cpu.driver.as_ref().is_ok_and(|driver| SELF_GOVERNED.contains(&driver.as_str()));
                is_lowest |= governor == "powersave" && !is_hint;
            }
            Err(unread) => return GOVERNOR.unread(unread),
        }
    }
    let named = |core: &usize| host.cpus.get(core).and_then(|cpu| cpu.governor.as_deref().ok());
    let Some(governor) = slow.first().and_then(named).map(quoted) else {
        let driver = first.driver.as_deref().unwrap_or("unknown");
        return GOVERNOR.ok(format!("performance ({})", quoted(driver)));
    };
    let found = format!("{governor} on cores {}", ranges(&slow));
    let command = |name: &str| format!("cpupower -c {} frequency-set -g {name}", ranges(&slow));
    let remedy = Remedy::new(command("performance"), command(&governor));
    // Without a driver that knows better, this is the lowest frequency for good.
    if is_lowest { GOVERNOR.problem(found, remedy) } else { GOVERNOR.advice(found, remedy) }
}

/// No two workers on one core's threads.
pub(super) fn siblings(host: &Host) -> Finding {
    if host.cpus.is_empty() {
        return SIBLINGS.unknown("it is not known which cores to look at");
    }
    let (mut kept, mut doubled) = (Vec::new(), Vec::new());
    for (core, cpu) in &host.cpus {
        match &cpu.siblings {
            Ok(siblings) if siblings.iter().any(|sibling| kept.contains(sibling)) => doubled.push(*core),
            Ok(_) => kept.push(*core),
            Err(unread) => return SIBLINGS.unread(unread),
        }
    }
    if doubled.is_empty() {
        return SIBLINGS.ok("each worker has a core of its own");
    }
    let all: Vec<usize> = host.cpus.keys().copied().collect();
    let found = format!("{} share cores with {}", ranges(&doubled), ranges(&kept));
    SIBLINGS.advice(found, Remedy::cores(&kept, &all, Some("latency counts for more than throughput")))
}

/// All workers on one node.
pub(super) fn nodes(host: &Host) -> Finding {
    let (nodes, cores) = match (&host.nodes, &host.cores) {
        (Ok(nodes), Ok(cores)) => (nodes, cores),
        (missing, Ok(_)) if is_missing(missing) && host.kernel.is_ok() => {
            return NODES.ok("this kernel knows of one only");
        }
        (Err(unread), _) | (_, Err(unread)) => return NODES.unread(unread),
    };
    let on =
        |node: &[usize]| -> Vec<usize> { cores.iter().copied().filter(|core| node.contains(core)).collect() };
    let used: Vec<_> =
        nodes.iter().map(|node| (node.number, on(&node.cores))).filter(|(_, on)| !on.is_empty()).collect();
    let words = used.iter().map(|(number, cores)| format!("node {number}: {}", ranges(cores)));
    let found = words.collect::<Vec<_>>().join("; ");
    match used.iter().max_by_key(|(_, cores)| cores.len()) {
        None => NODES.unknown("the chosen cores are of no node that is known"),
        Some(_) if used.len() == 1 => NODES.ok(found),
        Some((number, most)) => {
            let remedy = Remedy::new(
                format!(
                    "numactl --membind={number} ringway --cores {}   # and a second one with the cores of the other node",
                    ranges(most)
                ),
                format!("ringway --cores {}", ranges(cores)),
            );
            NODES.advice(found, remedy)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{
        finding::State,
        host::Node,
        judge::tests::{expect, healthy, missing, unread},
        tree::Reading,
    };

    fn with(change: impl Fn(usize, &mut Cpu)) -> Host {
        let mut host = healthy();
        host.cpus.iter_mut().for_each(|(core, cpu)| change(*core, cpu));
        host
    }

    #[test]
    fn governors() {
        let of = |name: &str, driver: &str| {
            governor(&with(|core, cpu| {
                if core > 1 {
                    (cpu.governor, cpu.driver) = (Ok(name.to_owned()), Ok(driver.to_owned()));
                }
            }))
        };
        expect(&governor(&healthy()), State::Ok, &["performance", "acpi-cpufreq"]);
        expect(
            &of("schedutil", "acpi-cpufreq"),
            State::Advice,
            &["schedutil on cores 2-3", "cpupower -c 2-3"],
        );
        expect(&of("powersave", "intel_pstate"), State::Advice, &["frequency-set -g powersave"]);
        expect(&of("powersave", "acpi-cpufreq"), State::Problem, &["powersave"]);
        expect(&governor(&with(|_, cpu| cpu.governor = missing())), State::Unknown, &["virtual machine"]);
        expect(&governor(&with(|_, cpu| cpu.governor = unread())), State::Unknown, &["nonsense"]);
        expect(&governor(&with(|_, cpu| cpu.driver = unread())), State::Ok, &["unknown"]);
    }

    #[test]
    fn threads_of_one_core() {
        expect(&siblings(&healthy()), State::Ok, &[]);
        let paired = with(|core, cpu| cpu.siblings = Ok(vec![core & !1, core | 1]));
        expect(
            &siblings(&paired),
            State::Advice,
            &["1,3 share cores with 0,2", "--cores 0,2 ", "--cores 0-3"],
        );
        expect(&siblings(&with(|_, cpu| cpu.siblings = unread())), State::Unknown, &[]);
    }

    #[test]
    fn memory() {
        let of = |list: Reading<&[(usize, &[usize])]>| {
            let node = |(number, cores): &(usize, &[usize])| Node { number: *number, cores: cores.to_vec() };
            nodes(&Host { nodes: list.map(|list| list.iter().map(node).collect()), ..healthy() })
        };
        expect(&of(Ok(&[(0, &[0, 1, 2, 3]), (1, &[4, 5])])), State::Ok, &["node 0: 0-3"]);
        expect(
            &of(Ok(&[(0, &[0]), (1, &[1, 2, 3])])),
            State::Advice,
            &["membind=1", "--cores 1-3", "--cores 0-3"],
        );
        expect(&of(Ok(&[(0, &[9])])), State::Unknown, &[]);
        expect(&of(missing()), State::Ok, &[]);
        expect(&of(unread()), State::Unknown, &[]);
    }
}
