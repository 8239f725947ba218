//! The command line: what the operator typed becomes a checked [`Command`].
//!
//! Owns flags, their help and their errors, which name the wrong token and what would be right. Never
//! prints, resolves or opens anything: `main` prints what it is given. Runs on the control thread, first
//! of all.

mod cores;

use std::{
    ffi::OsString,
    net::{Ipv4Addr, SocketAddr},
};

use clap::{CommandFactory, Parser, ValueEnum, error::ErrorKind};

pub use self::cores::CoresError;
use crate::{
    addr::{AddressError, BackendAddress, ListenAddress, Scheme, parse_backends},
    config::plan::{Algorithm, Mode},
    control::log::LogFormat,
};

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Balance over the given backends.
    Run(RunOptions),
    /// Balance over embedded backends.
    Demo(DemoOptions),
    /// Write this text (help or version, with its final newline) to stdout and exit with 0.
    Print(String),
}

/// Everything the flags say about a run, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOptions {
    /// At least one, no duplicates, schemes that fit the mode.
    pub backends: Vec<BackendAddress>,
    /// At least one, no duplicates but for port 0.
    pub listen: Vec<SocketAddr>,
    /// What the listeners speak.
    pub mode: Mode,
    /// How a backend is picked.
    pub algorithm: Algorithm,
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
    /// At least one, no duplicates but for port 0.
    pub listen: Vec<SocketAddr>,
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
    #[error(transparent)]
    Cores(#[from] CoresError),
    #[error("`{flag}`: configuration files are not yet available, use flags (see `ringway --help`)")]
    ConfigurationFile { flag: &'static str },
    #[error("`--mode {mode}` is not yet available, this version has `--mode http`")]
    Mode { mode: &'static str },
    #[error("`--balance {name}` is not yet available, this version has `--balance round-robin`")]
    Balance { name: &'static str },
    #[error(
        "`--backends`: `{address}` does not fit `--mode {mode}`, write `{mode}://{authority}` or `{authority}`"
    )]
    SchemeForMode { address: String, authority: String, mode: &'static str },
    #[error("`--listen {address}` is given twice")]
    ListenTwice { address: SocketAddr },
    #[error("`--admin {address}` is the address of a listener, give it a port of its own")]
    AdminOnListener { address: SocketAddr },
    #[error("`{flag}` does not go with `demo`, which brings its own backends")]
    NotForDemo { flag: &'static str },
}

/// The flags as clap sees them. The comments on its fields are the help that users read.
#[derive(Debug, Parser)]
#[command(name = "ringway", bin_name = "ringway", version, about, max_term_width = 100)]
pub struct Cli {
    /// Backends, comma-separated: http://HOST:PORT or HOST:PORT, each with an optional ;weight=N
    /// (quote the list then: a shell ends the command at `;`)
    #[arg(long, value_name = "LIST")]
    backends: Option<String>,

    /// What the listeners speak
    #[arg(long, value_name = "MODE", value_enum)]
    mode: Option<ModeName>,

    /// How a backend is picked
    #[arg(long, value_name = "NAME", value_enum)]
    balance: Option<BalanceName>,

    #[command(flatten)]
    shared: SharedFlags,

    #[command(subcommand)]
    subcommand: Option<Subcommand>,
}

#[derive(Debug, clap::Subcommand)]
enum Subcommand {
    /// Start three small embedded backends, balance over them and print what to try
    Demo,
}

/// Flags that go with `demo` too, before or after that word.
#[derive(Debug, clap::Args)]
struct SharedFlags {
    /// Listen on this port of all IPv4 addresses; 0 lets the kernel choose
    #[arg(long, global = true, value_name = "N", default_value_t = 3030, value_parser = parse_port)]
    port: u16,

    /// Listen here instead of on --port: 127.0.0.1:80, :80, *:80 or [::]:80; may be repeated
    #[arg(long, global = true, value_name = "ADDR:PORT")]
    listen: Vec<ListenAddress>,

    /// Cores that get a worker each: `all` this process may run on, or a list such as 0,2-3
    #[arg(long, global = true, value_name = "LIST", default_value = "all", allow_hyphen_values = true)]
    cores: String,

    /// Serve the admin HTTP here
    #[arg(long, global = true, value_name = "ADDR:PORT")]
    admin: Option<ListenAddress>,

    /// How log lines on stderr look
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,

    // Known only to be refused with a better message than "unexpected argument".
    #[arg(short = 'c', long, global = true, hide = true, num_args = 0..=1, value_name = "PATH")]
    config: Option<Option<OsString>>,
    #[arg(short = 't', long, global = true, hide = true)]
    test: bool,
    #[arg(short = 'T', global = true, hide = true)]
    dump: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ModeName {
    Http,
    #[value(hide = true)]
    Tcp,
    #[value(hide = true)]
    Udp,
}

/// Names of ours and of other proxies. Hidden ones are known, but not available yet.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum BalanceName {
    #[value(alias = "roundrobin", alias = "rr", alias = "wrr", alias = "round_robin")]
    RoundRobin,
    #[value(hide = true, aliases = ["leastconn", "least_conn", "least_connections", "least_request", "lc", "wlc"])]
    LeastConnections,
    #[value(hide = true, aliases = ["least_response_time", "least_time", "peak_ewma", "ewma"])]
    LeastResponseTime,
    #[value(hide = true)]
    Random,
    #[value(hide = true, alias = "power-of-two")]
    P2c,
    #[value(hide = true, aliases = ["ip_hash", "iphash", "source", "sh"])]
    IpHash,
    #[value(hide = true, aliases = ["ring-hash", "ring_hash", "ketama", "consistent"])]
    Ring,
    #[value(hide = true)]
    Maglev,
    #[value(hide = true)]
    First,
}

/// Reads a whole command line; the first item is the program's name.
pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Command, UsageError> {
    parse_with(args, cores::allowed)
}

fn parse_with(
    args: impl Iterator<Item = OsString>,
    allowed: impl FnOnce() -> Result<Vec<usize>, CoresError>,
) -> Result<Command, UsageError> {
    let cli = match Cli::try_parse_from(double_dashes(args)) {
        Ok(cli) => cli,
        Err(error) => {
            let text = error.render().to_string();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(Command::Print(text)),
                _ => Err(UsageError::Flags(text.trim_start_matches("error: ").trim_end().to_owned())),
            };
        }
    };
    refuse_configuration_file(&cli.shared)?;
    match cli.subcommand {
        Some(Subcommand::Demo) => demo(cli, allowed).map(Command::Demo),
        None => run(cli, allowed).map(Command::Run),
    }
}

fn run(cli: Cli, allowed: impl FnOnce() -> Result<Vec<usize>, CoresError>) -> Result<RunOptions, UsageError> {
    let mode = match cli.mode {
        None | Some(ModeName::Http) => Mode::Http,
        Some(ModeName::Tcp) => return Err(UsageError::Mode { mode: "tcp" }),
        Some(ModeName::Udp) => return Err(UsageError::Mode { mode: "udp" }),
    };
    let algorithm = cli.balance.map_or(Ok(Algorithm::default()), available_algorithm)?;
    let backends = parse_backends(&cli.backends.unwrap_or_default()).map_err(|error| match error {
        AddressError::NoBackends => UsageError::NoBackends,
        error => UsageError::Backends(error),
    })?;
    check_schemes(&backends, mode)?;
    let DemoOptions { listen, cores, admin, log_format } = shared(cli.shared, allowed)?;
    Ok(RunOptions { backends, listen, mode, algorithm, cores, admin, log_format })
}

fn demo(
    cli: Cli,
    allowed: impl FnOnce() -> Result<Vec<usize>, CoresError>,
) -> Result<DemoOptions, UsageError> {
    let given = [
        ("--backends", cli.backends.is_some()),
        ("--mode", cli.mode.is_some()),
        ("--balance", cli.balance.is_some()),
    ];
    if let Some((flag, _)) = given.into_iter().find(|&(_, given)| given) {
        return Err(UsageError::NotForDemo { flag });
    }
    shared(cli.shared, allowed)
}

fn shared(
    flags: SharedFlags,
    allowed: impl FnOnce() -> Result<Vec<usize>, CoresError>,
) -> Result<DemoOptions, UsageError> {
    let mut listen: Vec<SocketAddr> = Vec::new();
    for ListenAddress(address) in flags.listen {
        if address.port() != 0 && listen.contains(&address) {
            return Err(UsageError::ListenTwice { address });
        }
        listen.push(address);
    }
    if listen.is_empty() {
        listen.push((Ipv4Addr::UNSPECIFIED, flags.port).into());
    }
    let admin = flags.admin.map(|ListenAddress(address)| address);
    if let Some(address) = admin.filter(|admin| admin.port() != 0 && listen.contains(admin)) {
        return Err(UsageError::AdminOnListener { address });
    }
    let cores = cores::parse(&flags.cores, &allowed()?)?;
    Ok(DemoOptions { listen, cores, admin, log_format: flags.log_format })
}

fn refuse_configuration_file(flags: &SharedFlags) -> Result<(), UsageError> {
    let given = [("-c/--config", flags.config.is_some()), ("-t/--test", flags.test), ("-T", flags.dump)];
    match given.into_iter().find(|&(_, given)| given) {
        Some((flag, _)) => Err(UsageError::ConfigurationFile { flag }),
        None => Ok(()),
    }
}

fn available_algorithm(name: BalanceName) -> Result<Algorithm, UsageError> {
    let name = match name {
        BalanceName::RoundRobin => return Ok(Algorithm::RoundRobin),
        BalanceName::LeastConnections => "least-connections",
        BalanceName::LeastResponseTime => "least-response-time",
        BalanceName::Random => "random",
        BalanceName::P2c => "p2c",
        BalanceName::IpHash => "ip-hash",
        BalanceName::Ring => "ring",
        BalanceName::Maglev => "maglev",
        BalanceName::First => "first",
    };
    Err(UsageError::Balance { name })
}

fn check_schemes(backends: &[BackendAddress], mode: Mode) -> Result<(), UsageError> {
    let right = match mode {
        Mode::Http => Scheme::Http,
    };
    match backends.iter().find(|backend| backend.scheme.is_some_and(|scheme| scheme != right)) {
        Some(backend) => Err(UsageError::SchemeForMode {
            address: backend.to_string(),
            authority: backend.authority(),
            mode: mode.name(),
        }),
        None => Ok(()),
    }
}

fn parse_port(text: &str) -> Result<u16, &'static str> {
    text.parse().map_err(|_| "write a number from 0 to 65535")
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
            Ok(Command::Run(options)) => options,
            other => panic!("{args:?}: {other:?}"),
        }
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
            listen: vec!["0.0.0.0:3030".parse().unwrap()],
            mode: Mode::Http,
            algorithm: Algorithm::RoundRobin,
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
                "port=1",
                "listen=127.0.0.1:0",
                "listen=[::1]:0",
                "mode=http",
                "balance=rr",
                "cores=3,0-1",
                "admin=:9000",
                "log-format=json",
            ]
            .map(|flag| format!("{dash}{flag}"))
            .to_vec()
        };
        let expected = RunOptions {
            backends: parse_backends("a:1;weight=3").unwrap(),
            listen: vec!["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()],
            mode: Mode::Http,
            algorithm: Algorithm::RoundRobin,
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
            (&["--mode", "tcp", "--backends", "tcp://a:1"][..], &["`--mode tcp`", "`--mode http`"][..]),
            (&["--mode=udp"], &["`--mode udp` is not yet available"]),
            (&["--mode=smtp"], &["'smtp'", "http"]),
            (&[HTTP, "--balance=maglev"], &["`--balance maglev` is not yet available", "round-robin"]),
            (&[HTTP, "--balance=leastconn"], &["`--balance least-connections` is not yet available"]),
            (&[HTTP, "--balance=rond-robin"], &["'rond-robin'", "'round-robin'"]),
            (&[HTTP, "--cores=0,4"], &["core 4", "allowed: 0-3"]),
            (&[HTTP, "--cores", "-1"], &["`-1` is neither"]),
            (&[HTTP, "--port=65536"], &["'65536'", "0 to 65535"]),
            (&[HTTP, "--port=http"], &["'http'", "0 to 65535"]),
            (&[HTTP, "--port", "-80"], &["-8"]),
            (&[HTTP, "--listen=localhost:80"], &["`localhost` is not an IP address"]),
            (&[HTTP, "--listen=:80", "--listen=*:80"], &["`--listen 0.0.0.0:80` is given twice"]),
            (&[HTTP, "--admin=:3030"], &["`--admin 0.0.0.0:3030`"]),
            (&[HTTP, "--log-format=xml"], &["'xml'", "text, json"]),
            (&[HTTP, "--bakends=x"], &["'--bakends'", "'--backends'"]),
            (&[HTTP, "-prot=80"], &["'--prot'", "'--port'"]),
            (&[HTTP, "demos"], &["'demos'", "'demo'"]),
            (&["--backends=tcp://a:1"], &["`tcp://a:1`", "`--mode http`", "`http://a:1` or `a:1`"]),
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
    fn configuration_files_are_refused_as_not_available_yet() {
        for args in [
            &["-c", "ringway.toml"][..],
            &["-c"],
            &["-cringway.toml"],
            &["--config=ringway.toml"],
            &["-config", "ringway.toml"],
            &["-t", "-c", "ringway.toml"],
            &["-t"],
            &["-T"],
            &[HTTP, "-T"],
            &["demo", "-c", "ringway.toml"],
        ] {
            let message = refusal(args);
            assert!(message.contains("configuration files are not yet available"), "{args:?}: {message}");
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
            assert!(!text.contains("--config"), "{text}");
        }
    }

    #[test]
    fn the_demo_takes_the_shared_flags_on_either_side() {
        let demo = |args: &[&str]| match command(args) {
            Ok(Command::Demo(options)) => options,
            other => panic!("{args:?}: {other:?}"),
        };
        assert_eq!(demo(&["demo"]).listen, ["0.0.0.0:3030".parse().unwrap()]);
        for args in [
            &["demo", "-port", "0", "--cores=1", "--log-format=json", "--admin=[::1]:9"][..],
            &["--port=0", "--cores", "1", "--log-format=json", "--admin=[::1]:9", "demo"],
            &["--cores", "1", "demo", "--listen=:0", "--log-format=json", "--admin=[::1]:9"],
        ] {
            let expected = DemoOptions {
                listen: vec!["0.0.0.0:0".parse().unwrap()],
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
    fn this_machine_has_cores() {
        let args = ["ringway", "--backends=a:1"].map(OsString::from);
        assert!(matches!(parse(args.into_iter()), Ok(Command::Run(options)) if !options.cores.is_empty()));
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        for arg in [&b"--backends=\xff"[..], b"-backends=\xff", b"\xff", b"-\xff"] {
            let args = [OsString::from("ringway"), OsString::from_vec(arg.to_vec())];
            assert!(parse_with(args.into_iter(), || Ok(vec![0])).is_err());
        }
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
