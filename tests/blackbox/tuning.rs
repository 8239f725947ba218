//! What `tuning/` has for operators: the scripts change made-up hosts and bring them back; unit and profile say what the
//! program needs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::directory::Directory;
use crate::support::run::run;

/// A host with one interface that has two queues, and an `ethtool` that obeys.
struct Host(Directory);

const EVERYTHING: &[&str] = &[
    "--backlog",
    "--ports",
    "--datagrams",
    "--pipes",
    "4",
    "--migrate",
    "--sysctl",
    "vm.swappiness=1",
    "--limits",
    "65536",
    "--queues",
    "eth0=2",
    "--interrupts",
    "eth0=1,35",
    "--xps",
    "eth0=0-3,40",
    "--rps",
    "eth0=0-1",
];

const ETHTOOL: &str = r#"#!/bin/sh
here=$(dirname "$0")
case "$1 $2" in
"-l eth0") printf 'Pre-set maximums:\nCombined:\t8\nCurrent hardware settings:\nRX:\tn/a\nCombined:\t%s\n' "$(cat "$here/queues")" ;;
"-L eth0") [ ! -e "$here/stubborn" ] && echo "$4" >"$here/queues" ;;
esac
"#;

impl Host {
    fn new() -> Self {
        let host = Self(Directory::new());
        for (place, content) in [
            ("proc/sys/kernel/random/boot_id", "first\n"),
            ("proc/sys/net/core/somaxconn", "128\n"),
            ("proc/sys/net/core/rmem_max", "212992\n"),
            ("proc/sys/net/core/wmem_max", "8388608\n"),
            ("proc/sys/net/ipv4/tcp_max_syn_backlog", "512\n"),
            ("proc/sys/net/ipv4/tcp_migrate_req", "0\n"),
            ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
            ("proc/sys/fs/pipe-user-pages-soft", "16384\n"),
            ("proc/sys/vm/swappiness", "60\n"),
            ("proc/irq/31/smp_affinity_list", "0-63\n"),
            ("proc/irq/32/smp_affinity_list", "1,35\n"),
            ("proc/irq/33/smp_affinity_list", "0-63\n"),
            ("proc/irq/34/smp_affinity_list", "0-63\n"),
            (
                "proc/interrupts",
                "  CPU0\n 31: 1 PCI eth0-TxRx-0\n 32: 1 PCI eth0-TxRx-1\n 33: 1 PCI eth0-config\n 34: 1 PCI eth0\n",
            ),
            ("sys/class/net/eth0/device/vendor", "0x1\n"),
            ("sys/class/net/eth0/queues/rx-0/rps_cpus", "00000000,00000000\n"),
            ("sys/class/net/eth0/queues/tx-0/xps_cpus", "00000000,00000000\n"),
            ("sys/class/net/eth0/queues/tx-1/xps_cpus", "00000000,00000002\n"),
            ("etc/systemd/system/other.service", "[Unit]\n"),
            ("queues", "1\n"),
            ("ethtool", ETHTOOL),
        ] {
            host.write(place, content);
        }
        fs::set_permissions(host.0.path("ethtool"), fs::Permissions::from_mode(0o755)).unwrap();
        host
    }

    fn write(&self, place: &str, content: &str) {
        let path = self.0.path(place);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn read(&self, place: &str) -> String {
        fs::read_to_string(self.0.path(place)).unwrap().trim_end().to_owned()
    }

    /// Runs one of the scripts on this host: exit code, stdout and stderr.
    fn tune(&self, script: &str, args: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new("bash");
        command.arg(tuning(script)).arg("--root").arg(self.0.path("")).args(args);
        run(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))
    }

    #[track_caller]
    fn tuned(&self, script: &str, args: &[&str]) -> String {
        let (code, stdout, stderr) = self.tune(script, args);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
        stdout
    }

    /// All files and what is in them.
    fn files(&self) -> BTreeMap<PathBuf, String> {
        let (mut found, mut waiting) = (BTreeMap::new(), vec![self.0.path("")]);
        while let Some(directory) = waiting.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    waiting.push(path);
                } else {
                    found.insert(path.clone(), fs::read_to_string(path).unwrap());
                }
            }
        }
        found
    }
}

fn tuning(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning").join(file)
}

#[test]
fn a_dry_run_says_everything_and_does_nothing() {
    let host = Host::new();
    let before = host.files();
    let said = host.tuned("apply", &[EVERYTHING, &["--dry-run"]].concat());
    for line in [
        "would set /proc/sys/net/core/somaxconn: 128 -> 4096",
        "/proc/sys/net/core/wmem_max is 8388608 already",
        "would set /proc/sys/fs/pipe-user-pages-soft: 16384 -> 24576",
        "would set eth0: 1 -> 2",
        "would set /proc/irq/32/smp_affinity_list: 1,35 -> 35",
    ] {
        assert!(said.contains(line), "no `{line}`: {said}");
    }
    assert_eq!(host.files(), before);
}

#[test]
fn what_was_applied_is_there_and_undone_exactly() {
    let host = Host::new();
    let before = host.files();
    host.tuned("apply", EVERYTHING);
    for (place, value) in [
        ("proc/sys/net/core/somaxconn", "4096"),
        ("proc/sys/net/core/rmem_max", "4194304"),
        ("proc/sys/net/core/wmem_max", "8388608"),
        ("proc/sys/net/ipv4/tcp_max_syn_backlog", "4096"),
        ("proc/sys/net/ipv4/tcp_migrate_req", "1"),
        ("proc/sys/net/ipv4/ip_local_port_range", "10240 65535"),
        ("proc/sys/fs/pipe-user-pages-soft", "24576"),
        ("proc/sys/vm/swappiness", "1"),
        ("queues", "2"),
        ("proc/irq/31/smp_affinity_list", "1"),
        ("proc/irq/32/smp_affinity_list", "35"),
        ("proc/irq/33/smp_affinity_list", "0-63"),
        ("proc/irq/34/smp_affinity_list", "0-63"),
        ("sys/class/net/eth0/queues/tx-0/xps_cpus", "100,00000005"),
        ("sys/class/net/eth0/queues/tx-1/xps_cpus", "a"),
        ("sys/class/net/eth0/queues/rx-0/rps_cpus", "3"),
    ] {
        assert_eq!(host.read(place), value, "{place}");
    }
    assert!(
        host.read("etc/systemd/system/ringway.service.d/tuning.conf")
            .ends_with("[Service]\nLimitNOFILE=65536")
    );
    let said = host.tuned("undo", &["--dry-run"]);
    assert!(said.contains("would set /proc/sys/net/core/somaxconn: 128"), "{said}");
    host.tuned("undo", &[]);
    assert_eq!(host.files(), before);
    let said = host.tuned("undo", &[]);
    assert!(said.starts_with("nothing to undo"), "{said}");
}

#[test]
fn applying_again_changes_nothing_and_keeps_the_first_values() {
    let host = Host::new();
    let before = host.files();
    host.tuned("apply", EVERYTHING);
    let once = host.files();
    let said = host.tuned("apply", EVERYTHING);
    assert!(!said.contains("set /"), "{said}");
    assert_eq!(host.files(), once);
    host.tuned("apply", &["--sysctl", "net.core.somaxconn=9000", "--queues", "eth0=4", "--limits", "5000"]);
    assert_eq!(
        (host.read("proc/sys/net/core/somaxconn"), host.read("queues")),
        ("9000".to_owned(), "4".to_owned())
    );
    host.tuned("undo", &[]);
    assert_eq!(host.files(), before);
}

#[test]
fn a_restart_of_the_host_undoes_what_was_set_at_run_time() {
    let host = Host::new();
    let before = host.files();
    host.tuned("apply", &["--backlog", "--limits", "65536"]);
    // The new boot has values of its own, which are not ours to change.
    host.write("proc/sys/kernel/random/boot_id", "second\n");
    host.write("proc/sys/net/core/somaxconn", "256\n");
    host.tuned("apply", &["--migrate"]);
    host.tuned("undo", &[]);
    assert_eq!(host.read("proc/sys/net/core/somaxconn"), "256");
    assert_eq!(host.read("proc/sys/net/ipv4/tcp_migrate_req"), "0");
    host.tuned("apply", &["--backlog"]);
    host.write("proc/sys/kernel/random/boot_id", "third\n");
    let said = host.tuned("undo", &[]);
    assert!(said.contains("restarted since"), "{said}");
    assert_eq!(host.read("proc/sys/net/core/somaxconn"), "4096");
    let left: Vec<_> = host.files().into_keys().filter(|path| !before.contains_key(path)).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_cannot_be_set_is_told_and_not_recorded() {
    let host = Host::new();
    host.write("stubborn", "");
    fs::remove_file(host.0.path("proc/sys/net/ipv4/tcp_migrate_req")).unwrap();
    let before = host.files();
    let (code, _, stderr) = host.tune("apply", &["--queues", "eth0=2", "--migrate", "--backlog"]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("could not set eth0 to 2") && stderr.contains("tcp_migrate_req"), "{stderr}");
    assert_eq!(host.read("proc/sys/net/core/somaxconn"), "4096");
    host.tuned("undo", &[]);
    assert_eq!(host.files(), before);
}

#[test]
fn wrong_options_exit_2_and_do_nothing() {
    let host = Host::new();
    let before = host.files();
    for args in [
        &["--backlog", "--nonsense"][..],
        &["--backlog", "--queues", "eth0"],
        &["--backlog", "--queues", "eth0=many"],
        &["--backlog", "--interrupts", "eth1=0"],
        &["--backlog", "--xps", "eth0=3-1"],
        &["--backlog", "--xps", "../eth0=1"],
        &["--backlog", "--sysctl", "a/../b=1"],
        &["--backlog", "--limits"],
        &["--backlog", "--limits", "0"],
        &[],
    ] {
        let (code, _, stderr) = host.tune("apply", if args.is_empty() { &["--help-me"] } else { args });
        assert_eq!(code, Some(2), "{args:?}: {stderr}");
        assert!(!stderr.is_empty());
    }
    assert_eq!(host.tune("undo", &["now"]).0, Some(2));
    assert_eq!(host.files(), before);
}

#[test]
fn a_file_of_somebody_else_is_left_alone() {
    let host = Host::new();
    host.write("etc/systemd/system/ringway.service.d/tuning.conf", "[Service]\nLimitNOFILE=7\n");
    let before = host.files();
    let (code, _, stderr) = host.tune("apply", &["--limits", "65536"]);
    assert!(code == Some(1) && stderr.contains("not ours"), "{stderr}");
    host.tuned("undo", &[]);
    assert_eq!(host.files(), before);
}

#[test]
fn the_unit_waits_longer_than_a_graceful_stop_and_allows_rings() {
    let unit = fs::read_to_string(tuning("ringway.service")).unwrap();
    let values = |key: &str| -> Vec<&str> {
        unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
    };
    let (_, schema, _) = run(Command::new(env!("CARGO_BIN_EXE_ringway"))
        .arg("schema")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped()));
    let graceful = schema.split("\"shutdown_timeout\"").nth(1).unwrap();
    assert!(graceful[..graceful.find('}').unwrap()].contains("\"25s\""), "{graceful}");
    let stop: u64 = values("TimeoutStopSec")[0].parse().unwrap();
    assert!(stop > 25, "{stop}");
    assert_eq!(values("ExecReload"), ["/bin/kill -HUP $MAINPID"]);
    assert!(values("SystemCallFilter").contains(&"io_uring_setup io_uring_enter io_uring_register"));
    assert_eq!(values("CapabilityBoundingSet"), ["CAP_NET_BIND_SERVICE"]);
}

#[test]
fn the_profile_allows_what_a_ring_needs() {
    let profile: Value =
        serde_json::from_slice(&fs::read(tuning("seccomp-container.json")).unwrap()).unwrap();
    let rule = &profile["syscalls"][0];
    assert_eq!(rule["names"], serde_json::json!(["io_uring_enter", "io_uring_register", "io_uring_setup"]));
    assert_eq!(rule["action"], "SCMP_ACT_ALLOW");
}
