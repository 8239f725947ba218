//! A kernel that refuses: too few descriptors, connections that cannot be accepted, no io_uring, or an old one.

use crate::support::deadline::within;
use crate::support::kernel::{forbid_io_uring, limit_descriptors, refuse_first};
use crate::support::ringway::{Options, message};
use crate::support::{Backend, Client, PATIENCE, Ringway, eventually};

#[test]
fn it_survives_the_want_of_descriptors_and_serves_again() {
    let backend = Backend::well_behaved("a");
    let options = Ringway::options().backends(&[&backend]).json();
    let mut ringway = options.command(|command| limit_descriptors(command, 64)).start();
    assert_eq!(ringway.get("/").text(), "a");
    for _ in 0..2 {
        let mut crowd: Vec<_> = (0..200).map(|_| ringway.client()).collect();
        for client in &mut crowd {
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        }
        // The first of them are served; when the limit holds, the others wait or are turned away.
        assert!([200, 503].contains(&crowd[0].response().status));
        eventually("the descriptors to be used up", || (ringway.most_descriptors() >= 60).then_some(()));
        assert!(ringway.ended().is_none());
        drop(crowd);
        let served = || {
            Client::try_connect(ringway.address()).ok().is_some_and(|mut client| {
                let asked = client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
                asked.is_ok() && client.response_to("GET").is_ok_and(|response| response.status == 200)
            })
        };
        eventually("service after the crowd has left", || served().then_some(()));
    }
    let stats = ringway.wait_quiet();
    assert_eq!(stats.counter("connection_panics"), 0);
    assert!(stats.counter("accept_errors_descriptors") >= 1);
    assert_eq!((stats.counter("accept_errors_aborted"), stats.counter("accept_errors_other")), (0, 0));
    assert!(ringway.ended().is_none());
}

/// Whatever keeps connections from being accepted is counted by its kind, and the next ones are served.
#[test]
fn connections_that_cannot_be_accepted_are_counted_and_the_next_ones_are_served() {
    let backend = Backend::well_behaved("a");
    for (counter, errnos) in [
        ("accept_errors_descriptors", [libc::ENFILE, libc::ENFILE, libc::EMFILE]),
        ("accept_errors_descriptors", [libc::ENOBUFS, libc::ENOMEM, libc::ENFILE]),
        ("accept_errors_aborted", [libc::ECONNABORTED, libc::EPROTO, libc::ECONNABORTED]),
        ("accept_errors_other", [libc::EINVAL, libc::EINVAL, libc::EINVAL]),
    ] {
        let options = Ringway::options().backends(&[&backend]).json();
        let ringway = options.command(|command| refuse_first(command, libc::SYS_accept4, &errnos)).start();
        assert_eq!(ringway.get("/").text(), "a", "{counter}");
        let stats = ringway.wait_quiet();
        for other in ["accept_errors_descriptors", "accept_errors_aborted", "accept_errors_other"] {
            assert_eq!(stats.counter(other), if other == counter { 3 } else { 0 }, "{other}, {errnos:?}");
        }
    }
}

/// Starts it where io_uring is answered with `errno`; its exit code and what it said.
fn without_io_uring(errno: libc::c_int) -> (Option<i32>, String) {
    let mut command = Options::bare();
    command.args(["--listen", "127.0.0.1:0", "--backends", "http://127.0.0.1:1"]);
    forbid_io_uring(&mut command, errno);
    let mut child = command.spawn().unwrap();
    let ended = within(PATIENCE, || child.try_wait().unwrap());
    let _ended_before = child.kill();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(ended.is_some(), "it went on without io_uring: {stderr}");
    (output.status.code(), stderr)
}

#[test]
fn io_uring_that_is_forbidden_is_exit_5_with_cause_and_remedy() {
    let (code, stderr) = without_io_uring(libc::EPERM);
    assert_eq!(code, Some(5), "{stderr}");
    for word in ["io_uring", "seccomp"] {
        assert!(stderr.contains(word), "no {word}: {stderr}");
    }
    assert!(!stderr.contains("ready") && !stderr.contains("panicked"), "{stderr}");
}

#[test]
fn io_uring_that_is_missing_is_exit_5_with_cause_and_remedy() {
    let (code, stderr) = without_io_uring(libc::ENOSYS);
    assert_eq!(code, Some(5), "{stderr}");
    for word in ["io_uring", "kernel"] {
        assert!(stderr.contains(word), "no {word}: {stderr}");
    }
    assert!(!stderr.contains("ready") && !stderr.contains("panicked"), "{stderr}");
}

/// The flags it chose where the kernel knows none of the best `unknown` sets.
fn flags_without(unknown: usize) -> String {
    let backend = Backend::well_behaved("a");
    let errnos = vec![libc::EINVAL; unknown];
    let options = Ringway::options().backends(&[&backend]);
    let change = |command: &mut _| refuse_first(command, libc::SYS_io_uring_setup, &errnos);
    let ringway = options.command(change).start();
    // Whatever it is, it works.
    let mut client = ringway.client();
    let body = vec![b'x'; 100_000];
    for _ in 0..3 {
        assert_eq!(
            (client.get("/").text(), client.post("/", &body).text()),
            ("a".to_owned(), "a".to_owned())
        );
    }
    let line = ringway.wait_line("line about the ring", |line| message(line).contains("io_uring "));
    line.split_once("flags=").unwrap().1.trim_matches('"').to_owned()
}

/// Kernels from Linux 5.11 on are good enough, and each has the best ring it knows.
#[test]
fn flags_that_the_kernel_does_not_know_are_done_without() {
    let sets = ["SINGLE_ISSUER|DEFER_TASKRUN", "COOP_TASKRUN", "plain"];
    let own = flags_without(0);
    let own = sets.iter().position(|set| *set == own).unwrap();
    for unknown in [1, 2] {
        assert_eq!(flags_without(unknown), sets[unknown.max(own)]);
    }
}
