//! Documents against a published schema.

use std::collections::HashSet;

use boon::{Compiler, Schemas};
use serde_json::{Map, Value, json};

/// Calls `see` with every object in `value` and its path.
pub(crate) fn objects(value: &Value, at: &str, see: &mut dyn FnMut(&str, &Map<String, Value>)) {
    match value {
        Value::Object(map) => {
            see(at, map);
            map.iter().for_each(|(key, value)| objects(value, &format!("{at}/{key}"), see));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| objects(value, &format!("{at}/{index}"), see));
        }
        _ => {}
    }
}

/// The schema accepts each document, but no further field in any of its objects, and none of its fields is missing. Returns the number of
/// objects.
pub(crate) fn assert_schema(schema: &str, documents: &[(String, Value)]) -> usize {
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.add_resource("schema.json", serde_json::from_str(schema).unwrap()).unwrap();
    let index = compiler.compile("schema.json", &mut schemas).unwrap();
    let mut places = 0;
    for (name, document) in documents {
        if let Err(error) = schemas.validate(document, index) {
            panic!("{name}: {error:#}");
        }
        let (mut positions, mut fields, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
        objects(document, "", &mut |at, map| {
            positions.push(at.to_owned());
            // One of several equal objects in an array is sufficient, such as one second of a time series.
            let keys: Vec<String> = map.keys().cloned().collect();
            let names: Vec<&str> = at.split('/').filter(|name| name.parse::<usize>().is_err()).collect();
            if seen.insert((names.join("/"), keys.clone())) {
                fields.extend(keys.into_iter().map(|key| (at.to_owned(), key)));
            }
        });
        for at in positions {
            let mut extended = document.clone();
            extended.pointer_mut(&at).unwrap()["surprise"] = json!(1);
            assert!(schemas.validate(&extended, index).is_err(), "{name}: an unknown field in {at} was accepted");
            places += 1;
        }
        for (at, key) in fields {
            let mut cut = document.clone();
            cut.pointer_mut(&at).unwrap().as_object_mut().unwrap().remove(&key);
            assert!(schemas.validate(&cut, index).is_err(), "{name}: {at} without {key} was accepted");
        }
    }
    places
}
