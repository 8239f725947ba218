//! One timerfd per worker: the only timer on the data path.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// A one-shot timer that is waited for by the readiness of its descriptor.
#[derive(Debug)]
pub struct Timer(OwnedFd);

impl Timer {
    /// Creates a disarmed timer (`timerfd_create(2)`, monotonic, non-blocking, close-on-exec).
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Timer(timerfd_create(TimerfdClockId::Monotonic, flags)?))
    }

    /// Fires once after `delay` (at least a nanosecond: zero would disarm), replacing what was set before.
    pub fn fire_after(&self, delay: Duration) {
        let delay = delay.max(Duration::from_nanos(1));
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = Timespec { tv_sec: delay.as_secs() as i64, tv_nsec: i64::from(delay.subsec_nanos()) };
        let spec = Itimerspec { it_interval: zero, it_value: value };
        // Fails only for an invalid descriptor or an invalid time, and both are ours.
        let _ = timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &spec);
    }

    /// Takes the expiry so that the descriptor is no longer readable.
    pub fn acknowledge(&self) {
        let mut count = [0u8; 8];
        let _ = rustix::io::read(&self.0, &mut count);
    }

    /// A second descriptor on the same timer, for the runtime to wait on.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        self.0.try_clone()
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
