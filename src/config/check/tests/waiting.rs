//! Retries and queues that cannot be, or that take too long.

use super::{CLUSTER, LISTENER, warnings};

/// Warnings of a cluster with these lines, the first of which is the sixth.
fn told(lines: &str) -> Vec<String> {
    warnings(&format!("{LISTENER}{CLUSTER}{lines}\n"))
}

/// Exactly one warning, of this line, with these words.
fn warned(lines: &str, line: usize, tokens: &[&str]) {
    let found = told(lines);
    let [only] = found.as_slice() else { panic!("{lines}\n{found:#?}") };
    assert!(only.starts_with(&format!("a.toml:{line}: ")), "{only}");
    assert!(tokens.iter().all(|token| only.contains(token)), "{only}");
}

#[test]
fn retries_need_attempts() {
    for line in [
        "retry_pause = \"5ms\"",
        "retry_budget = 10",
        "retry_min_per_second = 1",
        "retry_idempotent = true",
        "retry_response_timeout = true",
        "retry_idempotency_key = true",
    ] {
        let key = format!("`{}` does nothing with `attempts = 1`", line.split(' ').next().unwrap());
        warned(&format!("{line}\nattempts = 1"), 6, &[&key]);
        assert!(told(&format!("{line}\nattempts = 2")).is_empty());
    }
    let usual =
        "retry_pause = \"10ms\"\nretry_budget = 20\nretry_min_per_second = 3\nretry_idempotent = false";
    assert!(told(&format!("attempts = 1\n{usual}")).is_empty(), "as it is in any case");
}

#[test]
fn retries_need_a_budget() {
    let none = "retry_budget = 0\nretry_min_per_second = 0";
    warned(none, 6, &["no retry is ever allowed", "`retry_budget` and `retry_min_per_second`"]);
    warned(&format!("{none}\nattempts = 5"), 8, &["no retry is ever allowed"]);
    assert!(told("retry_budget = 0").is_empty());
}

#[test]
fn a_late_response_needs_a_limit() {
    let never = "retry_response_timeout = true\n[defaults]\nresponse_timeout = \"0s\"";
    warned(never, 6, &["`retry_response_timeout` does nothing", "no response is ever late"]);
    let route =
        |limit: &str| format!("{never}\n[[route]]\ncluster = \"web\"\nresponse_timeout = \"{limit}\"");
    assert!(told(&route("5s")).is_empty());
    warned(&route("0s"), 6, &["no response is ever late"]);
}

#[test]
fn a_line_needs_limits_and_places() {
    warned("queue_max = 5", 6, &["nobody ever waits here", "`max_requests`"]);
    warned("queue_timeout = \"2s\"", 6, &["nobody ever waits here"]);
    assert!(told("queue_max = 1024\nqueue_timeout = \"1s\"").is_empty(), "as it is in any case");
    let limited = "max_requests = 1\n[defaults]\nconnect_timeout = \"500ms\"";
    warned(
        &format!("queue_max = 0\nqueue_timeout = \"2s\"\n{limited}"),
        7,
        &["`queue_timeout` does nothing with `queue_max = 0`"],
    );
    assert!(told(&format!("queue_max = 0\n{limited}")).is_empty());
}

#[test]
fn all_that_is_waited_for_is_counted() {
    let defaults = "[defaults]\nconnect_timeout = \"5s\"";
    let sum = |keys: &str| format!("attempts = 5\nretry_pause = \"2s\"\n{keys}\n{defaults}");
    // Five connects of 5 s and four pauses of 2 s.
    warned(
        &sum(""),
        6,
        &["5 attempts", "`retry_pause` of `2s`", "up to `33s`", "`response_timeout` of `30s`"],
    );
    warned(
        &sum("max_requests = 1\nqueue_timeout = \"7s\""),
        6,
        &["a `queue_timeout` of `7s`", "up to `40s`"],
    );
    warned(&sum("retry_response_timeout = true"), 6, &["5 late responses", "up to `183s`"]);
    assert!(told("attempts = 5\nretry_pause = \"1s\"\n[defaults]\nconnect_timeout = \"5s\"").is_empty());
    assert!(told("retry_response_timeout = true\nattempts = 3").is_empty(), "that was asked for");
}

/// A place that a hanging connect holds comes free too late for those who wait for it.
#[test]
fn a_connect_is_not_waited_for_longer_than_a_place_in_line() {
    let connect = |time: &str| format!("[defaults]\nconnect_timeout = \"{time}\"");
    let told_of = ["`queue_timeout` of `1s`", "`connect_timeout` of `2s`", "a connect_timeout below it"];
    warned(&format!("max_requests = 1\n{}", connect("2s")), 8, &told_of);
    warned(&format!("max_connections = 1\n{}", connect("2s")), 8, &told_of);
    // Whoever wrote the other one is told there.
    let shorter = ["`queue_timeout` of `500ms`", "`connect_timeout` of `1s`"];
    warned("max_requests = 1\nqueue_timeout = \"500ms\"", 7, &shorter);
    warned(&format!("queue_timeout = \"500ms\"\nmax_requests = 1\n{}", connect("1s")), 6, &shorter);
    assert!(told(&format!("max_requests = 1\n{}", connect("1s"))).is_empty(), "no longer than it");
    assert!(told(&connect("2s")).is_empty(), "nobody ever waits");
    assert!(told("max_requests = 1\nqueue_timeout = \"2s\"").is_empty());
}
