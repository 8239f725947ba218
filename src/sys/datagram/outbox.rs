//! What is to be sent on one socket, by one call: messages that lie in an inbox, those of one flow and one size put
//! together (`udp(7)`, UDP_SEGMENT).

use std::{
    io,
    net::{IpAddr, SocketAddr},
    ops::ControlFlow,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    ptr,
};

use super::{
    control::Control,
    inbox::{Inbox, Message},
    name::Name,
};
use crate::sys::socket;

/// Datagrams the kernel takes as one message; newer ones take 128.
const TOGETHER_MAX: usize = 64;

/// The payload of the largest IPv4 datagram, which what is put together must not exceed either.
const TOGETHER_BYTES_MAX: usize = 65_507;

/// A header that says nothing.
pub(super) fn no_header() -> libc::mmsghdr {
    // SAFETY: a header is integers and pointers, for which all zeroes are a value.
    unsafe { std::mem::zeroed() }
}

/// One message to send, which lies at a place of the inbox.
#[derive(Debug, Clone, Copy)]
pub struct Letter {
    /// Whose it is; only messages with the same tag are put together.
    pub tag: u64,
    /// Where it lies.
    pub place: usize,
    /// Its address, unless the socket is connected.
    pub to: Option<SocketAddr>,
    /// The local address it leaves from, unless that is the socket's.
    pub from: Option<IpAddr>,
    /// It may be put together with others of its flow.
    pub together: bool,
}

/// Messages that leave as one.
#[derive(Debug, Clone, Copy)]
pub struct Item {
    /// Whose it is.
    pub tag: u64,
    /// How many datagrams it is.
    pub datagrams: usize,
    /// How many bytes.
    pub bytes: usize,
    to: Option<SocketAddr>,
    from: Option<IpAddr>,
    /// The size of each datagram; the last one may be smaller.
    segment: usize,
    /// Its vectors.
    first: usize,
    count: usize,
    together: bool,
}

/// Where a message lies.
#[derive(Debug, Clone, Copy)]
struct Piece {
    place: usize,
    length: usize,
}

/// What became of an item.
#[derive(Debug)]
pub enum Told {
    /// This many datagrams and bytes of it were taken.
    Sent(usize, usize),
    /// The kernel cannot cut it for this destination; its datagrams follow one by one.
    NotTogether,
    /// It, or one datagram of it, was not taken.
    Failed(io::Error),
}

/// Messages to send.
pub struct Outbox {
    items: Vec<Item>,
    pieces: Vec<Piece>,
    names: Box<[Name]>,
    controls: Box<[Control]>,
    vectors: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
}

impl Outbox {
    /// An empty outbox for an inbox of so many places.
    pub fn new(places: usize) -> Self {
        Outbox {
            items: Vec::with_capacity(places),
            pieces: Vec::with_capacity(places),
            names: vec![Name::empty(); places].into_boxed_slice(),
            controls: vec![Control::empty(); places].into_boxed_slice(),
            vectors: vec![libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; places].into_boxed_slice(),
            headers: (0..places).map(|_| no_header()).collect(),
        }
    }

    /// True when there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Adds a message. There is room for as many as the inbox has places.
    pub fn push(&mut self, letter: Letter, message: &Message<'_>) {
        if self.pieces.len() == self.headers.len() {
            return;
        }
        let (length, datagrams) = (message.bytes.len(), message.datagrams());
        let piece = Piece { place: letter.place, length };
        let last = self.items.last_mut().filter(|last| letter.together && last.takes(letter.tag, message));
        match last {
            Some(last) => {
                last.datagrams += datagrams;
                last.bytes += length;
                last.count += 1;
            }
            None => self.items.push(Item {
                tag: letter.tag,
                datagrams,
                bytes: length,
                to: letter.to,
                from: letter.from,
                segment: message.segment,
                first: self.pieces.len(),
                count: 1,
                together: letter.together,
            }),
        }
        self.pieces.push(piece);
    }

    /// Sends everything, tells what became of each item, and forgets it. When `told` breaks, the rest is forgotten,
    /// too: the place of the first message that was not tried comes back.
    pub fn flush(
        &mut self,
        socket: impl AsFd,
        inbox: &Inbox,
        mut told: impl FnMut(&Item, Told) -> ControlFlow<()>,
    ) -> Option<usize> {
        let socket = socket.as_fd();
        let (mut next, mut rest) = (0, None);
        while next < self.items.len() {
            match self.send_from(socket, inbox, next) {
                Ok(0) => break,
                Ok(sent) => {
                    for item in self.items.iter().skip(next).take(sent) {
                        // What has left cannot be taken back, so there is nothing to break off.
                        let _ = told(item, Told::Sent(item.datagrams, item.bytes));
                    }
                    next += sent;
                }
                Err(error) => {
                    let Some(item) = self.items.get(next) else { break };
                    let outcome = if item.datagrams > 1 && means_not_together(&error) {
                        let _ = told(item, Told::NotTogether);
                        self.send_apart(socket, inbox, item, &mut told)
                    } else {
                        let first = self.pieces.get(item.first).map_or(usize::MAX, |piece| piece.place);
                        told(item, Told::Failed(error)).is_break().then_some(first)
                    };
                    next += 1;
                    if outcome.is_some() {
                        rest = outcome;
                        break;
                    }
                }
            }
        }
        self.items.clear();
        self.pieces.clear();
        rest
    }

    /// A lone datagram to a connected socket's peer, which the plainest call can send.
    fn plain<'a>(&self, inbox: &'a Inbox, next: usize) -> Option<&'a [u8]> {
        let (item, last) = (self.items.get(next)?, next + 1 == self.items.len());
        let piece = self.pieces.get(item.first)?;
        let is_plain = last && item.datagrams == 1 && item.to.is_none() && item.from.is_none();
        is_plain.then(|| inbox.bytes(piece.place, 0, piece.length))
    }

    /// Sends the items from `next` on: how many were taken. An error is the first one's.
    fn send_from(&mut self, socket: BorrowedFd<'_>, inbox: &Inbox, next: usize) -> io::Result<usize> {
        if let Some(bytes) = self.plain(inbox, next) {
            return socket::transmit(socket, bytes).map(|_| 1);
        }
        let (mut first_header, mut count) = (0, 0);
        let sides = self.names.iter_mut().zip(&mut self.controls).zip(&mut self.headers);
        for (place, (item, ((name, control), header))) in self.items.iter().zip(sides).enumerate().skip(next)
        {
            let vectors = self.vectors.get_mut(item.first..item.first + item.count).unwrap_or_default();
            let pieces = self.pieces.iter().skip(item.first);
            for (vector, piece) in vectors.iter_mut().zip(pieces) {
                let bytes = inbox.bytes(piece.place, 0, piece.length);
                *vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            }
            address(&mut header.msg_hdr, (name, control), item.to, item.from, item.cut());
            (header.msg_hdr.msg_iov, header.msg_hdr.msg_iovlen) = (vectors.as_mut_ptr(), vectors.len() as _);
            if count == 0 {
                first_header = place;
            }
            count += 1;
        }
        let headers = self.headers.get_mut(first_header..first_header + count).unwrap_or_default();
        let mut call = || {
            // SAFETY: each of the headers was pointed above at names, controls and vectors of `self` and, through
            // these, at bytes of `inbox`, all with their true sizes and all borrowed for the call, which only reads
            // them.
            let sent = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    headers.as_mut_ptr(),
                    headers.len() as libc::c_uint,
                    (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
                )
            };
            usize::try_from(sent).map_err(|_| io::Error::last_os_error())
        };
        call().or_else(|error| if error.kind() == io::ErrorKind::Interrupted { call() } else { Err(error) })
    }

    /// Sends the datagrams of an item one by one. When `told` breaks, what is left of that message is given up, and
    /// the place of the next one comes back.
    fn send_apart(
        &self,
        socket: BorrowedFd<'_>,
        inbox: &Inbox,
        item: &Item,
        told: &mut impl FnMut(&Item, Told) -> ControlFlow<()>,
    ) -> Option<usize> {
        for piece in self.pieces.iter().skip(item.first).take(item.count) {
            for bytes in inbox.bytes(piece.place, 0, piece.length).chunks(item.segment.max(1)) {
                let outcome = match send(socket, bytes, item.to, item.from) {
                    Ok(()) => told(item, Told::Sent(1, bytes.len())),
                    Err(error) => told(item, Told::Failed(error)),
                };
                if outcome.is_break() {
                    return Some(piece.place + 1);
                }
            }
        }
        None
    }
}

impl Item {
    /// True when a message may be its continuation: nothing but the last datagram may be smaller than the others.
    fn takes(&self, tag: u64, message: &Message<'_>) -> bool {
        let length = message.bytes.len();
        let is_whole = self.segment > 0 && self.bytes == self.datagrams * self.segment;
        let fits = message.segment == self.segment || (length < self.segment && message.datagrams() == 1);
        self.together
            && self.tag == tag
            && is_whole
            && fits
            && length > 0
            && self.datagrams + message.datagrams() <= TOGETHER_MAX
            && self.bytes + length <= TOGETHER_BYTES_MAX
    }

    /// What the kernel is told to cut it into, if it is more than one datagram.
    fn cut(&self) -> Option<u16> {
        u16::try_from(self.segment).ok().filter(|_| self.datagrams > 1)
    }
}

/// The kernel's ways to say that it cannot cut a message: no checksum offload (EIO), or a datagram that would not fit
/// the link (EINVAL, EMSGSIZE).
fn means_not_together(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE))
}

/// Writes a header's addresses.
fn address(
    header: &mut libc::msghdr,
    (name, control): (&mut Name, &mut Control),
    to: Option<SocketAddr>,
    from: Option<IpAddr>,
    cut: Option<u16>,
) {
    (header.msg_name, header.msg_namelen) = match to.map(Name::of) {
        Some((address, length)) => {
            *name = address;
            ((&raw mut *name).cast(), length)
        }
        None => (ptr::null_mut(), 0),
    };
    let length = control.write(from, cut);
    header.msg_control = if length == 0 { ptr::null_mut() } else { control.0.as_mut_ptr().cast() };
    header.msg_controllen = length as _;
    header.msg_flags = 0;
}

/// Sends one datagram without waiting: to an address unless the socket is connected, from one unless it is the
/// socket's.
pub fn send(socket: impl AsFd, bytes: &[u8], to: Option<SocketAddr>, from: Option<IpAddr>) -> io::Result<()> {
    let (mut name, mut control) = (Name::empty(), Control::empty());
    let mut vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut header = no_header().msg_hdr;
    address(&mut header, (&mut name, &mut control), to, from, None);
    (header.msg_iov, header.msg_iovlen) = (&mut vector, 1);
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the header points at locals of this function and, through `vector`, at `bytes`, all with their true
    // sizes; the call only reads them.
    let sent = unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const header, flags) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
