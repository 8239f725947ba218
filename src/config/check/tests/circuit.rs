//! Circuits: what is written, and what the message must name.

use std::time::Duration;

use super::{CLUSTER, LISTENER, one};
use crate::config::tests::checked;

/// A configuration whose seventh line this is.
fn with(line: &str) -> String {
    format!("{LISTENER}{CLUSTER}[cluster.circuit]\n{line}\n")
}

#[test]
fn an_ejection_is_no_longer_than_the_longest() {
    one(&with("open = \"40s\""), 7, &["circuit.open: ", "longer than `open_max`"]);
    let opens = |line: &str| {
        let circuit = &checked(&with(line)).draft.clusters[0].circuit;
        (circuit.open, circuit.open_max)
    };
    let (half, second) = (Duration::from_millis(500), Duration::from_secs(1));
    assert_eq!(opens("open_max = \"500ms\""), (half, half));
    assert_eq!(opens("open_max = \"5s\""), (second, Duration::from_secs(5)));
    assert_eq!(opens(""), (second, Duration::from_secs(30)));
}
