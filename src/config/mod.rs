//! Configuration: what the operator wrote becomes a checked, immutable [`plan::Plan`].
//!
//! Text → tree (`tree`) → the file's tables (`file`) → checks → plan. Flags become the same tables (`from_flags`), so
//! that there is one way. [`load`] goes it, as often as it is asked to. Runs on the control thread before anything is
//! opened, and opens nothing but the files it reads.

mod check;
pub mod cores;
mod effective;
mod expand;
mod file;
mod from_flags;
mod meaning;
pub mod mistake;
pub mod plan;
mod read;
mod schema;
mod script;
pub mod source;
mod tree;
pub mod units;

use std::sync::OnceLock;

use serde_json::Value as Json;

pub use self::schema::schema;
use self::{
    cores::CoresError,
    file::File,
    mistake::{Mistake, Place},
    plan::Plan,
    read::{At, Key, Read, Tables},
    source::{Overrides, Source},
};
use crate::{
    addr::{BackendAddress, Endpoint, ListenAddress},
    control::log::LogFormat,
};

/// What the process around a configuration gives to it.
pub struct Environment<'a> {
    /// The environment variables.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The cores this process may run on.
    pub cores: Vec<usize>,
    /// Signs sticky cookies for which no key was given.
    pub sticky_key: [u8; 32],
}

impl Environment<'_> {
    /// This process's. The key is made once and stays the same, so that a reload keeps clients where they are.
    pub fn of_process() -> Result<Self, CoresError> {
        static KEY: OnceLock<[u8; 32]> = OnceLock::new();
        Ok(Environment {
            variable: &|name| std::env::var(name).ok(),
            cores: cores::allowed()?,
            sticky_key: *KEY.get_or_init(random_key),
        })
    }
}

fn random_key() -> [u8; 32] {
    let mut key = [0; 32];
    // It cannot fail for so few bytes once the kernel has started (`getrandom(2)`).
    let _ = rustix::rand::getrandom(&mut key, rustix::rand::GetRandomFlags::empty());
    key
}

/// A checked configuration, whose names have no addresses yet.
#[derive(Debug, Clone)]
pub struct Checked {
    /// Complete but for the endpoints of backends that have a host name.
    draft: Plan,
    /// The backends of each cluster as they were named.
    addresses: Vec<Vec<BackendAddress>>,
    /// For each cluster, whether the operator gave the key of its cookie.
    keys_given: Vec<bool>,
    /// Every core this process may run on was chosen.
    all_cores: bool,
    /// How log lines look.
    log_format: LogFormat,
    /// What is allowed, but probably not meant.
    warnings: Vec<Mistake>,
}

impl Checked {
    /// All backends as they were named, those of the first cluster first.
    pub fn addresses(&self) -> Vec<BackendAddress> {
        self.addresses.iter().flatten().cloned().collect()
    }

    /// How log lines look.
    pub fn log_format(&self) -> LogFormat {
        self.log_format
    }

    /// What is allowed, but probably not meant.
    pub fn warnings(&self) -> &[Mistake] {
        &self.warnings
    }

    /// The effective configuration with every default, as TOML that can be loaded again. Keys are left out.
    pub fn to_toml(&self) -> String {
        effective::to_toml(&effective::tree(self))
    }

    /// The effective configuration as JSON, with the same names.
    pub fn to_json(&self) -> Json {
        effective::to_json(&effective::tree(self))
    }

    /// `2 listeners, 1 cluster, …`
    pub fn summary(&self) -> String {
        let count = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
        let backends = self.draft.clusters.iter().map(|cluster| cluster.backends.len()).sum();
        [
            count(self.draft.listeners.len(), "listener"),
            count(self.draft.routes.len(), "route"),
            count(self.draft.clusters.len(), "cluster"),
            count(backends, "backend"),
        ]
        .join(", ")
    }

    /// The plan; `resolved` holds the endpoints of each backend, in the order of [`Checked::addresses`].
    pub fn into_plan(self, resolved: Vec<Vec<Endpoint>>) -> Plan {
        let mut plan = self.draft;
        let backends = plan.clusters.iter_mut().flat_map(|cluster| &mut cluster.backends);
        for (backend, endpoints) in backends.zip(resolved) {
            backend.endpoints = endpoints;
        }
        plan
    }
}

/// Reads and checks a configuration. Can be called again at any time, and changes nothing.
///
/// Fails with everything that is wrong, in the order of the files.
pub fn load(source: &Source, environment: &Environment<'_>) -> Result<Checked, Vec<Mistake>> {
    match source {
        Source::Flags(options) => {
            let whole = Place::whole("command line");
            check::check(&from_flags::file(options), &whole, environment, Vec::new())
        }
        Source::Files { files, overrides } => {
            let whole = Place::whole(&files.name());
            let (mut file, mut mistakes, mut complete) = (File::default(), Vec::new(), true);
            for (name, text) in files.read()? {
                let (tree, whole) = tree::parse(&name, &text, environment.variable, &mut mistakes);
                complete &= whole;
                if let Some(read) = File::read(&tree, &mut mistakes) {
                    merge(&mut file, read, &mut mistakes);
                }
            }
            if !complete {
                // What could not be read would look as if it were missing.
                mistake::arrange(&mut mistakes);
                return Err(mistakes);
            }
            override_with(&mut file, overrides);
            check::check(&file, &whole, environment, mistakes)
        }
    }
}

/// Adds what the next file of a directory says.
fn merge(file: &mut File, next: File, mistakes: &mut Vec<Mistake>) {
    let File { place: _, listener, route, cluster, defaults, runtime, admin, log } = next;
    append(&mut file.listener, listener);
    append(&mut file.route, route);
    append(&mut file.cluster, cluster);
    replace(&mut file.defaults, defaults, mistakes);
    replace(&mut file.runtime, runtime, mistakes);
    replace(&mut file.admin, admin, mistakes);
    replace(&mut file.log, log, mistakes);
}

fn append<T>(tables: &mut Key<Tables<T>>, next: Key<Tables<T>>) {
    match (&mut *tables, next) {
        (Key::Given(tables), Key::Given(next)) => tables.value.0.extend(next.value.0),
        // What was read stays: it would look as if it were missing.
        (_, Key::Absent) | (Key::Given(_), Key::Wrong) => {}
        (_, next) => *tables = next,
    }
}

fn replace<T>(table: &mut Key<T>, next: Key<T>, mistakes: &mut Vec<Mistake>) {
    if let (Some(first), Some(second)) = (table.place(), next.place()) {
        let message = format!("the table stands in another file too ({}): write it once", first.brief());
        mistakes.push(Mistake::new(second, message));
    } else if !next.is_absent() {
        *table = next;
    }
}

/// Puts what flags say in the place of what the files say.
fn override_with(file: &mut File, overrides: &Overrides) {
    fn table<'t, T: Default>(key: &'t mut Key<T>, place: &Place) -> Option<&'t mut T> {
        if key.is_absent() {
            *key = Key::flag(place, T::default());
        }
        match key {
            Key::Given(At { value, .. }) => Some(value),
            _ => None,
        }
    }
    use from_flags::flag;
    if let Some(cores) = &overrides.cores {
        let place = flag("--cores");
        if let Some(runtime) = table(&mut file.runtime, &place) {
            runtime.cores = Key::flag(&place, cores::ranges(cores));
        }
    }
    if let Some(address) = overrides.admin {
        let place = flag("--admin");
        if let Some(admin) = table(&mut file.admin, &place) {
            admin.bind = Key::flag(&place, ListenAddress(address.into()));
        }
    }
    if let Some(format) = overrides.log_format {
        let place = flag("--log-format");
        if let Some(log) = table(&mut file.log, &place) {
            log.format = Key::flag(&place, format);
        }
    }
}

#[cfg(test)]
mod tests;
