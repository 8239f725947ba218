//! `${VAR}` and `${VAR:-default}` in the values of a file.
//!
//! Pure: the environment is an argument. A variable's value is never read again for more of them.

use super::mistake::{quoted, shortened};

/// A text after expansion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expanded {
    /// Without any placeholder.
    pub(super) text: String,
    /// The text was one placeholder and nothing else, so that it may stand for a number or a boolean.
    pub(super) whole: bool,
}

/// Replaces every placeholder; `$${` is the two characters `${`. Fails with cause and remedy.
pub(super) fn expand(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Expanded, String> {
    let (mut expanded, mut rest, mut placeholders) = (String::with_capacity(text.len()), text, 0usize);
    while let Some(at) = rest.find("${") {
        let (before, behind) = rest.split_at(at);
        let behind = behind.strip_prefix("${").unwrap_or_default();
        if let Some(before) = before.strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            rest = behind;
            continue;
        }
        expanded.push_str(before);
        let Some((inside, behind)) = behind.split_once('}') else {
            return Err("`${` has no `}`: write `${NAME}`, or `$${` for the two characters".to_owned());
        };
        expanded.push_str(&value(inside, variable)?);
        placeholders = placeholders.saturating_add(1);
        rest = behind;
    }
    expanded.push_str(rest);
    // A brace can stand only at the end of the one placeholder then.
    let whole = placeholders == 1 && text.starts_with("${") && text.find('}') == text.len().checked_sub(1);
    Ok(Expanded { text: expanded, whole })
}

fn value(inside: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    if !is_name {
        return Err(format!(
            "{} is no name of a variable: write `${{NAME}}`, `${{NAME:-default}}`, or `$${{` for the two characters",
            quoted(name)
        ));
    }
    match (variable(name), default) {
        // As in a shell: `:-` is for empty ones too.
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => {
            let (shown, name) = (quoted(name), shortened(name, 60));
            Err(format!("the environment has no variable {shown}: set it, or write `${{{name}:-default}}`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn variable(name: &str) -> Option<String> {
        match name {
            "PORT" => Some("80".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${PORT}".to_owned()),
            _ => None,
        }
    }

    fn text(text: &str) -> String {
        expand(text, &variable).unwrap().text
    }

    #[test]
    fn placeholders_are_replaced_once() {
        assert_eq!(text("plain $ {} $$ text"), "plain $ {} $$ text");
        assert_eq!(text("a:${PORT}, b:${PORT}"), "a:80, b:80");
        assert_eq!(text("${NONE:-c:-d}${EMPTY:-e}${PORT:-f}[${EMPTY}]"), "c:-de80[]");
        assert_eq!(text("${NESTED}"), "${PORT}");
        assert_eq!(text("$${PORT} and ${PORT}"), "${PORT} and 80");
    }

    #[test]
    fn a_whole_placeholder_is_known() {
        for (text, whole) in [
            ("${PORT}", true),
            ("${A:-true}", true),
            (":${PORT}", false),
            ("${PORT}}", false),
            ("$${A}", false),
        ] {
            assert_eq!(expand(text, &variable).unwrap().whole, whole, "{text}");
        }
    }

    #[test]
    fn mistakes_have_a_remedy() {
        for (text, tokens) in [
            ("${GONE}", ["`GONE`", "`${GONE:-default}`"]),
            ("${PORT", ["`}`", "`$${`"]),
            ("${}", ["``", "`${NAME}`"]),
            ("${1A}", ["`1A`", "`${NAME}`"]),
        ] {
            let message = expand(text, &variable).unwrap_err();
            assert!(tokens.iter().all(|token| message.contains(token)), "{text}: {message}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "([${}:A-C-]|PORT|.){0,20}") {
            let _ = expand(&text, &variable);
        }

        #[test]
        fn what_is_escaped_comes_back(text in "([${}:a-c-]|PORT){0,20}") {
            prop_assert_eq!(expand(&text.replace("${", "$${"), &variable).map(|e| e.text), Ok(text));
        }
    }
}
