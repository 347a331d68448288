//! `probe --to ws://…` on the command line, with scripted servers that have known faults and with our own signaling server.

mod connection_errors;
mod counts;
mod hostile_server;
mod own_server;
mod room_load;
pub(crate) mod scripted_server;

use std::fmt::Display;

use serde_json::Value;
use test_support::client::{ProgramOutput, run};

use crate::clients::codes;

/// Probes the server at `address` with more options.
fn probe(address: impl Display, options: &str) -> ProgramOutput {
    run(&format!("probe --to ws://{address} {options}"))
}

/// Like [`probe`], with `--json`. Returns the report, which must match the schema, and checks that standard error is empty.
fn report(code: i32, address: impl Display, options: &str) -> Value {
    let line = format!("probe --to ws://{address} --json {options}");
    let output = run(&line);
    // A host that did not run has measured too little, but has counted everything.
    let code = if code == 0 && output.code == 4 { 4 } else { code };
    assert_eq!((output.code, output.stderr.as_str()), (code, ""), "{output:?}");
    test_support::client::document::report(&output)
}

/// The connection failure in a report: its kind, close code and message.
fn failure(report: &Value) -> [&Value; 3] {
    ["kind", "close_code", "message"].map(|name| &report["websocket"]["connection_failure"][name])
}
