//! Documents against a published schema, and the sections of the documentation that they name.

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

/// The documentation has this section, which is a page and the anchor of a heading.
pub(crate) fn assert_section_exists(section: &str) {
    let (page, fragment) = section.split_once('#').unwrap_or((section, ""));
    let page = std::fs::read_to_string(test_support::repository().join(page)).expect(page);
    let anchor = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        text.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-').collect::<String>()
    };
    let mut headings = page.lines().filter(|line| line.starts_with('#'));
    assert!(fragment.is_empty() || headings.any(|heading| anchor(heading) == fragment), "{section}");
}

/// The schema accepts each document, but no further field in any of its objects with fixed fields. Returns the number of these.
pub(crate) fn assert_schema(documents: &[(String, Value)]) -> usize {
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.add_resource("schema.json", jamjam_measure::report::schema()).unwrap();
    let index = compiler.compile("schema.json", &mut schemas).unwrap();
    let mut places = 0;
    for (name, document) in documents {
        if let Err(error) = schemas.validate(document, index) {
            panic!("{name}: {error:#}");
        }
        let mut positions = Vec::new();
        objects(document, "", &mut |at, _| positions.push(at.to_owned()));
        for at in positions.into_iter().filter(|at| !at.ends_with("/outcomes")) {
            let mut extended = document.clone();
            extended.pointer_mut(&at).unwrap()["surprise"] = json!("1");
            assert!(schemas.validate(&extended, index).is_err(), "{name}: an unknown field in {at} was accepted");
            places += 1;
        }
    }
    places
}
