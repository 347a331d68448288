//! Reads the JSON output of the program and validates it against the documented schema.

use std::sync::LazyLock;

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::Value;

use super::program::ProgramOutput;

/// The schema that describes all JSON of the program accepts the document.
pub fn assert_valid(document: &Value) {
    static SCHEMA: LazyLock<(Schemas, SchemaIndex)> = LazyLock::new(|| {
        let (mut compiler, mut schemas) = (Compiler::new(), Schemas::new());
        let schema = include_str!("../../../../docs/report.schema.json");
        compiler.add_resource("schema", serde_json::from_str(schema).unwrap()).unwrap();
        let index = compiler.compile("schema", &mut schemas).unwrap();
        (schemas, index)
    });
    let (schemas, index) = &*SCHEMA;
    if let Err(error) = schemas.validate(document, *index) {
        panic!("{error:#}\n{document:#}");
    }
}

/// A document of the program, which must match the schema.
pub fn valid(text: &str) -> Value {
    let document = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_valid(&document);
    document
}

/// The document that `--json` prints on standard output.
pub fn report(output: &ProgramOutput) -> Value {
    let report = valid(&output.stdout);
    assert_eq!(report["type"], "report");
    report
}

/// The packets and the report that `--json-lines` prints on standard output.
pub fn lines(output: &ProgramOutput) -> (Vec<Value>, Value) {
    let lines: Vec<&str> = output.stdout.lines().collect();
    let [run, rest @ .., end, report] = &lines[..] else { panic!("{output:?}") };
    let has_type = |line: &str, name: &str| line.starts_with(&format!(r#"{{"type":"{name}","#));
    assert!(has_type(run, "run") && has_type(end, "end") && has_type(report, "report"), "{output:?}");
    let packets = rest.iter().filter(|line| !has_type(line, "progress")).map(|line| valid(line)).collect::<Vec<_>>();
    assert!(packets.iter().all(|line| line["type"] == "packet"));
    (packets, valid(report))
}

pub fn counts<const N: usize>(report: &Value, stream: &str, names: [&str; N]) -> [u64; N] {
    names.map(|name| report["streams"][stream][name].as_u64().unwrap_or_else(|| panic!("{stream} {name}: {report:#}")))
}
