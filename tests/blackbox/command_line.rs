//! The command line: what is understood, what is refused with which exit code, and that the wrong word is named.

use std::net::TcpListener;

use crate::support::ringway::Options;
use crate::support::run::run;
use crate::support::{Backend, Client, Ringway};

fn run_with(args: &[&str]) -> (Option<i32>, String, String) {
    run(Options::bare().args(args))
}

/// A port outside the range that the kernel gives out by itself, free when it was chosen.
fn free_port() -> u16 {
    let first = 10_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    (first..first + 500).find(|&port| TcpListener::bind(("0.0.0.0", port)).is_ok()).expect("a free port")
}

#[test]
fn no_backends_is_a_usage_error_that_asks_for_them() {
    let (code, _, stderr) = run_with(&["--listen", "127.0.0.1:0"]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("Please provide one or more backends to load balance"), "{stderr}");
}

#[test]
fn wrong_flags_exit_2_and_name_the_wrong_word() {
    let good = "--backends=http://127.0.0.1:1";
    let cases: &[(&[&str], &str)] = &[
        (&[good, "--nonsense"], "--nonsense"),
        (&[good, "surplus"], "surplus"),
        (&[good, "--port", "99999"], "99999"),
        (&[good, "--port", "http"], "http"),
        (&[good, "--port=-1"], "-1"),
        (&[good, "--listen", "nowhere"], "nowhere"),
        (&[good, "--listen", "127.0.0.1:99999"], "127.0.0.1:99999"),
        (&[good, "--mode", "sctp"], "sctp"),
        (&[good, "--balance", "fairest"], "fairest"),
        (&[good, "--cores", "x"], "x"),
        (&[good, "--cores", "3-1"], "3-1"),
        (&[good, "--cores", "99999"], "99999"),
        (&[good, "--log-format", "xml"], "xml"),
        (&[good, "--admin", "nowhere"], "nowhere"),
        (&["--backends", "ftp://127.0.0.1:1"], "ftp://127.0.0.1:1"),
        (&["--backends", "http://127.0.0.1:99999"], "99999"),
        (&["--backends", "http://"], "http://"),
        (&["--backends", "http://127.0.0.1:1;weight=heavy"], "heavy"),
        (&["--backends", "http://127.0.0.1:1;colour=red"], "colour"),
        (&["--backends", "http://127.0.0.1:1,http://user@127.0.0.1:2"], "127.0.0.1:2"),
        (&["--backends"], "--backends"),
    ];
    for (args, wrong) in cases {
        let (code, stdout, stderr) = run_with(&[*args, &["--listen", "127.0.0.1:0"]].concat());
        assert_eq!(code, Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(wrong), "{args:?} does not name {wrong:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
        assert_eq!(stdout, "", "{args:?}");
    }
}

#[test]
fn version_and_help_are_answers_and_not_errors() {
    let (code, stdout, stderr) = run_with(&["-V"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.starts_with(concat!("ringway ", env!("CARGO_PKG_VERSION"))), "{stdout}");
    let (code, stdout, stderr) = run_with(&["--help"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    for flag in ["--backends", "--port", "--listen", "--mode", "--balance", "--cores", "--log-format", "3030"]
    {
        assert!(stdout.contains(flag), "the help does not name {flag}: {stdout}");
    }
}

#[test]
fn a_port_that_is_taken_is_exit_4_and_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _, stderr) = run_with(&["--backends", "http://127.0.0.1:1", "--listen", &address]);
    assert_eq!(code, Some(4), "{stderr}");
    assert!(stderr.contains(&address), "{stderr}");
}

#[test]
fn an_address_of_somebody_else_is_exit_4_and_named() {
    let (code, _, stderr) = run_with(&["--backends", "http://127.0.0.1:1", "--listen", "192.0.2.1:0"]);
    assert_eq!(code, Some(4), "{stderr}");
    assert!(stderr.contains("192.0.2.1"), "{stderr}");
}

#[test]
fn single_dashes_and_a_name_for_the_backend_are_understood() {
    let backend = Backend::well_behaved("a");
    let list = format!("-backends=http://localhost:{}", backend.address.port());
    let port = free_port();
    let mut command = Options::bare();
    command.arg(&list).arg("-port").arg(port.to_string());
    let ringway = Ringway::spawn(command);
    assert_eq!(ringway.address().to_string(), format!("0.0.0.0:{port}"));
    let mut client = Client::connect(([127, 0, 0, 1], port).into());
    assert_eq!(client.get("/").text(), "a");
}

#[test]
fn a_bare_host_and_port_is_a_backend_and_so_is_one_with_a_weight() {
    let (a, b) = (Backend::well_behaved("a"), Backend::well_behaved("b"));
    let weighted = format!("http://{};weight=1", b.address);
    let ringway = Ringway::options().backend(a.address).backend(weighted).start();
    let mut answers = [ringway.get("/").text(), ringway.get("/").text()];
    answers.sort();
    assert_eq!(answers, ["a", "b"]);
}

#[test]
fn several_listeners_serve_side_by_side() {
    let backend = Backend::well_behaved("a");
    let ringway = Ringway::options().backends(&[&backend]).listens(2).start();
    assert_eq!(ringway.addresses.len(), 2);
    for &address in &ringway.addresses {
        assert_eq!(Client::connect(address).get("/").text(), "a");
    }
}
