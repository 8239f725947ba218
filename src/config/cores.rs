//! `0,2-3` or `all`: which cores get a worker.
//!
//! Owns the grammar and the check against the cores this process may run on. Never pins anything; that is
//! each worker's own first act. Runs on the control thread before the workers start.

use std::fmt::Write;

use super::mistake::shortened;

/// What is wrong with a choice of cores.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the variants and their fields mean")]
pub enum CoresError {
    #[error("cannot read which cores this process may run on (sched_getaffinity failed)")]
    Unknown,
    #[error("`{token}` is neither a core nor a range, write `all` or numbers such as `0,2-3`")]
    Token { token: String },
    #[error("the range `{token}` runs backwards, write `{right}`")]
    Backwards { token: String, right: String },
    #[error("core {core} is named twice")]
    Twice { core: usize },
    #[error("this process may not run on core {core} (`{token}`), allowed: {allowed}")]
    NotAllowed { token: String, core: usize, allowed: String },
}

/// The cores this process may run on, ascending.
pub fn allowed() -> Result<Vec<usize>, CoresError> {
    let mut cores: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    cores.sort_unstable();
    if cores.is_empty() { Err(CoresError::Unknown) } else { Ok(cores) }
}

/// Reads `spec`; the cores come in the order written.
pub fn parse(spec: &str, allowed: &[usize]) -> Result<Vec<usize>, CoresError> {
    if spec.trim().eq_ignore_ascii_case("all") {
        return Ok(allowed.to_vec());
    }
    let mut cores = Vec::new();
    for token in spec.split(',').map(str::trim) {
        let (first, last) = token.split_once('-').unwrap_or((token, token));
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            return Err(CoresError::Token { token: shortened(token, 60) });
        };
        if first > last {
            let right = format!("{last}-{first}");
            return Err(CoresError::Backwards { token: token.to_owned(), right });
        }
        // However long the range is, it ends at the first core that is not allowed.
        for core in first..=last {
            if !allowed.contains(&core) {
                return Err(CoresError::NotAllowed {
                    token: token.to_owned(),
                    core,
                    allowed: ranges(allowed),
                });
            }
            if cores.contains(&core) {
                return Err(CoresError::Twice { core });
            }
            cores.push(core);
        }
    }
    Ok(cores)
}

/// Digits only: `str::parse` would also take a leading `+`.
fn number(text: &str) -> Option<usize> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// `[0, 1, 2, 5]` as `0-2,5`.
pub fn ranges(cores: &[usize]) -> String {
    let mut text = String::new();
    for run in cores.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
        let comma = if text.is_empty() { "" } else { "," };
        let _ = match run {
            [first, .., last] => write!(text, "{comma}{first}-{last}"),
            [only] => write!(text, "{comma}{only}"),
            [] => Ok(()),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALLOWED: [usize; 5] = [0, 1, 2, 3, 6];

    #[test]
    fn lists_ranges_and_all_are_understood() {
        assert_eq!(parse("all", &ALLOWED).unwrap(), ALLOWED);
        assert_eq!(parse("6", &ALLOWED).unwrap(), [6]);
        assert_eq!(parse("3, 0-1", &ALLOWED).unwrap(), [3, 0, 1]);
        assert_eq!(parse("2-2", &ALLOWED).unwrap(), [2]);
    }

    #[test]
    fn wrong_tokens_are_named() {
        for (spec, expected) in [
            ("", "`` is neither"),
            ("0,", "`` is neither"),
            ("0,x", "`x` is neither"),
            ("+1", "`+1` is neither"),
            ("1-", "`1-` is neither"),
            ("-1", "`-1` is neither"),
            ("1-2-3", "`1-2-3` is neither"),
            ("0,99999999999999999999", "`99999999999999999999` is neither"),
            ("3-1", "the range `3-1` runs backwards, write `1-3`"),
            ("0-2,1", "core 1 is named twice"),
            ("0,7", "may not run on core 7 (`7`), allowed: 0-3,6"),
            ("2-18446744073709551615", "core 4 (`2-18446744073709551615`), allowed: 0-3,6"),
        ] {
            let message = parse(spec, &ALLOWED).unwrap_err().to_string();
            assert!(message.contains(expected), "{spec}: {message}");
        }
    }

    #[test]
    fn this_process_may_run_somewhere() {
        assert!(!allowed().unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn ranges_parse_back(cores in proptest::collection::btree_set(0usize..200, 1..50)) {
            let cores: Vec<usize> = cores.into_iter().collect();
            prop_assert_eq!(parse(&ranges(&cores), &cores), Ok(cores));
        }

        #[test]
        fn any_answer_is_allowed_and_without_duplicates(spec in "([0-9]{1,2}|-|,|all| ){0,8}") {
            if let Ok(mut cores) = parse(&spec, &ALLOWED) {
                prop_assert!(!cores.is_empty() && cores.iter().all(|core| ALLOWED.contains(core)));
                let count = cores.len();
                cores.sort_unstable();
                cores.dedup();
                prop_assert_eq!(cores.len(), count);
            }
        }
    }
}
