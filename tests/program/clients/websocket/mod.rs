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

/// Probes the server at `address` with more options.
fn probe(address: impl Display, options: &str) -> ProgramOutput {
    run(&format!("probe --to ws://{address} {options}"))
}

fn report(code: i32, address: impl Display, options: &str) -> Value {
    crate::clients::probed(code, &format!("ws://{address}"), options)
}

/// The connection failure in a report: its kind, close code and message.
fn failure(report: &Value) -> [&Value; 3] {
    ["kind", "close_code", "message"].map(|name| &report["websocket"]["connection_failure"][name])
}
