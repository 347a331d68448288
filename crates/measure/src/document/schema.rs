//! The JSON schema of documents and the tables of definitions in the documentation, which follow from the columns.

use serde_json::{Map, Value, json};

use super::column::{Columns, Figures, Place, Shape};
use super::{Head, row_columns};

/// The schema of all documents: those with one of these bodies, of which the last one has others of the first as parts, and other objects with their
/// types.
pub fn schema(bodies: &[&'static Columns], others: &[(&str, &'static Columns)]) -> Value {
    let mut definitions = Map::new();
    for body in bodies {
        let mut properties = of_type("report");
        let mut required = vec!["type"];
        required.extend(add_properties(Head::COLUMNS, &mut properties, &mut definitions));
        required.extend(add_properties(body, &mut properties, &mut definitions));
        if body.name == bodies[bodies.len() - 1].name {
            let items = json!({"$ref": format!("#/$defs/{}", document_name(bodies[0]))});
            properties.insert(
                "targets".to_owned(),
                json!({"description": "The reports of the targets.", "type": "array", "items": items}),
            );
        }
        definitions.insert(document_name(body), object(&body.description(), &properties, &required));
    }
    for (name, other) in others {
        let mut properties = of_type(name);
        let mut required = vec!["type"];
        required.extend(add_properties(other, &mut properties, &mut definitions));
        definitions.insert(document_name(other), object(&other.description(), &properties, &required));
    }
    let all = bodies.iter().chain(others.iter().map(|(_, other)| other));
    let alternatives = all.map(|columns| json!({"$ref": format!("#/$defs/{}", document_name(columns))}));
    let alternatives: Vec<Value> = alternatives.collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Reports of jamjam-dev",
        "description": "Generated from the columns of the reports. docs/measuring.md defines the terms.",
        "oneOf": alternatives,
        "$defs": definitions,
    })
}

/// The name of the definition of a whole document, which may also be a part of another one.
fn document_name(body: &Columns) -> String {
    format!("{}Document", body.name)
}

fn of_type(name: &str) -> Map<String, Value> {
    Map::from_iter([("type".to_owned(), json!({"description": "The kind of the object.", "const": name}))])
}

fn object(description: &str, properties: &Map<String, Value>, required: &[&str]) -> Value {
    json!({
        "description": description, "type": "object", "required": required, "properties": properties,
        "additionalProperties": false,
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
            row_columns(column).map(|(inner, _)| add_properties(inner, properties, definitions));
            continue;
        }
        let mut schema = of_shape(&(column.shape)(), definitions);
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
        Shape::Value(schema) => schema.clone(),
        Shape::Row(columns) => {
            if !definitions.contains_key(columns.name) {
                // Before its properties, which may contain it.
                definitions.insert(columns.name.to_owned(), Value::Null);
                let mut properties = Map::new();
                let required = add_properties(columns, &mut properties, definitions);
                definitions.insert(columns.name.to_owned(), object(&columns.description(), &properties, &required));
            }
            json!({"$ref": format!("#/$defs/{}", columns.name)})
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
    for (inner, _) in columns.columns.iter().filter_map(row_columns) {
        add_rows(inner, all);
    }
}
