//! Sockets: bind, accept, connect, receive, send, close hard. Every socket is non-blocking and close-on-exec.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, acceptfrom_with, bind, connect,
    getsockname, ipproto, listen, recv, send, shutdown, socket_with, sockopt,
};

const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

fn tcp_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    Ok(socket_with(family, SocketType::STREAM, FLAGS, Some(ipproto::TCP))?)
}

/// Opens one socket of a listener's `SO_REUSEPORT` group, bound but not yet listening: it answers nobody
/// until [`start_listening`].
pub fn bind_listener(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = tcp_socket(address)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &address)?;
    Ok(socket)
}

/// True when somebody outside this group already listens on `address`: a bind without `SO_REUSEPORT` is
/// tried and given up again. Two programs that both share the port would otherwise split its clients.
pub fn taken(address: SocketAddr) -> io::Result<()> {
    let socket = tcp_socket(address)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    Ok(bind(&socket, &address)?)
}

/// Starts to accept, with room for `backlog` finished handshakes (the kernel caps it at `somaxconn`).
/// Accepted sockets inherit `TCP_NODELAY` from here, which saves a call per connection.
pub fn start_listening(socket: impl AsFd, backlog: i32) -> io::Result<()> {
    sockopt::set_tcp_nodelay(&socket, true)?;
    Ok(listen(&socket, backlog)?)
}

/// The address a socket is bound to, or the local end of a connection.
pub fn local_address(socket: impl AsFd) -> io::Result<SocketAddr> {
    SocketAddr::try_from(getsockname(socket)?).map_err(|_| io::ErrorKind::Unsupported.into())
}

/// Takes one finished connection off the accept queue (`accept4(2)`).
pub fn accept(listener: impl AsFd) -> io::Result<(OwnedFd, SocketAddr)> {
    let (socket, peer) = acceptfrom_with(listener, FLAGS)?;
    let peer = peer.and_then(|address| SocketAddr::try_from(address).ok());
    peer.map(|peer| (socket, peer)).ok_or_else(|| io::ErrorKind::ConnectionAborted.into())
}

/// Starts a handshake. `Ok(true)` when it is already done, `Ok(false)` when the socket becomes writable at
/// its end (then ask [`connect_result`]).
pub fn start_connect(address: SocketAddr) -> io::Result<(OwnedFd, bool)> {
    let socket = tcp_socket(address)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    match connect(&socket, &address) {
        Ok(()) => Ok((socket, true)),
        Err(rustix::io::Errno::INPROGRESS) => Ok((socket, false)),
        Err(error) => Err(error.into()),
    }
}

/// The outcome of a handshake whose socket has become writable (`SO_ERROR`).
pub fn connect_result(socket: impl AsFd) -> io::Result<()> {
    sockopt::socket_error(socket)?.map_err(Into::into)
}

/// Receives without waiting; `Ok(0)` is the peer's end of stream.
pub fn receive(socket: impl AsFd, into: &mut [u8]) -> io::Result<usize> {
    // A signal may come in between; one retry is enough, since they are rare.
    let (taken, _) = recv(&socket, &mut *into, RecvFlags::empty()).or_else(|error| {
        if error == rustix::io::Errno::INTR { recv(&socket, into, RecvFlags::empty()) } else { Err(error) }
    })?;
    Ok(taken)
}

/// True when nothing waits to be received: no byte, no end of stream, no error.
pub fn is_silent(socket: impl AsFd) -> bool {
    let mut byte = [0u8; 1];
    matches!(recv(socket, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT), Err(rustix::io::Errno::AGAIN))
}

/// Sends without waiting and without `SIGPIPE`.
pub fn transmit(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(send(socket, bytes, SendFlags::NOSIGNAL)?)
}

/// Announces that nothing more will be sent (FIN after what is queued).
pub fn shutdown_write(socket: impl AsFd) {
    // A peer that is gone already needs no announcement.
    let _ = shutdown(socket, Shutdown::Write);
}

/// Makes the coming close a reset: queued bytes are dropped and the peer sees RST, never a clean end.
pub fn reset_on_close(socket: impl AsFd) {
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}
