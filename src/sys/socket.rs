//! Sockets: bind, accept, connect, receive, send, close hard. Every socket is non-blocking and close-on-exec.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{
        AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, acceptfrom_with, bind,
        connect, connect_unspec, getsockname, ipproto, listen, recv, send, shutdown, socket_with, sockopt,
    },
};

use super::option::bind_address_no_port;
use crate::addr::{Endpoint, UnixPath};

const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// What is sent over a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

fn inet_socket(transport: Transport, is_ipv4: bool) -> io::Result<OwnedFd> {
    let family = if is_ipv4 { AddressFamily::INET } else { AddressFamily::INET6 };
    Ok(match transport {
        Transport::Tcp => socket_with(family, SocketType::STREAM, FLAGS, Some(ipproto::TCP))?,
        Transport::Udp => socket_with(family, SocketType::DGRAM, FLAGS, Some(ipproto::UDP))?,
    })
}

fn unix_socket() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?)
}

/// Opens one socket of a listener's `SO_REUSEPORT` group. A TCP one answers nobody until [`start_listening`].
pub fn bind_listener(transport: Transport, address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = inet_socket(transport, address.is_ipv4())?;
    // Two programs must not share datagrams by accident, which this option would let them.
    sockopt::set_socket_reuseaddr(&socket, transport == Transport::Tcp)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &address)?;
    Ok(socket)
}

/// Fails when somebody outside this group already listens on `address`: a bind without `SO_REUSEPORT` is
/// tried and given up again. Two programs that both share the port would otherwise split its clients.
pub fn check_free(transport: Transport, address: SocketAddr) -> io::Result<()> {
    let socket = inet_socket(transport, address.is_ipv4())?;
    sockopt::set_socket_reuseaddr(&socket, transport == Transport::Tcp)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    Ok(bind(&socket, &address)?)
}

/// Binds a UNIX socket to a place in the file system, or a name, where nothing is yet.
pub fn bind_unix(path: &UnixPath) -> io::Result<OwnedFd> {
    let socket = unix_socket()?;
    bind(&socket, &path.address()?)?;
    Ok(socket)
}

/// Succeeds when connections can be made from `source`, an address of this host.
pub fn try_source(source: IpAddr) -> io::Result<()> {
    let socket = inet_socket(Transport::Tcp, source.is_ipv4())?;
    Ok(bind(&socket, &SocketAddr::new(source, 0))?)
}

/// Starts to accept, with room for `backlog` finished handshakes (the kernel caps it at `somaxconn`).
pub fn start_listening(socket: impl AsFd, backlog: i32) -> io::Result<()> {
    Ok(listen(&socket, backlog)?)
}

/// Small messages leave at once. Accepted sockets inherit it from the listener, which saves a call per connection.
pub fn set_nodelay(socket: impl AsFd) -> io::Result<()> {
    Ok(sockopt::set_tcp_nodelay(socket, true)?)
}

/// Asks a silent peer every now and then whether it is still there, and gives up one that acknowledges nothing or
/// takes nothing for `dead_after` (`tcp(7)`, TCP_USER_TIMEOUT).
pub fn keep_alive(socket: impl AsFd, idle: Duration, dead_after: Duration) -> io::Result<()> {
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_keepidle(&socket, idle)?;
    sockopt::set_tcp_keepintvl(&socket, idle)?;
    let dead_after = u32::try_from(dead_after.as_millis()).unwrap_or(u32::MAX);
    Ok(sockopt::set_tcp_user_timeout(&socket, dead_after)?)
}

/// The address a socket is bound to, or the local end of a connection.
pub fn local_address(socket: impl AsFd) -> io::Result<SocketAddr> {
    SocketAddr::try_from(getsockname(socket)?).map_err(|_| io::ErrorKind::Unsupported.into())
}

/// Takes one finished connection off the accept queue (`accept4(2)`). Clients of a UNIX socket have no address.
pub fn accept(listener: impl AsFd) -> io::Result<(OwnedFd, Option<SocketAddr>)> {
    let (socket, peer) = acceptfrom_with(listener, FLAGS)?;
    Ok((socket, peer.and_then(|address| SocketAddr::try_from(address).ok())))
}

/// Whether what is received is acknowledged at once for now, or together with what is sent next as long as that comes soon
/// (`tcp(7)`, TCP_QUICKACK). A UNIX socket has no such option, and no such delay.
pub fn acknowledge_at_once(socket: impl AsFd, at_once: bool) {
    let _ = sockopt::set_tcp_quickack(socket, at_once);
}

/// Opens a stream socket that can be connected to `endpoint`.
pub fn open_stream(endpoint: &Endpoint) -> io::Result<OwnedFd> {
    let Endpoint::Inet(address) = endpoint else { return unix_socket() };
    let socket = inet_socket(Transport::Tcp, address.is_ipv4())?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    Ok(socket)
}

/// Starts its handshake, from an address of this host if one is given. `Ok(true)` when it is already done, `Ok(false)`
/// when the socket becomes writable at its end (then ask [`connect_result`]). A UNIX socket whose accept queue is
/// full refuses at once, with `WouldBlock`.
pub fn start_connect(socket: &OwnedFd, endpoint: &Endpoint, source: Option<IpAddr>) -> io::Result<bool> {
    let outcome = match endpoint {
        Endpoint::Inet(address) => {
            if let Some(source) = source {
                bind_source(socket, source)?;
            }
            connect(socket, address)
        }
        Endpoint::Unix(path) => connect(socket, &path.address()?),
    };
    match outcome {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::INPROGRESS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Asks for queues of `bytes` in both directions; the kernel gives what `net.core.rmem_max` and `wmem_max` allow.
pub fn enlarge_queues(socket: impl AsFd, bytes: usize) -> io::Result<()> {
    // Privileged processes may ask for more than these.
    if sockopt::set_socket_recv_buffer_size_force(&socket, bytes).is_err() {
        sockopt::set_socket_recv_buffer_size(&socket, bytes)?;
    }
    if sockopt::set_socket_send_buffer_size_force(&socket, bytes).is_err() {
        sockopt::set_socket_send_buffer_size(&socket, bytes)?;
    }
    Ok(())
}

/// Opens a datagram socket that speaks with `peer` alone, from an address of this host if one is given.
pub fn connect_datagrams(peer: SocketAddr, source: Option<IpAddr>) -> io::Result<OwnedFd> {
    let socket = inet_socket(Transport::Udp, peer.is_ipv4())?;
    if let Some(source) = source {
        bind_source(&socket, source)?;
    }
    connect(&socket, &peer)?;
    Ok(socket)
}

/// Chooses the local address and leaves the port to the connect, which knows the whole pair and can share ports
/// between destinations (`ip(7)`, IP_BIND_ADDRESS_NO_PORT).
fn bind_source(socket: &OwnedFd, source: IpAddr) -> io::Result<()> {
    bind_address_no_port(socket)?;
    Ok(bind(socket, &SocketAddr::new(source, 0))?)
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

/// How a connection stands as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// At least one direction goes on.
    Open,
    /// Both directions have ended, which says nothing about bytes that wait to be received.
    Ended,
    /// It broke. `BrokenPipe` when the peer had ended its own direction before: then all it said is there.
    Broken(io::ErrorKind),
}

/// Asks `poll(2)` for nothing, and for the reason (`SO_ERROR`, which is told once) if there is an error all the same.
pub fn standing(socket: impl AsFd) -> Standing {
    let mut asked = [PollFd::new(&socket, PollFlags::empty())];
    let told = poll(&mut asked, Some(&Timespec::default()));
    let flags = asked.first().map_or(PollFlags::empty(), PollFd::revents);
    if told.is_err() || !flags.intersects(PollFlags::ERR | PollFlags::HUP) {
        return Standing::Open;
    }
    connect_result(socket).map_or_else(|error| Standing::Broken(error.kind()), |()| Standing::Ended)
}

/// Sends without waiting and without `SIGPIPE`.
pub fn transmit(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(send(socket, bytes, SendFlags::NOSIGNAL)?)
}

/// The same for bytes behind which something follows at once, more of them or the end of the stream: they leave in one
/// segment with it (`send(2)`, MSG_MORE).
pub fn transmit_more(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::MORE)?)
}

/// Announces that nothing more will be sent (FIN after what is queued).
pub fn shutdown_write(socket: impl AsFd) {
    // A peer that is gone already needs no announcement.
    let _ = shutdown(socket, Shutdown::Write);
}

/// Breaks the connection now: the peer gets a reset, and so does the next call on this end (`connect(2)`, AF_UNSPEC). A
/// UNIX socket knows no reset and is shut down.
pub fn sever(socket: impl AsFd) {
    if connect_unspec(&socket).is_err() {
        let _ = shutdown(&socket, Shutdown::Both);
    }
}

/// Makes the coming close a reset: queued bytes are dropped and the peer sees RST, never a clean end.
pub fn reset_on_close(socket: impl AsFd) {
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}
