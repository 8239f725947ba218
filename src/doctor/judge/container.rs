//! What the groups around the process leave it: time and cores.

use crate::{
    config::cores::ranges,
    doctor::{
        finding::{Finding, Remedy, Subject},
        host::Host,
    },
};

const QUOTA: Subject = Subject {
    name: "cpu quota",
    why: "a worker that has used its group's time is stopped until the next period, with all of its connections",
};
const ALLOWED: Subject = Subject {
    name: "allowed cores",
    why: "a worker is pinned to its core and cannot start on one that the process may not use",
};

/// A quota below the number of workers stops them all.
pub(super) fn quota(host: &Host) -> Finding {
    let quota = match &host.quota {
        Ok(Some(quota)) => quota,
        Ok(None) => return QUOTA.ok("none"),
        Err(unread) => return QUOTA.unread(unread),
    };
    let (cores, workers) = (quota.cores(), host.workers());
    let found = format!("{cores:.2} cores for {workers} workers ({})", quota.place);
    if cores >= workers as f64 {
        return QUOTA.ok(found);
    }
    let now = cores * 100.0;
    let remedy = Remedy::new(
        format!(
            "systemctl set-property ringway.service CPUQuota={}%   # in a container --cpus {workers}; or fewer --cores",
            workers * 100
        ),
        format!("systemctl set-property ringway.service CPUQuota={now:.0}%"),
    );
    QUOTA.problem(found, remedy)
}

/// The cores of workers have to be among those of the process.
pub(super) fn allowed(host: &Host) -> Finding {
    let (cores, allowed) = match (&host.cores, &host.allowed) {
        (Ok(cores), Ok(allowed)) => (cores, allowed),
        (Err(unread), _) | (_, Err(unread)) => return ALLOWED.unread(unread),
    };
    let (inside, outside): (Vec<usize>, Vec<usize>) = cores.iter().partition(|core| allowed.contains(core));
    if outside.is_empty() {
        return ALLOWED.ok(format!("{}, workers on {}", ranges(allowed), ranges(cores)));
    }
    let found = format!("{}, and not {} of --cores", ranges(allowed), ranges(&outside));
    let usable = if inside.is_empty() { allowed } else { &inside };
    ALLOWED.problem(found, Remedy::cores(usable, cores, None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{
        finding::State,
        host::Quota,
        judge::tests::{expect, healthy, unread},
        tree::Reading,
    };

    #[test]
    fn quotas() {
        let of = |quota: Reading<Option<u64>>| {
            let quota = quota.map(|quota| {
                quota.map(|quota_us| Quota { place: "/cpu.max".to_owned(), quota_us, period_us: 100_000 })
            });
            super::quota(&Host { quota, ..healthy() })
        };
        expect(&of(Ok(None)), State::Ok, &["none"]);
        expect(&of(Ok(Some(400_000))), State::Ok, &["4.00 cores for 4 workers"]);
        expect(&of(Ok(Some(399_999))), State::Problem, &["CPUQuota=400%", "--cpus 4"]);
        expect(&of(Ok(Some(150_000))), State::Problem, &["1.50 cores", "CPUQuota=150%"]);
        expect(&of(unread()), State::Unknown, &[]);
    }

    #[test]
    fn cores() {
        let of = |cores: &[usize], allowed: Reading<Vec<usize>>| {
            super::allowed(&Host { cores: Ok(cores.to_vec()), allowed, ..healthy() })
        };
        expect(&of(&[0, 1], Ok(vec![0, 1, 2])), State::Ok, &["0-2", "0-1"]);
        expect(&of(&[1, 5], Ok(vec![0, 1, 2])), State::Problem, &["not 5", "--cores 1\"", "--cores 1,5"]);
        expect(&of(&[5], Ok(vec![0, 1])), State::Problem, &["--cores 0-1"]);
        expect(&of(&[0], unread()), State::Unknown, &[]);
        expect(&super::allowed(&Host { cores: unread(), ..healthy() }), State::Unknown, &[]);
    }
}
