//! Values of the file that have more than one form, or a form of their own.

use serde_json::{Value as Json, json};

use super::{Backend, HashKeyTable, RateKeyTable, Sticky};
use crate::{
    addr::{BackendAddress, Networks},
    config::{
        mistake::{Mistake, quoted},
        plan::{
            Algorithm, Mode,
            cluster::{Duty, OnDown, SameSite},
            health,
        },
        read::{List, Read, unexpected, word, words},
        tree::{Node, Value},
    },
    control::log::LogFormat,
    proxy_protocol::Version,
};

words! {
    Mode: "mode" {
        "http" => Mode::Http,
        "tcp" | "stream" => Mode::Tcp,
        "udp" => Mode::Udp,
    }
    Version: "version of the PROXY protocol" {
        "v1" => Version::V1,
        "v2" => Version::V2,
    }
    SameSite: "value of `SameSite`" {
        "strict" => SameSite::Strict,
        "lax" => SameSite::Lax,
        "none" => SameSite::None,
    }
    OnDown: "way to treat the work of a backend that is down" {
        "auto" => OnDown::Auto,
        "keep" => OnDown::Keep,
        "close" => OnDown::Close,
    }
    Duty: "state" {
        "ready" => Duty::Ready,
        "drain" => Duty::Drain,
        "maint" | "maintenance" => Duty::Maint,
    }
    health::Kind: "kind of probe" {
        "tcp" => health::Kind::Tcp,
        "http" => health::Kind::Http,
        "script" => health::Kind::Script,
    }
    health::Start: "state to start in" {
        "up" => health::Start::Up,
        "down" => health::Start::Down,
    }
    LogFormat: "format" {
        "text" => LogFormat::Text,
        "json" => LogFormat::Json,
    }
}

/// How a backend is picked, by its name here and with other proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct Balance(pub(in crate::config) Algorithm);

impl Read for Balance {
    fn read(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<Self> {
        let names = Algorithm::ALL.map(Algorithm::name);
        word(node, mistakes, "way to balance", &names, |name| Algorithm::from_name(name).map(Balance))
    }

    fn schema() -> Json {
        json!({ "type": "string", "anyOf": [
            { "enum": Algorithm::ALL.map(Algorithm::name) }, { "pattern": crate::config::read::OTHER_WORDS },
        ] })
    }
}

/// The name of a thing, fit for logs and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct Name(pub(in crate::config) String);

/// Longest name, in bytes.
const NAME_MAX: usize = 128;

impl Read for Name {
    fn read(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<Self> {
        let name = String::read(node, mistakes)?;
        let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'`');
        if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(plain) {
            let message = format!(
                "{} is no name: write 1 to {NAME_MAX} letters, digits and signs such as `-`, `_`, `.`, `:`, without blanks",
                quoted(&name)
            );
            mistakes.push(Mistake::new(&node.place, message));
            return None;
        }
        Some(Name(name))
    }

    fn schema() -> Json {
        json!({ "type": "string", "minLength": 1, "maxLength": NAME_MAX })
    }
}

/// Permissions of a file, octal as for `chmod(1)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct Permissions(pub(in crate::config) u32);

impl Read for Permissions {
    fn read(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<Self> {
        let mode = match &node.value {
            Value::Text { text, .. } if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777)
            }
            _ => None,
        };
        mode.map(Permissions).or_else(|| {
            unexpected(node, mistakes, "octal permissions in quotes, such as `\"660\"`, at most `\"777\"`")
        })
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": r"^0*[0-7]{1,3}$|\$\{" })
    }
}

/// 32 bytes as hexadecimal digits. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::config) struct SecretKey(pub(in crate::config) [u8; 32]);

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("SecretKey(…)")
    }
}

impl Read for SecretKey {
    fn read(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<Self> {
        let key = match &node.value {
            Value::Text { text, .. } => hexadecimal(text),
            _ => None,
        };
        if key.is_none() && !matches!(node.value, Value::Broken) {
            // The value is not repeated: most of it may be right.
            let message =
                "this is no key: write 64 hexadecimal digits in quotes (`openssl rand -hex 32` makes some)";
            mistakes.push(Mistake::new(&node.place, message));
        }
        key.map(SecretKey)
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": r"^[0-9A-Fa-f]{64}$|\$\{" })
    }
}

fn hexadecimal(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2).filter_map(|pair| match pair {
        [high, low] => Some(high << 4 | low),
        _ => None,
    });
    pairs.collect::<Vec<u8>>().try_into().ok().filter(|_| digits.len() == 64)
}

/// Networks: one text, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct NetworkList(pub(in crate::config) Networks);

impl Read for NetworkList {
    fn read(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<Self> {
        let list = List::<Networks>::read(node, mistakes)?;
        let all = list.values().map(ToString::to_string).collect::<Vec<_>>().join(",");
        // Each was read before, so the whole can be.
        all.parse().ok().map(NetworkList)
    }

    fn schema() -> Json {
        List::<Networks>::schema()
    }
}

/// Statuses of responses, from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct Statuses(pub(in crate::config) u16, pub(in crate::config) u16);

impl Read for Statuses {
    fn read(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<Self> {
        // One before 200 is never the last.
        let status = |text: &str| text.parse().ok().filter(|status| (200..=599).contains(status));
        let range = match &node.value {
            Value::Integer(number) => status(&number.to_string()).map(|status| Statuses(status, status)),
            Value::Text { text, .. } => {
                let (first, last) = text.split_once('-').unwrap_or((text, text));
                status(first).zip(status(last)).map(|(first, last)| Statuses(first, last))
            }
            _ => None,
        };
        let form = "a status from 200 to 599, such as `204`, or a range of them, such as `\"200-299\"`";
        range.filter(|range| range.0 <= range.1).or_else(|| unexpected(node, mistakes, form))
    }

    fn schema() -> Json {
        json!({ "anyOf": [
            { "type": "integer", "minimum": 200, "maximum": 599 },
            { "type": "string", "pattern": r"^[2-5]\d\d(-[2-5]\d\d)?$|\$\{" },
        ] })
    }
}

/// What a header field has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) enum FieldValue {
    /// This.
    Exactly(String),
    /// There.
    Present,
}

impl Read for FieldValue {
    fn read(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<Self> {
        match &node.value {
            Value::Text { text, .. } => Some(FieldValue::Exactly(text.clone())),
            Value::Boolean(true) => Some(FieldValue::Present),
            _ => unexpected(
                node,
                mistakes,
                "its value in quotes, or `true` for a field that only has to be there",
            ),
        }
    }

    fn schema() -> Json {
        json!({ "anyOf": [{ "type": "string" }, { "const": true }] })
    }
}

/// What is hashed.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::config) enum HashKeyItem {
    /// The client's address.
    ClientAddress,
    /// The path.
    Path,
    /// Something else in the request.
    OfRequest(Box<HashKeyTable>),
}

impl Read for HashKeyItem {
    fn read(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<Self> {
        if matches!(node.value, Value::Table(_)) {
            return HashKeyTable::read(node, mistakes).map(Box::new).map(HashKeyItem::OfRequest);
        }
        let fits = |text: &str| match text.replace('_', "-").as_str() {
            "client-address" => Some(HashKeyItem::ClientAddress),
            "path" => Some(HashKeyItem::Path),
            _ => None,
        };
        word(
            node,
            mistakes,
            "hash key (a table such as `{ header = \"x-user\" }` is one too)",
            &["client-address", "path"],
            fits,
        )
    }

    fn schema() -> Json {
        json!({ "anyOf": [{ "enum": ["client-address", "path"] }, HashKeyTable::schema()] })
    }
}

/// What has a rate limit of its own.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::config) enum RateKeyItem {
    /// Each client's address.
    ClientAddress,
    /// Everything together.
    All,
    /// Something in the request.
    OfRequest(Box<RateKeyTable>),
}

impl Read for RateKeyItem {
    fn read(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<Self> {
        if matches!(node.value, Value::Table(_)) {
            return RateKeyTable::read(node, mistakes).map(Box::new).map(RateKeyItem::OfRequest);
        }
        let fits = |text: &str| match text.replace('_', "-").as_str() {
            "client-address" => Some(RateKeyItem::ClientAddress),
            "all" => Some(RateKeyItem::All),
            _ => None,
        };
        let what = "rate key (a table such as `{ header = \"x-api-key\" }` is one too)";
        word(node, mistakes, what, &["client-address", "all"], fits)
    }

    fn schema() -> Json {
        json!({ "anyOf": [{ "enum": ["client-address", "all"] }, RateKeyTable::schema()] })
    }
}

/// How a client is kept with its backend.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::config) enum StickyItem {
    /// By its address, for the usual time.
    ClientAddress,
    /// As the table says.
    Table(Box<Sticky>),
}

impl StickyItem {
    /// True when the operator gave the key of a cookie.
    pub(in crate::config) fn has_key(&self) -> bool {
        matches!(self, StickyItem::Table(table) if table.key.get().is_some())
    }
}

impl Read for StickyItem {
    fn read(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<Self> {
        if !matches!(node.value, Value::Text { .. }) {
            return Sticky::read(node, mistakes).map(Box::new).map(StickyItem::Table);
        }
        let fits =
            |text: &str| (text.replace('_', "-") == "client-address").then_some(StickyItem::ClientAddress);
        let what = "way to keep a client (a table such as `{ cookie = \"backend\" }` is one too)";
        word(node, mistakes, what, &["client-address"], fits)
    }

    fn schema() -> Json {
        json!({ "anyOf": [{ "enum": ["client-address"] }, Sticky::schema()] })
    }
}

/// A backend: its address, or a table.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::config) struct BackendItem(pub(in crate::config) Backend);

impl Read for BackendItem {
    fn read(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<Self> {
        if matches!(node.value, Value::Table(_)) {
            return Backend::read(node, mistakes).map(BackendItem);
        }
        BackendAddress::read(node, mistakes).map(|address| BackendItem(Backend::at(&node.place, address)))
    }

    fn schema() -> Json {
        json!({ "anyOf": [{ "type": "string" }, Backend::schema()] })
    }
}

impl Backend {
    /// A backend that is nothing but its address.
    pub(in crate::config) fn at(place: &crate::config::mistake::Place, address: BackendAddress) -> Self {
        let address = crate::config::read::Key::flag(place, address);
        Backend { place: Some(place.clone()), address, ..Backend::default() }
    }
}
