//! The compiled table: finds the route of a request. The module's own text says which one that is.
//!
//! Immutable, shared by all workers. A look-up allocates nothing (but for the scratch space an expression takes once
//! per thread).

use std::sync::Arc;

use httparse::Header;
use regex::bytes::Regex;

use super::{
    draft::Draft,
    host::{self, HOST_BYTES_MAX},
    index::Index,
    path::{self, PATH_BYTES_MAX},
};
use crate::config::plan::{Plan, route::HeaderMatch};

/// The fields of a request's head.
pub trait Fields {
    /// All values of this field, whose name is in lower case.
    fn values(&self, name: &str) -> impl Iterator<Item = &[u8]>;
}

impl Fields for [Header<'_>] {
    fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }
}

/// What a route may ask of a request.
#[derive(Debug)]
pub struct Question<'a, F: ?Sized> {
    /// Its host, perhaps with a port; empty when it has none.
    pub host: &'a [u8],
    /// Its path, without the query; `*` has only the routes for any path.
    pub path: &'a [u8],
    /// Its method.
    pub method: &'a [u8],
    /// Its fields.
    pub fields: &'a F,
}

/// The routes of one listener.
#[derive(Debug)]
pub struct Table {
    /// Hosts below [`EXACT`], suffixes below [`SUFFIX`]; each leads to a scope.
    pub(super) hosts: Index,
    /// Most dots in a suffix.
    pub(super) suffix_labels: usize,
    /// What there is for a host; the first one is for every host.
    pub(super) scopes: Box<[Scope]>,
    /// The segments of exact paths and prefixes below their nodes; each leads to a node.
    pub(super) segments: Index,
    pub(super) nodes: Box<[Node]>,
    pub(super) expressions: Box<[Regex]>,
    /// Expressions of the scopes, each with its rule.
    pub(super) patterns: Box<[Pattern]>,
    pub(super) rules: Box<[Rule]>,
}

/// Room for nearly every path with an escape in it; less to clear than what the longest one takes.
const PATH_BYTES_USUAL: usize = 512;
const _: () = assert!(PATH_BYTES_USUAL < PATH_BYTES_MAX);

/// The parent of exact hosts in the index.
pub(super) const EXACT: u32 = 0;
/// The parent of wildcards.
pub(super) const SUFFIX: u32 = 1;
/// No node.
pub(super) const NOWHERE: u32 = u32::MAX;

/// A part of a list.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    fn of<T>(self, list: &[T]) -> &[T] {
        list.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// The routes for one host or suffix.
#[derive(Debug)]
pub(super) struct Scope {
    /// Where paths begin, in the nodes.
    pub(super) root: u32,
    /// In the patterns.
    pub(super) patterns: Span,
    /// Rules for any path.
    pub(super) any: Span,
}

/// A place in the tree of paths.
#[derive(Debug)]
pub(super) struct Node {
    /// Rules for exactly this path.
    pub(super) exact: Span,
    /// Rules for this path and what lies below it.
    pub(super) prefix: Span,
    /// The next node above that has rules for what lies below it.
    pub(super) shorter: u32,
}

/// An expression of a scope.
#[derive(Debug)]
pub(super) struct Pattern {
    pub(super) expression: u32,
    pub(super) rule: Rule,
}

/// A route, and what it asks besides host and path.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) route: u32,
    pub(super) conditions: Option<Arc<Conditions>>,
}

#[derive(Debug)]
pub(super) struct Conditions {
    /// One of these; none asks nothing.
    pub(super) methods: Vec<Arc<str>>,
    /// All of these.
    pub(super) headers: Vec<HeaderMatch>,
}

impl Rule {
    /// The route, if the rest of its conditions are met.
    fn taken<F: Fields + ?Sized>(&self, question: &Question<'_, F>) -> Option<usize> {
        let met = self.conditions.as_ref().is_none_or(|conditions| conditions.met(question));
        met.then_some(self.route as usize)
    }
}

impl Conditions {
    fn met<F: Fields + ?Sized>(&self, question: &Question<'_, F>) -> bool {
        let method_fits =
            self.methods.is_empty() || self.methods.iter().any(|method| method.as_bytes() == question.method);
        method_fits
            && self.headers.iter().all(|header| {
                let wanted = header.value.as_deref();
                question.fields.values(&header.name).any(|value| wanted.is_none_or(|wanted| value == wanted))
            })
    }
}

impl Table {
    /// The table of a listener. Routes that do not exist are left out.
    pub fn build(plan: &Plan, listener: usize) -> Table {
        let routes = plan.listeners.get(listener).map(|listener| listener.routes.as_slice());
        let routes =
            routes.unwrap_or_default().iter().filter_map(|index| Some((*index, plan.routes.get(*index)?)));
        let mut draft = Draft::default();
        routes.for_each(|(index, route)| draft.add(index, route));
        draft.finish()
    }

    /// True when no request has a route.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.patterns.is_empty()
    }

    /// The route of a request, as an index into the plan's.
    pub fn find<F: Fields + ?Sized>(&self, question: &Question<'_, F>) -> Option<usize> {
        match memchr::memchr(b'%', question.path) {
            _ if self.is_empty() => None,
            None => self.find_canonical(question, question.path),
            Some(_) if question.path.len() <= PATH_BYTES_USUAL => {
                self.find_escaped::<PATH_BYTES_USUAL, _>(question)
            }
            Some(_) => self.find_escaped::<PATH_BYTES_MAX, _>(question),
        }
    }

    /// Apart, because of the space it takes on the stack.
    #[inline(never)]
    fn find_escaped<const ROOM: usize, F: Fields + ?Sized>(
        &self,
        question: &Question<'_, F>,
    ) -> Option<usize> {
        let mut buffer = [0; ROOM];
        self.find_canonical(question, path::canonical(question.path, &mut buffer))
    }

    fn find_canonical<F: Fields + ?Sized>(&self, question: &Question<'_, F>, path: &[u8]) -> Option<usize> {
        let mut buffer = [0; HOST_BYTES_MAX];
        if !self.hosts.is_empty()
            && let Some(host) = host::canonical(question.host, &mut buffer)
        {
            let exact = self.hosts.find(EXACT, host);
            let suffixes = host::suffixes(host, self.suffix_labels);
            let mut scopes =
                exact.into_iter().chain(suffixes.filter_map(|suffix| self.hosts.find(SUFFIX, suffix)));
            let found = scopes.find_map(|scope| self.find_below(scope, question, path));
            if found.is_some() {
                return found;
            }
        }
        self.find_below(0, question, path)
    }

    /// Asks the routes of one host.
    fn find_below<F: Fields + ?Sized>(
        &self,
        scope: u32,
        question: &Question<'_, F>,
        path: &[u8],
    ) -> Option<usize> {
        let scope = self.scopes.get(scope as usize)?;
        let first = |rules: Span| rules.of(&self.rules).iter().find_map(|rule| rule.taken(question));
        if let Some(path) = path.strip_prefix(b"/") {
            let (mut deepest, whole) = self.walk(scope.root, path);
            let node = self.nodes.get(deepest as usize);
            if let Some(found) = node.filter(|_| whole).and_then(|node| first(node.exact)) {
                return Some(found);
            }
            while let Some(node) = self.nodes.get(deepest as usize) {
                if let Some(found) = first(node.prefix) {
                    return Some(found);
                }
                deepest = node.shorter;
            }
        }
        let found = |pattern: &Pattern| {
            let expression = self.expressions.get(pattern.expression as usize)?;
            expression.is_match(path).then(|| pattern.rule.taken(question)).flatten()
        };
        scope.patterns.of(&self.patterns).iter().find_map(found).or_else(|| first(scope.any))
    }

    /// Follows a path, without the slash at its front, as far as the tree goes; true when that is its end.
    fn walk(&self, root: u32, path: &[u8]) -> (u32, bool) {
        let (mut node, mut rest) = (root, path);
        loop {
            let end = memchr::memchr(b'/', rest).unwrap_or(rest.len());
            let (segment, behind) = rest.split_at(end);
            let Some(child) = self.segments.find(node, segment) else { return (node, false) };
            node = child;
            match behind.get(1..) {
                Some(behind) => rest = behind,
                None => return (node, true),
            }
        }
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
