//! A tunnel: two endless flows, each ending with a half-close that is passed on.

use std::{future::poll_fn, task::Poll, time::Duration};

use super::flow::{Broken, Flow, Supplies};
use crate::{
    io::{
        alarm::{Alarm, Ring},
        stream::Stream,
    },
    stats::names::Count,
};

/// How a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Both sides have said their last word.
    Properly,
    /// The upstream side took no more, but all it had said before has been passed on.
    Deaf,
    /// A side broke; the other one must not take that for an end.
    Broken(Broken),
    /// Silence for too long, or the worker ends.
    Rung(Ring),
}

/// Relays both ways until both directions have ended. Dropping it drops what is in flight; the caller closes
/// both streams.
pub async fn run(
    client: &mut Stream,
    upstream: &mut Stream,
    mut up: Flow,
    mut down: Flow,
    alarm: &Alarm,
    idle: Duration,
    supplies: Supplies<'_>,
) -> Ended {
    let (mut up_open, mut down_open, mut deaf) = (true, true, false);
    alarm.set(idle);
    poll_fn(|cx| {
        if let Some(ring) = alarm.rung() {
            return Poll::Ready(Ended::Rung(ring));
        }
        if up_open {
            match up.poll(cx, client, upstream, &supplies) {
                Poll::Ready(Ok(())) => {
                    upstream.shutdown_write();
                    up_open = false;
                }
                // A backend that takes no more may still have said something before.
                Poll::Ready(Err(Broken::Sink(_))) => {
                    deaf = true;
                    up_open = false;
                }
                Poll::Ready(Err(broken)) => return Poll::Ready(Ended::Broken(broken)),
                Poll::Pending => {}
            }
        }
        if down_open {
            match down.poll(cx, upstream, client, &supplies) {
                Poll::Ready(Ok(())) => {
                    client.shutdown_write();
                    down_open = false;
                }
                Poll::Ready(Err(broken)) => return Poll::Ready(Ended::Broken(broken)),
                Poll::Pending => {}
            }
        }
        if account(&mut up, &mut down, &supplies) {
            alarm.set(idle);
        }
        if up_open || down_open {
            return Poll::Pending;
        }
        Poll::Ready(if deaf { Ended::Deaf } else { Ended::Properly })
    })
    .await
}

/// Adds what has moved to the statistics; true when anything has.
fn account(up: &mut Flow, down: &mut Flow, supplies: &Supplies<'_>) -> bool {
    let (from_client, to_upstream) = up.take_counts();
    let (from_upstream, to_client) = down.take_counts();
    supplies.stats.add(Count::ClientReceivedBytes, from_client);
    supplies.stats.add(Count::UpstreamSentBytes, to_upstream);
    supplies.stats.add(Count::UpstreamReceivedBytes, from_upstream);
    supplies.stats.add(Count::ClientSentBytes, to_client);
    from_client + to_upstream + from_upstream + to_client > 0
}
