//! What stands behind a proxy that reads no content: bytes that come back, messages answered with many bytes, datagrams that come back.
//!
//! Dropping a future closes its socket.

use std::io;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::{TcpStream, UdpSocket};

use crate::answer::Pieces;
use crate::tally::Tally;

/// The client's messages have this size, except where the service does not care.
const MESSAGE_BYTES: usize = 128;
const ECHO_BYTES: usize = 4 * 1024;
const DATAGRAM_BYTES_MAX: usize = 64 * 1024;

pub async fn echo(mut stream: TcpStream, tally: &Tally) -> io::Result<()> {
    let mut buffer = [0; ECHO_BYTES];
    loop {
        let received = stream.read(&mut buffer).await?;
        if received == 0 {
            return stream.close().await;
        }
        tally.requests.add(1);
        stream.write_all(&buffer[..received]).await?;
    }
}

pub async fn once(mut stream: TcpStream, tally: &Tally) -> io::Result<()> {
    let mut message = [0; MESSAGE_BYTES];
    stream.read_exact(&mut message).await?;
    tally.requests.add(1);
    stream.write_all(&message).await?;
    stream.close().await
}

pub async fn bulk(mut stream: TcpStream, tally: &Tally) -> io::Result<()> {
    let mut message = [0; MESSAGE_BYTES];
    loop {
        if let Err(error) = stream.read_exact(&mut message).await {
            let ended = error.kind() == io::ErrorKind::UnexpectedEof;
            return if ended { stream.close().await } else { Err(error) };
        }
        tally.requests.add(1);
        let size = message.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        for piece in Pieces::whole(size as usize) {
            stream.write_all(piece).await?;
        }
    }
}

pub async fn datagrams(socket: UdpSocket, tally: &Tally) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((received, from)) => {
                tally.requests.add(1);
                // What cannot be sent is lost, as datagrams may be: the client notices and asks again.
                let _ = socket.send_to(&buffer[..received], from).await;
            }
            // An answer that found nobody comes back as an error of the socket.
            Err(error) => eprintln!("datagrams: {error}"),
        }
    }
}
