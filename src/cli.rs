//! The command line: what the operator typed becomes a checked [`Command`].
//!
//! Owns flags, their help and their errors, which name the wrong token and what would be right. Never
//! prints, resolves or opens anything: `main` prints what it is given. Runs on the control thread, first
//! of all.

mod flags;

use std::{
    ffi::OsString,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use clap::{CommandFactory, Parser, error::ErrorKind};

use self::flags::{Cli, DoctorFlags, ModeName, ProxyVersion, SharedFlags, Subcommand};
use crate::{
    addr::{AddressError, BackendAddress, Endpoint, ListenAddress, Networks, parse_backends},
    config::{
        self,
        cores::{self, CoresError},
        plan::{Algorithm, Mode},
        source::{Files, Overrides, Source},
    },
    control::log::LogFormat,
    doctor::{DoctorOptions, cpus},
    proxy_protocol::Version,
};

/// Where it listens when nothing else is said.
const DEFAULT_PORT: u16 = 3030;

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Balance as this configuration says.
    Run(Source),
    /// Check this configuration, and with `dump` show all of it.
    Check {
        /// Where it comes from.
        source: Source,
        /// Show the effective configuration.
        dump: bool,
    },
    /// Balance over embedded backends.
    Demo(DemoOptions),
    /// Say what of this host stands in the way.
    Doctor(DoctorOptions),
    /// Write this text (help or version, with its final newline) to stdout and exit with 0.
    Print(String),
}

/// Everything the flags say about a run. What it means together is checked by `config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOptions {
    /// At least one, no duplicates.
    pub backends: Vec<BackendAddress>,
    /// At least one.
    pub listen: Vec<Endpoint>,
    /// What the listeners speak.
    pub mode: Mode,
    /// How a backend is picked.
    pub algorithm: Algorithm,
    /// Clients from here begin with a PROXY protocol header.
    pub accept_proxy: Networks,
    /// The PROXY protocol header that connections to backends begin with.
    pub send_proxy: Option<Version>,
    /// Local addresses of connections to backends; empty leaves them to the kernel.
    pub sources: Vec<IpAddr>,
    /// What a TCP client is told when there is no backend, unless it is the usual.
    pub down_text: Option<String>,
    /// Permissions of UNIX sockets, unless they are the usual.
    pub socket_mode: Option<u32>,
    /// The cores to pin a worker on; at least one, no duplicates, all allowed to this process.
    pub cores: Vec<usize>,
    /// Where the admin HTTP listens, if anywhere.
    pub admin: Option<SocketAddr>,
    /// How log lines look.
    pub log_format: LogFormat,
}

/// Everything the flags say about a demo, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DemoOptions {
    /// At least one.
    pub listen: Vec<Endpoint>,
    /// The cores to pin a worker on; at least one, no duplicates, all allowed to this process.
    pub cores: Vec<usize>,
    /// Where the admin HTTP listens, if anywhere.
    pub admin: Option<SocketAddr>,
    /// How log lines look.
    pub log_format: LogFormat,
}

impl DemoOptions {
    /// The run this demo is, once its backends have addresses.
    pub fn into_run(self, backends: &[SocketAddr]) -> RunOptions {
        RunOptions {
            backends: backends.iter().copied().map(BackendAddress::from).collect(),
            listen: self.listen,
            mode: Mode::Http,
            algorithm: Algorithm::default(),
            accept_proxy: Networks::default(),
            send_proxy: None,
            sources: Vec::new(),
            down_text: None,
            socket_mode: None,
            cores: self.cores,
            admin: self.admin,
            log_format: self.log_format,
        }
    }
}

/// A command line that cannot be followed. Exit code 2.
///
/// The text has neither an `error: ` in front nor a newline at its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the variants and their fields mean")]
pub enum UsageError {
    #[error("Please provide one or more backends to load balance")]
    NoBackends,
    #[error("{0}")]
    Flags(String),
    #[error("`--backends`: {0}")]
    Backends(AddressError),
    #[error("`--cores {spec}`: {error}")]
    Cores { spec: String, error: CoresError },
    #[error("`{flag}` does not go with `-c`: write it in the file")]
    NotWithFile { flag: &'static str },
    #[error("`--admin {address}`: the admin HTTP needs an IP address and a port, such as `127.0.0.1:9000`")]
    AdminOnUnix { address: Endpoint },
    #[error("`{flag}` does not go with `demo`, which brings its own backends")]
    NotForDemo { flag: &'static str },
    #[error("`{flag}` does not go with `schema`, which is the same for everybody: leave it out")]
    NotForSchema { flag: &'static str },
    #[error(
        "`--port {port}` does not go with `--listen`, which has a port of its own: write `--listen :{port}` too"
    )]
    PortBesideListen { port: u16 },
    #[error("`-c` has an empty path: write a file, a directory, or `-` for standard input")]
    EmptyPath,
    #[error(
        "`{given}` is not UTF-8: write it in that encoding, only the path after `-c` may have other bytes"
    )]
    NotUtf8 { given: String },
    #[error("`{flag}` does not go with `doctor`, which looks and starts nothing")]
    NotForDoctor { flag: &'static str },
}

/// Reads a whole command line; the first item is the program's name.
pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Command, UsageError> {
    parse_with(args, cores::allowed)
}

fn parse_with(
    args: impl Iterator<Item = OsString>,
    allowed: impl FnOnce() -> Result<Vec<usize>, CoresError>,
) -> Result<Command, UsageError> {
    let args = double_dashes(args);
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) if error.kind() == ErrorKind::InvalidUtf8 => {
            return Err(UsageError::NotUtf8 { given: not_utf8(&args) });
        }
        Err(error) => {
            let text = error.render().to_string();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(Command::Print(text)),
                _ => Err(UsageError::Flags(text.trim_start_matches("error: ").trim_end().to_owned())),
            };
        }
    };
    if let Some(Subcommand::Schema) = cli.subcommand {
        let all = traffic_flags(&cli).into_iter().chain(place_flags(&cli)).chain(run_flags(&cli));
        return match given(all) {
            Some(flag) => Err(UsageError::NotForSchema { flag }),
            None => Ok(Command::Print(config::schema())),
        };
    }
    if let Some(Subcommand::Doctor(_)) = cli.subcommand {
        return doctor(cli).map(Command::Doctor);
    }
    if let Some(Subcommand::Demo) = cli.subcommand {
        return demo(cli, allowed).map(Command::Demo);
    }
    let (check, dump) = (cli.shared.test || cli.shared.dump, cli.shared.dump);
    let source = if cli.shared.config.is_some() {
        from_files(cli, allowed)?
    } else {
        Source::Flags(Box::new(run(cli, allowed)?))
    };
    Ok(if check { Command::Check { source, dump } } else { Command::Run(source) })
}

fn run(cli: Cli, allowed: impl FnOnce() -> Result<Vec<usize>, CoresError>) -> Result<RunOptions, UsageError> {
    let mode = match cli.mode {
        None | Some(ModeName::Http) => Mode::Http,
        Some(ModeName::Tcp) => Mode::Tcp,
        Some(ModeName::Udp) => Mode::Udp,
    };
    let algorithm = cli.balance.unwrap_or_default();
    let backends = parse_backends(&cli.backends.unwrap_or_default()).map_err(|error| match error {
        AddressError::NoBackends => UsageError::NoBackends,
        error => UsageError::Backends(error),
    })?;
    let DemoOptions { listen, cores, admin, log_format } = shared(cli.shared, allowed)?;
    Ok(RunOptions {
        backends,
        listen,
        mode,
        algorithm,
        accept_proxy: cli.accept_proxy.unwrap_or_default(),
        send_proxy: cli.send_proxy.map(|version| match version {
            ProxyVersion::V1 => Version::V1,
            ProxyVersion::V2 => Version::V2,
        }),
        sources: cli.source,
        down_text: cli.down_text.map(spoken),
        socket_mode: cli.socket_mode,
        cores,
        admin,
        log_format,
    })
}

/// Whoever reads the text in a terminal wants a line; no text stays none.
fn spoken(text: String) -> String {
    if text.is_empty() { text } else { text + "\n" }
}

fn demo(
    cli: Cli,
    allowed: impl FnOnce() -> Result<Vec<usize>, CoresError>,
) -> Result<DemoOptions, UsageError> {
    let [.., file, test, dump] = run_flags(&cli);
    if let Some(flag) = given(traffic_flags(&cli).into_iter().chain([file, test, dump])) {
        return Err(UsageError::NotForDemo { flag });
    }
    shared(cli.shared, allowed)
}

/// The cores need not be allowed: that is one of the things it tells.
fn doctor(cli: Cli) -> Result<DoctorOptions, UsageError> {
    let shared = [
        ("--port", cli.shared.port.is_some()),
        ("--listen", !cli.shared.listen.is_empty()),
        ("--admin", cli.shared.admin.is_some()),
        ("--log-format", cli.shared.log_format.is_some()),
        ("-c", cli.shared.config.is_some()),
        ("-t", cli.shared.test),
        ("-T", cli.shared.dump),
    ];
    if let Some((flag, _)) = traffic_flags(&cli).into_iter().chain(shared).find(|&(_, given)| given) {
        return Err(UsageError::NotForDoctor { flag });
    }
    let cores = cli.shared.cores.filter(|spec| !spec.trim().eq_ignore_ascii_case("all"));
    let cores = cores.map(|spec| chosen_cores(spec, || Ok((0..cpus::CORES_MAX).collect()))).transpose()?;
    let (json, root) = match cli.subcommand {
        Some(Subcommand::Doctor(DoctorFlags { json, root })) => (json, root),
        _ => (false, None),
    };
    Ok(DoctorOptions { cores, json, root })
}

/// Flags that say what is balanced how, and whether they were given.
fn traffic_flags(cli: &Cli) -> [(&'static str, bool); 8] {
    [
        ("--backends", cli.backends.is_some()),
        ("--mode", cli.mode.is_some()),
        ("--balance", cli.balance.is_some()),
        ("--accept-proxy", cli.accept_proxy.is_some()),
        ("--send-proxy", cli.send_proxy.is_some()),
        ("--source", !cli.source.is_empty()),
        ("--down-text", cli.down_text.is_some()),
        ("--socket-mode", cli.socket_mode.is_some()),
    ]
}

/// Flags that say where it listens.
fn place_flags(cli: &Cli) -> [(&'static str, bool); 2] {
    [("--listen", !cli.shared.listen.is_empty()), ("--port", cli.shared.port.is_some())]
}

/// Flags that say what belongs to one start of the process.
fn run_flags(cli: &Cli) -> [(&'static str, bool); 6] {
    [
        ("--cores", cli.shared.cores.is_some()),
        ("--admin", cli.shared.admin.is_some()),
        ("--log-format", cli.shared.log_format.is_some()),
        ("-c", cli.shared.config.is_some()),
        ("-t", cli.shared.test),
        ("-T", cli.shared.dump),
    ]
}

/// The first that was given.
fn given(mut flags: impl Iterator<Item = (&'static str, bool)>) -> Option<&'static str> {
    flags.find(|(_, given)| *given).map(|(flag, _)| flag)
}

/// With files, flags say only what belongs to this start of the process.
fn from_files(
    cli: Cli,
    allowed: impl FnOnce() -> Result<Vec<usize>, CoresError>,
) -> Result<Source, UsageError> {
    if let Some(flag) = given(traffic_flags(&cli).into_iter().chain(place_flags(&cli))) {
        return Err(UsageError::NotWithFile { flag });
    }
    let path = cli.shared.config.unwrap_or_default();
    if path.is_empty() {
        return Err(UsageError::EmptyPath);
    }
    let files = if path == "-" { Files::StandardInput } else { Files::Path(path.into()) };
    let overrides = Overrides {
        cores: cli.shared.cores.map(|spec| chosen_cores(spec, allowed)).transpose()?,
        admin: admin_address(cli.shared.admin)?,
        log_format: cli.shared.log_format,
    };
    Ok(Source::Files { files, overrides })
}

fn shared(
    flags: SharedFlags,
    allowed: impl FnOnce() -> Result<Vec<usize>, CoresError>,
) -> Result<DemoOptions, UsageError> {
    let mut listen: Vec<Endpoint> = flags.listen.into_iter().map(|ListenAddress(address)| address).collect();
    if let (Some(port), false) = (flags.port, listen.is_empty()) {
        return Err(UsageError::PortBesideListen { port });
    }
    if listen.is_empty() {
        listen.push(SocketAddr::from((Ipv4Addr::UNSPECIFIED, flags.port.unwrap_or(DEFAULT_PORT))).into());
    }
    Ok(DemoOptions {
        listen,
        cores: chosen_cores(flags.cores.unwrap_or_else(|| "all".to_owned()), allowed)?,
        admin: admin_address(flags.admin)?,
        log_format: flags.log_format.unwrap_or_default(),
    })
}

fn chosen_cores(
    spec: String,
    allowed: impl FnOnce() -> Result<Vec<usize>, CoresError>,
) -> Result<Vec<usize>, UsageError> {
    let cores = allowed().and_then(|allowed| cores::parse(&spec, &allowed));
    cores.map_err(|error| UsageError::Cores { spec, error })
}

fn admin_address(flag: Option<ListenAddress>) -> Result<Option<SocketAddr>, UsageError> {
    match flag {
        Some(ListenAddress(Endpoint::Inet(address))) => Ok(Some(address)),
        Some(ListenAddress(address)) => Err(UsageError::AdminOnUnix { address }),
        None => Ok(None),
    }
}

/// The first argument that is no text, with the flag in front of it. Of clap's message nobody learns which it is.
fn not_utf8(args: &[OsString]) -> String {
    let Some(index) = args.iter().position(|arg| arg.to_str().is_none()) else { return String::new() };
    let before = index.checked_sub(1).and_then(|before| args.get(before)).and_then(|arg| arg.to_str());
    let flag = before.filter(|arg| arg.starts_with("--") && !arg.contains('='));
    let odd = args.get(index).map(|arg| arg.to_string_lossy()).unwrap_or_default();
    [flag, Some(odd.as_ref())].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// `-backends=…` as `--backends=…`.
///
/// Also changes a word that is no flag at all, if its first letter is none either: it is refused in any
/// case, and clap then names the whole word and the flag that was probably meant.
fn double_dashes(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut command = Cli::command();
    command.build();
    let known_long = |word: &str| command.get_arguments().any(|flag| flag.get_long() == Some(word));
    let known_short = |letter: char| command.get_arguments().any(|flag| flag.get_short() == Some(letter));

    let mut flags_ended = false;
    args.map(|arg| {
        flags_ended |= arg == "--";
        let Some(word) = arg.to_str().and_then(|text| text.strip_prefix('-')).filter(|_| !flags_ended) else {
            return arg;
        };
        let name = word.split_once('=').map_or(word, |(name, _)| name);
        let Some(first) = name.chars().next().filter(|first| first.is_alphabetic()) else {
            return arg;
        };
        if name.chars().nth(1).is_some() && (known_long(name) || !known_short(first)) {
            return format!("--{word}").into();
        }
        arg
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use proptest::prelude::*;

    use super::*;

    const HTTP: &str = "--backends=http://localhost:3031,http://localhost:3032";

    fn command(args: &[&str]) -> Result<Command, UsageError> {
        parse_with(["ringway"].iter().chain(args).map(OsString::from), || Ok(vec![0, 1, 2, 3]))
    }

    fn run_options(args: &[&str]) -> RunOptions {
        match command(args) {
            Ok(Command::Run(Source::Flags(options))) => *options,
            other => panic!("{args:?}: {other:?}"),
        }
    }

    fn inet(text: &str) -> Endpoint {
        Endpoint::Inet(text.parse().unwrap())
    }

    fn refusal(args: &[&str]) -> String {
        command(args).map(|taken| panic!("{args:?} was taken as {taken:?}")).unwrap_err().to_string()
    }

    #[test]
    fn clap_finds_no_contradiction_in_the_flags() {
        Cli::command().debug_assert();
    }

    #[test]
    fn one_flag_is_enough() {
        let expected = RunOptions {
            backends: parse_backends("http://localhost:3031,http://localhost:3032").unwrap(),
            listen: vec![inet("0.0.0.0:3030")],
            mode: Mode::Http,
            algorithm: Algorithm::RoundRobin,
            accept_proxy: Networks::default(),
            send_proxy: None,
            sources: vec![],
            down_text: None,
            socket_mode: None,
            cores: vec![0, 1, 2, 3],
            admin: None,
            log_format: LogFormat::Text,
        };
        assert_eq!(run_options(&[HTTP]), expected);
    }

    #[test]
    fn every_flag_is_understood_with_one_dash_and_with_two() {
        let args = |dash: &str| -> Vec<String> {
            [
                "backends=a:1;weight=3",
                "listen=127.0.0.1:0",
                "listen=[::1]:0",
                "mode=http",
                "balance=rr",
                "accept-proxy=10.0.0.0/8",
                "send-proxy=v1",
                "source=127.0.0.1,::1",
                "socket-mode=0660",
                "cores=3,0-1",
                "admin=:9000",
                "log-format=json",
            ]
            .map(|flag| format!("{dash}{flag}"))
            .to_vec()
        };
        let expected = RunOptions {
            backends: parse_backends("a:1;weight=3").unwrap(),
            listen: vec![inet("127.0.0.1:0"), inet("[::1]:0")],
            mode: Mode::Http,
            algorithm: Algorithm::RoundRobin,
            accept_proxy: "10.0.0.0/8".parse().unwrap(),
            send_proxy: Some(Version::V1),
            sources: vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
            down_text: None,
            socket_mode: Some(0o660),
            cores: vec![3, 0, 1],
            admin: Some("0.0.0.0:9000".parse().unwrap()),
            log_format: LogFormat::Json,
        };
        for dash in ["-", "--"] {
            let args = args(dash);
            let joined: Vec<&str> = args.iter().map(String::as_str).collect();
            assert_eq!(run_options(&joined), expected);
            let split: Vec<&str> = args.iter().flat_map(|arg| arg.splitn(2, '=')).collect();
            assert_eq!(run_options(&split), expected);
        }
    }

    #[test]
    fn the_same_free_port_may_be_asked_for_twice() {
        let options = run_options(&[HTTP, "--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"]);
        assert_eq!(options.listen.len(), 2);
    }

    #[test]
    fn every_mode_and_unix_sockets_are_understood() {
        let tcp =
            run_options(&["--mode=tcp", "--listen=unix:/l", "--backends=unix:/b,tcp://a:1", "--down-text=x"]);
        assert_eq!((tcp.mode, tcp.down_text.as_deref()), (Mode::Tcp, Some("x\n")));
        assert_eq!(tcp.listen[0].to_string(), "unix:/l");
        assert_eq!(run_options(&["--mode=udp", "--backends=udp://a:1,b:2"]).mode, Mode::Udp);
    }

    #[test]
    fn round_robin_has_its_names_of_other_proxies() {
        for name in ["round-robin", "roundrobin", "rr", "wrr", "round_robin"] {
            assert_eq!(run_options(&[HTTP, "--balance", name]).algorithm, Algorithm::RoundRobin);
        }
    }

    #[test]
    fn no_backends_is_said_in_the_promised_words() {
        for args in [&[][..], &["--port", "80"], &["--backends="], &["-backends", " "]] {
            assert_eq!(refusal(args), "Please provide one or more backends to load balance");
        }
    }

    #[test]
    fn wrong_tokens_are_named_with_what_would_be_right() {
        for (args, tokens) in [
            (&["--mode=smtp"][..], &["'smtp'", "http"][..]),
            (&[HTTP, "--send-proxy=v3"], &["'v3'", "v1, v2"]),
            (&[HTTP, "--accept-proxy=lan"], &["'lan'", "is not a network"]),
            (&[HTTP, "--source=eth0"], &["'eth0'"]),
            (&[HTTP, "--socket-mode=rw"], &["'rw'", "octal"]),
            (&[HTTP, "--socket-mode=+66"], &["octal"]),
            (&[HTTP, "--socket-mode=7777"], &["at most 777"]),
            (&[HTTP, "--admin=unix:/a"], &["`--admin unix:/a`", "an IP address and a port"]),
            (&[HTTP, "--balance=rond-robin"], &["'rond-robin'", "round-robin, least-connections"]),
            (&[HTTP, "--cores=0,4"], &["core 4", "allowed: 0-3"]),
            (&[HTTP, "--cores", "-1"], &["`-1` is neither"]),
            (&[HTTP, "--port=65536"], &["'65536'", "0 to 65535"]),
            (&[HTTP, "--port=http"], &["'http'", "0 to 65535"]),
            (&[HTTP, "--port", "-80"], &["'-80'", "0 to 65535"]),
            (&[HTTP, "--port=80", "--listen=:81"], &["`--port 80`", "`--listen :80`"]),
            (&["demo", "--listen=:81", "--port=0"], &["`--port 0` does not go with `--listen`"]),
            (&["-c", ""], &["`-c` has an empty path", "standard input"]),
            (&[HTTP, "--listen=localhost:80"], &["`localhost` is not an IP address"]),
            (&[HTTP, "--log-format=xml"], &["'xml'", "text, json"]),
            (&[HTTP, "--bakends=x"], &["'--bakends'", "'--backends'"]),
            (&[HTTP, "-prot=80"], &["'--prot'", "'--port'"]),
            (&[HTTP, "demos"], &["'demos'", "'demo'"]),
            (&["--backends=https://a:1"], &["`--backends`", "TLS upstream is not supported yet"]),
            (&["--backends=a:1,,b:2"], &["backend 2 of `a:1,,b:2` is empty"]),
        ] {
            let message = refusal(args);
            assert!(!message.starts_with("error:") && !message.ends_with('\n'), "{message}");
            for token in tokens {
                assert!(message.contains(token), "{args:?}: `{message}` lacks `{token}`");
            }
        }
    }

    #[test]
    fn files_take_the_place_of_flags() {
        let source = |args: &[&str]| match command(args) {
            Ok(Command::Run(source) | Command::Check { source, .. }) => source,
            other => panic!("{args:?}: {other:?}"),
        };
        let files = |files, overrides| Source::Files { files, overrides };
        let path = || Files::Path("a.toml".into());
        for args in [&["-c", "a.toml"][..], &["-ca.toml"], &["--config=a.toml"], &["-config", "a.toml"]] {
            assert_eq!(source(args), files(path(), Overrides::default()));
        }
        assert_eq!(source(&["-c", "-"]), files(Files::StandardInput, Overrides::default()));
        let overrides = Overrides {
            cores: Some(vec![1]),
            admin: Some("127.0.0.1:9".parse().unwrap()),
            log_format: Some(LogFormat::Json),
        };
        let args = ["-c", "a.toml", "--cores=1", "--admin=127.0.0.1:9", "--log-format=json"];
        assert_eq!(source(&args), files(path(), overrides));
        for (args, dump) in [(["-t", HTTP], false), (["-T", HTTP], true), (["--test", "-ca.toml"], false)] {
            assert!(matches!(command(&args), Ok(Command::Check { dump: given, .. }) if given == dump));
        }
    }

    #[test]
    fn flags_that_belong_into_the_file_are_refused_beside_it() {
        for flag in [
            HTTP,
            "--mode=tcp",
            "--balance=rr",
            "--accept-proxy=::1",
            "--send-proxy=v1",
            "--source=::1",
            "--down-text=x",
            "--socket-mode=600",
            "--listen=:80",
            "--port=3030",
        ] {
            let message = refusal(&["-c", "a.toml", flag]);
            let name = flag.split('=').next().unwrap();
            assert!(message.contains(&format!("`{name}` does not go with `-c`")), "{message}");
        }
        assert!(refusal(&["-c"]).contains("--config"));
        for flag in ["-ca.toml", "-t", "-T"] {
            assert!(refusal(&["demo", flag]).contains("does not go with `demo`"));
        }
    }

    #[test]
    fn the_schema_is_printed() {
        assert!(matches!(command(&["schema"]), Ok(Command::Print(text)) if text.starts_with('{')));
        for (args, flag) in [
            (&["schema", "-c", "a.toml"][..], "-c"),
            (&["schema", "--port", "3"], "--port"),
            (&["--cores=99", "schema"], "--cores"),
            (&["schema", "-t"], "-t"),
            (&["schema", "-T"], "-T"),
            (&["schema", "--admin=:9"], "--admin"),
            (&["schema", "--log-format=json"], "--log-format"),
            (&["schema", "--listen=:9"], "--listen"),
            (&[HTTP, "schema"], "--backends"),
        ] {
            assert!(refusal(args).contains(&format!("`{flag}` does not go with `schema`")), "{args:?}");
        }
    }

    #[test]
    fn help_and_version_are_for_stdout() {
        let print = |args: &[&str]| match command(args) {
            Ok(Command::Print(text)) => text,
            other => panic!("{args:?}: {other:?}"),
        };
        for args in [["-V"], ["--version"], ["-version"]] {
            assert_eq!(print(&args), concat!("ringway ", env!("CARGO_PKG_VERSION"), "\n"));
        }
        for args in [&["-h"][..], &["--help"], &["-help"], &["help"], &["demo", "--help"]] {
            let text = print(args);
            assert!(text.contains("--listen <ADDR:PORT>") && text.ends_with('\n'), "{text}");
            assert!(text.contains("--config <PATH>"), "{text}");
        }
    }

    #[test]
    fn the_demo_takes_the_shared_flags_on_either_side() {
        let demo = |args: &[&str]| match command(args) {
            Ok(Command::Demo(options)) => options,
            other => panic!("{args:?}: {other:?}"),
        };
        assert_eq!(demo(&["demo"]).listen, [inet("0.0.0.0:3030")]);
        for args in [
            &["demo", "-port", "0", "--cores=1", "--log-format=json", "--admin=[::1]:9"][..],
            &["--port=0", "--cores", "1", "--log-format=json", "--admin=[::1]:9", "demo"],
            &["--cores", "1", "demo", "--listen=:0", "--log-format=json", "--admin=[::1]:9"],
        ] {
            let expected = DemoOptions {
                listen: vec![inet("0.0.0.0:0")],
                cores: vec![1],
                admin: Some("[::1]:9".parse().unwrap()),
                log_format: LogFormat::Json,
            };
            assert_eq!(demo(args), expected);
        }
        let run = demo(&["demo", "--cores=1"]).into_run(&["127.0.0.1:7".parse().unwrap()]);
        assert_eq!(run, RunOptions { cores: vec![1], ..run_options(&["--backends=127.0.0.1:7"]) });
        assert!(refusal(&[HTTP, "demo"]).contains("`--backends` does not go with `demo`"));
        assert!(refusal(&["demo", HTTP]).contains("'--backends'"));
    }

    #[test]
    fn the_doctor_takes_cores_and_nothing_that_would_run() {
        let doctor = |args: &[&str]| match command(args) {
            Ok(Command::Doctor(options)) => options,
            other => panic!("{args:?}: {other:?}"),
        };
        let nothing = DoctorOptions { cores: None, json: false, root: None };
        assert_eq!(doctor(&["doctor"]), nothing);
        assert_eq!(doctor(&["doctor", "--cores=all"]), nothing);
        let given = DoctorOptions { cores: Some(vec![2, 3, 70]), json: true, root: Some("copy".into()) };
        assert_eq!(doctor(&["doctor", "--cores", "2-3,70", "--json", "--root=copy"]), given);
        assert_eq!(doctor(&["--cores=2-3,70", "doctor", "-json", "-root", "copy"]), given);
        assert!(refusal(&["doctor", "--cores=x"]).contains("`x` is neither"));
        for flag in ["--port=1", "--listen=:1", "--admin=:1", "--log-format=json", "-ca.toml", "-t", "-T"] {
            assert!(refusal(&["doctor", flag]).contains("does not go with `doctor`"), "{flag}");
        }
        assert!(refusal(&[HTTP, "doctor"]).contains("`--backends` does not go with `doctor`"));
    }

    #[test]
    fn this_machine_has_cores() {
        let args = ["ringway", "--backends=a:1"].map(OsString::from);
        assert!(
            matches!(parse(args.into_iter()), Ok(Command::Run(Source::Flags(options))) if !options.cores.is_empty())
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        let parse = |args: &[&[u8]]| {
            let args = args.iter().map(|arg| OsString::from_vec(arg.to_vec()));
            parse_with([OsString::from("ringway")].into_iter().chain(args), || Ok(vec![0]))
        };
        for arg in [&b"--backends=\xff"[..], b"-backends=\xff", b"\xff", b"-\xff"] {
            assert!(parse(&[arg]).is_err());
        }
        for args in [&[&b"--backends=a\xff"[..]][..], &[b"--backends", b"a\xff"]] {
            let message = parse(args).unwrap_err().to_string();
            assert!(message.contains("`--backends") && message.contains("is not UTF-8"), "{message}");
        }
        assert!(parse(&[b"-c", b"a\xff.toml"]).is_ok(), "a path may be anything");
    }

    proptest! {
        #[test]
        fn no_command_line_panics(args in proptest::collection::vec(
            "(-|--|-backends=|--listen=|--cores=|demo|help|-c|[a-z0-9:,.=-]){0,4}|.{0,8}", 0..5,
        )) {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let _ = command(&args);
        }
    }
}
