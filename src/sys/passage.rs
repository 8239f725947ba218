//! A passage for descriptors between threads that have tables of their own (`unix(7)`, SCM_RIGHTS).
//!
//! What is passed has a label. One send is one receive: a descriptor is a barrier in the stream, so that no two labels are
//! received as one.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use rustix::{
    cmsg_space,
    io::{Errno, fcntl_dupfd_cloexec},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
};

/// The longest label in bytes.
pub const LABEL_MAX: usize = 1024;

/// Where descriptors go in; cheap to clone, usable from any thread whose table has it.
#[derive(Debug, Clone)]
pub struct Entrance(Arc<OwnedFd>);

/// Where they come out, for one thread.
#[derive(Debug)]
pub struct Exit(OwnedFd);

/// What came out.
#[derive(Debug)]
pub struct Passed {
    /// As it was sent; empty only when everybody who could send is gone.
    pub label: Vec<u8>,
    /// `None` when it was lost because a table that threads share was full.
    pub descriptor: Option<OwnedFd>,
}

/// Opens a passage. It holds some 250 descriptors on their way, bounded by `net.core.wmem_default`.
pub fn open() -> io::Result<(Entrance, Exit)> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (entrance, exit) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    Ok((Entrance(Arc::new(entrance)), Exit(exit)))
}

impl Entrance {
    /// Passes a copy of a descriptor on; the sender's own can be closed then. `WouldBlock` when the passage is full, `BrokenPipe`
    /// when nobody is behind it, `InvalidInput` when the label is empty or longer than [`LABEL_MAX`].
    pub fn pass(&self, label: &[u8], descriptor: impl AsFd) -> io::Result<()> {
        if label.is_empty() || label.len() > LABEL_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let descriptors = [descriptor.as_fd()];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        sendmsg(&self.0, &[IoSlice::new(label)], &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

impl AsFd for Entrance {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Exit {
    /// Takes what comes next, if there is anything. Without room for it in this thread's table it stays in the passage: `EMFILE`.
    pub fn take(&self) -> io::Result<Option<Passed>> {
        // The kernel throws away what finds no room. Nobody else opens anything in a table of one's own.
        drop(fcntl_dupfd_cloexec(&self.0, 0)?);
        match self.receive() {
            Err(Errno::AGAIN) => Ok(None),
            received => Ok(Some(received?).filter(|passed| !passed.label.is_empty())),
        }
    }

    fn receive(&self) -> rustix::io::Result<Passed> {
        let mut label = vec![0; LABEL_MAX];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut pieces = [IoSliceMut::new(&mut label)];
        let received = recvmsg(&self.0, &mut pieces, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        label.truncate(received.bytes);
        let descriptor = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        Ok(Passed { label, descriptor })
    }
}

impl AsFd for Exit {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::unix::net::UnixStream,
    };

    use super::*;
    use crate::sys::descriptor_table;

    #[test]
    fn each_descriptor_comes_out_with_its_label() {
        let (entrance, exit) = open().unwrap();
        assert!(exit.take().unwrap().is_none());
        let pairs: Vec<_> = (0..3).map(|_| UnixStream::pair().unwrap()).collect();
        for (number, (ours, _)) in pairs.iter().enumerate() {
            entrance.pass(&vec![b'a' + number as u8; 10 + number], ours).unwrap();
        }
        for (number, (_, mut theirs)) in pairs.into_iter().enumerate() {
            let Passed { label, descriptor } = exit.take().unwrap().unwrap();
            let passed = descriptor.unwrap();
            assert_eq!(label, vec![b'a' + number as u8; 10 + number]);
            let flags = rustix::io::fcntl_getfd(&passed).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
            theirs.write_all(&[number as u8]).unwrap();
            let mut byte = [9];
            UnixStream::from(passed).read_exact(&mut byte).unwrap();
            assert_eq!(byte, [number as u8]);
        }
        assert!(exit.take().unwrap().is_none());
    }

    #[test]
    fn a_full_passage_refuses_and_loses_nothing() {
        let (entrance, exit) = open().unwrap();
        let label = [7; LABEL_MAX];
        let mut count = 0;
        let refusal = loop {
            match entrance.pass(&label, &entrance) {
                Ok(()) => count += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(refusal.kind(), io::ErrorKind::WouldBlock);
        for _ in 0..count {
            assert_eq!(exit.take().unwrap().unwrap().label, label);
        }
        assert!(exit.take().unwrap().is_none());
        entrance.pass(&label, &entrance).unwrap();
        assert!(exit.take().unwrap().is_some());
    }

    #[test]
    fn labels_are_bounded_and_a_passage_that_leads_nowhere_says_so() {
        let (entrance, exit) = open().unwrap();
        for label in [&[][..], &[0; LABEL_MAX + 1]] {
            assert_eq!(entrance.pass(label, &entrance).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        drop(exit);
        assert_eq!(entrance.pass(b"x", &entrance).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn what_finds_no_room_stays_where_it_is() {
        let (entrance, exit) = open().unwrap();
        let taken = std::thread::spawn(move || {
            descriptor_table::separate([entrance.as_fd(), exit.as_fd()]).unwrap();
            (0..2).for_each(|_| entrance.pass(b"x", &entrance).unwrap());
            let mut filling: Vec<_> =
                std::iter::repeat_with(|| exit.0.try_clone()).map_while(Result::ok).collect();
            assert_eq!(exit.take().unwrap_err().raw_os_error(), Some(Errno::MFILE.raw_os_error()));
            filling.pop();
            let first = exit.take().unwrap().unwrap();
            // As where another thread is faster: it is lost then, and its label says what it was.
            let second = exit.receive().unwrap();
            [first, second].map(|passed| (passed.label, passed.descriptor.is_some()))
        });
        assert_eq!(taken.join().unwrap(), [(b"x".to_vec(), true), (b"x".to_vec(), false)]);
    }
}
