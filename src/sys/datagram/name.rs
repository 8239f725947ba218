//! Addresses in the kernel's form.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// A socket address as the kernel reads and writes it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) union Name {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

/// Room for either family.
pub(super) const NAME_BYTES: libc::socklen_t = size_of::<Name>() as libc::socklen_t;

impl Name {
    /// No address of any family.
    pub(super) fn empty() -> Self {
        // SAFETY: both forms are plain integers, for which all zeroes are a value.
        unsafe { std::mem::zeroed() }
    }

    /// An address, and how many bytes of it count.
    pub(super) fn of(address: SocketAddr) -> (Self, libc::socklen_t) {
        let mut name = Name::empty();
        match address {
            SocketAddr::V4(address) => {
                // SAFETY: what is written is plain bytes, and was zero before.
                let v4 = unsafe { &mut name.v4 };
                v4.sin_family = libc::AF_INET as libc::sa_family_t;
                v4.sin_port = address.port().to_be();
                v4.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
                (name, size_of::<libc::sockaddr_in>() as libc::socklen_t)
            }
            SocketAddr::V6(address) => {
                // SAFETY: as above.
                let v6 = unsafe { &mut name.v6 };
                v6.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                v6.sin6_port = address.port().to_be();
                v6.sin6_flowinfo = address.flowinfo();
                v6.sin6_addr.s6_addr = address.ip().octets();
                v6.sin6_scope_id = address.scope_id();
                (name, size_of::<libc::sockaddr_in6>() as libc::socklen_t)
            }
        }
    }

    /// The address of which the kernel has written `length` bytes; `None` when it is of another family.
    pub(super) fn read(&self, length: libc::socklen_t) -> Option<SocketAddr> {
        // SAFETY: all bytes are initialised (see `empty`), and every pattern of bits is a value of both forms.
        let (v4, v6) = unsafe { (self.v4, self.v6) };
        let (length, family) = (length as usize, libc::c_int::from(v4.sin_family));
        if family == libc::AF_INET && length >= size_of::<libc::sockaddr_in>() {
            let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
            return Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into());
        }
        if family == libc::AF_INET6 && length >= size_of::<libc::sockaddr_in6>() {
            let (ip, port) = (Ipv6Addr::from(v6.sin6_addr.s6_addr), u16::from_be(v6.sin6_port));
            return Some(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_and_half_ones_are_none() {
        for text in ["1.2.3.4:5", "[2001:db8::1]:65535", "[fe80::1%3]:7"] {
            let address: SocketAddr = text.parse().unwrap();
            let (name, length) = Name::of(address);
            assert_eq!(name.read(length), Some(address));
            assert_eq!(name.read(length - 1), None);
        }
        assert_eq!(Name::empty().read(NAME_BYTES), None);
    }
}
