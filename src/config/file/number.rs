//! Numbers of the file: how far each may go is said once, for the reader, the schema and the reference.
//!
//! Pure.

use std::num::NonZeroU64;

use serde_json::{Value as Json, json};

use crate::{
    config::{
        mistake::Mistake,
        plan::admission::{CONNECTIONS_PER_CLIENT_MAX, RATE_COUNT_MAX},
        read::{Key, Read, or_placeholder, unexpected},
        tree::{Node, Value},
        units::{SIZE_FORM, parse_size},
    },
    limits::{ATTEMPTS_MAX, QUEUE_MAX},
};

/// What may be at one backend: more than any host has descriptors for.
pub(in crate::config) type Limit = Number<0, 10_000_000>;
/// How many may wait.
pub(in crate::config) type Queue = Number<0, { QUEUE_MAX as u32 }>;
/// Attempts of a request.
pub(in crate::config) type Attempts = Number<1, { ATTEMPTS_MAX as u32 }>;
/// Retries in percent: every request may have every attempt.
pub(in crate::config) type Budget = Number<0, { 100 * ATTEMPTS_MAX as u32 }>;
/// Retries each second.
pub(in crate::config) type PerSecond = Number<0, 1_000_000>;
/// Connections of one client.
pub(in crate::config) type PerClient = Number<1, CONNECTIONS_PER_CLIENT_MAX>;
/// What may come at once.
pub(in crate::config) type Burst = Number<1, RATE_COUNT_MAX>;
/// Failures that eject a backend.
pub(in crate::config) type Failures = Number<0, 10_000>;
/// Requests of an interval.
pub(in crate::config) type Requests = Number<1, { u16::MAX as u32 }>;
/// A share of everything.
pub(in crate::config) type Percent = Number<0, 100>;
/// Results in a row.
pub(in crate::config) type Turns = Number<1, 100>;
/// How far an interval may be off, in percent.
pub(in crate::config) type Jitter = Number<0, 50>;
/// A port to connect to.
pub(in crate::config) type Port = Number<1, { u16::MAX as u32 }>;
/// A final status.
pub(in crate::config) type FinalStatus = Number<200, 599>;
/// How far a load may exceed the average.
pub(in crate::config) type BoundedLoad = Hundredths<101, 1000>;
/// A part of a ratio.
pub(in crate::config) type Ratio = Hundredths<1, 100>;

/// A whole number from `LOW` to `HIGH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct Number<const LOW: u32, const HIGH: u32>(u32);

impl<const LOW: u32, const HIGH: u32> Key<Number<LOW, HIGH>> {
    /// The number, or `default` if none was given that is right.
    pub(in crate::config) fn number<T: TryFrom<u32>>(&self, default: T) -> T {
        self.get().and_then(|number| T::try_from(number.0).ok()).unwrap_or(default)
    }
}

impl<const LOW: u32, const HIGH: u32> Read for Number<LOW, HIGH> {
    fn read(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<Self> {
        let number: Option<i64> = match &node.value {
            Value::Integer(number) => Some(*number),
            Value::Text { text, whole: true } => text.parse().ok(),
            _ => None,
        };
        let Some(number) = number else {
            let form = format!("a whole number from {LOW} to {HIGH}, without quotes");
            return unexpected(node, mistakes, &form);
        };
        let fits = u32::try_from(number).ok().filter(|number| (LOW..=HIGH).contains(number));
        if fits.is_none() {
            let message = format!("`{number}` is out of range: write a whole number from {LOW} to {HIGH}");
            mistakes.push(Mistake::new(&node.place, message));
        }
        fits.map(Number)
    }

    fn schema() -> Json {
        or_placeholder(&json!({ "type": "integer", "minimum": LOW, "maximum": HIGH }))
    }
}

/// A number from `LOW` to `HIGH` hundredths.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::config) struct Hundredths<const LOW: u32, const HIGH: u32>(pub(in crate::config) f64);

impl<const LOW: u32, const HIGH: u32> Hundredths<LOW, HIGH> {
    /// The ends as they are written.
    fn ends() -> (f64, f64) {
        (f64::from(LOW) / 100.0, f64::from(HIGH) / 100.0)
    }
}

impl<const LOW: u32, const HIGH: u32> Read for Hundredths<LOW, HIGH> {
    fn read(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<Self> {
        let number = f64::read(node, mistakes)?;
        let (low, high) = Self::ends();
        if !(low..=high).contains(&number) {
            let message = format!("`{number}` is out of range: write a number from {low} to {high}");
            mistakes.push(Mistake::new(&node.place, message));
            return None;
        }
        Some(Hundredths(number))
    }

    fn schema() -> Json {
        let (low, high) = Self::ends();
        or_placeholder(&json!({ "type": "number", "minimum": low, "maximum": high }))
    }
}

/// So many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct Size(u64);

impl Size {
    /// What it limits something to: nothing has no limit.
    pub(in crate::config) fn limit(self) -> Option<NonZeroU64> {
        NonZeroU64::new(self.0)
    }
}

impl Read for Size {
    fn read(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<Self> {
        let size = match &node.value {
            Value::Text { text, .. } => parse_size(text),
            _ => None,
        };
        size.map(Size).or_else(|| unexpected(node, mistakes, SIZE_FORM))
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": r"^((\d+([KMG]i)?B)+|.*\$\{.*)$" })
    }
}

/// The status of an answer that sends the client elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct RedirectStatus(pub(in crate::config) u16);

/// Those that there are.
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];

impl Read for RedirectStatus {
    fn read(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<Self> {
        let status = u16::read(node, mistakes)?;
        if !REDIRECTS.contains(&status) {
            let message = format!("{status} is no status of a redirect: write 301, 302, 303, 307 or 308");
            mistakes.push(Mistake::new(&node.place, message));
            return None;
        }
        Some(RedirectStatus(status))
    }

    fn schema() -> Json {
        or_placeholder(&json!({ "type": "integer", "enum": REDIRECTS }))
    }
}
