//! Keys of clusters that only some listeners look at.

use super::{CLUSTER, one};
use crate::config::tests::{checked, mistakes};

/// Keys that neither TCP nor UDP look at, in the cluster and in its circuit.
const OF_HTTP: [&str; 8] = [
    "retry_idempotent = true",
    "retry_response_timeout = true",
    "retry_idempotency_key = false",
    "circuit = { count_5xx = true }",
    "circuit = { outlier_ratio = 0.8 }",
    "circuit = { outlier_interval = \"10s\" }",
    "circuit = { outlier_requests = 100 }",
    "circuit = { outlier_max = 50 }",
];

/// Keys that UDP does not look at.
const OF_STREAMS: [&str; 6] = [
    "attempts = 3",
    "retry_pause = \"5ms\"",
    "retry_budget = 20",
    "retry_min_per_second = 3",
    "queue_max = 5",
    "queue_timeout = \"1s\"",
];

/// A cluster with this line, the eighth, for listeners of two modes.
fn with(first: &str, second: &str, line: &str) -> String {
    let listener = |bind: u16, mode: &str| format!("[[listener]]\nbind = \":{bind}\"\nmode = \"{mode}\"\n");
    let cluster = CLUSTER.replace("[[cluster]]\n", &format!("[[cluster]]\n{line}\nmax_requests = 9\n"));
    format!("{}{}{cluster}", listener(80, first), listener(81, second))
}

fn key(line: &str) -> String {
    let key = line.strip_prefix("circuit = { ").unwrap_or(line);
    format!("`{}` means nothing with mode", key.split(' ').next().unwrap())
}

#[test]
fn a_key_that_no_listener_of_a_cluster_looks_at_is_refused() {
    for line in OF_HTTP {
        one(&with("tcp", "tcp", line), 8, &[&key(line), "mode `tcp`, and", "it is for http"]);
        one(&with("udp", "tcp", line), 8, &[&key(line), "mode `udp` or `tcp`"]);
    }
    for line in OF_STREAMS {
        one(&with("udp", "udp", line), 8, &[&key(line), "mode `udp`, and", "it is for http and tcp"]);
        assert_eq!(mistakes(&with("udp", "tcp", line)), [] as [&str; 0]);
    }
    for line in OF_HTTP.into_iter().chain(OF_STREAMS) {
        assert_eq!(mistakes(&with("http", "tcp", line)), [] as [&str; 0]);
        assert_eq!(mistakes(&with("http", "udp", line)), [] as [&str; 0]);
    }
    let routed =
        with("tcp", "tcp", OF_HTTP[0]) + "[[listener]]\nbind = \":82\"\n[[route]]\ncluster = \"web\"\n";
    assert_eq!(mistakes(&routed), [] as [&str; 0]);
}

#[test]
fn a_dump_has_what_means_something_and_can_be_loaded() {
    let keys = |text: &str| {
        let dump = checked(text).to_toml();
        assert_eq!(checked(&dump).to_toml(), dump);
        assert!(checked(&dump).warnings().is_empty(), "{dump}");
        let has = |line: &&str| dump.contains(&format!("{} = ", key(line).split('`').nth(1).unwrap()));
        (OF_HTTP.iter().filter(|line| has(line)).count(), OF_STREAMS.iter().filter(|line| has(line)).count())
    };
    // The ratio has no default.
    assert_eq!(keys(&with("http", "udp", "")), (7, 6));
    assert_eq!(keys(&with("tcp", "udp", "")), (0, 6));
    assert_eq!(keys(&with("udp", "udp", "")), (0, 0));
    let dump = checked("[[listener]]\nbind = \":80\"\n[[cluster]]\nbalance = \"ring\"\nbackend = \"a:1\"\n")
        .to_toml();
    for line in [
        "hash_key = \"client-address\"",
        "max_requests = 0",
        "max_connections = 0",
        "queue_max = 1024",
        "queue_timeout = \"1s\"",
    ] {
        assert!(dump.lines().any(|written| written == line), "{dump} lacks {line}");
    }
}
