//! Tests `probe --to ws://…` on the command line. The servers are scripted servers with known faults, and the program's own signaling
//! server.

#![cfg(unix)]

use test_support::client;
mod connection_errors;
mod counts;
mod hostile_server;
mod own_server;
pub(crate) mod scripted_server;

use std::fmt::Display;

use client::program::{ProgramOutput, run_args};
use serde_json::Value;

/// Probes the server at `address` with more options.
fn probe(address: impl Display, more: &[&str]) -> ProgramOutput {
    let url = format!("ws://{address}");
    run_args(["probe", "--to", &url].iter().chain(more))
}

/// Like [`probe`], with `--json`. Returns the report, which must match the schema, and checks that standard error is empty.
fn report(code: i32, address: impl Display, more: &[&str]) -> Value {
    let output = probe(address, &[&["--json"], more].concat());
    assert_eq!((output.code, output.stderr.as_str()), (code, ""), "{output:?}");
    client::document::report(&output)
}

/// The codes of a report's warnings.
fn codes(report: &Value) -> Vec<&str> {
    report["warnings"].as_array().unwrap().iter().map(|warning| warning["code"].as_str().unwrap()).collect()
}
