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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_does_not_fit_the_descriptor_is_an_error() {
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(bind_address_no_port(&udp).is_ok());
        let (reader, _writer) = std::io::pipe().unwrap();
        assert!(bind_address_no_port(&reader).is_err());
    }
}
