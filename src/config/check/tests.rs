//! One row for each check: what is written, and what the message must name.

mod circuit;
mod health;
mod modes;
mod names;
mod stickiness;
mod waiting;

use crate::config::tests::{checked, mistakes};

const LISTENER: &str = "[[listener]]\nbind = \":80\"\n";
const CLUSTER: &str = "[[cluster]]\nname = \"web\"\nbackend = [\"10.0.0.1:8080\", \"10.0.0.2:8080\"]\n";
const OTHER: &str = "[[cluster]]\nname = \"api\"\nbackend = \"10.0.0.3:8080\"\n";

/// Fails unless `content` has exactly one mistake, on this line, that names all of these.
pub(super) fn one(content: &str, line: usize, tokens: &[&str]) {
    let found = mistakes(content);
    let [only] = found.as_slice() else { panic!("{content}\n{found:#?}") };
    let place = if line == 0 { "a.toml: ".to_owned() } else { format!("a.toml:{line}: ") };
    assert!(only.starts_with(&place), "{only}\n{content}");
    for token in tokens {
        assert!(only.contains(token), "`{only}` lacks `{token}`\n{content}");
    }
}

fn warnings(content: &str) -> Vec<String> {
    checked(content).warnings().iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_missing_altogether() {
    one(CLUSTER, 0, &["there is no listener", "`[[listener]]`"]);
    one("[[listener]]\nbind = \":80\"\nmode = \"tcp\"\n", 0, &["there is no cluster", "`[[cluster]]`"]);
    one(&format!("[[listener]]\n{CLUSTER}"), 1, &["listener: ", "`bind` is missing"]);
    one(&format!("{LISTENER}[[cluster]]\n"), 3, &["cluster: ", "no backend", "`backend = ["]);
    one(&format!("{LISTENER}[[cluster]]\nbackend = []\n"), 4, &["cluster.backend: ", "the list is empty"]);
    one(&format!("{LISTENER}[[cluster]]\nbackend = [{{ weight = 2 }}]\n"), 4, &["`address` is missing"]);
    one(&format!("{LISTENER}{CLUSTER}[admin]\n"), 6, &["admin: ", "`bind` is missing"]);
    assert_eq!(mistakes("").len(), 2);
}

#[test]
fn unknown_keys_and_wrong_kinds() {
    let both = format!("{LISTENER}{CLUSTER}");
    one(&format!("{both}[defautls]\nvia = true\n"), 6, &["defautls: ", "did you mean `defaults`?"]);
    one(
        &format!("{both}[defaults]\nconect_timeout = \"1s\"\n"),
        7,
        &["defaults.conect_timeout: ", "`connect_timeout`"],
    );
    one(&format!("{both}[defaults]\ncolour = 1\n"), 7, &["defaults.colour: ", "known are connect_timeout"]);
    one("[[listener]]\nbnid = \":80\"\n[[cluster]]\nbackend = \"a:1\"\n", 2, &["did you mean `bind`?"]);
    one(&format!("{both}[defaults]\nconnect_timeout = 5\n"), 7, &["the number `5`", "\"25s\""]);
    one(&format!("{both}[defaults]\nconnect_timeout = \"5\"\n"), 7, &["the text `5`", "\"25s\""]);
    one(&format!("{both}[defaults]\nvia = \"yes\"\n"), 7, &["`yes`", "without quotes"]);
    one(&format!("{both}[log]\nformat = \"jsn\"\n"), 7, &["log.format: ", "did you mean `json`?"]);
    one(&format!("{both}[runtime]\ncores = \"0-9\"\n"), 7, &["core 4", "allowed: 0-3"]);
    one(&format!("[listener]\nbind = \":80\"\n{CLUSTER}"), 1, &["`[[listener]]` with two brackets"]);
    one(&format!("{both}[defaults]\nvia = \"${{GONE}}\"\n"), 7, &["`GONE`", "`${GONE:-default}`"]);
    one(&format!("{both}[defaults\n"), 6, &["no valid TOML"]);
    one(
        &format!("{both}[defaults]\nvia = true\nvia = false\n"),
        8,
        &["no valid TOML", "the key `via` is there already", "remove one"],
    );
    one(&format!("{LISTENER}[[cluster]]\nname = \"a b\"\nbackend = \"a:1\"\n"), 4, &["`a b` is no name"]);
    one(&format!("{both}[log]\nformat = 1979-05-27\n"), 7, &["a date"]);
    one(&format!("{both}[[route]]\nrespond = {{ status = 99999999999999999999 }}\n"), 7, &["too large"]);
}

#[test]
fn long_texts_are_cut_and_lists_are_told_once() {
    let (both, long) = (format!("{LISTENER}{CLUSTER}"), "x".repeat(50_000));
    for line in [
        format!("[defaults]\n{long} = 1\n"),
        format!("[{long}]\n"),
        format!("[log]\nformat = \"{long}\"\n"),
        format!("[log]\nformat = \"${{{long}}}\"\n"),
        format!("[admin]\nbind = \"{long}\"\n"),
        format!("[runtime]\ncores = \"{long}\"\n"),
        format!("[[route]]\nrespond = {{ status = {} }}\n", "9".repeat(50_000)),
        format!("[[route]]\nrespond = {{}}\ndeny = \"{long}\"\n"),
        format!("[[cluster]]\nname = \"other\"\nbackend = \"{long}\"\n"),
    ] {
        let found = mistakes(&(both.clone() + &line));
        assert!(found.iter().all(|mistake| mistake.len() < 600), "{found:?}");
        assert!(!found.is_empty());
    }
    let unknown: String = (0..500).map(|number| format!("q{number} = 1\n")).collect();
    let found = mistakes(&format!("{both}[defaults]\n{unknown}vai = true\n[log]\nq = 1\n"));
    assert_eq!(found.len(), 502);
    assert!(
        found[0].contains("defaults.q0: there is no such key: known are connect_timeout"),
        "{}",
        found[0]
    );
    assert!(found[1..500].iter().all(|told| told.ends_with("those that are known are listed above")));
    assert!(found[500].contains("did you mean `via`?") && found[501].contains("known are format"));
}

#[test]
fn durations_out_of_range() {
    let with = |line: &str| format!("{LISTENER}{CLUSTER}[defaults]\n{line}\n");
    for key in [
        "connect_timeout",
        "head_timeout",
        "client_idle_timeout",
        "upstream_idle_timeout",
        "body_idle_timeout",
        "tunnel_idle_timeout",
        "udp_idle_timeout",
    ] {
        one(&with(&format!("{key} = \"0s\"")), 7, &[key, "`0s` is out of range", "from `1ms`"]);
    }
    one(&with("head_timeout = \"25h\""), 7, &["`25h` is out of range", "to `24h`"]);
    assert!(mistakes(&with("response_timeout = \"0s\"\ntunnel_idle_timeout = \"7d\"")).is_empty());
    let runtime = |text: &str| format!("{LISTENER}{CLUSTER}[runtime]\nshutdown_timeout = \"{text}\"\n");
    assert!(mistakes(&runtime("0s")).is_empty());
    one(&runtime("2d"), 7, &["runtime.shutdown_timeout: ", "`48h` is out of range"]);
}

#[test]
fn listeners() {
    let two = |second: &str| format!("{LISTENER}[[listener]]\n{second}\n{CLUSTER}");
    one(
        &two("bind = \":80\""),
        4,
        &["listener.bind: ", "`0.0.0.0:80` is bound twice", "`default` (a.toml:2)"],
    );
    one(&two("bind = \"127.0.0.1:80\""), 4, &["overlaps with `0.0.0.0:80`", "a.toml:2"]);
    one(&two("bind = [\":81\", \"127.0.0.1:81\"]"), 4, &["overlaps with `0.0.0.0:81`"]);
    assert!(mistakes(&two("bind = [\"[::]:80\", \"[::1]:81\", \":0\", \":0\"]")).is_empty());
}

#[test]
fn listeners_and_what_goes_with_their_mode() {
    let with = |line: &str| format!("{LISTENER}{line}\n{CLUSTER}");
    one(&with("down_text = \"x\""), 3, &["`down_text` does not go with mode `http`", "leave it out"]);
    one(&with("mode = \"udp\"\ndefer_accept = true"), 4, &["`defer_accept` does not go with mode `udp`"]);
    one(&with("socket_mode = \"660\""), 3, &["`socket_mode` is for UNIX sockets"]);
    one(&with("socket_mode = 660"), 3, &["the number `660`", "octal"]);
    one(&with("cluster = \"wbe\""), 3, &["there is no cluster `wbe`", "did you mean `web`?"]);
    one(&with("cluster = \"unlike\""), 3, &["there is no cluster `unlike`", "there are web"]);
    one(&with("accept_proxy = [\"10.0.0.0/8\", \"lan\"]"), 3, &["`lan` is not a network"]);
    one(&format!("{LISTENER}{CLUSTER}{OTHER}"), 1, &["leads nowhere", "cluster = "]);
    one(
        &format!("{LISTENER}{CLUSTER}[admin]\nbind = \"127.0.0.1:80\"\n"),
        7,
        &["admin.bind: ", "taken by listener `default`"],
    );
    one(&format!("{LISTENER}{CLUSTER}[admin]\nbind = \"unix:/a\"\n"), 7, &["an IP address and a port"]);
    let named = "[[listener]]\nname = \"a\"\nbind = \":80\"\n[[listener]]\nname = \"a\"\nbind = \":81\"\n";
    one(&format!("{named}{CLUSTER}"), 5, &["listener.name: ", "another listener `a` (a.toml:2)"]);
}

#[test]
fn clusters_and_backends() {
    let with = |line: &str| format!("{LISTENER}[[cluster]]\n{line}\n");
    one(
        &format!("{LISTENER}cluster = \"web\"\n{CLUSTER}{CLUSTER}"),
        8,
        &["another cluster `web` (a.toml:5)"],
    );
    one(
        &format!("{LISTENER}cluster = \"web\"\n{CLUSTER}[[cluster]]\nbackend = \"a:1\"\n"),
        7,
        &["`name` is missing"],
    );
    one(&with("backend = [\"a:1\", \"A.:1\"]"), 4, &["`A.:1` is named twice", "`weight`"]);
    one(
        &with("backend = [{ name = \"x\", address = \"a:1\" }, { name = \"x\", address = \"b:1\" }]"),
        4,
        &["another backend `x`"],
    );
    one(
        &with("backend = [\"a:1;weight=0\", { address = \"b:1\", weight = 0 }]"),
        4,
        &["every backend has the weight 0"],
    );
    one(
        &with("backend = [{ address = \"b:1;weight=2\", weight = 3 }]"),
        4,
        &["cluster.backend.weight", "write it once"],
    );
    one(&with("backend = [{ address = \"b:1\", weight = 70000 }]"), 4, &["`70000`", "0 to 65535"]);
    one(&with("backend = \"b\""), 4, &["the port is missing"]);
    let lent = checked(&with("backend = [\"b:1\", { address = \"a:1\", name = \"b:1\" }]"));
    assert_eq!(&*lent.draft.clusters[0].backends[0].name, "b:1-2");
    one(&with("backend = \"tcp://b:1\""), 4, &["`tcp://b:1` does not fit", "`http://b:1` or `b:1`"]);
    one(
        &with("backend = \"a:1\"\nbalance = \"fairest\""),
        5,
        &["`fairest` is no way to balance", "\"maglev\""],
    );
    one(
        &with("backend = \"a:1\"\nhash_key = \"path\""),
        5,
        &["`hash_key` means nothing with `balance = \"round-robin\"`"],
    );
    one(&with("backend = \"a:1\"\nbounded_load = 1.5"), 5, &["`bounded_load` means nothing"]);
    one(&with("backend = \"a:1\"\nslow_start = \"2h\""), 5, &["`2h` is out of range", "`1h`"]);
    for balance in ["ring", "maglev", "ip-hash", "first"] {
        let slow = |time: &str| {
            with(&format!("backend = \"a:1\"\nbalance = \"{balance}\"\nslow_start = \"{time}\""))
        };
        one(&slow("5s"), 6, &["`slow_start` means nothing", balance, "`least-connections`"]);
        assert!(mistakes(&slow("0s")).is_empty(), "none is none");
    }
    one(&with("backend = \"a:1\"\nsend_proxy = \"v3\""), 5, &["`v3` is no version"]);
    one(&with("backend = \"a:1\"\nsource = \"eth0\""), 5, &["`eth0`", "an IP address without a port"]);
}

#[test]
fn every_backend_that_is_possible_is_compared_with_all_the_others() {
    let many: Vec<_> =
        (0..16_000).map(|number| format!("\"10.0.{}.{}:1\"", number / 250, number % 250)).collect();
    let with = |more: &str| format!("{LISTENER}[[cluster]]\nbackend = [{}{more}]\n", many.join(","));
    assert_eq!(mistakes(&with("")), [] as [&str; 0]);
    one(&with(",\n\"10.0.63.249:1\""), 5, &["`10.0.63.249:1` is named twice"]);
    one(&with(",\n\"[::ffff:1]:1\", \"[0::ffff:1]:1\""), 5, &["is named twice"]);
}

#[test]
fn routes_and_what_they_ask_for() {
    let with = |line: &str| format!("{LISTENER}{CLUSTER}[[route]]\ncluster = \"web\"\n{line}\n");
    one(&with("path = \"/a\"\npath_prefix = \"/b\""), 6, &["`path`, `path_prefix` and `path_regex`"]);
    one(&with("path = \"a\""), 8, &["`a` is no path", "begins with `/`"]);
    one(&with("path_prefix = \"/a?b\""), 8, &["without a query"]);
    one(&with("path_regex = \"(\""), 8, &["no regular expression", "unclosed group"]);
    one(&with("host = \"a:80\""), 8, &["has a port", "write `a`"]);
    one(&with("host = \"*\""), 8, &["`host` is left out"]);
    one(&with("host = \"a.*.b\""), 8, &["no host", "`*.example.com`"]);
    one(&with("host = [\"a\", \"A\"]"), 8, &["named twice"]);
    one(&with("host = \"bücher.de\""), 8, &["beyond ASCII", "xn--"]);
    one(&with("method = \"get\""), 8, &["write `GET`"]);
    one(&with("method = \"G T\""), 8, &["no method"]);
    one(&with("header = { \"a b\" = \"1\" }"), 8, &["`a b` is no name of a header field", "without blanks"]);
    one(&with("header = { a = false }"), 8, &["`true` for a field"]);
    one(&with("header = { a = \"1\", A = \"2\" }"), 8, &["named twice"]);
    one(&with("listener = \"defautl\""), 8, &["there is no listener `defautl`", "`default`"]);
    one(&with("response_timeout = \"25h\""), 8, &["out of range"]);
    assert!(mistakes(&with("host = [\"[::1]\", \"*.a.b\", \"a_b\"]")).is_empty());
}

#[test]
fn routes_and_what_they_do() {
    let with = |line: &str| format!("{LISTENER}{CLUSTER}{OTHER}[[route]]\n{line}\n");
    one(&with("path = \"/a\""), 9, &["exactly one of `cluster`, `split`, `redirect` and `respond`"]);
    one(&with("cluster = \"web\"\nrespond = {}"), 9, &["exactly one of"]);
    one(&with("cluster = \"wbe\""), 10, &["route.cluster: ", "did you mean `web`?"]);
    one(&with("split = [{ cluster = \"web\", weight = 0 }]"), 10, &["every cluster has the weight 0"]);
    one(
        &with("split = [{ cluster = \"web\" }, { cluster = \"web\" }]"),
        10,
        &["named twice", "add the weights up"],
    );
    one(&with("split = [{ weight = 1 }, { cluster = \"api\" }]"), 10, &["`cluster` is missing"]);
    one(&with("redirect = {}"), 10, &["where the client is already"]);
    one(&with("redirect = { path = \"/\", status = 200 }"), 10, &["200 is no status of a redirect"]);
    one(&with("redirect = { scheme = \"ftp\" }"), 10, &["`http` or `https`"]);
    one(&with("redirect = { host = \"a b\" }"), 10, &["no host"]);
    one(&with("redirect = { prefix = \"/b\" }"), 10, &["`path_prefix`"]);
    one(&with("respond = { status = 100 }"), 10, &["`100` is out of range", "from 200 to 599"]);
    one(&with("respond = { status = 204, body = \"x\" }"), 10, &["no body"]);
    one(&with("cluster = \"web\"\nstrip_prefix = true"), 11, &["needs a `path_prefix`"]);
    one(&with("respond = {}\npath_prefix = \"/a\"\nstrip_prefix = true"), 12, &["go to a cluster"]);
    one(&with("respond = {}\nresponse_timeout = \"1s\""), 11, &["go to a cluster"]);
    one(&with("respond = {}\nset_request_header = { a = \"1\" }"), 9, &["go to a cluster only"]);
    one(
        &with("cluster = \"web\"\npath_prefix = \"/a\"\nstrip_prefix = true\nreplace_prefix = \"/b\""),
        13,
        &["not both"],
    );
    one(
        &with("cluster = \"web\"\nset_request_header = { Content-Length = \"1\" }"),
        11,
        &["`content-length`", "leave it out"],
    );
    one(&with("cluster = \"web\"\nset_response_header = { a = \"b\\nc\" }"), 11, &["control characters"]);
    let host = |edit: &str| with(&format!("cluster = \"web\"\n{edit}"));
    for wrong in ["", "a b", "a,b", "http://a", "a:b", "a/", "user@a", "bücher.de"] {
        one(
            &host(&format!("set_request_header = {{ Host = \"{wrong}\" }}")),
            11,
            &["is no host", "`example.com`"],
        );
    }
    for edit in ["add_request_header = { host = \"a\" }", "remove_request_header = \"HOST\""] {
        one(&host(edit), 11, &["exactly one", "`set_request_header`"]);
    }
    one(&host("set_response_header = { host = \"a\" }"), 11, &["cannot be changed"]);
    one(&host("set_request_header = { host = \"a\", Host = \"b\" }"), 11, &["`host` is set twice"]);
    one(&host("set_response_header = { x-a = \"a\", X-A = \"b\" }"), 11, &["`x-a` is set twice"]);
}

#[test]
fn routes_that_are_never_reached() {
    let with = |second: &str| {
        format!(
            "{LISTENER}{CLUSTER}[[route]]\nname = \"first\"\nhost = [\"a\", \"b\"]\npath_prefix = \"/x\"\nmethod = [\"GET\", \"PUT\"]\ncluster = \"web\"\n[[route]]\n{second}\ncluster = \"web\"\n"
        )
    };
    let same = "host = \"B\"\npath_prefix = \"/x/\"\nmethod = \"PUT\"";
    one(&with(same), 12, &["never reached", "route `first` (a.toml:6)"]);
    for other in [
        "host = [\"b\", \"c\"]\npath_prefix = \"/x\"\nmethod = \"PUT\"",
        "host = \"b\"\npath = \"/x\"\nmethod = \"PUT\"",
        "host = \"b\"\npath_prefix = \"/x\"\nmethod = [\"PUT\", \"POST\"]",
        "host = \"b\"\npath_prefix = \"/x\"",
        "host = \"b\"\npath_prefix = \"/x\"\nmethod = \"PUT\"\nheader = { a = true }",
        "path_prefix = \"/x\"\nmethod = \"PUT\"",
    ] {
        assert_eq!(mistakes(&with(other)), Vec::<String>::new(), "{other}");
    }
    let any = format!(
        "{LISTENER}{CLUSTER}[[route]]\ncluster = \"web\"\n[[route]]\npath_prefix = \"/\"\ncluster = \"web\"\n"
    );
    one(&any, 8, &["never reached", "route `route-1`"]);
    let tcp =
        format!("[[listener]]\nbind = \":80\"\nmode = \"tcp\"\n{CLUSTER}[[route]]\ncluster = \"web\"\n");
    one(&tcp, 7, &["never reached", "mode `http`"]);
    let named = tcp.replace("[[route]]", "[[listener]]\nbind = \":81\"\n[[route]]\nlistener = \"default\"");
    one(&named, 10, &["never reached", "`default` has mode `tcp`"]);
}

#[test]
fn a_listener_with_routes_answers_404_to_the_rest_unless_told_otherwise() {
    let routed = checked(&format!("{LISTENER}{CLUSTER}[[route]]\npath = \"/a\"\ncluster = \"web\"\n"));
    assert_eq!(routed.draft.listeners[0].cluster, None);
    assert_eq!(routed.draft.listeners[0].routes, [0]);
    let told = checked(&format!(
        "{LISTENER}cluster = \"web\"\n{CLUSTER}[[route]]\npath = \"/a\"\ncluster = \"web\"\n"
    ));
    assert_eq!(told.draft.listeners[0].cluster, Some(0));
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let slow = warnings(&format!("{LISTENER}{CLUSTER}[defaults]\nconnect_timeout = \"11s\"\n"));
    assert!(
        slow.len() == 1
            && slow[0].contains("a.toml:7: defaults.connect_timeout")
            && slow[0].contains("up to `33020ms`"),
        "{slow:?}"
    );
    let unused = warnings(&format!("{LISTENER}cluster = \"web\"\n{CLUSTER}{OTHER}"));
    assert!(
        unused.len() == 1 && unused[0].contains("a.toml:7: cluster: cluster `api` is not used"),
        "{unused:?}"
    );
    let backups =
        warnings(&format!("{LISTENER}[[cluster]]\nbackend = [{{ address = \"a:1\", backup = true }}]\n"));
    assert!(backups.len() == 1 && backups[0].contains("every backend is a backup"), "{backups:?}");
    let idle = |list: &str| warnings(&format!("{LISTENER}[[cluster]]\nbackend = [{list}]\n"));
    for list in [
        "{ address = \"a:1\", state = \"maint\" }",
        "{ address = \"a:1\", state = \"drain\" }, \"b:1;weight=0\"",
    ] {
        let told = idle(list);
        assert!(told.len() == 1 && told[0].contains("no backend takes new work"), "{told:?}");
    }
    assert!(
        idle("{ address = \"a:1\", state = \"maint\" }, { address = \"b:1\", backup = true }").is_empty()
    );
    let sticky = "sticky = { cookie = \"s\" }\n";
    let cookies = warnings(&format!(
        "{LISTENER}{CLUSTER}{sticky}{OTHER}{sticky}[[route]]\nsplit = [{{ cluster = \"web\" }}, {{ cluster = \"api\" }}]\n"
    ));
    assert!(cookies.len() == 1 && cookies[0].contains("the same sticky cookie `s`"), "{cookies:?}");
}

#[test]
fn all_mistakes_come_at_once_and_in_order() {
    let found = mistakes(
        "[[listener]]\nbnid = 1\nmode = 2\n[[cluster]]\nbackend = [\"x\", \"y\"]\n[defaults]\nvia = 3\n",
    );
    let lines: Vec<&str> = found.iter().map(|line| line.split(':').nth(1).unwrap()).collect();
    assert_eq!(lines, ["2", "3", "5", "5", "7"], "{found:#?}");
}
