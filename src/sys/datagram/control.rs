//! What travels beside a datagram (`cmsg(3)`): the local address it was sent to or leaves from, and the size of the
//! datagrams that were put together.
//!
//! Read and written as bytes, without a pointer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Length, level and type, as `struct cmsghdr` has them on 64-bit Linux.
const HEADER: usize = 16;
const _: () = assert!(size_of::<libc::cmsghdr>() == HEADER && align_of::<libc::cmsghdr>() <= 8);

/// Enough for an IPv6 address with its interface (40), a size (24) and a count (24).
pub(super) const CONTROL_BYTES: usize = 88;

/// Room for it, aligned as the kernel's macros expect.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Control(pub(super) [u8; CONTROL_BYTES]);

/// What was found beside a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Beside {
    /// The local address it was sent to.
    pub(super) destination: Option<IpAddr>,
    /// The size of each datagram in it but the last, when there are several.
    pub(super) segment: Option<usize>,
    /// How many datagrams its socket had lost, since it was opened, when this one came.
    pub(super) lost: Option<u32>,
}

/// Where the next entry begins behind one of `length` bytes.
fn aligned(length: usize) -> usize {
    length.saturating_add(7) & !7
}

/// A number at the beginning of `bytes`.
fn int(bytes: &[u8]) -> Option<i32> {
    bytes.first_chunk().copied().map(i32::from_ne_bytes)
}

/// Reads what the kernel has written.
pub(super) fn read(mut bytes: &[u8]) -> Beside {
    let mut beside = Beside::default();
    while let Some((header, _)) = bytes.split_first_chunk::<HEADER>() {
        let length = header.first_chunk().copied().map_or(0, usize::from_ne_bytes);
        let (level, kind) =
            (int(header.get(8..).unwrap_or_default()), int(header.get(12..).unwrap_or_default()));
        let Some(data) = bytes.get(HEADER..length) else { break };
        match (level, kind) {
            // Index of the interface, then the address to answer from, then the one in the datagram.
            (Some(libc::SOL_IP), Some(libc::IP_PKTINFO)) => {
                let ip = data.get(4..).and_then(|rest| rest.first_chunk::<4>()).copied();
                beside.destination = ip.map(|ip| Ipv4Addr::from(ip).into());
            }
            // The address, then the index of the interface.
            (Some(libc::SOL_IPV6), Some(libc::IPV6_PKTINFO)) => {
                let ip = data.first_chunk::<16>().copied();
                beside.destination = ip.map(|ip| Ipv6Addr::from(ip).into());
            }
            (Some(libc::SOL_UDP), Some(libc::UDP_GRO)) => {
                beside.segment =
                    int(data).and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0);
            }
            (Some(libc::SOL_SOCKET), Some(libc::SO_RXQ_OVFL)) => {
                beside.lost = data.first_chunk().copied().map(u32::from_ne_bytes);
            }
            _ => {}
        }
        let Some(rest) = bytes.get(aligned(length)..) else { break };
        bytes = rest;
    }
    beside
}

impl Control {
    /// Nothing.
    pub(super) fn empty() -> Self {
        Control([0; CONTROL_BYTES])
    }

    /// Writes where a message leaves from, and the size of the datagrams to cut it into: how many bytes that takes.
    pub(super) fn write(&mut self, source: Option<IpAddr>, segment: Option<u16>) -> usize {
        let mut end = 0;
        match source {
            Some(IpAddr::V4(ip)) => {
                let mut data = [0; 12];
                if let Some(place) = data.get_mut(4..8) {
                    place.copy_from_slice(&ip.octets());
                }
                self.put(&mut end, libc::SOL_IP, libc::IP_PKTINFO, &data);
            }
            Some(IpAddr::V6(ip)) => {
                let mut data = [0; 20];
                if let Some(place) = data.first_chunk_mut() {
                    *place = ip.octets();
                }
                self.put(&mut end, libc::SOL_IPV6, libc::IPV6_PKTINFO, &data);
            }
            None => {}
        }
        if let Some(size) = segment {
            self.put(&mut end, libc::SOL_UDP, libc::UDP_SEGMENT, &size.to_ne_bytes());
        }
        end
    }

    /// Appends an entry at `end` and moves that behind it.
    fn put(&mut self, end: &mut usize, level: i32, kind: i32, data: &[u8]) {
        let length = HEADER + data.len();
        let Some(place) = self.0.get_mut(*end..*end + aligned(length)) else { return };
        let parts = [&length.to_ne_bytes()[..], &level.to_ne_bytes(), &kind.to_ne_bytes(), data];
        for (byte, value) in place.iter_mut().zip(parts.into_iter().flatten().chain(std::iter::repeat(&0))) {
            *byte = *value;
        }
        *end += aligned(length);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_fits_and_is_found_again() {
        for ip in ["127.0.0.5", "2001:db8::1"] {
            let ip: IpAddr = ip.parse().unwrap();
            let mut control = Control([0xff; CONTROL_BYTES]);
            let end = control.write(Some(ip), Some(1200));
            assert!(end <= CONTROL_BYTES);
            assert_eq!(read(&control.0[..end]).destination, Some(ip));
            let end = control.write(Some(ip), None);
            assert_eq!(read(&control.0[..end]), Beside { destination: Some(ip), ..Beside::default() });
        }
        assert_eq!(Control::empty().write(None, None), 0);
    }

    #[test]
    fn the_size_of_datagrams_put_together_is_read() {
        let mut control = Control::empty();
        let mut end = 0;
        control.put(&mut end, 1, 2, b"of no interest");
        control.put(&mut end, libc::SOL_UDP, libc::UDP_GRO, &1400i32.to_ne_bytes());
        control.put(&mut end, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &7u32.to_ne_bytes());
        assert_eq!(read(&control.0[..end]), Beside { destination: None, segment: Some(1400), lost: Some(7) });
    }

    proptest! {
        #[test]
        fn no_bytes_confuse_it(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            read(&bytes);
        }

        #[test]
        fn nor_do_wrong_lengths(length in any::<usize>(), rest in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.extend(rest);
            read(&bytes);
        }
    }
}
