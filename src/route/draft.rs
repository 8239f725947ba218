//! Compiles routes into a table. Runs once per plan, outside the workers.

use std::{cmp::Reverse, sync::Arc};

use regex::bytes::Regex;

use super::{
    index::Index,
    path,
    table::{Conditions, EXACT, NOWHERE, Node, Pattern, Rule, SUFFIX, Scope, Span, Table},
};
use crate::config::plan::route::{HostMatch, PathMatch, RoutePlan};

/// A table in the making.
pub(super) struct Draft {
    hosts: Index,
    suffix_labels: usize,
    scopes: Vec<ScopeDraft>,
    segments: Index,
    nodes: Vec<NodeDraft>,
    expressions: Vec<Regex>,
}

#[derive(Default)]
struct ScopeDraft {
    root: u32,
    patterns: Vec<Pattern>,
    any: Vec<Rule>,
}

struct NodeDraft {
    parent: u32,
    exact: Vec<Rule>,
    prefix: Vec<Rule>,
}

impl NodeDraft {
    fn below(parent: u32) -> Self {
        NodeDraft { parent, exact: Vec::new(), prefix: Vec::new() }
    }
}

impl Default for Draft {
    fn default() -> Self {
        Draft {
            hosts: Index::default(),
            suffix_labels: 0,
            scopes: vec![ScopeDraft::default()],
            segments: Index::default(),
            nodes: vec![NodeDraft::below(NOWHERE)],
            expressions: Vec::new(),
        }
    }
}

impl Draft {
    /// Adds a route behind those that were written before it.
    pub(super) fn add(&mut self, index: usize, route: &RoutePlan) {
        let conditions = (!route.methods.is_empty() || !route.headers.is_empty())
            .then(|| Arc::new(Conditions { methods: route.methods.clone(), headers: route.headers.clone() }));
        let rule = Rule { route: index as u32, conditions };
        if let PathMatch::Regex(expression) = &route.path {
            self.expressions.push(expression.clone());
        }
        let mut scopes: Vec<u32> = route.hosts.iter().map(|host| self.scope(host)).collect();
        if scopes.is_empty() {
            scopes.push(0);
        }
        scopes.sort_unstable();
        scopes.dedup();
        for scope in scopes {
            self.add_below(scope, &route.path, rule.clone());
        }
    }

    fn add_below(&mut self, scope: u32, path: &PathMatch, rule: Rule) {
        let expression = (self.expressions.len() as u32).wrapping_sub(1);
        let Some(scope) = self.scopes.get_mut(scope as usize) else { return };
        let root = scope.root;
        match path {
            PathMatch::Any => scope.any.push(rule),
            PathMatch::Regex(_) => scope.patterns.push(Pattern { expression, rule }),
            PathMatch::Exact(path) => {
                if let Some(node) = self.node(root, path) {
                    node.exact.push(rule);
                }
            }
            PathMatch::Prefix(path) => {
                if let Some(node) = self.node(root, path.trim_end_matches('/')) {
                    node.prefix.push(rule);
                }
            }
        }
    }

    /// The scope of a host, a new one for a new host.
    fn scope(&mut self, host: &HostMatch) -> u32 {
        let (kind, name) = match host {
            HostMatch::Exact(host) => (EXACT, host),
            HostMatch::Suffix(suffix) => (SUFFIX, suffix),
        };
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if kind == SUFFIX {
            self.suffix_labels = self.suffix_labels.max(name.matches('.').count());
        }
        if let Some(scope) = self.hosts.find(kind, name.as_bytes()) {
            return scope;
        }
        let scope = self.scopes.len() as u32;
        self.hosts.insert(kind, name.as_bytes(), scope);
        self.scopes.push(ScopeDraft { root: self.nodes.len() as u32, ..ScopeDraft::default() });
        self.nodes.push(NodeDraft::below(NOWHERE));
        scope
    }

    /// The node of a written path, made if need be; `None` for what is no path.
    fn node(&mut self, root: u32, path: &str) -> Option<&mut NodeDraft> {
        let mut buffer = vec![0; path.len()];
        let path = path::canonical(path.as_bytes(), &mut buffer);
        let mut node = root;
        if !path.is_empty() {
            for segment in path.strip_prefix(b"/")?.split(|byte| *byte == b'/') {
                node = self.segments.find(node, segment).unwrap_or_else(|| {
                    let child = self.nodes.len() as u32;
                    self.segments.insert(node, segment, child);
                    self.nodes.push(NodeDraft::below(node));
                    child
                });
            }
        }
        self.nodes.get_mut(node as usize)
    }

    /// Brings the rules into their order, and everything into its final place.
    pub(super) fn finish(self) -> Table {
        let mut rules = Vec::new();
        let mut patterns = Vec::new();
        let mut nodes: Vec<Node> = Vec::with_capacity(self.nodes.len());
        for draft in self.nodes {
            // A parent is always older than its children.
            let above = nodes.get(draft.parent as usize);
            let shorter = above.map_or(NOWHERE, |node| {
                if node.prefix.start == node.prefix.end { node.shorter } else { draft.parent }
            });
            let (exact, prefix) = (place(draft.exact, &mut rules), place(draft.prefix, &mut rules));
            nodes.push(Node { exact, prefix, shorter });
        }
        let mut scopes = Vec::with_capacity(self.scopes.len());
        for mut draft in self.scopes {
            let start = patterns.len() as u32;
            patterns.append(&mut draft.patterns);
            let patterns = Span { start, end: patterns.len() as u32 };
            scopes.push(Scope { root: draft.root, patterns, any: place(draft.any, &mut rules) });
        }
        Table {
            hosts: self.hosts,
            suffix_labels: self.suffix_labels,
            scopes: scopes.into(),
            segments: self.segments,
            nodes: nodes.into(),
            expressions: self.expressions.into(),
            patterns: patterns.into(),
            rules: rules.into(),
        }
    }
}

/// Appends the rules of one place, the most specific one first; those that are equal stay as written.
fn place(mut rules: Vec<Rule>, all: &mut Vec<Rule>) -> Span {
    rules.sort_by_key(|rule| {
        let conditions = rule.conditions.as_deref();
        let methods = conditions.is_some_and(|conditions| !conditions.methods.is_empty());
        (!methods, Reverse(conditions.map_or(0, |conditions| conditions.headers.len())))
    });
    let start = all.len() as u32;
    all.append(&mut rules);
    Span { start, end: all.len() as u32 }
}
