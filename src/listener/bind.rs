//! Binds a listener once per worker, before any worker starts, so that a conflict is known before anybody is served.

use std::{
    fs, io,
    net::SocketAddr,
    os::{
        fd::OwnedFd,
        unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use crate::{
    addr::{Endpoint, UnixPath},
    config::plan::{ListenerPlan, Mode},
    limits::LISTEN_BACKLOG,
    sys::socket::{self, Transport},
};

/// One listener's sockets and the endpoint they share.
#[derive(Debug)]
pub struct Bound {
    /// With the real port.
    pub endpoint: Endpoint,
    /// In the order of the workers, none listening yet; a UNIX socket has no group, so there is one, and one worker
    /// accepts for all.
    pub sockets: Vec<OwnedFd>,
    /// What is left behind in the file system unless it is removed.
    pub file: Option<SocketFile>,
}

/// A UNIX socket's file. Dropping it removes the file, unless another program has put its own there meanwhile.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(SocketFile { path: path.to_owned(), identity: identity(path)? })
    }
}

/// Device and number of the file there (`stat(2)`).
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            // Somebody may have been faster.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Binds the sockets of `workers` workers. Another program that listens there is in the way; a listener of `ours` that
/// is about to close is not.
pub fn bind(listener: &ListenerPlan, workers: usize, ours: &[Endpoint]) -> io::Result<Bound> {
    let transport = if listener.mode == Mode::Udp { Transport::Udp } else { Transport::Tcp };
    match &listener.endpoint {
        Endpoint::Inet(address) => {
            if address.port() != 0 && !ours.contains(&listener.endpoint) {
                socket::check_free(transport, *address)?;
            }
            bind_inet(transport, *address, workers)
        }
        Endpoint::Unix(path) => bind_unix(path, listener.socket_mode),
    }
}

/// With port 0 the kernel chooses for the first and the others follow.
fn bind_inet(transport: Transport, address: SocketAddr, workers: usize) -> io::Result<Bound> {
    let first = socket::bind_listener(transport, address)?;
    let address = socket::local_address(&first)?;
    let mut sockets = vec![first];
    for _ in 1..workers {
        sockets.push(socket::bind_listener(transport, address)?);
    }
    Ok(Bound { endpoint: address.into(), sockets, file: None })
}

/// Listens at once: who finds a file nobody listens on may take it for a stale one.
fn bind_unix(path: &UnixPath, mode: u32) -> io::Result<Bound> {
    path.file().map(remove_stale).transpose()?;
    let socket = socket::bind_unix(path)?;
    let file = path.file().map(SocketFile::of).transpose()?;
    if let Some(file) = &file {
        fs::set_permissions(&file.path, fs::Permissions::from_mode(mode))?;
    }
    socket::start_listening(&socket, LISTEN_BACKLOG)?;
    Ok(Bound { endpoint: Endpoint::Unix(path.clone()), sockets: vec![socket], file })
}

/// Removes a socket that a program left behind: one that refuses connections. Anything else stays.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(file) if !file.file_type().is_socket() => return Err(io::ErrorKind::AlreadyExists.into()),
        Ok(_) => {}
    }
    let text = format!("unix:{}", path.display());
    let endpoint = UnixPath::parse(&text).and_then(Result::ok).map(Endpoint::Unix);
    let endpoint = endpoint.ok_or(io::ErrorKind::InvalidInput)?;
    let probe = socket::open_stream(&endpoint)?;
    match socket::start_connect(&probe, &endpoint, None) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        // Somebody accepts, or would if its queue were not full.
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// What the operator can do about a failed bind.
pub fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program listens there; stop it or choose another one (`ss -lntuxp` shows who)"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE or a lower net.ipv4.ip_unprivileged_port_start; \
             a UNIX socket needs a directory that this user may write to"
        }
        io::ErrorKind::AddrNotAvailable => {
            "no interface of this host has that address (`ip address` shows them)"
        }
        io::ErrorKind::AlreadyExists => {
            "a file is in the way that is no socket; move it or choose another path"
        }
        io::ErrorKind::NotFound => "the directory does not exist; create it first",
        _ => "see bind(2) for this error",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;
    use crate::config::plan::Plan;

    fn listener(endpoint: &str, mode: Mode) -> ListenerPlan {
        let mut plan = Plan::for_tests(&["127.0.0.1:1"]).listeners.remove(0);
        let address: crate::addr::ListenAddress = endpoint.parse().unwrap();
        (plan.endpoint, plan.mode) = (address.0, mode);
        plan
    }

    /// A directory of this test's own, removed at its end.
    struct Directory(PathBuf);

    impl Directory {
        fn new(test: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ringway-bind-{}-{test}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Directory(path)
        }

        fn endpoint(&self) -> String {
            format!("unix:{}", self.0.join("socket").display())
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn all_workers_share_the_port_the_kernel_chose() {
        for mode in [Mode::Http, Mode::Udp] {
            let bound = bind(&listener("127.0.0.1:0", mode), 3, &[]).unwrap();
            assert!(!bound.endpoint.is_any_port());
            assert_eq!(bound.sockets.len(), 3);
            for socket in &bound.sockets {
                assert_eq!(Endpoint::from(socket::local_address(socket).unwrap()), bound.endpoint);
            }
        }
    }

    #[test]
    fn a_port_somebody_listens_on_is_refused_with_advice() {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let taken = [(tcp.local_addr().unwrap(), Mode::Tcp), (udp.local_addr().unwrap(), Mode::Udp)];
        for (address, mode) in taken {
            let error = bind(&listener(&address.to_string(), mode), 1, &[]).unwrap_err();
            assert!(advice(&error).contains("another program"), "{mode:?}: {error}");
        }
    }

    #[test]
    fn a_unix_socket_has_its_mode_and_is_removed_at_the_end() {
        let directory = Directory::new("mode");
        let mut plan = listener(&directory.endpoint(), Mode::Tcp);
        plan.socket_mode = 0o640;
        let bound = bind(&plan, 2, &[]).unwrap();
        let path = directory.0.join("socket");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(UnixStream::connect(&path).is_ok());
        drop(bound);
        assert!(!path.exists());
    }

    #[test]
    fn only_a_socket_nobody_listens_on_is_replaced() {
        let directory = Directory::new("stale");
        let (plan, path) = (listener(&directory.endpoint(), Mode::Tcp), directory.0.join("socket"));
        fs::write(&path, "precious").unwrap();
        assert!(advice(&bind(&plan, 1, &[]).unwrap_err()).contains("no socket"));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        fs::remove_file(&path).unwrap();

        let other = UnixListener::bind(&path).unwrap();
        assert!(advice(&bind(&plan, 1, &[]).unwrap_err()).contains("another program"));
        drop(other);
        let first = bind(&plan, 1, &[]).unwrap();
        fs::remove_file(&path).unwrap();
        let second = bind(&plan, 1, &[]).unwrap();
        drop(first);
        assert!(path.exists(), "what the first one removes is not its own any more");
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn abstract_names_and_missing_directories_are_told_apart() {
        let name = format!("unix:@ringway-bind-{}", std::process::id());
        let bound = bind(&listener(&name, Mode::Tcp), 1, &[]).unwrap();
        assert!(bound.file.is_none());
        assert!(advice(&bind(&listener(&name, Mode::Tcp), 1, &[]).unwrap_err()).contains("another program"));
        let error = bind(&listener("unix:/nowhere/at/all", Mode::Tcp), 1, &[]).unwrap_err();
        assert!(advice(&error).contains("directory does not exist"));
    }
}
