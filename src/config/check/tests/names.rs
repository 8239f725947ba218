//! Names of routes, which logs and metrics know them by.

use super::{CLUSTER, LISTENER, one};
use crate::config::tests::checked;

/// A route with this line, for a path of its own.
fn route(line: &str, path: &str) -> String {
    format!("[[route]]\n{line}\npath = \"{path}\"\ncluster = \"web\"\n")
}

#[test]
fn two_routes_have_no_name_together() {
    let with = |second: &str| {
        format!("{LISTENER}{CLUSTER}{}{}", route("name = \"shop\"", "/a"), route(second, "/b"))
    };
    one(
        &with("name = \"shop\""),
        11,
        &["route.name: ", "another route `shop`", "a.toml:7", "choose another one"],
    );
    assert!(checked(&with("name = \"Shop\"")).warnings().is_empty(), "names have cases");
}

#[test]
fn a_route_without_a_name_takes_none_that_was_given() {
    // The first is written before the second has said its name.
    let text = format!("{LISTENER}{CLUSTER}{}{}", route("", "/a"), route("name = \"route-1\"", "/b"));
    let names: Vec<_> = checked(&text).draft.routes.iter().map(|route| route.name.to_string()).collect();
    assert_eq!(names, ["route-1-2", "route-1"]);
}
