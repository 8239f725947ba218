//! The few rules of style that are worth a test.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this is a test, and its helpers: they stop at the first surprise"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// Lines of code in a file, without its tests.
const LINES_MAX: usize = 400;
/// Directories that are not ours to judge.
const FOREIGN: &[&str] = &["target", ".git", "node_modules", "corpus", "artifacts"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `directory` whose names end in `ending`.
fn files(directory: &str, ending: &str) -> Vec<PathBuf> {
    let (mut found, mut waiting) = (Vec::new(), vec![root().join(directory)]);
    while let Some(directory) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !FOREIGN.contains(&name.as_str()) {
                waiting.push(path);
            } else if path.is_file() && name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The crate's sources, and those of its tests and its workspace members.
fn sources() -> Vec<PathBuf> {
    let directories = ["src", "tests", "bench", "loadtest", "fuzz", "examples"];
    directories.iter().flat_map(|directory| files(directory, ".rs")).collect()
}

/// Fails with every line that `wrong` finds something in.
fn forbid(paths: &[PathBuf], wrong: impl Fn(&Path, &str) -> bool, rule: &str) {
    let mut broken = Vec::new();
    for path in paths {
        let text = fs::read_to_string(path).unwrap();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| wrong(path, line)) {
            broken.push(format!("{}:{}: {}", shown(path), number + 1, line.trim()));
        }
    }
    assert!(broken.is_empty(), "{rule}:\n{}", broken.join("\n"));
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// The part of a line that is code.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap()
}

fn is_this_file(path: &Path) -> bool {
    path.ends_with("tests/tidy.rs")
}

#[test]
fn there_is_something_to_check() {
    assert!(files("src", ".rs").len() > 10 && files("tests", ".rs").len() > 10);
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<_> = sources()
        .into_iter()
        .filter(|path| !fs::read_to_string(path).unwrap().starts_with("//! "))
        .map(|path| shown(&path))
        .collect();
    assert!(silent.is_empty(), "these files do not begin with `//!`: {silent:?}");
}

#[test]
fn no_file_is_long() {
    let length = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        text.lines().take_while(|line| !line.trim_start().starts_with("#[cfg(test)]")).count()
    };
    let sources = sources().into_iter().map(|path| (length(&path), shown(&path)));
    let long: Vec<_> = sources.filter(|(length, _)| *length > LINES_MAX).collect();
    assert!(long.is_empty(), "more than {LINES_MAX} lines: {long:?}");
}

#[test]
fn unsafe_code_lives_in_sys_only() {
    let elsewhere: Vec<_> =
        files("src", ".rs").into_iter().filter(|path| !path.starts_with(root().join("src/sys"))).collect();
    let is_unsafe = |line: &str| {
        code(line).split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe")
    };
    forbid(&elsewhere, |_, line| is_unsafe(line), "unsafe code belongs to src/sys");
}

#[test]
fn no_file_has_a_name_that_says_nothing() {
    let empty_words = ["util", "utils", "common", "helper", "helpers", "misc", "types"];
    let says_nothing = |path: &PathBuf| {
        let mut parts = path.strip_prefix(root()).unwrap().iter().map(|part| part.to_string_lossy());
        parts.any(|part| empty_words.contains(&part.trim_end_matches(".rs")))
    };
    let named: Vec<_> = sources().into_iter().filter(says_nothing).map(|path| shown(&path)).collect();
    assert!(named.is_empty(), "these names say nothing: {named:?}");
}

#[test]
fn no_test_is_ignored_or_sleeps() {
    let ignored = |path: &Path, line: &str| !is_this_file(path) && code(line).contains("#[ignore");
    forbid(&sources(), ignored, "a test that does not run is no test");
    let sleeps = |path: &Path, line: &str| !is_this_file(path) && code(line).contains("thread::sleep");
    forbid(&files("tests", ".rs"), sleeps, "wait for a condition, not for a time");
}

/// Its ways to wake the main thread lead through descriptors that a worker's table does not have: under their numbers there
/// are clients.
#[test]
fn tokio_lives_on_the_main_thread_only() {
    let elsewhere = |path: &Path, line: &str| {
        let there = ["src/control", "src/demo.rs", "src/doctor"];
        let allowed = there.iter().any(|place| path.starts_with(root().join(place)));
        !allowed && code(line).contains("tokio")
    };
    forbid(&files("src", ".rs"), elsewhere, "what a worker runs wakes others by a descriptor it was given");
}

#[test]
fn nothing_is_left_to_do_in_the_sources() {
    let marks = ["TODO", "FIXME", "XXX"];
    let left = |path: &Path, line: &str| !is_this_file(path) && marks.iter().any(|mark| line.contains(mark));
    forbid(&sources(), left, "do it, or open an issue");
}

#[test]
fn documents_name_no_place_of_one_machine() {
    // Wherever this copy lies: nobody else has it there.
    let here =
        root().iter().nth(1).map_or_else(String::new, |first| format!("/{}/", first.to_string_lossy()));
    let places = ["/home/", "/root/", "/Users/", "/tmp/", here.as_str()];
    let mut documents = files(".", ".md");
    documents.extend(files(".", ".toml"));
    documents.extend(sources());
    let named = |path: &Path, line: &str| {
        let is_code = path.extension().is_some_and(|ending| ending == "rs");
        // Code may use the places that every machine has.
        let places = if is_code { &places[4..] } else { &places[..] };
        !is_this_file(path) && places.iter().any(|place| line.contains(place))
    };
    forbid(&documents, named, "a path of one machine helps nobody else");
}
