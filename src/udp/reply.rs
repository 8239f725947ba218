//! From backends to clients: receives what sessions' sockets hold and sends it from the clients' socket, the replies of
//! many flows by one call.

use std::ops::ControlFlow;

use super::{
    relay::Relay,
    session::{Session, Trouble},
    table::Token,
};
use crate::{
    io::{alarm::Millis, tray::Tray},
    limits::{UDP_BATCH_MAX, UDP_BURST_MAX, UDP_WEIGHT_BYTES},
    stats::names::{BackendCount, Count},
    sys::datagram::{Letter, Sender, Told},
};

impl Relay {
    /// Takes what waits at a session's socket.
    pub(super) fn reply(&mut self, tray: &mut Tray, number: u64, now: Millis) {
        let token = Token::from_number(number);
        if tray.filled == UDP_BATCH_MAX {
            self.send_replies(tray);
        }
        // A session that has ended in this very turn is not there any more.
        let Some(session) = self.sessions.get_mut(token) else { return };
        if session.upstream.attempt.is_severed() {
            return self.leave(token);
        }
        let wanted = session.burst.wanted(UDP_BURST_MAX.min(UDP_BATCH_MAX - tray.filled));
        let socket = &session.upstream.socket;
        match tray.inbox.receive(socket, Sender::Peer, tray.filled, wanted) {
            Ok(count) => {
                session.burst.came(wanted, count);
                self.answered(tray, token, count, now);
            }
            Err(error) => match Trouble::of(&error) {
                trouble if trouble.is_fatal() => {
                    // What was answered before is as good as ever.
                    let count = tray.inbox.receive(socket, Sender::Peer, tray.filled, wanted).unwrap_or(0);
                    self.answered(tray, token, count, now);
                    self.broken(token, trouble);
                }
                Trouble::Oversized => self.shard.stats.count(Count::UdpOversized),
                _ => {}
            },
        }
    }

    /// Puts received messages with those to be sent.
    fn answered(&mut self, tray: &mut Tray, token: Token, count: usize, now: Millis) {
        let Some(session) = self.sessions.get_mut(token).filter(|_| count > 0) else { return };
        if session.trial.take().is_some() {
            session.upstream.attempt.answered(session.upstream.place, now);
        }
        let Session { flow, together_down, upstream, .. } = session;
        let stats = &self.shard.stats;
        for place in tray.filled..tray.filled + count {
            let Some(message) = tray.inbox.message(place) else { continue };
            let (datagrams, bytes) = (message.datagrams() as u64, message.bytes.len() as u64);
            stats.add(Count::UdpUpstreamReceived, datagrams);
            stats.add(Count::UpstreamReceivedBytes, bytes);
            upstream.backend.stats().add(BackendCount::ReceivedBytes, bytes);
            self.turn_bytes += bytes + UDP_WEIGHT_BYTES;
            if message.truncated {
                stats.add(Count::UdpTruncated, datagrams);
                continue;
            }
            let (to, from) = (Some(flow.client), flow.local);
            let letter = Letter { tag: token.number(), place, to, from, together: *together_down };
            tray.outbox.push(letter, &message);
        }
        tray.filled += count;
        self.sessions.touch(token, now);
    }

    /// Sends all replies that were received.
    pub(super) fn send_replies(&mut self, tray: &mut Tray) {
        tray.filled = 0;
        if tray.outbox.is_empty() {
            return;
        }
        let Relay { shard, clients, sessions, .. } = self;
        let stats = &shard.stats;
        // What fails concerns one client; nothing is broken off.
        tray.outbox.flush(&*clients, &tray.inbox, |item, told| {
            match told {
                Told::Sent(datagrams, bytes) => {
                    stats.add(Count::UdpClientSent, datagrams as u64);
                    stats.add(Count::ClientSentBytes, bytes as u64);
                }
                Told::NotTogether => {
                    if let Some(session) = sessions.get_mut(Token::from_number(item.tag)) {
                        session.together_down = false;
                    }
                }
                Told::Failed(error) => stats.add(Trouble::of(&error).counter(), item.datagrams as u64),
            }
            ControlFlow::Continue(())
        });
    }
}
