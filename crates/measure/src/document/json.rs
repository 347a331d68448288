//! A document as JSON: the fields of the head, then those of the body. `docs/report.schema.json` describes each field.

use serde_json::{Map, Value, json};

use super::Document;
use super::column::{Figures, to_object};

/// An object of another type than a report, as text.
pub fn list(name: &str, body: &impl Figures) -> String {
    let mut all = Map::from_iter([("type".to_owned(), json!(name))]);
    all.extend(to_object(body));
    format!("{:#}", Value::Object(all))
}

impl Document {
    /// The whole document. The documents of several targets are in `targets`.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut all = Map::from_iter([("type".to_owned(), json!("report"))]);
        all.extend(to_object(&self.head));
        all.extend(self.body.clone());
        if !self.parts.is_empty() {
            all.insert("targets".to_owned(), self.parts.iter().map(|part| Value::Object(part.to_json())).collect());
        }
        all
    }
}
