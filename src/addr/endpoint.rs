//! Where sockets are bound or connected to: an IP address with its port, or a UNIX socket.

use std::{fmt, io, net::SocketAddr, path::Path, sync::Arc};

use rustix::net::SocketAddrUnix;
use serde::{Serialize, Serializer};

/// What stands in front of a UNIX socket's path.
const UNIX: &str = "unix:";

/// Longest path of a UNIX socket, in bytes, without the NUL behind it (`unix(7)`).
const PATH_MAX: usize = 107;

/// One end of a connection that can be named beforehand.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// TCP or UDP over IPv4 or IPv6.
    Inet(SocketAddr),
    /// A stream socket of this host.
    Unix(UnixPath),
}

impl Endpoint {
    /// The IP address and port, if that is what it is.
    pub fn inet(&self) -> Option<SocketAddr> {
        match self {
            Endpoint::Inet(address) => Some(*address),
            Endpoint::Unix(_) => None,
        }
    }

    /// True when the kernel is to choose the port.
    pub fn is_any_port(&self) -> bool {
        self.inet().is_some_and(|address| address.port() == 0)
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Endpoint::Inet(address)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Inet(address) => address.fmt(out),
            Endpoint::Unix(path) => path.fmt(out),
        }
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A UNIX socket's path, or its name in the abstract namespace when it begins with `@` (`unix(7)`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UnixPath(Arc<str>);

impl UnixPath {
    /// Reads `unix:/path` or `unix:@name`; `None` when the text does not begin with `unix:`.
    pub fn parse(text: &str) -> Option<Result<Self, UnixPathError>> {
        let path = text.strip_prefix(UNIX)?;
        Some(match path.as_bytes() {
            [] | [b'@'] => Err(UnixPathError::Empty),
            bytes if bytes.contains(&0) => Err(UnixPathError::Nul),
            bytes if bytes.len() > PATH_MAX => Err(UnixPathError::TooLong),
            [b'/' | b'@', ..] => Ok(UnixPath(path.into())),
            _ => Err(UnixPathError::Relative),
        })
    }

    /// The place in the file system; `None` in the abstract namespace.
    pub fn file(&self) -> Option<&Path> {
        (!self.0.starts_with('@')).then(|| Path::new(&*self.0))
    }

    /// What the kernel is given.
    pub fn address(&self) -> io::Result<SocketAddrUnix> {
        Ok(match self.0.strip_prefix('@') {
            Some(name) => SocketAddrUnix::new_abstract_name(name.as_bytes())?,
            None => SocketAddrUnix::new(&*self.0)?,
        })
    }
}

impl fmt::Display for UnixPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{UNIX}{}", self.0)
    }
}

/// What is wrong with a UNIX socket's path, and what would be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the variants mean")]
pub enum UnixPathError {
    #[error("the path is missing, write `unix:/run/name.sock` or `unix:@name`")]
    Empty,
    #[error("the path must begin with `/`, or with `@` for the abstract namespace")]
    Relative,
    #[error("the path has more than {PATH_MAX} bytes, which no UNIX socket can have")]
    TooLong,
    #[error("the path contains a NUL byte")]
    Nul,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_abstract_names_are_understood() {
        let file = UnixPath::parse("unix:/run/a.sock").unwrap().unwrap();
        assert_eq!(file.to_string(), "unix:/run/a.sock");
        assert_eq!(file.file(), Some(Path::new("/run/a.sock")));
        assert_eq!(file.address().unwrap().path_bytes(), Some(&b"/run/a.sock"[..]));
        let name = UnixPath::parse("unix:@a").unwrap().unwrap();
        assert_eq!((name.to_string().as_str(), name.file()), ("unix:@a", None));
        assert_eq!(name.address().unwrap().abstract_name(), Some(&b"a"[..]));
        assert_eq!(UnixPath::parse("127.0.0.1:1"), None);
    }

    #[test]
    fn wrong_paths_are_told_apart() {
        let wrong = |text: &str| UnixPath::parse(text).unwrap().unwrap_err();
        assert_eq!(wrong("unix:"), UnixPathError::Empty);
        assert_eq!(wrong("unix:@"), UnixPathError::Empty);
        assert_eq!(wrong("unix:run/a.sock"), UnixPathError::Relative);
        assert_eq!(wrong("unix:/a\0b"), UnixPathError::Nul);
        assert_eq!(wrong(&format!("unix:/{}", "a".repeat(PATH_MAX))), UnixPathError::TooLong);
        let longest = format!("unix:/{}", "a".repeat(PATH_MAX - 1));
        assert!(UnixPath::parse(&longest).unwrap().unwrap().address().is_ok());
    }
}
