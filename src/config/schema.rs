//! The JSON schema of the configuration, for editors and other tools, made from the tables that read it.

use serde_json::json;

use super::{file::File, read::Read};

/// The schema, as it is published.
pub fn schema() -> String {
    let mut schema = File::schema();
    if let Some(object) = schema.as_object_mut() {
        object.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        object.insert("title".to_owned(), json!("Ringway"));
    }
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}
