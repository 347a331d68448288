//! `probe --to ws://…` as a person starts it: against servers that the tests write themselves, whose faults are known, and against
//! the program's own signaling server.

#![cfg(unix)]

use test_support::client;
mod endings;
mod fake;
mod hostile;
mod own_server;
mod truth;

use std::fmt::Display;

use client::program::{Ended, run_args};
use serde_json::Value;

/// Probes the server at `address` with more options.
fn probe(address: impl Display, more: &[&str]) -> Ended {
    let url = format!("ws://{address}");
    run_args(["probe", "--to", &url].iter().chain(more))
}

/// The same, with the report as JSON, which has to fit the schema; nothing is said beside it.
fn report(code: i32, address: impl Display, more: &[&str]) -> Value {
    let ended = probe(address, &[&["--json"], more].concat());
    assert_eq!((ended.code, ended.stderr.as_str()), (code, ""), "{ended:?}");
    client::document::report(&ended)
}

/// The codes of a report's notes.
fn codes(report: &Value) -> Vec<&str> {
    report["warnings"].as_array().unwrap().iter().map(|caveat| caveat["code"].as_str().unwrap()).collect()
}
