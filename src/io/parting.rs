//! Our own words to a client: sent whole, and taken before the connection is closed.

use std::{io, rc::Rc, time::Duration};

use super::{alarm::Alarm, buffer::BufferPool, stream::Stream};
use crate::limits::LINGER_BYTES_MAX;

/// How long we wait for a client to take our last word before its connection is closed.
const LINGER: Duration = Duration::from_secs(2);

/// Sends a few bytes of our own within `limit`; tells how many went out, as an error if not all of them did.
pub async fn send(client: &mut Stream, bytes: &[u8], alarm: &Alarm, limit: Duration) -> Result<usize, usize> {
    alarm.set(limit);
    let mut sent = 0;
    while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
        match client.transmit(rest) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                alarm.bound(|cx| client.poll_writable(cx)).await.map_err(|_| sent)?;
            }
            Err(_) => return Err(sent),
        }
    }
    Ok(sent)
}

/// Says that nothing more comes and throws away what the client still sends, for a while: closing with unread
/// bytes would reset the connection and destroy our answer on its way (RFC 9112 section 9.6).
pub async fn linger(client: &mut Stream, alarm: &Alarm, buffers: &Rc<BufferPool>) {
    client.shutdown_write();
    alarm.set(LINGER);
    let mut thrown = 0;
    while thrown < LINGER_BYTES_MAX {
        let mut bin = buffers.take();
        match client.receive(bin.space()) {
            Ok(0) => return,
            Ok(count) => thrown += count as u64,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                drop(bin);
                if alarm.bound(|cx| client.poll_readable(cx)).await.is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}
