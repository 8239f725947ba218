//! `ringway doctor`: what it says of this host and of made-up ones, and how it ends.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::directory::Directory;
use crate::support::kernel::forbid_io_uring;
use crate::support::ringway::Options;
use crate::support::run::run;

/// A host with one interface, on which nothing is wrong but what a test writes over it.
struct Host(Directory);

impl Host {
    fn new() -> Self {
        let host = Self(Directory::new());
        let interface = "sys/class/net/eth0";
        let files: &[(&str, &str)] = &[
            ("proc/self/status", "Name:\tringway\nCpus_allowed_list:\t0-1\n"),
            (
                "proc/self/limits",
                "Max open files  1024  1048576  files\nMax locked memory  65536  65536  bytes\n",
            ),
            ("proc/self/cgroup", "0::/service\n"),
            (
                "proc/interrupts",
                "  CPU0 CPU1\n 31: 5 0 PCI-MSI 1-edge eth0-TxRx-0\n 32: 0 5 PCI-MSI 2-edge eth0-TxRx-1\n",
            ),
            ("proc/irq/31/smp_affinity_list", "0\n"),
            ("proc/irq/32/smp_affinity_list", "1\n"),
            ("proc/sys/kernel/osrelease", "6.8.0-test\n"),
            ("proc/sys/kernel/io_uring_disabled", "0\n"),
            ("proc/sys/net/core/somaxconn", "4096\n"),
            ("proc/sys/net/core/rmem_max", "4194304\n"),
            ("proc/sys/net/core/wmem_max", "4194304\n"),
            ("proc/sys/net/ipv4/tcp_max_syn_backlog", "4096\n"),
            ("proc/sys/net/ipv4/tcp_syncookies", "1\n"),
            ("proc/sys/net/ipv4/tcp_migrate_req", "1\n"),
            ("proc/sys/net/ipv4/ip_local_port_range", "10240\t65535\n"),
            ("proc/sys/fs/pipe-user-pages-soft", "16384\n"),
            ("proc/sys/fs/pipe-max-size", "1048576\n"),
            ("sys/fs/cgroup/service/cpu.max", "max 100000\n"),
            ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
            ("sys/devices/system/node/node0/cpulist", "0-1\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n"),
            ("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "performance\n"),
            ("sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0\n"),
            ("sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "1\n"),
            ("ethtool-k/eth0", "tcp-segmentation-offload: on\ngeneric-receive-offload: on\n"),
        ];
        for (place, content) in files {
            host.write(place, content);
        }
        for (place, content) in [
            ("operstate", "up"),
            ("device/numa_node", "0"),
            ("queues/rx-0/rps_cpus", "0"),
            ("queues/rx-1/rps_cpus", "0"),
        ] {
            host.write(&format!("{interface}/{place}"), content);
        }
        host.write(&format!("{interface}/queues/tx-0/xps_cpus"), "1");
        host.write(&format!("{interface}/queues/tx-1/xps_cpus"), "2");
        host
    }

    fn write(&self, place: &str, content: impl AsRef<[u8]>) {
        let path: PathBuf = self.0.path(place);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// The exit code and the report.
    fn examined(&self, args: &[&str]) -> (Option<i32>, Value) {
        let root = self.0.path("");
        let root = root.to_str().unwrap();
        report(&[&["--root", root], args].concat())
    }
}

fn report(args: &[&str]) -> (Option<i32>, Value) {
    let (code, stdout, stderr) = run(Options::bare().args(["doctor", "--json"]).args(args));
    assert_eq!(stderr, "");
    (code, serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}")))
}

/// The finding about a subject.
fn finding<'a>(report: &'a Value, subject: &str) -> &'a Value {
    let findings = report["findings"].as_array().unwrap();
    findings
        .iter()
        .find(|finding| finding["subject"] == subject)
        .unwrap_or_else(|| panic!("no {subject}: {report}"))
}

#[test]
fn this_host_is_looked_at() {
    let (code, report) = report(&[]);
    let findings = report["findings"].as_array().unwrap();
    assert!(findings.len() > 20, "{report}");
    for finding in findings {
        let state = finding["state"].as_str().unwrap();
        assert!(["ok", "advice", "problem", "unknown"].contains(&state), "{finding}");
        for word in ["subject", "found", "why"] {
            assert!(!finding[word].as_str().unwrap().is_empty(), "{finding}");
        }
        let is_to_do = ["advice", "problem"].contains(&state);
        assert_eq!(finding["remedy"]["apply"].is_string(), is_to_do, "{finding}");
        assert_eq!(finding["remedy"]["undo"].is_string(), is_to_do, "{finding}");
    }
    let problems = findings.iter().filter(|finding| finding["state"] == "problem").count();
    assert_eq!(report["summary"]["problem"], problems);
    assert_eq!(code, Some(i32::from(problems > 0)));
    // The suite needs io_uring, so it is here.
    assert_eq!(finding(&report, "kernel")["state"], "ok", "{report}");
    assert!(["ok", "advice"].contains(&finding(&report, "io_uring")["state"].as_str().unwrap()), "{report}");
}

#[test]
fn the_text_has_a_line_for_each_finding_with_why_and_remedy() {
    let host = Host::new();
    host.write("proc/sys/net/core/somaxconn", "128\n");
    let root = host.0.path("");
    let (code, stdout, stderr) = run(Options::bare().arg("doctor").arg("--root").arg(root));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let at = stdout.find("advice   net.core.somaxconn: 128\n").unwrap_or_else(|| panic!("{stdout}"));
    let lines: Vec<&str> = stdout[at..].lines().take(4).map(str::trim).collect();
    assert!(lines[1].starts_with("why:"), "{stdout}");
    assert_eq!(lines[2], "do:   sysctl -w net.core.somaxconn=\"4096\"");
    assert_eq!(lines[3], "undo: sysctl -w net.core.somaxconn=\"128\"");
    assert!(stdout.contains("\n0 problem, 1 advice, 1 unknown, "), "{stdout}");
}

#[test]
fn of_a_tuned_host_only_the_ring_is_unknown() {
    let (code, report) = Host::new().examined(&[]);
    assert_eq!(code, Some(0));
    let not_ok: Vec<&Value> =
        report["findings"].as_array().unwrap().iter().filter(|finding| finding["state"] != "ok").collect();
    assert!(not_ok.len() == 1 && not_ok[0]["subject"] == "io_uring", "{not_ok:?}");
    assert_eq!(report["cores"], serde_json::json!([0, 1]));
}

#[test]
fn a_problem_is_exit_1() {
    let host = Host::new();
    let (code, report) = host.examined(&["--cores", "1-2"]);
    assert_eq!(code, Some(1));
    assert_eq!(finding(&report, "allowed cores")["state"], "problem");
    host.write("sys/fs/cgroup/service/cpu.max", "150000 100000\n");
    let (code, report) = host.examined(&["--cores", "0-1"]);
    assert_eq!(code, Some(1));
    assert_eq!(finding(&report, "cpu quota")["state"], "problem");
    assert_eq!(host.examined(&["--cores", "1"]).0, Some(0));
}

#[test]
fn what_is_missing_or_odd_is_unknown_and_said() {
    let host = Host::new();
    for (place, content) in [
        ("proc/sys/net/core/somaxconn", &b"\xff\x00"[..]),
        ("proc/sys/net/ipv4/ip_local_port_range", b"all of them"),
        ("proc/self/limits", b""),
        ("proc/interrupts", b"::::\n:\n"),
        ("sys/class/net/eth0/queues/tx-1/xps_cpus", b"zz"),
        ("sys/devices/system/node/node0/cpulist", b"9-1"),
    ] {
        host.write(place, content);
    }
    fs::remove_file(host.0.path("proc/sys/fs/pipe-max-size")).unwrap();
    let (code, report) = host.examined(&[]);
    assert_eq!(code, Some(0));
    for (subject, words) in [
        ("net.core.somaxconn", "not text"),
        ("net.ipv4.ip_local_port_range", "`all of them` was not understood"),
        ("descriptors (RLIMIT_NOFILE)", "proc/self/limits"),
        ("eth0 interrupts", "none in /proc/interrupts"),
        ("eth0 xps", "`zz`"),
        ("numa nodes", "`9-1`"),
        ("fs.pipe-max-size", "there is no /proc/sys/fs/pipe-max-size"),
    ] {
        let finding = finding(&report, subject);
        assert_eq!(finding["state"], "unknown", "{finding}");
        assert!(finding["found"].as_str().unwrap().contains(words), "{finding}");
    }
}

#[test]
fn a_host_without_io_uring_is_told_so() {
    let mut command = Options::bare();
    command.args(["doctor", "--json"]);
    forbid_io_uring(&mut command, libc::EPERM);
    let (code, stdout, _) = run(&mut command);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(code, Some(1));
    let ring = finding(&report, "io_uring");
    assert_eq!(ring["state"], "problem");
    assert!(ring["found"].as_str().unwrap().contains("seccomp"), "{ring}");
}

#[test]
fn no_copy_and_other_flags_are_usage_errors() {
    let nowhere = Directory::new();
    let path = nowhere.path("none");
    for args in [
        &["doctor", "--root", path.to_str().unwrap()][..],
        &["doctor", "--port", "80"],
        &["doctor", "--cores", "x"],
    ] {
        let (code, stdout, stderr) = run(Options::bare().args(args));
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{args:?}: {stderr}");
        assert!(stderr.contains(args[1]), "{stderr}");
    }
}
