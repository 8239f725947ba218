//! Health checks: what is written, and what the message must name.

use super::{CLUSTER, LISTENER, one, warnings};
use crate::config::tests::mistakes;

/// A configuration whose seventh line this is.
fn with(line: &str) -> String {
    format!("{LISTENER}{CLUSTER}[cluster.health]\n{line}\n")
}

fn wrong(line: &str, tokens: &[&str]) {
    one(&with(line), 7, tokens);
}

fn right(line: &str) {
    assert_eq!(mistakes(&with(line)), [] as [&str; 0], "{line}");
    assert_eq!(warnings(&with(line)), [] as [&str; 0], "{line}");
}

#[test]
fn numbers_have_ranges() {
    wrong("interval = \"0s\"", &["cluster.health.interval: ", "`0s` is out of range", "from `10ms`"]);
    wrong("timeout = \"0s\"", &["timeout: ", "from `1ms`"]);
    wrong("timeout = \"11m\"", &["timeout: ", "to `10m`"]);
    wrong("fast_interval = \"3s\"", &["fast_interval: ", "`3s` is out of range", "to `2s`"]);
    for (key, most) in [("rise", "100"), ("fall", "100")] {
        wrong(&format!("{key} = 0"), &[key, "`0` is out of range", "from 1 to 100"]);
        wrong(&format!("{key} = 101"), &[key, "`101` is out of range", most]);
    }
    wrong("jitter = 51", &["jitter: ", "from 0 to 50"]);
    wrong("port = 0", &["`0` is out of range", "1 to 65535"]);
    wrong("port = 65536", &["`65536` is out of range", "from 1 to 65535"]);
    wrong("address = \"web\"", &["the text `web`", "an IP address"]);
    right("interval = \"10ms\"\ntimeout = \"1ms\"\nrise = 100\nfall = 1\njitter = 0\nport = 1");
}

#[test]
fn words_have_suggestions() {
    wrong("probe = \"htpp\"", &["`htpp` is no kind of probe", "did you mean `http`?"]);
    wrong("start = \"upp\"", &["`upp` is no state", "did you mean `up`?"]);
    wrong("intervall = \"1s\"", &["no such key", "did you mean `interval`?"]);
}

#[test]
fn what_does_not_belong_to_the_kind_is_refused() {
    for line in [
        "method = \"HEAD\"",
        "host = \"a\"",
        "expect_status = 200",
        "expect_body = \"ok\"",
        "header = { a = \"b\" }",
    ] {
        wrong(line, &["belongs to `probe = \"http\"`", "this is a tcp probe"]);
        right(&format!("{line}\nprobe = \"http\""));
        right(&format!("{line}\npath = \"/\""));
    }
    wrong("path = \"/\"\nprobe = \"tcp\"", &["`path` belongs to"]);
    one(&with("path = \"/\"\nstep = [{ send = \"a\" }]"), 8, &["`step` belongs to `probe = \"script\"`"]);
    one(&with("probe = \"script\""), 6, &["the script has no step", "step = ["]);
}

#[test]
fn requests_cannot_be_split() {
    for path in ["", "health", "/a b", "/a\\r\\nX: y", "/a#b", "/ä", "*", "http://a/"] {
        wrong(&format!("path = \"{path}\""), &["is no path", "`/health`"]);
    }
    for host in ["", "a b", "a\\r\\nX: y", "a/b", "a:99999"] {
        wrong(&format!("host = \"{host}\"\nprobe = \"http\""), &["is no host"]);
    }
    for method in ["", "GET /", "G\\r\\nT", "CONNECT"] {
        wrong(&format!("method = \"{method}\"\nprobe = \"http\""), &["is no method"]);
    }
    let header = |entry: &str| format!("header = {{ {entry} }}\nprobe = \"http\"");
    wrong(&header("x = \"a\\r\\nb\""), &["control characters"]);
    wrong(&header("\"x y\" = \"a\""), &["`x y` is no name of a header field", "without blanks"]);
    wrong(&header("Host = \"a\""), &["write `host`"]);
    wrong(&header("content-length = \"5\""), &["`content-length`", "leave it out"]);
    right(
        "path = \"/health?x=%20&y=[1]\"\nhost = \"[::1]:80\"\nheader = { x-a = \"b c\" }\nmethod = \"OPTIONS\"",
    );
}

#[test]
fn answers_that_cannot_be() {
    let status = |value: &str| format!("expect_status = {value}\npath = \"/\"");
    for value in ["100", "600", "\"299-200\"", "\"2xx\"", "\"200-\"", "true", "[200, \"x\"]"] {
        wrong(&status(value), &["cluster.health.expect_status: ", "a status from 200 to 599"]);
    }
    right(&status("[200, \"204\", \"300-399\"]"));
    wrong("expect_body = \"\"\npath = \"/\"", &["every body has an empty text"]);
    wrong("expect_body = \"a\"\nmethod = \"HEAD\"\npath = \"/\"", &["an answer to HEAD has no body"]);
    wrong(
        "expect_body = \"a\"\nexpect_status = 204\npath = \"/\"",
        &["204 or 304 has no body", "expect `200` too"],
    );
    wrong("expect_body = \"a\"\nexpect_status = [304, \"204-204\"]\npath = \"/\"", &["has no body"]);
    right("expect_body = \"a\"\nexpect_status = [200, 204]\npath = \"/\"");
    wrong("method = \"get\"\npath = \"/\"", &["`get` would never fit", "write `GET`"]);
    let (most, more) = ("x".repeat(65536), "x".repeat(65537));
    let body = |text: &str| format!("expect_body = \"{text}\"\npath = \"/\"");
    wrong(&body(&more), &["the text has 65537 bytes", "through 65536 of an answer"]);
    right(&body(&most));
    let step = |text: &str| format!("step = [{{ expect = ['a', '{text}'] }}]");
    wrong(&step(&more), &["the text has 65537 bytes"]);
    right(&step(&most));
}

#[test]
fn scripts() {
    let step = |step: &str| format!("step = [{step}]");
    wrong(&step("{}"), &["exactly one of `send` and `expect`"]);
    wrong(&step("'PING'"), &["the text `PING` does not fit here", "a table"]);
    wrong(&step("{ send = 'a', expect = 'b' }"), &["exactly one of `send` and `expect`"]);
    wrong(&step("{ send = '' }"), &["at least one byte"]);
    wrong(&step("{ expect = ['a', ''] }"), &["at least one byte"]);
    wrong(&step(r"{ send = 'a\q' }"), &[r"`\q` is no escape", r"`\xNN`"]);
    wrong(&step(r"{ expect = '\x1' }"), &[r"`\x1` is no escape"]);
    wrong(&step(r#"{ send = "\xff" }"#), &[r"byte `\xff`", r"bytes `\xc3\xbf`", "single quotes"]);
    wrong(&step("{ sned = 'a' }"), &["did you mean `send`?"]);
    let many = vec!["{ send = 'a' }"; 65].join(", ");
    one(&with(&step(&many)), 6, &["65 steps", "the 64 that are possible"]);
    right(&step(r#"{ send = "PING\r\n" }, { expect = ['+PONG', '\x00'] }"#));
}

#[test]
fn places_to_probe() {
    let unix = |line: &str| format!("{LISTENER}[[cluster]]\nbackend = \"unix:/a\"\nhealth = {{ {line} }}\n");
    one(&unix("port = 80"), 5, &["`unix:/a` is a UNIX socket", "write `address` too"]);
    one(&unix("address = \"::1\""), 5, &["`unix:/a` is a UNIX socket", "write `port` too"]);
    assert!(mistakes(&unix("port = 80, address = \"::1\"")).is_empty() && mistakes(&unix("")).is_empty());
    let udp = |line: &str| {
        format!("{LISTENER}mode = \"udp\"\n[[cluster]]\nbackend = \"a:53\"\nhealth = {{ {line} }}\n")
    };
    let told = warnings(&udp(""));
    assert!(
        told.len() == 1 && told[0].contains("a.toml:6") && told[0].contains("write the `port`"),
        "{told:?}"
    );
    assert!(warnings(&udp("port = 8080, path = \"/\"")).is_empty());
}
