//! A connection from a trusted proxy begins with a PROXY protocol header, which introduces its client.
//!
//! The header is required, strict and under a deadline: without it nothing on the connection can be believed.

use std::{io, rc::Rc, time::Duration};

use crate::{
    io::{alarm::Alarm, buffer::Buffer, stream::Stream},
    proxy_protocol::{self, Header, Parsed},
    shard::Shard,
    stats::names::Count,
};

/// What was read: the header, and the client's first bytes if some came with it.
pub struct Introduction {
    /// Whom the proxy speaks for.
    pub header: Header,
    /// What lies behind the header.
    pub rest: Option<Buffer>,
}

/// Reads the header within `limit`; `None`, and the reason counted, when the connection has to be closed. Dropping
/// it loses what was received.
pub async fn read(
    client: &mut Stream,
    alarm: &Alarm,
    limit: Duration,
    shard: &Rc<Shard>,
) -> Option<Introduction> {
    let mut buffer = shard.buffers.take_small();
    alarm.set(limit);
    loop {
        match client.receive(buffer.space()) {
            Ok(0) => {
                shard.stats.count(Count::ProxyHeadersInvalid);
                return None;
            }
            Ok(count) => {
                buffer.grow(count);
                shard.stats.add(Count::ClientReceivedBytes, count as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if alarm.bound(|cx| client.poll_readable(cx)).await.is_err() {
                    shard.stats.count(Count::ProxyHeadersTimeout);
                    return None;
                }
                continue;
            }
            Err(_) => {
                shard.stats.count(Count::FaultClientAborted);
                return None;
            }
        }
        match proxy_protocol::parse(buffer.filled()) {
            Ok(Parsed::Incomplete) => {}
            Ok(Parsed::Complete { header, length }) => {
                shard.stats.count(Count::ProxyHeaders);
                buffer.consume(length);
                buffer.compact();
                return Some(Introduction { header, rest: Some(buffer).filter(|rest| !rest.is_empty()) });
            }
            Err(_) => {
                shard.stats.count(Count::ProxyHeadersInvalid);
                return None;
            }
        }
    }
}
