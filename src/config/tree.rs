//! The text of a file as a tree of values, each with its place.
//!
//! Knows TOML and placeholders, and no key. Pure. A syntax error does not hide the next one.

use std::{ops::Range, sync::Arc};

use toml::{
    Spanned,
    de::{DeArray, DeString, DeTable, DeValue},
};

use super::{
    expand::expand,
    mistake::{Mistake, Place, quoted},
};

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Its line and its key.
    pub(super) place: Place,
    /// What it is.
    pub(super) value: Value,
}

/// What was written.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// A string; `whole` when it was one placeholder, which may stand for another kind of value.
    Text {
        text: String,
        whole: bool,
    },
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Date,
    List(Vec<Node>),
    /// In the order of the file.
    Table(Vec<Entry>),
    /// A mistake that has been reported.
    Broken,
}

/// A key with its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    /// Where the key stands.
    pub(super) place: Place,
    pub(super) node: Node,
}

impl Value {
    /// What it is, as it is called in messages.
    pub(super) fn found(&self) -> String {
        match self {
            Value::Text { text, .. } => format!("the text {}", quoted(text)),
            Value::Integer(number) => format!("the number `{number}`"),
            Value::Float(number) => format!("the number `{number}`"),
            Value::Boolean(value) => format!("`{value}`"),
            Value::Date => "a date".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Table(_) | Value::Broken => "a table".to_owned(),
        }
    }
}

/// Reads `text`, the content of `file`. Mistakes are added; the answer has what could be understood, and says whether
/// that is all.
pub(super) fn parse(
    file: &str,
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    mistakes: &mut Vec<Mistake>,
) -> (Node, bool) {
    let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect();
    let mut reader = Reader { file: file.into(), breaks, variable, mistakes };
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut line = 0;
    for error in errors {
        let place = reader.place(error.span().unwrap_or_default(), "");
        // One slip makes several errors in its line.
        if place.line != line {
            let mut message = error.message().trim().replace('\n', ", ");
            if let Some(key) =
                error.span().and_then(|span| text.get(span)).filter(|_| message == "duplicate key")
            {
                message = format!("the key {} is there already, remove one of them", quoted(key));
            }
            reader.mistakes.push(Mistake::new(&place, format!("this is no valid TOML: {message}")));
        }
        line = place.line;
    }
    let place = Place::whole(file);
    (Node { place, value: reader.table(document.get_ref(), "") }, line == 0)
}

struct Reader<'a> {
    file: Arc<str>,
    /// Where each line ends.
    breaks: Vec<usize>,
    variable: &'a dyn Fn(&str) -> Option<String>,
    mistakes: &'a mut Vec<Mistake>,
}

impl Reader<'_> {
    fn place(&self, span: Range<usize>, key: &str) -> Place {
        let line = self.breaks.partition_point(|end| *end < span.start).saturating_add(1);
        Place { file: Arc::clone(&self.file), line, key: key.into() }
    }

    fn table(&mut self, table: &DeTable<'_>, path: &str) -> Value {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let entry = |(key, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| {
            let name = key.get_ref().as_ref();
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            Entry {
                key: name.to_owned(),
                place: self.place(key.span(), &path),
                node: self.node(value, &path),
            }
        };
        Value::Table(entries.into_iter().map(entry).collect())
    }

    fn list(&mut self, list: &DeArray<'_>, path: &str) -> Value {
        Value::List(list.iter().map(|item| self.node(item, path)).collect())
    }

    fn node(&mut self, value: &Spanned<DeValue<'_>>, path: &str) -> Node {
        let place = self.place(value.span(), path);
        let value = match value.get_ref() {
            DeValue::String(text) => match expand(text, self.variable) {
                Ok(expanded) => Value::Text { text: expanded.text, whole: expanded.whole },
                Err(message) => self.broken(&place, message),
            },
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Value::Integer(number),
                Err(_) => self.broken(&place, format!("the number {} is too large", quoted(number.as_str()))),
            },
            DeValue::Float(number) => match number.as_str().parse() {
                Ok(number) => Value::Float(number),
                Err(_) => self.broken(&place, format!("{} is not a number", quoted(number.as_str()))),
            },
            DeValue::Boolean(value) => Value::Boolean(*value),
            DeValue::Datetime(_) => Value::Date,
            DeValue::Array(list) => self.list(list, path),
            DeValue::Table(table) => self.table(table, path),
        };
        Node { place, value }
    }

    fn broken(&mut self, place: &Place, message: String) -> Value {
        self.mistakes.push(Mistake::new(place, message));
        Value::Broken
    }
}
