//! Where a configuration comes from, and reading it: the only part that touches the file system.
//!
//! Runs on the control thread.

use std::{
    fs::{self, File},
    io::{self, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::mistake::{Mistake, Place};
use crate::{cli::RunOptions, control::log::LogFormat, limits::CONFIGURATION_BYTES_MAX};

/// Where a configuration comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The flags alone.
    Flags(Box<RunOptions>),
    /// Files.
    Files {
        /// Where they are.
        files: Files,
        /// What flags say in their place.
        overrides: Overrides,
    },
}

/// Where files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Files {
    /// A file, or a directory whose `*.toml` are read in the order of their names.
    Path(PathBuf),
    /// Standard input, which [`Source::take_standard_input`] turns into a text.
    StandardInput,
    /// A text that was read before, with the name it goes by.
    Text(String, String),
}

/// What flags may say beside a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--cores`
    pub cores: Option<Vec<usize>>,
    /// `--admin`
    pub admin: Option<SocketAddr>,
    /// `--log-format`
    pub log_format: Option<LogFormat>,
}

/// A file's name and its text.
pub(super) type Text = (String, String);

impl Source {
    /// Reads standard input if that is the source; it can be read only once, and loaded again afterwards.
    pub fn take_standard_input(&mut self) -> Result<(), Mistake> {
        if let Source::Files { files: files @ Files::StandardInput, .. } = self {
            let (name, text) = read("standard input", io::stdin().lock())?;
            *files = Files::Text(name, text);
        }
        Ok(())
    }
}

impl Files {
    /// How the whole of them is called.
    pub(super) fn name(&self) -> String {
        match self {
            Files::Path(path) => path.display().to_string(),
            Files::StandardInput => "standard input".to_owned(),
            Files::Text(name, _) => name.clone(),
        }
    }

    /// Every text, in order.
    pub(super) fn read(&self) -> Result<Vec<Text>, Vec<Mistake>> {
        match self {
            Files::Path(path) if path.is_dir() => read_directory(path),
            Files::Path(path) => read_file(path).map(|text| vec![text]).map_err(|mistake| vec![mistake]),
            Files::StandardInput => read("standard input", io::stdin().lock())
                .map(|text| vec![text])
                .map_err(|mistake| vec![mistake]),
            Files::Text(name, text) => Ok(vec![(name.clone(), text.clone())]),
        }
    }
}

fn read_directory(directory: &Path) -> Result<Vec<Text>, Vec<Mistake>> {
    let whole = Place::whole(&directory.display().to_string());
    let failed = |error: io::Error| vec![Mistake::new(&whole, format!("cannot read the directory: {error}"))];
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        // Editors leave hidden copies behind.
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.extension().is_some_and(|ending| ending == "toml") && !hidden {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return Err(vec![Mistake::new(
            &whole,
            "there is no file in the directory whose name ends in `.toml`: add one",
        )]);
    }
    paths.sort();
    let (texts, mistakes): (Vec<_>, Vec<_>) =
        paths.iter().map(|path| read_file(path)).partition(Result::is_ok);
    let mistakes: Vec<_> = mistakes.into_iter().filter_map(Result::err).collect();
    if mistakes.is_empty() { Ok(texts.into_iter().flatten().collect()) } else { Err(mistakes) }
}

fn read_file(path: &Path) -> Result<Text, Mistake> {
    let name = path.display().to_string();
    // To open a pipe would wait for its writer.
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        let message = "this is no regular file: name one, or a directory of them, or `-` for standard input";
        return Err(Mistake::new(&Place::whole(&name), message));
    }
    match File::open(path) {
        Ok(file) => read(&name, file),
        Err(error) => {
            let advice = match error.kind() {
                io::ErrorKind::NotFound => "; check the path after `-c`",
                io::ErrorKind::PermissionDenied => "; this user may not read it",
                _ => "",
            };
            Err(Mistake::new(&Place::whole(&name), format!("cannot open the file: {error}{advice}")))
        }
    }
}

fn read(name: &str, input: impl Read) -> Result<Text, Mistake> {
    let mistake = |message: String| Mistake::new(&Place::whole(name), message);
    let mut bytes = Vec::new();
    let limit = CONFIGURATION_BYTES_MAX;
    input
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| mistake(format!("cannot read the file: {error}")))?;
    if bytes.len() as u64 > limit {
        return Err(mistake(format!("the file has more than {limit} bytes, which no configuration needs")));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line =
            error.as_bytes().iter().take(valid).filter(|byte| **byte == b'\n').count().saturating_add(1);
        let place = Place { line, ..Place::whole(name) };
        Mistake::new(&place, "this is not UTF-8: save the file in that encoding")
    })?;
    Ok((name.to_owned(), text))
}
