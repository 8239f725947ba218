//! The flags as clap sees them, with the help that users read. What they mean together is checked by the parent.

use std::{ffi::OsString, net::IpAddr, path::PathBuf};

use clap::{Parser, ValueEnum};

use crate::{
    addr::{ListenAddress, Networks},
    config::plan::Algorithm,
    control::log::LogFormat,
};

/// The flags as clap sees them. The comments on its fields are the help that users read.
#[derive(Debug, Parser)]
#[command(name = "ringway", bin_name = "ringway", version, about, max_term_width = 100)]
pub(super) struct Cli {
    /// Backends, comma-separated: http://HOST:PORT, tcp://HOST:PORT, udp://HOST:PORT, HOST:PORT or unix:/PATH,
    /// each with an optional ;weight=N (quote the list then: a shell ends the command at `;`)
    #[arg(long, value_name = "LIST")]
    pub(super) backends: Option<String>,

    /// What the listeners speak
    #[arg(long, value_name = "MODE", value_enum)]
    pub(super) mode: Option<ModeName>,

    /// How a backend is picked: round-robin, least-connections, least-response-time, random, p2c, ip-hash, ring, maglev
    /// or first; names of other proxies are understood
    #[arg(long, value_name = "NAME", value_parser = parse_algorithm)]
    pub(super) balance: Option<Algorithm>,

    /// Clients from these networks begin with a PROXY protocol header (v1 or v2): 10.0.0.0/8,::1 or `all`
    #[arg(long, value_name = "NETWORKS")]
    pub(super) accept_proxy: Option<Networks>,

    /// Begin each connection to a backend with a PROXY protocol header of this version
    #[arg(long, value_name = "VERSION", value_enum)]
    pub(super) send_proxy: Option<ProxyVersion>,

    /// Connect to backends from these local addresses, in turns: each has its own ports
    #[arg(long, value_name = "ADDR,…", value_delimiter = ',')]
    pub(super) source: Vec<IpAddr>,

    /// TCP mode: what a client is told when there is no backend [default: Server is down]
    #[arg(long, value_name = "TEXT")]
    pub(super) down_text: Option<String>,

    /// Permissions of the UNIX sockets it listens on, octal [default: 666]
    #[arg(long, value_name = "MODE", value_parser = parse_permissions)]
    pub(super) socket_mode: Option<u32>,

    #[command(flatten)]
    pub(super) shared: SharedFlags,

    #[command(subcommand)]
    pub(super) subcommand: Option<Subcommand>,
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum Subcommand {
    /// Start three small embedded backends, balance over them and print what to try
    Demo,
    /// Look at this host: what stands in Ringway's way, why, and what to do. Exit code 1 if there is a problem
    Doctor(DoctorFlags),
    /// Print the JSON schema of the configuration file
    Schema,
}

/// Flags of `doctor`; of the shared ones it takes `--cores`.
#[derive(Debug, clap::Args)]
pub(super) struct DoctorFlags {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,

    /// Inspect copies of another host's /proc and /sys below this directory
    #[arg(long, value_name = "PATH", hide = true)]
    pub(super) root: Option<PathBuf>,
}

/// Flags that go with `demo` too, before or after that word.
#[derive(Debug, clap::Args)]
pub(super) struct SharedFlags {
    /// Listen on this port of all IPv4 addresses; 0 lets the kernel choose [default: 3030]
    #[arg(long, global = true, value_name = "N", value_parser = parse_port, allow_negative_numbers = true)]
    pub(super) port: Option<u16>,

    /// Listen here instead of on --port: 127.0.0.1:80, :80, *:80, [::]:80 or unix:/PATH; may be repeated
    #[arg(long, global = true, value_name = "ADDR:PORT")]
    pub(super) listen: Vec<ListenAddress>,

    /// Cores that get a worker each: `all` this process may run on, or a list such as 0,2-3
    /// [default: all]
    #[arg(long, global = true, value_name = "LIST", allow_hyphen_values = true)]
    pub(super) cores: Option<String>,

    /// Serve the admin HTTP here
    #[arg(long, global = true, value_name = "ADDR:PORT")]
    pub(super) admin: Option<ListenAddress>,

    /// How log lines on stderr look [default: text]
    #[arg(long, global = true, value_name = "FORMAT", value_enum)]
    pub(super) log_format: Option<LogFormat>,

    /// Read this configuration file instead of flags: a file, a directory (its *.toml in the order of their
    /// names) or - for standard input; --cores, --admin and --log-format go before what it says
    #[arg(short = 'c', long, global = true, value_name = "PATH")]
    pub(super) config: Option<OsString>,

    /// Check the configuration, open nothing and exit: 0, or 3 with every mistake
    #[arg(short = 't', long, global = true)]
    pub(super) test: bool,

    /// As -t, and print the effective configuration with every default that means something
    #[arg(short = 'T', global = true)]
    pub(super) dump: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum ModeName {
    Http,
    Tcp,
    Udp,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum ProxyVersion {
    V1,
    V2,
}

/// Names of ours and of other proxies.
fn parse_algorithm(text: &str) -> Result<Algorithm, String> {
    Algorithm::from_name(text).ok_or_else(|| format!("write one of {}", Algorithm::names()))
}

/// Octal digits, as for `chmod(1)`.
fn parse_permissions(text: &str) -> Result<u32, &'static str> {
    let octal = |mode: &u32| text.bytes().all(|byte| byte.is_ascii_digit()) && *mode <= 0o777;
    let mode = u32::from_str_radix(text, 8).ok().filter(octal);
    mode.ok_or("write octal permissions such as 660, at most 777")
}

fn parse_port(text: &str) -> Result<u16, &'static str> {
    text.parse().map_err(|_| "write a number from 0 to 65535")
}
