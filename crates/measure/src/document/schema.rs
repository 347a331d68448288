//! The JSON schema of documents and the tables of definitions in the documentation, which follow from the columns.

use serde_json::{Map, Value, json};

use super::Head;
use super::column::{Columns, Figures, Place, Shape};

/// The schema of all documents: those with one of these bodies, of which the last one has others of the first as parts, and other objects with their
/// types.
pub fn schema(bodies: &[&'static Columns], others: &[(&str, &'static Columns)]) -> Value {
    let mut definitions = Map::new();
    let name = |columns: &Columns| format!("{}Document", columns.name);
    let reports = bodies.iter().map(|body| ("report", vec![Head::COLUMNS, *body]));
    let mut alternatives = Vec::new();
    for (kind, rows) in reports.chain(others.iter().map(|(kind, columns)| (*kind, vec![*columns]))) {
        let name = name(rows[rows.len() - 1]);
        alternatives.push(reference(&name));
        let schema = object(Some(kind), &rows, &mut definitions);
        definitions.insert(name, schema);
    }
    if let [first, .., last] = bodies {
        let targets = json!({
            "description": "The reports of the targets.", "type": "array", "items": reference(&name(first)),
        });
        definitions[&name(last)]["properties"]["targets"] = targets;
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Reports of jamjam-dev",
        "description": "Generated from the columns of the reports. docs/measuring.md defines the terms.",
        "oneOf": alternatives,
        "$defs": definitions,
    })
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/$defs/{name}")})
}

/// The schema of an object of this kind with the columns of several rows, of which the last one says what it is.
fn object(kind: Option<&str>, rows: &[&'static Columns], definitions: &mut Map<String, Value>) -> Value {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    if let Some(kind) = kind {
        properties.insert("type".to_owned(), json!({"description": "The kind of the object.", "const": kind}));
        required.push("type");
    }
    for row in rows {
        required.extend(add_properties(row, &mut properties, definitions));
    }
    json!({
        "description": rows[rows.len() - 1].description(), "type": "object", "required": required,
        "properties": properties, "additionalProperties": false,
    })
}

/// Adds the fields of a row. Returns those that are always there.
fn add_properties(
    columns: &'static Columns,
    properties: &mut Map<String, Value>,
    definitions: &mut Map<String, Value>,
) -> Vec<&'static str> {
    let mut required = Vec::new();
    for column in columns.columns.iter().filter(|column| column.place != Place::skip) {
        if column.place == Place::flat {
            column.shape.rows().map(|(inner, _)| add_properties(inner, properties, definitions));
            continue;
        }
        let mut schema = of_shape(&column.shape, definitions);
        if let Some(schema) = schema.as_object_mut() {
            schema.insert("description".to_owned(), column.description().into());
        }
        properties.insert(column.name.to_owned(), schema);
        required.push(column.name);
    }
    required
}

fn of_shape(shape: &Shape, definitions: &mut Map<String, Value>) -> Value {
    match shape {
        Shape::Value(schema) => schema(),
        Shape::Row(columns) => {
            if !definitions.contains_key(columns.name) {
                // Before its properties, which may contain it.
                definitions.insert(columns.name.to_owned(), Value::Null);
                let schema = object(None, &[columns], definitions);
                definitions.insert(columns.name.to_owned(), schema);
            }
            reference(columns.name)
        }
        Shape::List(inner) => json!({"type": "array", "items": of_shape(inner, definitions)}),
        Shape::Optional(inner) => match of_shape(inner, definitions) {
            Value::Object(mut schema) if schema.get("type").is_some_and(Value::is_string) => {
                let kind = schema["type"].take();
                schema["type"] = json!([kind, "null"]);
                Value::Object(schema)
            }
            schema => json!({"anyOf": [schema, {"type": "null"}]}),
        },
    }
}

/// A table of definitions in Markdown for the head, for each body and for each kind of row in them.
pub fn definitions(bodies: &[&'static Columns]) -> String {
    let mut all = vec![Head::COLUMNS];
    for body in bodies {
        add_rows(body, &mut all);
    }
    let table = |columns: &&Columns| {
        let fields = columns.columns.iter().filter(|column| !matches!(column.place, Place::skip | Place::flat));
        let rows =
            fields.map(|column| format!("| `{}` | {} |\n", column.name, column.description().replace('|', "\\|")));
        let rows = rows.collect::<Vec<_>>().concat();
        let rows = if rows.is_empty() { rows } else { format!("\n| field | meaning |\n|---|---|\n{rows}") };
        format!("\n### {}\n\n{}\n{rows}", columns.name, columns.description())
    };
    all.iter().map(table).collect::<Vec<_>>().concat()
}

/// Adds the columns of a row and those of all rows in it, each once.
fn add_rows(columns: &'static Columns, all: &mut Vec<&'static Columns>) {
    if all.iter().any(|other| other.name == columns.name) {
        return;
    }
    all.push(columns);
    for (inner, _) in columns.columns.iter().filter_map(|column| column.shape.rows()) {
        add_rows(inner, all);
    }
}
