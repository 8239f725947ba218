//! The two ways in which the kernel writes sets of cores: lists (`0-3,8`) and masks (`ff,00000001`).
//!
//! Pure; both directions. Never believes in more cores than a kernel can have.

/// More than any kernel is built for (`CONFIG_NR_CPUS`).
pub const CORES_MAX: usize = 8192;

/// `0-3,8` as numbers, ascending and without duplicates; an empty text is no core. None if it is no such list.
pub fn from_list(text: &str) -> Option<Vec<usize>> {
    let mut cores = Vec::new();
    for token in text.trim().split(',').filter(|_| !text.trim().is_empty()) {
        let (first, last) = token.split_once('-').unwrap_or((token, token));
        let (first, last): (usize, usize) = (digits(first)?, digits(last)?);
        if first > last || last >= CORES_MAX {
            return None;
        }
        cores.extend(first..=last);
    }
    cores.sort_unstable();
    cores.dedup();
    Some(cores)
}

/// Digits only: `str::parse` would also take a leading `+`.
fn digits(text: &str) -> Option<usize> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// `3` or `ff,00000001` (groups of 32 bits, the highest first) as numbers. None if it is no such mask.
pub fn from_mask(text: &str) -> Option<Vec<usize>> {
    let text = text.trim();
    let is_mask = !text.is_empty() && text.len() <= CORES_MAX / 3;
    if !is_mask || !text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b',') {
        return None;
    }
    let mut cores = Vec::new();
    for (group, word) in text.rsplit(',').enumerate() {
        let bits = u32::from_str_radix(word, 16).ok()?;
        cores.extend((0..32).filter(|bit| bits >> bit & 1 == 1).map(|bit| group * 32 + bit));
    }
    Some(cores)
}

/// Numbers as a mask that the kernel takes.
pub fn to_mask(cores: &[usize]) -> String {
    let groups = cores.iter().max().map_or(1, |last| last / 32 + 1);
    let word = |group: usize| {
        let bits =
            cores.iter().filter(|core| **core / 32 == group).fold(0u32, |bits, core| bits | 1 << (core % 32));
        if group + 1 == groups { format!("{bits:x}") } else { format!("{bits:08x}") }
    };
    (0..groups).rev().map(word).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::cores::ranges;

    #[test]
    fn lists_are_read() {
        assert_eq!(from_list("0-3,8\n"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(from_list("5"), Some(vec![5]));
        assert_eq!(from_list("2,1-2"), Some(vec![1, 2]));
        assert_eq!(from_list(""), Some(vec![]));
        for odd in ["a", "3-1", "0,", "-", "+1", "0-99999999999", "8192", "0-3 8"] {
            assert_eq!(from_list(odd), None, "{odd}");
        }
    }

    #[test]
    fn masks_are_read() {
        assert_eq!(from_mask("5\n"), Some(vec![0, 2]));
        assert_eq!(from_mask("1,00000003"), Some(vec![0, 1, 32]));
        assert_eq!(from_mask("00000000,00000000"), Some(vec![]));
        for odd in ["", "g", "+1", "1,,2", "123456789", "1 2"] {
            assert_eq!(from_mask(odd), None, "{odd}");
        }
    }

    #[test]
    fn masks_are_written_as_the_kernel_does() {
        assert_eq!(to_mask(&[]), "0");
        assert_eq!(to_mask(&[0, 1]), "3");
        assert_eq!(to_mask(&[0, 32, 36]), "11,00000001");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(cores in proptest::collection::btree_set(0usize..300, 1..40)) {
            let cores: Vec<usize> = cores.into_iter().collect();
            prop_assert_eq!(from_mask(&to_mask(&cores)), Some(cores.clone()));
            prop_assert_eq!(from_list(&ranges(&cores)), Some(cores));
        }

        #[test]
        fn no_text_panics(text in "[0-9a-f,+ -]{0,20}|.{0,20}") {
            let _ = (from_list(&text), from_mask(&text));
        }
    }
}
