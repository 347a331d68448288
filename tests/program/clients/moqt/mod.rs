//! `probe` and `publish` over MOQT on the command line, with a scripted server that has known faults and with our own echo server.

mod connection_errors;
mod own_server;
pub(crate) mod scripted_server;
mod texts;

use serde_json::Value;
use test_support::client::{ProgramOutput, run};

use crate::clients::{codes, probed as report};

/// Probes `url` with more options.
fn probe(url: &str, options: &str) -> ProgramOutput {
    run(&format!("probe --to {url} {options}"))
}

/// The connection failure in a report: its kind, close code and message.
fn failure(report: &Value) -> [&Value; 3] {
    ["kind", "close_code", "message"].map(|name| &report["moqt"]["connection_failure"][name])
}

/// Counters of the connection by name, in the requested order.
fn moqt<const N: usize>(report: &Value, names: [&str; N]) -> [u64; N] {
    names.map(|name| report["moqt"][name].as_u64().unwrap_or_else(|| panic!("{name}: {report:#}")))
}
