//! Circuits: what is written, and what the message must name.

use std::time::Duration;

use super::{CLUSTER, LISTENER, one, warnings};
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

/// Exactly one warning, of this line, with these words.
fn warned(content: &str, line: usize, tokens: &[&str]) {
    let found = warnings(content);
    let [only] = found.as_slice() else { panic!("{content}\n{found:#?}") };
    assert!(only.starts_with(&format!("a.toml:{line}: cluster.circuit.")), "{only}");
    assert!(tokens.iter().all(|token| only.contains(token)), "{only}");
}

#[test]
fn a_comparison_needs_a_ratio_and_others() {
    for line in ["outlier_interval = \"20s\"", "outlier_requests = 5", "outlier_max = 10"] {
        warned(&with(line), 7, &["does nothing while nobody is compared", "add `outlier_ratio`"]);
        assert!(warnings(&with(&format!("{line}\noutlier_ratio = 0.8"))).is_empty());
    }
    let only = with("outlier_ratio = 0.8").replace(", \"10.0.0.2:8080\"", "");
    warned(&only, 7, &["`outlier_ratio` does nothing in a cluster of one backend"]);
    // As it is in any case, which is how a dump has it.
    assert!(
        warnings(&with("outlier_interval = \"10s\"\noutlier_requests = 100\noutlier_max = 50")).is_empty()
    );
}

#[test]
fn an_ejection_needs_a_reason() {
    let lines = [
        ("window = \"5s\"", "`failures = 3`"),
        ("count_5xx = true", "`failures = 3`"),
        ("open = \"5s\"", "`outlier_ratio`"),
        ("open_max = \"5s\"", "`outlier_ratio`"),
        ("panic_threshold = 50", "`[cluster.health]`"),
    ];
    for (line, remedy) in lines {
        let none = with(&format!("{line}\nfailures = 0"));
        let one_backend = with(line).replace(", \"10.0.0.2:8080\"", "");
        for text in [&none, &one_backend] {
            let key = format!("`{}` does nothing here", line.split(' ').next().unwrap());
            warned(text, 7, &[&key, remedy]);
        }
        assert!(warnings(&with(line)).is_empty(), "{line}");
        assert!(warnings(&one_backend.replace(line, &format!("{line}\nfailures = 2"))).is_empty(), "{line}");
    }
    assert!(warnings(&with("panic_threshold = 50\nfailures = 0\n[cluster.health]")).is_empty());
    assert!(warnings(&with("open = \"5s\"\nfailures = 0\noutlier_ratio = 0.5")).is_empty());
    let written = "failures = 0\nwindow = \"10s\"\nopen = \"1s\"\nopen_max = \"30s\"\ncount_5xx = false\npanic_threshold = 0";
    assert!(warnings(&with(written)).is_empty(), "as it is in any case");
}
