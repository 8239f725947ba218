//! When the kernel's hash is unkind: which worker should serve a fresh connection.
//!
//! Pure. The kernel spreads connections by a hash of their addresses, so a few long-lived ones can all land on
//! one core. A connection is handed over only when the difference is worth a move.

/// Connections by which a worker may exceed the least loaded one: a quarter of the latter's, at least four.
fn slack(least: u64) -> u64 {
    (least / 4).max(4)
}

/// The worker that should take a connection accepted by `me`: itself, or the least loaded one when `me` would
/// reach its number plus the slack. `loads` are the open connections of all workers. Without a hash there is no
/// slack: when `me` accepts for all, the least loaded one is as good as any.
pub fn choose(me: usize, for_all: bool, loads: impl Iterator<Item = u64>) -> usize {
    let (mut mine, mut least) = (0, None::<(usize, u64)>);
    for (worker, load) in loads.enumerate() {
        if worker == me {
            mine = load + 1;
        } else if least.is_none_or(|(_, lowest)| load < lowest) {
            least = Some((worker, load));
        }
    }
    match least {
        Some((worker, load)) if for_all && mine > load + 1 => worker,
        Some((worker, load)) if !for_all && mine >= load + slack(load) => worker,
        _ => me,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn eight_connections_on_two_workers_never_leave_more_than_five_on_one() {
        for pattern in 0u32..256 {
            let mut loads = [0u64; 2];
            for connection in 0..8 {
                let accepted_by = ((pattern >> connection) & 1) as usize;
                loads[choose(accepted_by, false, loads.iter().copied())] += 1;
            }
            assert!(loads.iter().all(|load| *load <= 5), "{pattern:08b}: {loads:?}");
        }
    }

    #[test]
    fn one_worker_keeps_everything() {
        assert_eq!(choose(0, false, [1000].into_iter()), 0);
    }

    #[test]
    fn who_accepts_for_all_gives_everybody_the_same() {
        let mut loads = [0u64; 3];
        for _ in 0..30 {
            loads[choose(1, true, loads.iter().copied())] += 1;
        }
        assert_eq!(loads, [10; 3]);
    }

    proptest! {
        #[test]
        fn skew_is_bounded_whatever_the_hash_does(accepted_by in prop::collection::vec(0usize..4, 0..2000)) {
            let mut loads = [0u64; 4];
            for me in accepted_by {
                loads[choose(me, false, loads.iter().copied())] += 1;
            }
            let least = *loads.iter().min().unwrap();
            prop_assert!(loads.iter().all(|load| *load < least + slack(least)));
        }
    }
}
