//! The workers of one process: each on a core of its own.

use crate::support::kernel::allowed_cores;
use crate::support::ringway::Options;
use crate::support::{Backend, Ringway};

#[test]
fn every_worker_is_pinned_to_the_core_it_was_given() {
    let cores = allowed_cores();
    let backend = Backend::well_behaved("a");
    let backwards: Vec<_> = cores.iter().copied().rev().take(2).collect();
    for cores in [&cores[..1], &cores[..cores.len().min(2)], &backwards] {
        let list: Vec<_> = cores.iter().map(usize::to_string).collect();
        let mut command = Options::bare();
        command.args(["--listen", "127.0.0.1:0", "--backends", &backend.place, "--cores", &list.join(",")]);
        let ringway = Ringway::spawn(command);
        let mut allowed = ringway.cores_of_threads();
        allowed.retain(|name, _| name.starts_with("worker-"));
        let names = (0..cores.len()).map(|worker| format!("worker-{worker}"));
        assert_eq!(allowed, names.zip(list).collect());
    }
}
