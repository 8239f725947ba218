//! The tables of `ring` and `maglev` are built beside the workers, which are only handed them.

use crate::support::{Backend, Configured};

/// Enough tables to see in processor time who has built them.
const CLUSTERS: usize = 30;
const BACKENDS: usize = 100;

/// A small cluster that is asked, and beside it large ones that are balanced like this.
fn text(backend: &Backend, balance: &str) -> String {
    let large = (0..CLUSTERS).map(|cluster| {
        let crowd: Vec<_> = (1..=BACKENDS).map(|number| format!("10.0.{cluster}.{number}:80")).collect();
        format!("[[cluster]]\nname = \"large-{cluster}\"\nbalance = \"{balance}\"\nbackend = {crowd:?}\n")
    });
    format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\ncluster = \"small\"\n[[cluster]]\nname = \"small\"\nbackend = {:?}\n{}",
        backend.place,
        large.collect::<String>()
    )
}

/// Not a matter of how fast anything is: the two are compared with each other, and they are far apart. A worker that built
/// the tables itself would have most of the work.
#[test]
fn workers_are_handed_their_tables_and_do_not_build_them() {
    let backend = Backend::well_behaved("a");
    let ringway = Configured::start(2, &text(&backend, "round-robin"));
    for balance in ["ring", "maglev"] {
        let spent = || ["worker-", "ringway"].map(|name| ringway.processor_time_of(name));
        let before = spent();
        ringway.reload(&text(&backend, balance));
        let after = spent();
        let [workers, control] = [after[0] - before[0], after[1] - before[1]];
        assert!(!workers.is_zero(), "{balance}: the workers have heard of it");
        assert!(workers * 5 < control, "{balance}: workers {workers:?}, control {control:?}");
        assert_eq!(ringway.get("/").text(), "a");
    }
}
