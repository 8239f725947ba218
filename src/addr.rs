//! Addresses as operators write them: backends (`http://host:port;weight=3`) and listeners (`127.0.0.1:80`), each
//! with a UNIX socket (`unix:/path`) instead of a host and a port if need be.
//!
//! Owns their grammar and its errors, which name the wrong token and what would be right. Never resolves a
//! name (that is `control::resolve`), opens a socket or reads a file. Pure; runs on the control thread
//! before anything is opened.

mod endpoint;
mod networks;

use std::{
    collections::HashSet,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

pub use self::{
    endpoint::{Endpoint, UnixPath, UnixPathError},
    networks::{NetworkError, Networks},
};

/// Longest host name DNS can carry, in bytes.
const HOST_MAX: usize = 253;
/// Longest label between two dots, in bytes.
const LABEL_MAX: usize = 63;
/// Port of `http://host` without one.
const HTTP_PORT: u16 = 80;

/// What an operator wrote before `://`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `http://`
    Http,
    /// `tcp://`
    Tcp,
    /// `udp://`
    Udp,
}

impl Scheme {
    /// The scheme without `://`, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Tcp => "tcp",
            Scheme::Udp => "udp",
        }
    }
}

/// One backend as it was named, not resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendAddress {
    /// The scheme, if one was written.
    pub scheme: Option<Scheme>,
    /// Where it is.
    pub target: Target,
    /// Relative share; 0 takes no new work.
    pub weight: u16,
}

/// Where a backend is, as it was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Behind the network, or on a port of this host.
    Host {
        /// A host name or an IP literal, as written, IPv6 without its brackets.
        host: Box<str>,
        /// 1 to 65 535.
        port: u16,
    },
    /// A UNIX socket of this host.
    Unix(UnixPath),
}

/// What is wrong with an address, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the variants and their fields mean")]
pub enum AddressError {
    #[error("Please provide one or more backends to load balance")]
    NoBackends,
    #[error("backend {position} of `{list}` is empty: remove the extra comma")]
    EmptyItem { position: usize, list: String },
    #[error("backend `{authority}` is named twice: name it once, with `;weight=2` for a larger share")]
    Duplicate { authority: String },
    // The part before the `@` may be a password, so it is not repeated.
    #[error("backend `{rest}` has a user before the `@`: credentials do not belong here, write `{rest}`")]
    UserInfo { rest: String },
    #[error("backend `{address}`: TLS upstream is not supported yet, write `http://` instead of `https://`")]
    TlsUpstream { address: String },
    #[error("backend `{address}`: unknown scheme `{scheme}`, use `http://`, `tcp://` or `udp://`")]
    UnknownScheme { address: String, scheme: String },
    #[error("backend `{address}`: path `{path}` is not allowed, write `{right}`")]
    Path { address: String, path: String, right: String },
    #[error("backend `{address}`: the host is missing, write `host:port`")]
    MissingHost { address: String },
    #[error("backend `{address}`: the port is missing, write `{right}`")]
    MissingPort { address: String, right: String },
    #[error("backend `{address}`: `{port}` is not a port, write a number from 1 to 65535")]
    Port { address: String, port: String },
    #[error("backend `{address}`: `{host}` is neither a host name nor an IP address")]
    Host { address: String, host: String },
    #[error("backend `{address}`: {why}")]
    Unix { address: String, why: UnixPathError },
    #[error("backend `{address}`: an IPv6 address needs brackets and a port, such as `[::1]:80`")]
    Brackets { address: String },
    #[error("backend `{address}`: unknown option `{option}`, only `;weight=N` is understood")]
    UnknownOption { address: String, option: String },
    #[error("backend `{address}`: option `{option}` is given twice")]
    OptionTwice { address: String, option: &'static str },
    #[error("backend `{address}`: `{weight}` is not a weight, write a number from 0 to 65535")]
    Weight { address: String, weight: String },
    #[error("`{address}` has no port: write `ADDR:PORT`, `:PORT` or `[ADDR]:PORT`")]
    ListenForm { address: String },
    #[error("`{address}`: {why}")]
    ListenUnix { address: String, why: UnixPathError },
    #[error("`{host}` is not an IP address: write one such as `127.0.0.1`, or `*` for all")]
    ListenHost { host: String },
    #[error("`{port}` is not a port: write a number from 0 to 65535 (0 lets the kernel choose)")]
    ListenPort { port: String },
}

impl BackendAddress {
    /// The weight of a backend without one.
    pub const DEFAULT_WEIGHT: u16 = 1;

    /// `host:port` as the operator wrote it, IPv6 in brackets, or `unix:/path`: the backend's name in logs and
    /// metrics.
    pub fn authority(&self) -> String {
        match &self.target {
            Target::Host { host, port } => authority(host, *port),
            Target::Unix(path) => path.to_string(),
        }
    }

    /// The endpoint if there is no host name to look up.
    pub fn literal(&self) -> Option<Endpoint> {
        match &self.target {
            Target::Host { host, port } => {
                host.parse().ok().map(|ip: IpAddr| Endpoint::Inet(SocketAddr::new(ip, *port)))
            }
            Target::Unix(path) => Some(Endpoint::Unix(path.clone())),
        }
    }

    /// What two addresses of the same target have in common: names ignore case and the final dot, IP literals their
    /// spelling.
    pub fn identity(&self) -> Identity {
        if let Some(endpoint) = self.literal() {
            return Identity::Endpoint(endpoint);
        }
        match &self.target {
            Target::Host { host, port } => {
                Identity::Name(host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase(), *port)
            }
            Target::Unix(path) => Identity::Endpoint(Endpoint::Unix(path.clone())),
        }
    }
}

/// A target, however its address was written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identity {
    /// There is nothing to look up.
    Endpoint(Endpoint),
    /// A host name in lower case, and a port.
    Name(String, u16),
}

impl From<SocketAddr> for BackendAddress {
    fn from(address: SocketAddr) -> Self {
        BackendAddress {
            scheme: None,
            target: Target::Host { host: address.ip().to_string().into(), port: address.port() },
            weight: BackendAddress::DEFAULT_WEIGHT,
        }
    }
}

/// Writes what parses back to the same value.
impl fmt::Display for BackendAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scheme) = self.scheme {
            write!(out, "{}://", scheme.name())?;
        }
        out.write_str(&self.authority())?;
        if self.weight != Self::DEFAULT_WEIGHT {
            write!(out, ";weight={}", self.weight)?;
        }
        Ok(())
    }
}

impl FromStr for BackendAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (target, options) = match text.split_once(';') {
            Some((target, options)) => (target, Some(options)),
            None => (text, None),
        };
        let weight =
            || options.map_or(Ok(BackendAddress::DEFAULT_WEIGHT), |options| parse_options(options, text));
        if let Some(path) = UnixPath::parse(target) {
            let path = path.map_err(|why| AddressError::Unix { address: text.to_owned(), why })?;
            return Ok(BackendAddress { scheme: None, target: Target::Unix(path), weight: weight()? });
        }
        let (scheme, rest) = match target.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, target),
        };
        let (host_port, path) = match rest.find(['/', '?', '#']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        // First of all checks: no later error may repeat a password.
        if let Some((_, rest)) = rest.rsplit_once('@') {
            return Err(AddressError::UserInfo { rest: rest.to_owned() });
        }
        let scheme = scheme.map(|scheme| parse_scheme(scheme, text)).transpose()?;
        let (host, port) = parse_host_port(host_port, scheme, text)?;
        let slash_allowed = scheme == Some(Scheme::Http);
        if !(path.is_empty() || path == "/" && slash_allowed) {
            let right = target.strip_suffix(path).unwrap_or(target).to_owned();
            return Err(AddressError::Path { address: text.to_owned(), path: path.to_owned(), right });
        }
        Ok(BackendAddress { scheme, target: Target::Host { host: host.into(), port }, weight: weight()? })
    }
}

/// Reads a comma-separated list of backends; spaces around an item do not matter.
pub fn parse_backends(list: &str) -> Result<Vec<BackendAddress>, AddressError> {
    if list.trim().is_empty() {
        return Err(AddressError::NoBackends);
    }
    let (mut backends, mut known) = (Vec::new(), HashSet::new());
    for (index, item) in list.split(',').enumerate() {
        let item = item.trim();
        if item.is_empty() {
            // The list may hold a password further on: show it only if it cannot.
            let list = if list.contains('@') { "the list" } else { list };
            return Err(AddressError::EmptyItem { position: index.saturating_add(1), list: list.to_owned() });
        }
        let backend: BackendAddress = item.parse()?;
        if !known.insert(backend.identity()) {
            return Err(AddressError::Duplicate { authority: backend.authority() });
        }
        backends.push(backend);
    }
    Ok(backends)
}

fn parse_scheme(scheme: &str, address: &str) -> Result<Scheme, AddressError> {
    match scheme.to_ascii_lowercase().as_str() {
        "http" => Ok(Scheme::Http),
        "tcp" => Ok(Scheme::Tcp),
        "udp" => Ok(Scheme::Udp),
        "https" => Err(AddressError::TlsUpstream { address: address.to_owned() }),
        _ => Err(AddressError::UnknownScheme { address: address.to_owned(), scheme: scheme.to_owned() }),
    }
}

fn parse_host_port<'a>(
    text: &'a str,
    scheme: Option<Scheme>,
    address: &str,
) -> Result<(&'a str, u16), AddressError> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let brackets = || AddressError::Brackets { address: address.to_owned() };
        let (host, after) = rest.split_once(']').ok_or_else(brackets)?;
        if host.parse::<Ipv6Addr>().is_err() {
            return Err(AddressError::Host { address: address.to_owned(), host: host.to_owned() });
        }
        let port = if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or_else(brackets)?) };
        (host, port)
    } else {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        if host.contains(':') {
            return Err(AddressError::Brackets { address: address.to_owned() });
        }
        if host.is_empty() {
            return Err(AddressError::MissingHost { address: address.to_owned() });
        }
        if !is_host(host) {
            return Err(AddressError::Host { address: address.to_owned(), host: host.to_owned() });
        }
        (host, port)
    };
    let port = match port {
        Some(port) => parse_number(port)
            .filter(|&number| number != 0)
            .ok_or_else(|| AddressError::Port { address: address.to_owned(), port: port.to_owned() })?,
        None if scheme == Some(Scheme::Http) => HTTP_PORT,
        None => {
            let right = authority(host, HTTP_PORT);
            return Err(AddressError::MissingPort { address: address.to_owned(), right });
        }
    };
    Ok((host, port))
}

fn parse_options(options: &str, address: &str) -> Result<u16, AddressError> {
    let mut weight = None;
    for option in options.split(';') {
        let Some(("weight", value)) = option.split_once('=') else {
            let name = option.split_once('=').map_or(option, |(name, _)| name);
            return Err(AddressError::UnknownOption { address: address.to_owned(), option: name.to_owned() });
        };
        if weight.is_some() {
            return Err(AddressError::OptionTwice { address: address.to_owned(), option: "weight" });
        }
        weight =
            Some(parse_number(value).ok_or_else(|| AddressError::Weight {
                address: address.to_owned(),
                weight: value.to_owned(),
            })?);
    }
    Ok(weight.unwrap_or(BackendAddress::DEFAULT_WEIGHT))
}

/// Digits only: `str::parse` would also take a leading `+`.
fn parse_number(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A dotted IPv4 address or a name of letters, digits, `-` and `_`. What ends in a number is meant as an
/// address and has to be a whole one, as in the URL standard.
fn is_host(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.len() > HOST_MAX || !name.split('.').all(is_label) {
        return false;
    }
    let numeric = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    !numeric || host.parse::<Ipv4Addr>().is_ok()
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= LABEL_MAX
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Where to listen: `ADDR:PORT`, `[ADDR]:PORT`, `:PORT` and `*:PORT` for every IPv4 address, or `unix:/path`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ListenAddress(
    /// What to bind; port 0 lets the kernel choose.
    pub Endpoint,
);

impl fmt::Display for ListenAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl FromStr for ListenAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = UnixPath::parse(text) {
            let path = path.map_err(|why| AddressError::ListenUnix { address: text.to_owned(), why })?;
            return Ok(ListenAddress(Endpoint::Unix(path)));
        }
        let form = || AddressError::ListenForm { address: text.to_owned() };
        let (host, port) = text.rsplit_once(':').ok_or_else(form)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let wrong_host = || AddressError::ListenHost { host: host.to_owned() };
        let ip = match (host, bracketed) {
            ("" | "*", _) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            (_, Some(inner)) => IpAddr::V6(inner.parse().map_err(|_| wrong_host())?),
            // `::1` or `[::1]` alone: its last group is not a port.
            _ if host.contains(':') => return Err(form()),
            _ => IpAddr::V4(host.parse().map_err(|_| wrong_host())?),
        };
        let port = parse_number(port).ok_or_else(|| AddressError::ListenPort { port: port.to_owned() })?;
        Ok(ListenAddress(Endpoint::Inet(SocketAddr::new(ip, port))))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn backend(text: &str) -> BackendAddress {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn refusal(text: &str) -> String {
        match text.parse::<BackendAddress>() {
            Ok(address) => panic!("{text} was taken as {address:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn every_documented_form_is_understood() {
        let expect = |scheme, host: &str, port, weight| BackendAddress {
            scheme,
            target: Target::Host { host: host.into(), port },
            weight,
        };
        assert_eq!(backend("http://localhost:3031"), expect(Some(Scheme::Http), "localhost", 3031, 1));
        assert_eq!(backend("HTTP://localhost:3031/"), expect(Some(Scheme::Http), "localhost", 3031, 1));
        assert_eq!(backend("http://web"), expect(Some(Scheme::Http), "web", 80, 1));
        assert_eq!(backend("http://[::1]/"), expect(Some(Scheme::Http), "::1", 80, 1));
        assert_eq!(backend("tcp://10.0.0.1:8080"), expect(Some(Scheme::Tcp), "10.0.0.1", 8080, 1));
        assert_eq!(backend("udp://dns.example.:53"), expect(Some(Scheme::Udp), "dns.example.", 53, 1));
        assert_eq!(backend("my_service-1:65535"), expect(None, "my_service-1", 65535, 1));
        assert_eq!(backend("[::1]:80;weight=0"), expect(None, "::1", 80, 0));
        assert_eq!(backend("http://a:1/;weight=65535"), expect(Some(Scheme::Http), "a", 1, 65535));
        let unix = backend("unix:/run/app.sock;weight=2");
        assert_eq!((unix.authority().as_str(), unix.weight), ("unix:/run/app.sock", 2));
        assert_eq!(unix.literal().unwrap().to_string(), "unix:/run/app.sock");
    }

    #[test]
    fn errors_name_the_wrong_token_and_the_right_one() {
        for (text, tokens) in [
            ("https://a:443", &["`https://a:443`", "TLS upstream is not supported yet", "`http://`"][..]),
            ("ftp://a:21", &["`ftp`", "`http://`, `tcp://` or `udp://`"]),
            ("http://a:80/api", &["path `/api`", "write `http://a:80`"]),
            ("http://a:80?x", &["path `?x`"]),
            ("tcp://a:80/", &["path `/`", "write `tcp://a:80`"]),
            ("tcp://a", &["port is missing", "`a:80`"]),
            ("[::1]", &["port is missing", "`[::1]:80`"]),
            ("a:0", &["`0` is not a port"]),
            ("a:+80", &["`+80` is not a port"]),
            ("a:", &["`` is not a port"]),
            ("a:65536", &["`65536` is not a port", "1 to 65535"]),
            (":80", &["host is missing"]),
            ("", &["host is missing"]),
            ("::1:80", &["`::1:80`", "`[::1]:80`"]),
            ("[::1]80", &["brackets"]),
            ("[::1:80", &["brackets"]),
            ("[fe80::1%eth0]:80", &["`fe80::1%eth0` is neither"]),
            ("127.0.0.256:80", &["`127.0.0.256` is neither"]),
            ("127.1:80", &["`127.1` is neither"]),
            ("a..b:80", &["`a..b` is neither"]),
            ("a b:80", &["`a b` is neither"]),
            ("bücher:80", &["`bücher` is neither"]),
            ("a:80;wieght=3", &["unknown option `wieght`", "`;weight=N`"]),
            ("a:80;", &["unknown option ``"]),
            ("a:80;weight=65536", &["`65536` is not a weight", "0 to 65535"]),
            ("a:80;weight=-1", &["`-1` is not a weight"]),
            ("a:80;weight=1;weight=2", &["`weight` is given twice"]),
            ("unix:", &["`unix:`", "the path is missing", "`unix:/run/name.sock`"]),
            ("unix:a.sock;weight=2", &["must begin with `/`"]),
            ("unix:/a;wieght=2", &["unknown option `wieght`"]),
        ] {
            let message = refusal(text);
            for token in tokens {
                assert!(message.contains(token), "{text}: `{message}` lacks `{token}`");
            }
        }
    }

    #[test]
    fn a_password_is_refused_and_never_repeated() {
        for text in
            ["http://me:secret@a:80", "https://me:secret@a:80", "me:secret@a:80", "http://me:sec/ret@a"]
        {
            let message = refusal(text);
            assert!(message.contains("user before the `@`"), "{message}");
            assert!(!message.contains("sec"), "{message}");
        }
        let message = parse_backends("a:1,,http://me:secret@a:80").unwrap_err().to_string();
        assert!(!message.contains("secret"), "{message}");
    }

    #[test]
    fn a_list_keeps_its_order() {
        let list = parse_backends("http://a:1, b:2;weight=3").unwrap();
        assert_eq!(list.iter().map(BackendAddress::authority).collect::<Vec<_>>(), ["a:1", "b:2"]);
    }

    #[test]
    fn empty_and_repeated_items_of_a_list_are_named() {
        assert_eq!(parse_backends(" "), Err(AddressError::NoBackends));
        for (list, position) in [("a:1,,b:2", 2), ("a:1,", 2), (",a:1", 1), (",", 1)] {
            let error = parse_backends(list).unwrap_err();
            assert_eq!(error, AddressError::EmptyItem { position, list: list.to_owned() });
        }
        for list in [
            "unix:/a,unix:/a;weight=2",
            "a:1,A.:1",
            "http://[::1]:80,[0:0::1]:80",
            "http://a,http://a:80;weight=2",
        ] {
            assert!(matches!(parse_backends(list), Err(AddressError::Duplicate { .. })), "{list}");
        }
        assert!(parse_backends("a:1,a:2,b:1,127.0.0.1:1,[::1]:1").is_ok());
    }

    #[test]
    fn listen_addresses_are_understood() {
        for (text, right) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            (":3030", "0.0.0.0:3030"),
            ("*:0", "0.0.0.0:0"),
            ("[::]:443", "[::]:443"),
            ("[::1]:443", "[::1]:443"),
            ("unix:/run/ringway.sock", "unix:/run/ringway.sock"),
            ("unix:@ringway", "unix:@ringway"),
        ] {
            let address: ListenAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), right);
        }
    }

    #[test]
    fn wrong_listen_addresses_are_named() {
        for (text, token) in [
            ("3030", "`3030` has no port"),
            ("127.0.0.1", "`127.0.0.1` has no port"),
            ("::1", "`::1` has no port"),
            ("[::1]", "`[::1]` has no port"),
            ("localhost:80", "`localhost` is not an IP address"),
            ("[127.0.0.1]:80", "`[127.0.0.1]` is not an IP address"),
            ("127.0.0.1:http", "`http` is not a port"),
            ("127.0.0.1:65536", "`65536` is not a port"),
            ("127.0.0.1:", "`` is not a port"),
            ("unix:ringway.sock", "must begin with `/`"),
        ] {
            let message = text.parse::<ListenAddress>().unwrap_err().to_string();
            assert!(message.contains(token), "{text}: {message}");
        }
    }

    fn any_host() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z_][a-zA-Z0-9_]{0,20}(\\.[a-z]{1,10}){0,3}\\.?",
            any::<Ipv4Addr>().prop_map(|ip| ip.to_string()),
            any::<Ipv6Addr>().prop_map(|ip| ip.to_string()),
        ]
    }

    fn any_backend() -> impl Strategy<Value = BackendAddress> {
        let scheme = prop_oneof![
            Just(None),
            Just(Some(Scheme::Http)),
            Just(Some(Scheme::Tcp)),
            Just(Some(Scheme::Udp))
        ];
        (scheme, any_host(), 1u16.., any::<u16>()).prop_map(|(scheme, host, port, weight)| BackendAddress {
            scheme,
            target: Target::Host { host: host.into(), port },
            weight,
        })
    }

    proptest! {
        #[test]
        fn what_is_displayed_parses_back(backend in any_backend()) {
            prop_assert_eq!(backend.to_string().parse(), Ok(backend));
        }

        #[test]
        fn a_socket_address_parses_back(address in any::<(IpAddr, u16)>()) {
            let address = SocketAddr::new(address.0, address.1.max(1));
            let backend = BackendAddress::from(address);
            prop_assert_eq!(backend.literal(), Some(Endpoint::Inet(address)));
            prop_assert_eq!(backend.to_string().parse(), Ok(backend));
            prop_assert_eq!(address.to_string().parse(), Ok(ListenAddress(Endpoint::Inet(address))));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = parse_backends(&text);
            let _ = text.parse::<ListenAddress>();
        }

        #[test]
        fn no_text_of_our_own_characters_panics(text in "(http|tcp|a|1|[\\[\\]:/;=,@%.?#*-]|weight|::1){0,12}") {
            let _ = text.parse::<ListenAddress>();
            if let Ok(backends) = parse_backends(&text) {
                for backend in backends {
                    prop_assert_eq!(backend.to_string().parse(), Ok(backend));
                }
            }
        }
    }
}
