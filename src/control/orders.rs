//! Orders to workers that must arrive.
//!
//! Runs on the control thread, and waits for a worker for a second at the most.

use std::time::Duration;

use crossbeam::channel::TrySendError;

use crate::worker::mailbox::{Command, Handle};

/// How often a full mailbox is tried, five milliseconds apart.
const ATTEMPTS: usize = 200;

/// Sends each worker its own command; a full mailbox is tried again for a while.
pub(super) async fn send(workers: &[Handle], commands: impl IntoIterator<Item = Command>) {
    for (worker, command) in workers.iter().zip(commands) {
        let mut waiting = Some(command);
        for _ in 0..ATTEMPTS {
            let Some(command) = waiting.take() else { break };
            if let Err(TrySendError::Full(command)) = worker.send(command) {
                waiting = Some(command);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}
