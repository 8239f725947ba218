//! Commands that end by themselves.

use std::process::Command;

use super::deadline::{PATIENCE, within};

/// Runs a command that must end by itself: its exit code, stdout and stderr.
pub(crate) fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let mut child = command.spawn().unwrap();
    if within(PATIENCE, || child.try_wait().unwrap()).is_none() {
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        panic!("{command:?} went on running: {}", String::from_utf8_lossy(&output.stderr));
    }
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code(), text(output.stdout), text(output.stderr))
}
