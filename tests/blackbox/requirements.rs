//! The table of what the RFCs require must name tests that exist.

use std::fs;
use std::path::Path;

const TABLE: &str = include_str!("../rfc-requirements.md");

/// The names between backticks that look like `module::function`.
fn named_tests(line: &str) -> Vec<(&str, &str)> {
    line.split('`').skip(1).step_by(2).filter_map(|name| name.split_once("::")).collect()
}

#[test]
fn every_named_test_exists() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/blackbox");
    let mut count = 0;
    let prose = |line: &&str| !line.starts_with("| ") && !line.starts_with("* ");
    for (module, function) in TABLE.lines().filter(|line| !prose(line)).flat_map(named_tests) {
        let path = directory.join(format!("{module}.rs"));
        let source =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{module}::{function}: {error}"));
        let test = format!("#[test]\nfn {function}()");
        assert!(source.contains(&test), "the table names {module}::{function}, which is no test");
        count += 1;
    }
    assert!(count > 100, "only {count} names were found in the table");
}

#[test]
fn every_row_names_a_test() {
    for row in TABLE.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| section")) {
        assert_eq!(row.matches(" | ").count(), 2, "not three columns: {row}");
        assert!(!named_tests(row).is_empty(), "no test: {row}");
    }
}
