//! One of the exchanges that go on at a time: its socket, what it sent, and how much of the answer has come.
//!
//! The sockets are blocking, so that `connect` is one call (on loopback it does not wait); everything else asks not to wait.

use std::net::SocketAddrV4;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::{Errno, Result};
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::answer::{Answer, REQUEST, Verdict};

const MESSAGE_BYTES: usize = 128;
const BULK_BYTES: usize = 1024 * 1024;
const CONNECT_PATIENCE: Duration = Duration::from_secs(1);
/// A datagram without an answer is taken for lost after this long, and given up after so many more attempts.
const RESEND_AFTER: Duration = Duration::from_millis(200);
const RESENDS_MAX: u32 = 10;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Work {
    Get,
    Echo,
    Bulk,
    Churn,
    Datagrams,
    DatagramChurn,
}

impl Work {
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "get" => Self::Get,
            "echo" => Self::Echo,
            "bulk" => Self::Bulk,
            "churn" => Self::Churn,
            "datagrams" => Self::Datagrams,
            "datagram-churn" => Self::DatagramChurn,
            _ => return None,
        })
    }

    fn is_udp(self) -> bool {
        matches!(self, Self::Datagrams | Self::DatagramChurn)
    }

    /// Whether every exchange comes from a socket of its own.
    pub fn is_churn(self) -> bool {
        matches!(self, Self::Churn | Self::DatagramChurn)
    }

    pub fn answer_bytes(self) -> usize {
        if self == Self::Bulk { BULK_BYTES } else { MESSAGE_BYTES }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Connect,
    Write,
    Read,
    Content,
    Timeout,
}

pub enum Progress {
    Waiting,
    Complete,
    Failed(Fault),
}

pub struct Slot {
    pub socket: OwnedFd,
    pub started: Instant,
    work: Work,
    message: [u8; MESSAGE_BYTES],
    received: usize,
    answer: Answer,
    sent: Instant,
    resends: u32,
}

impl Slot {
    /// Opens a socket; from one of `sources` where the work wants new ones.
    pub fn open(
        work: Work,
        target: SocketAddrV4,
        sources: &mut impl Iterator<Item = SocketAddrV4>,
    ) -> Result<Self> {
        let started = Instant::now();
        let kind = if work.is_udp() { SocketType::DGRAM } else { SocketType::STREAM };
        let socket = net::socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, None)?;
        if work.is_churn() {
            // A port may be somebody's by chance; the one after it will do.
            while let Some(Err(errno)) = sources.next().map(|source| net::bind(&socket, &source)) {
                if errno != Errno::ADDRINUSE {
                    return Err(errno);
                }
            }
        }
        if !work.is_udp() {
            sockopt::set_socket_timeout(&socket, Timeout::Send, Some(CONNECT_PATIENCE))?;
            sockopt::set_tcp_nodelay(&socket, true)?;
        }
        net::connect(&socket, &target)?;
        let message = std::array::from_fn(|at| b'a' + (at % 23) as u8);
        let answer = Answer::default();
        Ok(Self { socket, started, work, message, received: 0, answer, sent: started, resends: 0 })
    }

    /// Sends the message that begins an exchange. The number makes every message one of its kind.
    pub fn begin(&mut self, number: u64, now: Instant) -> std::result::Result<(), Fault> {
        let first = if self.work == Work::Bulk { BULK_BYTES as u64 } else { number };
        self.message[..8].copy_from_slice(&first.to_le_bytes());
        (self.received, self.resends, self.sent) = (0, 0, now);
        self.answer.begin();
        self.send()
    }

    fn send(&self) -> std::result::Result<(), Fault> {
        let message = if self.work == Work::Get { REQUEST } else { &self.message };
        let sent = net::send(&self.socket, message, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        if sent == Ok(message.len()) { Ok(()) } else { Err(Fault::Write) }
    }

    /// Takes what has arrived. `buffer` is the loop's, for all slots.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Progress {
        let mut flags = RecvFlags::DONTWAIT;
        // Large answers are dropped where they lie: copying them out would cost this side more than the proxy pays.
        flags.set(RecvFlags::TRUNC, self.work == Work::Bulk);
        let received = match net::recv(&self.socket, &mut *buffer, flags) {
            Ok((_, received)) => received,
            Err(Errno::AGAIN | Errno::INTR) => return Progress::Waiting,
            Err(_) => return Progress::Failed(Fault::Read),
        };
        match self.work {
            Work::Datagrams | Work::DatagramChurn => self.take_datagram(&buffer[..received]),
            Work::Bulk => self.take(received),
            Work::Get => self.take_answer(&buffer[..received]),
            Work::Echo | Work::Churn => {
                if self.message.get(self.received..self.received + received) == Some(&buffer[..received]) {
                    self.take(received)
                } else {
                    Progress::Failed(Fault::Content)
                }
            }
        }
    }

    /// Counts bytes of a stream; 0 is its end, which is the end of an exchange only where connections do not stay.
    fn take(&mut self, received: usize) -> Progress {
        self.received += received;
        let whole = self.received == self.work.answer_bytes();
        match (received, self.work) {
            _ if self.received > self.work.answer_bytes() => Progress::Failed(Fault::Content),
            (0, Work::Churn) if whole => Progress::Complete,
            (0, _) => Progress::Failed(Fault::Read),
            (_, Work::Churn) => Progress::Waiting,
            _ if whole => Progress::Complete,
            _ => Progress::Waiting,
        }
    }

    fn take_answer(&mut self, bytes: &[u8]) -> Progress {
        match self.answer.take(bytes) {
            _ if bytes.is_empty() => Progress::Failed(Fault::Read),
            Verdict::Whole => Progress::Complete,
            Verdict::Partial => Progress::Waiting,
            Verdict::Wrong => Progress::Failed(Fault::Content),
        }
    }

    fn take_datagram(&mut self, datagram: &[u8]) -> Progress {
        if datagram == self.message {
            Progress::Complete
        } else if datagram.len() == MESSAGE_BYTES && datagram[8..] == self.message[8..] {
            // The late answer to a message that was sent twice.
            Progress::Waiting
        } else {
            Progress::Failed(Fault::Content)
        }
    }

    /// Sends a datagram again when it seems lost; says whether it did.
    pub fn resend(&mut self, now: Instant) -> std::result::Result<bool, Fault> {
        if !self.work.is_udp() || now.duration_since(self.sent) < RESEND_AFTER {
            return Ok(false);
        }
        if self.resends == RESENDS_MAX {
            return Err(Fault::Timeout);
        }
        self.resends += 1;
        self.sent = now;
        self.send().map(|()| true)
    }
}

impl AsFd for Slot {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
