//! Bytes of a probe's script as text: `\r`, `\n`, `\t`, `\\`, and `\xNN` for any byte.
//!
//! Pure. What is written here is read back as the same bytes.

use std::fmt::Write;

/// The bytes that a text stands for; fails with the escape that is none.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, behind)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        let (byte, length) = match behind.as_bytes() {
            [b'r', ..] => (b'\r', 1),
            [b'n', ..] => (b'\n', 1),
            [b't', ..] => (b'\t', 1),
            [b'\\', ..] => (b'\\', 1),
            [b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digits = behind.get(1..3).unwrap_or_default();
                (u8::from_str_radix(digits, 16).unwrap_or_default(), 3)
            }
            _ => return Err(format!("\\{}", behind.chars().take(3).collect::<String>())),
        };
        bytes.push(byte);
        rest = behind.get(length..).unwrap_or_default();
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

/// A text that stands for these bytes.
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'\r' => text.push_str("\\r"),
            b'\n' => text.push_str("\\n"),
            b'\t' => text.push_str("\\t"),
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(*byte)),
            // Writing to a String cannot fail.
            _ => _ = write!(text, "\\x{byte:02x}"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_are_bytes() {
        for (text, bytes) in [
            (r"PING\r\n", &b"PING\r\n"[..]),
            ("PING\r\n", b"PING\r\n"),
            (r"\x00\xfF\\x00", b"\0\xff\\x00"),
            ("ü", b"\xc3\xbc"),
            ("", b""),
        ] {
            assert_eq!(decode(text).unwrap(), bytes, "{text}");
        }
        for (text, escape) in
            [(r"a\q", r"\q"), (r"\x1", r"\x1"), (r"\xg1", r"\xg1"), ("\\", "\\"), (r"\x1ü", r"\x1ü")]
        {
            assert_eq!(decode(text).unwrap_err(), escape);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(decode(&encode(&bytes)).unwrap(), bytes);
        }

        #[test]
        fn nothing_panics(text in r"([\\xrn0-9a-fü]){0,12}") {
            let _ = decode(&text);
        }
    }
}
