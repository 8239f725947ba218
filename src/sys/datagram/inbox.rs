//! Where datagrams are received: a few places of one block of memory, filled by one call.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd},
    ptr,
};

use super::{
    control::{self, CONTROL_BYTES, Control},
    name::{NAME_BYTES, Name},
};

/// The largest message there is: the payload of a datagram is smaller, and so is what the kernel puts together.
pub const PLACE_BYTES: usize = 64 * 1024;

/// From the beginning of a place to that of the next one. With a power of two all of them would share a few lines of
/// the processor's caches.
const STRIDE: usize = PLACE_BYTES + 5 * 64;

/// Whose datagrams arrive at a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// Anybody's: each one comes with its sender's address.
    Anybody,
    /// Only its peer's: the socket is connected.
    Peer,
}

/// Places for messages, and what the kernel says beside each.
pub struct Inbox {
    arena: Box<[u8]>,
    /// How many bytes of each place are received into.
    room: usize,
    names: Box<[Name]>,
    controls: Box<[Control]>,
    vectors: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
}

/// One received message.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// The size of each datagram in it; the last one may be smaller.
    pub segment: usize,
    /// Whose it is, if anybody could send it.
    pub source: Option<SocketAddr>,
    /// The local address it was sent to, if the socket tells.
    pub destination: Option<IpAddr>,
    /// How many datagrams its socket had lost in all when this one came, if the socket tells; none says nothing.
    pub lost: Option<u32>,
    /// A part of it is missing.
    pub truncated: bool,
}

impl Message<'_> {
    /// How many datagrams it is.
    pub fn datagrams(&self) -> usize {
        // An empty datagram is one, too.
        self.bytes.len().div_ceil(self.segment.max(1)).max(1)
    }
}

impl Inbox {
    /// An empty inbox. Its memory is touched only where something is received.
    pub fn new(places: usize) -> Self {
        Inbox::with_room(places, PLACE_BYTES)
    }

    /// One that cuts off what is larger than `room`.
    pub fn with_room(places: usize, room: usize) -> Self {
        Inbox {
            arena: vec![0; places * STRIDE].into_boxed_slice(),
            room: room.min(PLACE_BYTES),
            names: vec![Name::empty(); places].into_boxed_slice(),
            controls: vec![Control::empty(); places].into_boxed_slice(),
            vectors: vec![libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; places].into_boxed_slice(),
            headers: (0..places).map(|_| super::outbox::no_header()).collect(),
        }
    }

    /// How many places there are.
    pub fn places(&self) -> usize {
        self.headers.len()
    }

    /// Receives up to `count` messages that wait already into the places from `first` on: how many. An error that was
    /// reported for the socket (an ICMP message, say) comes first and takes nothing.
    pub fn receive(
        &mut self,
        socket: impl AsFd,
        sender: Sender,
        first: usize,
        count: usize,
    ) -> io::Result<usize> {
        let end = first.saturating_add(count).min(self.places());
        self.prepare(sender, first, end);
        let headers = self.headers.get_mut(first..end).unwrap_or_default();
        let (socket, length) = (socket.as_fd(), headers.len() as libc::c_uint);
        let mut call = || {
            // SAFETY: `prepare` has pointed each of the `length` headers at memory of `self`, which nothing else
            // touches or frees during the call, with the true sizes; a null time-out is none.
            let received = unsafe {
                libc::recvmmsg(
                    socket.as_raw_fd(),
                    headers.as_mut_ptr(),
                    length,
                    libc::MSG_DONTWAIT as _,
                    ptr::null_mut(),
                )
            };
            usize::try_from(received).map_err(|_| io::Error::last_os_error())
        };
        // Signals are rare, so one more attempt is enough.
        call().or_else(|error| if error.kind() == io::ErrorKind::Interrupted { call() } else { Err(error) })
    }

    /// Points the headers at their memory.
    fn prepare(&mut self, sender: Sender, first: usize, end: usize) {
        let room = self.room;
        let places = self.arena.chunks_exact_mut(STRIDE).zip(&mut self.names).zip(&mut self.controls);
        let heads = self.headers.iter_mut().zip(&mut self.vectors);
        for (((bytes, name), control), (header, vector)) in places.zip(heads).take(end).skip(first) {
            *vector = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: room };
            header.msg_len = 0;
            let header = &mut header.msg_hdr;
            (header.msg_name, header.msg_namelen) = match sender {
                Sender::Anybody => ((&raw mut *name).cast(), NAME_BYTES),
                Sender::Peer => (ptr::null_mut(), 0),
            };
            (header.msg_iov, header.msg_iovlen) = (vector, 1);
            header.msg_control = control.0.as_mut_ptr().cast();
            header.msg_controllen = CONTROL_BYTES as _;
            header.msg_flags = 0;
        }
    }

    /// What was received last at a place.
    pub fn message(&self, place: usize) -> Option<Message<'_>> {
        let header = self.headers.get(place)?;
        let bytes = self.bytes(place, 0, header.msg_len as usize);
        let header = &header.msg_hdr;
        let said = self.controls.get(place)?.0.get(..length(header.msg_controllen)).unwrap_or_default();
        let beside = control::read(said);
        Some(Message {
            bytes,
            segment: beside.segment.unwrap_or(bytes.len()),
            source: self.names.get(place).and_then(|name| name.read(header.msg_namelen)),
            destination: beside.destination,
            lost: beside.lost,
            truncated: header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0,
        })
    }

    /// Some bytes of a place.
    pub(super) fn bytes(&self, place: usize, offset: usize, length: usize) -> &[u8] {
        let start = place.saturating_mul(STRIDE).saturating_add(offset);
        self.arena.get(start..start.saturating_add(length)).unwrap_or_default()
    }
}

/// A length as C libraries have it, each in a type of its own.
fn length(value: impl TryInto<usize>) -> usize {
    value.try_into().unwrap_or(0)
}
