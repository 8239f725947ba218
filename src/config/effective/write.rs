//! Values with names, written as TOML or as JSON.
//!
//! Knows both languages, and no key. Pure.

use std::{fmt::Write, num::NonZeroU64, time::Duration};

use serde_json::Value as Json;

use crate::config::units::{format_duration, format_size};

/// A value to be written.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::config) enum Tree {
    /// A string.
    Text(String),
    /// A string that people should not see: TOML has it, because it must be loaded again, JSON has not.
    Secret(String),
    /// A whole number.
    Integer(i64),
    /// Another number.
    Float(f64),
    /// A truth.
    Boolean(bool),
    /// Values side by side.
    List(Vec<Tree>),
    /// Keys with their values.
    Table(Vec<(String, Tree)>),
    /// Tables that follow each other: `[[listener]]`.
    Tables(Vec<Tree>),
    /// A comment in place of a value, for people.
    Note(String),
}

impl Tree {
    /// A table with the keys of another one behind its own.
    pub(super) fn and(self, more: Tree) -> Tree {
        match (self, more) {
            (Tree::Table(mut keys), Tree::Table(more)) => {
                keys.extend(more);
                Tree::Table(keys)
            }
            (tree, _) => tree,
        }
    }

    /// A table without some of its keys, nor of the keys of the tables in it.
    pub(super) fn without(self, left_out: &impl Fn(&str) -> bool) -> Tree {
        match self {
            Tree::Table(keys) => Tree::Table(
                keys.into_iter()
                    .filter(|(key, _)| !left_out(key))
                    .map(|(key, value)| (key, value.without(left_out)))
                    .collect(),
            ),
            tree => tree,
        }
    }
}

impl From<bool> for Tree {
    fn from(value: bool) -> Self {
        Tree::Boolean(value)
    }
}

impl From<u16> for Tree {
    fn from(value: u16) -> Self {
        Tree::Integer(value.into())
    }
}

impl From<u32> for Tree {
    fn from(value: u32) -> Self {
        Tree::Integer(value.into())
    }
}

impl From<Duration> for Tree {
    fn from(value: Duration) -> Self {
        Tree::Text(format_duration(value))
    }
}

/// A limit in bytes; none is written as nothing.
pub(super) fn size(limit: Option<NonZeroU64>) -> Tree {
    Tree::Text(format_size(limit.map_or(0, NonZeroU64::get)))
}

pub(super) fn text(value: impl ToString) -> Tree {
    Tree::Text(value.to_string())
}

pub(super) fn texts<T: ToString>(values: impl IntoIterator<Item = T>) -> Tree {
    Tree::List(values.into_iter().map(text).collect())
}

/// Keys, in order; those without a value are left out.
pub(super) fn table<const N: usize>(keys: [(&str, Option<Tree>); N]) -> Tree {
    let given = keys.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Tree::Table(given.collect())
}

/// As TOML.
pub(in crate::config) fn to_toml(tree: &Tree) -> String {
    let mut out = String::from("# The effective configuration, with every default.\n");
    if let Tree::Table(entries) = tree {
        write_table(&mut out, "", entries);
    }
    out
}

/// Plain values come first: behind the header of a sub-table they would belong to that.
fn write_table(out: &mut String, path: &str, entries: &[(String, Tree)]) {
    let is_section = |value: &Tree| matches!(value, Tree::Table(_) | Tree::Tables(_));
    for (key, value) in entries.iter().filter(|(_, value)| !is_section(value)) {
        let _ = match value {
            Tree::Note(note) => writeln!(out, "# {note}"),
            value => writeln!(out, "{} = {}", toml_key(key), toml_value(value)),
        };
    }
    for (key, value) in entries {
        let key = toml_key(key);
        let path = if path.is_empty() { key } else { format!("{path}.{key}") };
        match value {
            Tree::Table(entries) => {
                let _ = writeln!(out, "\n[{path}]");
                write_table(out, &path, entries);
            }
            Tree::Tables(tables) => {
                for table in tables {
                    let _ = writeln!(out, "\n[[{path}]]");
                    if let Tree::Table(entries) = table {
                        write_table(out, &path, entries);
                    }
                }
            }
            _ => {}
        }
    }
}

fn toml_key(key: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !key.is_empty() && key.bytes().all(bare) { key.to_owned() } else { toml_text(key) }
}

/// A JSON string is a TOML string but for DEL.
fn toml_text(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default().replace('\u{7f}', "\\u007F")
}

fn toml_value(value: &Tree) -> String {
    match value {
        // It must not be taken for a placeholder.
        Tree::Text(text) | Tree::Secret(text) => toml_text(&text.replace("${", "$${")),
        Tree::Integer(number) => number.to_string(),
        Tree::Float(number) => format!("{number:?}"),
        Tree::Boolean(value) => value.to_string(),
        Tree::List(values) | Tree::Tables(values) => {
            format!("[{}]", values.iter().map(toml_value).collect::<Vec<_>>().join(", "))
        }
        Tree::Table(entries) => {
            let pairs =
                entries.iter().map(|(key, value)| format!("{} = {}", toml_key(key), toml_value(value)));
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
        }
        Tree::Note(_) => String::new(),
    }
}

/// As JSON.
pub(in crate::config) fn to_json(tree: &Tree) -> Json {
    match tree {
        Tree::Text(text) => text.as_str().into(),
        Tree::Secret(_) => "…".into(),
        Tree::Integer(number) => (*number).into(),
        Tree::Float(number) => (*number).into(),
        Tree::Boolean(value) => (*value).into(),
        Tree::List(values) | Tree::Tables(values) => values.iter().map(to_json).collect(),
        Tree::Table(entries) => {
            let shown = entries.iter().filter(|(_, value)| !matches!(value, Tree::Note(_)));
            Json::Object(shown.map(|(key, value)| (key.clone(), to_json(value))).collect())
        }
        Tree::Note(_) => Json::Null,
    }
}
