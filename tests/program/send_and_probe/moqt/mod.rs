//! Tests `probe` and `send --text` over MOQT on the command line. A scripted server sends handwritten messages and has known faults. Other
//! tests use the program's own echo server.

#![cfg(unix)]

use test_support::client;
mod connection_errors;
mod counts;
pub(crate) mod own_server;
pub(crate) mod scripted_server;
mod texts;
mod vanishing_server;

use client::program::{ProgramOutput, run_args};
use serde_json::Value;

/// Probes `url` with more options.
fn probe(url: &str, more: &[&str]) -> ProgramOutput {
    run_args(["probe", "--to", url].iter().chain(more))
}

/// Like [`probe`], with `--json`. Returns the report, which must match the schema, and checks that standard error is empty.
fn report(code: i32, url: &str, more: &[&str]) -> Value {
    let output = probe(url, &[&["--json"], more].concat());
    assert_eq!((output.code, output.stderr.as_str()), (code, ""), "{output:?}");
    client::document::report(&output)
}

/// The codes of a report's warnings.
fn codes(report: &Value) -> Vec<&str> {
    report["warnings"].as_array().unwrap().iter().map(|warning| warning["code"].as_str().unwrap()).collect()
}

/// Counters of the connection by name, in the requested order.
fn moqt<const N: usize>(report: &Value, names: [&str; N]) -> [u64; N] {
    names.map(|name| report["moqt"][name].as_u64().unwrap_or_else(|| panic!("{name}: {report:#}")))
}
