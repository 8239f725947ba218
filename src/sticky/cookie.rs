//! The sticky cookie: an opaque value for each backend, and how it is found in requests.
//!
//! A value is HMAC-SHA256 over the names of cluster and backend, cut to 128 bits. It says nothing about the backend to
//! whom the key is unknown, cannot be made up, and is the same on every instance with the same key, after every reload
//! and in whatever order the backends are written. All values are computed when the plan is made: a request costs a
//! search in a short list and no cryptography.
//!
//! What it does not do: a value is not bound to one client. Who has been given several backends, or shares cookies with
//! others, can go back to each of them, and can see that two values are equal. Nor does a value end before its backend
//! does; `Max-Age` is a request to the browser, counted from the last time the cookie was set.
//!
//! The cookie stays in the request: the backend may see it, and cutting a pair out of a field would rewrite what the
//! client signed or logged.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::{
    config::plan::cluster::{SameSite, StickyCookie},
    limits::PINS_PER_REQUEST_MAX,
};

/// Bytes of a value before it is written in base64.
const PIN_BYTES: usize = 16;

/// Characters of a value.
const PIN_CHARACTERS: usize = (PIN_BYTES * 8).div_ceil(6);

/// The pins of one cluster's backends.
#[derive(Debug)]
pub struct Pins {
    name: Box<[u8]>,
    /// Values with the index of their backend, in order.
    backends: Box<[(u128, usize)]>,
    /// A whole field line for each backend.
    fields: Box<[Box<[u8]>]>,
}

impl Pins {
    /// The pins of a cluster's backends, in the plan's order.
    pub fn new<'a>(
        cookie: &StickyCookie,
        cluster: &str,
        backends: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let values: Vec<_> =
            backends.into_iter().map(|backend| value(&cookie.key, cluster, backend)).collect();
        let mut backends: Vec<_> = values.iter().enumerate().map(|(index, value)| (*value, index)).collect();
        backends.sort_unstable();
        Pins {
            name: cookie.name.as_bytes().into(),
            backends: backends.into(),
            fields: values.iter().map(|value| field(cookie, *value).into_bytes().into()).collect(),
        }
    }

    /// The backend that the first valid pin in these `Cookie` fields names. Pairs of other names, and values of no
    /// backend of ours, are passed over.
    pub fn find<'a>(&self, cookies: impl IntoIterator<Item = &'a [u8]>) -> Option<usize> {
        let pairs = cookies.into_iter().flat_map(pairs);
        let ours = pairs.filter(|(name, _)| *name == &*self.name).take(PINS_PER_REQUEST_MAX);
        ours.filter_map(|(_, value)| self.backend(value)).next()
    }

    /// The backend of a value.
    fn backend(&self, value: &[u8]) -> Option<usize> {
        if value.len() != PIN_CHARACTERS {
            return None;
        }
        // The decoder asks for room for whole groups.
        let mut bytes = [0; PIN_CHARACTERS.div_ceil(4) * 3];
        let length = URL_SAFE_NO_PAD.decode_slice(value, &mut bytes).ok()?;
        let value = u128::from_be_bytes(*bytes.get(..length)?.first_chunk::<PIN_BYTES>()?);
        let place = self.backends.binary_search_by_key(&value, |(value, _)| *value).ok()?;
        self.backends.get(place).map(|(_, index)| *index)
    }

    /// The `Set-Cookie` line that pins a client to this backend, with its CRLF.
    pub fn set_cookie(&self, backend: usize) -> Option<&[u8]> {
        self.fields.get(backend).map(|field| &**field)
    }
}

/// The value of a backend. Lengths stand in front of the names, so that no two pairs of names read the same.
fn value(key: &[u8; 32], cluster: &str, backend: &str) -> u128 {
    // HMAC fills a key up with zeros to the hash's block.
    let mut block = [0; 64];
    block.iter_mut().zip(key).for_each(|(place, byte)| *place = *byte);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    mac.update(b"ringway sticky 1\0");
    for name in [cluster, backend] {
        mac.update(&(name.len() as u64).to_be_bytes());
        mac.update(name.as_bytes());
    }
    let digest: [u8; 32] = mac.finalize().into_bytes().into();
    digest.first_chunk::<PIN_BYTES>().map_or(0, |value| u128::from_be_bytes(*value))
}

/// The field with all its attributes (RFC 6265 section 4.1).
fn field(cookie: &StickyCookie, value: u128) -> String {
    let value = URL_SAFE_NO_PAD.encode(value.to_be_bytes());
    let mut field = format!("Set-Cookie: {}={value}; Path={}", cookie.name, cookie.path);
    if let Some(domain) = &cookie.domain {
        field.push_str("; Domain=");
        field.push_str(domain);
    }
    if let Some(age) = cookie.max_age {
        let seconds = age.as_secs() + u64::from(age.subsec_nanos() > 0);
        field.push_str(&format!("; Max-Age={seconds}"));
    }
    field.push_str(if cookie.secure { "; Secure" } else { "" });
    field.push_str(if cookie.http_only { "; HttpOnly" } else { "" });
    field.push_str(match cookie.same_site {
        SameSite::Strict => "; SameSite=Strict",
        SameSite::Lax => "; SameSite=Lax",
        SameSite::None => "; SameSite=None",
    });
    field.push_str("\r\n");
    field
}

/// The pairs of a `Cookie` field (RFC 6265 section 4.2.1), also with more or fewer blanks than it asks for.
pub fn pairs(value: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    value.split(|byte| *byte == b';').filter_map(|pair| {
        let equals = memchr::memchr(b'=', pair)?;
        let (name, value) = (pair.get(..equals)?.trim_ascii(), pair.get(equals + 1..)?.trim_ascii());
        let inner = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        Some((name, inner.unwrap_or(value)))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn cookie() -> StickyCookie {
        StickyCookie {
            name: "pin".into(),
            key: std::array::from_fn(|index| index as u8),
            domain: None,
            path: "/".into(),
            max_age: None,
            secure: false,
            http_only: true,
            same_site: SameSite::Lax,
        }
    }

    const BACKENDS: [&str; 3] = ["10.0.0.1:80", "10.0.0.2:80", "web"];

    fn pins() -> Pins {
        Pins::new(&cookie(), "web", BACKENDS)
    }

    /// The value in a prerendered field.
    fn written(pins: &Pins, backend: usize) -> String {
        let field = std::str::from_utf8(pins.set_cookie(backend).unwrap()).unwrap();
        field["Set-Cookie: pin=".len()..].split(';').next().unwrap().to_owned()
    }

    fn find(pins: &Pins, fields: &[&str]) -> Option<usize> {
        pins.find(fields.iter().map(|field| field.as_bytes()))
    }

    #[test]
    fn a_value_is_the_one_that_every_instance_computes() {
        // Computed with another implementation.
        assert_eq!(written(&pins(), 0), "g0eLki2xIbVnm461qf21zg");
    }

    #[test]
    fn every_attribute_is_written() {
        let set = |cookie: &StickyCookie| {
            let pins = Pins::new(cookie, "web", BACKENDS);
            let (field, value) = (pins.set_cookie(1).unwrap().to_vec(), written(&pins, 1));
            String::from_utf8(field).unwrap().replace(&value, "VALUE")
        };
        assert_eq!(set(&cookie()), "Set-Cookie: pin=VALUE; Path=/; HttpOnly; SameSite=Lax\r\n");
        let all = StickyCookie {
            domain: Some("example.com".into()),
            path: "/app".into(),
            max_age: Some(Duration::from_millis(3_600_500)),
            secure: true,
            http_only: false,
            same_site: SameSite::None,
            ..cookie()
        };
        assert_eq!(
            set(&all),
            "Set-Cookie: pin=VALUE; Path=/app; Domain=example.com; Max-Age=3601; Secure; SameSite=None\r\n"
        );
        assert_eq!(pins().set_cookie(3), None);
    }

    #[test]
    fn a_value_reveals_no_name_and_depends_on_key_cluster_and_backend() {
        let pins = pins();
        for (index, name) in BACKENDS.iter().enumerate() {
            let value = written(&pins, index);
            assert!(value.len() == PIN_CHARACTERS && !value.contains(name));
            assert_eq!(find(&pins, &[&format!("pin={value}")]), Some(index));
            let other_key = Pins::new(&StickyCookie { key: [1; 32], ..cookie() }, "web", BACKENDS);
            let other_cluster = Pins::new(&cookie(), "we", BACKENDS);
            assert_eq!(find(&other_key, &[&format!("pin={value}")]), None);
            assert_eq!(find(&other_cluster, &[&format!("pin={value}")]), None);
        }
        assert_ne!(value(&[0; 32], "ab", "c"), value(&[0; 32], "a", "bc"));
    }

    #[test]
    fn a_reload_in_another_order_keeps_the_pins() {
        let reordered = Pins::new(&cookie(), "web", ["new", "web", "10.0.0.1:80"]);
        let of = |index| format!("pin={}", written(&pins(), index));
        assert_eq!(find(&reordered, &[&of(0)]), Some(2));
        assert_eq!(find(&reordered, &[&of(1)]), None, "that backend is gone");
        assert_eq!(find(&reordered, &[&of(2)]), Some(1));
    }

    #[test]
    fn the_first_valid_pin_of_all_fields_wins() {
        let pins = pins();
        let (a, b) = (written(&pins, 0), written(&pins, 1));
        for (fields, wanted) in [
            (vec![format!("x=y; pin={a}; pin={b}")], Some(0)),
            (vec![format!("pin=stale; pin={b}")], Some(1)),
            (vec!["x=y".to_owned(), format!("z;pin={b}")], Some(1)),
            (vec![format!("  pin = \"{a}\"  ;")], Some(0)),
            (vec![format!("PIN={a}; xpin={a}; pin={a}x; pin={}", &a[1..])], None),
            (vec![format!("pin==; pin; =pin; pin={a}=")], None),
            (vec![String::new()], None),
            (Vec::new(), None),
        ] {
            let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
            assert_eq!(find(&pins, &fields), wanted, "{fields:?}");
        }
        let flood = "pin=AAAAAAAAAAAAAAAAAAAAAA;".repeat(PINS_PER_REQUEST_MAX) + "pin=" + &a;
        assert_eq!(find(&pins, &[&flood]), None, "only so many are looked at");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_never_pin(
            fields in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..4),
        ) {
            prop_assert_eq!(pins().find(fields.iter().map(Vec::as_slice)), None);
        }

        #[test]
        fn text_that_looks_like_cookies_never_pins(field in "((pin|pi|x)? ?=? ?[A-Za-z0-9_\"=-]{0,24} ?;?){0,6}") {
            prop_assert_eq!(find(&pins(), &[&field]), None);
        }

        #[test]
        fn no_changed_value_is_valid(backend in 0usize..3, place in 0usize..PIN_CHARACTERS, byte in any::<u8>()) {
            let pins = pins();
            let mut value = written(&pins, backend).into_bytes();
            let same = value[place] == byte;
            value[place] = byte;
            let field = [b"pin=", &*value].concat();
            // A quote or blank at an end, or a semicolon, only makes it shorter.
            prop_assert_eq!(pins.find([&*field]), same.then_some(backend));
        }

        #[test]
        fn a_pin_is_found_among_whatever_else(
            before in prop::collection::vec("[a-z]{1,4}=[ -:<-~]{0,8}", 0..5),
            after in "[ -~]{0,20}",
            backend in 0usize..3,
        ) {
            let pins = pins();
            let own = format!("pin={}", written(&pins, backend));
            let field = before.iter().filter(|pair| !pair.starts_with("pin=")).cloned().chain([own, after]);
            prop_assert_eq!(find(&pins, &[&field.collect::<Vec<_>>().join("; ")]), Some(backend));
        }
    }
}
