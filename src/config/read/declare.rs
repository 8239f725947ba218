//! Tables and words are declared once: their type, their reader and their schema come from the same lines.
//!
//! Pure.

use serde_json::{Value as Json, json};

use super::unexpected;
use crate::config::{
    mistake::{self, Mistake, quoted, similar},
    tree::{Entry, Node, Value},
};

/// Values that are one of a few words.
macro_rules! words {
    ($($kind:ty: $what:literal { $($word:literal $(| $alias:literal)* => $value:expr,)* })*) => { $(
        impl $crate::config::read::Read for $kind {
            fn read(
                node: &$crate::config::tree::Node,
                mistakes: &mut Vec<$crate::config::mistake::Mistake>,
            ) -> Option<Self> {
                const WORDS: &[&str] = &[$($word),*];
                $crate::config::read::word(node, mistakes, $what, WORDS, |text| match text {
                    $($word $(| $alias)* => Some($value),)*
                    _ => None,
                })
            }

            fn schema() -> serde_json::Value {
                serde_json::json!({ "type": "string", "anyOf": [
                    { "enum": [$($word),*] }, { "pattern": $crate::config::read::OTHER_WORDS },
                ] })
            }
        }
    )* };
}
pub(in crate::config) use words;

/// Placeholders and aliases, which an editor should not offer.
pub(in crate::config) const OTHER_WORDS: &str = r"\$\{|^[A-Za-z_-]+$";

/// Reads one of a few words; aliases are understood, case does not matter.
pub(in crate::config) fn word<T>(
    node: &Node,
    mistakes: &mut Vec<Mistake>,
    what: &str,
    words: &[&str],
    find: impl Fn(&str) -> Option<T>,
) -> Option<T> {
    let all = words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", ");
    let Value::Text { text, .. } = &node.value else {
        return unexpected(node, mistakes, &format!("one of {all}"));
    };
    let found = find(&text.to_ascii_lowercase());
    if found.is_none() {
        let shown = quoted(text);
        let message = match similar(text, words.iter().copied()) {
            Some(meant) => format!("{shown} is no {what}, did you mean `{meant}`? There are {all}"),
            None => format!("{shown} is no {what}: there are {all}"),
        };
        mistakes.push(Mistake::new(&node.place, message));
    }
    found
}

/// Tables with known keys. A field's comment is its description in the schema, and so is its default.
macro_rules! tables {
    ($(
        $(#[doc = $about:literal])*
        $table:ident { $( $(#[doc = $doc:literal])* $field:ident: $kind:ty $(= $default:literal)?, )* }
    )*) => { $(
        $(#[doc = $about])*
        #[derive(Debug, Clone, Default, PartialEq)]
        pub(in crate::config) struct $table {
            /// Where the table begins.
            pub(in crate::config) place: Option<$crate::config::mistake::Place>,
            $( $(#[doc = $doc])* pub(in crate::config) $field: $crate::config::read::Key<$kind>, )*
        }

        impl $crate::config::read::Read for $table {
            fn read(
                node: &$crate::config::tree::Node,
                mistakes: &mut Vec<$crate::config::mistake::Mistake>,
            ) -> Option<Self> {
                const KEYS: &[&str] = &[$(stringify!($field)),*];
                let $crate::config::tree::Value::Table(entries) = &node.value else {
                    return $crate::config::read::unexpected(node, mistakes, "a table");
                };
                let mut table = $table { place: Some(node.place.clone()), ..$table::default() };
                for entry in entries {
                    match entry.key.as_str() {
                        $( stringify!($field) => {
                            table.$field = $crate::config::read::Key::read(&entry.node, mistakes);
                        } )*
                        _ => match $crate::config::read::unknown_key(entry, mistakes, KEYS) {
                            // What was meant is not missing.
                            $( Some(stringify!($field)) => table.$field.mistaken(), )*
                            _ => {}
                        },
                    }
                }
                Some(table)
            }

            fn schema() -> serde_json::Value {
                $crate::config::read::table_schema(concat!($($about),*), [$((
                    stringify!($field),
                    concat!($($doc),*),
                    <$kind as $crate::config::read::Read>::schema(),
                    None::<serde_json::Value>$(.or(Some(serde_json::json!($default))))?,
                )),*])
            }
        }
    )* };
}
pub(in crate::config) use tables;

/// Adds the mistake of a key that is not known; the answer is the key that was probably meant.
pub(in crate::config) fn unknown_key(
    entry: &Entry,
    mistakes: &mut Vec<Mistake>,
    known: &[&'static str],
) -> Option<&'static str> {
    let meant = similar(&entry.key, known.iter().copied());
    let message = match meant {
        Some(meant) => format!("there is no such key, did you mean `{meant}`?"),
        None => mistake::unknown_key(known),
    };
    mistakes.push(Mistake::new(&entry.place, message));
    meant
}

/// The schema of a table from its keys: name, description, schema and default.
pub(in crate::config) fn table_schema<const N: usize>(
    about: &str,
    keys: [(&str, &str, Json, Option<Json>); N],
) -> Json {
    let mut properties = serde_json::Map::new();
    for (name, description, mut schema, default) in keys {
        if let Some(object) = schema.as_object_mut() {
            object.insert("description".to_owned(), description.trim().into());
            if let Some(default) = default {
                object.insert("default".to_owned(), default);
            }
        }
        properties.insert(name.to_owned(), schema);
    }
    json!({
        "type": "object",
        "description": about.trim(),
        "additionalProperties": false,
        "properties": properties,
    })
}
