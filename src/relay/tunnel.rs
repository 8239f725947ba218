//! A tunnel: two endless flows, each ending with a half-close that is passed on.

use std::{
    future::poll_fn,
    io::ErrorKind,
    task::{Context, Poll},
    time::Duration,
};

use super::flow::{Broken, Flow, Supplies};
use crate::{
    fault::Side,
    io::{
        alarm::{self, Alarm, Millis, Ring},
        stream::Stream,
    },
    limits::{DEAD_AFTER, KEEP_ALIVE_IDLE},
    stats::{
        names::{BackendCount, Count},
        worker::BackendStats,
    },
    sys::socket::Standing,
};

/// How often a side is looked at of which nothing is awaited: it has ended its direction, or is not being read. Also after
/// what silence a tunnel is not a short one any more.
const LOOK: Duration = Duration::from_secs(1);

/// How a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Both sides have said their last word.
    Properly,
    /// This side took no more, but it had ended its own direction, and all it had said has been passed on.
    Deaf(Side),
    /// This side broke; the other one must not take that for an end.
    Broken(Side),
    /// Silence for too long, or the worker ends.
    Rung(Ring),
}

/// Two connections that are relayed into each other.
pub struct Tunnel<'a> {
    /// The side that was opened to us.
    pub client: &'a mut Stream,
    /// The side we opened.
    pub upstream: &'a mut Stream,
    /// From the client, with what it has sent already.
    pub up: Flow,
    /// To the client, with what the backend has sent already.
    pub down: Flow,
    /// The connection's deadline.
    pub alarm: &'a Alarm,
    /// How long both sides may be silent; 0 is for ever.
    pub idle: Millis,
    /// How long one direction may be silent when the other one has ended because nobody takes its bytes.
    pub last_words: Millis,
    /// The worker's pools and counters.
    pub supplies: Supplies<'a>,
    /// The backend's counters.
    pub backend: &'a BackendStats,
}

/// What a tunnel has come to.
struct Progress {
    up_open: bool,
    down_open: bool,
    /// The side that takes no more, and whether it had ended its own direction before.
    deaf: Option<(Side, bool)>,
    /// The kernel looks after both peers (`Stream::keep_alive`). Tunnels that end before they are ever silent do without it,
    /// which saves them eight calls.
    is_kept_alive: bool,
    /// When something moved last.
    moved: Millis,
}

impl Tunnel<'_> {
    /// Relays both ways until both directions have ended. Dropping it drops what is in flight; the caller closes
    /// both streams. Borrows, so that a tunnel that is silent for hours is in memory once.
    pub async fn run(&mut self) -> Ended {
        self.up.end_sink();
        self.down.end_sink();
        let mut progress = Progress {
            up_open: true,
            down_open: true,
            deaf: None,
            is_kept_alive: false,
            moved: alarm::now(),
        };
        self.alarm.set(match self.idle {
            0 => LOOK,
            idle => Duration::from_millis(idle).min(LOOK),
        });
        poll_fn(|cx| self.poll(cx, &mut progress)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>, progress: &mut Progress) -> Poll<Ended> {
        let rung = self.alarm.rung();
        if rung == Some(Ring::Cut) {
            return Poll::Ready(Ended::Rung(Ring::Cut));
        }
        let open = (progress.up_open, progress.down_open);
        if progress.up_open {
            match self.up.poll(cx, self.client, self.upstream, &self.supplies) {
                Poll::Ready(Ok(())) => {
                    // After the last end both are closed, which says the same.
                    if progress.down_open || progress.deaf.is_some() {
                        self.upstream.shutdown_write();
                    }
                    progress.up_open = false;
                }
                // A backend that takes no more may still have said something before.
                Poll::Ready(Err(Broken::Sink(kind))) => {
                    progress.deaf = Some((Side::Upstream, kind == ErrorKind::BrokenPipe));
                    progress.up_open = false;
                }
                Poll::Ready(Err(_)) => return self.broken(Side::Client),
                Poll::Pending => {}
            }
        }
        if progress.down_open {
            match self.down.poll(cx, self.upstream, self.client, &self.supplies) {
                Poll::Ready(Ok(())) => {
                    // An end that a deaf side seems to have come to may be a reset that was told elsewhere.
                    if progress.deaf.is_none() && progress.up_open {
                        self.client.shutdown_write();
                    }
                    progress.down_open = false;
                }
                // So may a client that has ended its direction.
                Poll::Ready(Err(Broken::Sink(ErrorKind::BrokenPipe)))
                    if progress.deaf.is_none()
                        && (progress.up_open || self.upstream.has_unacknowledged()) =>
                {
                    progress.deaf = Some((Side::Client, true));
                    progress.down_open = false;
                }
                Poll::Ready(Err(Broken::Sink(_))) => return self.broken(Side::Client),
                Poll::Ready(Err(_)) => return self.broken(Side::Upstream),
                Poll::Pending => {}
            }
        }
        let moved = self.account();
        if !progress.up_open && !progress.down_open {
            return Poll::Ready(match progress.deaf {
                None => Ended::Properly,
                Some((side, true)) => Ended::Deaf(side),
                // What it had said may not have been all.
                Some((side, false)) => Ended::Broken(side),
            });
        }
        let moved = moved || open != (progress.up_open, progress.down_open);
        self.watch(progress, moved, rung.is_some()).map_or(Poll::Pending, Poll::Ready)
    }

    fn broken(&mut self, side: Side) -> Poll<Ended> {
        self.account();
        Poll::Ready(Ended::Broken(side))
    }

    /// Keeps the deadline of silence, and looks after a side whose end no wait would notice.
    fn watch(&mut self, progress: &mut Progress, moved: bool, rung: bool) -> Option<Ended> {
        let blind = !progress.up_open
            || !progress.down_open
            || self.up.is_waiting_for_sink()
            || self.down.is_waiting_for_sink();
        if !(moved || rung) {
            return None;
        }
        if rung && !progress.is_kept_alive {
            progress.is_kept_alive = true;
            for stream in [&self.client, &self.upstream] {
                // A UNIX socket cannot and need not do it.
                let _ = stream.keep_alive(KEEP_ALIVE_IDLE, DEAD_AFTER);
            }
        }
        let now = alarm::now();
        if moved {
            progress.moved = now;
        }
        let idle = match progress.deaf {
            Some(_) if self.idle == 0 || self.idle > self.last_words => self.last_words,
            _ => self.idle,
        };
        let left = idle.saturating_sub(now.saturating_sub(progress.moved));
        if left == 0 && idle > 0 {
            return Some(Ended::Rung(Ring::Deadline));
        }
        if let Some(ended) = (rung && blind).then(|| self.gone(progress)).flatten() {
            return Some(ended);
        }
        let left = Duration::from_millis(left);
        self.alarm.set(match (blind || !progress.is_kept_alive, idle == 0) {
            (true, true) => LOOK,
            (true, false) => left.min(LOOK),
            (false, _) => left,
        });
        None
    }

    /// How a side has ended the tunnel of which nothing is awaited. What it has said and is on its way does not count:
    /// that is taken first.
    fn gone(&self, progress: &Progress) -> Option<Ended> {
        let (client, upstream) = (&*self.client, &*self.upstream);
        let sides = [
            (client, upstream, Side::Client, progress.up_open),
            (upstream, client, Side::Upstream, progress.down_open),
        ];
        sides.into_iter().find_map(|(stream, other, side, speaks)| match stream.standing() {
            Standing::Open => None,
            Standing::Ended | Standing::Broken(ErrorKind::BrokenPipe) if speaks => None,
            // Only a UNIX socket tells that its peer has left without breaking anything.
            Standing::Ended => Some(Ended::Deaf(side)),
            Standing::Broken(ErrorKind::BrokenPipe) if other.has_unacknowledged() => Some(Ended::Deaf(side)),
            Standing::Broken(_) => Some(Ended::Broken(side)),
        })
    }

    /// Adds what has moved to the statistics; true when anything has.
    fn account(&mut self) -> bool {
        let (from_client, to_upstream) = self.up.take_counts();
        let (from_upstream, to_client) = self.down.take_counts();
        let stats = self.supplies.stats;
        stats.add(Count::ClientReceivedBytes, from_client);
        stats.add(Count::UpstreamSentBytes, to_upstream);
        stats.add(Count::UpstreamReceivedBytes, from_upstream);
        stats.add(Count::ClientSentBytes, to_client);
        self.backend.add(BackendCount::SentBytes, to_upstream);
        self.backend.add(BackendCount::ReceivedBytes, from_upstream);
        from_client + to_upstream + from_upstream + to_client > 0
    }
}
