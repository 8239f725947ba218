//! Binds a listener once per worker, before any worker starts, so that a conflict is known before anybody is served.

use std::{io, net::SocketAddr, os::fd::OwnedFd};

use crate::sys::socket;

/// One listener's sockets, one per worker, and the address they share.
#[derive(Debug)]
pub struct Bound {
    /// With the real port.
    pub address: SocketAddr,
    /// In the order of the workers; none listens yet.
    pub sockets: Vec<OwnedFd>,
}

/// Binds `workers` sockets to one address. With port 0 the kernel chooses for the first and the others follow.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Bound> {
    if address.port() != 0 {
        socket::taken(address)?;
    }
    let first = socket::bind_listener(address)?;
    let address = socket::local_address(&first)?;
    let mut sockets = vec![first];
    for _ in 1..workers {
        sockets.push(socket::bind_listener(address)?);
    }
    Ok(Bound { address, sockets })
}

/// What the operator can do about a failed bind.
pub fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program listens there; stop it or choose another port (`ss -ltnp` shows who)"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE or a lower net.ipv4.ip_unprivileged_port_start"
        }
        io::ErrorKind::AddrNotAvailable => {
            "no interface of this host has that address (`ip address` shows them)"
        }
        _ => "see bind(2) for this error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_workers_share_the_port_the_kernel_chose() {
        let bound = bind(SocketAddr::from(([127, 0, 0, 1], 0)), 3).unwrap();
        assert_ne!(bound.address.port(), 0);
        for socket in &bound.sockets {
            assert_eq!(socket::local_address(socket).unwrap(), bound.address);
        }
    }

    #[test]
    fn a_port_somebody_listens_on_is_refused_with_advice() {
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let error = bind(other.local_addr().unwrap(), 1).unwrap_err();
        assert!(advice(&error).contains("another program"));
    }
}
