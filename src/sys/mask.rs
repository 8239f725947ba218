//! Which signals a thread takes.

use std::{io, mem::MaybeUninit, ptr};

/// Leaves signals to the other threads, as far as they are sent to the process; those that say that this thread has failed
/// stay (`pthread_sigmask(3)`). A handler writes to a descriptor that this thread's table need not have.
pub fn leave_signals() -> io::Result<()> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the set is initialised by `sigfillset` before anything reads it, and lives for all calls.
    let outcome = unsafe {
        libc::sigfillset(set.as_mut_ptr());
        for own in [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT, libc::SIGSYS] {
            libc::sigdelset(set.as_mut_ptr(), own);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, set.as_ptr(), ptr::null_mut())
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(outcome)) }
}
