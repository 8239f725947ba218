//! The reference page, the published schema and the tables say the same.

use serde_json::Value as Json;

use super::{QUICK_START, checked, mistakes};
use crate::config::schema;

#[test]
fn the_published_schema_is_that_of_the_tables() {
    // Read now, so that a new one needs no new build.
    let published =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/ringway.schema.json"))
            .unwrap();
    assert!(published == schema(), "write it again: cargo run -- schema > examples/ringway.schema.json");
}

/// Every table with its name, and each key with its schema.
fn keys(prefix: &str, schema: &Json, found: &mut Vec<(String, Json)>) {
    if let Some(properties) = schema["properties"].as_object() {
        for (key, schema) in properties {
            let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            found.push((path.clone(), schema.clone()));
            keys(&path, schema, found);
        }
    }
    keys_of_items(prefix, schema, found);
}

fn keys_of_items(prefix: &str, schema: &Json, found: &mut Vec<(String, Json)>) {
    if schema["items"].is_object() {
        keys(prefix, &schema["items"], found);
    }
    for form in schema["anyOf"].as_array().into_iter().flatten() {
        keys(prefix, form, found);
    }
}

fn schema_keys() -> Vec<(String, Json)> {
    let mut found = Vec::new();
    keys("", &serde_json::from_str(&schema()).unwrap(), &mut found);
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found.dedup_by(|a, b| a.0 == b.0);
    found
}

/// The reference page has a section for each table, `## [[listener]]`, and in it a row for each key, beginning with its
/// name in backticks and ending with its default.
#[test]
fn the_reference_page_has_every_key_and_no_other() {
    let page = include_str!("../../../CONFIGURATION.md");
    let mut documented = Vec::new();
    let mut table = String::new();
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            let name: String = heading.chars().filter(|c| !"[]`".contains(*c)).collect();
            table = name.split_whitespace().next().unwrap_or_default().to_owned();
            continue;
        }
        if let Some((key, rest)) = line.strip_prefix("| `").and_then(|row| row.split_once('`')) {
            let default = rest.trim_end_matches(" |").rsplit("| ").next().unwrap().trim().to_owned();
            documented.push((format!("{table}.{key}"), default));
        }
    }
    documented.sort();
    let is_leaf = |path: &str, all: &[(String, Json)]| {
        path.contains('.')
            && !all
                .iter()
                .any(|(other, _)| other.starts_with(&format!("{path}.")) && path.matches('.').count() == 0)
    };
    let all = schema_keys();
    let expected: Vec<_> = all.iter().filter(|(path, _)| is_leaf(path, &all)).collect();
    let names = |list: &[(String, String)]| list.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&documented), expected.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
    for ((name, default), (_, schema)) in documented.iter().zip(expected) {
        let right = match &schema["default"] {
            Json::Null => continue,
            Json::String(text) => format!("`{:?}`", text),
            other => format!("`{other}`"),
        };
        assert_eq!(*default, right, "{name}");
    }
}

/// A text that says every default of the schema.
#[test]
fn the_defaults_in_the_schema_are_the_real_ones() {
    let written = |table: &str| {
        let lines = schema_keys().into_iter().filter_map(|(path, schema)| {
            let key = path.strip_prefix(&format!("{table}."))?.to_owned();
            let default = schema.get("default")?.clone();
            // These need a companion.
            let alone = !key.contains('.')
                && !["hash_key", "rate_key", "socket_mode", "down_text"].contains(&key.as_str());
            alone.then(|| format!("{key} = {default}\n"))
        });
        lines.collect::<String>()
    };
    let explicit = format!(
        "[[listener]]\nbind = \":80\"\n{}[[cluster]]\n{}\n[[cluster.backend]]\naddress = \"10.0.0.1:8080\"\n{}\
         [[cluster.backend]]\naddress = \"10.0.0.2:8080\"\n[defaults]\n{}[runtime]\n{}[log]\n{}",
        written("listener"),
        written("cluster"),
        written("cluster.backend"),
        written("defaults"),
        written("runtime"),
        written("log"),
    );
    assert!(
        explicit.contains("connect_timeout") && explicit.contains("balance") && explicit.contains("weight")
    );
    assert_eq!(checked(&explicit).to_toml(), checked(QUICK_START).to_toml());
    let tcp = |line: &str| {
        checked(&QUICK_START.replace("[[cluster]]", &format!("mode = \"tcp\"\n{line}\n[[cluster]]")))
            .to_toml()
    };
    assert_eq!(tcp(""), tcp("down_text = \"Server is down\\n\""));
    let limited = |line: &str| {
        checked(&QUICK_START.replace("\":80\"", &format!("\":80\"\nrate_limit = \"1/s\"\n{line}"))).to_toml()
    };
    assert_eq!(limited(""), limited("rate_key = \"client-address\"\nrate_burst = 1"));
    let unix =
        |line: &str| checked(&QUICK_START.replace("\":80\"", &format!("\"unix:/a\"\n{line}"))).to_toml();
    assert_eq!(unix(""), unix("socket_mode = \"666\""));
    let sticky = |more: &str| checked(&format!("{QUICK_START}sticky = {{ cookie = \"s\"{more} }}")).to_toml();
    let defaults = r#", path = "/", secure = false, http_only = true, same_site = "lax""#;
    assert_eq!(sticky(""), sticky(defaults));
    let health = |lines: &str| checked(&format!("{QUICK_START}[cluster.health]\n{lines}")).to_toml();
    assert_eq!(health("path = \"/\""), health(&written("cluster.health")));
    let route = |action: &str| checked(&format!("{QUICK_START}[[route]]\n{action}\n")).to_toml();
    assert_eq!(
        route("respond = {}"),
        route(r#"respond = { status = 200, body = "", content_type = "text/plain; charset=utf-8" }"#)
    );
    assert_eq!(route(r#"redirect = { path = "/" }"#), route(r#"redirect = { path = "/", status = 302 }"#));
}

/// A text with this line in this table, and nothing else that could be wrong.
fn with_line(table: &str, line: &str) -> String {
    let route = |lines: &str| format!("{QUICK_START}[[route]]\n{lines}\n");
    match table {
        "listener" => {
            QUICK_START.replace("[[cluster]]", &format!("rate_limit = \"1/s\"\n{line}\n[[cluster]]"))
        }
        "cluster" => format!("{QUICK_START}{line}\n"),
        "cluster.backend" => {
            let backends = format!(
                "[[cluster.backend]]\naddress = \"b:1\"\n{line}\n[[cluster.backend]]\naddress = \"c:1\"\n"
            );
            let without: Vec<_> = QUICK_START.lines().filter(|line| !line.starts_with("backend")).collect();
            format!("{}\n{backends}", without.join("\n"))
        }
        "route" => route(&format!("respond = {{}}\nrate_limit = \"1/s\"\n{line}")),
        "route.redirect" => route(&format!("redirect = {{ path = \"/\", {line} }}")),
        "route.respond" => route(&format!("respond = {{ {line} }}")),
        "route.split" => route(&format!("split = [{{ cluster = \"default\", {line} }}]")),
        _ => format!("{QUICK_START}[{table}]\n{line}\n"),
    }
}

/// What a number may be, if the key is one.
fn numeric(schema: &Json) -> Option<&Json> {
    let form = schema["anyOf"].get(0).unwrap_or(schema);
    matches!(form["type"].as_str(), Some("integer" | "number")).then_some(form)
}

#[test]
fn the_schema_and_the_checks_agree_about_every_number() {
    let mut seen = 0;
    for (path, schema) in schema_keys() {
        let (Some(form), Some((table, key))) = (numeric(&schema), path.rsplit_once('.')) else { continue };
        seen += 1;
        let told = |value: &str| mistakes(&with_line(table, &format!("{key} = {value}"))).join("\n");
        if let Some(words) = form["enum"].as_array() {
            assert!(words.iter().all(|word| told(&word.to_string()).is_empty()), "{path}");
            assert!(told("300").contains("300") && told("304").contains("304"), "{path}");
            continue;
        }
        let (low, high) = (&form["minimum"], &form["maximum"]);
        let range = format!("from {} to {}", low.as_f64().unwrap(), high.as_f64().unwrap());
        for right in [low, high] {
            let told = told(&right.to_string());
            assert!(!told.contains("from "), "{path} = {right}: {told}");
        }
        let step = if form["type"] == "integer" { 1.0 } else { 0.01 };
        for wrong in [low.as_f64().unwrap() - step, high.as_f64().unwrap() + step] {
            let value = if step < 1.0 { format!("{wrong:?}") } else { format!("{wrong}") };
            let told = told(&value);
            assert!(told.lines().count() == 1 && told.contains(&range), "{path} = {value}: {told}");
        }
    }
    assert!(seen >= 25, "{seen}");
}
