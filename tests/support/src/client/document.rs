//! Reads the JSON output of the program and validates it against the documented schema.

use std::sync::LazyLock;

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::Value;

use super::program::ProgramOutput;

fn compile(schema: &str) -> (Schemas, SchemaIndex) {
    let (mut compiler, mut schemas) = (Compiler::new(), Schemas::new());
    compiler.add_resource("schema", serde_json::from_str(schema).unwrap()).unwrap();
    let index = compiler.compile("schema", &mut schemas).unwrap();
    (schemas, index)
}

fn assert_fits_compiled(document: &Value, (schemas, index): &(Schemas, SchemaIndex)) {
    if let Err(error) = schemas.validate(document, *index) {
        panic!("{error:#}\n{document:#}");
    }
}

pub fn assert_fits(document: &Value, schema: &str) {
    assert_fits_compiled(document, &compile(schema));
}

pub fn assert_valid(document: &Value) {
    static SCHEMA: LazyLock<(Schemas, SchemaIndex)> =
        LazyLock::new(|| compile(include_str!("../../../../docs/report.schema.json")));
    assert_fits_compiled(document, &SCHEMA);
}

/// The document that `--json` prints on standard output.
pub fn report(output: &ProgramOutput) -> Value {
    let report: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_valid(&report);
    assert_eq!(report["type"], "report");
    report
}

/// The documents that `--json-lines` prints on standard output: one per packet, and the report.
pub fn lines(output: &ProgramOutput) -> (Vec<Value>, Value) {
    let mut lines: Vec<Value> = output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.iter().for_each(assert_valid);
    let report = lines.pop().unwrap();
    assert_eq!(report["type"], "report");
    assert!(lines.iter().all(|line| line["type"] == "packet"));
    (lines, report)
}

pub fn counts<const N: usize>(report: &Value, stream: &str, names: [&str; N]) -> [u64; N] {
    names.map(|name| report["streams"][stream][name].as_u64().unwrap_or_else(|| panic!("{stream} {name}: {report:#}")))
}
