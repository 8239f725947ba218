//! From a tree to typed values: each kind of value says how it is read and how the schema describes it.
//!
//! Pure. A mistake is added to the list and reading goes on, so that one run finds them all.

mod declare;

use std::{net::IpAddr, time::Duration};

use serde_json::{Value as Json, json};

pub(super) use self::declare::{OTHER_WORDS, table_schema, tables, unknown_key, word, words};
use super::{
    mistake::{Mistake, Place},
    plan::admission::Rate,
    tree::{Node, Value},
    units::{DURATION_FORM, RATE_FORM, parse_duration, parse_rate},
};
use crate::addr::{BackendAddress, ListenAddress, Networks};

/// A kind of value.
pub(super) trait Read: Sized {
    /// Reads it; `None` after a mistake has been added.
    fn read(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<Self>;

    /// Its JSON schema.
    fn schema() -> Json;
}

/// A value with its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct At<T> {
    pub(super) place: Place,
    pub(super) value: T,
}

/// What became of a key.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) enum Key<T> {
    /// It was not written.
    #[default]
    Absent,
    /// It was written wrongly, which has been reported.
    Wrong,
    /// It has this value.
    Given(At<T>),
}

impl<T: Read> Key<T> {
    /// Reads the value of a key.
    pub(super) fn read(node: &Node, mistakes: &mut Vec<Mistake>) -> Self {
        T::read(node, mistakes)
            .map_or(Key::Wrong, |value| Key::Given(At { place: node.place.clone(), value }))
    }
}

impl<T> Key<T> {
    /// A value that a flag gave.
    pub(super) fn flag(place: &Place, value: T) -> Self {
        Key::Given(At { place: place.clone(), value })
    }

    /// Value and place.
    pub(super) fn given(&self) -> Option<&At<T>> {
        match self {
            Key::Given(at) => Some(at),
            Key::Absent | Key::Wrong => None,
        }
    }

    /// The value.
    pub(super) fn get(&self) -> Option<&T> {
        self.given().map(|at| &at.value)
    }

    /// The place of the value.
    pub(super) fn place(&self) -> Option<&Place> {
        self.given().map(|at| &at.place)
    }

    /// Something that was probably meant for it was written.
    pub(super) fn mistaken(&mut self) {
        if self.is_absent() {
            *self = Key::Wrong;
        }
    }

    /// True when it was not written.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Key::Absent)
    }
}

/// Adds "expected this, found that".
pub(super) fn unexpected<T>(node: &Node, mistakes: &mut Vec<Mistake>, expected: &str) -> Option<T> {
    // What is broken has been reported.
    if !matches!(node.value, Value::Broken) {
        let found = node.value.found();
        mistakes.push(Mistake::new(&node.place, format!("{found} does not fit here: write {expected}")));
    }
    None
}

/// A schema for what may also come from the environment.
pub(super) fn or_placeholder(schema: &Json) -> Json {
    json!({ "anyOf": [schema, { "type": "string", "pattern": r"^\$\{[^}]*\}$" }] })
}

impl Read for String {
    fn read(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<Self> {
        match &node.value {
            Value::Text { text, .. } => Some(text.clone()),
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => {
                unexpected(node, mistakes, "a text in quotes")
            }
            _ => unexpected(node, mistakes, "a text"),
        }
    }

    fn schema() -> Json {
        json!({ "type": "string" })
    }
}

impl Read for bool {
    fn read(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<Self> {
        match &node.value {
            Value::Boolean(value) => Some(*value),
            Value::Text { text, whole: true } if text == "true" => Some(true),
            Value::Text { text, whole: true } if text == "false" => Some(false),
            _ => unexpected(node, mistakes, "`true` or `false`, without quotes"),
        }
    }

    fn schema() -> Json {
        or_placeholder(&json!({ "type": "boolean" }))
    }
}

impl Read for u16 {
    fn read(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<Self> {
        let number = match &node.value {
            Value::Integer(number) => Some(*number),
            Value::Text { text, whole: true } => text.parse().ok(),
            _ => None,
        };
        let number = number.and_then(|number| u16::try_from(number).ok());
        number.or_else(|| unexpected(node, mistakes, "a whole number from 0 to 65535, without quotes"))
    }

    fn schema() -> Json {
        or_placeholder(&json!({ "type": "integer", "minimum": 0, "maximum": u16::MAX }))
    }
}

impl Read for f64 {
    fn read(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<Self> {
        let number = match &node.value {
            // Only small numbers are asked for.
            Value::Integer(number) => i32::try_from(*number).ok().map(f64::from),
            Value::Float(number) => Some(*number),
            Value::Text { text, whole: true } => text.parse().ok(),
            _ => None,
        };
        number
            .filter(|number: &f64| number.is_finite())
            .or_else(|| unexpected(node, mistakes, "a number, without quotes"))
    }

    fn schema() -> Json {
        or_placeholder(&json!({ "type": "number" }))
    }
}

impl Read for Duration {
    fn read(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<Self> {
        let duration = match &node.value {
            Value::Text { text, .. } => parse_duration(text),
            _ => None,
        };
        duration.or_else(|| unexpected(node, mistakes, DURATION_FORM))
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": r"^((\d+(ms|[smhd]))+|.*\$\{.*)$" })
    }
}

impl Read for Rate {
    fn read(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<Self> {
        let rate = match &node.value {
            Value::Text { text, .. } => parse_rate(text),
            _ => None,
        };
        let rate = rate.map(|(count, per)| Rate { count, per });
        rate.or_else(|| unexpected(node, mistakes, RATE_FORM))
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": r"^(\d+/[smh]|.*\$\{.*)$" })
    }
}

/// Adds what is wrong with a text. Its error may repeat all of it, which is no help where it is long.
fn wrong_text(node: &Node, text: &str, mistakes: &mut Vec<Mistake>, error: impl ToString, form: &str) {
    const REPEATED_MAX: usize = 300;
    if text.len() > REPEATED_MAX {
        unexpected::<()>(node, mistakes, &format!("a text such as {form}"));
    } else {
        mistakes.push(Mistake::new(&node.place, error.to_string()));
    }
}

/// Values that are a text with a grammar of its own, whose errors say what would be right.
macro_rules! from_text {
    ($($kind:ty: $form:literal;)*) => { $(
        impl Read for $kind {
            fn read(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<Self> {
                let Value::Text { text, .. } = &node.value else {
                    return unexpected(node, mistakes, concat!("a text such as ", $form));
                };
                text.parse().map_err(|error| wrong_text(node, text, mistakes, error, $form)).ok()
            }

            fn schema() -> Json {
                json!({ "type": "string" })
            }
        }
    )* };
}

from_text! {
    BackendAddress: "`\"10.0.0.1:8080\"`";
    ListenAddress: "`\":80\"` or `\"127.0.0.1:80\"`";
    Networks: "`\"10.0.0.0/8\"`";
}

impl Read for IpAddr {
    fn read(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<Self> {
        let address = match &node.value {
            Value::Text { text, .. } => text.parse().ok(),
            _ => None,
        };
        address.or_else(|| unexpected(node, mistakes, "an IP address without a port, such as `\"10.0.0.5\"`"))
    }

    fn schema() -> Json {
        json!({ "type": "string" })
    }
}

/// One value, or a list of at least one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct List<T>(pub(super) Vec<At<T>>);

impl<T> List<T> {
    /// The values without their places.
    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|at| &at.value)
    }

    /// Values that flags gave.
    pub(super) fn flags(place: &Place, values: impl IntoIterator<Item = T>) -> Self {
        List(values.into_iter().map(|value| At { place: place.clone(), value }).collect())
    }
}

impl<T: Read> Read for List<T> {
    fn read(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<Self> {
        let read = |item: &Node, mistakes: &mut Vec<Mistake>| {
            Some(At { place: item.place.clone(), value: T::read(item, mistakes)? })
        };
        let Value::List(items) = &node.value else {
            return Some(List(vec![read(node, mistakes)?]));
        };
        if items.is_empty() {
            mistakes
                .push(Mistake::new(&node.place, "the list is empty: leave the key out, or name something"));
            return None;
        }
        // All of them, so that every mistake is found.
        let all: Vec<_> = items.iter().map(|item| read(item, mistakes)).collect();
        all.into_iter().collect::<Option<_>>().map(List)
    }

    fn schema() -> Json {
        let item = T::schema();
        json!({ "anyOf": [item, { "type": "array", "minItems": 1, "items": item }] })
    }
}

/// Tables that may be written again and again: `[[listener]]`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tables<T>(pub(super) Vec<T>);

impl<T: Read> Read for Tables<T> {
    fn read(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<Self> {
        match &node.value {
            Value::List(items) => {
                // A wrong one is left out; it has been reported.
                let right: Vec<_> = items.iter().filter_map(|item| T::read(item, mistakes)).collect();
                (items.is_empty() || !right.is_empty()).then_some(Tables(right))
            }
            Value::Table(_) => {
                let key = &node.place.key;
                mistakes.push(Mistake::new(
                    &node.place,
                    format!("write `[[{key}]]` with two brackets: there may be several"),
                ));
                None
            }
            _ => unexpected(node, mistakes, "a list of tables"),
        }
    }

    fn schema() -> Json {
        json!({ "type": "array", "items": T::schema() })
    }
}

/// A table whose keys are the operator's own, such as names of header fields.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Map<T>(pub(super) Vec<(At<String>, T)>);

impl<T: Read> Read for Map<T> {
    fn read(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<Self> {
        let Value::Table(entries) = &node.value else {
            return unexpected(node, mistakes, "a table such as `{ \"x-name\" = \"value\" }`");
        };
        let read = |entry: &super::tree::Entry| {
            let key = At { place: entry.place.clone(), value: entry.key.clone() };
            Some((key, T::read(&entry.node, mistakes)?))
        };
        let all: Vec<_> = entries.iter().map(read).collect();
        all.into_iter().collect::<Option<_>>().map(Map)
    }

    fn schema() -> Json {
        json!({ "type": "object", "additionalProperties": T::schema() })
    }
}
