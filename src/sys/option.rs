//! Socket options that the system-call crate has no function for.

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

#[cfg(test)]
mod tests {
    use super::*;

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
