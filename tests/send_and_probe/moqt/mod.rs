//! `probe` and `send --text` over MOQT as a person starts them: against a server that the tests write themselves, byte by byte, whose
//! faults are known, and against the program's own echo.

#![cfg(unix)]

use test_support::client;
mod endings;
mod fake;
mod own_server;
mod texts;
mod truth;
mod vanishing;

use client::program::{Ended, run_args};
use serde_json::Value;

/// Probes `url` with more options.
fn probe(url: &str, more: &[&str]) -> Ended {
    run_args(["probe", "--to", url].iter().chain(more))
}

/// The same, with the report as JSON, which has to fit the schema; nothing is said beside it.
fn report(code: i32, url: &str, more: &[&str]) -> Value {
    let ended = probe(url, &[&["--json"], more].concat());
    assert_eq!((ended.code, ended.stderr.as_str()), (code, ""), "{ended:?}");
    client::document::report(&ended)
}

/// The codes of a report's notes.
fn codes(report: &Value) -> Vec<&str> {
    report["warnings"].as_array().unwrap().iter().map(|caveat| caveat["code"].as_str().unwrap()).collect()
}

/// Counts of the connection by name, in the order asked.
fn moqt<const N: usize>(report: &Value, names: [&str; N]) -> [u64; N] {
    names.map(|name| report["moqt"][name].as_u64().unwrap_or_else(|| panic!("{name}: {report:#}")))
}
