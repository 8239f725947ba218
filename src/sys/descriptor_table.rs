//! A thread's own table of descriptors.
//!
//! Threads share one table unless they ask for another. Each call on a descriptor of a shared table counts its users by atomic
//! instructions, and each open and close takes the table's lock; in a table of one's own neither is needed
//! (`fdget`, `alloc_fd` in `fs/file.c` of Linux).

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, RawFd},
};

/// Standard input, output and error stay open.
const FIRST: RawFd = 3;

/// Gives the calling thread a table of its own, in which nothing is open but the standard streams and what is `kept`, under the
/// same numbers (`close_range(2)`, CLOSE_RANGE_UNSHARE; Linux 5.9). From then on other threads and this one do not know what the
/// other opens; use a [`passage`](super::passage).
///
/// The thread must hold no other descriptors. When the kernel refuses, everything stays as it is.
pub fn separate<'fd>(kept: impl IntoIterator<Item = BorrowedFd<'fd>>) -> io::Result<()> {
    let mut kept: Vec<RawFd> = kept.into_iter().map(|kept| kept.as_raw_fd()).collect();
    kept.retain(|kept| *kept >= FIRST);
    kept.sort_unstable();
    let behind = kept.last().map_or(FIRST, |last| last + 1);
    close(behind, RawFd::MAX, libc::CLOSE_RANGE_UNSHARE)?;
    let mut first = FIRST;
    for kept in kept {
        if first < kept {
            close(first, kept - 1, 0)?;
        }
        first = kept + 1;
    }
    Ok(())
}

/// Closes the numbers from `first` to `last`.
fn close(first: RawFd, last: RawFd, flags: u32) -> io::Result<()> {
    // SAFETY: it takes numbers only. What is closed is this thread's copy, which nobody owns: the owners are other threads, and
    // their table is another one. Before the table is separate this closes nothing that the flag has not copied.
    let outcome = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::fd::AsFd, os::unix::net::UnixStream, thread};

    use super::*;

    fn is_open(number: RawFd) -> bool {
        std::fs::read_link(format!("/proc/thread-self/fd/{number}")).is_ok()
    }

    #[test]
    fn a_thread_keeps_what_it_asked_for_and_the_others_keep_everything() {
        let (kept, gone) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        let numbers = [&kept.0, &kept.1, &gone.0, &gone.1].map(|socket| socket.as_raw_fd());
        let (kept, inside) = (&kept, move || numbers.map(is_open));
        let seen = thread::scope(|scope| {
            let thread = scope.spawn(move || {
                separate([kept.0.as_fd(), kept.1.as_fd()]).unwrap();
                (&kept.0).write_all(b"x").unwrap();
                inside()
            });
            thread.join().unwrap()
        });
        assert_eq!(seen, [true, true, false, false]);
        assert_eq!(numbers.map(is_open), [true; 4]);
    }

    #[test]
    fn what_a_separate_thread_opens_is_its_own() {
        let number = thread::spawn(|| {
            separate([]).unwrap();
            let (one, other) = UnixStream::pair().unwrap();
            assert_eq!([one.as_raw_fd(), other.as_raw_fd()], [FIRST, FIRST + 1]);
            let number = one.as_raw_fd();
            drop((one, other));
            number
        });
        assert_eq!(number.join().unwrap(), FIRST);
    }
}
