//! Routes: which requests go where, and what is changed on their way.

use std::{num::NonZeroU64, sync::Arc, time::Duration};

use regex::bytes::Regex;

use super::admission::AdmissionPlan;

/// A rule for requests. All that it asks for must fit; what it leaves empty fits everything.
#[derive(Debug, Clone)]
pub struct RoutePlan {
    /// Unique name, also the metrics label.
    pub name: Arc<str>,
    /// Any of these hosts.
    pub hosts: Vec<HostMatch>,
    /// The path, without the query.
    pub path: PathMatch,
    /// Any of these methods, as they stand in the request line.
    pub methods: Vec<Arc<str>>,
    /// All of these fields.
    pub headers: Vec<HeaderMatch>,
    /// What becomes of the request.
    pub action: Action,
    /// What is changed in it, and in its response.
    pub rewrite: Rewrite,
    /// In place of the time-out for the first byte of a response; zero waits for ever.
    pub response_timeout: Option<Duration>,
    /// In place of the listener's limit for a request's content.
    pub request_body_max: Option<Option<NonZeroU64>>,
    /// Which of its requests it takes.
    pub admission: AdmissionPlan,
}

impl RoutePlan {
    /// A route that asks for this path only and changes nothing.
    pub fn new(path: PathMatch, action: Action) -> Self {
        RoutePlan {
            name: "route".into(),
            hosts: Vec::new(),
            path,
            methods: Vec::new(),
            headers: Vec::new(),
            action,
            rewrite: Rewrite::default(),
            response_timeout: None,
            request_body_max: None,
            admission: AdmissionPlan::default(),
        }
    }
}

/// A host without its port, compared without regard to case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostMatch {
    /// This one, in lower case.
    Exact(Arc<str>),
    /// `*.example.com`: every name that ends in this, which begins with a dot and is in lower case.
    Suffix(Arc<str>),
}

/// A path as it stands in the request's target, before the query.
#[derive(Debug, Clone)]
pub enum PathMatch {
    /// Every one.
    Any,
    /// This one.
    Exact(Arc<str>),
    /// This one and what lies below it: `/api` takes `/api` and `/api/x`, but not `/apis`. Without a slash at its end,
    /// unless it is `/`.
    Prefix(Arc<str>),
    /// Every one in which the expression is found.
    Regex(Regex),
}

/// A header field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderMatch {
    /// Its name in lower case.
    pub name: Arc<str>,
    /// Its whole value; `None` when it only has to be there.
    pub value: Option<Arc<[u8]>>,
}

/// What becomes of a request.
#[derive(Debug, Clone)]
pub enum Action {
    /// It goes to one of these clusters, each with its share; at least one.
    Forward(Vec<Share>),
    /// It is sent elsewhere.
    Redirect(Redirect),
    /// It is answered here.
    Respond(FixedAnswer),
}

/// A cluster's part of a route's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Index into the plan's clusters.
    pub cluster: usize,
    /// 0 takes no new work.
    pub weight: u16,
}

/// Another place to ask (RFC 9110 section 15.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// `http` or `https`; `None` keeps what the client has used.
    pub scheme: Option<Arc<str>>,
    /// Host with an optional port; `None` keeps the request's.
    pub host: Option<Arc<str>>,
    /// A whole path, or what takes the place of the matched prefix; `None` keeps the request's.
    pub path: Option<RedirectPath>,
}

/// The path of a redirect. The query stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedirectPath {
    /// This one.
    Whole(Arc<str>),
    /// The request's, with this in place of the matched prefix.
    Prefix(Arc<str>),
}

/// An answer that needs no backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedAnswer {
    /// 200 to 599.
    pub status: u16,
    /// Its media type.
    pub content_type: Arc<str>,
    /// Its content.
    pub body: Arc<[u8]>,
}

/// Changes on the way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// What takes the place of the matched path prefix, itself with a slash at its front and none at its end; empty
    /// strips it.
    pub prefix: Option<Arc<str>>,
    /// Changes of the request's fields.
    pub request: FieldEdits,
    /// Changes of the response's fields.
    pub response: FieldEdits,
}

/// Changes of header fields: first some are removed, then some are written. Names are valid and never framing fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldEdits {
    /// Removed, in lower case. What is set is removed first.
    pub remove: Vec<Arc<str>>,
    /// Set or added: name and value, ready to be written.
    pub write: Vec<(Arc<str>, Arc<str>)>,
}

impl FieldEdits {
    /// True when there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.write.is_empty()
    }
}
