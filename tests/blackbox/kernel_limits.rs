//! A kernel that refuses: too few descriptors, no io_uring.

use crate::support::deadline::within;
use crate::support::kernel::{forbid_io_uring, limit_descriptors};
use crate::support::ringway::Options;
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
        eventually("the descriptors to be used up", || (ringway.descriptors() >= 60).then_some(()));
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
    assert_eq!(ringway.wait_quiet().counter("connection_panics"), 0);
    assert!(ringway.ended().is_none());
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
