//! Command line → the same tables that a file has: one cluster, every default.
//!
//! Pure: each flag was read by `cli`, what they mean together is checked where files are. Runs on the control thread
//! before the workers start.

use super::{
    cores,
    file::{
        Admin, Backend, BackendItem, Balance, Cluster, File, Listener, Log, NetworkList, Permissions, Runtime,
    },
    mistake::Place,
    read::{Key, List, Tables},
};
use crate::{addr::ListenAddress, cli::RunOptions};

/// The place of what a flag said.
pub(super) fn flag(name: &str) -> Place {
    Place::whole(&format!("`{name}`"))
}

/// The value of a flag, if it was given.
fn given<T>(name: &str, value: Option<T>) -> Key<T> {
    value.map_or(Key::Absent, |value| Key::flag(&flag(name), value))
}

/// The tables that mean what the flags say.
pub(super) fn file(options: &RunOptions) -> File {
    let (listen, backends, mode) = (flag("--listen"), flag("--backends"), flag("--mode"));
    let listener = Listener {
        place: Some(listen.clone()),
        bind: Key::flag(&listen, List::flags(&listen, options.listen.iter().cloned().map(ListenAddress))),
        mode: Key::flag(&mode, options.mode),
        accept_proxy: given(
            "--accept-proxy",
            Some(NetworkList(options.accept_proxy.clone())).filter(|list| !list.0.is_empty()),
        ),
        socket_mode: given("--socket-mode", options.socket_mode.map(Permissions)),
        down_text: given("--down-text", options.down_text.clone()),
        ..Listener::default()
    };
    let items = options.backends.iter().map(|address| BackendItem(Backend::at(&backends, address.clone())));
    let cluster = Cluster {
        place: Some(backends.clone()),
        balance: Key::flag(&flag("--balance"), Balance(options.algorithm)),
        send_proxy: given("--send-proxy", options.send_proxy),
        source: given(
            "--source",
            Some(List::flags(&flag("--source"), options.sources.iter().copied()))
                .filter(|list| !list.0.is_empty()),
        ),
        backend: Key::flag(&backends, List::flags(&backends, items)),
        ..Cluster::default()
    };
    let (cores_flag, admin, log) = (flag("--cores"), flag("--admin"), flag("--log-format"));
    let runtime =
        Runtime { cores: Key::flag(&cores_flag, cores::ranges(&options.cores)), ..Runtime::default() };
    File {
        listener: Key::flag(&listen, Tables(vec![listener])),
        cluster: Key::flag(&backends, Tables(vec![cluster])),
        runtime: Key::flag(&cores_flag, runtime),
        admin: given(
            "--admin",
            options.admin.map(|address| {
                let bind = Key::flag(&admin, ListenAddress(address.into()));
                Admin { bind, ..Admin::default() }
            }),
        ),
        log: Key::flag(&log, Log { format: Key::flag(&log, options.log_format), ..Log::default() }),
        ..File::default()
    }
}
