//! The only unsafe code of the tests: signals, limits, a system call filter, sockets in unusual states.
#![allow(unsafe_code, reason = "std has no safe way to ask the kernel for these")]

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, WaitOptions, pidfd_getfd, pidfd_open};

fn checked(answer: libc::c_int) -> io::Result<libc::c_int> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// Sends `signal` to the process `pid`, which must be a child that has not been waited for.
pub(crate) fn signal(pid: u32, signal: libc::c_int) {
    let pid = libc::pid_t::try_from(pid).unwrap();
    // SAFETY: kill takes two integers and touches no memory of ours.
    checked(unsafe { libc::kill(pid, signal) }).unwrap();
}

/// Waits until all threads of the process `pid`, a child, stand still after a `SIGSTOP`.
pub(crate) fn wait_stopped(pid: u32) {
    let pid = rustix::process::Pid::from_raw(libc::pid_t::try_from(pid).unwrap());
    let (_, status) = rustix::process::waitpid(pid, WaitOptions::UNTRACED).unwrap().unwrap();
    assert!(status.stopped(), "{status:?}");
}

/// Makes `command` start with at most `count` descriptors, soft and hard.
pub(crate) fn limit_descriptors(command: &mut Command, count: u64) {
    let limit = libc::rlimit { rlim_cur: count, rlim_max: count };
    let apply = move || {
        // SAFETY: the pointer is to a live rlimit; setrlimit is async-signal-safe.
        checked(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }).map(drop)
    };
    // SAFETY: the closure only makes one system call between fork and exec; it does not allocate or lock.
    unsafe { command.pre_exec(apply) };
}

/// Makes `command` start under a filter that answers `io_uring_setup` with `errno`, as a container or an old kernel would.
pub(crate) fn forbid_io_uring(command: &mut Command, errno: libc::c_int) {
    forbid(command, libc::SYS_io_uring_setup, errno);
}

/// Makes `command` start under a filter that answers one system call with `errno`.
pub(crate) fn forbid(command: &mut Command, call: libc::c_long, errno: libc::c_int) {
    let mut filter = filter(call, libc::SECCOMP_RET_ERRNO | u32::try_from(errno).unwrap());
    let apply = move || install(&mut filter, 0).map(drop);
    // SAFETY: the closure only makes two system calls between fork and exec; it does not allocate or lock.
    unsafe { command.pre_exec(apply) };
}

/// Makes `command` start under a filter that answers the first of these system calls with `errnos`, one after the other;
/// those after them are made as ever.
pub(crate) fn refuse_first(command: &mut Command, call: libc::c_long, errnos: &[libc::c_int]) {
    let mut filter = filter(call, libc::SECCOMP_RET_USER_NOTIF);
    let (here, there) =
        socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).unwrap();
    let apply = move || {
        let asked = install(&mut filter, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?;
        // SAFETY: with that flag the answer is a descriptor that was just made and has no other owner.
        let asked = unsafe { OwnedFd::from_raw_fd(asked) };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let (mut beside, descriptors) = (SendAncillaryBuffer::new(&mut space), [asked.as_fd()]);
        beside.push(SendAncillaryMessage::ScmRights(&descriptors));
        sendmsg(&there, &[IoSlice::new(b"!")], &mut beside, SendFlags::empty())?;
        Ok(())
    };
    // SAFETY: the closure only makes a few system calls between fork and exec; it does not allocate or lock.
    unsafe { command.pre_exec(apply) };
    let mut errnos = errnos.iter().copied().collect();
    thread::spawn(move || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let (mut beside, mut byte) = (RecvAncillaryBuffer::new(&mut space), [0]);
        // An error or nothing: the command was never started.
        let _received =
            recvmsg(&here, &mut [IoSliceMut::new(&mut byte)], &mut beside, RecvFlags::CMSG_CLOEXEC);
        let asked = beside.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        while asked.as_ref().is_some_and(|asked| answer_one(asked, &mut errnos)) {}
    });
}

/// Answers one system call of a process under a filter; false when the process is gone.
fn answer_one(asked: &OwnedFd, errnos: &mut VecDeque<libc::c_int>) -> bool {
    use rustix::event::{PollFd, PollFlags, poll};
    /// `SECCOMP_IOCTL_NOTIF_RECV` and `SECCOMP_IOCTL_NOTIF_SEND` of `linux/seccomp.h`.
    const RECEIVE: libc::Ioctl = 0xc050_2100_u32 as libc::Ioctl;
    const SEND: libc::Ioctl = 0xc018_2101_u32 as libc::Ioctl;
    const CONTINUE: u32 = 1;
    let mut waiting = [PollFd::new(asked, PollFlags::IN)];
    poll(&mut waiting, None).unwrap();
    if waiting[0].revents().contains(PollFlags::HUP) {
        return false;
    }
    // SAFETY: a seccomp_notif is plain integers, for which all zeroes is a value, and the one that is asked for.
    let mut call: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live value of the type that belongs to this request.
    let received = checked(unsafe { libc::ioctl(asked.as_raw_fd(), RECEIVE, &raw mut call) });
    if received.is_err() {
        // Whoever called was interrupted or has ended.
        return true;
    }
    let mut answer = libc::seccomp_notif_resp { id: call.id, val: 0, error: 0, flags: 0 };
    match errnos.pop_front() {
        Some(errno) => answer.error = -errno,
        None => answer.flags = CONTINUE,
    }
    // SAFETY: the pointer is to a live value of the type that belongs to this request.
    let _gone = checked(unsafe { libc::ioctl(asked.as_raw_fd(), SEND, &raw mut answer) });
    true
}

/// A filter that has `action` taken for one system call, and lets the others pass.
fn filter(call: libc::c_long, action: u32) -> [libc::sock_filter; 4] {
    const NUMBER_OFFSET: u32 = 0; // of `nr` in struct seccomp_data
    let code = |bits: u32| u16::try_from(bits).unwrap();
    let statement = |bits: u32, k: u32| libc::sock_filter { code: code(bits), jt: 0, jf: 0, k };
    let call = u32::try_from(call).unwrap();
    [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, NUMBER_OFFSET),
        libc::sock_filter { code: code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K), jt: 0, jf: 1, k: call },
        statement(libc::BPF_RET | libc::BPF_K, action),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ]
}

/// Puts this thread and what it starts under a filter; what the kernel answers to these flags.
fn install(filter: &mut [libc::sock_filter; 4], flags: libc::c_ulong) -> io::Result<libc::c_int> {
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: PR_SET_NO_NEW_PRIVS takes integers only.
    checked(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    // SAFETY: the program points at four live instructions, which the kernel copies before it returns.
    let answer =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    checked(libc::c_int::try_from(answer).unwrap_or(-1))
}

/// The cores this process may run on.
pub(crate) fn allowed_cores() -> Vec<usize> {
    // SAFETY: a cpu_set_t is plain bits, for which all zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live set of the size given; 0 names the calling thread.
    checked(unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) }).unwrap();
    let limit = usize::try_from(libc::CPU_SETSIZE).unwrap();
    // SAFETY: every index is below CPU_SETSIZE.
    (0..limit).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect()
}

/// A loopback address that is bound but not listening: whoever connects is refused, and nobody else can take the port.
pub(crate) fn bound_without_listening() -> (OwnedFd, SocketAddr) {
    // SAFETY: socket takes integers and returns a descriptor or -1.
    let raw =
        checked(unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) }).unwrap();
    // SAFETY: the descriptor was just made and has no other owner.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    let mut name = libc::sockaddr_in {
        sin_family: libc::sa_family_t::try_from(libc::AF_INET).unwrap(),
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from(Ipv4Addr::LOCALHOST).to_be() },
        sin_zero: [0; 8],
    };
    let mut length = libc::socklen_t::try_from(size_of_val(&name)).unwrap();
    // SAFETY: the pointer is to a live sockaddr_in of the length given.
    checked(unsafe { libc::bind(socket.as_raw_fd(), (&raw const name).cast(), length) }).unwrap();
    // SAFETY: both pointers are to live values; the length says how much room the name has.
    checked(unsafe { libc::getsockname(socket.as_raw_fd(), (&raw mut name).cast(), &raw mut length) })
        .unwrap();
    (socket, SocketAddr::from((Ipv4Addr::LOCALHOST, u16::from_be(name.sin_port))))
}

fn socket_at(address: SocketAddr) -> OwnedFd {
    let socket = stream_socket(AddressFamily::INET);
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true).unwrap();
    rustix::net::sockopt::set_socket_reuseport(&socket, true).unwrap();
    rustix::net::bind(&socket, &address).unwrap();
    socket
}

/// A loopback address that refuses connections, and that nobody is given who asks for a free port; only
/// [`listen_at_shared`] may use it beside the socket.
pub(crate) fn shared_port() -> (OwnedFd, SocketAddr) {
    let socket = socket_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let address = rustix::net::getsockname(&socket).unwrap().try_into().unwrap();
    (socket, address)
}

/// A listener at an address of [`shared_port`], of this process or of another one.
pub(crate) fn listen_at_shared(address: SocketAddr) -> TcpListener {
    let socket = socket_at(address);
    listen(&socket);
    never_wait(&socket);
    socket.into()
}

/// A listener on all IPv4 addresses, that never waits: many backends for who tells them apart by their addresses.
pub(crate) fn listen_everywhere() -> TcpListener {
    let socket = TcpListener::bind("0.0.0.0:0").unwrap().into();
    listen(&socket);
    never_wait(&socket);
    socket.into()
}

/// Turns a bound socket into a listening one, or gives a listening one as long a queue as the kernel allows.
pub(crate) fn listen(socket: &OwnedFd) {
    rustix::net::listen(socket, i32::MAX).unwrap();
}

/// A listener whose queue is full: further handshakes get no answer.
pub(crate) struct FullListener {
    pub(crate) address: SocketAddr,
    _socket: OwnedFd,
    _waiting: Vec<TcpStream>,
}

pub(crate) fn full_listener() -> FullListener {
    let (socket, address) = bound_without_listening();
    // SAFETY: listen takes a descriptor that `socket` keeps open, and an integer.
    checked(unsafe { libc::listen(socket.as_raw_fd(), 0) }).unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        waiting.push(stream);
        assert!(waiting.len() < 16, "the queue never fills");
    }
    FullListener { address, _socket: socket, _waiting: waiting }
}

/// Cuts what `socket` sends into datagrams of `size` bytes, the way a sender of bulk does.
pub(crate) fn cut_datagrams(socket: &UdpSocket, size: u16) {
    let size = libc::c_int::from(size);
    let length = libc::socklen_t::try_from(size_of_val(&size)).unwrap();
    let (socket, value) = (socket.as_raw_fd(), (&raw const size).cast());
    // SAFETY: the pointer is to a live integer of the length given.
    checked(unsafe { libc::setsockopt(socket, libc::SOL_UDP, libc::UDP_SEGMENT, value, length) }).unwrap();
}

/// How many segments `stream` has received, those without bytes included (`tcp(7)`, TCP_INFO).
pub(crate) fn segments_received(stream: &TcpStream) -> u32 {
    // SAFETY: a tcp_info is plain integers, for which all zeroes is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of_val(&info)).unwrap();
    let (socket, place) = (stream.as_raw_fd(), (&raw mut info).cast());
    // SAFETY: both pointers are to live values; the length says how much room there is.
    checked(unsafe { libc::getsockopt(socket, libc::IPPROTO_TCP, libc::TCP_INFO, place, &raw mut length) })
        .unwrap();
    info.tcpi_segs_in
}

/// Bytes of `stream` that its peer's kernel does not have yet, the end included (`tcp(7)`, SIOCOUTQ).
pub(crate) fn unacknowledged(stream: &TcpStream) -> libc::c_int {
    let mut bytes = 0;
    // SAFETY: the socket is borrowed for the call, and the kernel writes one `int` to `bytes`.
    checked(unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) }).unwrap();
    bytes
}

/// `PIDFD_THREAD`: the descriptor is one of a thread, whose table is not its process's (`pidfd_open(2)`, Linux 6.9).
const THREAD: PidfdFlags = PidfdFlags::from_bits_retain(libc::O_EXCL.cast_unsigned());

/// The end of the connection `stream` that thread `tid` of a child holds, by a descriptor of our own; `Some(None)` if it has
/// none. `None` where nobody may look into another process (`pidfd_getfd(2)`), or not into a thread.
pub(crate) fn other_end(tid: i32, stream: &TcpStream) -> Option<Option<OwnedFd>> {
    let ends = [stream.peer_addr().unwrap(), stream.local_addr().unwrap()].map(Some);
    let thread = pidfd_open(rustix::process::Pid::from_raw(tid).unwrap(), THREAD).ok()?;
    let is_it = |socket: &OwnedFd| {
        let local = rustix::net::getsockname(socket).ok().and_then(|local| SocketAddr::try_from(local).ok());
        let peer = rustix::net::getpeername(socket).ok().flatten();
        [local, peer.and_then(|peer| SocketAddr::try_from(peer).ok())] == ends
    };
    for entry in std::fs::read_dir(format!("/proc/{tid}/fd")).unwrap() {
        let number = entry.unwrap().file_name().to_str().unwrap().parse().unwrap();
        match pidfd_getfd(&thread, number, PidfdGetfdFlags::empty()) {
            Ok(socket) if is_it(&socket) => return Some(Some(socket)),
            Err(rustix::io::Errno::PERM | rustix::io::Errno::NOSYS) => return None,
            // It is something else, or was closed meanwhile.
            _ => {}
        }
    }
    Some(None)
}

/// Makes the coming close of `stream` a reset.
pub(crate) fn reset_on_close(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let length = libc::socklen_t::try_from(size_of_val(&linger)).unwrap();
    let value = (&raw const linger).cast();
    // SAFETY: the pointer is to a live linger value of the length given.
    checked(unsafe {
        libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, value, length)
    })
    .unwrap();
}

/// The address of a UNIX socket, from what stands behind `unix:`.
fn unix_address(path: &str) -> SocketAddrUnix {
    match path.strip_prefix('@') {
        Some(name) => SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap(),
        None => SocketAddrUnix::new(path).unwrap(),
    }
}

fn stream_socket(family: AddressFamily) -> OwnedFd {
    rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap()
}

/// A socket that listens where `place` says: `unix:/path` or `unix:@name`.
pub(crate) fn listen_unix(place: &str) -> OwnedFd {
    let socket = stream_socket(AddressFamily::UNIX);
    rustix::net::bind(&socket, &unix_address(place.strip_prefix("unix:").unwrap())).unwrap();
    listen(&socket);
    socket
}

/// A connection to the UNIX socket at `path`, or with the name `@name`.
pub(crate) fn connect_unix(path: &str) -> io::Result<TcpStream> {
    let socket = stream_socket(AddressFamily::UNIX);
    rustix::net::connect(&socket, &unix_address(path))?;
    Ok(socket.into())
}

/// A connection from this address of the host.
pub(crate) fn connect_from(source: IpAddr, address: SocketAddr) -> TcpStream {
    let socket = stream_socket(if source.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 });
    rustix::net::bind(&socket, &SocketAddr::new(source, 0)).unwrap();
    rustix::net::connect(&socket, &address).unwrap();
    socket.into()
}

/// The next connection of a listening socket of any kind.
pub(crate) fn accept(listener: &OwnedFd) -> io::Result<TcpStream> {
    Ok(rustix::net::accept_with(listener, SocketFlags::CLOEXEC)?.into())
}

/// Refuses everybody from now on, and wakes whoever waits in [`accept`].
pub(crate) fn stop_listening(listener: &OwnedFd) {
    let _already = rustix::net::shutdown(listener, rustix::net::Shutdown::Both);
}

pub(crate) fn never_wait(socket: &OwnedFd) {
    rustix::io::ioctl_fionbio(socket, true).unwrap();
}

/// Sends a byte out of band (`tcp(7)`).
pub(crate) fn send_urgent(stream: &TcpStream) {
    rustix::net::send(stream, b"!", rustix::net::SendFlags::OOB).unwrap();
}

/// Lets this process open as many descriptors as it may.
pub(crate) fn raise_descriptor_limit() -> u64 {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    limit.maximum.unwrap_or(u64::MAX)
}

/// Breaks a connection at once, however many hands hold it: the other side sees a reset.
pub(crate) fn reset_now(stream: &TcpStream) {
    rustix::net::connect_unspec(stream).unwrap();
}

/// Waits until there is something to receive or to accept, at most so long.
pub(crate) fn wait_readable(socket: &OwnedFd, time: Duration) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let time = Timespec::try_from(time).unwrap();
    poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&time)).unwrap();
}

/// Gives this thread, and every process it starts from now on, a loopback network of its own, in which each address
/// has `ports` ports to connect from. False when this user may not.
pub(crate) fn own_network(ports: usize) -> bool {
    // SAFETY: unshare takes an integer; the thread uses no socket of the old network afterwards but by its descriptor.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return false;
    }
    let socket = stream_socket(AddressFamily::INET);
    // SAFETY: an ifreq is plain bytes, for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[..2].copy_from_slice(&[b'l', b'o'].map(|byte| libc::c_char::try_from(byte).unwrap()));
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP).unwrap();
    // SAFETY: the pointer is to a live ifreq with a name and flags.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }).unwrap();
    let range = format!("40000 {}", 40_000 + ports - 1);
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", range).unwrap();
    true
}
