//! Configuration files: `config::load`.
//!
//! No text panics; each mistake is one line with its place; what is taken can be dumped, and the dump means the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway::config::{
    Checked, Environment, load,
    mistake::Mistake,
    source::{Files, Overrides, Source},
};

fn read(text: &str) -> Result<Checked, Vec<Mistake>> {
    let files = Files::Text("a.toml".to_owned(), text.to_owned());
    let variable = |name: &str| (name == "A").then(|| "1".to_owned());
    let environment = Environment { variable: &variable, cores: vec![0, 1], sticky_key: [0; 32] };
    load(&Source::Files { files, overrides: Overrides::default() }, &environment)
}

fuzz_target!(|text: &str| {
    match read(text) {
        Ok(checked) => {
            let dump = checked.to_toml();
            let again = read(&dump).unwrap_or_else(|mistakes| panic!("{dump}\n{mistakes:#?}"));
            // The comment on a secret is in the first one only.
            let bare = |text: &str| {
                text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n")
            };
            assert_eq!(bare(&again.to_toml()), bare(&dump));
            assert_eq!(again.to_json(), checked.to_json());
        }
        Err(mistakes) => {
            assert!(!mistakes.is_empty());
            for mistake in mistakes {
                let shown = mistake.to_string();
                assert!(shown.starts_with("a.toml") && !shown.contains('\n'), "{shown}");
            }
        }
    }
});
