//! Socket options and questions that the system-call crate has no function for.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

/// Sets an option whose value is an `int`.
fn set(socket: impl AsFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    let length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the descriptor is borrowed for the call, and the kernel reads `length` bytes of `value`.
    let outcome = unsafe {
        libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, (&raw const value).cast(), length)
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A bind without a port takes none: the connect does (`ip(7)`).
pub fn bind_address_no_port(socket: impl AsFd) -> io::Result<()> {
    set(socket, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
}

/// Hands connections over only when their first bytes have come, or after about that many seconds (`tcp(7)`,
/// TCP_DEFER_ACCEPT); 0 hands them over at once. For a listener, at any time.
pub fn defer_accept(socket: impl AsFd, seconds: i32) -> io::Result<()> {
    set(socket, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, seconds)
}

/// Each datagram comes with the local address it was sent to (`ip(7)`, IP_PKTINFO; `ipv6(7)`, IPV6_RECVPKTINFO).
pub fn tell_destination(socket: impl AsFd, is_ipv4: bool) -> io::Result<()> {
    match is_ipv4 {
        true => set(socket, libc::SOL_IP, libc::IP_PKTINFO, 1),
        false => set(socket, libc::SOL_IPV6, libc::IPV6_RECVPKTINFO, 1),
    }
}

/// Each datagram comes with the number of those that were lost because the queue was full, once there are any
/// (`socket(7)`, SO_RXQ_OVFL).
pub fn tell_losses(socket: impl AsFd) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)
}

/// The kernel may hand over several datagrams of one flow as one message and says their size (`udp(7)`, UDP_GRO,
/// Linux 5.0).
pub fn put_datagrams_together(socket: impl AsFd) -> io::Result<()> {
    set(socket, libc::SOL_UDP, libc::UDP_GRO, 1)
}

/// Bytes that were sent and are not acknowledged yet, the end of the stream included (`tcp(7)`, SIOCOUTQ); zero for a
/// descriptor that cannot tell.
pub fn unacknowledged(socket: impl AsFd) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is borrowed for the call, and the kernel writes one `int` to `bytes`.
    let outcome = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if outcome == 0 { usize::try_from(bytes).unwrap_or(0) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_peer_has_no_room_for_is_not_acknowledged() {
        let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(unacknowledged(&ours), 0);
        ours.set_nonblocking(true).unwrap();
        let full = std::io::Write::write_all(&mut ours, &[0; 32 << 20]);
        assert_eq!(full.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(unacknowledged(&ours) > 0);
        assert_eq!(unacknowledged(std::io::pipe().unwrap().0), 0);
        drop(theirs);
    }

    #[test]
    fn an_option_that_does_not_fit_the_descriptor_is_an_error() {
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(bind_address_no_port(&udp).is_ok());
        assert!(tell_destination(&udp, true).is_ok());
        assert!(put_datagrams_together(&udp).is_ok());
        assert!(tell_losses(&udp).is_ok());
        let (reader, _writer) = std::io::pipe().unwrap();
        assert!(bind_address_no_port(&reader).is_err());
        assert!(tell_destination(&reader, false).is_err());
    }
}
