//! `ringway doctor`: what of this host stands in the way of Ringway, why, and what to do about it.
//!
//! Owns the way from files to advice in three steps that do not know each other: [`read`] fills the facts of
//! [`host::Host`], [`judge`] makes findings of them, [`report`] prints these. It changes nothing on the host and never
//! fails: what cannot be read or understood is reported as unknown. Runs on the main thread of a process of its own,
//! beside no worker.

pub mod cpus;
pub mod finding;
pub mod host;
pub mod judge;
pub mod read;
pub mod report;
pub mod tree;

use std::path::PathBuf;

use self::{host::Host, report::Report, tree::Tree};

/// What to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoctorOptions {
    /// The cores that will have a worker; all that are allowed if nothing is said.
    pub cores: Option<Vec<usize>>,
    /// Print JSON.
    pub json: bool,
    /// Where `/proc` and `/sys` of the host lie: `/`, or a copy of another host's trees.
    pub root: Option<PathBuf>,
}

/// What is to be printed, and whether there was no problem.
#[derive(Debug)]
pub struct Outcome {
    /// With its final newline.
    pub text: String,
    /// No finding is a problem.
    pub is_healthy: bool,
}

/// There is no copy of a host where one was said to be.
#[derive(Debug, thiserror::Error)]
#[error("`--root {0}`: there is no such directory")]
pub struct NoTree(String);

/// Looks at the host.
pub fn examine(options: &DoctorOptions) -> Result<Outcome, NoTree> {
    if let Some(root) = options.root.as_ref().filter(|root| !root.is_dir()) {
        return Err(NoTree(root.display().to_string()));
    }
    let tree = options.root.as_ref().map_or_else(Tree::of_this_host, |root| Tree::copied(root.clone()));
    let host = Host::read(&tree, options.cores.as_deref());
    let findings = judge::all(&host);
    let report = Report { host: &host, findings: &findings };
    let text = if options.json { report.to_json() } else { report.to_text() };
    Ok(Outcome { text, is_healthy: report.is_healthy() })
}
