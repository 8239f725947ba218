//! What is wrong with a configuration, and where.
//!
//! Every mistake names its place, its cause and its remedy. They are collected, never thrown one by one.

use std::{collections::HashSet, fmt, sync::Arc};

/// Where something was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file as the operator named it, or a flag in backticks.
    pub file: Arc<str>,
    /// From 1; 0 stands for the file as a whole.
    pub line: usize,
    /// `listener.bind`; empty when no key is to blame.
    pub key: Arc<str>,
}

impl Place {
    /// A file as a whole, or a flag.
    pub fn whole(file: &str) -> Self {
        Place { file: file.into(), line: 0, key: "".into() }
    }

    /// What an operator finds it by in a message about something else.
    pub fn brief(&self) -> String {
        if self.line == 0 { self.file.to_string() } else { format!("{}:{}", self.file, self.line) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.file)?;
        if self.line != 0 {
            write!(out, ":{}", self.line)?;
        }
        if !self.key.is_empty() {
            write!(out, ": {}", shortened(&self.key, KEY_MAX))?;
        }
        Ok(())
    }
}

/// One thing that is wrong, or that is probably not meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", one_line(&shortened(&format!("{place}: {message}"), MESSAGE_MAX)))]
pub struct Mistake {
    /// Where it is.
    pub place: Place,
    /// What it is, and what would be right.
    pub message: String,
}

impl Mistake {
    /// A mistake in this place.
    pub fn new(place: &Place, message: impl Into<String>) -> Self {
        Mistake { place: place.clone(), message: message.into() }
    }
}

/// How the mistake of a key that is not known begins when it lists those that are.
const KNOWN: &str = "there is no such key: known are ";

/// Most characters that are shown of a value, of a key with its tables, and of a whole message.
const SHOWN_MAX: usize = 60;
const KEY_MAX: usize = 120;
const MESSAGE_MAX: usize = 2000;

/// That there is no such key, and which there are.
pub fn unknown_key(known: &[&str]) -> String {
    format!("{KNOWN}{}", known.join(", "))
}

/// Orders mistakes as the operator meets them when reading, each once, and each list of keys only the first time.
pub fn arrange(mistakes: &mut Vec<Mistake>) {
    mistakes.sort_by(|a, b| (&a.place.file, a.place.line).cmp(&(&b.place.file, b.place.line)));
    mistakes.dedup();
    let mut told = HashSet::new();
    for mistake in mistakes.iter_mut().filter(|mistake| mistake.message.starts_with(KNOWN)) {
        if !told.insert(mistake.message.clone()) {
            mistake.message = "there is no such key: those that are known are listed above".to_owned();
        }
    }
}

/// `text` in backticks, shortened.
pub fn quoted(text: &str) -> String {
    format!("`{}`", shortened(text, SHOWN_MAX))
}

/// The beginning of `text`, and a sign if that is not all.
pub fn shortened(text: &str, most: usize) -> String {
    let more = if text.chars().nth(most).is_some() { "…" } else { "" };
    text.chars().take(most).chain(more.chars()).collect()
}

/// Control characters would break the line or the terminal, and keys and values may have any.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_control() {
            true => line.extend(character.escape_default()),
            false => line.push(character),
        }
    }
    line
}

/// The one of `known` that `word` was probably meant to be.
pub fn similar<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const SIMILAR: f64 = 0.7;
    // No slip makes a word so long, and the comparison takes its time.
    if word.len() > KEY_MAX {
        return None;
    }
    let fold = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    let folded = fold(word);
    let scored = known.map(|name| {
        let name_folded = fold(name);
        let score = strsim::normalized_damerau_levenshtein(&folded, &name_folded);
        // One of them is often the beginning of the other: `connect`, `backends`. In a short word one slip is much.
        let part = name_folded.starts_with(&folded) || folded.starts_with(&name_folded);
        let slip = strsim::damerau_levenshtein(&folded, &name_folded) == 1;
        (if folded.len() >= 3 && (part || slip) { score.max(SIMILAR) } else { score }, name)
    });
    let best = scored.filter(|(score, _)| *score >= SIMILAR).max_by(|a, b| a.0.total_cmp(&b.0));
    best.map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_written_as_compilers_do() {
        let place = Place { file: "a.toml".into(), line: 3, key: "listener.bind".into() };
        assert_eq!(Mistake::new(&place, "wrong").to_string(), "a.toml:3: listener.bind: wrong");
        assert_eq!(Mistake::new(&Place::whole("a.toml"), "wrong").to_string(), "a.toml: wrong");
    }

    #[test]
    fn suggestions_are_close_or_not_made() {
        let known = ["connect_timeout", "head_timeout", "via", "bind"];
        for (word, meant) in [
            ("conect_timeout", Some("connect_timeout")),
            ("connect-timeout", Some("connect_timeout")),
            ("connect", Some("connect_timeout")),
            ("bnid", Some("bind")),
            ("binds", Some("bind")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(similar(word, known.into_iter()), meant, "{word}");
        }
    }

    #[test]
    fn what_is_shown_stays_in_its_line() {
        let place = Place { file: "a.toml".into(), line: 3, key: "a\nb".into() };
        assert_eq!(Mistake::new(&place, "c\u{1b}").to_string(), "a.toml:3: a\\nb: c\\u{1b}");
        assert_eq!(quoted(&"x".repeat(61)).chars().count(), 63);
        let long: Arc<str> = "k".repeat(100_000).into();
        let place = Place { file: "a.toml".into(), line: 3, key: Arc::clone(&long) };
        assert_eq!(
            Mistake::new(&place, "wrong").to_string().chars().count(),
            "a.toml:3: : wrong".len() + 121
        );
        assert_eq!(Mistake::new(&Place::whole("a.toml"), &*long).to_string().chars().count(), 2001);
        assert_eq!(similar(&long, ["k"].into_iter()), None);
    }
}
